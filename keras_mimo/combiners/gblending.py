import keras
import numpy as np
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner

# The smallest overfitting that counts, as a share of the losses it is seen in.
FLOOR = 0.01


@keras.saving.register_keras_serializable(package="keras_mimo")
class GBlendingCombiner(BalancedGradientCombiner):
    """Weighs objectives by how they generalise when they are trained alone.

    Gradient-Blending. An objective whose network gained `G` on validation data,
    and overfitted by `O` on the way, has a weight in proportion to `G / O**2`
    (see `blending_weights()`). The weights have the sum 1, over the objectives
    that are in the batch.

    A step changes no weight. `keras_mimo.callbacks.GradientBlending` measures
    and sets them, before the first epoch and again later. In a loop of your own
    call `set_blend()` or `set_blend_by_losses()`. Until then all are alike, of
    which the paper has no need: it measures before it trains.

    BalanceBenchmark's code takes sums of losses for means, and the absolute
    value of `G`. Here they are as in the paper.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile("adam", loss, combiner="gblending")
    blending = keras_mimo.callbacks.GradientBlending(
        (x, y), (x_validation, y_validation)
    )
    model.fit(x, y, epochs=30, callbacks=[blending])
    ```

    Reference:

    - [What Makes Training Multi-Modal Classification Networks Hard?](
        https://arxiv.org/abs/1905.12681)
    """

    traits = frozenset(
        {
            "convex",
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def build(self, objective_names):
        super().build(objective_names)
        count = len(self.objective_names)
        self.blend = self.add_weight(
            name="blend",
            shape=(count,),
            initializer=keras.initializers.Constant(1 / count),
            trainable=False,
        )

    def call(self, losses, gramian=None, active=None, training=True):
        blend = ops.cast(ops.convert_to_tensor(self.blend), losses.dtype)
        shares = ops.where(active, blend, 0.0)
        total = ops.sum(shares)
        return shares / ops.where(total > 0, total, 1.0)

    def set_blend(self, weights):
        """Sets the weights of the objectives.

        Args:
            weights: K non-negative numbers in the order of `objective_names`,
                not all 0. They are divided by their sum.

        Raises:
            ValueError: If the combiner is not built, or if `weights` are no
                such numbers.
        """
        if not self.built:
            raise ValueError(
                "`GBlendingCombiner` has no objectives yet: build the model, "
                f"or call `build()`. Received: weights={weights}"
            )
        weights = np.asarray(weights, "float64")
        valid = weights.shape == (len(self.objective_names),)
        valid = valid and np.all(np.isfinite(weights) & (weights >= 0))
        if not valid or not weights.any():
            raise ValueError(
                "`weights` must be a non-negative number for each of the "
                f"objectives {self.objective_names}, and not all 0. "
                f"Received: weights={weights.tolist()}"
            )
        self.blend.assign(weights / weights.sum())

    def set_blend_by_losses(
        self, train_before, val_before, train_after, val_after
    ):
        """Sets the weights to those of `blending_weights()`."""
        self.set_blend(
            blending_weights(train_before, val_before, train_after, val_after)
        )


def blending_weights(train_before, val_before, train_after, val_after):
    """The weights of Gradient-Blending, by losses at epochs `N` and `N + n`.

    With `G = L_V(N) - L_V(N+n)`, the gain on validation data, and
    `O = [L_V - L_T](N+n) - [L_V - L_T](N)`, the overfitting in that time, an
    objective has the weight `G / O**2`, divided by the sum over all of them.

    An objective that gained nothing (`G <= 0`), or one of whose losses is not
    finite, has the weight 0. The paper divides by `O**2` however small it is,
    so that chance decides. Here `|O|` counts as at least 1 % of the largest of
    the objective's four losses. If all weights are 0, all are alike instead.

    Args:
        train_before: The K mean training losses at epoch `N`.
        val_before: The K mean validation losses at epoch `N`.
        train_after: The K mean training losses at epoch `N + n`, each after
            training that objective alone.
        val_after: The K mean validation losses at epoch `N + n`.

    Returns:
        Array of shape `(K,)` of float64, with the sum 1.

    Raises:
        ValueError: If the four are not lists of K numbers.

    Example:

    >>> blending_weights([2.0, 2.0], [2.0, 2.0], [1.0, 0.5], [1.5, 1.5])
    array([0.8, 0.2])
    """
    losses = [
        np.asarray(values, "float64")
        for values in (train_before, val_before, train_after, val_after)
    ]
    shapes = [values.shape for values in losses]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(
            "`train_before`, `val_before`, `train_after` and `val_after` must "
            "each have one loss for each objective. "
            f"Received: arrays of shapes {shapes}"
        )
    finite = np.isfinite(losses).all(axis=0)
    losses = np.where(finite, losses, 0.0)
    train_before, val_before, train_after, val_after = losses
    gain = val_before - val_after
    overfitting = (val_after - train_after) - (val_before - train_before)
    floor = FLOOR * np.abs(losses).max(axis=0)
    size = np.maximum(np.abs(overfitting), floor)
    gained = gain > 0
    size = np.where(gained, size, 1.0)
    # Not by the square, which would underflow first.
    weights = np.where(gained, gain, 0.0) / size / size
    if not weights.any():
        return np.full(len(weights), 1 / len(weights))
    weights = weights / weights.max()
    return weights / weights.sum()
