"""Confident learning, summed by hand; against cleanlab where it is installed."""

import tracemalloc
import warnings

import numpy as np
import pytest

import winnow
from winnow.audit.confident import FILTERS, confident_learning, find_label_issues
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
    with pytest.raises(InvalidInput, match="self_confidence, normalized_margin, confidence_weighted_entropy or None"):
        find_label_issues(LABELS, PROBS, return_indices_ranked_by="entropy")


# Thresholds (.9 + .8 + .3 + .4) / 4 = .6 and (.8 + .7 + .3) / 3 = .6. Confident: rows 0, 1, 6 of class 0 and rows 2, 3,
# 4, 5 of class 1, so the joint is [[2, 2], [1, 2]].
MANY = np.array([0, 0, 0, 0, 1, 1, 1])
MANY_SECOND = np.array([0.1, 0.2, 0.7, 0.6, 0.8, 0.7, 0.3])
MANY_PROBS = np.column_stack([1 - MANY_SECOND, MANY_SECOND])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2, 3, 6]),
        ({"filter_by": "prune_by_class"}, [2, 3, 6]),
        ({"filter_by": "both"}, [2, 3, 6]),
        ({"filter_by": "confident_learning"}, [2, 3, 6]),
        ({"filter_by": "predicted_neq_given"}, [2, 3, 6]),
        # Half of two labels, and of one, rounded down.
        ({"frac_noise": 0.5}, [2]),
        ({"frac_noise": 0.5, "filter_by": "prune_by_class"}, [2, 6]),
        ({"frac_noise": 0.0}, []),
        # Three zeros are kept, so one may go; all the ones.
        ({"min_examples_per_class": 3}, [2]),
        ({"min_examples_per_class": 3, "filter_by": "both"}, [2]),
        # The other filters do not count.
        ({"min_examples_per_class": 3, "filter_by": "confident_learning"}, [2, 3, 6]),
    ],
)
def test_filters_by_hand(options, expected):
    assert np.flatnonzero(find_label_issues(MANY, MANY_PROBS, **options)).tolist() == expected


def test_filters_differ_where_a_row_is_doubted_without_confidence():
    """Row 7, of class 0, is more probably of class 1, which is not confident: .55 < 2.35 / 4."""
    labels, second = np.append(MANY, 0), np.append(MANY_SECOND, 0.55)
    probs = np.column_stack([1 - second, second])
    found = {name: np.flatnonzero(find_label_issues(labels, probs, filter_by=name)).tolist() for name in FILTERS}
    assert found["confident_learning"] == [2, 3, 6]
    assert found["predicted_neq_given"] == [2, 3, 6, 7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filter_by": "low_self_confidence"}, "filter_by: 'low_self_confidence'; prune_by_noise_rate, prune_by_class"),
        ({"frac_noise": 1.5}, "frac_noise: 1.5; a share from 0 to 1"),
        ({"frac_noise": float("nan")}, "frac_noise: nan"),
        ({"min_examples_per_class": -1}, "min_examples_per_class: -1; 0 or more"),
        ({"num_to_remove_per_class": [1, 1]}, "does not take num_to_remove_per_class; possible are return_indices"),
        ({"multi_label": True}, "does not take multi_label"),
        ({"filterby": "both"}, "does not take filterby"),
    ],
)
def test_arguments_that_are_not_understood_are_refused_in_a_line(arguments, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        find_label_issues(LABELS, PROBS, **arguments)
    assert "\n" not in str(caught.value)


def test_cleanlabs_arguments_without_effect_here_are_taken():
    others = {"n_jobs": 4, "verbose": True, "multi_label": False, "rank_by_kwargs": None, "confident_joint": None}
    assert (find_label_issues(LABELS, PROBS, **others) == find_label_issues(LABELS, PROBS)).all()


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
        assert (found.label_quality == whole.label_quality).all()
        assert (found.is_issue == whole.is_issue).all()
        assert (found.joint == whole.joint).all()


def test_a_memory_mapped_file_gives_the_same(tmp_path):
    noisy, probs, _ = made(500, 5, seed=6, dtype=np.float32)
    np.save(tmp_path / "probs.npy", probs)
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")
    for name in FILTERS:
        assert (
            find_label_issues(noisy, mapped, filter_by=name) == find_label_issues(noisy, probs, filter_by=name)
        ).all()
    assert (find_label_issues(noisy, np.asfortranarray(probs)) == find_label_issues(noisy, probs)).all()


@pytest.mark.parametrize("scale", [1.0, 1.001])
def test_half_precision_and_rounded_rows_are_read_without_a_copy(scale):
    noisy, probs, _ = made(30_000, 100, seed=8, dtype=np.float16)
    probs = (probs.astype(np.float32) * scale).astype(np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        find_label_issues(noisy[:1000], probs[:1000])
        tracemalloc.start()
        find_label_issues(noisy, probs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.75 * probs.nbytes  # a copy in single precision would take twice as much


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
    assert peak < 0.25 * probs.nbytes


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


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("options", [{}, {"frac_noise": 0.7}, {"min_examples_per_class": 180}])
@pytest.mark.parametrize("ranking", ["self_confidence", "normalized_margin", "confidence_weighted_entropy"])
def test_cleanlab_finds_the_same_with_every_filter_and_ranking(name, options, ranking):
    filters = pytest.importorskip("cleanlab.filter", reason="cleanlab, the oracle of this test, is not installed")

    noisy, probs, _ = made(1000, 5, seed=3)
    ours = find_label_issues(noisy, probs, filter_by=name, return_indices_ranked_by=ranking, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = filters.find_label_issues(
            noisy, probs, filter_by=name, return_indices_ranked_by=ranking, n_jobs=1, **options
        )
    assert ours.tolist() == theirs.tolist()
    assert 0 < len(ours) < 500
