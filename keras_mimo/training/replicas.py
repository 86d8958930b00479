"""What a replica, which sees a part of the batch, knows of the whole."""

from keras import ops

from keras_mimo import gradients
from keras_mimo.utils._keras import unscale_loss_for_distribution


def whole_batch(losses, active):
    """The losses of the whole batch, and what is active anywhere in it.

    Args:
        losses: List of K scalars, of a replica.
        active: Boolean tensor of shape `(K,)`, of a replica.

    Returns:
        Tensor of shape `(K,)`, whose gradients reach the replica's own losses
        only, and boolean tensor of shape `(K,)`; the values are the same on all
        replicas.
    """
    losses = ops.stack(losses)
    engine = gradients.engine()
    if engine.replicas() == 1:
        return losses, active
    own = unscale_loss_for_distribution(losses)
    whole, present = engine.whole(
        [ops.stop_gradient(losses), ops.cast(active, losses.dtype)]
    )
    # Not (whole + own) - own, which would round.
    return whole + (own - ops.stop_gradient(own)), present > 0


def whole_counts(counts):
    """Numbers of samples in all replicas together, up to a common factor."""
    engine = gradients.engine()
    return counts if engine.replicas() == 1 else engine.whole([counts])[0]


def check_objective(objective):
    """Raises `ValueError` if losses of replicas are no losses of the whole."""
    count = gradients.engine().replicas()
    if count > 1 and not objective.across_replicas:
        raise ValueError(
            "`objectives` must be `ClassGroups`, `Outputs` or `Modalities` "
            "without `missing_label` and without the loss "
            "`PrototypeRebalancing`, or have `across_replicas = True`, where "
            "several replicas share a batch. "
            f"Received: objectives={objective} on {count} replicas"
        )


def whole_mean(values, present):
    """The mean of values of all samples that are there, in all replicas.

    Args:
        values: Tensor of shape `(batch,)`.
        present: Boolean tensor of shape `(batch,)`.

    Returns:
        Scalar tensor: NaN where no sample is.
    """
    flags = ops.cast(present, values.dtype)
    total = ops.sum(ops.where(present, values, 0.0))
    sums = whole_counts(ops.stack([total, ops.sum(flags)]))
    return sums[0] / sums[1]
