"""Several devices: the same result as one, or a clear refusal."""

import os
import subprocess
import sys

import keras

MODEL = """
import numpy as np
import keras
import keras_mimo

def data():
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    return x, {"a": x[:, :1] * 3, "b": x.sum(axis=1, keepdims=True)}

def model(combiner):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(8, activation="tanh")(inputs)
    outputs = {n: keras.layers.Dense(1, name=n)(shared) for n in ("a", "b")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), "mse", combiner=combiner)
    return model

def train(combiner):
    m = model(combiner)
    m.fit(*data(), batch_size=16, epochs=3, shuffle=False, verbose=0)
    return [np.asarray(w) for w in m.get_weights()]

combiners = [lambda: keras_mimo.MIMOCombiner("a"), keras_mimo.MGDACombiner]

def report_refusals():
    for combiner in combiners:
        try:
            train(combiner())
        except ValueError as error:
            print("refused:", error)
"""

JAX = """
one = [train(combiner()) for combiner in combiners]
keras.distribution.set_distribution(keras.distribution.DataParallel())
four = [train(combiner()) for combiner in combiners]
assert len(keras.distribution.list_devices()) == 4
for a, b in zip(sum(one, []), sum(four, []), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
print("equal to one device")
"""

TENSORFLOW = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    report_refusals()
"""

TORCH = """
import sys
import torch
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[1], rank=int(sys.argv[2]),
    world_size=2,
)
report_refusals()
"""


def start(code, *arguments):
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    return subprocess.Popen(
        [sys.executable, "-c", MODEL + code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_several_devices(tmp_path):
    backend = keras.backend.backend()
    if backend == "jax":
        output, errors = start(JAX).communicate()
        assert "equal to one device" in output, errors
        return
    if backend == "tensorflow":
        runs = [start(TENSORFLOW)]
    else:
        runs = [start(TORCH, tmp_path / "group", rank) for rank in range(2)]
    for run in runs:
        output, errors = run.communicate()
        assert output.count("refused: A combiner needs the losses") == 2, errors
        assert output.count("Received: 2 replicas") == 2
