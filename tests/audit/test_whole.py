"""Remarks on a whole collection: made where there is something, hardly ever where there is not."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.audit.embedded import ByHeart
from winnow.audit.findings import LabelBeliefs
from winnow.audit.whole import (
    class_imbalance,
    labels_by_heart,
    merged_classes,
    order_effect,
    remarks,
    unnamed_classes,
    weak_features,
    weak_slices,
)
from winnow.functional.neighbours import neighbours

CLASSES, EACH = 4, 100
NAMES = ("ant", "bee", "cat", "dog")


def beliefs(labels, suggested):
    flagged = (labels >= 0) & (suggested != labels)
    return LabelBeliefs(
        label_quality=np.where(flagged, 0.1, 0.9),
        suggested_label=suggested,
        suggested_probability=np.full(len(labels), 0.9),
        is_issue=flagged,
        reasons={},
        joint=np.eye(CLASSES),
        transition_matrix=np.eye(CLASSES),
        noise_rate=float(flagged.mean()),
        noise_rate_interval=(0.0, 1.0),
        precision=0.9,
    )


def collection(seed, shuffled=True):
    """(features, true classes): four clouds, in a random order."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(CLASSES), EACH)
    if shuffled:
        truth = random.permutation(truth)
    features = 3 * np.eye(6)[truth] + random.normal(size=(len(truth), 6))
    return features.astype(np.float32), truth


def with_noise(truth, rate, seed):
    random = np.random.default_rng(seed)
    wrong = random.random(len(truth)) < rate
    return np.where(wrong, (truth + random.integers(1, CLASSES, len(truth))) % CLASSES, truth)


def kinds(features, labels, suggested):
    graph = neighbours(features, 10, metric="cosine")
    return [remark.kind for remark in remarks(features, labels, beliefs(labels, suggested), graph, NAMES)]


def test_clean_and_evenly_noisy_collections_have_hardly_any_remark():
    made = []
    for seed in range(20):
        features, truth = collection(seed)
        made += kinds(features, with_noise(truth, 0.1 * (seed % 3), seed), truth)

    assert len(made) <= 1


def test_unbalanced_classes_are_counted():
    labels = np.repeat([0, 1, 2], [300, 100, 99])
    remark = class_imbalance(labels, NAMES)

    assert remark is not None
    assert "'ant' has 300 images, 'dog' 0" in remark.sentence
    assert remark.numbers["empty"] == 1
    assert class_imbalance(np.repeat(np.arange(4), [120, 100, 60, 90]), NAMES) is None
    assert class_imbalance(np.repeat(np.arange(4), [3, 1, 1, 2]), NAMES) is None  # chance


def test_an_order_by_class_is_seen_and_called_no_error():
    features, truth = collection(0, shuffled=False)
    remark = order_effect(truth, neighbours(features, 10, metric="cosine"), seed=0)

    assert remark is not None
    assert remark.numbers["pattern"] == "class"
    assert remark.numbers["share"] == pytest.approx(396 / 399)
    assert remark.numbers["chance_low"] < 99 / 399 < remark.numbers["chance_high"]
    assert "no error" in remark.sentence


def test_a_drift_within_the_classes_is_seen():
    features, truth = collection(1)
    drifting = np.column_stack([features, 0.05 * np.arange(len(truth))]).astype(np.float32)
    remark = order_effect(truth, neighbours(drifting, 10), seed=0)

    assert remark is not None
    assert remark.numbers["pattern"] == "drift"
    assert remark.numbers["apart"] < remark.numbers["chance_low"]
    assert order_effect(truth, neighbours(features, 10), seed=0) is None


def test_a_group_of_doubtful_images_is_a_weak_slice():
    features, truth = collection(2)
    features[truth == 2] += np.where(np.arange(EACH)[:, None] < 60, 8, 0)
    labels = with_noise(truth, 0.03, 2)
    group = np.flatnonzero(truth == 2)[:60]
    labels[group[:30]] = 3
    found = weak_slices(features, labels, beliefs(labels, truth), NAMES, seed=0)

    assert len(found) >= 1
    assert set(found[0].numbers["rows"]) <= set(group.tolist())
    assert found[0].numbers["low"] > 2 * found[0].numbers["elsewhere"]


def test_a_group_doubted_not_twice_as_often_as_the_others_is_none():
    """However sure it is that it is doubted more often: each of some twelve groups of class 2, 38 % against 25 %."""
    features, truth = collection(2)
    features, truth = np.repeat(features, 40, axis=0), np.repeat(truth, 40)
    random = np.random.default_rng(1)
    doubted = random.random(len(truth)) < np.where(truth == 2, 0.38, 0.25)
    labels = np.where(doubted, (truth + 1) % 4, truth)
    assert weak_slices(features, labels, beliefs(labels, truth), NAMES, seed=0) == []


def test_labels_known_by_heart_are_told_where_they_are_many_and_beyond_chance():
    [remark] = labels_by_heart(ByHeart((3650, 3800), (126, 200)))
    assert remark.kind == "labels_by_heart"
    assert "96% of the images whose label it learnt and of 63% of 200 others" in remark.sentence
    assert remark.numbers == {"learnt": 3650 / 3800, "held_back": 0.63}
    assert labels_by_heart(ByHeart((3650, 3800), (180, 200))) == ()  # 6 %
    assert labels_by_heart(ByHeart((96, 100), (4, 5))) == ()  # chance
    assert labels_by_heart(None) == ()


def test_classes_taken_for_each_other_in_both_directions_are_merged():
    _, truth = collection(3)
    labels = truth.copy()
    labels[np.flatnonzero(truth == 0)[:30]] = 1
    one_way = merged_classes(labels, beliefs(labels, truth), NAMES)
    labels[np.flatnonzero(truth == 1)[:30]] = 0
    both_ways = merged_classes(labels, beliefs(labels, truth), NAMES)

    assert one_way == []
    assert [remark.numbers["classes"] for remark in both_ways] == [[0, 1]]
    assert both_ways[0].numbers["images"] == 60
    assert both_ways[0].numbers["low"] < 0.3 < both_ways[0].numbers["high"]


def test_classes_that_no_label_names_are_named():
    labels = np.array([0, 0, 2, -1])

    [remark] = unnamed_classes(labels, ["cat", "dog", "owl", "fox"])

    assert remark.numbers == {"classes": [1, 3]}
    assert remark.sentence.startswith("No label names 2 of the 4 classes ('dog', 'fox'; exact)")
    assert unnamed_classes(np.arange(12), list("abcdefghijkl")) == ()
    [many] = unnamed_classes(labels, [f"c{k}" for k in range(30)])
    assert "'c12', ..." not in many.sentence
    assert "'c11', ...;" in many.sentence


def test_few_images_get_no_remark():
    features, truth = collection(0, shuffled=False)

    assert kinds(features[:49], truth[:49], truth[:49]) == []


def test_weak_features_are_those_whose_nearest_images_seldom_share_a_label():
    """Images without a label neither ask nor answer."""
    features = np.repeat(np.eye(4), 11, axis=0)
    graph = neighbours(features, 10)
    labels = np.repeat(np.arange(4), 11)
    assert weak_features(graph, labels) == ()
    assert weak_features(graph, np.where(np.arange(44) % 2 == 0, labels, -1)) == ()
    assert weak_features(graph, np.full(44, -1)) == ()

    [remark] = weak_features(graph, np.arange(44) % 4)

    same = [np.bincount(np.arange(44)[rows] % 4, minlength=4) for rows in np.split(np.arange(44), 4)]
    by_hand = sum((counts * (counts - 1)).sum() for counts in same) / (44 * 10)
    assert remark.numbers["agreement"] == pytest.approx(by_hand)
