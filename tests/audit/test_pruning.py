"""Selections of confident learning: by hand, and in the plainest way."""

import numpy as np
import pytest

from winnow.audit.pruning import prune_counts, pruned_by_class, pruned_by_noise_rate
from winnow.noise.confident_joint import rows_of


def test_one_of_every_class_is_left():
    assert prune_counts(np.array([[0, 3], [1, 5]])).tolist() == [[1, 2], [1, 5]]
    # Two kinds share the one that is missing: 3 - 1/2 and 1 - 1/2, rounded down.
    assert prune_counts(np.array([[0, 3, 1], [0, 4, 0], [0, 0, 4]]))[0].tolist() == [1, 2, 0]


def test_more_may_be_left():
    assert prune_counts(np.array([[2, 3], [1, 5]]), min_examples=4).tolist() == [[4, 1], [1, 5]]
    # A class of five that keeps five.
    assert prune_counts(np.array([[2, 3], [1, 5]]), min_examples=5).tolist() == [[5, 0], [1, 5]]


def test_a_share_of_the_wrong_labels_goes():
    # 60 % of 5 and 2 of 12 labels: 3 and 1.2, and 2 + .8 more are right.
    counts = prune_counts(np.array([[5, 5, 2], [0, 4, 0], [0, 0, 4]]), frac_noise=0.6)
    assert counts[0].tolist() == [7, 3, 1]


def test_the_least_probable_of_a_class_go_and_of_equals_the_first():
    labels = np.array([1, 0, 0, 0, -1, 1, 0])
    own = np.array([0.1, 0.3, 0.2, 0.3, np.nan, 0.2, 0.9])
    assert np.flatnonzero(pruned_by_class(labels, own, np.array([2, 0]))).tolist() == [1, 2]
    assert np.flatnonzero(pruned_by_class(labels, own, np.array([9, 1]))).tolist() == [0, 1, 2, 3, 6]


def plainly(labels, probs, counts):
    """Every kind sorted as a whole."""
    chosen = np.zeros(len(labels), bool)
    for i in range(len(counts)):
        rows = np.flatnonzero(labels == i)
        for j in range(len(counts)):
            if i != j:
                order = np.argsort(-(probs[rows, j] - probs[rows, i]), kind="stable")
                chosen[rows[order[: counts[i, j]]]] = True
    return chosen & (labels >= 0) & (probs.argmax(axis=1) != labels)


@pytest.mark.parametrize("gathered", [1, 50, 1 << 20])
@pytest.mark.parametrize("most", [3, 60])
def test_the_largest_margins_of_every_kind_go(monkeypatch, gathered, most):
    """Also where more are wanted than margins are positive, and whatever is looked at together."""
    monkeypatch.setattr("winnow.audit.pruning.GATHERED", gathered)
    monkeypatch.setattr("winnow.audit.pruning.CHUNK_VALUES", gathered)
    random = np.random.default_rng(most)
    for dtype, levels in ((np.float32, 6), (np.float64, 1000)):  # few levels: equal margins
        labels = random.integers(-1, 4, 300)
        probs = random.integers(1, levels, (300, 4)).astype(dtype)
        probs /= probs.sum(axis=1, keepdims=True)
        doubtful = (labels >= 0) & (probs.argmax(axis=1) != labels)
        counts = random.integers(0, most, (4, 4))
        found = pruned_by_noise_rate(labels, doubtful, rows_of(probs), counts)
        assert (found == plainly(labels, probs, counts)).all()
        assert found.any()
        assert (found != doubtful).any()
