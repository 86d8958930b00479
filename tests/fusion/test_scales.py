"""The convex problem that calibration solves."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.optimize import minimize

from keras_mimo.fusion.scales import LOSSES
from keras_mimo.fusion.scales import fit_scales
from keras_mimo.fusion.scales import mean_loss


def problem(task, seed=0):
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(3, 40, 4)).astype("float32")
    weights = rng.uniform(0.1, 1, 40)
    if task == "classification":
        targets = np.eye(4)[rng.integers(0, 4, 40)]
        parts[0] += 2 * targets
    elif task == "multilabel":
        targets = rng.integers(0, 2, (40, 4)).astype("float64")
        parts[0] += 2 * targets - 1
    else:
        targets = rng.normal(size=(40, 4))
        parts[0] += 3 * targets
    return parts, targets, weights / weights.sum()


@pytest.mark.parametrize("task", LOSSES)
def test_gradients_are_exact(task):
    parts, targets, weights = problem(task)
    point = np.array([0.7, 0.2, 1.3, 0.1, -0.2, 0.3, 0.4])

    def value(numbers):
        scales, biases = np.split(numbers, [3])
        return mean_loss(parts, targets, weights, LOSSES[task], scales, biases)[
            0
        ]

    scales, biases = np.split(point, [3])
    _, gradient = mean_loss(
        parts, targets, weights, LOSSES[task], scales, biases
    )
    np.testing.assert_allclose(
        gradient, approx_fprime(point, value, 1e-6), atol=1e-5
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("task", LOSSES)
def test_scales_are_the_optimum(task, bias):
    parts, targets, weights = problem(task)
    pulls = {"pull": 0.02, "bias_pull": 0.01 if bias else None}
    scales, biases = fit_scales(
        parts, targets, weights, LOSSES[task], [1.0, 1.0, 0.0], **pulls
    )
    assert (biases is not None) == bias

    start = np.array([1, 1, 0] + [0] * 4 * bias, dtype="float64")
    pull = np.array([0.02] * 3 + [0.01] * 4 * bias)

    def value(numbers):
        total = np.tensordot(numbers[:3], parts, 1)
        if bias:
            total = total + numbers[3:]
        losses, _ = LOSSES[task](total, targets)
        return weights @ losses + 0.5 * pull @ (numbers - start) ** 2

    # Another solver, without gradients.
    expected = minimize(
        value,
        start + 0.5,
        method="SLSQP",
        bounds=[(0, None)] * 3 + [(None, None)] * 4 * bias,
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    numbers = scales if biases is None else np.concatenate([scales, biases])
    np.testing.assert_allclose(numbers, expected.x, atol=1e-4)
    assert value(numbers) <= expected.fun + 1e-10


def test_units_of_a_regression_do_not_matter():
    parts, targets, weights = problem("regression")
    fits = [
        fit_scales(
            parts * unit,
            targets * unit,
            weights,
            LOSSES["regression"],
            [1, 1, 1],
            0.0,
            0.0,
        )
        for unit in (1.0, 1e5)
    ]
    np.testing.assert_allclose(fits[0][0], fits[1][0], atol=1e-5)
    np.testing.assert_allclose(fits[0][1], fits[1][1] / 1e5, atol=1e-5)


def test_many_rows_are_summed_in_chunks(monkeypatch):
    parts, targets, weights = problem("classification")
    arguments = (parts, targets, weights, LOSSES["classification"])
    whole = mean_loss(*arguments, np.ones(3), np.ones(4))
    monkeypatch.setattr("keras_mimo.fusion.scales._CHUNK", 100)
    chunks = mean_loss(*arguments, np.ones(3), np.ones(4))
    np.testing.assert_allclose(whole[0], chunks[0])
    np.testing.assert_allclose(whole[1], chunks[1], atol=1e-12)
