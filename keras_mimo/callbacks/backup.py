import shutil
from pathlib import Path

import keras

from keras_mimo.utils.atomic_write import atomic_write


class Backup(keras.callbacks.Callback):
    """Backs training up after every epoch, and goes on from there.

    Like `keras.callbacks.BackupAndRestore`, but safe whenever the process is
    killed. (That callback writes the weights and the epoch to two files, and
    overwrites both: killed in between, it repeats an epoch.) Here the weights
    and the epoch are one file, which appears when it is complete.

    `fit()` called again with the same arguments starts with the first epoch
    that was not finished. What was saved is all of the model's state: weights,
    optimizer, combiner and the seeds of its random layers. What is not is the
    order in which `fit()` shuffles arrays and the state of other callbacks.

    When training ends, the folder is deleted.

    Args:
        backup_dir: String or path of a folder that nothing else uses.

    Raises:
        ValueError: In `fit()`, if the model is not built.

    Example:

    ```python
    backup = keras_mimo.callbacks.Backup("backup")
    model.fit(x, y, epochs=100, callbacks=[backup])
    ```
    """

    def __init__(self, backup_dir):
        super().__init__()
        self.backup_dir = Path(backup_dir)

    def on_train_begin(self, logs=None):
        if not self.model.built:
            raise ValueError(
                "`Backup` needs a model that is built before `fit()`: call it "
                f"on a batch. Received: model={self.model}"
            )
        backups = self._backups()
        if backups:
            optimizer = self.model.optimizer
            if not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            epoch = max(backups)
            self.model.load_weights(backups[epoch])
            # As `BackupAndRestore` tells `fit()` where to start.
            self.model._initial_epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        old = self._backups()
        path = self.backup_dir / f"{epoch + 1}.weights.h5"
        with atomic_write(path) as unfinished:
            self.model.save_weights(unfinished)
        old.pop(epoch + 1, None)
        for backup in old.values():
            backup.unlink()

    def on_train_end(self, logs=None):
        # Or the next `fit()` would start there too.
        self.model._initial_epoch = None
        shutil.rmtree(self.backup_dir, ignore_errors=True)

    def _backups(self):
        """Dict from the number of finished epochs to the file."""
        names = self.backup_dir.glob("*.weights.h5")
        return {
            int(path.name.split(".")[0]): path
            for path in names
            if path.name.split(".")[0].isdecimal()
        }
