from keras_mimo.training.backbone import head_variables
from keras_mimo.training.balanced_variables import check_balanced_variables
from keras_mimo.training.balanced_variables import resolve_balanced_variables


def gradient_variables(model, variables=None):
    """The variables over which class gradients are compared.

    Args:
        model: A built model.
        variables: As in `BalancedModel.compile(balanced_variables=...)`.
            Defaults to all trainable variables of the model apart from those of
            the classifier head: the last layer that has weights, at each
            output.

    Returns:
        List of variables.

    Raises:
        ValueError: If the model is not built, if `variables` does not fit it,
            or if its head can't be told.
    """
    if not model.built:
        raise ValueError(
            "`model` must be built: call it on a batch first. "
            f"Received: model={model}"
        )
    check_balanced_variables(variables)
    if variables is not None:
        chosen, _ = resolve_balanced_variables(variables, model)
        return [model.trainable_weights[index] for index in chosen]
    head = head_variables(model)
    trainable = {id(v) for v in model.trainable_weights}
    # Not `trainable_weights`, which has those of a combiner too.
    backbone = [
        v for v in model.weights if id(v) in trainable and id(v) not in head
    ]
    if not backbone:
        raise ValueError(
            "`variables` must be given for a model without trainable variables "
            f"before its last layer. Received: model={model}"
        )
    return backbone
