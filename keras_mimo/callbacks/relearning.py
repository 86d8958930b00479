import math
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import ops

from keras_mimo import gradients
from keras_mimo.callbacks.labelled_batches import LabelledBatches
from keras_mimo.export.inference_model import plain_model
from keras_mimo.fusion import MultimodalModel
from keras_mimo.fusion.dependencies import calls
from keras_mimo.grouping.clusters import import_cluster
from keras_mimo.grouping.labels import class_ids
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units
from keras_mimo.utils.atomic_write import atomic_write


class Relearning(keras.callbacks.Callback):
    """Moves encoders back towards their start, the more they memorised.

    Diagnosing and re-learning (D&R). Every `every` epochs, and for each
    modality `m`, the features of the training data are clustered by k-means in
    as many clusters as there are classes, and so are those of the validation
    data. With their purities (see `purity()`), the encoder's variables become

        `(1 - a_m) * theta_m + a_m * theta_m(0)`, with
        `a_m = tanh(strength * g_m)`, `g_m = |purity_train - purity_val|`,

    so that an encoder which tells the classes apart on the data that it was
    trained with, and not on others, learns again. The optimizer keeps its
    state, as in the released code. That moves encoders after 21, 41 and 61
    epochs; here it is after `every`, `2 * every` and so on.

    The `theta_m(0)` are what the encoders are when `fit()` is first called with
    this callback. They are in memory, and in a file if `path` is given: then
    training that is resumed in another process has them too, whatever the order
    of callbacks. Without `path`, do not resume with this callback.

    The logs of every epoch gain `<modality>_gap`: the `g_m` that was found
    last, NaN before. Callbacks that read logs, such as `CSVLogger`, come after
    this one. Where several processes share the training, give all of them the
    same data here. Needs scikit-learn.

    Args:
        train: The training data: a tuple `(x, y)` or `(x, y, sample_weight)` of
            arrays, or a dataset of such batches that comes to an end. Labels
            are class ids or one-hot rows. Sample weights have no part.
        validation: Held-out data in the same form, not the test data. A small
            set is purer by chance.
        every: Positive integer, the number of epochs between. Defaults to `20`,
            as in the released code.
        strength: Positive float (lambda in the paper). Defaults to `3.0`, as in
            the released code for CREMA-D.
        times: Positive integer, how often encoders are moved at most: what
            follows is for learning. Defaults to `3`, as in the released code.
        features: Dict from modalities to the names of the layers whose outputs
            are the features. Defaults to `None`: the encoders of a
            `late_fusion()` or `intermediate_fusion()` model.
        path: Path of a file, which ends in `.h5`, for the initial weights of
            the encoders. It is read if it is there, and else written: use a new
            one for a new run. Defaults to `None`.
        batch_size: Positive integer, for arrays. Defaults to `32`.
        seed: Non-negative integer, of k-means. Defaults to `0`, as in the
            released code.

    Attributes:
        history: List of dicts, one each time: the `"epoch"` before which it
            was; `"gaps"` and `"alphas"`, dicts from modalities to floats.

    Raises:
        ImportError: If scikit-learn is not installed.
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is invalid; in `fit()`, if the model is no
            `MultimodalModel`, if `features` do not fit it, if `path` is the
            file of other encoders, or if labels are no classes.

    Example:

    ```python
    relearning = keras_mimo.callbacks.Relearning(
        (x, y), (x_validation, y_validation), path="initial.h5"
    )
    model.fit(x, y, epochs=90, callbacks=[relearning])
    ```

    Reference:

    - [Diagnosing and Re-learning for Balanced Multimodal Learning](
        https://arxiv.org/abs/2407.09705)
    """

    def __init__(
        self,
        train,
        validation,
        every=20,
        strength=3.0,
        times=3,
        features=None,
        path=None,
        batch_size=32,
        seed=0,
    ):
        super().__init__()
        import_cluster("Relearning")
        batch_size = check_units("batch_size", batch_size)
        self.train = LabelledBatches("train", train, batch_size)
        self.validation = LabelledBatches("validation", validation, batch_size)
        self.every = check_units("every", every)
        self.strength = check_number("strength", strength)
        self.times = check_units("times", times)
        if not isinstance(features, dict | None):
            raise TypeError(
                "`features` must be a dict from modalities to names of layers, "
                f"or None. Received: features={features} "
                f"of type {type(features)}"
            )
        self.features = features
        if path is not None and not str(path).endswith(".h5"):
            raise ValueError(f"`path` must end in `.h5`. Received: path={path}")
        self.path = path and Path(path)
        self.seed = check_units("seed", seed, positive=False)
        self.history = []
        self._gaps = {}
        self._initial = None
        self._initial_of = None

    def on_train_begin(self, logs=None):
        if not isinstance(self.model, MultimodalModel):
            raise ValueError(
                "`Relearning` needs a `MultimodalModel`, whose encoders are "
                f"known. Received: model={self.model}"
            )
        # What the first process starts with is the start of all.
        gradients.engine().agree(self.model)
        tensors = _features(self.model, self.features)
        self._extractor = plain_model(self.model, tensors)
        self._gaps = dict.fromkeys(tensors, math.nan)
        if self._initial_of is not self.model:
            self._initial = self._initial_values()
            self._initial_of = self.model

    def on_epoch_begin(self, epoch, logs=None):
        times, rest = divmod(epoch, self.every)
        if rest or not 0 < times <= self.times:
            return
        self._gaps = self._diagnose()
        alphas = {
            modality: math.tanh(self.strength * gap)
            for modality, gap in self._gaps.items()
        }
        for modality, alpha in alphas.items():
            self._move_back(modality, alpha)
        gradients.engine().agree(self.model)
        self.history.append(
            {"epoch": epoch, "gaps": self._gaps, "alphas": alphas}
        )

    def on_epoch_end(self, epoch, logs=None):
        # In every epoch: `CSVLogger` has the columns of the first one.
        for modality, gap in self._gaps.items():
            logs[f"{modality}_gap"] = gap

    def _move_back(self, modality, alpha):
        if alpha == 0:
            return
        variables = self.model.encoder_variables[modality]
        pairs = zip(variables, self._initial[modality], strict=True)
        for variable, initial in pairs:
            value = ops.convert_to_numpy(variable)
            variable.assign((1 - alpha) * value + alpha * initial)

    def _diagnose(self):
        train = self._purities("train", self.train)
        validation = self._purities("validation", self.validation)
        return {m: abs(train[m] - validation[m]) for m in train}

    def _purities(self, argument, data):
        width = self.model.output["fused"].shape[-1]
        # A sigmoid tells two classes apart.
        num_classes = max(width, 2)
        found = {modality: [] for modality in self._gaps}
        classes = []
        for x, y, _ in data():
            classes.append(class_ids(np.asarray(y), num_classes))
            features = self._extractor.predict_on_batch(x)
            size = len(classes[-1])
            for modality, values in features.items():
                # Each replica of TensorFlow encodes all of the batch.
                found[modality].append(values[:size].reshape(size, -1))
        classes = np.concatenate(classes)
        if len(classes) < num_classes:
            raise ValueError(
                f"`{argument}` must hold as many samples as there are classes, "
                f"{num_classes}, or more. Received: {len(classes)}"
            )
        return {
            modality: purity(
                np.concatenate(values), classes, num_classes, self.seed
            )
            for modality, values in found.items()
        }

    def _initial_values(self):
        """Copies of the encoders' variables, or what the file has."""
        # Copies: PyTorch assigns in place.
        values = {
            modality: [np.array(ops.convert_to_numpy(v)) for v in variables]
            for modality, variables in self.model.encoder_variables.items()
            if modality in self._gaps
        }
        if self.path is None:
            return values
        if self.path.exists():
            return _read(self.path, values)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as path, h5py.File(path, "w") as file:
            for modality, arrays in values.items():
                for index, array in enumerate(arrays):
                    file[f"{modality}/{index}"] = array.astype("float32")
        return values


def purity(features, classes, num_classes, seed=0):
    """How well clusters of features agree with classes.

    Each feature is scaled to the range from -1 to 1, and k-means is run on all
    of them. The purity is the share of samples that are of the class which is
    the most frequent one of their cluster.

    Args:
        features: Array of shape `(n, width)`.
        classes: Array of shape `(n,)` of class ids below `num_classes`.
        num_classes: Integer, also the number of clusters.
        seed: Non-negative integer, of the starts of k-means, of which the best
            of ten counts. (The released code leaves that number to
            scikit-learn, which is one today and was ten then.)

    Returns:
        Float, at most 1 and at least the share of the most frequent class.

    Raises:
        ValueError: If features are not finite.
    """
    cluster = import_cluster("Relearning")
    features = np.asarray(features, "float64")
    if not np.isfinite(features).all():
        raise ValueError(
            "The features of encoders must be finite. Received: features that "
            f"are not for {(~np.isfinite(features).all(axis=1)).sum()} of "
            f"{len(features)} samples"
        )
    lowest = features.min(axis=0)
    spread = features.max(axis=0) - lowest
    scaled = 2 * (features - lowest) / np.where(spread > 0, spread, 1) - 1
    means = cluster.KMeans(num_classes, n_init=10, random_state=seed)
    with warnings.catch_warnings():
        # A network that has collapsed makes fewer points than clusters.
        warnings.filterwarnings("ignore", "Number of distinct clusters")
        clusters = means.fit_predict(scaled)
    counts = np.zeros((num_classes, num_classes), "int64")
    np.add.at(counts, (clusters, classes), 1)
    return float(counts.max(axis=1).sum() / len(classes))


def _features(model, layers):
    """Symbolic features of each modality that has an encoder of its own."""
    modalities = list(model.encoder_variables)
    if layers is None:
        layers = {modality: f"{modality}_encoder" for modality in modalities}
    elif not layers or not set(layers) <= set(modalities):
        raise ValueError(
            "`features` must name modalities with encoders, which are "
            f"{modalities}. Received: features={layers}"
        )
    tensors = {}
    for modality, name in layers.items():
        nodes = calls([model.output[modality], model.output["fused"]])
        found = [node for node in nodes if node.operation.name == name]
        if not found or len(found[0].outputs) != 1:
            raise ValueError(
                "`features` must hold names of layers of the model with one "
                f"output. Received: none of the name {name!r} for the "
                f"modality {modality!r}"
            )
        tensors[modality] = found[0].outputs[0]
    return tensors


def _read(path, expected):
    """Arrays from a file, if they are of the shapes that are expected."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(keep)
    shapes = {name: array.shape for name, array in found.items()}
    wanted = {
        f"{modality}/{index}": array.shape
        for modality, arrays in expected.items()
        for index, array in enumerate(arrays)
    }
    if shapes != wanted:
        raise ValueError(
            "`path` must be a new file, or one of these encoders. "
            f"Received: path={path} with the shapes {shapes} instead of "
            f"{wanted}"
        )
    return {
        modality: [found[f"{modality}/{k}"] for k in range(len(arrays))]
        for modality, arrays in expected.items()
    }
