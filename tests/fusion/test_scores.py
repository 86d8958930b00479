"""What is said of a fused output before and after calibration."""

import keras
import numpy as np

from keras_mimo.fusion.scores import calibration_error
from keras_mimo.fusion.scores import scores


def test_calibration_error_by_hand():
    confidence = np.array([0.95, 0.97, 0.5, 0.51])
    hits = np.array([1, 0, 1, 1])
    # Two bins of two: |.96 - .5| and |.505 - 1|.
    error = calibration_error(confidence, hits, np.full(4, 0.25))
    np.testing.assert_allclose(error, 0.5 * 0.46 + 0.5 * 0.495)


def test_scores_of_several_labels():
    targets = np.array([[1.0, 0.0], [1.0, 1.0]])
    z = np.array([[2.0, -2.0], [-1.0, 3.0]])
    score = scores("multilabel", z, targets, np.full(2, 0.5))
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = float(bce(targets, z.astype("float32")))
    np.testing.assert_allclose(score["log_loss"], expected, rtol=1e-6)
    assert score["accuracy"] == 0.75
