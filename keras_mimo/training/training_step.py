import functools

import keras
from keras import ops
from keras import tree

from keras_mimo import gradients
from keras_mimo.training.compiled import CompiledObjectives
from keras_mimo.training.gradient_update import GradientUpdate
from keras_mimo.training.replicas import check_objective
from keras_mimo.utils._keras import CompileMetrics
from keras_mimo.utils._keras import unscale_loss_for_distribution


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
        _, losses, active, additional = self._objective_losses(
            y, y_pred, sample_weight
        )
        scalar = self._balanced.scalar(losses, active, training)
        return sum(additional, scalar)

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
            if self.combiner.needs == "gradients" or self._gradient_scope.given:
                step = engine.with_reach(step)
            return step(self, *args)
        engine.clear_gradients(self.combiner.trainable_variables)
        if self.combiner.looks_again:
            return engine.look_again(self, super().train_step, *args)
        return super().train_step(*args)

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
    def _balanced(self):
        compiled = getattr(self, "_compile_loss", None)
        return compiled if isinstance(compiled, CompiledObjectives) else None

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # TensorFlow would wait for a batch, too late for a callback that loads
        # the combiner's state when training begins.
        if self._balanced is None or not self.built:
            super()._maybe_symbolic_build(iterator, data_batch)
        else:
            gradients.engine().symbolic_build(self, iterator, data_batch)

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

    def _objective_losses(self, y, y_pred, sample_weight):
        """As `CompiledObjectives.losses()`, and the losses of layers."""
        losses = self._balanced.losses(y, y_pred, sample_weight)
        additional = [self._aggregate_additional_loss(x) for x in self.losses]
        return *losses, additional

    def _logged_loss(self, losses, active, additional):
        return sum(additional, self._balanced.scalar(losses, active, True))

    def _losses_again(self, x, y, sample_weight):
        """The losses of a batch by another forward pass, in training mode."""
        y_pred = self(x, **self._training_argument())
        _, losses, active = self._balanced.losses(y, y_pred, sample_weight)
        return losses, active

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

    def _combine_gradients(self, pullback, losses, active, scale):
        scope = self._gradient_scope
        blocks, others = scope.variables()
        update = GradientUpdate(
            balanced=self._balanced,
            pullback=pullback,
            losses=losses,
            active=active,
            scale=scale,
            blocks=blocks,
            others=others,
            blockwise=scope.blockwise,
            gradients_at=scope.gradients_at,
        )
        return update()
