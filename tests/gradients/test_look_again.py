"""The second look at a batch, for combiners with `looks_again`."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo


def array(x):
    return ops.convert_to_numpy(x).copy()


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 4)).astype("float32")
    return x, {"a": 2 * x[:, :1], "b": x[:, 1:2] ** 2 - 3}


def model(combiner, rate=0.05, **options):
    """One with all that moves with every forward pass."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = layers.Dense(6, activation="tanh")(inputs)
    shared = layers.BatchNormalization(momentum=0.5)(shared)
    shared = layers.Dropout(0.3, seed=7)(shared)
    # PyTorch draws for these from a state of its own.
    shared = layers.Dropout(0.3)(shared)
    shared = layers.GaussianNoise(0.5)(shared)
    outputs = {name: layers.Dense(1)(shared) for name in ("a", "b")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    optimizer = keras.optimizers.SGD(rate)
    model.compile(optimizer, "mse", combiner=combiner, **options)
    return model


# Op by op, JAX needs as long for one step as for all other tests.
in_every_way = pytest.mark.parametrize(
    "run_eagerly",
    [False] if keras.backend.backend() == "jax" else [False, True],
)


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Same(keras_mimo.BalancedGradientCombiner):
    """Constant weights, with a look at the losses before and after."""

    def __init__(self, weights, looks_again, **kwargs):
        super().__init__(**kwargs)
        self.constant = weights
        self.looks_again = looks_again

    def build(self, objective_names):
        super().build(objective_names)
        self.before, self.after = (
            self.add_weight(
                name=name, shape=(2,), initializer="zeros", trainable=False
            )
            for name in ("before", "after")
        )

    def call(self, losses, gramian=None, active=None, training=True):
        self.before.assign(losses)
        return ops.convert_to_tensor(self.constant, dtype=losses.dtype)

    def compare(self, losses, active):
        self.after.assign(losses)


def seeds(model):
    return [v for v in model.non_trainable_variables if "seed" in v.path]


@in_every_way
def test_the_second_look_leaves_no_trace(run_eagerly):
    """Not in weights, moving statistics, seeds, metrics or later steps."""
    x, y = data()
    models, logs = [], []
    for looks_again in (True, False):
        combiner = Same([0.3, 0.7], looks_again)
        trained = model(
            combiner,
            metrics={"a": ["mae"]},
            run_eagerly=run_eagerly,
        )
        logs.append(
            [trained.train_on_batch(x, y, return_dict=True) for _ in range(3)]
        )
        models.append(trained)
    looking, plain = models
    assert len(seeds(plain)) == 3
    assert np.any(array(looking.combiner.after) != 0)
    assert np.all(array(plain.combiner.after) == 0)
    # The combiner's own, of which `after` is one, come last.
    of_model = len(plain.variables) - 2
    assert looking.variables[of_model] is looking.combiner.before
    for a, b in zip(
        [*looking.variables[: of_model + 1], *looking.metrics_variables],
        [*plain.variables[: of_model + 1], *plain.metrics_variables],
        strict=True,
    ):
        np.testing.assert_allclose(array(a), array(b), atol=1e-6)
    for a, b in zip(*logs, strict=True):
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_allclose(a[key], b[key], rtol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_the_second_look_has_the_random_numbers_of_the_first(rate):
    """So that only the step makes a difference, and without one nothing."""
    x, y = data()
    trained = model(Same([0.5, 0.5], True), rate=rate)
    seen = []
    for _ in range(3):
        trained.train_on_batch(x, y)
        before = array(trained.combiner.before)
        after = array(trained.combiner.after)
        seen.append(before)
        if rate == 0:
            np.testing.assert_allclose(after, before, rtol=1e-6)
        else:
            assert np.all(after < before)
    # While every step has its own: losses of the same batch differ.
    differences = np.max(np.abs(np.diff(seen, axis=0)), axis=1)
    assert np.all(differences > 0.1)
