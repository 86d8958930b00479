"""A run that was killed and resumed ends as one that was not."""

import functools
import os
import signal

import keras
import numpy as np
import pytest
from keras import ops

import keras_mimo
from tests import killed_run
from tests.killed_run import Run

rng = np.random.default_rng(0)
# In the first epoch there is nothing yet to go on from.
EARLY = int(rng.integers(killed_run.STEPS))
LAST = killed_run.EPOCHS * killed_run.STEPS
BATCHES = iter(rng.permutation(range(killed_run.STEPS, LAST)).tolist())
RUNS = [
    Run("uncertainty", "backup", EARLY),
    Run("uncertainty", "weights_file", "saving"),
    Run("mimo", "keras_file", "saving"),
    Run("dwa", "backup_and_restore", next(BATCHES)),
    Run("famo", "weights_file", next(BATCHES)),
    Run("rlw", "backup", "saving"),
    Run("every_n_smoothed", "keras_file", next(BATCHES)),
    Run("gradvac_blocks", "backup_and_restore", "saving"),
    Run("mimo", "keras_file", next(BATCHES), dropout="seeded"),
    Run("mimo", "backup", "saving", dropout="unseeded"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    exitcode = killed_run.elsewhere(killed_run.killed, RUNS, folder)
    assert exitcode == -signal.SIGKILL
    assert killed_run.elsewhere(killed_run.resumed, RUNS, folder) == 0
    return folder


@functools.cache
def uninterrupted(kind, dropout):
    return killed_run.uninterrupted(Run(kind, dropout=dropout))


def difference(run, folder):
    ours = np.load(folder / f"{run}.npz")
    ours = [ours[name] for name in ours.files]
    theirs = uninterrupted(run.kind, run.dropout)
    pairs = zip(ours, theirs, strict=True)
    return max(np.max(np.abs(a.astype("float64") - b)) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=str)
def test_ends_like_a_run_that_was_not_killed(run, folder):
    if run.dropout == "unseeded" and keras.backend.backend() == "torch":
        # Drawn from PyTorch's own generator, not from a seed of the layer.
        assert difference(run, folder) > 1e-3
    else:
        assert difference(run, folder) <= 1e-6


@pytest.mark.parametrize("cls", [keras_mimo.BalancedModel, keras.Model])
@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_while_a_file_is_written_the_old_one_is_there(cls, name, tmp_path):
    def save():
        save = model.save_weights if name.endswith(".h5") else model.save
        save(tmp_path / name)

    def fail():
        in_between.append((tmp_path / name).read_bytes())
        raise OSError("no space left")

    model, in_between = killed_run.build(cls), []
    save()
    before = (tmp_path / name).read_bytes()
    model.get_layer("fragile").interrupt = fail
    with pytest.raises(OSError, match="no space left"):
        save()
    # Plain Keras writes in place.
    ours = cls is keras_mimo.BalancedModel
    assert (in_between == [before]) == ours
    assert ((tmp_path / name).read_bytes() == before) == ours
    assert os.listdir(tmp_path) == [name]


def test_links_and_refusals_to_overwrite(tmp_path, monkeypatch):
    model = killed_run.build()
    model.save(tmp_path / "model.keras")
    (tmp_path / "link.keras").symlink_to("model.keras")
    model.get_layer("shared").bias.assign(np.ones(8))
    model.save(tmp_path / "link.keras")
    assert (tmp_path / "link.keras").is_symlink()
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.all(ops.convert_to_numpy(loaded.get_layer("shared").bias) == 1)

    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    before = (tmp_path / "model.keras").read_bytes()
    model.save(tmp_path / "model.keras", overwrite=False)
    assert (tmp_path / "model.keras").read_bytes() == before
    model.save_weights(tmp_path / "model.weights.json", max_shard_size=1)
    assert (tmp_path / "model.weights.json").exists()


def test_seeds_of_another_architecture_are_left_alone(tmp_path):
    model = killed_run.build(dropout="seeded")
    model(killed_run.data()[0], training=True)
    model.save_weights(tmp_path / "model.weights.h5")
    (drawn,) = model._seeds()
    again = killed_run.build(dropout="seeded")
    (seed,) = again._seeds()
    assert ops.convert_to_numpy(seed).tolist() == [1, 0]
    again.load_weights(tmp_path / "model.weights.h5")
    assert ops.convert_to_numpy(seed).tolist() == [1, 1]
    assert ops.convert_to_numpy(drawn).tolist() == [1, 1]
    for other in (killed_run.build(), killed_run.build(keras.Model)):
        other.load_weights(tmp_path / "model.weights.h5")
        other.save_weights(tmp_path / "other.weights.h5")
    again.load_weights(tmp_path / "other.weights.h5")
    assert ops.convert_to_numpy(seed).tolist() == [1, 1]


def test_state_without_a_combiner_to_take_it(tmp_path):
    """As Keras warns where the optimizer is not built."""
    run = Run("dwa")
    model = killed_run.compiled(run)
    killed_run.fit(model, epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = killed_run.compiled(run)
    fresh.optimizer.build(fresh.trainable_variables)
    with pytest.warns(UserWarning, match="state of DWACombiner.*not built"):
        fresh.load_weights(tmp_path / "model.weights.h5")


def test_a_backup_is_deleted_when_training_ends(tmp_path):
    model = killed_run.compiled(Run("mimo"))
    backup = keras_mimo.callbacks.Backup(tmp_path / "backup")
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            sorted(os.listdir(tmp_path / "backup"))
        )
    )
    killed_run.fit(model, [backup, look], epochs=2)
    assert seen == [["1.weights.h5"], ["2.weights.h5"]]
    assert not (tmp_path / "backup").exists()
    killed_run.fit(model, [backup, look], epochs=1)
    assert len(seen) == 3


def test_a_backup_is_gone_on_from_after_its_epochs(tmp_path):
    run = Run("uncertainty", interrupted=killed_run.STEPS + 1)

    def fail():
        raise InterruptedError

    interrupt = killed_run.Interrupt(run.interrupted, fail)
    with pytest.raises(InterruptedError):
        killed_run.fit(
            killed_run.compiled(run),
            [killed_run.saver(run, tmp_path), interrupt],
        )
    model = killed_run.resume(run, tmp_path)
    assert model.history.epoch == [1, 2]
    expected = killed_run.uninterrupted(run)
    for found, value in zip(killed_run.state(model), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-6)


def test_a_backup_needs_a_built_model(tmp_path):
    backup = keras_mimo.callbacks.Backup(tmp_path)
    backup.set_model(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="`Backup` needs a model that is buil"):
        backup.on_train_begin()
