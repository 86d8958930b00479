"""Modulations in real models: what a step does to which variables."""

import functools

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo import modulations
from tests.quick import quick

rng = np.random.default_rng(0)
Y = rng.integers(0, 3, 48)
# The first modality tells the class, the second is noise.
X = {
    "clear": np.eye(3, 6)[Y].astype("float32"),
    "noise": rng.normal(size=(48, 6)).astype("float32"),
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def encoder(units=8):
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(units, activation="relu")]
    )


@functools.cache
def known():
    """Weights of a model that knows the class by the first modality."""
    made = keras_mimo.late_fusion({"clear": encoder(), "noise": encoder()}, 3)
    made.compile("adam", LOSS, combiner="sum")
    made.fit(X, Y, epochs=20, batch_size=8, verbose=0)
    return made.get_weights()


def late_fusion(encoders, num_classes):
    made = keras_mimo.late_fusion(encoders, num_classes)
    made.set_weights(known())
    return made


def model(modulation=None, combiner=None, optimizer=None, build=None):
    keras.utils.set_random_seed(1)
    made = (build or late_fusion)({"clear": encoder(), "noise": encoder()}, 3)
    made.compile(
        optimizer or keras.optimizers.SGD(0.5),
        LOSS,
        metrics=["accuracy"],
        combiner=combiner,
        modulation=modulation,
    )
    return made


def values(model):
    return {
        f"{layer.name}/{variable.name}": np.array(variable)
        for layer in model.layers
        for variable in layer.trainable_weights
    }


def moved(made, steps=1):
    before = values(made)
    for _ in range(steps):
        made.train_on_batch(X, Y)
    after = values(made)
    return {path: after[path] - before[path] for path in before}


def of(part, changes):
    return {p: c for p, c in changes.items() if part in p}


COMBINERS = [None, "sum", "mgda", "famo"]


@pytest.mark.parametrize("combiner", quick([None, "mgda"], COMBINERS))
def test_a_step_is_scaled_by_the_factors(combiner):
    plain = moved(model(combiner=combiner))
    made = model("ogm", combiner)
    scaled = moved(made)
    ahead, behind = np.array(made.modulation.factors)
    assert ahead < 1 == behind
    for path, change in scaled.items():
        factor = ahead if path.startswith("clear_encoder") else 1.0
        np.testing.assert_allclose(
            change, factor * plain[path], rtol=1e-4, atol=1e-7
        )
    assert np.abs(of("clear_encoder", plain)["clear_encoder/kernel"]).max()


@pytest.mark.slow
@pytest.mark.parametrize("combiner", COMBINERS)
def test_factors_of_one_change_nothing(combiner):
    run = functools.partial(moved, steps=3)
    plain = run(model(combiner=combiner))
    idle = run(model(modulations.OGM(noise=True, start=9), combiner))
    for path, change in plain.items():
        np.testing.assert_array_equal(change, idle[path])


def test_adam_cancels_a_factor_on_gradients_and_not_on_updates():
    def change(scale):
        ogm = modulations.OGM(scale=scale) if scale else None
        made = model(ogm, "sum", keras.optimizers.Adam(1e-3, epsilon=1e-12))
        kernel = moved(made)["clear_encoder/kernel"]
        return np.abs(kernel).max(), made

    (plain, _), (gradient, _), (update, made) = map(
        change, [None, "gradient", "update"]
    )
    factor = float(np.array(made.modulation.factors)[0])
    assert factor < 0.5
    np.testing.assert_allclose(gradient, plain, rtol=1e-3)
    np.testing.assert_allclose(update, factor * plain, rtol=1e-3)


def test_heads_of_mlb_are_scaled_too():
    plain = moved(model(combiner="sum"))
    made = model("mlb", "sum")
    scaled = moved(made)
    slow, fast = np.array(made.modulation.factors)
    assert slow < 1 < fast
    for modality, factor in (("clear", slow), ("noise", fast)):
        for path, change in of(modality, scaled).items():
            np.testing.assert_allclose(
                change, factor * plain[path], rtol=1e-4, atol=1e-7
            )
    assert of("noise_head", scaled)


@pytest.mark.slow
def test_noise_has_the_deviation_of_the_gradient():
    def changes(noise):
        keras.utils.set_random_seed(1)
        wide = keras_mimo.late_fusion(
            {"clear": encoder(512), "noise": encoder(512)}, 3
        )
        wide.compile(
            keras.optimizers.SGD(1.0),
            LOSS,
            modulation=modulations.OGM(noise=noise, seed=1),
        )
        return moved(wide)

    quiet, noisy = changes(False), changes(True)
    plain = moved_without(512)
    for path in of("encoder", quiet):
        added = noisy[path] - quiet[path]
        if "kernel" in path:
            ratio = added.std() / plain[path].std()
            np.testing.assert_allclose(ratio, 1.0, rtol=0.1)
            assert abs(added.mean()) < 0.1 * added.std()
    for path in of("head", quiet):
        np.testing.assert_array_equal(noisy[path], quiet[path])


def moved_without(units):
    keras.utils.set_random_seed(1)
    wide = keras_mimo.late_fusion(
        {"clear": encoder(units), "noise": encoder(units)}, 3
    )
    wide.compile(keras.optimizers.SGD(1.0), LOSS)
    return moved(wide)


def three(encoders, num_classes):
    encoders["other"] = encoder()
    trunk = keras.layers.Dense(8, activation="tanh")
    return keras_mimo.intermediate_fusion(encoders, num_classes, trunk)


def test_parts_of_agm_are_the_fused_logits_together():
    made = model("agm", build=three)
    x = {name: keras.ops.convert_to_tensor(v) for name, v in X.items()}
    x["other"] = keras.ops.flip(x["noise"], 0)
    y_pred = made(x, training=True)
    parts = made.modulation.outputs(made, x, y_pred)
    assert list(parts) == ["clear", "noise", "other"]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(sum(parts.values())),
        keras.ops.convert_to_numpy(y_pred["fused"]),
        atol=1e-5,
    )
    apart = [keras.ops.convert_to_numpy(part) for part in parts.values()]
    assert np.abs(apart[0] - apart[1]).max() > 0.01


@pytest.mark.slow
def test_the_first_step_of_agm_is_one_without():
    # There is no past to compare with.
    plain, first = moved(model()), moved(model("agm"))
    for path, change in plain.items():
        np.testing.assert_allclose(first[path], change, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_agm_takes_a_network_without_encoders_apart():
    def early(encoders, num_classes):
        inputs = {name: keras.Input((6,), name=name) for name in X}
        joined = keras.layers.Concatenate()(list(inputs.values()))
        hidden = keras.layers.Dense(8, activation="tanh")(joined)
        outputs = keras.layers.Dense(num_classes)(hidden)
        return keras_mimo.mask_modalities(keras.Model(inputs, outputs))

    made = model("agm", build=early)
    assert made.modality_inputs == {"clear": {"clear"}, "noise": {"noise"}}
    moved(made, steps=2)
    assert (np.array(made.modulation.factors) != 1).all()
    with pytest.raises(ValueError, match="an encoder of its own"):
        model("ogm", build=early)


def test_agm_keeps_no_statistics_of_inputs_with_zeros():
    def normalized(encoders, num_classes):
        encoders = {
            name: keras.Sequential(
                [keras.Input((6,)), keras.layers.BatchNormalization(), inner]
            )
            for name, inner in encoders.items()
        }
        return keras_mimo.late_fusion(encoders, num_classes)

    plain, agm = model(build=normalized), model("agm", build=normalized)
    plain.train_on_batch(X, Y)
    agm.train_on_batch(X, Y)
    pairs = zip(
        plain.non_trainable_weights, agm.non_trainable_weights, strict=True
    )
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_agm_scales_the_gradient_of_parts():
    class Fixed(modulations.AGM):
        def call(self, scores, losses, training=True):
            return keras.ops.convert_to_tensor([0.25, 3.0])

    build = keras_mimo.late_fusion
    plain, fixed = moved(model(build=build)), moved(model(Fixed(), build=build))
    # Without biases yet, each part is a modality's logits.
    for path, factor in (("clear_head", 0.25), ("noise_head", 3.0)):
        kernel = f"{path}/kernel"
        np.testing.assert_allclose(
            fixed[kernel], factor * plain[kernel], rtol=1e-4, atol=1e-6
        )


@pytest.mark.slow
def test_mses_gives_the_best_variables_back():
    adam = keras.optimizers.Adam(0.05)
    made = model(modulations.MSES(patience=1), "sum", adam)
    mses = made.modulation
    epochs = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            after = values(self.model)["noise_encoder/kernel"]
            epochs.append((np.array(mses.factors)[1], after, logs))

    class Trained(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            trained.append(values(self.model)["noise_encoder/kernel"])

    trained = []
    made.fit(
        X,
        Y,
        epochs=20,
        batch_size=48,
        validation_data=({k: v[::-1] for k, v in X.items()}, Y),
        callbacks=[Watch(), Trained()],
        verbose=0,
    )
    factors = [factor for factor, _, _ in epochs]
    stop = factors.index(0.0)
    assert 0 < stop < 19
    # What it was after the epoch before, and stays.
    for _, after, _ in epochs[stop:]:
        np.testing.assert_array_equal(after, trained[stop - 1])
    assert np.any(trained[stop - 1] != trained[0]) or stop == 1


def test_mslr_needs_validation():
    made = model("mslr", "sum")
    with pytest.raises(ValueError, match="val_clear_accuracy"):
        made.fit(X, Y, epochs=1, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", quick(["agm"], ["agm", "mses", "mslr"]))
def test_a_saved_run_goes_on_as_if_it_had_not_stopped(kind, tmp_path):
    def fit(made, first, last):
        made.fit(
            X,
            Y,
            initial_epoch=first,
            epochs=last,
            batch_size=16,
            shuffle=False,
            validation_data=(X, Y),
            verbose=0,
        )

    whole = model(modulations.get(kind), "sum", "adam")
    fit(whole, 0, 4)
    half = model(modulations.get(kind), "sum", "adam")
    fit(half, 0, 2)
    half.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.modulation) is type(half.modulation)
    fit(again, 2, 4)
    ours = [*again.weights, *again.modulation.variables]
    theirs = [*whole.weights, *whole.modulation.variables]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_batch_without_a_modality_is_left_alone():
    def missing(encoders, num_classes):
        return keras_mimo.late_fusion(encoders, num_classes, missing=True)

    class Halves(modulations.Modulation):
        def call(self, scores, losses, training=True):
            return 0.5 * keras.ops.ones_like(scores)

    made = model(Halves(), build=missing)
    absent = {**X, "noise": np.full_like(X["noise"], np.nan)}
    made.train_on_batch(absent, Y)
    np.testing.assert_array_equal(made.modulation.factors, [1, 1])
    made.train_on_batch(X, Y)
    np.testing.assert_array_equal(made.modulation.factors, [0.5, 0.5])


def test_scores_are_of_the_samples_that_have_the_modality():
    def missing(encoders, num_classes):
        return keras_mimo.late_fusion(encoders, num_classes, missing=True)

    made = model(Keeper(), build=missing)
    some = {**X, "noise": X["noise"].copy()}
    some["noise"][::2] = np.nan
    logits = made.predict(X, verbose=0)
    made.train_on_batch(some, Y)
    probabilities = keras.ops.softmax(logits["noise"]).__array__()
    expected = probabilities[np.arange(48), Y][1::2].mean()
    np.testing.assert_allclose(made.modulation.factors[1], expected, rtol=1e-5)


class Keeper(modulations.Modulation):
    """Its factors are the scores."""

    def call(self, scores, losses, training=True):
        return scores


@pytest.mark.slow
def test_multilabel_scores():
    keras.utils.set_random_seed(1)
    made = keras_mimo.late_fusion({"clear": encoder(), "noise": encoder()}, 3)
    made.compile(
        "sgd", keras.losses.BinaryCrossentropy(True), modulation=Keeper()
    )
    labels = np.eye(3)[Y]
    p = 1 / (1 + np.exp(-made.predict(X, verbose=0)["clear"]))
    made.train_on_batch(X, labels)
    expected = np.mean(labels * p + (1 - labels) * (1 - p))
    np.testing.assert_allclose(made.modulation.factors[0], expected, rtol=1e-5)


def regression():
    made = keras_mimo.late_fusion({"clear": encoder(), "noise": encoder()}, 1)
    made.compile("sgd", "mse", modulation="ogm")


def shared():
    same = encoder()
    made = keras_mimo.late_fusion({"clear": same, "noise": same}, 3)
    made.compile("sgd", LOSS, modulation="ogm")


def plain():
    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(3)(inputs)
    keras_mimo.BalancedModel(inputs, outputs).compile(
        "sgd", LOSS, modulation="ogm"
    )


def other_modalities():
    used = model("ogm").modulation
    made = keras_mimo.late_fusion({"left": encoder(), "right": encoder()}, 3)
    made.compile("sgd", LOSS, modulation=used)


def groups():
    made = keras_mimo.late_fusion({"left": encoder(), "right": encoder()}, 3)
    made.compile(
        "sgd",
        LOSS,
        objectives=keras_mimo.ClassGroups(groups=[[0, 1], [2]]),
        combiner="sum",
        modulation="ogm",
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (regression, "cross-entropy"),
        (shared, "an encoder of its own"),
        (plain, "MultimodalModel"),
        (other_modalities, "new instance"),
        (groups, "Modalities"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        made = model(modulations.OGM(noise=True, scale="update"), "sum")
        made.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert np.array(made.modulation.factors)[0] < 1
    assert all(np.isfinite(v).all() for v in values(made).values())


@pytest.mark.slow
def test_tables_keep_their_rows():
    tokens = np.random.default_rng(0).integers(1, 9, (48, 4))

    def text():
        return keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                keras.layers.Embedding(9, 8),
                keras.layers.GlobalAveragePooling1D(),
            ]
        )

    def change(modulation):
        keras.utils.set_random_seed(1)
        made = keras_mimo.late_fusion({"clear": encoder(), "text": text()}, 3)
        made.compile("sgd", LOSS, combiner="sum", modulation=modulation)
        before = values(made)
        made.train_on_batch({"clear": X["clear"], "text": tokens}, Y)
        path = "text_encoder/embeddings"
        return values(made)[path] - before[path], made

    plain, _ = change(None)
    scaled, made = change("mlb")
    factor = float(np.array(made.modulation.factors)[1])
    assert factor != 1
    np.testing.assert_allclose(scaled, factor * plain, rtol=1e-4, atol=1e-7)


def by_hand():
    inputs = {name: keras.Input((6,), name=name) for name in X}
    features = {
        name: keras.layers.Dense(8, name=f"{name}_features")(x)
        for name, x in inputs.items()
    }
    trunk = keras.layers.Dense(3, name="trunk")
    join = keras.layers.Concatenate()
    absent = {
        name: keras_mimo.layers.AbsentFeatures()(f)
        for name, f in features.items()
    }
    alone = {
        name: trunk(join([(features if n == name else absent)[n] for n in X]))
        for name in X
    }
    fused = trunk(join(list(features.values())))
    return keras_mimo.MultimodalModel(inputs, {"fused": fused, **alone})


def test_what_each_modality_is_made_of():
    made = keras_mimo.intermediate_fusion(
        {"clear": encoder(), "noise": encoder()}, 3
    )
    assert made.modality_inputs == {"clear": {"clear"}, "noise": {"noise"}}
    branches = made.branch_variables
    assert {m: len(v) for m, v in branches.items()} == {"clear": 2, "noise": 2}
    own = by_hand()
    assert own.modality_inputs == {"clear": {"clear"}, "noise": {"noise"}}
    assert [v.path for v in own.branch_variables["noise"]] == [
        "noise_features/kernel",
        "noise_features/bias",
    ]
