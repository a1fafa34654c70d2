"""The truth answers questions but cannot be taken out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from winnow.labels.truth import CleanLabels

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
