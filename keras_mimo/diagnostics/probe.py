import keras
import numpy as np
from keras import tree

from keras_mimo.diagnostics.absence import arrays_of
from keras_mimo.fusion.dependencies import calls
from keras_mimo.fusion.dependencies import used_inputs
from keras_mimo.fusion.held_out import labelled_batches
from keras_mimo.fusion.tasks import check_task
from keras_mimo.fusion.tasks import missing_labels
from keras_mimo.fusion.tasks import targets


def linear_probe(model, train, test, task=None):
    """How well a new linear head does on the features of each encoder.

    The encoders stay as they are; the head is the logistic regression of
    scikit-learn, on features scaled to a variance of 1.

    Args:
        model: A `MultimodalModel`.
        train: Tuple `(x, y, sample_weight)`, as for `fit()`, that the heads
            learn from.
        test: The same, that they are scored on.
        task: As in `contributions()`.

    Returns:
        Dict from modalities to the accuracy on `test`; without those of which
        no features are known: the output of a layer `<modality>_encoder`, or
        what a layer `<modality>_head` gets.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If the task is no classification.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError(
            "A probe needs scikit-learn. Install it with "
            "`pip install keras-mimo[compare]`."
        ) from error
    task = check_task(task, model)
    if task != "classification":
        raise ValueError(
            "A probe is for classifications. "
            f"Received: a model with task={task!r}"
        )
    features = features_of(model)
    if not features:
        return {}
    encoder = keras.Model(model.inputs, list(features.values()))
    train, test = (_encoded(model, encoder, data) for data in (train, test))
    found = {}
    for place, modality in enumerate(features):
        head = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000)
        )
        head.fit(
            train[0][place],
            train[1],
            logisticregression__sample_weight=train[2],
        )
        hits = head.predict(test[0][place]) == test[1]
        found[modality] = float(np.average(hits, weights=test[2]))
    return found


def features_of(model):
    """Dict from modalities to symbolic tensors, the features of each."""
    features = {}
    for modality, output in model.output.items():
        if modality == "fused":
            continue
        nodes = calls([output])
        own = [
            node.outputs[0]
            for node in nodes
            if node.operation.name.endswith("_encoder")
            and _belongs(node.outputs[0], modality, model)
        ]
        own += [
            node.input_tensors[0]
            for node in nodes
            if node.operation.name == f"{modality}_head"
        ]
        if own:
            features[modality] = own[0]
    return features


def _belongs(tensor, modality, model):
    """Whether a tensor depends on the inputs of a modality, and no others."""
    inputs = model.input
    if not isinstance(inputs, dict) or modality not in inputs:
        return False
    names = {x.name for x in tree.flatten(inputs[modality])}
    return set(used_inputs(tensor, model.inputs) or ()) == names


def _encoded(model, encoder, data):
    """Features of all modalities, class ids and weights of samples."""
    features, ids, weights = [], [], []
    width = model.output["fused"].shape[1]
    for x, labels, given in labelled_batches(*data):
        found = encoder.predict(arrays_of(model, x), batch_size=256, verbose=0)
        wanted, unknown = targets(
            "classification", labels, width, missing_labels(model)
        )
        features.append(tree.flatten(found))
        ids.append(wanted.argmax(axis=1))
        weights.append(np.where(unknown, 0, given.reshape(len(labels))))
    joined = [np.concatenate(parts) for parts in zip(*features, strict=True)]
    return joined, np.concatenate(ids), np.concatenate(weights)
