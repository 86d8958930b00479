import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.callbacks import DeferredReweighting
from keras_mimo.losses import LDAM
from keras_mimo.losses import ClassBalanced
from keras_mimo.losses import LogitAdjusted

COUNTS = [900, 90, 9]
BETA = 0.99
X = np.zeros((6, 2), "float32")
Y = np.array([0, 0, 0, 1, 1, 2])


def frozen(loss, model=keras.Model, heads=1, **options):
    """A model that does not learn: only the loss changes with the epoch."""
    inputs = keras.Input((2,))
    outputs = {
        f"head{i}": keras.layers.Dense(3, name=f"head{i}")(inputs)
        for i in range(heads)
    }
    if heads == 1:
        outputs = outputs["head0"]
    model = model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss=loss, **options)
    return model


def losses(loss):
    """Mean loss of the batch without and with weights, in NumPy."""
    plain = keras.ops.convert_to_numpy(
        type(loss).from_config(loss.get_config()).call(Y, np.zeros((6, 3)))
    )
    weight = (1 - BETA) / (1 - BETA ** np.array(COUNTS, "float64"))
    weight *= 3 / weight.sum()
    return plain.mean(), (plain * weight[Y]).mean()


# Keras has several steps an execution on two of its backends.
STEPS = [1] if keras.backend.backend() == "torch" else [1, 2]


@pytest.mark.parametrize("steps", STEPS)
def test_compiled_fit_switches_at_its_epoch(steps):
    loss = LDAM(COUNTS)
    plain, weighted = losses(loss)
    assert abs(plain - weighted) > 0.1
    model = frozen(loss, steps_per_execution=steps)
    history = model.fit(
        X,
        Y,
        epochs=4,
        batch_size=6 // steps,
        shuffle=False,
        validation_data=(X, Y),
        callbacks=[DeferredReweighting(start=2, beta=BETA)],
        verbose=0,
    ).history
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(
            history[name], [plain, plain, weighted, weighted], rtol=1e-5
        )


def test_a_second_fit_starts_as_its_epoch_says():
    loss = LDAM(COUNTS)
    plain, weighted = losses(loss)
    model = frozen(loss)
    callbacks = [DeferredReweighting(start=2, beta=BETA)]
    options = {"callbacks": callbacks, "verbose": 0}
    late = model.fit(X, Y, initial_epoch=2, epochs=3, **options)
    early = model.fit(X, Y, epochs=1, **options)
    np.testing.assert_allclose(late.history["loss"], weighted, rtol=1e-5)
    np.testing.assert_allclose(early.history["loss"], plain, rtol=1e-5)


def test_optimizer_goes_on():
    model = frozen(LDAM(COUNTS))
    optimizer = model.optimizer
    callbacks = [DeferredReweighting(start=1)]
    model.fit(X, Y, epochs=3, callbacks=callbacks, verbose=0)
    assert model.optimizer is optimizer
    assert int(optimizer.iterations) == 3


def test_saved_model_keeps_its_weights(tmp_path):
    loss = LDAM(COUNTS)
    _, weighted = losses(loss)
    model = frozen(loss)
    callbacks = [DeferredReweighting(start=0, beta=BETA)]
    model.fit(X, Y, callbacks=callbacks, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.evaluate(X, Y, verbose=0), weighted, rtol=1e-5
    )


def test_class_balanced_is_deferred_too():
    loss = ClassBalanced(COUNTS, beta=0.5)
    model = frozen(loss)
    history = model.fit(
        X,
        Y,
        epochs=2,
        callbacks=[DeferredReweighting(start=1, beta=BETA)],
        verbose=0,
    ).history
    weight = (1 - BETA) / (1 - BETA ** np.array(COUNTS, "float64"))
    weighted = np.log(3) * (weight * 3 / weight.sum())[Y].mean()
    np.testing.assert_allclose(
        history["loss"], [np.log(3), weighted], rtol=1e-5
    )


def test_balanced_model_with_a_combiner():
    loss = {"head0": LDAM(COUNTS), "head1": "sparse_categorical_crossentropy"}
    plain, weighted = losses(loss["head0"])
    model = frozen(
        loss,
        keras_mimo.BalancedModel,
        heads=2,
        combiner=keras_mimo.MGDACombiner(),
    )
    history = model.fit(
        X,
        {"head0": Y, "head1": Y},
        epochs=2,
        callbacks=[DeferredReweighting(start=1, beta=BETA)],
        verbose=0,
    ).history
    np.testing.assert_allclose(
        history["head0_loss"], [plain, weighted], rtol=1e-5
    )


def test_model_without_such_a_loss():
    model = frozen("sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="needs a loss with `class_counts`"):
        model.fit(X, Y, callbacks=[DeferredReweighting(0)], verbose=0)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"start": -1}, ValueError, "start=-1"),
        ({"start": 0.8}, TypeError, "start=0.8"),
        ({"start": 1, "beta": 1}, ValueError, "beta=1"),
        ({"start": 1, "beta": None}, TypeError, "beta=None"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        DeferredReweighting(**arguments)


def test_tau_0_gives_deferred_cross_entropy():
    model = frozen(LogitAdjusted(COUNTS, tau=0))
    history = model.fit(
        X,
        Y,
        epochs=1,
        callbacks=[DeferredReweighting(start=1)],
        verbose=0,
    ).history
    np.testing.assert_allclose(history["loss"], [np.log(3)], rtol=1e-5)
