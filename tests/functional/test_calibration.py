"""Temperatures that arithmetic gives, and probabilities that have none."""

import math

import pytest
import torch

from winnow.functional.calibration import fitted_temperature, log_probs_of, tempered

TRUE = torch.tensor([[0.75, 0.25]], dtype=torch.float64)


def labels_as_often_as(*counts):
    return torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_scores_that_were_multiplied_by_a_factor_have_it_as_their_temperature(factor):
    # Three quarters of the labels are 0, so 0.75 is what explains them best.
    probs = (factor * TRUE.log()).softmax(dim=1).expand(8, 2)

    temperature = fitted_temperature(log_probs_of(probs), labels_as_often_as(6, 2))

    assert temperature == pytest.approx(factor, rel=1e-6)
    assert tempered(probs, temperature)[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-6)


def test_no_other_temperature_explains_the_labels_better():
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(40, 3, generator=generator, dtype=torch.float64).softmax(dim=1) ** 4
    probs = probs / probs.sum(dim=1, keepdim=True)
    labels = torch.multinomial(probs**0.4, 1, generator=generator)[:, 0]

    def loss(temperature):
        powers = probs ** (1 / temperature)
        return -(powers / powers.sum(dim=1, keepdim=True)).gather(1, labels[:, None]).log().mean().item()

    best = fitted_temperature(probs.log(), labels)

    assert 0.1 < best < 10
    assert all(loss(best) <= loss(best * factor) for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0))


def test_labels_without_a_best_temperature_give_the_end_of_the_range():
    assert fitted_temperature(TRUE.log(), torch.tensor([0])) == pytest.approx(0.05)
    assert fitted_temperature(TRUE.log(), torch.tensor([1])) == pytest.approx(20)


def test_a_temperature_of_one_changes_nothing_and_zeros_stay_finite():
    probs = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])

    assert torch.allclose(tempered(probs, 1.0), probs, atol=1e-7)
    assert tempered(probs, 20.0).isfinite().all()
    assert 0.05 <= fitted_temperature(log_probs_of(probs), torch.tensor([1, 2])) <= 20


def test_impossible_classes_have_no_part():
    """Scores (1, 0) with the label right three times in four: softmax(1 / T) = 3/4, so T = 1 / log 3."""
    scores = torch.tensor([1.0, 0.0, -torch.inf]).repeat(5, 1)

    assert fitted_temperature(scores, torch.tensor([0, 0, 0, 1, 2])) == pytest.approx(1 / math.log(3), rel=1e-6)
    assert fitted_temperature(scores, torch.full((5,), 2)) == 1
