"""Every combiner in a real model, as a user would train it."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import combiners
from keras_mimo.combiners.wrapper import CombinerWrapper

NAMES = ["fused", "left", "right", "other"]
CLASSES = [
    cls
    for cls in (getattr(combiners, name) for name in combiners.__all__)
    if inspect.isclass(cls)
    and cls.call is not combiners.BalancedGradientCombiner.call
]
# The second half of the batches has none for this objective.
RAGGED = "left"
OPTIONS = dict(batch_size=8, shuffle=False, verbose=0)


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Ragged(keras_mimo.Outputs):
    """An objective without labels in a batch is absent from it."""

    def __call__(self, y, y_pred, sample_weight=None):
        labelled = {n: ops.any(ops.isfinite(y[n])) for n in y_pred}
        y = {n: ops.where(ops.isfinite(y[n]), y[n], 0.0) for n in y_pred}
        losses, _ = super().__call__(y, y_pred, sample_weight)
        return losses, ops.stack([labelled[name] for name in self.names or y])


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Several(combiners.BalancedGradientCombiner):
    """The mean of what several combiners say, compiled in one step."""

    needs = "gramian"

    def __init__(self, combiners, **kwargs):
        super().__init__(**kwargs)
        self.combiners = list(combiners)

    def build(self, objective_names):
        super().build(objective_names)
        for combiner in self.combiners:
            if not combiner.built:
                combiner.build(objective_names)
        self.last = self.add_weight(
            name="last",
            shape=(len(self.combiners), len(objective_names)),
            initializer="zeros",
            trainable=False,
        )

    def call(self, losses, gramian=None, active=None, training=True):
        weights = [
            combiner(losses, gramian, active, training)
            for combiner in self.combiners
        ]
        self.last.assign(ops.stack(weights))
        return sum(weights) / len(weights)

    def get_config(self):
        serialized = map(keras.saving.serialize_keras_object, self.combiners)
        return {**super().get_config(), "combiners": list(serialized)}

    @classmethod
    def from_config(cls, config):
        made = map(
            keras.saving.deserialize_keras_object, config.pop("combiners")
        )
        return cls(made, **config)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4)).astype("float32")
    y = {
        name: np.tanh(x @ rng.normal(size=(4, 1))).astype("float32")
        for name in NAMES
    }
    y[RAGGED][24:] = np.nan
    return x, y


def build(cls):
    if cls is combiners.ConstantCombiner:
        return cls([1.0, 0.5, 2.0, 1.0])
    if cls is combiners.KrumCombiner:
        # By default it leaves three of four objectives alone.
        return cls(selected=3)
    if cls is combiners.MoCo:
        # Averages of more and more steps lag behind Adam's in so few.
        return cls(combiners.MGDACombiner(), decay=0)
    if issubclass(cls, CombinerWrapper):
        return cls(combiners.MGDACombiner())
    if "seed" in inspect.signature(cls).parameters:
        return cls(seed=0)
    return cls()


def compiled(combiner, **arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="tanh")(inputs)
    outputs = {n: layers.Dense(1, dtype="float32", name=n)(x) for n in NAMES}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(0.02),
        "mse",
        objectives=Ragged(),
        combiner=combiner,
        **arguments,
    )
    return model


def numpy(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def assert_trained(history):
    assert np.all(np.isfinite(history["loss"]))
    total = sum(np.array(history[f"{name}_loss"]) for name in NAMES)
    assert total[-1] < 0.5 * total[0]


@pytest.mark.slow
@pytest.mark.parametrize("cls", CLASSES)
def test_trains_and_goes_on_after_loading(cls, tmp_path):
    check_training_and_loading(build(cls), tmp_path)


@pytest.mark.slow
def test_several_train_and_go_on_after_loading(tmp_path):
    """All of one model that only weigh, and learn nothing from the loss."""
    several = [
        combiner
        for combiner in map(build, CLASSES)
        if combiner.needs != "gradients" and not combiner.looks_again
        if "trainable" not in combiner.traits
    ]
    assert len(several) > 20
    model = check_training_and_loading(Several(several), tmp_path)
    last = ops.convert_to_numpy(model.combiner.last)
    absent = np.array(NAMES) == RAGGED
    for combiner, weights in zip(several, last, strict=True):
        assert np.all(weights[absent] == 0), combiner
        assert np.any(weights[~absent] != 0), combiner


def check_training_and_loading(combiner, tmp_path):
    """In half precision, and with an objective that is often absent."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(combiner)
        x, y = data()
        history = model.fit(x, y, epochs=8, **OPTIONS).history
        assert_trained(history)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    for each in (model, loaded):
        each.fit(x, y, epochs=1, **OPTIONS)
    # Loss scaling skipped few of the 54 steps.
    assert int(model.optimizer.inner_optimizer.iterations) > 45
    assert len(model.variables) == len(loaded.variables)
    for a, b in zip(
        numpy(model.variables), numpy(loaded.variables), strict=True
    ):
        assert np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, atol=1e-6)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "cls",
    [
        combiners.EveryN,
        combiners.FAMOCombiner,
        combiners.GradDropCombiner,
        combiners.UPGradCombiner,
    ],
)
def test_compiled_by_xla(cls):
    """One of each kind; PyTorch's compiler takes a minute for one of them."""
    model = compiled(build(cls), jit_compile=keras.backend.backend() != "torch")
    assert_trained(model.fit(*data(), epochs=8, **OPTIONS).history)
