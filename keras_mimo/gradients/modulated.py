from keras import ops


def apply(model, gradients, variables, form=lambda gradient: gradient):
    """Has the optimizer apply gradients, with the modulation of the model.

    Args:
        model: The model.
        gradients: List of gradients, `None` where there is none.
        variables: List of variables.
        form: Function that makes of a gradient what the optimizer takes.
    """
    modulated = model._modulated
    if modulated is None:
        model.optimizer.apply([form(g) for g in gradients], variables)
        return
    scaled = modulated.gradients(gradients, variables)
    moved = []
    if modulated.scales_updates:
        flags = modulated.acts_on(variables)
        moved = [v for v, acts in zip(variables, flags, strict=True) if acts]
    # Copies: PyTorch assigns in place.
    before = [ops.copy(variable) for variable in moved]
    model.optimizer.apply([form(g) for g in scaled], variables)
    after = [ops.convert_to_tensor(variable) for variable in moved]
    updated = modulated.updates(moved, before, after)
    for variable, value in zip(moved, updated, strict=True):
        variable.assign(value)
