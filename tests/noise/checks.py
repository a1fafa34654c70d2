"""Labels to make wrong, and whether what came out fits a transition matrix."""

import numpy as np
from scipy.stats import chi2

K = 10
N = 20_000


def clean(count=N, classes=K, seed=0):
    return np.random.default_rng(seed).integers(0, classes, count)


def names(count=N):
    return [f"image {row}" for row in range(count)]


def counts(clean_labels, noisy_labels, classes=K):
    return np.bincount(clean_labels * classes + noisy_labels, minlength=classes**2).reshape(classes, classes)


def assert_fits(found, matrix):
    """Rows of counts are draws from the rows of a matrix: chi-square, largest error, and nothing impossible."""
    totals = found.sum(axis=1)
    for row, total in enumerate(totals):
        cells = matrix[row] > 0
        expected = total * matrix[row][cells]
        statistic = ((found[row][cells] - expected) ** 2 / expected).sum()
        assert statistic <= chi2.ppf(1 - 1e-6, max(1, cells.sum() - 1))
    assert found[matrix == 0].sum() == 0
    error = np.abs(found / totals[:, None] - matrix)
    # An exact count may be off by its rounding, 1.5 images at most.
    assert (error <= 5 * np.sqrt(matrix * (1 - matrix) / totals[:, None]) + 1.5 / totals.min()).all()
