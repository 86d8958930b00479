import dataclasses
import functools
import inspect
import itertools

import keras

import keras_mimo
from keras_mimo.fusion.multimodal_model import MultimodalModel
from keras_mimo.model import BalancedModel

# What is made anew for each run, by its name, from its class or like itself.
_MADE = ("combiner", "modulation")
_OWN = (
    "name",
    "build",
    "callbacks",
    "compile",
    "epochs",
    "learning_rate",
    "validate",
)
_COMPILE = {*inspect.signature(BalancedModel.compile).parameters, *_MADE}
_COMPILE -= {"self"}
# A list there is one value.
_LISTS = {
    "balanced_variables",
    "loss",
    "loss_weights",
    "metrics",
    "weighted_metrics",
}
SUM = {"combiner": "sum"}


@dataclasses.dataclass
class Method:
    """A way to train.

    Args:
        name: String.
        given: Dict of what is fixed.
        options: Dict from names to lists of values, of which one is chosen.
    """

    name: str
    given: dict
    options: dict

    def settings(self):
        """All that could be chosen, as a list of dicts."""
        values = itertools.product(*self.options.values())
        return [
            dict(zip(self.options, chosen, strict=True)) for chosen in values
        ]

    @property
    def validates(self):
        """Whether it needs validation data."""
        return bool(
            self.options
            or self.given.get("validate")
            or asks_for(self.given.get("callbacks"), "validation")
        )

    @property
    def is_sum(self):
        """Whether it is the plain sum, to which the others are compared."""
        combiner = self.given.get("combiner")
        if isinstance(combiner, str):
            plain = combiner.lower() in ("sum", "sumcombiner")
        else:
            plain = _class_of("combiner", combiner) is keras_mimo.SumCombiner
        return plain and set(self.given) == {"combiner"} and not self.options


def parse_methods(methods):
    """The `methods` of `compare()` as a list of `Method`, a sum among them.

    Raises:
        TypeError: If one is neither a name, a combiner nor a dict.
        ValueError: If two have the same name, or one has arguments that nothing
            takes.
    """
    if isinstance(methods, (str, dict)) or not methods:
        raise ValueError(
            "`methods` must be a list of at least one method. "
            f"Received: methods={methods!r}"
        )
    parsed = [_parse(method) for method in methods]
    names = [method.name for method in parsed]
    if not any(method.is_sum for method in parsed):
        name = "plain sum" if "sum" in names else "sum"
        parsed.insert(0, Method(name, dict(SUM), {}))
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                "`methods` must have different names: give dicts with "
                f'`"name"`. Received: several called {name!r}'
            )
    return parsed


def made(build, compile_arguments, given):
    """Builds and compiles a model.

    Args:
        build: Function of nothing that returns a model.
        compile_arguments: Dict, those of all methods.
        given: Dict, what a method has of its own.
    """
    model = given.get("build", build)()
    if not isinstance(model, MultimodalModel):
        raise TypeError(
            "`build` must return a `keras_mimo.MultimodalModel`. "
            f"Received: {model} of type {type(model)}"
        )
    arguments = dict(compile_arguments)
    arguments |= {k: v for k, v in given.items() if k in _COMPILE}
    for part in _MADE:
        if part in arguments:
            arguments[part] = _part(part, arguments[part], given)
    optimizer = arguments.get("optimizer", "rmsprop")
    arguments["optimizer"] = keras.optimizers.get(_anew(optimizer))
    if "learning_rate" in given:
        arguments["optimizer"].learning_rate = given["learning_rate"]
    for kind in ("loss", "metrics", "weighted_metrics"):
        if kind in arguments:
            arguments[kind] = _fresh(arguments[kind])
    if "compile" in given:
        arguments |= given["compile"](model)
    model.compile(**arguments)
    return model


def asks_for(function, argument):
    """Whether a function has an argument of that name."""
    if function is None or function is list:
        return False
    return argument in inspect.signature(function).parameters


def call_with(function, offers):
    """Calls a function with what it asks for of a dict, by its names."""
    return function(
        **{k: v for k, v in offers.items() if asks_for(function, k)}
    )


def _parse(method):
    if isinstance(method, str):
        return Method(method, _by_name(method), {})
    if isinstance(method, keras_mimo.BalancedGradientCombiner):
        method = {"combiner": method}
    elif isinstance(method, keras_mimo.modulations.Modulation):
        name = _name({"modulation": method})
        method = {"name": name, **SUM, "modulation": method}
    if not isinstance(method, dict):
        raise TypeError(
            '`methods` must hold "joint", combiners, modulations, the names of '
            f"these, and dicts. Received: {method!r} of type {type(method)}"
        )
    given = dict(method)
    name = given.pop("name", None) or _name(given)
    options = {
        key: value
        for key, value in given.items()
        if isinstance(value, list) and key not in _LISTS
    }
    for key in options:
        del given[key]
        if not options[key]:
            raise ValueError(
                "A list in `methods` must hold values to choose from. "
                f"Received: an empty one for {key!r} of {name!r}"
            )
    for key in [*given, *options]:
        if key not in _COMPILE and key not in _OWN:
            _check_argument(name, key, {**given, **options})
    for key in ("build", "callbacks", "compile"):
        if key in given and not callable(given[key]):
            raise TypeError(
                f"`{key}` of a method must be a function. "
                f"Received: {given[key]!r} for {name!r}"
            )
    return Method(name, given, options)


def _by_name(name):
    if name == "joint":
        return {}
    if name.lower() in keras_mimo.modulations.names():
        return {**SUM, "modulation": name}
    return {"combiner": name}


def _name(given):
    parts = [given[part] for part in _MADE[::-1] if part in given]
    names = [p if isinstance(p, str) else _class_of(None, p) for p in parts]
    names = [
        n if isinstance(n, str) else n.__name__.removesuffix("Combiner")
        for n in names
    ]
    return " + ".join(names) or "joint"


def _check_argument(name, key, given):
    takers = [part for part in _MADE if _takes(part, given.get(part), key)]
    if len(takers) != 1:
        found = " and ".join(f"`{t}`" for t in takers) or "nothing"
        raise ValueError(
            f"The entries of a method must be {list(_OWN)}, arguments of "
            "`compile()`, or arguments of one of its combiner and its "
            "modulation, which are then given as names or classes. "
            f"Received: {key!r} of {name!r}, which {found} takes"
        )


def _part(part, value, given):
    arguments = {
        key: argument
        for key, argument in given.items()
        if key not in _COMPILE and key not in _OWN and _takes(part, value, key)
    }
    if arguments and isinstance(value, str):
        value = _class_of(part, value)
    return _anew(value, arguments)


def _takes(part, value, key):
    makers = value if isinstance(value, list) else [value]
    return all(
        (_can_be_called(maker) or isinstance(maker, str))
        and key in _parameters(_class_of(part, maker))
        for maker in makers
    )


def _parameters(maker):
    """The names of all arguments, those that a class hands on among them."""
    if not inspect.isclass(maker):
        return set(inspect.signature(maker).parameters)
    found = set()
    for cls in maker.__mro__:
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters.values()
            found |= {parameter.name for parameter in parameters}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found


def _class_of(part, value):
    if isinstance(value, str):
        return type(getattr(keras_mimo, f"{part}s").get(value))
    return value if _can_be_called(value) else type(value)


def _can_be_called(value):
    made = inspect.isclass(value) or inspect.isroutine(value)
    return made or isinstance(value, functools.partial)


def _anew(value, arguments=()):
    """One that no other run has used: by its name, its maker, or like it."""
    if _can_be_called(value):
        return value(**dict(arguments))
    if hasattr(value, "get_config"):
        return type(value).from_config(value.get_config())
    return value


def _fresh(structure):
    """The same losses or metrics, in objects that no other run has used."""
    if isinstance(structure, dict):
        return {key: _fresh(value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_fresh(value) for value in structure]
    if isinstance(structure, keras.metrics.Metric):
        return _anew(structure)
    if isinstance(structure, keras.losses.Loss):
        # Not every loss has a config, and callbacks set attributes of some.
        copied = object.__new__(type(structure))
        copied.__dict__.update(structure.__dict__)
        return copied
    return structure
