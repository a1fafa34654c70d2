"""Folds of equal shares."""

import numpy as np

from winnow.functional.cross_fitting import stratified_folds


def test_folds_and_shares_of_classes_differ_by_one_row_at_most():
    labels = np.repeat([0, 1, 2, 3], [23, 2, 11, 1])
    fold = stratified_folds(labels, 5, seed=0)

    counts = np.array([np.bincount(fold[labels == k], minlength=5) for k in range(4)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1
    assert (stratified_folds(labels, 5, seed=1) != fold).any()
