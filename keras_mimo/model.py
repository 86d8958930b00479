import contextlib
import functools
import inspect
import warnings
from collections.abc import Mapping
from types import MappingProxyType

import keras
from keras import tree

from keras_mimo import combiners
from keras_mimo import gradients
from keras_mimo import modulations
from keras_mimo.combiners import ConstantCombiner
from keras_mimo.export import export_model
from keras_mimo.objectives import Objective
from keras_mimo.objectives import Outputs
from keras_mimo.training.compile_config import CompileConfig
from keras_mimo.training.compile_config import for_keras
from keras_mimo.training.compile_config import takes
from keras_mimo.training.compiled import CompiledObjectives
from keras_mimo.training.epoch_end import with_epoch_end
from keras_mimo.training.gradient_scope import GradientScope
from keras_mimo.training.modulated import ModulatedStep
from keras_mimo.training.modulated import score_keepers
from keras_mimo.training.random_state import RandomState
from keras_mimo.training.training_step import TrainingStep
from keras_mimo.utils._keras import Functional
from keras_mimo.utils._keras import functional_init_arguments
from keras_mimo.utils._keras import functional_like_constructor
from keras_mimo.utils.arrays import check_arrays
from keras_mimo.utils.atomic_write import atomic_write
from keras_mimo.utils.structures import in_order_of


@keras.saving.register_keras_serializable(package="keras_mimo")
class BalancedModel(TrainingStep):
    """A `keras.Model` whose objectives are balanced by a combiner.

    Built and used like `keras.Model`, functionally or by subclassing. All that
    is new are six arguments of `compile()`, from `objectives` on. Without them
    it is a `keras.Model`.

    Example:

    ```python
    inputs = keras.Input((16,), name="x")
    shared = keras.layers.Dense(32, activation="relu")(inputs)
    outputs = {
        "depth": keras.layers.Dense(1, name="depth")(shared),
        "label": keras.layers.Dense(5, name="label")(shared),
    }
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        "adam",
        loss={
            "depth": "mse",
            "label": keras.losses.SparseCategoricalCrossentropy(True),
        },
        combiner=keras_mimo.MGDACombiner(),
    )
    ```
    """

    def __new__(cls, *args, **kwargs):
        if cls is BalancedModel and functional_init_arguments(args, kwargs):
            cls = FunctionalBalancedModel
        model = super().__new__(cls, *args, **kwargs)
        # Not tracked, as it has no weights, but found by `save()`.
        object.__setattr__(model, "_random_state", RandomState(model._seeds))
        return model

    # Keras tells by these two names that it takes a graph.
    def __init__(self, *args, **kwargs):
        if functional_init_arguments(args, kwargs):
            _make_functional(type(self))
        super().__init__(*args, **kwargs)

    def default_objectives(self):
        """The objective for `objectives=None`."""
        return Outputs()

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        objectives=None,
        combiner=None,
        balanced_variables=None,
        blocks="all",
        gradients_at=None,
        modulation=None,
        gradient_parts=1,
        vectorized_gradients=False,
    ):
        """Configures the model for training.

        Args:
            optimizer: As in `keras.Model.compile()`, like all arguments up to
                `auto_scale_loss`.
            loss: As in Keras. With a combiner, each loss is an objective,
                several losses on one output among them.
            loss_weights: As in Keras. An objective is the weighted loss.
            metrics: As in Keras.
            weighted_metrics: As in Keras.
            run_eagerly: As in Keras.
            steps_per_execution: As in Keras.
            jit_compile: As in Keras.
            auto_scale_loss: As in Keras.
            objectives: What is balanced, a `keras_mimo.objectives.Objective`,
                of this model only (`copy()` makes one for another model).
                Defaults to `default_objectives()`: `Outputs()`, one objective
                per compiled loss, for this class.
            combiner: How it is balanced: a `BalancedGradientCombiner`, or the
                name of one (see `keras_mimo.combiners.get()`). Defaults to
                `None`: plain Keras.
            balanced_variables: Variables over which the Gramian of a combiner
                that needs gradients is taken: a list of variables, of their
                paths or of their indices in `weights`, or a function of a
                variable that returns a boolean, or `"backbone"`: all but the
                last layer before each output of a functional model. Every
                trainable variable is updated with the same weights, whether it
                is in the list or not. Defaults to all trainable variables.
            blocks: For each of which blocks of variables the combiner is
                solved, and gives weights of its own: `"all"` (one block),
                `"layer"`, `"variable"`, a dict from the names of blocks to
                lists of variables (or of their paths or indices), or a function
                of a variable that returns the name of its block. In a block,
                the objectives that do not depend on it take no part. Variables
                that are left out, or for which the function returns `None`, are
                updated by the plain sum of the objectives. Defaults to `"all"`.
            gradients_at: Name of a layer on whose output all objectives depend.
                A combiner of gradients then compares the gradients with respect
                to that output: K short backward passes and one long one.
                Defaults to `None`: with respect to variables.
            modulation: One factor for the encoder of each modality, beside any
                combiner: a `keras_mimo.modulations.Modulation`, or the name of
                one (see `keras_mimo.modulations.get()`). Defaults to `None`.
            gradient_parts: Integer, into how many parts of the variables, about
                as large, a combiner of gradients divides what it compares. With
                more than one, the gradients of all objectives are in memory of
                one part at a time: a pass back to each part for each objective,
                and one more for the weighted sum. It saves nothing on
                TensorFlow on a CPU. Defaults to 1.
            vectorized_gradients: Boolean, whether the gradients of all
                objectives are taken in one vectorised pass, which has the
                memory of K passes, and not in K passes, one after another. For
                small steps on a GPU of PyTorch. Every layer must have a
                vectorised gradient. Defaults to `False`.

        Raises:
            TypeError: If `combiner`, `modulation` or `objectives` is of the
                wrong type.
            ValueError: If the backend can't train, or if an argument does not
                fit the others.
        """
        optimizer = keras.optimizers.get(optimizer)
        combiner = combiners.get(combiner)
        modulation = modulations.get(modulation)
        arguments = dict(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
            objectives=objectives,
            combiner=combiner,
            balanced_variables=balanced_variables,
            blocks=blocks,
            gradients_at=gradients_at,
            modulation=modulation,
            gradient_parts=gradient_parts,
            vectorized_gradients=vectorized_gradients,
        )
        _check_type("objectives", objectives, Objective)
        scope = GradientScope(
            self,
            balanced_variables,
            blocks,
            gradients_at,
            gradient_parts,
            vectorized_gradients,
        )
        if gradients_at is not None:
            _check_weights_are_needed("gradients_at", gradients_at, combiner)
            _check_no_rows_are_kept("gradients_at", gradients_at, combiner)
        if gradient_parts > 1:
            _check_no_rows_are_kept("gradient_parts", gradient_parts, combiner)
        if scope.blockwise:
            _check_weights_are_needed("blocks", blocks, combiner)
        objective = objectives or self.default_objectives()
        if combiner is None and objective.default_weights() is not None:
            combiner = ConstantCombiner(objective.default_weights())
        modulated = None
        asked = combiner is not None and score_keepers(self)
        if modulation is not None or asked:
            modulated = ModulatedStep(self, modulation, objective, loss)
        output_names = self._known_output_names()
        if combiner is not None:
            gradients.engine()
            objective.bind(self)
            objective.compile(loss, loss_weights, output_names)
            if output_names is not None:
                metrics = objective.expand_metrics(metrics, output_names)
                weighted_metrics = objective.expand_metrics(
                    weighted_metrics, output_names
                )
        if self._balanced is not None:
            # Without a new loss Keras keeps the one that it had.
            self._compile_loss = None
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        # Not tracked: the combiner's state is no weight of the model.
        object.__setattr__(self, "_compile_arguments", arguments)
        object.__setattr__(self, "_gradient_scope", scope)
        object.__setattr__(self, "_modulated", modulated)
        self._replicas_agree = False
        if combiner is not None:
            self._compile_loss = CompiledObjectives(
                objective, combiner, scope.block_variables
            )

    def get_compile_config(self):
        if not self.compiled:
            return {}
        arguments = {**self._compile_arguments, **self._gradient_scope.saved()}
        arguments["loss_weights"] = tree.map_structure(
            lambda w: w.numpy().item() if _is_variable(w) else w,
            arguments["loss_weights"],
        )
        config = keras.saving.serialize_keras_object(arguments)
        if not self._clones_are_plain():
            return config
        if self._balanced is None and arguments["objectives"] is None:
            return for_keras(config)
        if self._reads_compile_config():
            return config
        return keras.saving.serialize_keras_object(CompileConfig(config))

    def compile_from_config(self, config):
        config = CompileConfig.unwrap(config)
        if not takes(self.compile, config, BalancedModel.compile):
            warnings.warn(
                "The model was loaded without being compiled, as its class has "
                "a `compile()` with arguments of its own: call it, or override "
                "`get_compile_config()` and `compile_from_config()`.",
                stacklevel=2,
            )
            return
        arguments = keras.saving.deserialize_keras_object(config)
        for name in ("balanced_variables", "blocks"):
            # `save()` writes which variables they chose, never a function.
            if callable(arguments.get(name)):
                raise ValueError(
                    f"`{name}` of a saved model must be no function, which "
                    f"loading would call. Received: {arguments[name]}"
                )
        self.compile(**arguments)
        if self.built and self.combiner is not None and self.combiner.built:
            # Before weights are loaded, those of every block's combiner.
            self._balanced.build_combiners(self.combiner.objective_names)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _clones_are_plain(self):
        """Whether `keras.models.clone_model()` forgets the model's class."""
        cls = type(self)
        return issubclass(cls, Functional) and not (
            functional_like_constructor(cls)
        )

    def _reads_compile_config(self):
        """Whether the user's own methods expect what Keras gives: a dict."""
        cls = type(self)
        return (
            cls.get_compile_config is not BalancedModel.get_compile_config
            or cls.compile_from_config is not BalancedModel.compile_from_config
        )

    @functools.wraps(keras.Model.save)
    def save(self, filepath, overwrite=True, *args, **kwargs):
        if self._balanced is not None and _is_hdf5(filepath):
            warnings.warn(
                "An HDF5 file holds no combiner and no objectives: the model "
                "that is loaded from it is compiled without. Save it as a "
                "`.keras` file. "
                f"Received: filepath={filepath}, combiner={self.combiner}",
                stacklevel=2,
            )
        with atomic_write(filepath, overwrite) as path:
            super().save(path, overwrite, *args, **kwargs)

    @functools.wraps(keras.Model.save_weights)
    def save_weights(self, filepath, overwrite=True, max_shard_size=None):
        one_file = max_shard_size is None
        with atomic_write(filepath, overwrite and one_file) as path:
            super().save_weights(path, overwrite, max_shard_size)

    @functools.wraps(keras.Model.export)
    def export(self, filepath, *args, **kwargs):
        export_model(self, filepath, *args, **kwargs)

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        if self._balanced is None:
            return super().fit(*args, **kwargs)
        self._replicas_agree = False
        given = inspect.signature(super().fit).bind(*args, **kwargs)
        for argument in ("x", "y", "sample_weight"):
            check_arrays(argument, given.arguments.get(argument))
        self._check_labels(given.arguments.get("y"))
        validation = given.arguments.get("validation_data")
        if isinstance(validation, tuple) and len(validation) > 1:
            self._check_labels(validation[1])
        callbacks = given.arguments.get("callbacks")
        given.arguments["callbacks"] = with_epoch_end(callbacks, self)
        outer = self._given_to_fit
        # Not tracked: it holds no layers, and is gone after the call.
        object.__setattr__(self, "_given_to_fit", given.arguments)
        try:
            return super().fit(*given.args, **given.kwargs)
        finally:
            # A callback may call `fit()` in `fit()`.
            object.__delattr__(self, "_given_to_fit")
            if outer:
                object.__setattr__(self, "_given_to_fit", outer)

    @functools.wraps(keras.Model.train_on_batch)
    def train_on_batch(self, x, y=None, *args, **kwargs):
        with self._checked_labels(y):
            return super().train_on_batch(x, y, *args, **kwargs)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, x=None, y=None, *args, **kwargs):
        with self._evaluation(), self._checked_labels(y):
            return super().evaluate(x, y, *args, **kwargs)

    @functools.wraps(keras.Model.test_on_batch)
    def test_on_batch(self, x, y=None, *args, **kwargs):
        with self._evaluation(), self._checked_labels(y):
            return super().test_on_batch(x, y, *args, **kwargs)

    @property
    def metrics(self):
        metrics = super().metrics
        if self._balanced is not None and not self._evaluates:
            metrics = metrics + self._balanced.training_metrics
            if self._modulated is not None:
                metrics = metrics + self._modulated.metrics
        return metrics

    @property
    def variables(self):
        variables = super().variables
        if self._balanced is None:
            return variables
        for keeper in self._state_keepers:
            if keeper is not None:
                variables = variables + keeper.variables
        return variables

    @property
    def trainable_weights(self):
        weights = super().trainable_weights
        if self.combiner is None or not self.trainable:
            return weights
        return weights + self.combiner.trainable_weights

    @property
    def trainable_variables(self):
        # Not what the combiner of a model inside of this one has learnt.
        return self.trainable_weights

    @property
    def _combiners(self):
        """The combiner of each block, found here by `save()` for its state."""
        return [] if self._balanced is None else self._balanced.combiners

    @property
    def _objective_state(self):
        """The layer in which the objective keeps its state, or `None`."""
        return self._balanced and self._balanced.objective.state

    @property
    def _modulation_state(self):
        """The modulation, found here by `save()` for its state, or `None`."""
        return self.modulation

    def _seeds(self):
        """The states of the random number generators of the layers."""
        return [
            v for v in super().variables if v.name == "seed_generator_state"
        ]

    # The arguments of `fit()`, while it is running.
    _given_to_fit: Mapping = MappingProxyType({})

    # Weights and conflict exist in training only; evaluation leaves them alone.
    _evaluates = False

    @contextlib.contextmanager
    def _evaluation(self):
        before, self._evaluates = self._evaluates, True
        try:
            yield
        finally:
            self._evaluates = before

    @contextlib.contextmanager
    def _checked_labels(self, y):
        """Labels are checked before, where they are arrays, and after."""
        if self._balanced is None:
            yield
            return
        self._check_labels(y)
        yield
        self.objectives.check_batches()


@keras.saving.register_keras_serializable(package="keras_mimo")
class FunctionalBalancedModel(BalancedModel, Functional):
    """What `BalancedModel(inputs, outputs)` makes."""

    def call(self, inputs, training=None, mask=None, **kwargs):
        # On PyTorch, Keras matches what is in nested dicts by its place.
        inputs = in_order_of(self.input, inputs)
        return super().call(inputs, training=training, mask=mask, **kwargs)


def _is_variable(value):
    return isinstance(value, keras.Variable)


def _is_hdf5(filepath):
    return str(filepath).endswith((".h5", ".hdf5"))


def _make_functional(cls):
    """Puts `FunctionalBalancedModel` above a class, and above no other.

    Left to itself Keras would put `Functional` above `BalancedModel`, after
    which no other model could subclass it.
    """
    if issubclass(cls, Functional):
        return
    bases = list(cls.__bases__)
    position = max(
        i for i, base in enumerate(bases) if issubclass(base, BalancedModel)
    )
    if bases[position] is BalancedModel:
        bases[position] = FunctionalBalancedModel
    else:
        bases.insert(position + 1, FunctionalBalancedModel)
    cls.__bases__ = tuple(bases)


def _check_weights_are_needed(argument, value, combiner):
    if combiner is not None and combiner.needs == "gradients":
        raise ValueError(
            f"`{argument}` needs a combiner that gives weights to the "
            f"objectives. Received: {argument}={value!r}, combiner={combiner}"
        )


def _check_no_rows_are_kept(argument, value, combiner):
    if combiner is not None and combiner.keeps_rows:
        raise ValueError(
            f"`{argument}` is for combiners that need the gradients of a step "
            "only as long as they compare them, and this one keeps them. "
            f"Received: {argument}={value!r}, combiner={combiner}"
        )


def _check_type(argument, value, expected):
    if value is not None and not isinstance(value, expected):
        raise TypeError(
            f"`{argument}` must be an instance of `{expected.__name__}`. "
            f"Received: {argument}={value} of type {type(value)}"
        )
