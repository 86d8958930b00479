"""Several replicas train what one device does, to the last digits."""

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo import gradients
from keras_mimo.training import replicas
from tests.distribution import cases
from tests.quick import quick

ROOT = Path(__file__).parents[1]
# Engines of each backend, and the number of processes that they take.
ENGINES = {
    "tensorflow": {"mirrored": 1, "multi_worker": 2},
    "jax": {"data_parallel": 1, "model_parallel": 1},
    "torch": {"torch": 2},
}[keras.backend.backend()]


def start(tmp_path, engine, chosen, rank, ports):
    environment = {
        **os.environ,
        # And what this process has: both compile alike.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4 "
        + os.environ.get("XLA_FLAGS", ""),
        # XLA's devices on a CPU share threads: each of two programs at once may
        # wait for a device that the other one holds.
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "0",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    arguments = [engine, tmp_path / f"{rank}.npz", chosen]
    if len(ports) > 1:
        arguments.append(rank)
    if engine == "torch":
        arguments.append(tmp_path / "group")
    if engine == "multi_worker":
        workers = [f"127.0.0.1:{port}" for port in ports]
        environment["TF_CONFIG"] = json.dumps(
            {
                "cluster": {"worker": workers},
                "task": {"type": "worker", "index": rank},
            }
        )
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.distribution.replica",
            *map(str, arguments),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run(tmp_path, engine, chosen):
    """The weights after each case, of every process."""
    ports = free_ports(ENGINES[engine])
    runs = [
        start(tmp_path, engine, chosen, rank, ports)
        for rank in range(len(ports))
    ]
    try:
        for each in runs:
            output, _ = each.communicate(timeout=500)
            assert each.returncode == 0, output
    finally:
        for each in runs:
            each.kill()
    return [dict(np.load(tmp_path / f"{r}.npz")) for r in range(len(runs))]


@functools.cache
def on_one_device(name):
    return cases.train(cases.CASES[name])


def difference(weights, name):
    """The largest, relative where what a combiner keeps is larger than 1."""
    expected = on_one_device(name)
    scale = np.maximum(np.abs(expected), 1.0)
    return np.max(np.abs(weights[name] - expected) / scale)


def check(results, chosen):
    first, *others = results
    differences = {name: difference(first, name) for name in chosen}
    print(differences)
    assert max(differences.values()) <= 1e-6, differences
    for other in others:
        for name in chosen:
            np.testing.assert_array_equal(other[name], first[name])


@pytest.mark.parametrize("engine", quick([next(iter(ENGINES))], ENGINES))
def test_replicas_equal_one_device(engine, tmp_path):
    results = run(tmp_path, engine, "CORE")
    check(results, cases.CORE)
    # And the check fails where nothing is reduced.
    for name in cases.UNREDUCED:
        unreduced = {name: results[0][f"{name}, not reduced"]}
        assert difference(unreduced, name) > 1e-4
        with pytest.raises(AssertionError):
            check([unreduced], [name])


# As users have it: without XLA's optimisation sums are rounded more often, and
# G-Blending's weights, ratios of small differences, show it.
@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "multi_worker"])
def test_whatever_is_balanced(engine, tmp_path):
    check(run(tmp_path, engine, "OTHERS"), cases.OTHERS)


class Unreduced(keras_mimo.objectives.Objective):
    """An objective that knows nothing of replicas."""


def test_an_objective_that_does_not_know_of_replicas_is_refused(monkeypatch):
    monkeypatch.setattr(gradients.engine(), "replicas", lambda: 2)
    replicas.check_objective(keras_mimo.objectives.Modalities())
    missing = keras_mimo.objectives.Outputs(missing_label=-1)
    for objective in (Unreduced(), missing):
        with pytest.raises(ValueError, match=r"`objectives` .* 2 replicas"):
            replicas.check_objective(objective)


def processes_of_jax_without_a_distribution(monkeypatch, tmp_path):
    import jax

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    model = cases.model_of(cases.CORE["losses"])
    with pytest.raises(ValueError, match=r"set_distribution\(\).*2 processes"):
        cases.fit(model, *cases.regression())


def what_keras_itself_averages(monkeypatch, tmp_path):
    monkeypatch.setattr(gradients.engine(), "_processes", lambda: 2)
    model = cases.model_of(cases.CORE["losses"])
    model.ddp_model = "wrapped"
    with pytest.raises(ValueError, match="DistributedDataParallel"):
        cases.fit(model, *cases.regression())


def a_combiner_from_outside_of_the_scope(monkeypatch, tmp_path):
    process = start(tmp_path, "outside_of_the_scope", "CORE", 0, [0])
    output, _ = process.communicate(timeout=500)
    assert "`combiner` and `modulation` must be created" in output


REFUSALS = {
    "jax": processes_of_jax_without_a_distribution,
    "tensorflow": a_combiner_from_outside_of_the_scope,
    "torch": what_keras_itself_averages,
}


def test_what_would_be_wrong_is_refused(monkeypatch, tmp_path):
    REFUSALS[keras.backend.backend()](monkeypatch, tmp_path)
