import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.callbacks import TrainTeachers
from keras_mimo.layers import UnimodalTeacher

CLASSES = 3
SIZE = 24
Y = np.arange(SIZE) % CLASSES
rng = np.random.default_rng(0)
X = {
    m: (np.eye(CLASSES)[Y] + rng.normal(size=(SIZE, CLASSES))).astype("float32")
    for m in ("a", "v")
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def encoder():
    return keras.Sequential(
        [keras.Input((CLASSES,)), layers.Dense(4, activation="tanh")]
    )


def plain(build=keras_mimo.late_fusion, **options):
    return build({"a": encoder(), "v": encoder()}, CLASSES, **options)


def compiled(model, optimizer=None, **options):
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, LOSS, metrics=["accuracy"], **options)
    return model


def fit(model, epochs=1, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, **options).history


def weights(model):
    return [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]


def teachers_of(model):
    layers = model._flatten_layers(include_self=False)
    return {
        layer.name: layer
        for layer in layers
        if isinstance(layer, UnimodalTeacher)
    }


@pytest.fixture(scope="module")
def taught():
    """A model, and the one that it was made of and shares layers with."""
    model = plain()
    teachers = {"a": encoder(), "v": encoder()}
    return keras_mimo.add_unimodal_teachers(model, teachers, 10.0), model


def test_same_outputs_layers_and_encoders(taught):
    taught, model = taught
    assert list(taught.output) == list(model.output) == ["fused", "a", "v"]
    expected = model.predict(X, verbose=0)
    actual = taught.predict(X, verbose=0)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value)
    own = {id(v) for v in model.trainable_variables}
    assert {id(v) for v in taught.trainable_variables} == own
    for found in ("encoder_variables", "branch_variables"):
        for name, variables in getattr(model, found).items():
            others = getattr(taught, found)[name]
            assert list(map(id, others)) == list(map(id, variables))
    assert taught.modality_inputs == model.modality_inputs


def test_the_loss_is_that_of_the_paper(taught):
    """Also beside gradient combiners, to which it is no objective."""
    taught, _ = taught
    features = {
        m: taught.get_layer(f"{m}_encoder").predict(X[m], verbose=0) for m in X
    }
    known = {
        m: taught.get_layer(f"{m}_teacher").teacher.predict(X[m], verbose=0)
        for m in X
    }
    apart = sum(np.mean((features[m] - known[m]) ** 2) for m in X)
    compiled(taught, keras.optimizers.SGD(0.0))
    logs = fit(taught, batch_size=SIZE)
    expected = logs["fused_loss"][0] + 10 * apart
    np.testing.assert_allclose(logs["loss"][0], expected, rtol=1e-5)
    without = taught.evaluate(X, Y, return_dict=True, verbose=0)
    np.testing.assert_allclose(
        without["loss"], logs["fused_loss"][0], rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("combiner", [None, "upgrad"])
def test_encoders_are_drawn_to_their_teachers(combiner):
    """By the gradient of the loss, and teachers do not move."""
    model = plain()
    taught = keras_mimo.add_unimodal_teachers(
        model, {"a": encoder(), "v": encoder()}, 50.0
    )
    compiled(taught, keras.optimizers.SGD(0.05), combiner=combiner)

    def apart(m):
        student = model.get_layer(f"{m}_encoder").predict(X[m], verbose=0)
        teacher = taught.get_layer(f"{m}_teacher").teacher
        return np.mean((student - teacher.predict(X[m], verbose=0)) ** 2)

    before = {m: apart(m) for m in X}
    fixed = [
        w.copy()
        for layer in teachers_of(taught).values()
        for w in layer.get_weights()
    ]
    fit(taught, epochs=4)
    for m in X:
        assert apart(m) < 0.2 * before[m]
    after = [
        w for layer in teachers_of(taught).values() for w in layer.get_weights()
    ]
    for old, new in zip(fixed, after, strict=True):
        np.testing.assert_array_equal(new, old)


def test_what_is_served_has_no_teachers(taught, tmp_path):
    taught, model = taught
    served = keras_mimo.inference_model(taught)
    assert not teachers_of(served)
    assert served.count_params() == model.count_params()
    served.save(tmp_path / "served.keras")
    again = keras.models.load_model(tmp_path / "served.keras")
    np.testing.assert_allclose(
        again.predict(X, verbose=0),
        taught.predict(X, verbose=0)["fused"],
        atol=1e-6,
    )


@pytest.mark.slow
def test_saved_and_resumed(tmp_path):
    def run():
        keras.utils.set_random_seed(0)
        model = keras_mimo.add_unimodal_teachers(plain())
        return compiled(model, keras.optimizers.Adam(0.01))

    teach = {"train": (X, Y), "epochs": 2, "batch_size": 8}
    straight = run()
    fit(straight, epochs=4, callbacks=[TrainTeachers(**teach)])
    model = run()
    fit(model, epochs=2, callbacks=[TrainTeachers(**teach)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = TrainTeachers(**teach)
    fit(loaded, epochs=4, initial_epoch=2, callbacks=[again])
    assert again.history == []
    for a, b in zip(straight.weights, loaded.weights, strict=True):
        a, b = map(keras.ops.convert_to_numpy, (a, b))
        np.testing.assert_allclose(b, a, atol=1e-6)


def test_clones_have_teachers_of_their_own(taught):
    taught, _ = taught
    clone = keras.models.clone_model(taught)
    assert set(teachers_of(clone)) == {"a_teacher", "v_teacher"}
    assert len(clone.trainable_variables) == len(taught.trainable_variables)
    clone.set_weights(taught.get_weights())
    np.testing.assert_allclose(
        clone.predict(X, verbose=0)["fused"],
        taught.predict(X, verbose=0)["fused"],
        atol=1e-6,
    )


@pytest.mark.slow
def test_trained_teachers_know_their_modality_alone():
    """As a network of that modality does that is trained by itself."""
    keras.utils.set_random_seed(1)
    model = keras_mimo.add_unimodal_teachers(plain())
    compiled(model, keras.optimizers.Adam(0.01))
    before = weights(model)
    layer = model.get_layer("a_teacher")
    alone = keras.Sequential(
        [
            keras.models.clone_model(layer.teacher),
            layers.Dense(
                CLASSES,
                kernel_initializer=keras.initializers.GlorotUniform(seed=0),
            ),
        ]
    )
    alone.build((None, CLASSES))
    alone.layers[0].set_weights(layer.teacher.get_weights())
    alone.compile(keras.optimizers.Adam(0.01), LOSS)
    teach = TrainTeachers((X, Y), epochs=3, batch_size=8)
    teach.set_model(model)
    teach.on_train_begin()
    order = np.random.default_rng(0)
    means = []
    for _ in range(3):
        rows = order.permutation(SIZE)
        losses = []
        for start in range(0, SIZE, 8):
            batch = rows[start : start + 8]
            # As Keras 3.12 does not.
            alone.reset_metrics()
            losses.append(alone.train_on_batch(X["a"][batch], Y[batch]))
        means.append(np.mean(losses))
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(new, old)
    for expected, actual in zip(
        alone.layers[0].get_weights(), layer.teacher.get_weights(), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    found = [entry["a"] for entry in teach.history]
    np.testing.assert_allclose(found, means, rtol=1e-5)
    assert found[2] < found[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [keras_mimo.late_fusion, keras_mimo.intermediate_fusion]
)
def test_samples_without_a_modality_have_no_part(build):
    x = {**X, "a": X["a"].copy()}
    x["a"][:6] = np.nan
    plain_model = plain(build, missing={"a": None})
    model = keras_mimo.add_unimodal_teachers(plain_model, weight=10.0)
    compiled(model, keras.optimizers.SGD(0.0))
    student, teacher = (
        model.get_layer(name) for name in ("a_encoder", "a_teacher")
    )
    args = {"batch_size": SIZE, "verbose": 0}
    teach = TrainTeachers((x, Y), epochs=1, batch_size=8)
    logs = model.fit(x, Y, callbacks=[teach], **args).history
    assert np.isfinite(teach.history[0]["a"])

    def apart(m, kept):
        student = model.get_layer(f"{m}_encoder").predict(X[m], verbose=0)
        teacher = model.get_layer(f"{m}_teacher").teacher
        taught = teacher.predict(X[m], verbose=0)
        return np.mean((student - taught)[kept] ** 2)

    parts = apart("a", slice(6, None)) + apart("v", slice(None))
    extra = logs["loss"][0] - logs["fused_loss"][0]
    np.testing.assert_allclose(extra, 10 * parts, rtol=1e-4)
    assert student is not teacher


@pytest.mark.slow
def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras_mimo.add_unimodal_teachers(plain())
        compiled(model, keras.optimizers.Adam(0.01), combiner="sum")
        teach = TrainTeachers((X, Y), epochs=1, batch_size=8)
        logs = fit(model, epochs=2, callbacks=[teach])
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(logs["loss"]).all()
    assert model.get_layer("a_encoder").output.dtype == "bfloat16"


@pytest.mark.slow
def test_a_multimodal_model_teaches_and_is_compared():
    teachers = compiled(
        plain(),
        keras.optimizers.Adam(0.01),
        combiner=keras_mimo.ConstantCombiner({"a": 1.0, "v": 1.0}),
    )
    fit(teachers)
    taught = keras_mimo.add_unimodal_teachers(plain(), teachers)
    inner = teachers.get_layer("a_encoder")
    assert taught.get_layer("a_teacher").teacher is inner
    result = keras_mimo.compare(
        plain,
        (X, Y),
        (X, Y),
        methods=[
            {
                "name": "UMT",
                "build": lambda: keras_mimo.add_unimodal_teachers(plain()),
                "callbacks": lambda train: [TrainTeachers(train, 1)],
            }
        ],
        compile={"optimizer": "adam", "loss": LOSS},
        fit={"epochs": 1, "batch_size": 8},
        seeds=1,
    )
    assert "failed" not in str(result)


def test_invalid_arguments():
    model = plain()
    with pytest.raises(TypeError, match="`model` must be a `keras_mimo"):
        keras_mimo.add_unimodal_teachers(encoder())
    with pytest.raises(ValueError, match="`teachers` must name modalities"):
        keras_mimo.add_unimodal_teachers(model, {"x": encoder()})
    with pytest.raises(TypeError, match="`teachers` must be a dict"):
        keras_mimo.add_unimodal_teachers(model, [encoder()])
    with pytest.raises(ValueError, match="must not be the encoders of"):
        keras_mimo.add_unimodal_teachers(model, model)
    masked = keras_mimo.mask_modalities(keras_mimo.inference_model(model))
    with pytest.raises(ValueError, match="called `<modality>_encoder`"):
        keras_mimo.add_unimodal_teachers(masked)
    teach = TrainTeachers((X, Y), epochs=1)
    teach.set_model(compiled(model))
    with pytest.raises(ValueError, match="`TrainTeachers` needs a model"):
        teach.on_train_begin()
