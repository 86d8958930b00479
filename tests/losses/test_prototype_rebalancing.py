import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo.losses import PrototypeRebalancing
from keras_mimo.losses.prototype_rebalancing import coefficients
from keras_mimo.utils._keras import set_keras_mask
from tests.backends import gradient

FUSED = np.zeros((2, 2), "float32")


def logits(p):
    """Logits of two classes, of which the first has the probability `p`."""
    p = np.array(p, "float32")
    return np.log(np.stack([p, 1 - p], axis=-1))


def value(probabilities, masks=(), **options):
    """The loss where all labels are class 0."""
    y_pred = {
        name: ops.convert_to_tensor(logits(p))
        for name, p in probabilities.items()
    }
    size = len(next(iter(probabilities.values())))
    y_pred["fused"] = ops.zeros((size, 2))
    for name, mask in dict(masks).items():
        set_keras_mask(y_pred[name], ops.convert_to_tensor(mask))
    y_true = {name: ops.zeros((size,), "int32") for name in y_pred}
    loss = PrototypeRebalancing(**options)
    return float(ops.convert_to_numpy(loss(y_true, y_pred)))


def test_two_modalities_by_hand():
    # Scores .7 and .5: the push of v is .7 / .5 - 1 = .4, and a's entropy.
    given = {"a": [0.8, 0.6], "v": [0.6, 0.4]}
    push = 0.4 * (0.5108256 + 0.9162907) / 2
    entropy = 0.4 * (0.5004024 + 0.6730117) / 2
    expected = 2 * push - 0.01 * entropy
    np.testing.assert_allclose(value(given, alpha=2.0), expected, rtol=1e-5)
    np.testing.assert_allclose(value(given, early=False), push, rtol=1e-5)
    swapped = {"a": given["v"], "v": given["a"]}
    np.testing.assert_allclose(value(swapped, alpha=2.0), expected, rtol=1e-5)


def test_three_modalities_by_hand():
    # .9 / .6 - 1 = .5, and .9 / .3 - 1 = 2, which is more than 1.
    given = {"a": [0.9], "t": [0.3], "v": [0.6]}
    expected = 1.2039728 + 0.5 * 0.5108256 - 0.1 * 0.3250830
    np.testing.assert_allclose(value(given, mu=0.1), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "scores, beta, gamma",
    [
        ([0.4, 0.2], [0.0, 1.0], [1.0, 0.0]),
        ([0.3, 0.4], [1 / 3, 0.0], [0.0, 1 / 3]),
        ([0.3, 0.3], [0.0, 0.0], [0.0, 0.0]),
        ([0.0, 1e-30], [1.0, 0.0], [0.0, 1.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
        ([0.6, 0.5, 0.4], [0.0, 0.2, 0.5], [0.5, 0.0, 0.0]),
    ],
)
def test_coefficients(scores, beta, gamma):
    found = coefficients(ops.convert_to_tensor(scores, dtype="float32"))
    for actual, expected in zip(found, (beta, gamma), strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(actual), expected, rtol=1e-5
        )


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_weaker_is_pushed_and_the_stronger_only_kept_unsure(modalities):
    rng = np.random.default_rng(modalities)
    # Further and further ahead; label 0.
    x = rng.normal(size=(1, 5, 3)).astype("float32").repeat(modalities, 0)
    x[:, :, 0] += np.arange(modalities)[:, None]
    names = "abc"[:modalities]

    def loss(x, **options):
        y_pred = {name: x[m] for m, name in enumerate(names)}
        y_pred["fused"] = ops.zeros((5, 3))
        y_true = {name: np.zeros(5, "int32") for name in y_pred}
        return PrototypeRebalancing(**options)(y_true, y_pred)

    late = gradient(lambda x: loss(x, early=False), x)
    # Descending it raises the logit of the class.
    assert (late[:-1, :, 0] < 0).all()
    assert not late[-1].any()
    early = gradient(lambda x: loss(x, mu=0.1), x) - late
    assert not early[:-1].any()
    p = np.exp(x[-1]) / np.exp(x[-1]).sum(axis=-1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=-1, keepdims=True)
    # The gradient of -H by logits, as far as its direction goes.
    expected = p * (np.log(p) + entropy)
    scale = early[-1].ravel() @ expected.ravel() / (expected**2).sum()
    assert scale > 0
    np.testing.assert_allclose(early[-1], scale * expected, atol=1e-6)


def test_samples_without_a_modality_have_no_part_in_it():
    # All that v says of the second sample is left out.
    given = {"a": [0.8, 0.6], "v": [0.5, 0.01]}
    masks = {"v": [True, False]}
    push = (0.7 / 0.5 - 1) * 0.6931472
    actual = value(given, masks, early=False)
    np.testing.assert_allclose(actual, push, rtol=1e-5)
    nobody = {"v": [False, False]}
    np.testing.assert_allclose(value(given, nobody), 0.0)


def test_one_hot_labels_and_configuration():
    loss = PrototypeRebalancing(alpha=1.5, mu=0.002, early=False, fused="all")
    copy = type(loss).from_config(loss.get_config())
    assert copy.get_config() == loss.get_config()
    y_pred = {"a": logits([0.8, 0.6]), "v": logits([0.6, 0.4]), "all": FUSED}
    ids = {name: np.zeros((2, 1), "int32") for name in y_pred}
    one_hot = {name: np.eye(2)[[0, 0]] for name in y_pred}
    np.testing.assert_allclose(
        ops.convert_to_numpy(copy(one_hot, y_pred)),
        ops.convert_to_numpy(loss(ids, y_pred)),
    )


@pytest.mark.parametrize("argument", ["alpha", "mu"])
def test_bad_arguments(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be a non-neg"):
        PrototypeRebalancing(**{argument: -1.0})
    with pytest.raises(TypeError, match=f"`{argument}` must be a non-neg"):
        PrototypeRebalancing(**{argument: None})


def test_one_modality_is_refused():
    y_pred = {"a": FUSED, "fused": FUSED}
    y_true = {name: np.zeros(2, "int32") for name in y_pred}
    with pytest.raises(ValueError, match="at least two modalities"):
        keras.losses.get(PrototypeRebalancing())(y_true, y_pred)
