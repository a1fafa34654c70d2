"""The kernel machine against plain arithmetic; the votes by hand; copies in one fold."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.audit.held_out import FOLDS, HeldOutRidge, grouped_folds
from winnow.audit.votes import Voters
from winnow.functional.neighbours import Neighbours


def test_each_fold_is_predicted_by_kernel_ridge_on_the_others():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 3)), random.integers(0, 3, 60)
    labels[5] = -1
    kept = np.arange(60) % 7 != 0
    spread = 1.5
    fold = grouped_folds(labels, None, 4)
    taught = kept & (labels >= 0)
    squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squares / (2 * spread))
    counts = np.bincount(labels[taught], minlength=3)
    shares = (counts + 1 / 3) / (counts.sum() + 1)
    expected = np.empty((60, 3))
    for number in range(FOLDS):
        rows = np.flatnonzero(taught & (fold != number))
        targets = np.eye(3)[labels[rows]] - shares
        alpha = np.linalg.solve(kernel[np.ix_(rows, rows)] + np.eye(len(rows)), targets)
        held = np.flatnonzero(fold == number)
        expected[held] = shares + kernel[np.ix_(held, rows)] @ alpha

    scores = np.empty((60, 3))
    for part, values in HeldOutRidge(features, labels, 3, spread, None, 4).fitted(kept).scores():
        scores[part] = values
    np.testing.assert_allclose(scores, expected, atol=2e-3)


def test_rows_of_a_group_share_a_fold():
    groups = np.full(50, -1)
    groups[[3, 17, 40]], groups[[4, 5]] = 7, 0
    fold = grouped_folds(np.arange(50) % 4, groups, 0)
    assert len(set(fold[[3, 17, 40]])) == 1
    assert fold[4] == fold[5]
    assert np.bincount(fold, minlength=FOLDS).max() <= 8


def test_models_of_well_told_classes_agree_and_of_random_labels_do_not():
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    near, far = 6 * np.eye(3)[labels] + random.normal(size=(300, 3)), random.normal(size=(300, 3))
    found = []
    for features in (near, far):
        different, asked = (
            HeldOutRidge(features, labels, 3, 1.0, None, 0).fitted(np.ones(300, dtype=bool)).disagreement()
        )
        assert asked == 270
        found.append(different / asked)
    assert found[0] < 0.02
    assert found[1] > 0.3


def test_votes_are_weighted_by_nearness_and_trust_and_copies_have_none():
    graph = Neighbours(np.array([[1, 2, 3]] * 4), np.array([[1.0, 2.0, 4.0]] * 4))
    voters = Voters.of(graph, np.array([9, 9, -1, -1]))
    shares, total = voters.shares(np.array([0]), np.array([0, 0, 1, 2]), np.array([1.0, 1.0, 1.0, 0.5]), 3)
    near, far = np.exp(-0.25), 0.5 * np.exp(-1.0)
    assert total[0] == pytest.approx(near + far)
    assert shares[0] == pytest.approx([0, near / (near + far), far / (near + far)])
