def resolve_balanced_variables(spec, variables):
    """Splits variables into those the Gramian is taken over and all others.

    Args:
        spec: The `balanced_variables` argument of `BalancedModel.compile()`.
        variables: The model's trainable variables.

    Returns:
        Two lists of indices into `variables`.

    Raises:
        ValueError: If `spec` names a variable that the model does not train,
            or selects none.
    """
    if spec is None:
        chosen = [True] * len(variables)
    elif callable(spec):
        chosen = [bool(spec(variable)) for variable in variables]
    else:
        paths = [item if isinstance(item, str) else item.path for item in spec]
        known = {variable.path for variable in variables}
        unknown = sorted(set(paths) - known)
        if unknown:
            raise ValueError(
                "`balanced_variables` must be trainable variables of the "
                f"model. Received: {unknown}. Its trainable variables are "
                f"{sorted(known)}."
            )
        chosen = [variable.path in paths for variable in variables]
    if not any(chosen):
        raise ValueError(
            "`balanced_variables` must select at least one trainable variable "
            f"of the model. Received: balanced_variables={spec}"
        )
    indices = range(len(variables))
    return (
        [index for index in indices if chosen[index]],
        [index for index in indices if not chosen[index]],
    )


def check_balanced_variables(spec):
    """Raises `TypeError` unless `spec` is of a type that can be resolved."""
    if spec is None or callable(spec):
        return
    if isinstance(spec, (list, tuple)) and all(
        isinstance(item, str) or hasattr(item, "path") for item in spec
    ):
        return
    raise TypeError(
        "`balanced_variables` must be a list of variables or of variable "
        "paths, or a function of a variable. "
        f"Received: balanced_variables={spec} of type {type(spec)}"
    )


def variable_paths(spec, variables):
    """`spec` as a list of paths, the form in which it is saved."""
    if spec is None:
        return None
    indices, _ = resolve_balanced_variables(spec, variables)
    return [variables[index].path for index in indices]
