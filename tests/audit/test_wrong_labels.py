"""Wrong labels among features: what is found, what is never judged, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from winnow.audit.wrong_labels import judge
from winnow.errors import InvalidInput
from winnow.functional.neighbours import neighbours

CLASSES = 4


def blobs(count: int = 240, seed: int = 0, wrong: float = 0.15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features, true labels, given labels) of four clouds that hardly touch."""
    random = np.random.default_rng(seed)
    clean = np.arange(count) % CLASSES
    features = 4.0 * np.eye(CLASSES, 6)[clean] + random.normal(size=(count, 6))
    given = clean.copy()
    rows = random.choice(count, round(wrong * count), replace=False)
    given[rows] = (clean[rows] + random.integers(1, CLASSES, len(rows))) % CLASSES
    return features, clean, given


def f1(flagged: np.ndarray, truth: np.ndarray) -> float:
    return 2 * float((flagged & truth).sum()) / float(flagged.sum() + truth.sum())


def test_wrong_labels_of_clouds_are_found_with_their_classes_and_their_number():
    features, clean, given = blobs()
    found = judge(features, given, CLASSES)
    truth = given != clean
    assert f1(found.is_issue, truth) > 0.93
    assert (found.suggested_label[truth] == clean[truth]).mean() > 0.9
    assert found.noise_rate == pytest.approx(0.15, abs=0.02)
    assert found.noise_rate_interval[0] <= 0.15 <= found.noise_rate_interval[1]
    assert found.precision == pytest.approx(truth[found.is_issue].mean(), abs=0.06)
    assert set(found.reasons) == set(np.flatnonzero(found.is_issue).tolist())


def test_joint_counts_every_label_once_and_matrix_rows_sum_to_one():
    features, _, given = blobs(120)
    found = judge(features, given, CLASSES)
    assert found.joint.sum(axis=1) == pytest.approx(np.bincount(given, minlength=CLASSES))
    assert found.transition_matrix.sum(axis=1) == pytest.approx(np.ones(CLASSES))
    assert found.transition_matrix[1] == pytest.approx(found.joint[:, 1] / found.joint[:, 1].sum())


def test_pair_noise_shows_in_the_matrix_in_its_direction():
    features, clean, given = blobs(wrong=0.0)
    given[clean == 2] = np.where(np.arange((clean == 2).sum()) % 3 == 0, 3, 2)
    matrix = judge(features, given, CLASSES).transition_matrix
    assert matrix[2, 3] == pytest.approx(1 / 3, abs=0.08)
    assert matrix[3, 2] < 0.05


def test_hard_pictures_with_their_second_class_are_flagged_too():
    features, clean = load_digits(return_X_y=True)
    features, clean = features[:900] / 16, clean[:900].astype(np.int64)
    centres = np.stack([features[clean == k].mean(axis=0) for k in range(10)])
    away = np.linalg.norm(features[:, None] - centres, axis=2)
    own = away[np.arange(len(clean)), clean].copy()
    away[np.arange(len(clean)), clean] = np.inf
    hard = np.argsort(away.min(axis=1) - own)[:90]
    given = clean.copy()
    given[hard] = away[hard].argmin(axis=1)
    found = judge(features, given, 10)
    assert f1(found.is_issue, given != clean) > 0.6


def test_same_seed_same_answer_and_an_outer_graph_is_used():
    features, _, given = blobs(120)
    graph = neighbours(features, 10)
    first, second = judge(features, given, CLASSES), judge(features, given, CLASSES, graph=graph)
    np.testing.assert_array_equal(first.label_quality, second.label_quality)
    assert first.reasons == second.reasons


def test_verified_labels_are_right_and_never_flagged():
    features, clean, given = blobs()
    verified = given != clean
    found = judge(features, given, CLASSES, verified=verified)
    assert not found.is_issue[verified].any()
    assert (found.label_quality[verified] == 1).all()


def test_missing_labels_get_a_suggestion_and_no_judgement():
    features, clean, given = blobs()
    given[:40] = -1
    found = judge(features, given, CLASSES)
    assert np.isnan(found.label_quality[:40]).all()
    assert not found.is_issue[:40].any()
    assert (found.suggested_label[:40] == clean[:40]).mean() > 0.9
    assert found.joint.sum() == pytest.approx(len(given) - 40)


def test_the_only_label_of_a_class_is_not_judged():
    features, _, given = blobs(81)
    given[80] = CLASSES
    found = judge(features, given, CLASSES + 1)
    assert np.isnan(found.label_quality[80])
    assert not found.is_issue[80]


def test_a_class_that_no_label_names_has_no_row_in_the_matrix():
    features, _, given = blobs()

    # Class 1 has images, but no labels; the last one has neither.
    matrix = judge(features, np.where(given == 1, -1, given), CLASSES + 1).transition_matrix

    assert np.isnan(matrix).all(axis=1).tolist() == [False, True, False, False, True]
    assert matrix[[0, 2, 3]].sum(axis=1) == pytest.approx(np.ones(3))


def test_copies_do_not_vouch_for_each_other():
    features, clean, given = blobs(200, wrong=0.0)
    features[:4], given[:4] = features[4], (clean[4] + 1) % CLASSES
    groups = np.full(len(given), -1)
    groups[:4] = 0
    assert judge(features, given, CLASSES, groups=groups).is_issue[:4].all()


@pytest.mark.parametrize("labels", [np.zeros(30, dtype=np.int64), np.full(30, 2)])
def test_labels_that_are_all_equal_are_believed(labels):
    features = np.random.default_rng(0).normal(size=(30, 3))
    found = judge(features, labels, 3)
    assert not found.is_issue.any()
    assert found.noise_rate < 0.05


def test_one_class_more_classes_than_images_and_equal_features_are_survived():
    random = np.random.default_rng(0)
    features = random.normal(size=(12, 3))
    assert not judge(features, np.zeros(12, dtype=np.int64), 1).is_issue.any()
    assert judge(features, np.arange(12) % 6, 50).joint.shape == (50, 50)
    flat = judge(np.ones((40, 3)), np.arange(40) % 4, 4)
    assert np.isfinite(flat.label_quality).all()
    assert np.isnan(judge(features[:1], np.zeros(1, dtype=np.int64), 2).label_quality).all()


@pytest.mark.slow
def test_a_thousand_classes_of_three_images_each():
    random = np.random.default_rng(0)
    clean = np.repeat(np.arange(1000), 3)
    features = random.normal(size=(1000, 32))[clean] * 3 + random.normal(size=(3000, 32)) * 0.3
    given = clean.copy()
    given[::30] = random.integers(0, 1000, 100)
    found = judge(features, given, 1000)
    assert np.isfinite(found.noise_rate)
    assert (found.label_quality[given == clean].mean()) > found.label_quality[given != clean].mean()


def test_probabilities_that_know_the_truth_help_where_features_do_not():
    features, clean, given = blobs()
    noise = np.random.default_rng(1).normal(size=features.shape)
    probs = 0.9 * np.eye(CLASSES)[clean] + 0.025
    probs /= probs.sum(axis=1, keepdims=True)
    alone, helped = judge(noise, given, CLASSES), judge(noise, given, CLASSES, probs=probs)
    truth = given != clean
    assert f1(helped.is_issue, truth) > max(0.8, f1(alone.is_issue, truth) + 0.2)


def test_memory_moves_the_ranking_towards_what_it_says():
    features, clean, given = blobs(400)
    features += np.random.default_rng(2).normal(scale=1.5, size=features.shape)
    truth = given != clean
    memory = np.where(truth, 0.1, 0.8) + np.random.default_rng(3).normal(scale=0.05, size=len(truth))
    alone = judge(features, given, CLASSES)
    helped = judge(features, given, CLASSES, memory=np.clip(memory, 0, 1))
    assert helped.label_quality[truth].mean() < alone.label_quality[truth].mean() - 0.02
    assert helped.label_quality[~truth].mean() > alone.label_quality[~truth].mean()


def refused(match: str, **changed: object) -> None:
    features, _, given = blobs(40)
    with pytest.raises(InvalidInput, match=match):
        judge(**{"features": features, "labels": given, "num_classes": CLASSES, **changed})


def test_what_cannot_be_used_is_refused_by_row():
    features, _, given = blobs(40)
    features[[3, 7], 1] = np.nan, np.inf
    refused("features: rows 3, 7: NaN", features=features)
    probs = np.full((40, CLASSES), 0.25)
    probs[5] = np.nan
    refused("row 5: NaN", probs=probs)
    refused("labels: row 2: not among", labels=np.where(np.arange(40) == 2, 9, given))
    refused("labels: all are missing", labels=np.full(40, -1))
    without = np.where(np.arange(40) == 4, -1, given)
    refused("verified: row 4: there is no label", labels=without, verified=np.ones(40, dtype=bool))
    refused("memory: 3 rows for 40", memory=np.zeros(3))
    refused("memory: row 0: probabilities", memory=np.full(40, 0.5) + 2.0 * (np.arange(40) == 0))
    refused("one column for each of the 4", probs=np.full((40, 3), 1 / 3))


def test_tables_of_unlike_scales_are_standardised():
    features, clean, given = blobs()
    features[:, 5] *= 1000
    assert f1(judge(features, given, CLASSES).is_issue, given != clean) > 0.9


def test_models_that_hardly_ever_agree_flag_nothing_and_leave_the_noise_rate_open():
    """200 classes of three images that tell nothing of their class."""
    random = np.random.default_rng(0)
    found = judge(random.normal(size=(600, 8)), np.arange(600) % 200, 200)
    assert not found.is_issue.any()
    assert found.noise_rate_interval[0] == 0
    assert found.noise_rate_interval[1] > 0.3
    assert (found.label_quality >= 0.5).all()
    assert len(np.unique(found.label_quality)) > 300  # still in an order
