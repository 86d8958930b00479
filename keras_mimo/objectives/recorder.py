import keras

from keras_mimo._keras import get_loss


class Recorder(keras.losses.Loss):
    """Computes the losses of one output for Keras and keeps each of them.

    Keras sums the losses of a model; balancing needs them one by one. A
    recorder takes the place of the user's loss, so that masks, sample weights,
    reductions and metric names remain those of Keras.

    Args:
        losses: List of losses (strings, functions, `keras.losses.Loss`) that
            apply to one output.
        weights: List of floats, one per loss.
        sink: List that receives `(recorder, values)` at each call, with one
            unweighted value per loss.
        output: Name of the output, or `None` where it is not known.
        weigh_sum: Boolean. Whether the returned sum is weighted. `False` leaves
            it to Keras, which logs a loss before it weighs it.
    """

    def __init__(self, losses, weights, sink, output, weigh_sum):
        self.losses = losses
        self.loss_names = [_name(loss) for loss in losses]
        super().__init__(name="_".join(self.loss_names), reduction=None)
        self.weights = weights
        self.sink = sink
        self.output = output
        self.weigh_sum = weigh_sum

    def __call__(self, y_true, y_pred, sample_weight=None):
        values = [
            self._value(loss, name, y_true, y_pred, sample_weight)
            for loss, name in zip(self.losses, self.loss_names, strict=True)
        ]
        self.sink.append((self, values))
        return sum(self.weigh(values) if self.weigh_sum else values)

    def weigh(self, values):
        """The objectives: each loss times its weight."""
        return [
            value if weight == 1.0 else value * weight
            for value, weight in zip(values, self.weights, strict=True)
        ]

    def _value(self, loss, name, y_true, y_pred, sample_weight):
        function = get_loss(loss, y_true, y_pred)
        value = function(y_true, y_pred, sample_weight=sample_weight)
        if len(value.shape) != 0:
            raise ValueError(
                "An objective must be a scalar: use a loss whose `reduction` "
                "is not None. "
                f"Received: loss={name!r}, which returned a tensor of shape "
                f"{tuple(value.shape)}"
            )
        return value


def _name(loss):
    if isinstance(loss, str):
        return loss
    return getattr(loss, "name", None) or getattr(
        loss, "__name__", type(loss).__name__
    )
