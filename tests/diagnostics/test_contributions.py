import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.diagnostics import contributions
from keras_mimo.diagnostics.absence import AbsentModalities
from keras_mimo.fusion.scores import worth

CLASSES = 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WIDTHS = {"clear": 6, "faint": 5, "noise": 4}


def encoder(width):
    return keras.Sequential(
        [keras.Input((width,)), layers.Dense(8, activation="relu")]
    )


def encoders(names=tuple(WIDTHS)):
    return {name: encoder(WIDTHS[name]) for name in names}


def samples(number, seed):
    """One modality knows the class, one has a guess, one knows nothing."""
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, number)
    x = {}
    for name, strength in (("clear", 3), ("faint", 1), ("noise", 0)):
        hint = strength * np.eye(WIDTHS[name])[y]
        x[name] = (hint + random.normal(size=hint.shape)).astype("float32")
    return x, y


def only(x, kept, absent=0.0):
    return {
        k: v if k in kept else np.full_like(v, absent) for k, v in x.items()
    }


def fused_network():
    inputs = {k: keras.Input((width,), name=k) for k, width in WIDTHS.items()}
    joined = layers.Concatenate()(list(inputs.values()))
    hidden = layers.Dense(8, activation="relu", name="hidden")(joined)
    return keras.Model(inputs, layers.Dense(CLASSES)(hidden))


BUILDERS = {
    "late": lambda: keras_mimo.late_fusion(encoders(), CLASSES),
    "late, missing": lambda: keras_mimo.late_fusion(
        encoders(), CLASSES, fusion="concat", missing=True
    ),
    "intermediate": lambda: keras_mimo.intermediate_fusion(encoders(), CLASSES),
    "intermediate, missing": lambda: keras_mimo.intermediate_fusion(
        encoders(), CLASSES, missing={"clear": 9.0}
    ),
    "masked": lambda: keras_mimo.mask_modalities(fused_network(), absent=0.5),
    "masked, lost": lambda: keras_mimo.mask_modalities(
        fused_network(), objectives="lost", absent="learnt", missing=True
    ),
    "masked, missing": lambda: keras_mimo.mask_modalities(
        fused_network(), absent="learnt", missing=True
    ),
}


def randomised(model):
    """Learnt vectors, and biases, start as zeros."""
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(random.normal(scale=0.5, size=variable.shape))
    return model


def fused(absence, x, kept):
    values, _, _ = absence.encode(x)
    return absence.fuse(values, kept)


@pytest.mark.parametrize("kind", BUILDERS)
def test_absent_is_what_the_model_calls_absent(kind):
    model = randomised(BUILDERS[kind]())
    calls = [len(o._inbound_nodes) for o in model.operations]
    absence = AbsentModalities(model)
    assert [len(o._inbound_nodes) for o in model.operations] == calls
    x, _ = samples(20, seed=0)
    outputs = model.predict(x, verbose=0)

    def expect(kept, z):
        found = fused(absence, x, kept)
        np.testing.assert_allclose(found, z, rtol=1e-4, atol=1e-5)

    def predicted(kept, absent):
        return model.predict(only(x, kept, absent), verbose=0)["fused"]

    assert sorted(absence.modalities) == sorted(WIDTHS)
    expect(WIDTHS, outputs["fused"])
    pair = ["faint", "noise"]
    if kind == "late":
        expect(pair, predicted(pair, 0.0))
        expect([], predicted([], 0.0))
    elif kind == "masked":
        expect(pair, predicted(pair, 0.5))
        expect([], predicted([], 0.5))
    elif kind == "masked, lost":
        expect(pair, outputs["without_clear"])
        expect(pair, predicted(pair, np.nan))
    elif kind == "intermediate, missing":
        # "faint" can't be missing: a learnt vector all the same.
        expect(["clear"], outputs["clear"])
        expect(["faint", "noise"], predicted(pair, 9.0))
    elif "missing" in kind:
        expect(pair, predicted(pair, np.nan))
        expect([], np.zeros((20, CLASSES)))
    if "lost" not in kind and "late" not in kind:
        expect(["faint"], outputs["faint"])


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = BUILDERS["late"]()
    model.compile(keras.optimizers.Adam(0.03), LOSS, combiner="sum")
    model.fit(*samples(300, seed=1), epochs=10, batch_size=50, verbose=0)
    return model


TEST = samples(500, seed=2)


@pytest.fixture(scope="module")
def found(trained):
    return contributions(trained, *TEST, batch_size=200)


def test_parts_add_up_and_noise_has_none(found):
    names = frozenset(WIDTHS)
    whole = found.values[names] - found.values[frozenset()]
    assert sum(found.parts.values()) == pytest.approx(whole)
    assert abs(found.parts["noise"]) < 0.03
    assert found.parts["clear"] > 0.3 > found.parts["faint"] > 0.02
    assert found.errors is None
    assert found.worst_lost == "clear"


def test_scores_are_those_of_keras(trained, found):
    x, y = TEST
    z = trained.predict(x, verbose=0)
    for name, score in {"fused": found.fused, **found.alone}.items():
        assert score["accuracy"] == pytest.approx(
            np.mean(z[name].argmax(1) == y)
        )
        assert score["log_loss"] == pytest.approx(float(LOSS(y, z[name])), 1e-4)
    lost = trained.predict(only(x, ["faint", "noise"]), verbose=0)["fused"]
    accuracy = np.mean(lost.argmax(1) == y)
    assert found.lost["clear"]["accuracy"] == pytest.approx(accuracy)
    assert found.values[frozenset(["faint", "noise"])] == pytest.approx(
        accuracy
    )
    np.testing.assert_allclose(found.outputs["clear"], z["clear"], atol=1e-5)
    assert found.num_samples == 500


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, weights):
        super().__init__()
        self.data = x, y, weights

    def __len__(self):
        return 4

    def __getitem__(self, index):
        x, y, weights = self.data
        chosen = slice(150 * index, 150 * (index + 1))
        return (
            {k: v[chosen] for k, v in x.items()},
            y[chosen],
            weights[chosen],
        )


def test_a_dataset_gives_what_arrays_give(trained):
    weights = np.random.default_rng(0).uniform(size=500)
    arrays = contributions(trained, *TEST, weights, batch_size=500)
    batches = contributions(trained, Batches(*TEST, weights))
    for score in ("fused", "alone", "lost", "parts"):
        one, other = getattr(arrays, score), getattr(batches, score)
        for key in one:
            assert other[key] == pytest.approx(one[key], rel=1e-4), key


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="imports TensorFlow"
)
def test_a_tf_dataset_gives_what_arrays_give(trained, found):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(TEST).batch(150)
    batches = contributions(trained, data)
    assert batches.parts == pytest.approx(found.parts)
    assert batches.fused == pytest.approx(found.fused, rel=1e-4)


def test_a_calibrated_model_is_scored_calibrated(trained):
    calibration = keras_mimo.calibrate_fusion(trained, *TEST, verbose=0)
    try:
        fused = contributions(trained, *TEST).fused
    finally:
        calibration.reset()
    assert fused == pytest.approx(calibration.after, rel=1e-4)


def test_samples_that_lack_a_modality_do_not_count_for_it():
    model = randomised(BUILDERS["late, missing"]())
    model.compile(loss=LOSS)
    x, y = samples(60, seed=3)
    x["clear"][:20] = np.nan
    found = contributions(model, x, y)
    z = model.predict(x, verbose=0)["clear"]
    assert found.alone["clear"]["accuracy"] == pytest.approx(
        np.mean(z[20:].argmax(1) == y[20:])
    )
    # Without anything the logits are zeros, one hit in three.
    assert found.values[frozenset()] == pytest.approx(1 / CLASSES)
    x["clear"][:] = np.nan
    assert contributions(model, x, y).alone["clear"] is None


def test_many_modalities_are_sampled():
    inputs = {f"m{k}": keras.Input((1,), name=f"m{k}") for k in range(7)}
    outputs = {k: layers.Rescaling(1.0)(x) for k, x in inputs.items()}
    fused = layers.Add()(list(outputs.values()))
    model = keras_mimo.MultimodalModel(inputs, {"fused": fused, **outputs})
    random = np.random.default_rng(0)
    x = {k: random.normal(size=(50, 1)).astype("float32") for k in inputs}
    y = sum(x.values())
    found = contributions(model, x, y, task="regression")
    assert len(found.values) <= 32 * 6 + 2
    whole = -found.values[frozenset()]
    assert found.fused["mean_squared_error"] == pytest.approx(0, abs=1e-6)
    assert sum(found.parts.values()) == pytest.approx(whole)
    # For a sum: what a modality has to do with the sum.
    for name, values in x.items():
        expected = np.mean(values * y)
        gap = abs(found.parts[name] - expected)
        assert gap < 4 * found.errors[name] + 1e-4


def test_probabilities_are_scored_as_such():
    heads = keras_mimo.add_unimodal_heads(
        softmax_network(),
        {"clear": "clear_features", "noise": "noise_features"},
    )
    heads.compile(loss="sparse_categorical_crossentropy")
    x, y = samples(40, seed=0)
    x = {k: x[k] for k in ("clear", "noise")}
    p = heads.predict(x, verbose=0)["fused"]
    found = contributions(heads, x, y)
    expected = -np.mean(np.log(p[np.arange(40), y]))
    assert found.fused["log_loss"] == pytest.approx(expected, rel=1e-4)


def softmax_network():
    inputs = {k: keras.Input((WIDTHS[k],), name=k) for k in ("clear", "noise")}
    features = [
        layers.Dense(4, name=f"{k}_features")(x) for k, x in inputs.items()
    ]
    joined = layers.Concatenate()(features)
    return keras.Model(
        inputs, layers.Dense(CLASSES, activation="softmax")(joined)
    )


def test_an_absent_text_is_not_all_masked():
    words = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(10, 5, mask_zero=True),
            layers.GlobalAveragePooling1D(),
        ]
    )
    pair = {"clear": encoder(WIDTHS["clear"]), "words": words}
    model = keras_mimo.late_fusion(pair, CLASSES)
    model.compile(loss=LOSS)
    x, y = samples(30, seed=0)
    ids = np.random.default_rng(0).integers(1, 10, (30, 4))
    x = {"clear": x["clear"], "words": ids.astype("int32")}
    assert np.isfinite(list(contributions(model, x, y).values.values())).all()


def test_ties_share_the_hit():
    z = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    hits = worth("classification", z, np.eye(2)[[0, 0, 0]])
    np.testing.assert_array_equal(hits, [0.5, 1, 0])


def test_errors():
    model = BUILDERS["late"]()
    with pytest.raises(ValueError, match="`task` must be given"):
        contributions(model, *TEST)
    with pytest.raises(TypeError, match="`model` must be a `keras_mimo"):
        contributions(fused_network(), *TEST)
    with pytest.raises(ValueError, match="`y` must be given"):
        contributions(model, TEST[0], task="classification")
    x = keras.Input((4,), name="x")
    shared = keras_mimo.MultimodalModel(
        {"x": x}, {k: layers.Dense(2)(x) for k in ("fused", "a", "b")}
    )
    with pytest.raises(ValueError, match="inputs of their own"):
        AbsentModalities(shared)
