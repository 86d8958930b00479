import functools

import keras
import pytest

import keras_mimo
from keras_mimo.compare.methods import call_with
from keras_mimo.compare.methods import made
from keras_mimo.compare.methods import parse_methods
from tests.compare.two_sensors import build

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
COMPILE = {"optimizer": keras.optimizers.Adam(0.02), "loss": LOSS}


def only(method):
    """The method, without the sum that joins it."""
    return parse_methods([method])[-1]


def model_of(method, **chosen):
    return made(build, COMPILE, {**only(method).given, **chosen})


def test_the_sum_is_always_there():
    assert [m.name for m in parse_methods(["joint"])] == ["sum", "joint"]
    for plain in (
        "sum",
        {"name": "Sum", "combiner": "sum"},
        keras_mimo.SumCombiner(),
        {"combiner": keras_mimo.SumCombiner},
    ):
        methods = parse_methods(["joint", plain])
        assert [m.is_sum for m in methods] == [False, True], plain
    faster = {"name": "sum", "combiner": "sum", "learning_rate": 1.0}
    methods = parse_methods([faster])
    assert [m.is_sum for m in methods] == [True, False]
    assert [m.name for m in methods] == ["plain sum", "sum"]


def test_names():
    named = {
        "joint": "joint",
        "mgda": "mgda",
        "MIMO": keras_mimo.MIMOCombiner(),
        "MGDA": {"combiner": keras_mimo.MGDACombiner},
        "mine": {"name": "mine", "combiner": "mgda"},
    }
    for name, method in named.items():
        assert only(method).name == name


def test_joint_is_plain_keras_and_a_name_is_a_combiner():
    assert isinstance(model_of("joint").combiner, keras_mimo.ConstantCombiner)
    assert isinstance(model_of("mgda").combiner, keras_mimo.MGDACombiner)


def test_arguments_go_where_they_belong():
    method = {
        "name": "MIMO",
        "combiner": "mimo",
        "penalty": [1.0, 10.0],
        "smoothing": 0.5,
        "learning_rate": [0.1, 0.2],
        "metrics": ["accuracy"],
    }
    settings = only(method).settings()
    assert settings == [
        {"penalty": penalty, "learning_rate": rate}
        for penalty in (1.0, 10.0)
        for rate in (0.1, 0.2)
    ]
    model = model_of(method, **settings[-1])
    assert model.combiner.penalty == 10.0
    assert model.combiner.smoothing == 0.5
    assert float(model.optimizer.learning_rate) == pytest.approx(0.2)
    assert model._compile_arguments["metrics"]


def test_modulations_beside_combiners():
    method = {
        "name": "OGM",
        "combiner": "mimo",
        "modulation": keras_mimo.modulations.OGM,
        "alpha": [0.1, 0.8],
        # An argument of its base class.
        "stop": 5,
        "penalty": 2.0,
    }
    assert only(method).settings() == [{"alpha": 0.1}, {"alpha": 0.8}]
    model = model_of(method, alpha=0.8)
    assert model.modulation.alpha == 0.8
    assert model.modulation.stop == 5
    assert model.combiner.penalty == 2.0
    for plain in ("ogm", keras_mimo.modulations.OGM()):
        model = model_of(plain)
        assert isinstance(model.modulation, keras_mimo.modulations.OGM)
        assert isinstance(model.combiner, keras_mimo.SumCombiner)
    with pytest.raises(ValueError, match="`combiner` and `modulation` takes"):
        only({**method, "dtype": "float32"})


@pytest.mark.parametrize(
    "combiner",
    [
        keras_mimo.MIMOCombiner(penalty=3.0),
        functools.partial(keras_mimo.MIMOCombiner, penalty=3.0),
        lambda: keras_mimo.MIMOCombiner(penalty=3.0),
    ],
)
def test_every_run_has_a_combiner_and_an_optimizer_of_its_own(combiner):
    method = {"name": "MIMO", "combiner": combiner}
    one, other = model_of(method), model_of(method)
    assert one.combiner is not other.combiner
    assert one.combiner.penalty == other.combiner.penalty == 3.0
    assert one.optimizer is not other.optimizer
    assert float(one.optimizer.learning_rate) == pytest.approx(0.02)


def test_every_run_has_losses_and_metrics_of_its_own():
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    shared = {**COMPILE, "loss": [LOSS], "metrics": {"fused": [accuracy]}}
    runs = [made(build, shared, {"combiner": "sum"}) for _ in range(2)]
    (one,), (other,) = (m._compile_arguments["loss"] for m in runs)
    assert one is not other is not LOSS
    assert one.get_config() == LOSS.get_config()
    metrics = [m._compile_arguments["metrics"]["fused"][0] for m in runs]
    assert metrics[0] is not metrics[1] is not accuracy


def test_arguments_that_need_the_model():
    model = model_of(
        {
            "name": "blocks",
            "combiner": "mgda",
            "compile": lambda model: {"blocks": model.encoder_variables},
        }
    )
    assert model._gradient_scope.blockwise


def test_who_needs_validation_data():
    needs = {
        "mimo": False,
        "options": {"combiner": "mimo", "penalty": [1.0]},
        "validate": {"combiner": "mimo", "validate": True},
        "asks": {"combiner": "mimo", "callbacks": lambda validation: []},
        "does not": {"combiner": "mimo", "callbacks": lambda train: []},
    }
    found = {
        name: only({"name": name, **given} if given else name).validates
        for name, given in needs.items()
    }
    assert [name for name, needed in found.items() if needed] == [
        *("options", "validate", "asks")
    ]
    assert call_with(lambda train: train, {"train": 1, "validation": 2}) == 1
    assert call_with(list, {"train": 1}) == []


@pytest.mark.parametrize(
    "methods, error, match",
    [
        ("mimo", ValueError, "must be a list"),
        ([], ValueError, "at least one"),
        ([3], TypeError, "must hold"),
        (["mimo", "mimo"], ValueError, "several called 'mimo'"),
        ([{"combiner": "mimo", "penalty": []}], ValueError, "an empty one"),
        ([{"combiner": "mimo", "penalti": 1}], ValueError, "'penalti'"),
        (
            [{"combiner": keras_mimo.MIMOCombiner(), "penalty": 1}],
            ValueError,
            "nothing takes",
        ),
        ([{"combiner": "mimo", "callbacks": []}], ValueError, "an empty one"),
        ([{"combiner": "mimo", "build": 3}], TypeError, "`build`"),
    ],
)
def test_errors(methods, error, match):
    with pytest.raises(error, match=match):
        parse_methods(methods)


def test_build_must_give_a_multimodal_model():
    with pytest.raises(TypeError, match="`build` must return"):
        made(lambda: keras.Sequential(), COMPILE, {})
