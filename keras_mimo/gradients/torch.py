import keras
import torch

from keras_mimo.gradients.rewind import Rewind
from keras_mimo.gradients.taps import recorded

# A compiled forward pass may otherwise free what the second pullback reads.
torch._functorch.config.donated_buffer = False


def replicas():
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def clear_gradients(variables):
    """Forgets the gradients of variables that are no weights of a module."""
    for variable in variables:
        variable.value.grad = None


def branch(predicate, function, other, state):
    """As `traced_branch()`; here Python can tell which function to call."""
    return function() if predicate else other()


def make_train_function(model, make):
    """Makes Keras' train function: a branch costs nothing here."""
    make()


def with_reach(train_step):
    """A step that is not compiled, even if the model is.

    A compiled function has gradients of zeros, and not `None`, for what its
    outputs do not depend on. Its compiler takes no notice of a tapped layer.
    """
    return torch.compiler.disable(train_step)


def gramian(matrix):
    # A user may have allowed TF32 in a GPU's matrix products.
    if matrix.is_cuda and torch.backends.cuda.matmul.allow_tf32:
        return torch.stack([(matrix * row).sum(dim=1) for row in matrix])
    return matrix @ matrix.T


class Pullback:
    """Gradients of the outputs of one forward pass, one row at a time."""

    def __init__(self, outputs, variables, taps):
        self._outputs = outputs
        self._values = [variable.value for variable in variables]
        self._taps = taps
        self.num_objectives = len(outputs) - 1

    def row(self, k, indices):
        return self._gradients([self._outputs[k]], None, self._at(indices))

    def weighted(self, weights, indices):
        outputs = self._outputs[:-1]
        weights = [
            weight.to(output.dtype)
            for weight, output in zip(weights, outputs, strict=True)
        ]
        return self._gradients(outputs, weights, self._at(indices))

    def at_taps(self, k):
        return self._gradients([self._outputs[k]], None, self._taps)

    def _at(self, indices):
        return [self._values[index] for index in indices]

    def _gradients(self, outputs, cotangents, sources):
        if cotangents is None:
            cotangents = [None] * len(outputs)
        pairs = [
            pair
            for pair in zip(outputs, cotangents, strict=True)
            if pair[0].requires_grad
        ]
        if not pairs:
            return [None] * len(sources)
        return torch.autograd.grad(
            [output for output, _ in pairs],
            sources,
            grad_outputs=[cotangent for _, cotangent in pairs],
            retain_graph=True,
            allow_unused=True,
        )


def train_step(model, data):
    """One step of a combiner of gradients, in the terms of Keras' trainer."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    taps = []
    with recorded(model._tapped_layer(), taps):
        y_pred = model(x, **model._training_argument())
    variables = model.trainable_weights
    losses, active, additional = model._objective_losses(
        y, y_pred, sample_weight
    )
    model._track_loss(model._logged_loss(losses, active, additional), x)
    scale = model.optimizer.scale_loss(torch.ones((), device=losses[0].device))
    outputs = [scale * loss for loss in [*losses, sum(additional, 0.0 * scale)]]
    gradients = model._combine_gradients(
        Pullback(outputs, variables, taps), gramian, losses, active, scale
    )
    with torch.no_grad():
        model.optimizer.apply(gradients, variables)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def look_again(model, train_step, data):
    """A step, and the losses of the same forward pass after it."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    rewind = Rewind(model)
    # Dropout without a seed draws from PyTorch itself.
    random_states = _random_states()
    logs = train_step(data)
    with rewind, torch.random.fork_rng(), torch.no_grad():
        torch.set_rng_state(random_states[0])
        torch.cuda.set_rng_state_all(random_states[1])
        losses, active = model._losses_again(x, y, sample_weight)
    model.combiner.after_step(torch.stack(losses), active)
    return logs


def loss_gradient(model, per_sample_loss, variables):
    """The gradient of a weighted sum of losses, in inference mode.

    Args:
        model: A built model.
        per_sample_loss: Function of `y` and the model's outputs that returns
            the loss of every sample.
        variables: List of trainable variables of the model.

    Returns:
        Function of `x`, `y` and the samples' weights that returns one gradient
        per variable, zeros where there is none.
    """

    def gradient(x, y, weights):
        values = [variable.value for variable in variables]
        with torch.enable_grad():
            losses = per_sample_loss(y, model(x, training=False))
            total = torch.sum(losses * keras.ops.convert_to_tensor(weights))
        if not total.requires_grad:
            return [torch.zeros_like(value) for value in values]
        return torch.autograd.grad(
            total, values, allow_unused=True, materialize_grads=True
        )

    return gradient


def _random_states():
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), on_gpu
