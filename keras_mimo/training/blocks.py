from keras_mimo.training.balanced_variables import call_with_variable
from keras_mimo.training.balanced_variables import find_variables
from keras_mimo.training.balanced_variables import lists_variables

RULES = ("all", "layer", "variable")


def resolve_blocks(spec, model):
    """Splits the trainable variables of a model into named blocks.

    Args:
        spec: The `blocks` argument of `BalancedModel.compile()`, other than
            `"all"`.
        model: A built model.

    Returns:
        Dict from the name of a block to a list of indices into
        `model.trainable_weights`. Variables may be left out. Empty where the
        model trains none.

    Raises:
        ValueError: If `spec` names a variable that the model does not train,
            puts one into two blocks, or makes no block.
    """
    if isinstance(spec, dict):
        named = {
            name: find_variables("blocks", variables, model)
            for name, variables in spec.items()
        }
        blocks = {name: indices for name, indices in named.items() if indices}
    else:
        blocks = _grouped(_rule(spec, model), model)
    taken = [index for indices in blocks.values() for index in indices]
    twice = sorted({index for index in taken if taken.count(index) > 1})
    if twice:
        paths = [model.trainable_weights[index].path for index in twice]
        raise ValueError(
            "`blocks` must not overlap. "
            f"Received: blocks in which the variables {paths} are twice"
        )
    if model.trainable_weights and not blocks:
        raise ValueError(
            "`blocks` must hold at least one trainable variable of the model. "
            f"Received: blocks={spec}"
        )
    return blocks


def saved_blocks(spec, model):
    """`spec` by indices into `model.weights`: loading may change the paths."""
    if isinstance(spec, str):
        return spec
    positions = {id(v): i for i, v in enumerate(model.weights)}
    return {
        str(name): [positions[id(model.trainable_weights[i])] for i in indices]
        for name, indices in resolve_blocks(spec, model).items()
    }


def check_blocks(spec):
    """Raises unless `spec` is of a kind that can be resolved."""
    if isinstance(spec, str):
        valid = spec in RULES
    elif isinstance(spec, dict):
        valid = all(lists_variables(value) for value in spec.values())
    else:
        valid = callable(spec)
    if not valid:
        raise ValueError(
            f"`blocks` must be one of {RULES}, a dict from names to lists of "
            "variables (or of their paths, or of their indices in "
            "`model.weights`), or a function of a variable that returns the "
            "name of its block. "
            f"Received: blocks={spec!r} of type {type(spec)}"
        )


def _rule(spec, model):
    if spec == "variable":
        return lambda variable: id(variable)
    if spec != "layer":
        return spec
    # Inner layers come after those that hold them, and have the last word.
    owners = {
        id(variable): id(layer)
        for layer in model._flatten_layers()
        for variable in layer.trainable_weights
    }
    return lambda variable: owners[id(variable)]


def _grouped(rule, model):
    blocks = {}

    def block_of(variable):
        name = rule(variable)
        # Here, as a name that can't be hashed is an error of the rule.
        return [] if name is None else blocks.setdefault(name, [])

    for index, variable in enumerate(model.trainable_weights):
        call_with_variable("blocks", block_of, variable).append(index)
    return blocks
