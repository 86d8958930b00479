import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo.layers import AlternatingHead
from tests.backends import gradient


def numpy_of(x):
    return keras.tree.map_structure(ops.convert_to_numpy, x)


def head(width, names="av", **options):
    layer = AlternatingHead(3, **options)
    layer.build({m: (None, width) for m in names})
    return layer


def features(names, width, seed=0, size=5):
    rng = np.random.default_rng(seed)
    return {m: rng.normal(size=(size, width)).astype("float32") for m in names}


def test_fused_by_entropy_by_hand():
    """Entropies 0 and log 2: the weights are 2/3 and 1/3."""
    layer = AlternatingHead(2)
    layer.build({m: (None, 2) for m in "av"})
    layer.head.set_weights([np.eye(2), np.zeros(2)])
    x = {"a": np.array([[60.0, 0.0]], "f"), "v": np.array([[3.0, 3.0]], "f")}
    np.testing.assert_array_equal(numpy_of(layer(x["a"])), x["a"])
    np.testing.assert_allclose(numpy_of(layer(x)), [[41.0, 1.0]], rtol=1e-6)


def test_the_surer_modality_counts_more_sample_by_sample():
    layer = head(4)
    x = features("av", 4, size=40)
    own = {m: numpy_of(layer(x[m])) for m in "av"}

    def entropy(z):
        p = np.exp(z - z.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        return -(p * np.log(p)).sum(axis=-1)

    e = np.stack([entropy(own[m]) for m in "av"])
    largest = e.max(axis=0)
    share = np.exp(largest - e) / np.exp(largest - e).sum(axis=0)
    expected = sum(
        s[:, None] * own[m] for s, m in zip(share, "av", strict=True)
    )
    np.testing.assert_allclose(numpy_of(layer(x)), expected, atol=1e-5)


@pytest.mark.parametrize("names", ["av", "vta"])
def test_turns_and_the_projection_by_hand(names):
    """P by the formula of recursive least squares, in NumPy."""
    layer = head(4, names, alpha=0.3)
    projection, mean = np.eye(4), np.zeros(4)
    order = sorted(names)
    for step in range(5):
        x = features(names, 4, seed=step)
        turn = order[step % len(order)]
        expected = numpy_of(layer(x[turn]))
        actual = numpy_of(layer(x, training=True))
        np.testing.assert_allclose(actual, expected, atol=1e-6)
        spanned = projection @ mean
        projection = projection - np.outer(spanned, spanned) / (
            0.3 + mean @ spanned
        )
        mean = x[turn].mean(axis=0)
        found = ops.convert_to_numpy(layer.projection)
        np.testing.assert_allclose(found, projection, atol=1e-5)
    # The same at once: the inverse of what the means of the steps before span.
    means = [
        features(names, 4, seed=k)[order[k % len(order)]].mean(axis=0)
        for k in range(4)
    ]
    spanned = np.eye(4) + np.transpose(means) @ means / 0.3
    np.testing.assert_allclose(found, np.linalg.inv(spanned), atol=1e-5)


def gradients(layer, x, weigh, own=None):
    """Of a sum over an output, at the kernel and at each feature."""

    def at(name, start):
        def value(tensor):
            with keras.StatelessScope() as scope:
                given = dict(x)
                if name == "kernel":
                    scope.add_update((layer.head.kernel, tensor))
                else:
                    given[name] = tensor
                given = given if own is None else given[own]
                outputs = layer(given, training=True)
                return ops.sum(ops.multiply(outputs, weigh))

        return gradient(value, start)

    kernel = ops.convert_to_numpy(layer.head.kernel)
    return {name: at(name, v) for name, v in {"kernel": kernel, **x}.items()}


def test_gradients_are_of_the_turn_and_projected():
    layer = head(4, alpha=0.3)
    for step in range(3):
        layer(features("av", 4, seed=step), training=True)
    x = features("av", 4, seed=9)
    weigh = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    kernel = ops.convert_to_numpy(layer.head.kernel)
    found = gradients(layer, x, weigh)
    layer(x, training=True)
    projection = ops.convert_to_numpy(layer.projection)
    # The fourth step is that of v.
    expected = projection @ x["v"].T @ weigh
    np.testing.assert_allclose(found["kernel"], expected, atol=1e-5)
    np.testing.assert_allclose(found["v"], weigh @ kernel.T, atol=1e-5)
    np.testing.assert_array_equal(found["a"], 0)


def test_own_outputs_have_no_gradient_in_training():
    found = gradients(head(4), features("av", 4), 1.0, own="v")
    for value in found.values():
        np.testing.assert_array_equal(value, 0)


def test_a_step_changes_little_for_the_features_before():
    """A head that moves by P leaves what it says of their mean."""
    layer = head(6, alpha=1e-3)
    before = features("av", 6, seed=0)
    layer(before, training=True)
    now = features("av", 6, seed=1)
    found = gradients(layer, now, 1.0)["kernel"]
    plain = now["v"].sum(axis=0)[:, None] * np.ones(3)
    mean = before["a"].mean(axis=0)
    assert np.abs(mean @ found).max() < 0.01 * np.abs(mean @ plain).max()


def test_features_that_are_not_finite_leave_no_trace():
    layer = head(4)
    x = features("av", 4)
    layer({**x, "a": np.full_like(x["a"], np.nan)}, training=True)
    layer(x, training=True)
    np.testing.assert_array_equal(numpy_of(layer.projection.value), np.eye(4))


def test_invalid_arguments():
    with pytest.raises(ValueError, match="`units`"):
        AlternatingHead(0)
    with pytest.raises(ValueError, match="`alpha`"):
        AlternatingHead(3, alpha=0.0)
    with pytest.raises(ValueError, match="features of one width"):
        AlternatingHead(3).build({"a": (None, 2), "v": (None, 3)})
