from keras_mimo.training.backbone import head_variables


def resolve_balanced_variables(spec, model):
    """Splits variables into those the Gramian is taken over and all others.

    Args:
        spec: The `balanced_variables` argument of `BalancedModel.compile()`.
        model: A built model.

    Returns:
        Two lists of indices into `model.trainable_weights`, both empty where
        the model trains none.

    Raises:
        ValueError: If `spec` names a variable that the model does not train,
            or selects none.
    """
    trainable = model.trainable_weights
    indices = range(len(trainable))
    if spec is None:
        chosen = list(indices)
    elif isinstance(spec, str):
        head = head_variables(model)
        chosen = [
            index for index in indices if id(trainable[index]) not in head
        ]
    elif callable(spec):
        chosen = [
            index
            for index in indices
            if call_with_variable(
                "balanced_variables", lambda v: bool(spec(v)), trainable[index]
            )
        ]
    else:
        chosen = find_variables("balanced_variables", spec, model)
    if trainable and not chosen:
        raise ValueError(
            "`balanced_variables` must select at least one trainable variable "
            f"of the model. Received: balanced_variables={spec}"
        )
    return chosen, [index for index in indices if index not in chosen]


def find_variables(argument, items, model):
    """Sorted indices of variables into `model.trainable_weights`.

    Args:
        argument: Name of the argument of `compile()` that holds the items.
        items: List of variables, of their paths or of their indices in
            `model.weights`.
        model: A built model.

    Raises:
        ValueError: If an item is no trainable variable of the model.
    """
    weights = model.weights
    trainable = model.trainable_weights
    chosen = set()
    for item in items:
        if isinstance(item, str):
            found = [i for i, v in enumerate(trainable) if v.path == item]
        else:
            wanted = item
            if isinstance(item, int):
                known = -len(weights) <= item < len(weights)
                wanted = weights[item] if known else None
            found = [i for i, v in enumerate(trainable) if v is wanted]
        if not found:
            paths = [candidate.path for candidate in trainable]
            raise ValueError(
                f"`{argument}` must be trainable variables of the model. "
                f"Received: {getattr(item, 'path', item)!r}. Its trainable "
                f"variables are {paths}."
            )
        chosen.update(found)
    return sorted(chosen)


def overwritten_variables(model):
    """Indices of the variables whose "gradient" is their next value."""
    return [
        index
        for index, variable in enumerate(model.trainable_weights)
        if getattr(variable, "overwrite_with_gradient", False)
    ]


def check_balanced_variables(spec):
    """Raises `TypeError` unless `spec` is of a type that can be resolved."""
    if spec is None or callable(spec) or lists_variables(spec):
        return
    if isinstance(spec, str) and spec == "backbone":
        return
    raise TypeError(
        "`balanced_variables` must be a list of variables, of their paths or "
        "of their indices in `model.weights`, a function of a variable, or "
        '"backbone". '
        f"Received: balanced_variables={spec} of type {type(spec)}"
    )


def lists_variables(value):
    """Whether `value` is of the type that `find_variables()` takes."""
    return isinstance(value, (list, tuple)) and all(
        # A list of booleans would be read as indices 0 and 1.
        (isinstance(item, (str, int)) and not isinstance(item, bool))
        or hasattr(item, "path")
        for item in value
    )


def call_with_variable(argument, function, variable):
    """Calls a function that the user gave as an argument of `compile()`."""
    try:
        return function(variable)
    except Exception as error:
        raise ValueError(
            f"`{argument}` must be a function of a variable. Received: one "
            f"that failed for the variable {variable.path!r}: {error}"
        ) from error


def saved_balanced_variables(spec, model):
    """`spec` as indices into `model.weights`: loading may change the paths."""
    if spec is None or isinstance(spec, str):
        return spec
    chosen, _ = resolve_balanced_variables(spec, model)
    kept = {id(model.trainable_weights[index]) for index in chosen}
    return [i for i, v in enumerate(model.weights) if id(v) in kept]
