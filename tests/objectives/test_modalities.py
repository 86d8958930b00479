import itertools

import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.objectives import Modalities
from tests.quick import quick

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def data(samples=24):
    rng = np.random.default_rng(0)
    x = {
        "a": rng.normal(size=(samples, 4)).astype("float32"),
        "b": rng.normal(size=(samples, 3)).astype("float32"),
    }
    return x, rng.integers(0, 3, samples).astype("int32")


def functional(names=("fused", "a", "b")):
    inputs = {
        "a": keras.Input((4,), name="a"),
        "b": keras.Input((3,), name="b"),
    }
    a = layers.Dense(3)(inputs["a"])
    outputs = {names[1]: a}
    if len(names) > 2:
        b = layers.Dense(3)(inputs["b"])
        outputs[names[2]] = b
        a = layers.Add()([a, b])
    outputs = {names[0]: a, **outputs}
    return keras_mimo.BalancedModel(inputs, outputs)


class Subclassed(keras_mimo.BalancedModel):
    def __init__(self):
        super().__init__()
        self.a = layers.Dense(3)
        self.b = layers.Dense(3)

    def call(self, x):
        a, b = self.a(x["a"]), self.b(x["b"])
        return {"fused": a + b, "a": a, "b": b}


def train(model, combiner=None, y=None, loss=LOSS, **options):
    x, labels = data()
    model.compile(
        keras.optimizers.SGD(0.1),
        loss,
        objectives=options.pop("objectives", Modalities()),
        combiner=combiner,
        **options,
    )
    y = labels if y is None else y
    return model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y)).history


@pytest.mark.parametrize(
    "build, needs",
    quick(
        [(functional, "losses"), (Subclassed, "gramian")],
        itertools.product([functional, Subclassed], ["losses", "gramian"]),
    ),
)
def test_one_label_array_serves_every_output(build, needs):
    combiner = keras_mimo.MIMOCombiner()
    if needs == "gramian":
        combiner = keras_mimo.MGDACombiner()
    metric = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
    history = train(
        build(),
        combiner,
        metrics=["accuracy", metric],
        weighted_metrics=["accuracy"],
    )
    for name in ("fused", "a", "b"):
        for kind in ("loss", "accuracy", "top2", "weighted_accuracy"):
            assert f"val_{name}_{kind}" in history
        assert f"{name}_weight" in history


def test_metric_instances_are_not_shared_between_outputs():
    x, y = data()
    model = functional()
    metric = keras.metrics.SparseCategoricalAccuracy(name="right")
    train(model, keras_mimo.MIMOCombiner(), metrics=[metric])
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    predictions = model.predict(x, verbose=0)
    for name, value in predictions.items():
        expected = np.mean(value.argmax(axis=1) == y)
        assert logs[f"{name}_right"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_dict_of_labels_and_losses_works_as_in_keras():
    _, labels = data()
    names = ("fused", "a", "b")
    history = train(
        functional(),
        keras_mimo.MIMOCombiner(),
        y={name: labels for name in names},
        loss={name: LOSS for name in names},
        metrics={"a": ["accuracy"]},
    )
    reference = train(functional(), keras_mimo.MIMOCombiner())
    assert "a_accuracy" in history and "b_accuracy" not in history
    assert set(history) - set(reference) == {"a_accuracy", "val_a_accuracy"}


def test_sample_weight_and_class_weight_reach_every_objective():
    x, y = data()
    logs = []
    for options in (
        {"sample_weight": (y == 1).astype("float32")},
        {"class_weight": {0: 0.0, 1: 1.0, 2: 0.0}},
    ):
        keras.utils.set_random_seed(0)
        model = functional()
        outputs = model.predict(x, verbose=0)
        model.compile("sgd", LOSS, objectives=Modalities())
        logs.append(model.train_on_batch(x, y, return_dict=True, **options))
    for name, logits in outputs.items():
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected = np.mean(-log_p[:, 1] * (y == 1))
        for log in logs:
            assert log[f"{name}_loss"] == pytest.approx(expected, rel=1e-5)


def test_without_a_combiner_the_fused_loss_alone_is_descended():
    x, y = data()
    model = functional()
    plain = keras.Model(model.input, model.output["fused"])
    weights = plain.get_weights()
    plain.compile(keras.optimizers.SGD(0.1), LOSS)
    plain.fit(x, y, epochs=2, verbose=0, shuffle=False)
    expected = plain.get_weights()
    plain.set_weights(weights)
    model.compile(keras.optimizers.SGD(0.1), LOSS, objectives=Modalities())
    logs = model.fit(x, y, epochs=2, verbose=0, shuffle=False).history
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(logs["loss"], logs["fused_loss"], rtol=1e-6)


def test_the_fused_output_must_exist():
    model = functional()
    with pytest.raises(ValueError, match=r"\['fused', 'a', 'b'\].*'x'"):
        model.compile("sgd", LOSS, objectives=Modalities(fused="x"))
    model = Subclassed()
    with pytest.raises(ValueError, match=r"\['a', 'b', 'fused'\].*'x'"):
        train(model, objectives=Modalities(fused="x"))


def test_a_lone_output_has_no_modality():
    inputs = keras.Input((4,), name="a")
    outputs = {"fused": layers.Dense(3, name="fused")(inputs)}
    model = keras_mimo.BalancedModel(inputs, outputs)
    with pytest.raises(ValueError, match="at least one output of a modality"):
        model.compile("sgd", LOSS, objectives=Modalities())


def test_config_round_trip():
    objective = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Modalities(fused="both"))
    )
    assert type(objective) is Modalities
    assert objective.fused == "both"
