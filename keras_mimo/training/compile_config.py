import inspect
import warnings

import keras

# What is given to `compile()` of any Keras model.
KERAS = frozenset(inspect.signature(keras.Model.compile).parameters) - {"self"}


@keras.saving.register_keras_serializable(package="keras_mimo")
class CompileConfig:
    """Saved arguments of `compile()`, of which any Keras model gets its own.

    `keras.models.clone_model()` makes a plain functional model of one whose
    class has a constructor of its own, and compiles it with whatever it finds.

    Args:
        arguments: Dict from names to serialized values.
    """

    def __init__(self, arguments):
        self.arguments = arguments

    def get_config(self):
        return self.arguments

    @classmethod
    def from_config(cls, config):
        warnings.warn(
            "The clone of a model whose class has a constructor of its own is "
            "a plain Keras model, compiled without a combiner. For one of the "
            "same class, use `type(model).from_config(model.get_config())`.",
            stacklevel=2,
        )
        return keras.saving.deserialize_keras_object(for_keras(config))

    @classmethod
    def unwrap(cls, config):
        """The arguments in what was saved, which may be just a dict of them."""
        name = keras.saving.get_registered_name(cls)
        wrapped = config.get("registered_name") == name
        return config["config"] if wrapped else config


def for_keras(arguments):
    """Those arguments that `compile()` of any Keras model takes."""
    return {name: arguments[name] for name in arguments if name in KERAS}


def takes(compile, config, usual):
    """Whether a class' `compile()` can be called with what was saved.

    Args:
        compile: The method, bound.
        config: Dict from names of arguments to values.
        usual: The method that it overrides, unbound.

    Returns:
        A boolean. `False` also where it has arguments of its own, of which the
        dict knows nothing.
    """
    parameters = inspect.signature(compile).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    rest = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    names = {p.name for p in parameters if p.kind not in rest}
    known = {*config, *inspect.signature(usual).parameters}
    takes_all = inspect.Parameter.VAR_KEYWORD in kinds or names >= set(config)
    return takes_all and names <= known
