import inspect

import keras
import pytest
from keras import layers

import keras_mimo
from keras_mimo import combiners
from keras_mimo.combiners.identifiers import names


@pytest.mark.parametrize(
    "identifier, cls",
    [
        ("mgda", combiners.MGDACombiner),
        ("MGDA", combiners.MGDACombiner),
        ("MGDACombiner", combiners.MGDACombiner),
        ("nash_mtl", combiners.NashMTLCombiner),
        ("Nash-MTL", combiners.NashMTLCombiner),
        ("imtl_g", combiners.IMTLGCombiner),
        ("sum", combiners.SumCombiner),
    ],
)
def test_by_name(identifier, cls):
    combiner = combiners.get(identifier)
    assert type(combiner) is cls
    assert combiner is not combiners.get(identifier)


ABSTRACT = ("BalancedGradientCombiner", "CoordinateCombiner", "RowCombiner")


def test_every_combiner_that_needs_no_arguments_has_a_name():
    found = {type(combiners.get(name)) for name in names()}
    for public in combiners.__all__:
        cls = getattr(combiners, public)
        if inspect.isclass(cls) and not public.endswith(ABSTRACT):
            needs = public in (
                "ConstantCombiner",
                "EveryN",
                "MoCo",
                "Rescaled",
                "Smoothed",
            )
            assert (cls in found) == (not needs), public


def test_other_identifiers():
    combiner = combiners.MGDACombiner(normalization="l2")
    assert combiners.get(combiner) is combiner
    assert combiners.get(None) is None
    config = keras.saving.serialize_keras_object(combiner)
    assert combiners.get(config).normalization == "l2"


@pytest.mark.parametrize("identifier", ["adam", "constant", "smoothed", ""])
def test_unknown_names_are_refused_with_those_that_exist(identifier):
    with pytest.raises(ValueError, match=r"'mgda'.*'upgrad'"):
        combiners.get(identifier)


@pytest.mark.parametrize("identifier", [3, keras_mimo.MGDACombiner, ["mgda"]])
def test_other_types_are_refused(identifier):
    with pytest.raises(TypeError, match="`combiner` must be"):
        combiners.get(identifier)


def test_compile_takes_a_name(tmp_path):
    inputs = keras.Input((4,))
    model = keras_mimo.BalancedModel(
        inputs, {"a": layers.Dense(1)(inputs), "b": layers.Dense(1)(inputs)}
    )
    model.compile("sgd", "mse", combiner="upgrad")
    assert type(model.combiner) is combiners.UPGradCombiner
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.combiner) is combiners.UPGradCombiner
    with pytest.raises(ValueError, match="combiner='adam'"):
        model.compile("sgd", "mse", combiner="adam")
