"""Predicts with the model that quickstart.py exported: what a server does.

python serve.py MODEL INPUTS.npz LOGITS.npy
"""

import sys

import numpy as np

# From here on, whoever imports it gets an ImportError.
sys.modules["keras_mimo"] = None


def load(path):
    if path.endswith(".keras"):
        import keras

        model = keras.models.load_model(path)
        return lambda x: model.predict(x, verbose=0)
    # A SavedModel does without Keras, too.
    sys.modules["keras"] = None
    import tensorflow as tf

    model = tf.saved_model.load(path)
    return lambda x: model.serve(x)["fused"].numpy()


if __name__ == "__main__":
    model_path, inputs_path, logits_path = sys.argv[1:]
    predict = load(model_path)
    with np.load(inputs_path) as inputs:
        np.save(logits_path, predict(dict(inputs)))
