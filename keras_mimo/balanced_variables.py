def resolve_balanced_variables(spec, model):
    """Splits variables into those the Gramian is taken over and all others.

    Args:
        spec: The `balanced_variables` argument of `BalancedModel.compile()`.
        model: A built model.

    Returns:
        Two lists of indices into `model.trainable_weights`.

    Raises:
        ValueError: If `spec` names a variable that the model does not train,
            or selects none.
    """
    trainable = model.trainable_weights
    if spec is None:
        chosen = [True] * len(trainable)
    elif callable(spec):
        chosen = [bool(spec(variable)) for variable in trainable]
    else:
        chosen = _listed(spec, model)
    if not any(chosen):
        raise ValueError(
            "`balanced_variables` must select at least one trainable variable "
            f"of the model. Received: balanced_variables={spec}"
        )
    indices = range(len(trainable))
    return (
        [index for index in indices if chosen[index]],
        [index for index in indices if not chosen[index]],
    )


def _listed(spec, model):
    weights = model.weights
    trainable = model.trainable_weights
    chosen = [False] * len(trainable)
    for item in spec:
        if isinstance(item, str):
            found = [i for i, v in enumerate(trainable) if v.path == item]
        else:
            wanted = weights[item] if isinstance(item, int) else item
            found = [i for i, v in enumerate(trainable) if v is wanted]
        if not found:
            paths = [candidate.path for candidate in trainable]
            raise ValueError(
                "`balanced_variables` must be trainable variables of the "
                f"model. Received: {getattr(item, 'path', item)!r}. Its "
                f"trainable variables are {paths}."
            )
        for index in found:
            chosen[index] = True
    return chosen


def check_balanced_variables(spec):
    """Raises `TypeError` unless `spec` is of a type that can be resolved."""
    if spec is None or callable(spec):
        return
    if isinstance(spec, (list, tuple)) and all(
        isinstance(item, (str, int)) or hasattr(item, "path") for item in spec
    ):
        return
    raise TypeError(
        "`balanced_variables` must be a list of variables, of their paths or "
        "of their indices in `model.weights`, or a function of a variable. "
        f"Received: balanced_variables={spec} of type {type(spec)}"
    )


def saved_balanced_variables(spec, model):
    """`spec` as indices into `model.weights`: loading may change the paths."""
    if spec is None:
        return None
    chosen, _ = resolve_balanced_variables(spec, model)
    kept = {id(model.trainable_weights[index]) for index in chosen}
    return [i for i, v in enumerate(model.weights) if id(v) in kept]
