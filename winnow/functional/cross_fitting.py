"""Cross-fitting: rows are predicted by models that did not see them."""

from __future__ import annotations

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
