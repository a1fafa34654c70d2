"""Confident learning, summed by hand; against cleanlab where it is installed."""

import tracemalloc
import warnings

import numpy as np
import pytest

import winnow
from winnow.audit.confident import confident_learning, find_label_issues, prune_counts
from winnow.audit.probabilities import checked_probabilities
from winnow.errors import InvalidInput

# Means of the own class: (.9 + .8 + .7 + .2) / 4 = .65 and (.9 + .7 + .6 + .2) / 4 = .6.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SECOND = np.array([0.1, 0.2, 0.3, 0.8, 0.9, 0.7, 0.6, 0.2])
PROBS = np.column_stack([1 - SECOND, SECOND])


def made(num, classes, seed, dtype=np.float64, noise=0.2):
    """Noisy labels, probabilities of the true classes, and which labels are wrong."""
    random = np.random.default_rng(seed)
    clean = random.integers(classes, size=num)
    probs = random.random((num, classes)) * 0.05
    probs[np.arange(num), clean] += random.random(num) * 1.5
    wrong = random.random(num) < noise
    noisy = np.where(wrong, (clean + random.integers(1, classes, num)) % classes, clean)
    return noisy, (probs / probs.sum(axis=1, keepdims=True)).astype(dtype), wrong


def test_the_joint_and_the_issues_by_hand():
    """Row 3 is confidently of class 1 and row 7 of class 0; row 6 reaches its threshold of .6 exactly."""
    found = confident_learning(checked_probabilities(LABELS, PROBS))

    assert found.joint.tolist() == [[3, 1], [1, 3]]
    assert np.flatnonzero(found.is_issue).tolist() == [3, 7]
    np.testing.assert_allclose(found.label_quality, [0.9, 0.8, 0.7, 0.2, 0.9, 0.7, 0.6, 0.2])
    assert found.suggested_label.tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert found.noise_rate == pytest.approx(2 / 8)


def test_pruning_leaves_one_of_every_class():
    assert prune_counts(np.array([[0, 3], [1, 5]]))[0, 1] == 2
    # Two kinds share the one that is missing: 3 - 1/2 and 1 - 1/2, rounded down.
    assert prune_counts(np.array([[0, 3, 1], [0, 4, 0], [0, 0, 4]]))[0, 1:].tolist() == [2, 0]


def test_equal_margins_go_to_the_first_row():
    """Rows 3 and 4 look alike, and one of them is doubted.

    Thresholds are 3.65 / 6 and .8, so rows 0, 2, 5 are confidently of class 0, row 1 of class 1, rows 3 and 4 of
    neither. The joint's row (3, 1) is (4.5, 1.5) of 6 labels, rounded to the even (4, 2).
    """
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    second = np.array([0.05, 0.8, 0.05, 0.7, 0.7, 0.05, 0.95, 0.65])
    assert np.flatnonzero(find_label_issues(labels, np.column_stack([1 - second, second]))).tolist() == [1, 3]


def test_issues_are_ranked_worst_first():
    assert find_label_issues(LABELS, PROBS, return_indices_ranked_by="self_confidence").tolist() == [3, 7]
    noisy, probs, _ = made(500, 5, seed=2)
    mask = find_label_issues(noisy, probs)
    own = probs[np.arange(500), noisy]
    for name, score in (("self_confidence", own), ("normalized_margin", own - probs.max(axis=1))):
        ranked = find_label_issues(noisy, probs, return_indices_ranked_by=name)
        assert sorted(ranked) == np.flatnonzero(mask).tolist()
        assert (np.diff(score[ranked]) >= 0).all()


def test_an_unknown_ranking_is_refused():
    with pytest.raises(InvalidInput, match="self_confidence, normalized_margin or None"):
        find_label_issues(LABELS, PROBS, return_indices_ranked_by="entropy")


def test_missing_labels_change_nothing_about_the_others():
    noisy, probs, _ = made(300, 3, seed=3)
    more = np.append(noisy.astype(object), [None, np.nan])
    found = find_label_issues(more, np.concatenate([probs, [[0.1, 0.8, 0.1]] * 2]))
    assert found.tolist() == [*find_label_issues(noisy, probs).tolist(), False, False]
    with pytest.raises(InvalidInput, match="all are missing"):
        find_label_issues([None, None], PROBS[:2])


def test_a_note_is_a_warning_at_the_caller():
    with pytest.warns(UserWarning, match="rescaled") as caught:
        find_label_issues(LABELS, PROBS * 1.001)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_one_class_and_one_row_a_class_flag_nothing(labels):
    probs = np.array([[0.2, 0.4, 0.4], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2]])
    assert not find_label_issues(labels, probs)[1:].any() or len(set(labels)) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_size_of_a_chunk_changes_no_bit(dtype):
    noisy, probs, _ = made(700, 6, seed=4)
    probs = np.round(probs * 16)  # many equal margins
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)
    whole = confident_learning(checked_probabilities(noisy, probs))
    for rows in (1, 7, 64, 10_000):
        found = confident_learning(checked_probabilities(noisy, probs, chunk_rows=rows), chunk_rows=rows)
        assert (found.is_issue == whole.is_issue).all()
        assert (found.joint == whole.joint).all()


def test_few_columns_at_a_time_change_nothing(monkeypatch):
    noisy, probs, _ = made(700, 6, seed=5)
    whole = find_label_issues(noisy, probs)
    monkeypatch.setattr("winnow.audit.confident._GATHERED", 1)
    assert (find_label_issues(noisy, probs) == whole).all()


def test_a_memory_mapped_file_gives_the_same(tmp_path):
    noisy, probs, _ = made(500, 5, seed=6, dtype=np.float32)
    np.save(tmp_path / "probs.npy", probs)
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")
    assert (find_label_issues(noisy, mapped) == find_label_issues(noisy, probs)).all()


@pytest.mark.parametrize("dominated", [False, True])
def test_nothing_of_the_size_of_the_input_is_made(dominated):
    noisy, probs, _ = made(30_000, 200, seed=7, dtype=np.float32)
    if dominated:
        noisy[noisy > 1] = 0
    find_label_issues(noisy[:1000], probs[:1000])  # imports
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        find_label_issues(noisy, probs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (0.75 if dominated else 0.25) * probs.nbytes


def test_most_wrong_labels_are_found():
    """The audit's protocol C, smaller: an F1 of .985 is what is known to be reached."""
    noisy, probs, wrong = made(20_000, 10, seed=0, dtype=np.float32)
    issues = winnow.find_label_issues(noisy, probs)
    assert 2 * (issues & wrong).sum() / (issues.sum() + wrong.sum()) > 0.97


@pytest.mark.parametrize(("num", "classes"), [(300, 3), (2000, 2), (3000, 10), (2000, 60)])
@pytest.mark.parametrize("seed", [0, 1])
def test_cleanlab_finds_the_same(num, classes, seed):
    filters = pytest.importorskip("cleanlab.filter", reason="cleanlab, the oracle of this test, is not installed")

    noisy, probs, _ = made(num, classes, seed)
    found = confident_learning(checked_probabilities(noisy, probs))
    # Where equal entries could give way to rounding, cleanlab's choice is its sort's; so the joint is given.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = filters.find_label_issues(noisy, probs, confident_joint=found.joint, n_jobs=1)
        alone = filters.find_label_issues(noisy, probs, n_jobs=1)
    assert (found.is_issue == theirs).all()
    assert (found.is_issue != alone).mean() < 0.01
