import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from tests.quick import quick

BACKEND = keras.backend.backend()


def data(samples=32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 6)).astype("float32")
    y = {
        "left": rng.integers(0, 3, samples).astype("int32"),
        "right": rng.normal(size=(samples, 1)).astype("float32"),
    }
    return x, y


LOSS = {
    "left": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "right": "mse",
}


def functional(cls=keras_mimo.BalancedModel, dropout=0.0):
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(8, activation="tanh", name="shared")(inputs)
    x = layers.Dropout(dropout)(x)
    outputs = {
        "left": layers.Dense(3, name="left")(x),
        "right": layers.Dense(1, name="right")(x),
    }
    return cls(inputs, outputs)


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Subclassed(keras_mimo.BalancedModel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.shared = layers.Dense(8, activation="tanh")
        self.left = layers.Dense(3)
        self.right = layers.Dense(1)

    def build(self, input_shape):
        self.shared.build(input_shape)
        for head in (self.left, self.right):
            head.build((None, 8))

    def call(self, x):
        x = self.shared(x)
        return {"left": self.left(x), "right": self.right(x)}


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class AverageLosses(keras_mimo.BalancedGradientCombiner):
    """State of the simplest kind: a running mean of the losses."""

    needs = "losses"

    def build(self, objective_names):
        super().build(objective_names)
        self.average = self.add_weight(
            name="average",
            shape=(len(objective_names),),
            initializer="ones",
            trainable=False,
        )

    def call(self, losses, gramian=None, active=None, training=True):
        self.average.assign(0.9 * self.average + 0.1 * losses)
        return 1.0 / self.average


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class AverageLossesOfGradients(AverageLosses):
    needs = "gramian"


STATEFUL = [AverageLosses, AverageLossesOfGradients]


def compiled(build=functional, combiner=None, **options):
    model = build()
    options.setdefault("loss", dict(LOSS))
    model.compile(keras.optimizers.Adam(1e-2), combiner=combiner, **options)
    return model


def values(variables):
    return [ops.convert_to_numpy(v).copy() for v in variables]


def assert_equal(actual, expected, tolerance=0.0):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def largest_difference(actual, expected):
    pairs = zip(actual, expected, strict=True)
    return max(np.abs(a - b).max() for a, b in pairs)


def test_without_combiner_is_keras_to_the_last_bit():
    x, y = data()
    trained = []
    for cls in (keras.Model, keras_mimo.BalancedModel):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = functional(cls, dropout=0.2)
        model.compile("adam", dict(LOSS), metrics={"left": ["accuracy"]})
        history = model.fit(x, y, epochs=2, batch_size=8, verbose=0).history
        trained.append((values(model.variables), history))
    (plain, plain_history), (ours, our_history) = trained
    assert_equal(ours, plain)
    assert our_history == plain_history


def test_logs_of_a_combiner_of_gradients():
    x, y = data()
    model = compiled(combiner=keras_mimo.MGDACombiner())
    history = model.fit(
        x, y, epochs=2, verbose=0, validation_data=(x, y)
    ).history
    assert set(history) == {
        "loss",
        "left_loss",
        "right_loss",
        "left_weight",
        "right_weight",
        "conflict",
        "val_loss",
        "val_left_loss",
        "val_right_loss",
    }
    weights = np.array(history["left_weight"]) + history["right_weight"]
    np.testing.assert_allclose(weights, 1.0, atol=1e-6)
    total = np.array(history["val_left_loss"]) + history["val_right_loss"]
    np.testing.assert_allclose(history["val_loss"], total, rtol=1e-6)


def test_evaluate_and_on_batch_methods_agree():
    x, y = data()
    model = compiled(combiner=keras_mimo.MGDACombiner())
    logs = model.train_on_batch(x, y, return_dict=True)
    assert {"left_weight", "conflict"} <= set(logs)
    evaluated = model.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    on_batch = model.test_on_batch(x, y, return_dict=True)
    assert set(evaluated) == {"loss", "left_loss", "right_loss"}
    for key, value in evaluated.items():
        np.testing.assert_allclose(on_batch[key], value, rtol=1e-6)
    assert len(model.evaluate(x, y, verbose=0)) == len(evaluated)
    assert "conflict" in model.train_on_batch(x, y, return_dict=True)


def test_subclassed_model_trains():
    x, y = data()
    for combiner in (keras_mimo.MeanCombiner(), keras_mimo.MGDACombiner()):
        model = compiled(Subclassed, combiner=combiner)
        history = model.fit(x, y, epochs=8, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        assert "left_weight" in history


class Custom(keras_mimo.BalancedModel):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.remark = "kept"


def test_functional_and_subclassed_models_live_side_by_side():
    for _ in range(2):
        assert isinstance(functional(), keras_mimo.BalancedModel)
        custom = functional(Custom)
        assert type(custom) is Custom and custom.remark == "kept"
        assert custom.output_names == ["left", "right"]
        model = Subclassed()
        assert set(model(np.ones((2, 6)))) == {"left", "right"}
        assert not hasattr(model, "output_names")


def test_weights_are_those_of_the_model_alone():
    x, y = data()
    model = compiled(combiner=AverageLosses())
    model.fit(x, y, verbose=0)
    (state,) = model.combiner.variables
    assert any(v is state for v in model.variables)
    assert any(v is state for v in model.non_trainable_variables)
    assert not any(v is state for v in model.weights)
    assert len(model.get_weights()) == 6


@pytest.mark.parametrize("combiner", STATEFUL)
def test_state_moves_in_training_only(combiner):
    x, y = data()
    model = compiled(combiner=combiner())
    model.fit(x, y, verbose=0)
    (before,) = values(model.combiner.variables)
    assert np.abs(before - 1.0).max() > 1e-3
    model.evaluate(x, y, verbose=0)
    assert_equal(values(model.combiner.variables), [before])
    model.fit(x, y, verbose=0)
    assert np.abs(values(model.combiner.variables)[0] - before).max() > 1e-4


@pytest.mark.parametrize(
    "combiner, build",
    quick(
        [(AverageLosses, functional), (AverageLossesOfGradients, Subclassed)],
        itertools.product(STATEFUL, [functional, Subclassed]),
    ),
)
def test_a_saved_model_continues_as_if_it_had_not_stopped(
    combiner, build, tmp_path
):
    x, y = data()
    options = dict(batch_size=8, shuffle=False, verbose=0)
    model = compiled(
        build,
        combiner=combiner(),
        loss_weights={"left": 0.5, "right": 2.0},
        metrics={"left": ["accuracy"]},
    )
    model.fit(x, y, epochs=2, **options)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert type(loaded.combiner) is combiner
    assert_equal(values(loaded.variables), values(model.variables))
    expected = model.fit(x, y, epochs=2, **options).history
    actual = loaded.fit(x, y, epochs=2, **options).history
    assert set(actual) == set(expected)
    for key in expected:
        np.testing.assert_allclose(actual[key], expected[key], rtol=1e-6)
    assert_equal(values(loaded.variables), values(model.variables), 1e-6)


def test_weight_files_fit_models_with_and_without_a_combiner(tmp_path):
    x, y = data()
    balanced = compiled(combiner=AverageLosses())
    balanced.fit(x, y, verbose=0)
    balanced.save_weights(tmp_path / "balanced.weights.h5")
    plain = functional(keras.Model)
    plain.load_weights(tmp_path / "balanced.weights.h5")
    assert_equal(values(plain.weights), values(balanced.weights))
    plain.save_weights(tmp_path / "plain.weights.h5")
    before = values(balanced.combiner.variables)
    balanced.load_weights(tmp_path / "plain.weights.h5")
    assert_equal(values(balanced.combiner.variables), before)


def test_clone_gets_a_fresh_combiner():
    x, y = data()
    model = compiled(combiner=AverageLosses())
    model.fit(x, y, verbose=0)
    clone = keras.models.clone_model(model)
    assert isinstance(clone, keras_mimo.BalancedModel)
    assert clone.combiner is not model.combiner
    assert_equal(values(clone.combiner.variables), [np.ones(2)])
    clone.fit(x, y, verbose=0)


def test_compile_config_keeps_what_the_user_gave():
    model = compiled(
        combiner=keras_mimo.MGDACombiner(normalization="l2"),
        balanced_variables=lambda v: "shared" in v.path,
        jit_compile="auto",
    )
    config = model.get_compile_config()
    assert config["balanced_variables"] == [0, 1]
    assert config["jit_compile"] == "auto"
    clone = functional()
    clone.compile_from_config(config)
    assert clone.combiner.normalization == "l2"
    assert clone.get_compile_config() == config


def test_balanced_variables_survive_loading(tmp_path):
    """Keras changes the paths of nested variables when it loads them."""
    x, y = data()
    inputs = keras.Input((6,))
    nested = keras.Sequential([keras.Input((6,)), layers.Dense(8)])
    shared = keras.Model(inputs, nested(inputs), name="outer")(inputs)
    outputs = {
        "left": layers.Dense(3)(shared),
        "right": layers.Dense(1)(shared),
    }
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        "sgd",
        dict(LOSS),
        combiner=keras_mimo.MGDACombiner(),
        balanced_variables=[nested.trainable_variables[0]],
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.train_on_batch(x, y, return_dict=True)
    actual = loaded.train_on_batch(x, y, return_dict=True)
    assert set(actual) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, rtol=1e-6)


def test_balanced_variables_limit_the_gramian_not_the_update():
    x, y = data()
    model = compiled(
        combiner=keras_mimo.MGDACombiner(normalization="l2"),
        balanced_variables=lambda v: "shared" in v.path,
    )
    before = values(model.trainable_variables)
    logs = model.train_on_batch(x, y, return_dict=True)
    for name, row in zip(
        ("left", "right"), gradients_by_objective(before, x, y), strict=True
    ):
        norm = np.sqrt(sum((g**2).sum() for g in row[:2]))
        np.testing.assert_allclose(
            logs[f"{name}_weight"], 0.5 / norm, rtol=1e-5
        )
    after = values(model.trainable_variables)
    for old, new in zip(before, after, strict=True):
        assert np.abs(old - new).max() > 1e-4


def gradients_by_objective(weights, x, y):
    """Gradients of both objectives, by hand, of `functional()`."""
    kernel, bias, left, left_bias, right, right_bias = weights
    hidden = np.tanh(x @ kernel + bias)
    logits = hidden @ left + left_bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    d_logits = (p - np.eye(3)[y["left"]]) / len(x)
    d_right = 2 * (hidden @ right + right_bias - y["right"]) / len(x)

    def trunk(d_hidden):
        d = d_hidden * (1 - hidden**2)
        return [x.T @ d, d.sum(axis=0)]

    zeros = [np.zeros_like(w) for w in weights]
    return (
        [
            *trunk(d_logits @ left.T),
            hidden.T @ d_logits,
            d_logits.sum(axis=0),
            *zeros[4:],
        ],
        [
            *trunk(d_right @ right.T),
            *zeros[2:4],
            hidden.T @ d_right,
            d_right.sum(axis=0),
        ],
    )


def sgd_step(combiner, x, y, **options):
    """The gradient of one step, read off plain gradient descent."""
    model = functional()
    model.compile(
        keras.optimizers.SGD(1.0), dict(LOSS), combiner=combiner, **options
    )
    before = values(model.trainable_variables)
    logs = model.train_on_batch(x, y, return_dict=True)
    after = values(model.trainable_variables)
    step = [a - b for a, b in zip(before, after, strict=True)]
    return before, step, logs


def test_mimo_gradient_equals_the_hand_written_one():
    x, y = data()
    penalty, smoothing = 1.5, 0.2
    combiner = keras_mimo.MIMOCombiner("left", penalty, smoothing)
    before, step, logs = sgd_step(combiner, x, y)
    fused, other = gradients_by_objective(before, x, y)
    expected = [f + penalty * o for f, o in zip(fused, other, strict=True)]
    assert_equal(step, expected, 1e-6)
    scalar = logs["left_loss"] + penalty * logs["right_loss"]
    np.testing.assert_allclose(logs["loss"], scalar, rtol=1e-6)


def test_mimo_gradient_weighs_the_unimodal_gradients_by_their_softmax():
    """Against the gradients of each loss alone, taken by plain Keras."""
    x, y = data()
    targets = {"fused": y["right"], "a": 2 * y["right"], "b": y["right"] - 1}
    inputs = keras.Input((6,))
    shared = layers.Dense(8, activation="tanh")(inputs)
    outputs = {name: layers.Dense(1)(shared) for name in targets}
    start = keras.Model(inputs, outputs).get_weights()

    def step(cls, **options):
        model = cls(inputs, outputs)
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(1.0), **options)
        logs = model.train_on_batch(x, targets, return_dict=True)
        moved = zip(start, model.get_weights(), strict=True)
        return [old - new for old, new in moved], logs

    rows, losses = {}, {}
    for name in targets:
        loss = {key: "mse" if key == name else None for key in targets}
        rows[name], logs = step(keras.Model, loss=loss)
        losses[name] = logs["loss"]
    actual, logs = step(
        keras_mimo.BalancedModel,
        loss={name: "mse" for name in targets},
        combiner=keras_mimo.MIMOCombiner(penalty=0.7, smoothing=2.0),
    )
    p = np.exp([losses["a"] / 2.0, losses["b"] / 2.0])
    scalar = losses["fused"] + 0.7 * 2.0 * np.log(p.mean())
    p /= p.sum()
    assert 0.05 < p[0] < 0.95
    expected = [
        fused + 0.7 * (p[0] * a + p[1] * b)
        for fused, a, b in zip(*rows.values(), strict=True)
    ]
    assert_equal(actual, expected, 1e-6)
    np.testing.assert_allclose(logs["loss"], scalar, rtol=1e-5)
    np.testing.assert_allclose(logs["a_weight"], 0.7 * p[0], rtol=1e-5)


def test_mgda_step_descends_every_objective_of_a_real_model():
    for seed in range(5):
        x, y = data(seed=seed)
        keras.utils.set_random_seed(seed)
        before, step, logs = sgd_step(keras_mimo.MGDACombiner(), x, y)
        step = np.concatenate([d.ravel() for d in step]).astype("float64")
        square = step @ step
        for row in gradients_by_objective(before, x, y):
            row = np.concatenate([g.ravel() for g in row])
            assert row @ step >= square - 1e-5 * np.linalg.norm(row) * (
                np.linalg.norm(step)
            )
        assert 0 < logs["left_weight"] < 1


@pytest.mark.parametrize("combiner", STATEFUL)
def test_a_nan_batch_stops_training_and_leaves_the_state_alone(combiner):
    x, y = data()
    model = compiled(combiner=combiner())
    model.fit(x, y, batch_size=8, verbose=0)
    before = values(model.combiner.variables)
    poisoned = {**y, "right": y["right"] * np.nan}
    history = model.fit(
        x,
        poisoned,
        batch_size=8,
        epochs=3,
        verbose=0,
        callbacks=[keras.callbacks.TerminateOnNaN()],
    ).history
    assert len(history["loss"]) <= 1
    assert model.stop_training
    assert_equal(values(model.combiner.variables), before)


@pytest.mark.parametrize("combiner", STATEFUL)
def test_overflow_in_float16_skips_the_step_and_leaves_the_state_alone(
    combiner,
):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(combiner=combiner())
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = data()
    model.fit(x, y, batch_size=8, verbose=0)
    before = values([*model.combiner.variables, *model.trainable_variables])
    scale = float(model.optimizer.dynamic_scale)
    model.train_on_batch(x, {**y, "right": y["right"] * np.inf})
    after = values([*model.combiner.variables, *model.trainable_variables])
    assert_equal(after, before)
    assert float(model.optimizer.dynamic_scale) == scale / 2
    model.train_on_batch(x, y)
    assert largest_difference(values(model.trainable_variables), before[1:]) > 0


def test_recompiling_with_a_combiner_of_other_objectives_is_refused():
    x, y = data()
    combiner = keras_mimo.MeanCombiner()
    model = compiled(combiner=combiner)
    model.fit(x, y, verbose=0)
    model.compile("sgd", dict(LOSS), combiner=combiner)
    model.fit(x, y, verbose=0)
    model.compile("sgd", {"left": LOSS["left"]}, combiner=combiner)
    with pytest.raises(ValueError, match="built for the objectives"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    "argument, value",
    [
        ("combiner", 3),
        ("combiner", keras.layers.Dense(1)),
        ("combiner", keras_mimo.MIMOCombiner),
        ("objectives", "modalities"),
        ("balanced_variables", "shared"),
        ("balanced_variables", [1.0]),
    ],
)
def test_wrong_types_are_named_at_compile(argument, value):
    model = functional()
    with pytest.raises(TypeError, match=f"`{argument}` must be.*Received"):
        model.compile("sgd", dict(LOSS), **{argument: value})


def test_unknown_balanced_variables_are_named():
    with pytest.raises(ValueError, match=r"nowhere/kernel.*shared/kernel"):
        compiled(
            combiner=keras_mimo.MGDACombiner(),
            balanced_variables=["nowhere/kernel"],
        )


def test_a_combiner_needs_a_loss():
    with pytest.raises(ValueError, match="`loss` must be given"):
        functional().compile("sgd", combiner=keras_mimo.MeanCombiner())


def test_mimo_names_the_objectives_when_the_fused_one_is_missing():
    x, y = data()
    model = compiled(combiner=keras_mimo.MIMOCombiner(fused="x"))
    with pytest.raises(ValueError, match=r"\['left', 'right'\].*fused='x'"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    "combiner", [keras_mimo.MGDACombiner(), keras_mimo.MIMOCombiner("left")]
)
def test_one_objective_is_too_few_to_balance(combiner):
    x, y = data()
    model = compiled(combiner=combiner, loss={"left": LOSS["left"]})
    with pytest.raises(ValueError, match="at least 2 objectives"):
        model.fit(x, y, verbose=0)


def test_a_loss_that_is_no_scalar_is_refused():
    x, y = data()
    loss = keras.losses.MeanSquaredError(reduction=None)
    model = compiled(
        combiner=keras_mimo.MeanCombiner(), loss={**LOSS, "right": loss}
    )
    with pytest.raises(ValueError, match=r"must be a scalar.*squared_error"):
        model.fit(x, y, verbose=0)


@pytest.mark.slow
def test_a_backend_that_cannot_train_is_refused():
    pytest.importorskip("jax", reason="Keras' numpy backend imports it")
    code = (
        "import keras, keras_mimo, numpy as np\n"
        "inputs = keras.Input((2,))\n"
        "outputs = keras.layers.Dense(1)(inputs)\n"
        "model = keras_mimo.BalancedModel(inputs, outputs)\n"
        "model.predict(np.ones((3, 2)), verbose=0)\n"
        "model.compile('sgd', 'mse', combiner=keras_mimo.MeanCombiner())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
    )
    assert "ValueError: Balanced training needs a backend" in done.stderr
    assert "'numpy', which is for inference only" in done.stderr
