"""Cross-fitting: rows are predicted by models that did not see them, and the predictions calibrated."""

from __future__ import annotations

import math

import numpy as np

from winnow.data.randomness import permutation, stream_key


def stratified_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Number of the fold that holds each row, (N,): folds and the shares of the classes differ by one row at most.

    The rows are dealt out class by class, so that even the two rows of a tiny class come into two folds and no class
    makes fewer folds necessary.
    """
    order = permutation(stream_key(seed, "folds"), np.arange(len(labels)))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def best_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """What to divide scores (N, K) by so that the softmax makes `labels` (N,) most likely (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar  # half a second to import
    from scipy.special import logsumexp

    finite = np.isfinite(scores[np.arange(len(labels)), labels])
    scores, labels = scores[finite], labels[finite]

    def loss(log_temperature: float) -> float:
        scaled = scores * math.exp(-log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())

    return math.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded").x) if len(labels) else 1.0
