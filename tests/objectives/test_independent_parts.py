"""Methods that compare gradients of independent samples: MoDo, SDMGrad.

Their matrix is `J1 J2'`, of two parts of a batch: a block of the Gramian of
`Samples(parts, within=...)`, whose objectives are those of every part. A
combiner of one's own gives weights to the parts as the method has it.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.objectives import Samples

WIDTH = 4
SIZE = 12
rng = np.random.default_rng(0)
X = rng.normal(size=(SIZE, WIDTH)).astype("float32")
Y = {m: rng.normal(size=(SIZE, 1)).astype("float32") for m in "ab"}
# The outputs are w x and 2 w x.
SCALES = {"a": 1.0, "b": 2.0}


def project_onto_simplex(x):
    """The point of sum 1, none below 0, that is nearest."""
    ordered = ops.flip(ops.sort(x))
    count = ops.arange(1, x.shape[0] + 1, dtype=x.dtype)
    shifts = (ops.cumsum(ordered) - 1.0) / count
    last = ops.sum(ops.cast(ordered > shifts, "int32")) - 1
    return ops.maximum(x - ops.take(shifts, last), 0.0)


@keras.saving.register_keras_serializable(package="test")
class MoDo(keras_mimo.BalancedGradientCombiner):
    """Of objectives in two parts each: `<objective>_sample_<0 or 1>`."""

    needs = "gramian"

    def build(self, objective_names):
        super().build(objective_names)
        count = len(self.objective_names) // 2
        self.shares = self.add_weight(
            shape=(count,),
            initializer=keras.initializers.Constant(1 / count),
            trainable=False,
            name="shares",
        )

    def call(self, losses, gramian=None, active=None, training=True):
        count = len(self.objective_names) // 2
        blocks = ops.reshape(gramian, (count, 2, count, 2))
        shares = ops.copy(self.shares)
        slope = ops.matmul(blocks[:, 0, :, 1], shares) + 0.1 * shares
        shares = project_onto_simplex(shares - 0.1 * slope)
        self.shares.assign(shares)
        # Of the mean over both parts.
        return ops.repeat(shares / 2.0, 2)


def rows(w, part):
    """The gradients of the mean squared errors of a part, by hand."""
    x = X[part::2]
    return np.array(
        [
            2 * scale * np.mean((scale * x @ w - Y[m][part::2]) * x, axis=0)
            for m, scale in SCALES.items()
        ]
    )


@pytest.mark.slow
def test_modo_as_torchjd_has_it():
    torch = pytest.importorskip("torch")
    aggregation = pytest.importorskip("torchjd.aggregation")
    inputs = keras.Input((WIDTH,))
    shared = layers.Dense(1, use_bias=False)(inputs)
    outputs = {m: layers.Rescaling(s)(shared) for m, s in SCALES.items()}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(1.0),
        {"a": "mse", "b": "mse"},
        objectives=Samples(2, within=keras_mimo.Outputs()),
        combiner=MoDo(),
    )
    theirs = aggregation.MoDoWeighting(gamma=0.1, rho=0.1)
    w = model.get_weights()[0]
    for _ in range(3):
        first, second = rows(w, 0), rows(w, 1)
        weights = theirs(torch.tensor(first @ second.T)).numpy()
        expected = w - (weights @ (first + second) / 2)[:, None]
        model.train_on_batch(X, Y)
        w = model.get_weights()[0]
        np.testing.assert_allclose(w, expected, atol=1e-5)
    assert abs(weights[0] - 0.5) > 0.01
