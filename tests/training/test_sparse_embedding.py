"""Tables of embeddings, whose gradients TensorFlow has as rows of a batch.

The reference has the same table as a kernel that one-hot ids are multiplied by:
its gradients are dense on every backend.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import combiners
from keras_mimo import objectives
from tests.quick import quick

ROWS, WIDTH, SAMPLES = 9, 3, 24
NAMES = ("a", "b")
BACKEND = keras.backend.backend()


class OneHot(layers.Layer):
    """An `Embedding` by a product of matrices."""

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings", shape=(ROWS, WIDTH), initializer="uniform"
        )

    def call(self, ids):
        return ops.matmul(ops.one_hot(ids, ROWS), self.embeddings)


class Tied(layers.Layer):
    """Looks up and multiplies by the same table."""

    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.table = table

    def call(self, ids):
        kernel = ops.convert_to_tensor(self.table.embeddings)
        return ops.matmul(self.table(ids), ops.transpose(kernel))


class Doubled(keras_mimo.BalancedModel):
    def compute_loss(self, *args, **kwargs):
        return 2.0 * super().compute_loss(*args, **kwargs)


def data():
    """Ids of which every batch has some several times, and some never."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, size=(SAMPLES, 4)).astype("int32")
    ids[:, 1] = ids[:, 0]
    y = rng.normal(size=(2, SAMPLES, 1)).astype("float32")
    # One batch in which the first objective is absent.
    y[0, 8:16] = -100.0
    values = rng.normal(size=(SAMPLES, WIDTH)).astype("float32")
    return {"ids": ids, "values": values}, dict(zip(NAMES, y, strict=True))


def network(table, reach, cls):
    """A shared layer, before which some objectives look ids up."""
    keras.utils.set_random_seed(0)
    inputs = {
        "ids": keras.Input((4,), dtype="int32", name="ids"),
        "values": keras.Input((WIDTH,), name="values"),
    }
    words = table(inputs["ids"])
    if reach == "tied":
        words = Tied(table)(inputs["ids"])
    if reach == "none":
        words = layers.Lambda(ops.stop_gradient)(words)
    words = layers.GlobalAveragePooling1D()(words)
    words = layers.Dense(WIDTH)(words)
    values = inputs["values"]
    if reach == "two":
        # Of ids that the other one has too.
        first = layers.Lambda(lambda ids: ids[:, :2])(inputs["ids"])
        first = layers.GlobalAveragePooling1D()(table(first))
        values = layers.Add()([values, first])
    shared = layers.Dense(5, activation="tanh", name="shared")
    features = dict(zip(NAMES, (words, values), strict=True))
    return cls(
        inputs,
        {n: layers.Dense(1, name=n)(shared(x)) for n, x in features.items()},
    )


def trained(make_table, case):
    """The weights after two epochs, the history, and what type of gradient of
    the table reached the optimizer."""
    model = network(make_table(), case.reach, case.cls)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    (table,) = [v for v in model.variables if "embeddings" in v.path]
    optimizer = case.optimizer()
    model.compile(
        optimizer,
        "mse",
        objectives=objectives.Outputs(missing_label=-100.0),
        combiner=case.combiner(),
        **case.options,
    )
    kinds = set()
    apply = optimizer.apply

    def spied_apply(grads, variables=None):
        kinds.update(
            type(gradient).__name__ == "IndexedSlices"
            for gradient, variable in zip(
                grads, variables or model.trainable_variables, strict=True
            )
            if variable is table
        )
        return apply(grads, variables)

    object.__setattr__(optimizer, "apply", spied_apply)
    x, y = data()
    history = model.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0
    ).history
    weights = [np.array(ops.convert_to_numpy(w)) for w in model.weights]
    return weights, history, kinds


class Case:
    """A training.

    Args:
        combiner: Function that returns a combiner.
        optimizer: Function that returns an optimizer.
        reach: Which objectives the table reaches.
        sparse: Whether its gradient is sparse on TensorFlow.
        embedding: Options of the `Embedding`.
        cls: Class of the model.
        **options: Of `compile()`.
    """

    def __init__(
        self,
        combiner,
        optimizer=None,
        reach="one",
        sparse=True,
        embedding=None,
        cls=keras_mimo.BalancedModel,
        **options,
    ):
        self.combiner = combiner
        self.optimizer = optimizer or sgd()
        self.reach = reach
        self.sparse = sparse
        self.embedding = embedding or {}
        self.cls = cls
        self.options = options


def sgd(**options):
    return lambda: keras.optimizers.SGD(0.1, **options)


def adam(**options):
    return lambda: keras.optimizers.Adam(0.01, **options)


def scaled():
    return keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=8.0
    )


def mimo():
    return keras_mimo.MIMOCombiner(fused="a")


def every():
    return combiners.EveryN(keras_mimo.MGDACombiner(), 2)


def drop():
    return combiners.GradDropCombiner(seed=1)


MGDA = keras_mimo.MGDACombiner
UPGRAD = combiners.UPGradCombiner
CASES = {
    "sum": Case(keras_mimo.SumCombiner, reach="two"),
    "mimo": Case(mimo),
    "mgda": Case(MGDA),
    "mgda, Adam, two": Case(MGDA, adam(), "two"),
    "mgda, clipnorm": Case(MGDA, sgd(clipnorm=0.01)),
    "mgda, clipnorm, two": Case(MGDA, adam(clipnorm=0.01), "two"),
    "mgda, global_clipnorm": Case(MGDA, adam(global_clipnorm=0.01), "two"),
    "mgda, clipvalue": Case(MGDA, adam(clipvalue=0.01)),
    "mgda, accumulated": Case(MGDA, adam(gradient_accumulation_steps=2)),
    "mgda, averaged": Case(MGDA, adam(use_ema=True), "two"),
    "mgda, scaled": Case(MGDA, sgd(loss_scale_factor=8.0), sparse=False),
    "mgda, LossScaleOptimizer": Case(MGDA, scaled, "two"),
    "mgda, every 2": Case(every, adam(), "two"),
    "mgda, compiled": Case(MGDA, adam(), "two", jit_compile=True),
    "mgda, every 2, compiled": Case(
        every, adam(), "one", sparse=False, jit_compile=True
    ),
    "mgda, eager": Case(MGDA, adam(), "two", run_eagerly=True),
    "upgrad": Case(UPGRAD, adam()),
    "upgrad, two": Case(UPGRAD, sgd(momentum=0.5), "two"),
    "upgrad, layers": Case(UPGRAD, adam(), "two", blocks="layer"),
    "upgrad, shared": Case(
        UPGRAD, adam(), "two", balanced_variables=["shared/kernel"]
    ),
    "upgrad, at a layer": Case(UPGRAD, adam(), "two", gradients_at="shared"),
    "upgrad, none": Case(UPGRAD, reach="none", sparse=False),
    "upgrad, dense too": Case(UPGRAD, adam(), "tied", sparse=False),
    "upgrad, penalty": Case(
        UPGRAD, adam(), embedding={"activity_regularizer": "l2"}
    ),
    "upgrad, dense penalty": Case(
        UPGRAD,
        adam(),
        sparse=False,
        embedding={"embeddings_regularizer": "l2"},
    ),
    "upgrad, own loss": Case(UPGRAD, adam(), "two", cls=Doubled),
    "graddrop": Case(drop, sparse=False),
    "graddrop, two": Case(drop, adam(), "two", sparse=False),
}
QUICK = ("mgda, Adam, two", "graddrop")


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("name", quick(QUICK, CASES))
def test_trains_as_with_dense_gradients(name):
    case = CASES[name]
    if BACKEND == "torch" and "jit_compile" in case.options:
        pytest.skip("PyTorch's compiler takes minutes, for dense gradients.")

    def embedding():
        return layers.Embedding(ROWS, WIDTH, **case.embedding)

    def one_hot():
        table = OneHot(
            activity_regularizer=case.embedding.get("activity_regularizer")
        )
        if "embeddings_regularizer" in case.embedding:
            table.build(None)
            table.embeddings.regularizer = keras.regularizers.get("l2")
        return table

    weights, history, kinds = trained(embedding, case)
    expected, expected_history, dense = trained(one_hot, case)
    for actual, reference in zip(weights, expected, strict=True):
        np.testing.assert_allclose(actual, reference, atol=2e-6)
    for key, values in expected_history.items():
        np.testing.assert_allclose(history[key], values, atol=1e-5)
    assert True not in dense
    if BACKEND == "tensorflow":
        assert kinds == {case.sparse}
    else:
        assert True not in kinds
