"""Where gradients are compared: blocks of variables, or a representation."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import BalancedGradientCombiner
from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import MMParetoCombiner
from keras_mimo.combiners import Smoothed
from keras_mimo.training.compiled import conflict
from tests.oracles import min_norm_point
from tests.quick import quick

NAMES = ("a", "b", "c")
OPTIONS = dict(batch_size=8, shuffle=False, verbose=0)


def data(rows=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    targets = [x[:, :1], -x[:, :1] + x[:, 1:2], x[:, 2:3] ** 2]
    return x, dict(zip(NAMES, targets, strict=True))


def functional():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="tanh", name="first")(inputs)
    x = layers.Dense(5, activation="tanh", name="second")(x)
    outputs = {name: layers.Dense(1, name=name)(x) for name in NAMES}
    model = keras_mimo.BalancedModel(inputs, outputs)
    # The same on every backend and device: on this the conflicts depend.
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) / 2 for w in model.weights])
    return model


def compiled(combiner, **arguments):
    model = functional()
    model.compile(
        keras.optimizers.SGD(1.0), "mse", combiner=combiner, **arguments
    )
    return model


def values(variables):
    return {v.path: np.array(ops.convert_to_numpy(v)) for v in variables}


def update(combiner, **arguments):
    """What one step takes from each variable, and the logs."""
    model = compiled(combiner, **arguments)
    before = values(model.trainable_variables)
    logs = model.train_on_batch(*data(), return_dict=True)
    after = values(model.trainable_variables)
    return {path: before[path] - after[path] for path in before}, logs


@pytest.fixture(scope="module")
def rows():
    """The gradients of the objectives, one step of plain Keras each."""
    return [
        update(keras_mimo.ConstantCombiner({name: 1.0}))[0] for name in NAMES
    ]


def flat(gradient, paths):
    return np.concatenate([gradient[path].ravel() for path in paths])


TRUNK = [
    f"{layer}/{part}"
    for layer in ("first", "second")
    for part in ("kernel", "bias")
]
BY_LAYER = [TRUNK[:2], TRUNK[2:]]
BY_VARIABLE = [[path] for path in TRUNK]
BLOCKS = [
    ("all", [TRUNK]),
    ("layer", BY_LAYER),
    ("variable", BY_VARIABLE),
    ({"one": TRUNK[:2], "two": TRUNK[2:]}, BY_LAYER),
    (lambda v: v.path.split("/")[0] in ("first",), BY_LAYER),
]


@pytest.mark.parametrize(
    "blocks, expected",
    quick([("all", [TRUNK]), ("variable", BY_VARIABLE)], BLOCKS),
)
def test_each_block_gets_its_own_solution(blocks, expected, rows):
    step, _ = update(MGDACombiner(), blocks=blocks)
    for paths in expected:
        if blocks == "all":
            paths = paths + [
                f"{n}/{p}" for n in NAMES for p in ("kernel", "bias")
            ]
        elif callable(blocks) and paths == TRUNK[2:]:
            paths = list(step)[2:]
        solution = min_norm_point([flat(row, paths) for row in rows])
        np.testing.assert_allclose(flat(step, paths), solution, atol=2e-6)


@pytest.mark.parametrize(
    "blocks", quick(["layer"], ["layer", "variable", {"t": TRUNK}])
)
def test_a_head_in_or_out_of_a_block_gets_its_own_gradient(blocks, rows):
    """In a block of its own, only one objective takes part."""
    step, _ = update(MGDACombiner(), blocks=blocks)
    for name, row in zip(NAMES, rows, strict=True):
        for path in (f"{name}/kernel", f"{name}/bias"):
            np.testing.assert_allclose(step[path], row[path], atol=1e-6)


def test_what_is_in_no_block_gets_the_plain_sum(rows):
    step, _ = update(
        MGDACombiner(),
        blocks=lambda v: None if "second" in v.path else "the rest",
    )
    total = sum(flat(row, TRUNK[2:]) for row in rows)
    np.testing.assert_allclose(flat(step, TRUNK[2:]), total, atol=2e-6)


def test_logs_are_means_over_the_blocks_that_an_objective_reaches():
    _, logs = update(MGDACombiner(), blocks={"1": TRUNK[:2], "2": TRUNK[2:]})
    weights = [logs[f"{name}_weight"] for name in NAMES]
    assert sum(weights) == pytest.approx(1.0, abs=1e-6)


def test_conflict_is_the_share_of_the_pairs_of_all_blocks(rows):
    _, logs = update(MGDACombiner(), blocks={"1": TRUNK[:2], "2": TRUNK[2:]})
    opposed = [
        flat(rows[i], paths) @ flat(rows[j], paths) < 0
        for paths in BY_LAYER
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert 0 < sum(opposed) < 6
    assert logs["conflict"] == pytest.approx(sum(opposed) / 6)


def test_conflict_counts_what_opposes_and_not_what_is_orthogonal():
    first = np.array([[1, 0, -2], [0, 1, 0], [-2, 0, 4]], "float32")
    second = np.array([[1, -1, -1], [-1, 1, 0], [-1, 0, 0]], "float32")
    active = np.array([[1, 1, 1], [1, 1, 0]], bool)
    gramians = [ops.convert_to_tensor(g) for g in (first, second)]
    found = conflict(gramians, [ops.convert_to_tensor(a) for a in active])
    # Of three pairs one, and of one pair one.
    np.testing.assert_allclose(ops.convert_to_numpy(found), 2 / 4)
    found = conflict(gramians[:1], [ops.convert_to_tensor(active[1])])
    assert ops.convert_to_numpy(found) == 0


class EqualWeights(BalancedGradientCombiner):
    needs = "gramian"
    min_objectives = 1

    def call(self, losses, gramian=None, active=None, training=True):
        return ops.ones_like(losses)


def test_a_single_objective_has_no_conflict():
    inputs = keras.Input((4,))
    model = keras_mimo.BalancedModel(inputs, layers.Dense(1)(inputs))
    model.compile("sgd", "mse", combiner=EqualWeights())
    x, y = data()
    logs = model.train_on_batch(x, y["a"], return_dict=True)
    assert "loss" in logs
    assert "conflict" not in logs


@pytest.mark.slow
def test_every_block_has_a_state_of_its_own_which_is_saved(tmp_path):
    x, y = data()
    model = functional()
    model.compile(
        keras.optimizers.SGD(0.05),
        "mse",
        combiner=Smoothed(MGDACombiner(), of="gramian"),
        blocks="layer",
    )
    model.fit(x, y, epochs=2, **OPTIONS)
    states = [values(c.variables) for c in model._combiners]
    assert len(states) == 5
    totals = [np.trace(s["smoothed/total"]) for s in states]
    assert len(set(totals)) == 5
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["blocks"] == "layer"
    for each in (model, loaded):
        each.fit(x, y, epochs=2, **OPTIONS)
    assert len(model.variables) == len(loaded.variables)
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        )


@pytest.mark.slow
def test_combiners_without_state_are_not_copied():
    model = compiled(MGDACombiner(), blocks="variable")
    model.train_on_batch(*data())
    assert model._combiners == [model.combiner]


@pytest.mark.slow
def test_blocks_by_variable_survive_loading(tmp_path):
    model = compiled(
        MGDACombiner(),
        blocks={"in": [functional().layers[1].name + "/kernel"], "out": [2, 3]},
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["blocks"] == {"in": [0], "out": [2, 3]}
    logs = [
        m.train_on_batch(*data(), return_dict=True) for m in (model, loaded)
    ]
    assert logs[0].keys() == logs[1].keys()
    for key in logs[0]:
        assert logs[0][key] == pytest.approx(logs[1][key], rel=1e-6)


def hand_made_rows(model):
    """Gradients of the mean squared errors at the output of `second`."""
    x, y = data()
    keras_model = keras.Model(model.inputs, model.get_layer("second").output)
    z = np.asarray(keras_model.predict(x, verbose=0), "float64")
    found = []
    for name in NAMES:
        kernel, bias = map(ops.convert_to_numpy, model.get_layer(name).weights)
        error = z @ kernel + bias - y[name]
        found.append((2 * error / len(x) @ kernel.T).ravel())
    return np.array(found)


@pytest.mark.parametrize("eager", quick([False], [False, True]))
def test_gradients_at_a_representation(eager, rows):
    at_output = hand_made_rows(functional())
    step, logs = update(
        MGDACombiner(), gradients_at="second", run_eagerly=eager
    )
    weights = np.array([logs[f"{name}_weight"] for name in NAMES])
    np.testing.assert_allclose(
        weights @ at_output, min_norm_point(at_output), atol=1e-6
    )
    for path in step:
        expected = sum(
            w * row[path] for w, row in zip(weights, rows, strict=True)
        )
        np.testing.assert_allclose(step[path], expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        dict(combiner="mgda", gradients_at="second"),
        dict(combiner="mgda", blocks="layer"),
        dict(combiner="trimmed_mean"),
        dict(combiner="mgda", vectorized_gradients=True),
        dict(combiner="mgda", gradient_parts=2),
    ],
)
def test_compiled_by_a_compiler_of_the_backend(arguments):
    """What PyTorch's does not tell must not be silently wrong."""
    compiled_step, _ = update(jit_compile=True, **arguments)
    plain_step, _ = update(jit_compile=False, **arguments)
    for path, value in plain_step.items():
        np.testing.assert_allclose(compiled_step[path], value, atol=2e-6)


def test_gradients_at_leaves_the_layer_as_it_was(tmp_path):
    model = compiled(MGDACombiner(), gradients_at="second")
    model.fit(*data(), epochs=2, **OPTIONS)
    assert "call" not in vars(model.get_layer("second"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["gradients_at"] == "second"


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(blocks="row"), ValueError, "`blocks` must be one of"),
        (dict(blocks=3), ValueError, "`blocks` must be one of"),
        (dict(blocks={"a": "first/kernel"}), ValueError, "`blocks` must be"),
        (dict(blocks={"a": ["nowhere"]}), ValueError, "'nowhere'"),
        (dict(blocks={}), ValueError, "`blocks` must hold"),
        (
            dict(blocks={"a": TRUNK, "b": TRUNK[:1]}),
            ValueError,
            "first/kernel'] are twice",
        ),
        (dict(gradients_at=3), TypeError, "gradients_at=3"),
        (dict(gradients_at="nowhere"), ValueError, "gradients_at='nowhere'"),
        (
            dict(gradients_at="second", blocks="layer"),
            ValueError,
            "Only one of",
        ),
        (
            dict(gradients_at="second", combiner="graddrop"),
            ValueError,
            "`gradients_at` needs a combiner",
        ),
        (
            dict(blocks="layer", combiner="graddrop"),
            ValueError,
            "`blocks` needs a combiner",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        compiled(**{"combiner": MGDACombiner(), **arguments})


def test_an_objective_that_does_not_depend_on_the_layer_is_named():
    model = compiled(MGDACombiner(), gradients_at="a")
    with pytest.raises(ValueError, match=r"depend: \['b', 'c'\]"):
        model.train_on_batch(*data())


def test_an_objective_that_does_not_reach_the_balanced_variables_is_named():
    model = compiled(MGDACombiner(), balanced_variables=["a/kernel"])
    with pytest.raises(ValueError, match=r"not: \['b', 'c'\]"):
        model.train_on_batch(*data())


@pytest.mark.slow
def test_mmpareto_over_encoders():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    sizes = {"sound": 5, "image": 3}
    x = {
        n: rng.normal(size=(32, s)).astype("float32") for n, s in sizes.items()
    }
    y = rng.integers(4, size=32)
    encoders = {
        name: keras.Sequential(
            [keras.Input((size,)), layers.Dense(6, activation="relu")]
        )
        for name, size in sizes.items()
    }
    model = keras_mimo.late_fusion(encoders, num_classes=4)
    start = model.get_weights()
    steps = {}
    for key, arguments in {
        "fused": dict(combiner=keras_mimo.ConstantCombiner({"fused": 1})),
        "sound": dict(combiner=keras_mimo.ConstantCombiner({"sound": 1})),
        "image": dict(combiner=keras_mimo.ConstantCombiner({"image": 1})),
        "mmpareto": dict(
            combiner=MMParetoCombiner(), blocks=model.encoder_variables
        ),
    }.items():
        model.set_weights(start)
        model.compile(
            keras.optimizers.SGD(1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **arguments,
        )
        model.train_on_batch(x, y)
        after = model.get_weights()
        steps[key] = [a - b for a, b in zip(start, after, strict=True)]
    for name, variables in model.encoder_variables.items():
        indices = [
            k
            for k, v in enumerate(model.weights)
            if any(v is u for u in variables)
        ]
        fused, own, found = (
            np.concatenate([steps[key][k].ravel() for k in indices])
            for key in ("fused", name, "mmpareto")
        )
        h = fused + own
        if fused @ own <= 0:
            h = 2 * min_norm_point([fused, own])
        longer = max(1, np.linalg.norm(fused + own) / np.linalg.norm(h))
        np.testing.assert_allclose(found, 1.5 * longer * h, atol=1e-5)
    heads = [k for k, v in enumerate(model.weights) if "head" in v.path]
    assert len(heads) == 4
    for k in heads:
        total = steps["fused"][k] + steps["sound"][k] + steps["image"][k]
        np.testing.assert_allclose(steps["mmpareto"][k], total, atol=1e-6)
