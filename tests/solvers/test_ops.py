"""What is written in `solvers.ops` computes the same in NumPy."""

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo import combiners
from keras_mimo import gradients
from keras_mimo.solvers import ops

NAMES = ["fused", "b", "c", "d"]
IN_NUMPY = [
    cls
    for cls in (getattr(combiners, name) for name in combiners.__all__)
    if vars(cls).get("in_numpy")
]


def built(cls):
    options = {"ConstantCombiner": {"weights": [1.0, 2.0, 3.0, 4.0]}}
    combiner = cls(**options.get(cls.__name__, {}))
    combiner.build(NAMES)
    return combiner


def problems():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 6))
    everyone = np.ones(4, "bool")
    yield rows @ rows.T, everyone
    yield rows @ rows.T, np.array([True, False, True, True])
    # Two that oppose each other, and one of length 0.
    rows[1], rows[2] = -rows[0] + 0.3 * rows[1], 0
    yield rows @ rows.T, everyone
    yield np.full((4, 4), np.nan), everyone
    yield np.zeros((4, 4)), ~everyone


def test_the_closed_forms_and_the_solvers_are_among_them():
    names = {cls.__name__ for cls in IN_NUMPY}
    assert {"SumCombiner", "MIMOCombiner", "MGDACombiner"} <= names


@pytest.mark.parametrize("cls", IN_NUMPY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_combiners_give_the_weights_that_they_give_with_tensors(cls, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is asked for")
    combiner = built(cls)
    losses = np.array([0.5, 1.0, 2.0, 0.1], dtype)
    for gramian, active in problems():
        arrays = [losses, gramian.astype(dtype), active]

        def weigh(losses, gramian, active, combiner=combiner):
            return combiner(losses, gramian, active, training=False)

        actual = ops.in_numpy(weigh, arrays)
        assert isinstance(actual, np.ndarray)
        assert actual.dtype == dtype
        # In tensors, whatever an engine would choose.
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
        expected = combiner._weigh(*tensors, training=False)
        # Keras on PyTorch rounds some numbers between to float32.
        tolerance = 1e-4 if dtype == "float32" else 1e-7
        np.testing.assert_allclose(
            actual,
            keras.ops.convert_to_numpy(expected),
            rtol=tolerance,
            atol=tolerance,
        )


def test_a_subclass_gets_tensors():
    seen = []

    class Own(keras_mimo.MGDACombiner):
        def call(self, losses, gramian=None, active=None, training=True):
            seen.append(type(gramian))
            return super().call(losses, gramian, active, training)

    Own()(keras.ops.ones(2), keras.ops.eye(2))
    assert not issubclass(seen[0], np.ndarray)


def test_errors_do_not_leave_the_operations_in_numpy():
    with pytest.raises(ZeroDivisionError):
        ops.in_numpy(lambda x: x / 0, [1])
    assert not ops.is_numpy()


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="others compile what they run"
)
def test_pytorch_takes_numpy_for_small_tensors_in_memory():
    def seen(tensor):
        return gradients.small(lambda x: np.array(ops.is_numpy()), [tensor])

    with keras.device("cpu:0"):
        assert seen(keras.ops.ones(3))
        assert not seen(keras.ops.ones(3).requires_grad_())
        assert not seen(keras.ops.ones(10**6))
        assert not seen(keras.ops.ones(3, "bfloat16"))


def test_a_scalar_comes_with_the_gradient_of_the_tensors():
    """Through a model, where plain Keras descends the same sum."""
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    kernels = []
    for cls in (keras.Model, keras_mimo.BalancedModel):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        outputs = {name: keras.layers.Dense(1)(inputs) for name in "ab"}
        model = cls(inputs, outputs)
        options = {}
        if cls is keras_mimo.BalancedModel:
            options["combiner"] = keras_mimo.SumCombiner()
        model.compile("sgd", "mse", **options)
        model.train_on_batch(x, {name: x[:, :1] for name in "ab"})
        kernels.append(model.get_weights())
    for actual, expected in zip(*kernels, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
