import itertools
import math

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo.grouping.batches import Batches
from keras_mimo.grouping.labels import class_ids
from keras_mimo.layers.keep_present import KeepPresent
from keras_mimo.layers.prototype_classifier import PrototypeClassifier
from keras_mimo.losses.prototype_rebalancing import PrototypeRebalancing
from keras_mimo.model import BalancedModel
from keras_mimo.utils._keras import Functional
from keras_mimo.utils.arguments import check_fraction
from keras_mimo.utils.arguments import check_nonnegative_integer

# Samples that are encoded together.
_BATCH_SIZE = 64


class UpdatePrototypes(keras.callbacks.Callback):
    """Keeps the prototypes of `PrototypeClassifier` layers up to date.

    A prototype is the mean of a class' features, as they are in inference. It
    is made when training begins, if there is none yet, and moved after every
    epoch to `momentum * before + (1 - momentum) * mean`, over a new part of the
    data each time. Samples that lack a modality have no part in its means.

    Callbacks that save the model come after this one, so that what they save
    is what the next epoch starts with. Validation in `fit()` comes before it.

    It also tells `keras_mimo.losses.PrototypeRebalancing` which epochs are
    early ones.

    Args:
        data: Training data: a tuple `(x, y)` of arrays, or a finite dataset of
            batches `(x, y)`. Of arrays, each class gives its share, one sample
            at least. Of a dataset, it is the first batches: shuffle it. One
            that does not know how many it has is read to its end.
        share: Float above 0 and up to 1, the part of the data. Defaults to
            `0.1`, as in the paper.
        momentum: Float from 0 to below 1. Defaults to `0.2`, as in the released
            code (`momentum_coef`). There the mean after the first epoch
            replaces the one before it.
        early_epochs: Non-negative integer, the number of epochs with an entropy
            in the loss. Defaults to `10` (our choice; the paper says "early").
        seed: Integer, which samples of arrays are taken. Defaults to `0`.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range, if `data` is no such thing
            or can be read only once and, when training begins, if the model is
            not functional or no output is made by a `PrototypeClassifier`.

    Example:

    ```python
    update = keras_mimo.callbacks.UpdatePrototypes((x, y))
    model.fit(x, y, epochs=100, callbacks=[update])
    ```

    Reference:

    - [PMR: Prototypical Modal Rebalance for Multimodal Learning](
        https://arxiv.org/abs/2211.07089)
    """

    def __init__(self, data, share=0.1, momentum=0.2, early_epochs=10, seed=0):
        super().__init__()
        self.data = data
        self.share = check_fraction("share", share)
        self.momentum = check_fraction("momentum", momentum)
        if self.share == 0 or self.momentum == 1:
            raise ValueError(
                "`share` must be above 0, and `momentum` below 1. "
                f"Received: share={share}, momentum={momentum}"
            )
        self.early_epochs = check_nonnegative_integer(
            "early_epochs", early_epochs
        )
        self.seed = seed

    def on_train_begin(self, logs=None):
        self._layers, self._features = _features(self.model)
        if any(
            not ops.convert_to_numpy(layer.known).any()
            for layer in self._layers.values()
        ):
            self._update(0, momentum=0.0)

    def on_epoch_begin(self, epoch, logs=None):
        early = epoch < self.early_epochs
        losses = tree.flatten(self.model.loss)
        changed = [
            loss
            for loss in losses
            if isinstance(loss, PrototypeRebalancing) and loss.early != early
        ]
        for loss in changed:
            loss.early = early
        if changed:
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)

    def on_epoch_end(self, epoch, logs=None):
        self._update(epoch + 1, self.momentum)

    def _update(self, epoch, momentum):
        units = {name: layer.units for name, layer in self._layers.items()}
        batches = self._batches(epoch, max(units.values()))
        sums = dict.fromkeys(units, 0.0)
        counts = dict.fromkeys(units, 0.0)
        for x, _, ids, _ in batches:
            found = self._features.predict_on_batch(x)
            for name, count in units.items():
                features, *present = found[name]
                classes = ids[:, None] == np.arange(count)
                if present:
                    classes = classes & present[0][:, None]
                    # What stands for an absent input may be encoded as NaN.
                    features = np.where(present[0][:, None], features, 0.0)
                classes = classes.astype("float64")
                sums[name] = sums[name] + classes.T @ features
                counts[name] = counts[name] + classes.sum(axis=0)
        for name, layer in self._layers.items():
            means = sums[name] / np.maximum(counts[name], 1.0)[:, None]
            layer.update_prototypes(means, counts[name], momentum)

    def _batches(self, epoch, num_classes):
        data = self.data
        if isinstance(data, tuple):
            data = _part(data, self.share, (self.seed, epoch), num_classes)
            return Batches(data, num_classes, _BATCH_SIZE)
        batches = Batches(data, num_classes, _BATCH_SIZE)
        if not batches.repeatable:
            raise ValueError(
                "`data` must be a dataset that can be read again after each "
                f"epoch. Received: data={data} of type {type(data)}"
            )
        try:
            count = math.ceil(self.share * len(batches))
        except TypeError:
            count = None
        return itertools.islice(batches, count)


def _part(data, share, seed, num_classes):
    """A share of the samples of each class, one at least."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    ids = class_ids(np.asarray(y), num_classes)
    random = np.random.default_rng(seed)
    order = random.permutation(len(ids))
    taken = []
    for label in np.unique(ids):
        samples = order[ids[order] == label]
        taken.append(samples[: math.ceil(share * len(samples))])
    taken = np.sort(np.concatenate(taken))
    return tree.map_structure(lambda a: np.asarray(a)[taken], (x, y))


def _features(model):
    """The layers that hold prototypes, and a model of what they get.

    Returns:
        Tuple of a dict from outputs to `PrototypeClassifier` layers, and a
        model from the inputs to, for each of them, a list of its features and,
        where samples may lack the modality, of which samples have it.
    """
    if not isinstance(model, Functional) or not isinstance(model.output, dict):
        raise ValueError(
            "`UpdatePrototypes` needs a functional model with a dict of "
            f"outputs. Received: model={model}"
        )
    layers, found = {}, {}
    for name, output in model.output.items():
        present = []
        operation, node = _made_by(output)
        if isinstance(operation, KeepPresent):
            output, *present = node.input_tensors
        layer, features = _prototypes(output)
        if layer is not None:
            layers[name] = layer
            found[name] = [features, *present]
    if not layers:
        raise ValueError(
            "`UpdatePrototypes` needs a model with an output that is made by a "
            f"`PrototypeClassifier`. Received: outputs {list(model.output)}"
        )
    # A plain model takes nested inputs in another order, on PyTorch.
    return layers, BalancedModel(model.input, found)


def _prototypes(tensor):
    """The layer that makes a tensor and its input, in a model around it too."""
    operation, node = _made_by(tensor)
    if isinstance(operation, PrototypeClassifier):
        return operation, node.input_tensors[0]
    if not isinstance(operation, Functional | keras.Sequential):
        return None, None
    index = tensor._keras_history.tensor_index
    layer, inner = _prototypes(operation.outputs[index])
    if layer is None:
        return None, None
    encode = keras.Model(operation.inputs, inner)
    return layer, encode(node.input_tensors)


def _made_by(tensor):
    operation, index, _ = tensor._keras_history
    return operation, operation._inbound_nodes[index]
