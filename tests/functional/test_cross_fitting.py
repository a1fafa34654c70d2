"""Folds of equal shares, and the temperature."""

import numpy as np
import pytest

from winnow.functional.cross_fitting import best_temperature, stratified_folds


def test_folds_and_shares_of_classes_differ_by_one_row_at_most():
    labels = np.repeat([0, 1, 2, 3], [23, 2, 11, 1])
    fold = stratified_folds(labels, 5, seed=0)

    counts = np.array([np.bincount(fold[labels == k], minlength=5) for k in range(4)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1
    assert (stratified_folds(labels, 5, seed=1) != fold).any()


def test_the_temperature_by_hand():
    """Scores (1, 0) with the label right three times in four: softmax(1 / T) = 3/4, so T = 1 / log 3."""
    scores = np.tile([1.0, 0.0], (4, 1))
    assert best_temperature(scores, np.array([0, 0, 0, 1])) == pytest.approx(1 / np.log(3), rel=1e-4)
