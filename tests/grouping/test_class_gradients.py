import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.grouping import class_affinity
from keras_mimo.grouping import class_gramian

NUM_CLASSES = 5
BACKEND = keras.backend.backend()


def data(count=40, seed=0):
    """Class 3 has no samples."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 6)).astype("float32")
    return x, rng.choice([0, 1, 2, 4], size=count)


def mlp(units=(7, 4)):
    inputs = x = keras.Input((6,))
    for count in units:
        x = layers.Dense(count, activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(NUM_CLASSES)(x))


def gramian(model, dataset, **options):
    options = {"verbose": 0, **options}
    return class_gramian(model, dataset, NUM_CLASSES, **options)


def assert_same(actual, expected, tolerance=1e-6):
    """Compares Gramians, relative to the norms of the gradients."""
    norms = np.sqrt(np.diag(expected))
    error = np.abs(actual - expected)
    assert (error <= tolerance * (norms * norms[:, None] + 1e-30)).all()


def backpropagated(model, x, y, sample_weight=None):
    """The Gramian of a tanh MLP without its last layer, by hand."""
    weights = [np.array(w, "float64") for w in model.get_weights()]
    kernels, biases = weights[::2], weights[1::2]
    activations = [x.astype("float64")]
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        activations.append(np.tanh(activations[-1] @ kernel + bias))
    exps = np.exp(activations[-1] @ kernels[-1] + biases[-1])
    deltas = exps / exps.sum(axis=1, keepdims=True) - np.eye(NUM_CLASSES)[y]
    if sample_weight is not None:
        deltas *= sample_weight[:, None]
    per_sample = []
    for kernel, a, inputs in zip(
        kernels[:0:-1], activations[:0:-1], activations[-2::-1], strict=True
    ):
        deltas = (deltas @ kernel.T) * (1 - a**2)
        outer = inputs[:, :, None] * deltas[:, None, :]
        per_sample += [outer.reshape(len(x), -1), deltas]
    per_sample = np.concatenate(per_sample, axis=1)
    rows = np.zeros((NUM_CLASSES, per_sample.shape[1]))
    for c in np.unique(y):
        rows[c] = per_sample[y == c].sum(axis=0) / (y == c).sum()
    return rows @ rows.T


@pytest.mark.parametrize("batch_size", [40, 16])
def test_gramian_is_that_of_the_gradients_by_hand(batch_size):
    model, (x, y) = mlp(), data()
    actual, counts = gramian(model, (x, y), batch_size=batch_size)
    assert actual.dtype == "float64"
    assert_same(actual, backpropagated(model, x, y))
    np.testing.assert_array_equal(counts, np.bincount(y, minlength=5))


def test_a_class_without_samples_is_zero():
    actual, counts = gramian(mlp(), data())
    assert counts[3] == 0
    assert not actual[3].any() and not actual[:, 3].any()
    np.testing.assert_array_equal(class_affinity(actual)[3], np.ones(5))


def test_sample_weights_multiply_losses():
    model, (x, y) = mlp(), data()
    sample_weight = np.random.default_rng(1).uniform(size=len(x))
    expected = backpropagated(model, x, y, sample_weight)
    for weights in (sample_weight, sample_weight[:, None]):
        actual, counts = gramian(model, (x, y, weights))
        assert_same(actual, expected)
        np.testing.assert_array_equal(counts, np.bincount(y, minlength=5))


@pytest.mark.parametrize("coordinates", [1, 10, 31])
def test_chunks_change_nothing(coordinates):
    model, (x, y) = mlp((5, 2)), data()
    expected, _ = gramian(model, (x, y))
    max_memory = 4 * NUM_CLASSES * coordinates
    actual, counts = gramian(model, (x, y), max_memory=max_memory)
    assert_same(actual, expected)
    assert counts.sum() == len(y)


def test_chosen_variables():
    model, (x, y) = mlp(), data()
    kernel = model.layers[2].kernel
    expected, _ = gramian(model, (x, y), variables=[kernel])
    whole, _ = gramian(model, (x, y))
    assert not np.allclose(expected, whole)
    for variables in ([kernel.path], [2], lambda v: v is kernel):
        actual, _ = gramian(model, (x, y), variables=variables)
        np.testing.assert_array_equal(actual, expected)
    parts = [
        gramian(model, (x, y), variables=[v])[0]
        for v in model.trainable_weights[:4]
    ]
    assert_same(sum(parts), whole)


def test_an_embedding():
    """Its gradient may be sparse."""
    inputs = keras.Input((2,), dtype="int32")
    table = layers.Embedding(4, 3)
    logits = layers.Dense(NUM_CLASSES)(layers.Flatten()(table(inputs)))
    model = keras.Model(inputs, logits)
    x = np.array([[0, 1], [0, 1], [2, 2]], dtype="int32")
    actual, _ = gramian(model, (x, np.array([0, 1, 2])))
    assert actual[0, 0] > 0 and actual[0, 1] != 0
    # They look up other rows.
    assert actual[0, 2] == 0


def test_a_variable_that_is_not_reached_has_a_zero_gradient():
    used = mlp()
    unused = layers.Dense(3)
    outputs = {"used": used.output, "unused": unused(used.input)}
    model = keras.Model(used.input, outputs)

    def loss(y, y_pred):
        return keras.losses.sparse_categorical_crossentropy(
            y, y_pred["used"], from_logits=True
        )

    alone, _ = gramian(model, data(), loss=loss, variables=unused.weights)
    assert not alone.any()
    variables = [*unused.weights, *used.weights[:4]]
    actual, _ = gramian(model, data(), loss=loss, variables=variables)
    assert_same(actual, backpropagated(used, *data()))


@pytest.mark.parametrize("projection", [None, 64])
def test_state_is_untouched(projection):
    inputs = keras.Input((6,))
    x = layers.Dense(8)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(4, kernel_regularizer="l2")(x)
    model = keras.Model(inputs, layers.Dense(NUM_CLASSES)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(*data(), verbose=0)

    def state():
        variables = [
            *model.variables,
            *model.metrics_variables,
            *model.optimizer.variables,
        ]
        if BACKEND == "torch":
            variables += [p.grad for p in model.parameters() if p.requires_grad]
        return [ops.convert_to_numpy(v).copy() for v in variables]

    before = state()
    first, _ = gramian(model, data(), projection=projection)
    for a, b in zip(before, state(), strict=True):
        np.testing.assert_array_equal(a, b)
    second, _ = gramian(model, data(), projection=projection)
    np.testing.assert_array_equal(first, second)
    # Training goes on.
    model.fit(*data(), verbose=0)


def test_the_model_is_in_inference_mode():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    noisy = layers.Dropout(0.9)(hidden)
    head = layers.Dense(NUM_CLASSES)
    with_dropout = keras.Model(inputs, head(noisy))
    without = keras.Model(inputs, head(hidden))
    actual, _ = gramian(with_dropout, data())
    expected, _ = gramian(without, data())
    assert_same(actual, expected)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_models_of_every_kind(run_eagerly):
    class Subclassed(keras_mimo.BalancedModel):
        def __init__(self):
            super().__init__()
            self.hidden = [
                layers.Dense(7, activation="tanh"),
                layers.Dense(4, activation="tanh"),
            ]
            self.head = layers.Dense(NUM_CLASSES)

        def call(self, x):
            for layer in self.hidden:
                x = layer(x)
            return self.head(x)

    model = Subclassed()
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner="mgda",
        run_eagerly=run_eagerly,
    )
    model(np.zeros((1, 6), dtype="float32"))
    expected = backpropagated(model, *data())
    backbone = [v for layer in model.hidden for v in layer.weights]
    actual, _ = gramian(model, data(), variables=backbone)
    assert_same(actual, expected)
    with pytest.raises(ValueError, match="pass its variables"):
        gramian(model, data())


def test_it_follows_the_weights():
    model = mlp()
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        model.set_weights(
            [np.random.normal(size=w.shape) for w in model.weights]
        )
        assert_same(gramian(model, data())[0], backpropagated(model, *data()))


@pytest.mark.parametrize("projection", [None, 16])
def test_compiles_once_per_batch_shape(projection):
    traces = []

    def loss(y, y_pred):
        traces.append(y_pred.shape)
        return keras.losses.sparse_categorical_crossentropy(
            y, y_pred, from_logits=True
        )

    options = {"loss": loss, "projection": projection}
    gramian(mlp(), data(40), batch_size=10, **options)
    if BACKEND == "torch":
        # It compiles nothing: the loss is called for every class in a batch.
        assert len(traces) >= NUM_CLASSES - 1
        return
    assert len(traces) == 1
    gramian(mlp(), data(35), batch_size=10, **options)
    assert len(traces) == 3
    # One variable in many chunks has one gradient function.
    if projection is None:
        kernel = [0]
        memory = 4 * NUM_CLASSES * 6
        gramian(mlp(), data(), loss=loss, variables=kernel, max_memory=memory)
        assert len(traces) == 4


def test_projection_is_within_its_standard_error():
    keras.utils.set_random_seed(3)
    model, width = mlp((256, 64)), 512
    exact = class_affinity(gramian(model, data())[0])
    errors = []
    for seed in range(8):
        estimate, counts = gramian(
            model, data(), projection=width, seed=seed, batch_size=40
        )
        errors.append(class_affinity(estimate) - exact)
    pairs = np.triu_indices(NUM_CLASSES, 1)
    errors = np.array(errors)[:, *pairs]
    assert 0 < np.sqrt((errors**2).mean()) < 1.2 / np.sqrt(width)
    assert np.abs(errors).max() < 4.5 / np.sqrt(width)
    assert counts.sum() == len(data()[1])


def test_projection_is_seeded():
    model = mlp((64, 16))
    first, again, other = (
        gramian(model, data(), projection=128, seed=seed)[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_projection_to_all_dimensions_is_exact():
    model = mlp()
    for variable in model.trainable_weights[:4]:
        options = {"variables": [variable]}
        expected, _ = gramian(model, data(), **options)
        actual, _ = gramian(model, data(), projection=100, **options)
        assert_same(actual, expected)


def test_memory_must_suffice():
    with pytest.raises(ValueError, match="4 bytes for each class"):
        gramian(mlp(), data(), max_memory=4 * NUM_CLASSES - 1)
    with pytest.raises(ValueError, match="`projection` must fit"):
        gramian(mlp(), data(), projection=100, max_memory=8 * 5 * 100 - 1)


@pytest.mark.parametrize("argument", ["max_memory", "projection", "batch_size"])
def test_numbers_must_be_positive(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be positive"):
        gramian(mlp(), data(), **{argument: 0})
    with pytest.raises(ValueError, match="`num_classes` must be positive"):
        class_gramian(mlp(), data(), 0)


def test_verbose(capsys):
    x, y = data()
    gramian(mlp(), (x, y), batch_size=10)
    assert capsys.readouterr().out == ""
    class_gramian(mlp(), (x, y), NUM_CLASSES, batch_size=10)
    assert "4/4" in capsys.readouterr().out
    memory = 4 * NUM_CLASSES * 50
    gramian(mlp(), (x, y), batch_size=10, max_memory=memory, verbose=2)
    assert "8/8" in capsys.readouterr().out
