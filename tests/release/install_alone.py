"""Installs a wheel beside one backend alone, and trains a model with it.

    python tests/release/install_alone.py dist/keras_mimo-*.whl --backend torch

In an environment of its own that is removed again: nothing but the wheel, what
it depends on, and the backend, at the versions of `requirements-test.txt`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[2] / "requirements-test.txt"
BACKENDS = ("tensorflow", "jax", "torch")

PROGRAM = """
import importlib.util
import sys

import keras
import numpy as np

import keras_mimo

backend, others = sys.argv[1], sys.argv[2:]
assert keras.backend.backend() == backend
assert "site-packages" in keras_mimo.__file__
for other in others:
    assert importlib.util.find_spec(other) is None, other

rng = np.random.default_rng(0)
x = {name: rng.normal(size=(64, 4)).astype("float32") for name in "ab"}
y = (x["a"][:, 0] + x["b"][:, 0] > 0).astype("int32")
encoders = {
    name: keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    for name in "ab"
}
for combiner in (keras_mimo.MIMOCombiner(), "upgrad"):
    model = keras_mimo.late_fusion(encoders, num_classes=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], combiner=combiner)
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0], losses
    model.save("model.keras")
    loaded = keras.saving.load_model("model.keras")
    fused = [m.predict(x, verbose=0)["fused"] for m in (model, loaded)]
    np.testing.assert_allclose(*fused, atol=1e-6)
print(f"keras_mimo {keras_mimo.__version__} trains on {backend} alone")
"""


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--backend", choices=BACKENDS, default="torch")
    args = parser.parse_args(arguments)
    pins = [
        line
        for line in REQUIREMENTS.read_text("utf-8").splitlines()
        if line.startswith((f"{args.backend}==", f"{args.backend}-cpu=="))
    ]
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        python = next(environment.glob("[bS]*/python*"))
        install = [python, "-m", "pip", "install", "-qq", "-c", REQUIREMENTS]
        subprocess.run([*install, args.wheel.resolve(), *pins], check=True)
        others = [other for other in BACKENDS if other != args.backend]
        # What the caller imports from must not be found from there.
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        variables["KERAS_BACKEND"] = args.backend
        return subprocess.run(
            [python, "-c", PROGRAM, args.backend, *others],
            cwd=folder,
            env=variables,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
