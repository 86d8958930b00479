import numpy as np

from keras_mimo.grouping import sketched_rows
from keras_mimo.grouping.exact_rows import ExactRows
from keras_mimo.grouping.exact_rows import split
from keras_mimo.grouping.sketched_rows import SketchedRows

WIDTH = 64


def sketch(rows, seed, width=WIDTH):
    store = SketchedRows(len(rows), [rows.shape[1]], 2**30, width, seed)
    assert store.begin(0) == (0,)
    for index, row in enumerate(rows):
        store.add(index, [row])
    return store.gramian()


def sketches(rows, count=300):
    rows = np.asarray(rows, dtype="float32")
    return np.array([sketch(rows, seed) for seed in range(count)])


def assert_within_stated_error(rows):
    """No bias beyond five standard errors, and the variance that is stated."""
    rows = np.asarray(rows, dtype="float64")
    exact = rows @ rows.T
    estimates = sketches(rows)
    norms = np.diag(exact)
    variance = (norms * norms[:, None] + exact**2) / WIDTH
    bias = np.abs(estimates.mean(axis=0) - exact)
    assert (bias <= 5 * np.sqrt(variance / len(estimates))).all()
    assert (estimates.var(axis=0) <= 1.4 * variance).all()


def test_sketch_of_normal_rows():
    rows = np.random.default_rng(0).normal(size=(4, 1000))
    rows[3] += rows[2]
    assert_within_stated_error(rows)


def test_sketch_of_rows_with_a_period():
    """Without rotations all their coordinates would share a few buckets."""
    rows = np.zeros((2, 4096))
    rows[0, ::WIDTH] = 1.0
    rows[1] = np.cos(np.arange(4096) * 2 * np.pi / WIDTH)
    assert_within_stated_error(rows)


def test_standard_error_of_a_cosine():
    rng = np.random.default_rng(1)
    for cosine in (0.0, 0.6, -0.9):
        a, b = rng.normal(size=(2, 3000)) / np.sqrt(3000)
        rows = np.stack([a, cosine * a + np.sqrt(1 - cosine**2) * b])
        exact = rows @ rows.T
        true = exact[0, 1] / np.sqrt(exact[0, 0] * exact[1, 1])
        g = sketches(rows)
        found = g[:, 0, 1] / np.sqrt(g[:, 0, 0] * g[:, 1, 1])
        stated = (1 - true**2) / np.sqrt(WIDTH)
        assert 0.8 < np.sqrt(((found - true) ** 2).mean()) / stated < 1.25


def test_sketch_is_linear(monkeypatch):
    monkeypatch.setattr(sketched_rows, "PIECE_SIZE", 40)
    gradients = np.random.default_rng(0).normal(size=(3, 150))
    stores = [SketchedRows(1, [100, 50], 2**30, 16, 0) for _ in range(2)]
    for gradient in gradients:
        stores[0].add(0, [gradient[:100], gradient[100:].reshape(5, 10)])
    total = gradients.sum(axis=0)
    stores[1].add(0, [total[:100].reshape(10, 10), total[100:]])
    np.testing.assert_allclose(
        stores[0].gramian(), stores[1].gramian(), rtol=1e-6
    )


def test_variables_are_independent():
    """Two with the same gradient do not cancel or add up."""
    found = []
    for seed in range(300):
        store = SketchedRows(2, [80, 80], 2**30, 16, seed)
        ones, zeros = np.ones(80), np.zeros(80)
        store.add(0, [ones, zeros])
        store.add(1, [zeros, ones])
        found.append(store.gramian()[0, 1] / 80)
    assert abs(np.mean(found)) < 5 * 0.25 / np.sqrt(300)
    assert np.std(found) < 0.35


def test_split():
    assert split([3, 0, 4], 5) == [[(0, 0, 3), (2, 0, 2)], [(2, 2, 4)]]
    assert split([4], 2) == [[(0, 0, 2)], [(0, 2, 4)]]
    assert split([2], 2) == [[(0, 0, 2)]]


def test_exact_rows_cast_a_few_columns_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 50)).astype("float32")
    monkeypatch.setattr("keras_mimo.grouping.exact_rows.CAST_SIZE", 21)
    store = ExactRows(3, [30, 20], 4 * 3 * 35)
    gramian = np.zeros((3, 3))
    for index in range(store.num_passes):
        chosen = store.begin(index)
        for k, row in enumerate(rows):
            variables = [row[:30].reshape(5, 6), row[30:]]
            store.add(k, [variables[i] for i in chosen])
        gramian += store.gramian()
    exact = rows.astype("float64")
    np.testing.assert_allclose(gramian, exact @ exact.T, rtol=1e-12)
