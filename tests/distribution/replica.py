"""Trains cases as one replica, or on all devices, and saves the weights.

python -m tests.distribution.replica ENGINE OUTPUT CASES [RANK [PATH]]
"""

import functools
import sys

import keras
import numpy as np

from keras_mimo import combiners
from keras_mimo import gradients
from tests.distribution import cases


def results(chosen, train):
    """Weights after each case, and for some after one that is not reduced."""
    found = {name: train(case) for name, case in getattr(cases, chosen).items()}
    if chosen == "CORE":
        engine = gradients.engine()
        engine.whole = lambda tensors: tensors
        for name in cases.UNREDUCED:
            found[f"{name}, not reduced"] = train(cases.CORE[name])
    return found


def mirrored(chosen):
    with _two_devices().scope():
        return results(chosen, cases.train)


def outside_of_the_scope(chosen):
    strategy = _two_devices()
    combiner = combiners.PCGradCombiner(seed=1)
    with strategy.scope():
        cases.train(cases.case(lambda: combiner))


def _two_devices():
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def multi_worker(chosen, rank):
    import tensorflow as tf

    # It reads its rank from the environment, and gives each worker its data.
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        return results(chosen, cases.train)


def torch(chosen, rank, path):
    from torch import distributed

    distributed.init_process_group(
        "gloo", init_method=f"file://{path}", rank=int(rank), world_size=2
    )
    # The second process starts from what the first one has.
    train = functools.partial(
        cases.train, seed=int(rank), rank=int(rank), count=2
    )
    return results(chosen, train)


def data_parallel(chosen):
    return _on_devices(chosen, keras.distribution.DataParallel())


def model_parallel(chosen):
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*shared/kernel"] = (None, "model")
    layout[".*shared/bias"] = ("model",)
    return _on_devices(
        chosen,
        keras.distribution.ModelParallel(
            layout_map=layout, batch_dim_name="batch"
        ),
    )


def _on_devices(chosen, distribution):
    keras.distribution.set_distribution(distribution)
    assert len(keras.distribution.list_devices()) == 4
    found = {
        name: cases.train(case) for name, case in getattr(cases, chosen).items()
    }
    if chosen == "CORE":
        # The compiler reduces: what one device would do with its own part.
        for name in cases.UNREDUCED:
            one_part = cases.train(cases.CORE[name], count=4)
            found[f"{name}, not reduced"] = one_part
    return found


if __name__ == "__main__":
    engine, output, *arguments = sys.argv[1:]
    np.savez(output, **globals()[engine](*arguments))
