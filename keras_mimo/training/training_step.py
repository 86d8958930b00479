import functools
import warnings
from typing import Any
from typing import NamedTuple

import keras
from keras import ops
from keras import tree

from keras_mimo import gradients
from keras_mimo.training.balanced_variables import overwritten_variables
from keras_mimo.training.compiled import CompiledObjectives
from keras_mimo.training.gradient_update import GradientUpdate
from keras_mimo.training.overridden_loss import OverriddenLoss
from keras_mimo.training.overridden_loss import call_in_progress
from keras_mimo.training.overridden_loss import refusal
from keras_mimo.training.replicas import check_objective
from keras_mimo.utils._keras import CompileMetrics
from keras_mimo.utils._keras import unscale_loss_for_distribution


class StepLosses(NamedTuple):
    """What a step of a combiner of gradients differentiates, and logs.

    Args:
        own: List of K scalars, the losses that gradients are taken of.
        whole: Tensor of shape `(K,)`, the losses of the whole batch.
        active: Boolean tensor of shape `(K,)`.
        additional: Scalar whose gradient is added to that of the objectives.
        total: Scalar that is logged as `loss`.
    """

    own: list
    whole: Any
    active: Any
    additional: Any
    total: Any


class TrainingStep(keras.Model):
    """What a `BalancedModel` computes in a step, and tells gradient engines.

    It reads what `BalancedModel.compile()` leaves on the model.
    """

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if self._balanced is None:
            return super().compute_loss(
                x, y, y_pred, sample_weight, training=training
            )
        additional = self._additional_losses()
        watched = self._watched(x, y, y_pred) if training else y_pred
        losses = self._balanced.losses(y, watched, sample_weight)
        scalar = self._balanced.scalar(*losses[1:], training)
        override = call_in_progress(self)
        if override is not None:
            scalar = override.answer(y_pred, losses, scalar)
        elif training and self._leaves_combiner_out():
            warnings.warn(
                "`compute_loss()` returns the plain sum of the objectives: a "
                "training step of your own that descends it makes no use of "
                "the combiner. Use a combiner of losses there. "
                f"Received: combiner={self.combiner}",
                stacklevel=2,
            )
        return sum(additional, scalar)

    def _watched(self, x, y, y_pred):
        """The outputs of a batch in training, seen by the modulation."""
        if self._modulated is None:
            return y_pred
        return self._modulated.watch(x, y, y_pred)

    def _leaves_combiner_out(self):
        """Whether a training step of the user's own takes gradients itself."""
        own = type(self).train_step is not TrainingStep.train_step
        asks = self.combiner.needs != "losses" and bool(self.trainable_weights)
        return own and asks and not self._in_symbolic_build

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if self._balanced is not None:
            y = self.objectives.targets(y, y_pred)
            self._expand_late_metrics(y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, *args):
        if self._balanced is None:
            return super().train_step(*args)
        engine = gradients.engine()
        step = engine.on_replicas(self, self._balanced_step)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            step = engine.undo_skipped(self, step)
        return step(*args)

    def _balanced_step(self, *args):
        check_objective(self.objectives)
        engine = gradients.engine()
        if not self.trainable_weights:
            return super().train_step(*args)
        if self.combiner.needs != "losses":
            step = engine.train_step
            scope = self._gradient_scope
            given = scope.given or scope.vectorized or self._overrides_loss
            if self.combiner.needs == "gradients" or given:
                step = engine.with_reach(step)
            return step(self, *args)
        step = engine.losses_step(self, super().train_step)
        if self.combiner.looks_again:
            return engine.look_again(self, step, *args)
        return step(*args)

    def make_train_function(self, force=False):
        make = functools.partial(super().make_train_function, force=force)
        made = self.train_function is not None and not force
        if made or self._balanced is None or not self.combiner.is_periodic():
            make()
        else:
            gradients.engine().make_train_function(self, make)

    @property
    def combiner(self):
        """The combiner that the model was compiled with, or `None`."""
        return self._balanced and self._balanced.combiner

    @property
    def objectives(self):
        """The objective that the model was compiled with, or `None`."""
        return self._balanced and self._balanced.objective

    @property
    def modulation(self):
        """The modulation that the model was compiled with, or `None`."""
        return self._modulated and self._modulated.modulation

    # What `compile()` leaves here where there is a modulation.
    _modulated = None

    @property
    def _balanced(self):
        compiled = getattr(self, "_compile_loss", None)
        return compiled if isinstance(compiled, CompiledObjectives) else None

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        build = super()._maybe_symbolic_build
        # TensorFlow would wait for a batch, too late for a callback that loads
        # the combiner's state when training begins.
        if self._balanced is not None and self.built:
            build = functools.partial(gradients.engine().symbolic_build, self)
        self._in_symbolic_build = True
        try:
            build(iterator, data_batch)
        finally:
            self._in_symbolic_build = False

    # Whether Keras looks at the shapes of a step, and trains nothing.
    _in_symbolic_build = False

    def _initialize_ddp(self):
        # Keras 3.16 calls it, on PyTorch, to average gradients between
        # processes: a step with a combiner does that itself.
        if self._balanced is None:
            super()._initialize_ddp()

    def _known_output_names(self):
        """Output names of a functional model; `None` before others run."""
        names = getattr(self, "output_names", None)
        if names is not None and isinstance(self.output, dict):
            return list(self.output)
        return names

    @property
    def _state_keepers(self):
        """What has variables that are no weights of the model, or `None`."""
        return [*self._combiners, self._objective_state, self.modulation]

    # Whether the processes of PyTorch start from the same weights.
    _replicas_agree = False

    def _expand_late_metrics(self, y_pred):
        """Expands the metrics of a subclassed model, once its outputs show."""
        compiled = self._compile_metrics
        if compiled is None or compiled.built:
            return
        if self._known_output_names() or not isinstance(y_pred, dict):
            return
        given = [
            self._compile_arguments["metrics"],
            self._compile_arguments["weighted_metrics"],
        ]
        names = sorted(y_pred)
        expanded = [self.objectives.expand_metrics(m, names) for m in given]
        if expanded != given:
            compiled = CompileMetrics(*expanded, output_names=names)
            object.__setattr__(self, "_compile_metrics", compiled)

    # What the gradient engines need to know of a model.

    def _training_argument(self):
        return {"training": True} if self._call_has_training_arg else {}

    @property
    def _overrides_loss(self):
        """Whether `compute_loss()` is the user's own."""
        own = getattr(self.compute_loss, "__func__", None)
        return own is not TrainingStep.compute_loss

    def _check_labels(self, y):
        # What an override makes of labels only it knows.
        if not self._overrides_loss:
            self.objectives.check_labels(y, self)

    def _additional_losses(self):
        return [self._aggregate_additional_loss(loss) for loss in self.losses]

    def _step_losses(self, x, y, y_pred, sample_weight, probe):
        """The losses of a step of a combiner of gradients.

        Args:
            x: Inputs.
            y: Labels.
            y_pred: What the model returned.
            sample_weight: Sample weights.
            probe: Scalar 0, used if `compute_loss()` is overridden: how the
                total depends on it tells how it depends on the objectives.

        Returns:
            `StepLosses`.
        """
        if self._overrides_loss:
            override = OverriddenLoss(self, probe)
            total = override(x, y, y_pred, sample_weight)
            return StepLosses(*override.objective_losses(y_pred), total, total)
        zero = ops.zeros((), dtype="float32")
        additional = sum(self._additional_losses(), zero)
        y_pred = self._watched(x, y, y_pred)
        losses = self._balanced.losses(y, y_pred, sample_weight)
        total = additional + self._balanced.scalar(*losses[1:], True)
        return StepLosses(*losses, additional, total)

    def outputs_of(self, x):
        """What the model returns for other inputs in a training step.

        Layers keep no statistics of them.
        """
        variables = self.non_trainable_weights
        # Copies: PyTorch assigns in place.
        before = [ops.copy(variable) for variable in variables]
        outputs = self(x, **self._training_argument())
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return outputs

    def _losses_again(self, x, y, sample_weight):
        """The losses of a batch by another forward pass, in training mode.

        Returns:
            What `CompiledObjectives.losses()` returns, without the first, or
            `None` if an overridden `compute_loss()` does not ask for them.
        """
        y_pred = self(x, **self._training_argument())
        if not self._overrides_loss:
            return self._balanced.losses(y, y_pred, sample_weight)[1:]
        override = OverriddenLoss(self)
        override(x, y, y_pred, sample_weight)
        if not override.asked:
            return None
        _, losses = override.asked[-1]
        return losses[1:]

    @property
    def _rows_at_once(self):
        """Whether the gradients of all objectives are taken in one pass.

        Unasked where they are many, of a few variables: it takes the memory of
        K passes.
        """
        scope = self._gradient_scope
        many = self.objectives.many and scope.balances_a_part
        return many or scope.vectorized

    def _tapped_layer(self):
        """The layer at whose output gradients are taken, or `None`."""
        scope = self._gradient_scope
        return None if scope.gradients_at is None else scope.layer()

    def _track_loss(self, loss, x):
        first = next(leaf for leaf in tree.flatten(x) if leaf is not None)
        self._loss_tracker.update_state(
            unscale_loss_for_distribution(loss),
            sample_weight=ops.shape(first)[0],
        )

    def _combine_gradients(self, pullback, losses, active, scale, factor):
        if self._overrides_loss and factor is None:
            raise refusal(self, "whose value does not depend on it")
        scope = self._gradient_scope
        blocks, others = scope.variables()
        update = GradientUpdate(
            balanced=self._balanced,
            pullback=pullback,
            losses=losses,
            active=active,
            scale=scale,
            factor=factor,
            blocks=blocks,
            others=others,
            parts=scope.parts(),
            overwritten=overwritten_variables(self),
            blockwise=scope.blockwise,
            gradients_at=scope.gradients_at,
        )
        return update()
