from keras import ops


def undo_skipped(model, step):
    """The training step, after which what was not made leaves no trace.

    Where gradients overflow a `LossScaleOptimizer` skips the update, and the
    combiners go back to the state that they had.
    """

    def undoing_step(*args):
        iterations = model.optimizer.inner_optimizer.iterations
        variables = combiner_state(model)
        # Copies: PyTorch assigns in place.
        before = [ops.copy(variable) for variable in [iterations, *variables]]
        logs = step(*args)
        skipped = ops.equal(iterations, before[0])
        for variable, old in zip(variables, before[1:], strict=True):
            variable.assign(ops.where(skipped, old, variable))
        return logs

    return undoing_step


def combiner_state(model):
    """What combiners and modulations change, apart from the optimizer."""
    keepers = [*model._combiners, model.modulation]
    return [
        variable
        for keeper in keepers
        if keeper is not None
        for variable in keeper.non_trainable_variables
    ]
