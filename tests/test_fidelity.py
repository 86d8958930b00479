"""Balanced training is Keras training.

With every weight 1, the gradient path must do what plain `fit` does: each case
trains the same model twice, once as a `keras.Model` and once as a
`BalancedModel` whose objectives are summed after K separate pullbacks.
"""

import copy

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from tests.quick import quick

SAMPLES = 48
BATCH = 16


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class SumOfGradients(keras_mimo.SumCombiner):
    """`SumCombiner`, forced through the Gramian path."""

    needs = "gramian"


class AddLoss(layers.Layer):
    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return x


def features(rng):
    return {
        "a": rng.normal(size=(SAMPLES, 8, 2)).astype("float32"),
        "b": rng.normal(size=(SAMPLES, 5)).astype("float32"),
    }


def labels(rng):
    return {
        "left": rng.integers(0, 3, SAMPLES).astype("int32"),
        "right": rng.normal(size=(SAMPLES, 1)).astype("float32"),
    }


LOSSES = {
    "left": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "right": "mse",
}


def trunk(inputs, regularizer=None, activity=None, extra=False, dropout=0.3):
    a = layers.Conv1D(4, 3, use_bias=False, kernel_regularizer=regularizer)(
        inputs["a"]
    )
    a = layers.BatchNormalization()(a)
    a = layers.Activation("tanh", activity_regularizer=activity)(a)
    a = layers.GlobalAveragePooling1D()(a)
    b = layers.Dense(6, activation="tanh", name="trunk_b")(inputs["b"])
    if extra:
        b = AddLoss()(b)
    shared = layers.Concatenate()([a, b])
    if dropout:
        shared = layers.Dropout(dropout, seed=7)(shared)
    return layers.Dense(8, activation="tanh", name="shared")(shared)


def two_heads(cls, outputs="dict", frozen=False, **options):
    inputs = {
        "a": keras.Input((8, 2), name="a"),
        "b": keras.Input((5,), name="b"),
    }
    shared = trunk(inputs, **options)
    left = layers.Dense(3, name="left")(shared)
    right = layers.Dense(1, name="right")(shared)
    heads = {"left": left, "right": right}
    model = cls(inputs, heads if outputs == "dict" else [left, right])
    if frozen:
        model.get_layer("trunk_b").trainable = False
    return model


def one_head(cls):
    inputs = keras.Input((5,), name="b")
    x = layers.Dense(6, activation="tanh")(inputs)
    x = layers.Dropout(0.3, seed=3)(x)
    return cls(inputs, layers.Dense(3, name="left")(x))


def dense(cls):
    """Small enough for the compiler of PyTorch, which takes its time."""
    inputs = keras.Input((5,), name="b")
    x = layers.Dense(4, activation="tanh")(inputs)
    x = layers.Dropout(0.3, seed=3)(x)
    return cls(
        inputs,
        {
            "left": layers.Dense(3, name="left")(x),
            "right": layers.Dense(1, name="right")(x),
        },
    )


def masked_sequences(cls):
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(11, 4, mask_zero=True)(tokens)
    # The fused kernel of TensorFlow and PyTorch has no mask of this form.
    x = layers.LSTM(5, return_sequences=True, use_cudnn=False)(x)
    return cls(
        tokens,
        {
            "left": layers.Dense(3, name="left")(x),
            "right": layers.Dense(1, name="right")(x),
        },
    )


def unreached_variable(cls):
    """A head without a loss: no objective touches its kernel."""
    model = two_heads(keras.Model)
    shared = model.get_layer("shared").output
    idle = layers.Dense(2, name="idle")(shared)
    return cls(model.input, {**model.output, "idle": idle})


def mixed(policy):
    def build(cls):
        before = keras.dtype_policies.get(keras.config.dtype_policy())
        keras.config.set_dtype_policy(policy)
        try:
            return two_heads(cls)
        finally:
            keras.config.set_dtype_policy(before)

    return build


def train(
    build,
    combiner,
    data,
    optimizer=lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
    compile_options=None,
    fit_options=None,
    seed=0,
):
    cls = keras.Model if combiner is None else keras_mimo.BalancedModel
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    model = build(cls)
    options = {"loss": copy.copy(LOSSES)}
    options.update(compile_options or {})
    if combiner is not None:
        options["combiner"] = combiner
    model.compile(optimizer(), **options)
    keras.utils.set_random_seed(seed + 1)
    history = model.fit(
        *data,
        epochs=2,
        verbose=0,
        shuffle=False,
        **({"batch_size": BATCH} if len(data) > 1 else {}),
        **(fit_options or {}),
    )
    weights = [np.asarray(ops.convert_to_numpy(v)) for v in model.variables]
    return model, weights, history.history


def data_of(rng):
    return features(rng), labels(rng)


def as_dataset(x, y):
    import tensorflow as tf

    return (tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH),)


def single(rng):
    return features(rng)["b"], labels(rng)["left"]


def sequences(rng):
    tokens = rng.integers(1, 11, (SAMPLES, 6)).astype("int32")
    lengths = rng.integers(2, 7, SAMPLES)
    tokens[np.arange(6)[None] >= lengths[:, None]] = 0
    y = {
        "left": rng.integers(0, 3, (SAMPLES, 6)).astype("int32"),
        "right": rng.normal(size=(SAMPLES, 6, 1)).astype("float32"),
    }
    return tokens, y


def case(build=two_heads, data=data_of, tolerance=1e-6, **options):
    return dict(build=build, data=data, tolerance=tolerance, options=options)


def building(**options):
    return lambda cls: two_heads(cls, **options)


def sample_weights(rng):
    return {
        name: rng.uniform(0.2, 2.0, SAMPLES).astype("float32")
        for name in ("left", "right")
    }


CASES = {
    # Several options in one: what the quick part has of those that follow.
    "layers_losses_and_weights": case(
        building(
            regularizer="l2",
            activity=keras.regularizers.L2(1e-2),
            extra=True,
            frozen=True,
        ),
        data=lambda rng: (*data_of(rng), sample_weights(rng)),
        optimizer=lambda: keras.optimizers.SGD(
            1e-2, clipnorm=0.1, use_ema=True, ema_overwrite_frequency=2
        ),
        compile_options={
            "loss_weights": {"left": 0.3, "right": 2.0},
            "metrics": {"left": ["accuracy"], "right": ["mae"]},
        },
        fit_options={"validation_split": 0.33},
    ),
    "eager_with_an_idle_head": case(
        unreached_variable,
        optimizer=lambda: keras.optimizers.AdamW(
            1e-3, gradient_accumulation_steps=3
        ),
        compile_options={"run_eagerly": True},
    ),
    "batchnorm_dropout": case(),
    "l2": case(building(regularizer="l2")),
    "activity_regularizer": case(
        building(activity=keras.regularizers.L2(1e-2))
    ),
    "add_loss": case(building(extra=True)),
    "frozen": case(building(frozen=True)),
    "ema": case(
        optimizer=lambda: keras.optimizers.SGD(
            1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2
        )
    ),
    "loss_weights": case(
        compile_options={"loss_weights": {"left": 0.3, "right": 2.0}}
    ),
    "partial_loss": case(
        compile_options={"loss": {"left": LOSSES["left"], "right": None}}
    ),
    "list_outputs": case(
        building(outputs="list"),
        data=lambda rng: (features(rng), list(labels(rng).values())),
        compile_options={"loss": list(LOSSES.values())},
    ),
    "single_output": case(
        one_head,
        data=single,
        compile_options={"loss": LOSSES["left"], "metrics": ["accuracy"]},
    ),
    "class_weight": case(
        one_head,
        data=single,
        compile_options={"loss": LOSSES["left"]},
        fit_options={"class_weight": {0: 0.5, 1: 2.0, 2: 1.0}},
    ),
    "masked_lstm": case(masked_sequences, data=sequences),
    "sample_weight_dict": case(
        data=lambda rng: (*data_of(rng), sample_weights(rng)),
    ),
    "sample_weight_array": case(
        data=lambda rng: (*data_of(rng), sample_weights(rng)["left"]),
        compile_options={"weighted_metrics": {"left": ["accuracy"]}},
    ),
    "validation_split": case(
        fit_options={"validation_split": 0.33},
        compile_options={"metrics": {"left": ["accuracy"], "right": ["mae"]}},
    ),
    "run_eagerly": case(compile_options={"run_eagerly": True}),
    "tf_data": case(data=lambda rng: as_dataset(*data_of(rng))),
    "clipnorm": case(
        optimizer=lambda: keras.optimizers.SGD(1e-2, clipnorm=0.1),
    ),
    "global_clipnorm": case(
        optimizer=lambda: keras.optimizers.SGD(1e-2, global_clipnorm=0.1),
    ),
    "gradient_accumulation": case(
        optimizer=lambda: keras.optimizers.SGD(
            1e-2, gradient_accumulation_steps=3
        ),
    ),
    "unreached_variable": case(unreached_variable),
    "adam": case(optimizer=lambda: keras.optimizers.AdamW(1e-3)),
    "jit_compile": case(
        dense,
        data=lambda rng: (features(rng)["b"], labels(rng)),
        compile_options={"jit_compile": True},
    ),
    "no_jit_compile": case(compile_options={"jit_compile": False}),
    "loss_scale_factor": case(
        optimizer=lambda: keras.optimizers.SGD(1e-2, loss_scale_factor=64.0)
    ),
    # Separately scaled float16 gradients round differently.
    "mixed_float16": case(mixed("mixed_float16"), tolerance=1e-3),
    "mixed_bfloat16": case(mixed("mixed_bfloat16"), tolerance=1e-3),
}


@pytest.mark.parametrize(
    "name",
    quick(["layers_losses_and_weights", "class_weight"], CASES),
)
def test_equals_plain_keras(name):
    check(**CASES[name])


def check(build, data, tolerance, options):
    data = data(np.random.default_rng(0))
    if len(data) == 3:
        *data, weights = data
        options = dict(options)
        options["fit_options"] = {"sample_weight": weights}
    _, plain, plain_history = train(build, None, data, **options)
    model, ours, history = train(build, SumOfGradients(), data, **options)
    assert model.combiner.needs == "gramian"
    assert len(plain) == len(ours)
    start = [np.asarray(v) for v in train_start(build)]
    moved = max(np.abs(a - b).max() for a, b in zip(plain, start, strict=True))
    assert moved > 100 * tolerance
    for expected, actual in zip(plain, ours, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
    added = {key for key in history if key not in plain_history}
    assert all(k.endswith("_weight") or k == "conflict" for k in added), added
    for key, values in plain_history.items():
        np.testing.assert_allclose(
            history[key], values, rtol=10 * tolerance, atol=10 * tolerance
        )


def train_start(build):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    return [ops.convert_to_numpy(v) for v in build(keras.Model).variables]


@pytest.mark.slow
def test_steps_per_execution():
    arguments = dict(
        build=two_heads,
        data=data_of,
        tolerance=1e-6,
        options={"compile_options": {"steps_per_execution": 2}},
    )
    if keras.backend.backend() == "torch" and not torch_has_multi_steps():
        with pytest.raises(ValueError, match="steps_per_execution"):
            check(**arguments)
    else:
        check(**arguments)


def torch_has_multi_steps():
    """Keras 3.16 brought `steps_per_execution` to PyTorch."""
    return tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 16)
