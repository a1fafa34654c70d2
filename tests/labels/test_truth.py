"""The truth answers questions but cannot be taken out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from winnow.labels.truth import FOREIGN, CleanLabels

TRUTH = CleanLabels(np.array([0, 1, 1, 2, -1]))


@pytest.mark.parametrize("take", [torch.as_tensor, lambda t: t[0], list, iter, lambda t: vars(t)])
def test_no_array_or_item_can_be_taken_from_it(take):
    with pytest.raises((TypeError, RuntimeError, ValueError)):
        take(TRUTH)


def test_numpy_finds_no_numbers_in_it():
    assert np.asarray(TRUTH).dtype == object


def test_accuracy_counts_images_with_a_known_truth():
    assert TRUTH.accuracy(np.array([0, 1, 0, 0, 3])) == 0.5
    assert TRUTH.wrong(np.array([0, 1, 0, 0, 3])).tolist() == [False, False, True, True, False]


def test_auroc_is_the_share_of_rightly_ordered_pairs():
    labels = np.array([0, 1, 0, 0, 3])
    # wrong: rows 2 and 3; right: rows 0 and 1. Pairs right > wrong: (0,2) (0,3) (1,3) of 4.
    quality = np.array([0.9, 0.4, 0.5, 0.1, 0.0])

    assert TRUTH.wrong_label_auroc(labels, quality) == 0.75
    assert np.isnan(TRUTH.wrong_label_auroc(np.array([0, 1, 1, 2, 0]), quality))


def test_confusion_has_the_truth_in_rows():
    assert TRUTH.confusion(np.array([0, 2, 1, 2, 0]), 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_taking_rows_keeps_their_order():
    assert TRUTH.take(np.array([3, 0])).accuracy(np.array([2, 1])) == 0.5


def test_foreign_images_are_found_by_their_scores_and_count_nowhere_else():
    truth = CleanLabels(np.array([0, FOREIGN, 1, FOREIGN, -1, 1]))
    labels = np.array([0, 0, 1, 1, 1, 0])
    # Pairs foreign > known: 0.8 over 0.1 and 0.7 (not over 0.9), 0.7 over 0.1 and level with 0.7: 3.5 of 6.
    scores = np.array([0.1, 0.8, 0.7, 0.7, 1.0, 0.9])

    assert truth.outlier_auroc(scores) == pytest.approx(3.5 / 6)
    assert truth.accuracy(labels) == pytest.approx(2 / 3)
    assert truth.wrong(labels).tolist() == [False] * 5 + [True]
    assert truth.confusion(labels, 2).sum() == 3
    without_the_last = np.where(np.arange(6) == 5, np.nan, scores)
    assert truth.outlier_auroc(without_the_last) == pytest.approx(3.5 / 4)
    assert np.isnan(TRUTH.outlier_auroc(np.zeros(5)))


def test_where_only_some_classes_are_left_the_others_images_are_foreign():
    part = TRUTH.among(np.array([2, 0]))

    # 0, 1, 1, 2 and unknown have become 1, foreign, foreign, 0 and unknown.
    assert part.wrong(np.array([1, 0, 1, 0, 0])).tolist() == [False] * 5
    assert part.wrong(np.array([0, 0, 1, 1, 0])).tolist() == [True, False, False, True, False]
    assert part.outlier_auroc(np.array([0.1, 0.9, 0.8, 0.2, 0.5])) == 1
