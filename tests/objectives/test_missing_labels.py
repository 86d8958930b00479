import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo

NAN = float("nan")
LOSSES = {
    "depth": "mse",
    "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}
MISSING = {"depth": NAN, "kind": -1}


def compiled(
    cls=keras_mimo.BalancedModel,
    names=tuple(LOSSES),
    missing=MISSING,
    **options,
):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="tanh", name="shared")(inputs)
    units = {"depth": 1, "kind": 3}
    outputs = {n: layers.Dense(units[n], name=n)(x) for n in names}
    if cls is not keras.Model:
        options.setdefault("objectives", keras_mimo.Outputs(missing))
    model = cls(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.1), {n: LOSSES[n] for n in names}, **options
    )
    return model


def data(column=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4)).astype("float32")
    y = {
        "depth": rng.normal(size=(12, 1)).astype("float32"),
        "kind": rng.integers(3, size=12),
    }
    if column:
        y["kind"] = y["kind"][:, None]
    return x, y


def shared(model):
    return np.array(ops.convert_to_numpy(model.get_layer("shared").kernel))


def step(model, *batch, **options):
    before = shared(model)
    logs = model.train_on_batch(*batch, return_dict=True, **options)
    return shared(model) - before, logs


@pytest.mark.parametrize("column", [False, True])
def test_losses_steps_and_metrics_are_those_of_the_labelled_samples(column):
    x, y = data(column)
    ragged = {name: labels.copy() for name, labels in y.items()}
    ragged["depth"][:5] = NAN
    ragged["kind"][8:] = -1
    metrics = {"depth": ["mae"], "kind": ["accuracy"]}
    model = compiled(combiner=keras_mimo.SumCombiner(), metrics=metrics)
    got, logs = step(model, x, ragged)

    expected = 0.0
    for name, rows in (("depth", slice(5, None)), ("kind", slice(8))):
        alone = compiled(keras.Model, (name,), metrics={name: metrics[name]})
        # The same weights, whatever was drawn for the other head.
        for layer in alone.layers[1:]:
            source = compiled().get_layer(layer.name)
            layer.set_weights(source.get_weights())
        change, own = step(alone, x[rows], {name: y[name][rows]})
        expected = expected + change
        np.testing.assert_allclose(logs[f"{name}_loss"], own["loss"], rtol=1e-5)
        (metric,) = (k for k in own if k.endswith(metrics[name][0]))
        np.testing.assert_allclose(
            logs[f"{name}_{metrics[name][0]}"], own[metric], rtol=1e-5
        )
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("how", ["label", "weight", "ignored"])
def test_an_objective_without_a_sample_takes_no_part(how):
    x, y = data()
    options, weights, missing = {}, None, None
    if how == "label":
        missing = MISSING
        y["kind"][:] = -1
    elif how == "ignored":
        y["kind"][:] = -1
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        )
    else:
        weights = {"depth": np.ones(12), "kind": np.zeros(12)}
        options = {"sample_weight": weights}
    model = compiled(missing=missing, combiner="mgda")
    if how == "ignored":
        model.compile(
            keras.optimizers.SGD(0.1),
            {"depth": "mse", "kind": loss},
            combiner="mgda",
        )
    got, _ = step(model, x, y, **options)
    plain = compiled(keras.Model, loss_weights={"depth": 1.0, "kind": 0.0})
    y["kind"][:] = 0
    expected, _ = step(plain, x, y)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.slow
def test_labels_of_modalities_and_of_lists_of_outputs():
    x, y = data()
    labels = y["kind"].copy()
    labels[4:] = -1
    keras.utils.set_random_seed(0)

    def model(cls=keras_mimo.BalancedModel):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        h = layers.Dense(8, activation="tanh", name="shared")(inputs)
        return cls(inputs, [layers.Dense(3)(h), layers.Dense(3)(h)])

    ours = model()
    ours.compile(
        keras.optimizers.SGD(0.1),
        [LOSSES["kind"]] * 2,
        objectives=keras_mimo.Outputs(missing_label=-1),
        combiner="sum",
    )
    plain = model(keras.Model)
    plain.compile(keras.optimizers.SGD(0.1), [LOSSES["kind"]] * 2)
    got, _ = step(ours, x, [labels, labels])
    rows = y["kind"][:4]
    expected, _ = step(plain, x[:4], [rows, rows])
    np.testing.assert_allclose(got, expected, atol=1e-6)

    fusion = keras_mimo.late_fusion(
        {"a": encoder(), "b": encoder()}, num_classes=3
    )
    fusion.compile(
        "sgd",
        LOSSES["kind"],
        metrics=["accuracy"],
        objectives=keras_mimo.Modalities(missing_label=-1),
        combiner="mimo",
    )
    inputs = {"a": x, "b": x}
    fusion.fit(inputs, labels, batch_size=12, shuffle=False, verbose=0)
    logs = fusion.evaluate(inputs, labels, verbose=0, return_dict=True)
    predicted = fusion.predict(inputs, verbose=0)["fused"].argmax(-1)
    accuracy = np.mean(predicted[:4] == rows)
    np.testing.assert_allclose(logs["fused_accuracy"], accuracy, rtol=1e-6)


def encoder():
    return keras.Sequential([keras.Input((4,)), layers.Dense(5)])


@pytest.mark.parametrize(
    ("missing", "error"),
    [("nan", TypeError), ({"depth": "nan"}, TypeError), (True, TypeError)],
)
def test_what_is_no_number(missing, error):
    with pytest.raises(error, match="`missing_label` must be a number"):
        keras_mimo.Outputs(missing_label=missing)


def test_an_output_that_the_model_does_not_have():
    model = compiled(missing={"height": NAN}, combiner="sum")
    with pytest.raises(ValueError, match=r"Received: \['height'\]"):
        model.train_on_batch(*data())


def test_is_saved(tmp_path):
    model = compiled(combiner="sum")
    x, y = data()
    y["depth"][3:] = NAN
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.objectives.missing_label["kind"] == -1
    changes = [step(each, x, y)[0] for each in (model, loaded)]
    assert np.abs(changes[0]).max() > 1e-4
    np.testing.assert_allclose(*changes, atol=1e-6)
