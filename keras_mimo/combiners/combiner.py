import math

import keras
import numpy as np

from keras_mimo import gradients
from keras_mimo.solvers import ops
from keras_mimo.utils.kept_state import KeptState


@keras.saving.register_keras_serializable(package="keras_mimo")
class BalancedGradientCombiner(KeptState):
    """Base class: turns K losses (and their Gramian) into K weights.

    A model updates its variables along `sum_k weights_k * g_k`, where `g_k` is
    the gradient of objective `k`. A combiner decides the weights. It also works
    outside a model, on plain arrays.

    To write a combiner, set `needs`, implement `call()`, and register the class
    with `keras.saving.register_keras_serializable`. `__call__()` takes care of
    what all combiners share, so that `call()` can assume finite values:

    - Losses and Gramian arrive as `float32` (or `float64`, where the caller
      gives `float64`) whatever the dtype policy.
    - An objective that is not active has loss 0 and a zero row and column, and
      its weight is set to 0 afterwards.
    - With no active objective all weights are 0. With one, a combiner that
      needs the Gramian is not asked: that objective gets weight 1.
    - A non-finite loss or Gramian is handled as plain Keras would handle it:
      every active objective gets the same weight and the non-finite value
      reaches the optimizer, where `LossScaleOptimizer` skips the step, and the
      logs, where `keras.callbacks.TerminateOnNaN` sees it. The state of the
      combiner keeps its last value.

    A combiner of losses may have trainable weights. The optimizer of the model
    updates them along the gradient of `scalarize()`, which must then depend on
    them.

    Attributes:
        needs: `"losses"` (one backward pass, Keras' own training step),
            `"gramian"` (K backward passes from one forward pass) or
            `"gradients"` (the same, see `CoordinateCombiner`).
        min_objectives: The smallest number of objectives that makes sense.
        looks_again: Whether the losses of the batch are computed a second time
            after the update, and given to `after_step()`.
        keeps_rows: Whether it has state for each coordinate of the gradients,
            see `RowCombiner`.
        traits: Frozen set of strings: what holds for every Gramian, up to
            rounding and with the default arguments. The tests hold a combiner
            to the traits that it declares. With `d = sum_k weights_k * g_k`:

            - `"non_conflicting"`: `g_k . d >= 0` for every active objective;
              `"non_conflicting_if_independent"`: if the gradients are linearly
              independent.
            - `"nonnegative"`: no weight is negative. `"convex"`: and their sum
              is 1.
            - `"homogeneous"`: gradients scaled by `c` give `c * d`, at the same
              losses.
            - `"linear_under_scaling"`: `d` is linear in the lengths of the
              gradients. `"scale_invariant"`: it does not depend on them.
            - `"permutation_equivariant"`: `d` does not depend on the order of
              the objectives.
            - `"random"`: weights are drawn in training. `"stateful"`: they
              depend on the steps before, by what the combiner keeps of them.
              `"trainable"`: they are learnt by the optimizer of the model.
        objective_names: List of K strings, set by `build()`.

    Example:

    ```python
    @keras.saving.register_keras_serializable(package="my_package")
    class InverseLossCombiner(keras_mimo.combiners.BalancedGradientCombiner):
        needs = "losses"

        def call(self, losses, gramian=None, active=None, training=True):
            return 1.0 / (losses + 1e-6)
    ```
    """

    needs = "losses"
    min_objectives = 2
    looks_again = False
    keeps_rows = False
    traits: frozenset[str] = frozenset()

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.objective_names = None

    def build(self, objective_names):
        """Creates the combiner's state for the named objectives.

        Args:
            objective_names: List of K distinct strings.

        Raises:
            ValueError: If there are fewer objectives than the combiner needs,
                or if two have the same name.
        """
        names = list(objective_names)
        if len(set(names)) != len(names):
            raise ValueError(
                f"The objectives of {type(self).__name__} must have distinct "
                f"names. Received: objective_names={names}"
            )
        if len(names) < self.min_objectives:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.min_objectives} "
                f"objectives to balance. Received: objective_names={names}"
            )
        self.objective_names = names

    def __call__(self, losses, gramian=None, active=None, training=True):
        """Computes the weights of the objectives.

        Args:
            losses: Tensor of shape `(K,)`.
            gramian: Tensor of shape `(K, K)`, the inner products of the
                objectives' gradients. Required if `needs` is `"gramian"`.
            active: Optional boolean tensor of shape `(K,)`: which objectives
                are present in the batch. Defaults to all of them.
            training: Boolean. State is updated only if `True`.

        Returns:
            Tensor of shape `(K,)`, `float32` or `float64`.

        Raises:
            ValueError: If `gramian` is missing where it is needed, or if a
                shape does not fit the number of objectives.
        """

        def weigh(losses, gramian, active):
            return self._weigh(losses, gramian, active, training)

        if self.also_in_numpy() and not ops.is_numpy():
            given = [losses, gramian, active]
            return gradients.small(weigh, [_tensor(x) for x in given])
        return weigh(losses, gramian, active)

    def also_in_numpy(self):
        """Whether `call()` is written in `solvers.ops` and keeps no state."""
        # Not what a class inherits: a subclass is free to use `keras.ops`.
        return vars(type(self)).get("in_numpy", False)

    def _weigh(self, losses, gramian, active, training):
        losses = _as_float(losses)
        if active is None:
            active = ops.ones_like(losses, dtype="bool")
        if ops.is_numpy() and self._is_usual(losses, gramian, active):
            return self.call(losses, gramian, active, training)
        if gramian is not None:
            gramian = _as_float(gramian)
            losses, gramian = _same_dtype(losses, gramian)
        active = ops.cast(active, "bool")
        self._check_shapes(losses, gramian, active)
        if not self.built:
            self.build([f"objective_{k}" for k in range(losses.shape[0])])

        losses, finite = _finite(losses, active)
        if gramian is not None:
            pairs = active[None, :] & active[:, None]
            gramian, gramian_finite = _finite(gramian, pairs)
            finite = finite & gramian_finite

        if ops.is_numpy():
            weights = self.call(losses, gramian, active, training)
        else:
            keep = finite if training else ops.zeros_like(finite)
            with self._state_changes_if(keep):
                weights = self.call(losses, gramian, active, training)

        uniform = ops.cast(active, weights.dtype)
        usual = finite
        if self.needs == "gramian":
            usual = usual & (ops.sum(uniform) > 1)
        return ops.where(active, ops.where(usual, weights, uniform), 0.0)

    def _is_usual(self, losses, gramian, active):
        """Whether arrays are as `call()` has them, and nothing is absent."""
        count = len(self.objective_names or ())
        total = losses.sum()
        if gramian is not None:
            if gramian.dtype != losses.dtype or gramian.shape != (count, count):
                return False
            total = total + gramian.sum()
        elif self.needs == "gramian":
            return False
        return (
            count > 1
            and losses.shape == active.shape == (count,)
            and active.dtype == "bool"
            and active.all()
            and math.isfinite(total)
        )

    def call(self, losses, gramian=None, active=None, training=True):
        """Computes the weights; implemented by subclasses.

        Args:
            losses: Tensor of shape `(K,)`, 0 where not active.
            gramian: Tensor of shape `(K, K)`, 0 where not active, or `None`.
            active: Boolean tensor of shape `(K,)`.
            training: Boolean.

        Returns:
            Tensor of shape `(K,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `call()`."
        )

    def scalarize(self, losses, weights, active):
        """The scalar that is descended, and logged as `loss`.

        By default `sum_k weights_k * losses_k` for combiners of losses, with no
        gradient through the weights, and the plain sum of the active losses
        for combiners of gradients, which descend no fixed scalar.

        Args:
            losses: Tensor of shape `(K,)`.
            weights: Tensor of shape `(K,)`: what `__call__()` returned.
            active: Boolean tensor of shape `(K,)`.

        Returns:
            Scalar tensor. Its gradient with respect to `losses` must be
            `weights` for combiners of losses.
        """
        losses = ops.where(active, losses, 0.0)
        if self.needs != "losses":
            return ops.sum(losses)
        return ops.sum(ops.stop_gradient(weights) * losses)

    def is_periodic(self):
        """Whether only some steps need the Gramian: those that are `due()`.

        Then `step` is an integer variable that is 0 in these. In the others
        `__call__()` is given no Gramian, and a model does not compute one.
        """
        return False

    def due(self):
        """Boolean scalar tensor: whether the next step needs the Gramian."""
        return ops.equal(ops.convert_to_tensor(self.step), 0)

    def after_step(self, losses, active=None):
        """Shows the combiner what the step did; used if `looks_again`.

        Args:
            losses: Tensor of shape `(K,)`: the losses of the same batch, after
                the update. If one is not finite, nothing happens.
            active: As in `__call__()`.
        """
        losses = _as_float(losses)
        if active is None:
            active = ops.ones_like(losses, dtype="bool")
        active = ops.cast(active, "bool")
        losses, finite = _finite(losses, active)
        with self._state_changes_if(finite):
            self.compare(losses, active)

    def compare(self, losses, active):
        """Updates the state by the losses after the step, by subclasses.

        Args:
            losses: Tensor of shape `(K,)`, 0 where not active.
            active: Boolean tensor of shape `(K,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `compare()`."
        )

    def on_epoch_end(self):
        """Called by `fit()` after the batches of an epoch."""

    def _check_shapes(self, losses, gramian, active):
        count = losses.shape[0] if len(losses.shape) else "K"
        if self.built:
            count = len(self.objective_names)
        if tuple(losses.shape) != (count,):
            raise ValueError(
                f"`losses` must have shape ({count},), one entry per "
                f"objective. Received: losses.shape={tuple(losses.shape)}"
            )
        if tuple(active.shape) != (count,):
            raise ValueError(
                f"`active` must have shape {(count,)}. "
                f"Received: active.shape={tuple(active.shape)}"
            )
        if gramian is None:
            if self.needs == "gramian" and not self.is_periodic():
                raise ValueError(
                    f"{type(self).__name__} needs the argument `gramian`, of "
                    f"shape {(count, count)}. Received: gramian=None"
                )
        elif tuple(gramian.shape) != (count, count):
            raise ValueError(
                f"`gramian` must have shape {(count, count)}. "
                f"Received: gramian.shape={tuple(gramian.shape)}"
            )

    def get_build_config(self):
        if self.objective_names is None:
            return None
        return {"objective_names": self.objective_names}

    def build_from_config(self, config):
        if config:
            self.build(config["objective_names"])


def _tensor(x):
    # Of an array, the weights are those of the tensor that holds it.
    return ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x


def _as_float(x):
    x = ops.convert_to_tensor(x)
    if ops.dtype_name(x.dtype) == "float64":
        return x
    return ops.cast(x, "float32")


def _same_dtype(a, b):
    dtypes = {ops.dtype_name(x.dtype) for x in (a, b)}
    widest = "float64" if "float64" in dtypes else "float32"
    return ops.cast(a, widest), ops.cast(b, widest)


def _finite(x, present):
    """Zeroes what is absent, and everything if anything present is NaN."""
    x = ops.where(present, x, ops.zeros_like(x))
    finite = ops.all(ops.isfinite(x))
    return ops.where(finite, x, ops.zeros_like(x)), finite
