import gc
import weakref

from keras.saving import register_keras_serializable


@register_keras_serializable(package="keras_mimo")
class Objective:
    """Base class: what is balanced.

    An `Objective` turns a batch's labels and predictions into K named scalar
    losses. `BalancedModel.compile()` hands it the user's `loss` and
    `loss_weights`; the first call builds it, after which `names` is known. Like
    an optimizer it is then that model's own: to compile another model with it
    is an error, unless the first one is gone or was compiled with another.
    `copy()` makes one for it.

    Attributes:
        names: List of K strings, one per objective; `None` before the first
            call.
        across_replicas: Whether the losses of replicas that share a batch,
            each reduced as a `keras.losses.Loss` reduces it there, are together
            those of the batch. Without, several replicas can't train.
        many: Whether objectives are so many, and so alike, that the weight of
            each is not logged, and that their gradients at a few variables are
            taken in one vectorised pass.
        metrics: List of `keras.metrics.Metric` that the objective itself keeps
            up to date, each named `<objective>_loss`.
    """

    across_replicas = False
    many = False
    _bound_to = None

    def __init__(self):
        self.names = None
        self.metrics = []

    def bind(self, model):
        """Makes it the objective of a model that is being compiled, unbuilt.

        Raises:
            ValueError: If it is the objective of another model.
        """
        if self._is_taken(model):
            # Python may not have noticed yet that nobody has the other one.
            gc.collect()
        if self._is_taken(model):
            raise ValueError(
                "`objectives` must not be those of another model: pass "
                f"`objectives.copy()`. Received: objectives={self}, with which "
                f"the model {self._bound_to().name!r} is compiled"
            )
        self._bound_to = weakref.ref(model)
        self.names = None
        self.metrics = []

    def _is_taken(self, model):
        other = self._bound_to and self._bound_to()
        if other is None or other is model:
            return False
        return other.objectives is self

    def compile(self, loss, loss_weights, output_names):
        """Receives what the user gave to `model.compile()`, each time.

        Args:
            loss: The `loss` argument.
            loss_weights: The `loss_weights` argument.
            output_names: List of the model's output names, or `None` for a
                subclassed model.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `compile()`."
        )

    def __call__(self, y, y_pred, sample_weight=None):
        """Computes the losses of a batch.

        Args:
            y: Labels, as given to `fit()`.
            y_pred: What the model returned.
            sample_weight: Sample weights, as given to `fit()`.

        Returns:
            Tuple `(losses, active)`: a list of K scalar tensors (a list, so
            that each gradient walks its own part of the model only), and a
            boolean tensor of shape `(K,)`, true where the batch holds data for
            that objective.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `__call__()`."
        )

    @property
    def state(self):
        """A `keras.Layer` with what the objective keeps, or `None`.

        Its variables are no weights of the model, but are saved with it.
        """
        return None

    def check_labels(self, y, model):
        """Raises `ValueError` for labels, in arrays, that can't be right."""

    def check_batches(self):
        """Raises `ValueError` for labels, in batches since the last call.

        Called after each epoch of `fit()`, and whenever Keras is done with
        other batches.
        """

    def targets(self, y, y_pred):
        """The labels in the structure of `y_pred`, as metrics expect them."""
        return y

    def expand_metrics(self, metrics, output_names):
        """The `metrics` argument in the form that Keras expects."""
        return metrics

    def default_weights(self):
        """Objective weights for `combiner=None`; `None` means plain Keras."""
        return None

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def copy(self):
        """A fresh, unbuilt objective with the same configuration."""
        return type(self).from_config(self.get_config())
