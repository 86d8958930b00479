import contextlib
import contextvars
import functools

import keras
import numpy as np
import torch
from torch import distributed

from keras_mimo.gradients import metrics
from keras_mimo.gradients import modulated
from keras_mimo.gradients import skipped
from keras_mimo.gradients.flat import FlatRows
from keras_mimo.gradients.taps import recorded
from keras_mimo.gradients.torch_reach import reached
from keras_mimo.gradients.torch_rows import TorchRows
from keras_mimo.solvers.ops import in_numpy
from keras_mimo.utils._keras import in_stateless_scope

# Those that inner products are computed in.
FLAT_TYPES = (torch.float32, torch.float64)
# Those that NumPy has, and the size up to which calls cost more than numbers.
NUMPY_TYPES = {*FLAT_TYPES, torch.bool, torch.int32, torch.int64}
SMALL = 2**14

# A compiled forward pass may otherwise free what the second pullback reads.
torch._functorch.config.donated_buffer = False


# Only in a training step: processes may evaluate what they like.
_in_step = contextvars.ContextVar("in_step", default=False)


def replicas():
    return _processes() if _in_step.get() else 1


def _processes():
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def whole(tensors):
    """From the parts that replicas have to the whole, which is their mean."""
    if replicas() == 1:
        return tensors
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= replicas()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [p.view(t.shape) for p, t in zip(parts, tensors, strict=True)]


def part_of_sum(loss):
    """A replica's part of a loss that is a sum over samples."""
    return loss * replicas()


def on_replicas(model, step):
    """A training step of one of several processes, or the step itself."""
    if _processes() == 1:
        return step
    if getattr(model, "ddp_model", None) is not None:
        raise ValueError(
            "A combiner averages the gradients of several processes itself, "
            "and can't where Keras already does. Received: a model that Keras "
            "has wrapped in `torch.nn.parallel.DistributedDataParallel`"
        )

    @torch.compiler.disable
    def replica_step(*args):
        token = _in_step.set(True)
        try:
            if not model._replicas_agree:
                _copy_from_first(model)
                model._replicas_agree = True
            with _averaged_gradients(model.optimizer), _averaged_state(model):
                return step(*args)
        finally:
            _in_step.reset(token)

    return replica_step


def agree(model):
    """Gives all processes that share a training the state of the first."""
    if _processes() > 1:
        _copy_from_first(model)


def _copy_from_first(model):
    """Gives all processes what the first one has."""
    keepers = [*model._state_keepers, model.optimizer]
    variables = list(model.weights)
    for keeper in keepers:
        variables.extend(keeper.variables if keeper is not None else [])
    for variable in variables:
        distributed.broadcast(variable.value.detach(), 0)


@contextlib.contextmanager
def _averaged_gradients(optimizer):
    """Has the optimizer apply the means of gradients over the processes."""
    apply = optimizer.apply

    def averaged_apply(gradients, variables):
        # Also those that are missing here: all processes send the same.
        values = [variable.value for variable in variables]
        filled = [
            torch.zeros_like(value) if gradient is None else gradient
            for gradient, value in zip(gradients, values, strict=True)
        ]
        there = [float(gradient is not None) for gradient in gradients]
        *means, there = _by_dtype([*filled, filled[0].new_tensor(there)])
        means = [
            mean if anywhere else None
            for mean, anywhere in zip(means, there.tolist(), strict=True)
        ]
        return apply(means, variables)

    # Not through Keras, which would track it.
    object.__setattr__(optimizer, "apply", averaged_apply)
    try:
        yield
    finally:
        object.__delattr__(optimizer, "apply")


@contextlib.contextmanager
def _averaged_state(model):
    """Averages what a step has moved and no gradient has, as statistics."""
    values = [variable.value for variable in model.non_trainable_weights]
    before = [value._version for value in values]
    yield
    moved = [
        value
        for value, version in zip(values, before, strict=True)
        if value._version != version and value.is_floating_point()
    ]
    with torch.no_grad():
        for value, mean in zip(moved, _by_dtype(moved), strict=True):
            value.copy_(mean)


def _by_dtype(tensors):
    """`whole()` for tensors of several types, in one message for each."""
    dtypes = dict.fromkeys(tensor.dtype for tensor in tensors)
    means = {
        dtype: iter(whole([t for t in tensors if t.dtype == dtype]))
        for dtype in dtypes
    }
    return [next(means[tensor.dtype]) for tensor in tensors]


undo_skipped = skipped.undo_skipped


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


def small(function, tensors):
    """As `gradients.small()`: in NumPy, unless that would wait for a device."""
    if not _all_small(tensors):
        return function(*tensors)
    return _in_numpy(function, tensors)


def _in_numpy(function, tensors):
    result = in_numpy(
        function, [t if t is None else t.numpy() for t in tensors]
    )
    if isinstance(result, (list, tuple)):
        return [torch.from_numpy(np.asarray(part)) for part in result]
    return result if result is None else torch.from_numpy(np.asarray(result))


def small_scalar(function, losses, active):
    """As `gradients.small_scalar()`."""
    tensors = [losses.detach(), active]
    if not _all_small(tensors):
        return function(losses, active)
    gradient, value = _in_numpy(function, tensors)
    scalar = (losses * gradient).sum()
    # What has this gradient, with the value that was computed.
    scalar.data = value
    return gradient, scalar


def surely(condition):
    return _all_small([condition]) and bool(condition)


def add_rows(variable, rows):
    """As `metrics.add_rows()`, without what Keras does for an assignment."""
    if in_stateless_scope():
        metrics.add_rows(variable, rows)
        return
    with torch.no_grad():
        for old, row in zip(variable.value, rows, strict=True):
            old += torch.as_tensor(row, device=old.device)


def update_means(means, values, counts):
    """As `metrics.update_means()`, with one call for all."""
    if in_stateless_scope():
        metrics.update_means(means, values, counts)
        return
    totals = [mean.total.value for mean in means]
    with torch.no_grad():
        values = [
            value.to(total.dtype)
            for value, total in zip(values, totals, strict=True)
        ]
        torch._foreach_add_(totals, torch._foreach_mul(values, counts))
        torch._foreach_add_([mean.count.value for mean in means], counts)


def surely_below(integers, limit):
    if not _all_small([integers]):
        return False
    array = integers.numpy()
    return array.size > 0 and 0 <= array.min() and array.max() < limit


def _all_small(tensors):
    return not torch.compiler.is_compiling() and all(map(_is_small, tensors))


def _is_small(tensor):
    return tensor is None or (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.numel() <= SMALL
        and tensor.dtype in NUMPY_TYPES
        and not tensor.requires_grad
    )


def gramian(matrix):
    # A user may have allowed TF32 in a GPU's matrix products.
    if matrix.is_cuda and torch.backends.cuda.matmul.allow_tf32:
        return torch.stack([(matrix * row).sum(dim=1) for row in matrix])
    return matrix @ matrix.T


def gramian_of_sums(matrix):
    """The Gramian of the rows of the whole batch."""
    return gramian(whole([matrix])[0])


def gramian_of_samples(matrix):
    """The Gramian of rows of which replicas have some columns each."""
    # Of the mean loss, whose gradients are by that factor shorter.
    return whole([gramian(matrix)])[0] / replicas()


class Pullback:
    """Gradients of the outputs of one forward pass, one row at a time."""

    def __init__(self, outputs, variables, taps, at_once):
        self._outputs = outputs
        self._values = [variable.value for variable in variables]
        self._taps = taps
        self.at_once = at_once
        self.num_objectives = len(outputs) - 1

    def keep(self, rows):
        """Keeps K rows of gradients, in one matrix where one can hold them."""
        types = {(value.dtype, value.device) for value in self._values}
        if len(types) == 1 and types.pop()[0] in FLAT_TYPES:
            return TorchRows(rows, self.num_objectives)
        return FlatRows(rows)

    def after(self, tensors):
        """The same gradients: one is computed after another anyway."""
        return self

    def row(self, k, indices):
        return _gradients([self._outputs[k]], [None], self._at(indices))

    def rows(self, indices):
        return self._rows(self._at(indices))

    def _rows(self, sources):
        outputs = self._outputs[: self.num_objectives]
        return [
            [g if there else None for g, there in zip(*pair, strict=True)]
            for pair in zip(
                _by_output(_gradients_at_once(outputs, sources), len(outputs)),
                reached(outputs, sources),
                strict=True,
            )
        ]

    def weighted(self, weights, indices):
        outputs = self._outputs[: len(weights)]
        weights = [
            weight.to(output.dtype)
            for weight, output in zip(weights, outputs, strict=True)
        ]
        return _gradients(outputs, weights, self._at(indices))

    def at_taps(self, k):
        return _gradients([self._outputs[k]], [None], self._taps)

    def rows_at_taps(self):
        return self._rows(self._taps)

    def _at(self, indices):
        return [self._values[index] for index in indices]


def _gradients_at_once(outputs, sources):
    """The gradients of all outputs in one pass, zeros where there is none."""
    # One that depends on nothing has no gradient to send back.
    known = [k for k, output in enumerate(outputs) if output.requires_grad]
    if not known:
        return [None] * len(sources)
    cotangents = torch.eye(len(outputs), dtype=outputs[0].dtype)
    cotangents = cotangents.to(outputs[0].device).unbind()
    return torch.autograd.grad(
        [outputs[k] for k in known],
        sources,
        grad_outputs=[cotangents[k] for k in known],
        is_grads_batched=True,
        retain_graph=True,
        allow_unused=True,
    )


def _by_output(gradients, count):
    """The rows of K outputs, of gradients with K along their first axis."""
    parts = [[None] * count if g is None else g.unbind() for g in gradients]
    return [list(row) for row in zip(*parts, strict=True)]


def _gradients(outputs, cotangents, sources):
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
    one = keras.ops.ones((), dtype="float32")
    probe = torch.zeros_like(one, requires_grad=True)
    losses = model._step_losses(x, y, y_pred, sample_weight, probe)
    model._track_loss(losses.total, x)
    scale = model.optimizer.scale_loss(one)
    outputs = [scale * loss for loss in [*losses.own, losses.additional]]
    factor = None
    if model._overrides_loss:
        (factor,) = _gradients([losses.total], [None], [probe])
    gradients = model._combine_gradients(
        Pullback(outputs, variables, taps, model._rows_at_once),
        losses.whole,
        losses.active,
        scale,
        factor,
    )
    with torch.no_grad():
        modulated.apply(model, gradients, variables)
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def losses_step(model, keras_step):
    """The training step of a combiner of losses."""
    if model._modulated is not None or not model.jit_compile:
        return functools.partial(_losses_step, model)
    _clear_gradients(model.trainable_weights)
    return keras_step


@torch.compiler.disable
def _losses_step(model, data):
    """As the step of Keras, which looks for the weights three times more."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = model(x, **model._training_argument())
    loss = model._compute_loss(x, y, y_pred, sample_weight, training=True)
    with torch.no_grad():
        model._track_loss(loss, x)
    variables = model.trainable_weights
    values = _clear_gradients(variables)
    model.optimizer.scale_loss(loss).backward()
    gradients = [value.grad for value in values]
    with torch.no_grad():
        modulated.apply(model, gradients, variables)
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _clear_gradients(variables):
    """Forgets also the gradients that Keras' own step would add to for ever.

    Those are of variables that are no weights of a module, and of all but one
    of those with the same path: a module knows weights by their paths.
    """
    values = [variable.value for variable in variables]
    for value in values:
        value.grad = None
    return values


def look_again(model, train_step, data):
    """A step, and the losses of the same forward pass after it."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    rewind = _Rewind(model)
    # Dropout without a seed draws from PyTorch itself.
    random_states = _random_states()
    logs = train_step(data)
    with rewind, torch.random.fork_rng(), torch.no_grad():
        torch.set_rng_state(random_states[0])
        torch.cuda.set_rng_state_all(random_states[1])
        again = model._losses_again(x, y, sample_weight)
    if again is not None:
        model.combiner.after_step(*again)
    return logs


def forked_random_state():
    """A context whose random numbers are none of those that follow it."""
    # Dropout without a seed draws from PyTorch itself.
    return torch.random.fork_rng()


class _Rewind:
    """As `Rewind`, with one call for all variables."""

    def __init__(self, model):
        self._model = model
        self._before = self._copies()

    def __enter__(self):
        self._now = self._copies()
        torch._foreach_copy_(*self._before)

    def __exit__(self, *exception):
        with torch.no_grad():
            torch._foreach_copy_(*self._now)

    def _copies(self):
        model = self._model
        variables = model.non_trainable_variables + model.metrics_variables
        values = [variable.value.detach() for variable in variables]
        return values, [value.clone() for value in values]


def loss_gradients(model, losses, variables):
    """The gradients of losses, in inference mode.

    Args:
        model: A built model.
        losses: Function of what comes with the inputs and of the model's
            outputs that returns a list of scalars, and a tensor or `None`
            that is passed on.
        variables: List of trainable variables of the model.

    Returns:
        Function of `x` and what comes with it that returns, for each loss, a
        list with one gradient per variable, `None` where there is none; and
        what was passed on.
    """

    def gradients(x, given):
        values = [variable.value for variable in variables]
        with torch.enable_grad():
            found, passed_on = losses(given, model(x, training=False))
        rows = [_gradients([loss], [None], values) for loss in found]
        return rows, passed_on

    return gradients


def _random_states():
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), on_gpu
