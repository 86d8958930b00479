import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.objectives import Samples
from tests.oracles import min_norm_point

K = 4
WIDTH = 3
rng = np.random.default_rng(0)
X = rng.normal(size=(10, WIDTH)).astype("float32")
Y = rng.integers(0, 3, 10)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build(combiner="mean", count=K, optimizer=None, hidden=0, **options):
    inputs = keras.Input((WIDTH,))
    x = inputs
    if hidden:
        x = layers.Dense(hidden, activation="tanh", name="hidden")(x)
    outputs = layers.Dense(3, name="logits")(x)
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        optimizer or keras.optimizers.SGD(1.0),
        LOSS,
        objectives=Samples(count),
        combiner=combiner,
        **options,
    )
    return model


def gradients(kernel, bias, x, y):
    """Rows of the samples of a linear model, by hand."""
    logits = x @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    errors = p - np.eye(3)[y]
    kernels = x[:, :, None] * errors[:, None, :]
    return np.concatenate([kernels.reshape(len(x), -1), errors], axis=1)


def step(model, x, y, **options):
    """The direction of a step of SGD, and the rows of the samples."""
    before = model.get_weights()
    logs = model.train_on_batch(x, y, return_dict=True, **options)
    after = model.get_weights()
    moved = [old - new for old, new in zip(before, after, strict=True)]
    rows = gradients(*before[-2:], x, y) if len(before) == 2 else None
    return np.concatenate([m.reshape(-1) for m in moved]), rows, logs


@pytest.fixture(scope="module")
def shortest():
    """A model whose steps are the shortest vectors between the gradients."""
    return build("mgda")


def test_each_sample_is_an_objective(shortest):
    moved, rows, logs = step(shortest, X[:K], Y[:K])
    np.testing.assert_allclose(moved, min_norm_point(rows), atol=1e-5)
    assert shortest.objectives.names == [f"sample_{k}" for k in range(K)]
    # Nothing of each sample.
    assert set(logs) == {"loss", "conflict"}


@pytest.mark.slow
def test_samples_of_weight_zero_are_absent(shortest):
    weights = np.array([1.0, 0.0, 2.0, 1.0])
    moved, rows, _ = step(shortest, X[:K], Y[:K], sample_weight=weights)
    rows = (weights[:, None] * rows)[weights > 0]
    np.testing.assert_allclose(moved, min_norm_point(rows), atol=1e-5)


def test_a_smaller_batch_has_fewer_objectives(shortest):
    moved, rows, _ = step(shortest, X[:3], Y[:3])
    np.testing.assert_allclose(moved, min_norm_point(rows), atol=1e-5)


def test_parts_of_a_larger_batch_are_objectives(shortest):
    """Sample `i` belongs to objective `i mod 4`: the last two have two each."""
    moved, rows, _ = step(shortest, X, Y)
    parts = np.array([rows[k::K].mean(axis=0) for k in range(K)])
    np.testing.assert_allclose(moved, min_norm_point(parts), atol=1e-5)


@pytest.mark.slow
def test_samples_are_compared_over_the_last_layer():
    model = build(
        "mgda",
        hidden=5,
        balanced_variables=lambda v: v.path.startswith("logits"),
    )
    features = model.get_layer("hidden")(X[:K])
    rows = gradients(
        *model.get_layer("logits").get_weights(),
        keras.ops.convert_to_numpy(features),
        Y[:K],
    )
    moved, _, _ = step(model, X[:K], Y[:K])
    point = min_norm_point(rows)
    np.testing.assert_allclose(moved[-len(point) :], point, atol=1e-5)
    # What is not compared has the same weights.
    weights = np.linalg.lstsq(rows.T, point, rcond=None)[0]
    kernel = model.get_layer("logits").get_weights()[0] + moved[
        -len(point) : -3
    ].reshape(5, 3)
    errors = rows[:, -3:]
    h = keras.ops.convert_to_numpy(features)
    delta = (errors @ kernel.T) * (1 - h**2) * weights[:, None]
    expected = np.concatenate([(X[:K].T @ delta).reshape(-1), delta.sum(0)])
    np.testing.assert_allclose(moved[: -len(point)], expected, atol=1e-5)


@pytest.mark.slow
def test_the_mean_is_what_keras_trains_by():
    """Also with a last batch of two samples."""
    fit = {"epochs": 2, "batch_size": K, "shuffle": False, "verbose": 0}
    model = build(optimizer=keras.optimizers.Adam(0.1))
    plain = keras.Model(*[getattr(model, n) for n in ("input", "output")])
    start = model.get_weights()
    logs = model.fit(X, Y, **fit).history
    trained = model.get_weights()
    model.set_weights(start)
    plain.compile(keras.optimizers.Adam(0.1), LOSS)
    expected = plain.fit(X, Y, **fit).history
    np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-5)
    for ours, theirs in zip(trained, plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_masks_steps_of_time_and_losses_that_are_not_finite():
    """A sample is the mean over the steps that its mask keeps."""
    ids = np.array([[1, 2, 0], [3, 0, 0], [0, 0, 0], [2, 1, 3]])
    y = np.array([[0, 1, 1], [2, 2, 0], [1, 1, 1], [0, 0, 2]])
    inputs = keras.Input((3,), dtype="int32")
    x = layers.Embedding(4, 2, mask_zero=True)(inputs)
    model = keras_mimo.BalancedModel(inputs, layers.Dense(3)(x))
    model.compile("sgd", LOSS, objectives=Samples(K), combiner="mean")
    outputs = model(ids)
    losses, active = model.objectives(y, outputs)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(active), [True, True, False, True]
    )
    logits = keras.ops.convert_to_numpy(outputs)
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    terms = -np.take_along_axis(logp, y[..., None], axis=-1)[..., 0]
    kept = ids > 0
    for k in (0, 1, 3):
        expected = terms[k][kept[k]].mean()
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(losses[k]), expected, rtol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("combiner", ["upgrad", "mgda"])
def test_saved_and_resumed(combiner, tmp_path):
    fit = {"batch_size": K, "shuffle": False, "verbose": 0}

    def run():
        keras.utils.set_random_seed(0)
        return build(
            combiner,
            hidden=5,
            optimizer=keras.optimizers.Adam(0.1),
            balanced_variables="backbone",
        )

    straight = run()
    straight.fit(X, Y, epochs=2, **fit)
    model = run()
    model.fit(X, Y, epochs=1, **fit)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.objectives.batch_size == K
    loaded.fit(X, Y, epochs=2, initial_epoch=1, **fit)
    for a, b in zip(straight.weights, loaded.weights, strict=True):
        a, b = map(keras.ops.convert_to_numpy, (a, b))
        np.testing.assert_allclose(b, a, atol=1e-6)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="`batch_size`"):
        Samples(0)
    with pytest.raises(TypeError, match="`batch_size`"):
        Samples("all")
    with pytest.raises(ValueError, match="`Samples` needs a combiner"):
        build(combiner=None)
    with pytest.raises(TypeError, match="`within`"):
        Samples(K, within="outputs")
    model = build()
    model.compile("sgd", [LOSS, LOSS], objectives=Samples(K), combiner="mean")
    with pytest.raises(ValueError, match="one loss for each output"):
        model.objectives(Y, model(X))


@pytest.mark.slow
def test_parts_of_the_batch_for_each_output():
    """Of a multi-modal model, whose outputs have one label."""
    inputs = {m: keras.Input((WIDTH,), name=m) for m in "av"}
    own = {m: layers.Dense(3)(x) for m, x in inputs.items()}
    outputs = {"fused": layers.Add()(list(own.values())), **own}
    model = keras_mimo.MultimodalModel(inputs, outputs)
    model.compile(
        "sgd",
        LOSS,
        metrics=["accuracy"],
        objectives=Samples(2, within=keras_mimo.Modalities()),
        combiner="mean",
    )
    x = {"a": X, "v": X[::-1].copy()}
    y_pred = model(x)
    losses, active = model.objectives(Y, y_pred)
    names = [f"{o}_sample_{k}" for o in ("fused", "a", "v") for k in range(2)]
    assert sorted(model.objectives.names) == sorted(names)
    assert keras.ops.convert_to_numpy(active).all()
    found = dict(zip(model.objectives.names, losses, strict=True))
    for output in outputs:
        for k in range(2):
            expected = LOSS(Y[k::2], y_pred[output][k::2])
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(found[f"{output}_sample_{k}"]),
                keras.ops.convert_to_numpy(expected),
                rtol=1e-5,
            )
    logs = model.train_on_batch(x, Y, return_dict=True)
    total = sum(keras.ops.convert_to_numpy(loss) for loss in losses) / 6
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)
    expected = keras.ops.convert_to_numpy(LOSS(Y, y_pred["a"]))
    np.testing.assert_allclose(logs["a_loss"], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("over", ["head", "all"])
def test_same_step_as_torchjd(over):
    """Whose engine makes the Gramian as the backward pass goes on."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchjd", reason="not installed on Python 3.13")
    from torchjd import aggregation
    from torchjd import autogram
    from torchjd.linalg import QuadprogProjector

    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5)).astype("float32")
    y = rng.integers(0, 3, 8)
    net = torch.nn.Sequential(
        torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)
    )
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="tanh"),
            layers.Dense(3),
        ]
    )
    # Before its pass: it hooks into modules.
    part = net if over == "all" else net[2]
    engine = autogram.Engine(part, batch_dim=0)
    values = [p.detach().numpy().T.copy() for p in net.parameters()]
    model.set_weights(values)
    model = keras_mimo.BalancedModel(model.inputs[0], model.outputs[0])
    model.compile(
        keras.optimizers.SGD(1.0),
        LOSS,
        objectives=Samples(8),
        combiner="upgrad",
        balanced_variables=model.weights[2:] if over == "head" else None,
    )
    model.train_on_batch(x, y)
    moved = [a - b for a, b in zip(values, model.get_weights(), strict=True)]

    losses = torch.nn.functional.cross_entropy(
        net(torch.tensor(x)), torch.tensor(y), reduction="none"
    )
    gramian = engine.compute_gramian(losses)
    projector = QuadprogProjector(norm_eps=0.0, reg_eps=0.0)
    weigh = aggregation.UPGradWeighting(projector=projector)
    losses.backward(weigh(gramian))
    for ours, parameter in zip(moved, net.parameters(), strict=True):
        theirs = parameter.grad.numpy().T
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * abs(theirs).max())
