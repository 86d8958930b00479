import math

import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops


@keras.saving.register_keras_serializable(package="keras_mimo")
class SumCombiner(BalancedGradientCombiner):
    """Every objective has weight 1: what Keras does by default."""

    in_numpy = True
    min_objectives = 1
    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def call(self, losses, gramian=None, active=None, training=True):
        return ops.ones_like(losses)


@keras.saving.register_keras_serializable(package="keras_mimo")
class MeanCombiner(BalancedGradientCombiner):
    """Every active objective has weight `1 / K`, with K active objectives."""

    in_numpy = True
    min_objectives = 1
    traits = frozenset(
        {
            "convex",
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def call(self, losses, gramian=None, active=None, training=True):
        active = ops.cast(active, losses.dtype)
        return active / ops.maximum(ops.sum(active), 1.0)


@keras.saving.register_keras_serializable(package="keras_mimo")
class ConstantCombiner(BalancedGradientCombiner):
    """Fixed weights, the baseline that any other combiner must beat.

    Args:
        weights: List of K floats in the order of the objectives, or dict that
            maps the names of objectives to floats. In a dict, an objective that
            is left out has weight 0.

    Raises:
        TypeError: If `weights` is neither a list, a tuple nor a dict.
        ValueError: If a weight is not a finite number or, at build time, if the
            weights do not fit the objectives.

    Example:

    ```python
    combiner = keras_mimo.combiners.ConstantCombiner({"fused": 1.0, "imu": 0.5})
    ```

    Reference:

    - [In Defense of the Unitary Scalarization for Deep Multi-Task Learning](
        https://arxiv.org/abs/2201.04122)
    """

    in_numpy = True
    min_objectives = 1
    traits = frozenset(
        {"homogeneous", "linear_under_scaling", "permutation_equivariant"}
    )

    def __init__(self, weights, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(weights, (list, tuple, dict)):
            raise TypeError(
                "`weights` must be a list or a dict of floats. "
                f"Received: weights={weights} of type {type(weights)}"
            )
        values = weights.values() if isinstance(weights, dict) else weights
        if not all(_is_finite_number(value) for value in values):
            raise ValueError(
                f"`weights` must be finite numbers. Received: weights={weights}"
            )
        if isinstance(weights, dict):
            self.weight_values = {k: float(v) for k, v in weights.items()}
        else:
            self.weight_values = [float(v) for v in weights]

    def build(self, objective_names):
        super().build(objective_names)
        given = self.weight_values
        if isinstance(given, dict):
            unknown = sorted(set(given) - set(self.objective_names))
            if unknown:
                raise ValueError(
                    "`weights` names objectives that the model does not have: "
                    f"{unknown}. Its objectives are {self.objective_names}."
                )
        elif len(given) != len(self.objective_names):
            raise ValueError(
                f"`weights` must have one entry for each of the objectives "
                f"{self.objective_names}. Received: weights={given}"
            )

    def call(self, losses, gramian=None, active=None, training=True):
        values = self.weight_values
        if isinstance(values, dict):
            values = [values.get(name, 0.0) for name in self.objective_names]
        return ops.convert_to_tensor(list(values), dtype=losses.dtype)

    def get_config(self):
        values = self.weight_values
        values = dict(values) if isinstance(values, dict) else list(values)
        return {**super().get_config(), "weights": values}


def _is_finite_number(value):
    try:
        return math.isfinite(value)
    except TypeError:
        return False
