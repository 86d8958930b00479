"""How gradients are come by: part by part, or all objectives in one pass."""

import copy
import weakref

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import gradients
from keras_mimo.combiners import EveryN
from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import MoCo
from keras_mimo.gradients.flat import FlatRows
from tests.quick import quick

NAMES = ("a", "b", "c")


def data(rows=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    targets = [x[:, :1], -x[:, :1] + x[:, 1:2], x[:, 2:3] ** 2]
    return x, dict(zip(NAMES, targets, strict=True))


def compiled(**arguments):
    """A model in which each objective passes by something."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="tanh", name="first")(inputs)
    # A loss that is no objective too.
    y = layers.Dense(
        5, activation="tanh", kernel_regularizer="l2", name="second"
    )(x)
    outputs = {"a": layers.Dense(1, name="a")(x)}
    outputs |= {name: layers.Dense(1, name=name)(y) for name in NAMES[1:]}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        **{
            "optimizer": keras.optimizers.SGD(1.0),
            "loss": "mse",
            "combiner": MGDACombiner(),
            **arguments,
        }
    )
    return model


def update(**arguments):
    """What one step takes from each variable, and the logs."""
    model = compiled(**arguments)
    variables = model.trainable_variables
    before = [ops.convert_to_numpy(v).copy() for v in variables]
    logs = model.train_on_batch(*data(), return_dict=True)
    after = [ops.convert_to_numpy(v) for v in variables]
    # Keras 3.12 has arrays there.
    logs = {name: float(value) for name, value in logs.items()}
    return [b - a for b, a in zip(before, after, strict=True)], logs


PARTS, AT_ONCE = dict(gradient_parts=3), dict(vectorized_gradients=True)
SCOPES = [
    dict(),
    dict(blocks="layer"),
    dict(blocks="variable"),
    dict(balanced_variables=["first/kernel", "first/bias"]),
    dict(combiner="trimmed_mean"),
]
CASES = [
    *((way, scope) for way in (PARTS, AT_ONCE) for scope in SCOPES),
    (PARTS | AT_ONCE, SCOPES[1]),
    (dict(gradient_parts=100), SCOPES[2]),
]
AT_LAYER = (AT_ONCE, dict(gradients_at="first"))


@pytest.mark.parametrize(
    "way, scope",
    quick(
        [(PARTS, SCOPES[0]), (PARTS | AT_ONCE, SCOPES[1]), AT_LAYER],
        [*CASES, AT_LAYER],
    ),
)
def test_a_step_is_the_same_however_gradients_are_come_by(way, scope):
    step, logs = update(**scope, **way)
    expected, expected_logs = update(**scope)
    for found, value in zip(step, expected, strict=True):
        np.testing.assert_allclose(found, value, atol=2e-6)
    assert logs == pytest.approx(expected_logs, abs=1e-5)


def test_parts_wait_for_one_another_in_a_branch_too():
    # JAX has a branch where several steps are one; PyTorch takes one at a time.
    steps = 1 if keras.backend.backend() == "torch" else 2

    def trained(**arguments):
        model = compiled(
            combiner=EveryN(MGDACombiner(), 2),
            optimizer=keras.optimizers.SGD(0.1),
            blocks="variable",
            steps_per_execution=steps,
            **arguments,
        )
        model.fit(*data(), batch_size=8, shuffle=False, verbose=0)
        return model.get_weights()

    for found, expected in zip(trained(**PARTS), trained(), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("way", [PARTS, AT_ONCE])
def test_convolutions_and_normalisation_too(way):
    def trained(**arguments):
        keras.utils.set_random_seed(0)
        x = inputs = keras.Input((8, 8, 3))
        for filters in (4, 8):
            x = layers.Conv2D(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
            x = layers.MaxPooling2D()(layers.Activation("relu")(x))
        x = layers.GlobalAveragePooling2D()(x)
        outputs = {name: layers.Dense(3, name=name)(x) for name in NAMES}
        model = keras_mimo.BalancedModel(inputs, outputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, combiner="upgrad", **arguments)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(16, 8, 8, 3)).astype("float32")
        y = {name: rng.integers(3, size=16) for name in NAMES}
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return [ops.convert_to_numpy(v) for v in model.weights]

    for found, expected in zip(trained(**way), trained(), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_parts_are_neighbours_of_about_one_size():
    sizes = {
        count: [
            sum(np.prod(model.trainable_weights[i].shape) for i in part)
            for part in model._gradient_scope.parts()
        ]
        for count in (1, 2, 3, 1000)
        for model in [compiled(gradient_parts=count)]
    }
    # 24 + 6, 30 + 5, and the heads' 6 + 1 and twice 5 + 1.
    assert sizes[1] == [84]
    assert sizes[2] == [30, 54]
    assert sizes[3] == [30, 30, 24]
    assert len(sizes[1000]) == 10


class Pullback:
    """The gradients of a model, of which it knows who still holds them."""

    num_objectives = 2
    at_once = False

    def __init__(self):
        self.alive = []
        self.made = [self]

    def after(self, tensors):
        assert all(ops.is_tensor(tensor) for tensor in tensors)
        self.made.append(copy.copy(self))
        return self.made[-1]

    def row(self, k, indices):
        assert self is self.made[-1], "no row waits for what is awaited"
        return [ops.ones((3,)) * (index + k) for index in indices]

    def keep(self, rows):
        assert not any(held() for held in self.alive), "more than one part"
        kept = FlatRows(rows)
        self.alive.append(weakref.ref(kept))
        return kept


def test_one_part_is_in_memory_at_a_time():
    pullback = Pullback()
    parts = [[0], [1], [2, 3]]
    (gramian,), reached = gradients.gramians_by_part(
        pullback, [[0, 1, 2, 3]], parts, lambda m: m @ ops.transpose(m)
    )
    rows = np.repeat([[0, 1, 2, 3], [1, 2, 3, 4]], 3, axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(gramian), rows @ rows.T)
    assert reached == [[True, True]]
    assert len(pullback.alive) == len(pullback.made) - 1 == 3
    pullback = Pullback()
    found = gradients.weighted_blocks(
        pullback,
        [[index] for index in range(4)],
        [ops.ones((2,))] * 4,
        [[0], [1], [2], [3]],
    )
    sums = [ops.convert_to_numpy(total)[0] for (total,) in found]
    assert sums == [1.0, 3.0, 5.0, 7.0]
    assert len(pullback.alive) == 4
    # And the weights.
    assert len(pullback.made) - 1 == 5


def test_one_part_of_the_coordinates_is_in_memory_at_a_time(monkeypatch):
    alive, pullbacks = [], []
    block_rows = gradients.block_rows

    def watched(pullback, blocks):
        assert not any(held() for held in alive), "more than one part"
        rows = block_rows(pullback, blocks)
        pullbacks.append(pullback)
        alive.extend(map(weakref.ref, rows))
        return rows

    monkeypatch.setattr(gradients, "block_rows", watched)
    update(**PARTS, combiner="trimmed_mean")
    # TensorFlow traces a first step twice.
    assert len(alive) in (3, 6)
    # PyTorch computes one after another anyway.
    different = 1 if keras.backend.backend() == "torch" else len(alive)
    assert len({id(pullback) for pullback in pullbacks}) == different


@pytest.mark.slow
def test_is_saved(tmp_path):
    model = compiled(gradient_parts=2, vectorized_gradients=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    config = loaded.get_compile_config()
    assert config["gradient_parts"] == 2
    assert config["vectorized_gradients"] is True
    assert len(loaded._gradient_scope.parts()) == 2


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(gradient_parts=0), ValueError, "`gradient_parts` must be at"),
        (dict(gradient_parts=2.0), TypeError, "gradient_parts=2.0"),
        (dict(gradient_parts=True), TypeError, "gradient_parts=True"),
        (dict(vectorized_gradients=1), TypeError, "vectorized_gradients=1"),
        (
            dict(gradient_parts=2, gradients_at="first"),
            ValueError,
            "gradients_at=first",
        ),
        (
            dict(gradient_parts=2, combiner=MoCo(MGDACombiner())),
            ValueError,
            "this one keeps them",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        compiled(**arguments)
