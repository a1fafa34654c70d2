"""What labels mean: one class, or several that may each be unknown."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch

from winnow.functional.task import MultiLabel, SingleLabel, mean_average_precision, over_known_cells, task_of

LOGITS = [[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]]
LABELS = [[1, 0, -1], [-1, 1, 1]]


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_cross_entropy_over_known_cells_is_summed_by_hand():
    cells = [-log(sigmoid(2.0)), -log(1 - sigmoid(-1.0)), -log(sigmoid(3.0)), -log(sigmoid(-2.0))]

    loss = MultiLabel().cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS))

    assert loss.item() == pytest.approx(3 * sum(cells) / 4, rel=1e-6)


def test_with_every_cell_known_the_loss_is_the_sum_over_classes_averaged_over_images():
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]])
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    whole = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double(), reduction="sum") / 2

    assert MultiLabel().cross_entropy(logits, labels).item() == pytest.approx(whole.item(), rel=1e-12)


def test_the_loss_has_the_gradient_of_finite_differences():
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: MultiLabel().cross_entropy(x, torch.tensor(LABELS)), logits)


def test_a_batch_without_a_known_cell_costs_nothing():
    assert over_known_cells(torch.ones(2, 3), torch.full((2, 3), -1)).item() == 0


def test_the_given_probability_is_p_where_present_and_its_rest_where_absent():
    probs = torch.tensor([[0.9, 0.3, 0.5]])

    assert MultiLabel().given(probs, torch.tensor([[1, 0, -1]]))[0, :2].tolist() == pytest.approx([0.9, 0.7])
    assert SingleLabel().given(probs, torch.tensor([1])).tolist() == pytest.approx([0.3])


def test_agreement_counts_known_cells_only():
    assert MultiLabel().agreement(torch.tensor(LOGITS), torch.tensor(LABELS)).tolist() == [3, 4]
    assert SingleLabel().agreement(torch.tensor(LOGITS), torch.tensor([0, 2])).tolist() == [1, 2]


def test_decisions_have_the_form_of_given_labels():
    probs = np.array([[0.9, 0.6, 0.2]])

    assert MultiLabel().decided(probs).tolist() == [[1, 1, 0]]
    assert MultiLabel().certainty(probs).tolist() == [pytest.approx([0.9, 0.6, 0.8])]
    assert SingleLabel().decided(probs).tolist() == [0]
    assert SingleLabel().certainty(probs).tolist() == [0.9]


def test_the_shape_of_the_labels_tells_the_task():
    assert task_of(np.zeros(3)).name == "single-label"
    assert task_of(torch.zeros(3, 2)).name == "multi-label"


def test_average_precision_leaves_unknown_cells_and_one_sided_classes_out():
    labels = np.array([[1, 1], [0, 1], [1, -1], [-1, 1]])
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [1.0, 0.4]])

    # First class: known rows ranked 1, 0, 1, so precision is 1 at the first hit and 2/3 at the second; the second
    # class is never absent.
    assert mean_average_precision(probs, labels) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(mean_average_precision(probs[:, 1:], labels[:, 1:]))
