import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_mimo.layers import UnimodalTeacher


def teacher(kernel):
    kernel = np.array(kernel, "float32")
    model = keras.Sequential(
        [keras.Input(kernel.shape[:1]), layers.Dense(len(kernel.T))]
    )
    model.set_weights([kernel, np.zeros(len(kernel.T))])
    return model


X = np.array([[1.0, 2.0], [3.0, 0.0]], "float32")
FEATURES = np.array([[1.0, 1.0], [0.0, 2.0]], "float32")
# Of X by the kernel below: [[2, 2], [6, 0]].
KERNEL = [[2.0, 0.0], [0.0, 1.0]]


def losses(layer, *args, training=True):
    outputs = layer(*args, training=training)
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), args[0])
    return [float(loss) for loss in layer.losses]


def test_loss_by_hand():
    """The squares are 1, 1, 36 and 4."""
    layer = UnimodalTeacher(teacher(KERNEL), weight=2.0)
    (loss,) = losses(layer, FEATURES, X)
    np.testing.assert_allclose(loss, 2 * (1 + 1 + 36 + 4) / 4, rtol=1e-6)
    present = np.array([True, False])
    (loss,) = losses(layer, FEATURES, X, present)
    np.testing.assert_allclose(loss, 2 * (1 + 1) / 2, rtol=1e-6)
    assert losses(layer, FEATURES, X, np.array([False, False])) == [0.0]
    assert losses(layer, FEATURES, X, training=False) == []
    none = UnimodalTeacher(teacher(KERNEL), weight=0.0)
    assert losses(none, FEATURES, X) == []


def test_the_teacher_stays_frozen():
    inner = teacher(KERNEL)
    layer = UnimodalTeacher(inner)
    layer(FEATURES, X)
    outer = keras.Sequential([layers.Identity()])
    outer.teaching = layer
    outer.trainable = False
    outer.trainable = True
    assert layer.trainable_variables == outer.trainable_variables == []
    with layer.unfrozen():
        assert len(inner.trainable_variables) == 2
    assert inner.trainable_variables == []


def test_what_was_frozen_in_the_teacher_before_is_never_trained():
    inner = teacher(KERNEL)
    inner.layers[0].bias.trainable = False
    layer = UnimodalTeacher(inner)
    layer(FEATURES, X)
    with layer.unfrozen():
        assert inner.trainable_variables == [inner.layers[0].kernel]


def test_config():
    layer = UnimodalTeacher(teacher(KERNEL), weight=3.0, name="a_teacher")
    again = UnimodalTeacher.from_config(layer.get_config())
    assert (again.weight, again.name) == (3.0, "a_teacher")
    again(FEATURES, X)
    assert len(again.teacher.weights) == 2
    assert again.trainable_variables == []


def test_invalid_arguments():
    with pytest.raises(TypeError, match="`teacher` must be a Keras model"):
        UnimodalTeacher(lambda x: x)
    with pytest.raises(ValueError, match="`weight`"):
        UnimodalTeacher(teacher(KERNEL), weight=-1.0)
    with pytest.raises(ValueError, match="features of the shape"):
        UnimodalTeacher(teacher([[1.0], [1.0]]))(FEATURES, X)
