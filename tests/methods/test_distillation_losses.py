"""Distillation: the loss, the closed form of the weights, and what is stored of a belief."""

from math import exp, log

import numpy as np
import pytest
import torch

from tests.methods.test_bootstrap_losses import gradient, labels, logits, slope
from tests.plain import close, one_hot, softmax
from winnow.methods.distillation import (
    distillation_loss,
    mixed_risk,
    mixed_targets,
    optimal_given_weight,
)

EXACT = {"rtol": 0.0, "atol": 1e-12}
TEMPERATURE = 3.0


def beliefs(seed=5, **shape):
    return softmax(logits(seed=seed, **shape))


def cross_entropy(z, targets):
    return -(targets * softmax(z).log()).sum(dim=1).mean()


# The mixture


@pytest.mark.parametrize(("w_given", "target"), [(1.0, one_hot(labels())), (0.0, beliefs())])
def test_at_either_end_the_target_is_the_label_or_the_belief(w_given, target):
    close(mixed_targets(one_hot(labels()), beliefs(), w_given), target, **EXACT)


@pytest.mark.parametrize("w_given", [0.0, 0.3, 1.0])
def test_cross_entropy_to_the_mixture_is_the_mixture_of_cross_entropies(w_given):
    z, y, s = logits(), one_hot(labels()), beliefs()
    both = w_given * cross_entropy(z, y) + (1 - w_given) * cross_entropy(z, s)

    close(torch.nn.functional.cross_entropy(z, mixed_targets(y, s, w_given)), both, **EXACT)


# Plain distillation


def test_the_distillation_loss_is_the_papers_sum():
    z, zt, label, t, w = [2.0, 0.0, -1.0], [1.0, 1.5, 0.0], 1, 2.0, 0.7
    p = [exp(v) / sum(map(exp, z)) for v in z]
    soft = [exp(v / t) / sum(exp(u / t) for u in z) for v in z]
    told = [exp(v / t) / sum(exp(u / t) for u in zt) for v in zt]
    divergence = sum(told[k] * log(told[k] / soft[k]) for k in range(3))
    expected = (1 - w) * -log(p[label]) + w * t**2 * divergence
    # The same sample twice: the divergence is a mean over the batch, not over the classes.
    student, teacher = (torch.tensor([v, v], dtype=torch.float64) for v in (z, zt))

    assert distillation_loss(student, teacher, torch.tensor([label] * 2), t, w).item() == pytest.approx(expected)


def test_at_either_end_it_is_cross_entropy_or_the_divergence_alone():
    z, zt, y = logits(), logits(seed=3), labels()
    divergence = (softmax(zt) * (softmax(zt) / softmax(z)).log()).sum(dim=1).mean()

    close(distillation_loss(z, zt, y, TEMPERATURE, 0.0), cross_entropy(z, one_hot(y)), **EXACT)
    close(distillation_loss(z, zt, y, 1.0, 1.0), divergence, **EXACT)
    assert distillation_loss(z, z, y, TEMPERATURE, 1.0).abs() < 1e-12


def test_its_gradient_is_the_difference_of_the_soft_predictions_times_the_temperature():
    z, zt, y, t = logits(), logits(seed=3), labels(), TEMPERATURE
    expected = t * (softmax(z / t) - softmax(zt / t)) / len(z)

    close(gradient(lambda v: distillation_loss(v, zt, y, t, 1.0), z), expected, **EXACT)
    # Cross-entropy to the soft target has the same gradient as the divergence.
    soft = gradient(lambda v: t**2 * torch.nn.functional.cross_entropy(v / t, softmax(zt / t)), z)
    close(soft, expected, **EXACT)


def test_at_high_temperature_the_gradient_is_the_difference_of_the_centred_logits():
    z, zt = logits(rows=1, classes=10), logits(rows=1, classes=10, seed=3)
    centred = (z - z.mean()) - (zt - zt.mean())

    found = gradient(lambda v: distillation_loss(v, zt, labels(rows=1), 1e4, 1.0), z)

    close(found, centred / 10, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("w_teacher", [0.0, 0.4, 1.0])
def test_its_gradient_is_that_of_finite_differences_and_the_teacher_gets_none(w_teacher):
    z, y = logits(), labels()
    zt = logits(seed=3).requires_grad_()

    def loss(v):
        return distillation_loss(v, zt, y, TEMPERATURE, w_teacher)

    close(gradient(loss, z), slope(loss, z), rtol=1e-6, atol=1e-8)
    assert not torch.autograd.grad(loss(z.clone().requires_grad_()), zt, allow_unused=True)[0]


# The weights


def test_the_proposition_by_hand():
    w = optimal_given_weight(0.7, 0.4)

    assert w == pytest.approx(0.4 / 1.1, abs=1e-12)
    assert mixed_risk(w, 0.7, 0.4) == pytest.approx(0.7 * 0.4 / 1.1, abs=1e-12)
    assert mixed_risk(w, 0.7, 0.4) < 0.4


@pytest.mark.parametrize(("label", "teacher", "covariance"), [(0.7, 0.4, 0.15), (0.3, 0.9, -0.1), (1.0, 0.5, 0.3)])
def test_correlated_errors_have_their_own_optimum(label, teacher, covariance):
    w = optimal_given_weight(label, teacher, covariance)
    least = mixed_risk(w, label, teacher, covariance)

    expected = (label * teacher - covariance**2) / (label + teacher - 2 * covariance)
    assert least == pytest.approx(expected, abs=1e-12)
    assert all(mixed_risk(v, label, teacher, covariance) >= least for v in np.linspace(0, 1, 101))


def test_weights_stay_between_zero_and_one():
    assert optimal_given_weight(0.9, 0.2, 0.3) == 0  # the label's error holds the belief's, and more
    assert optimal_given_weight(0.2, 0.9, 0.3) == 1
    assert optimal_given_weight(0.5, 0.5, 0.5) == 1  # they never differ
    assert mixed_risk(1.0, 0.7, 0.4, 0.1) == 0.7
    assert mixed_risk(0.0, 0.7, 0.4, 0.1) == 0.4


def test_the_risk_of_the_mixture_is_its_mean_squared_error():
    """Errors of no bias, drawn: independent ones, and ones that share a part."""
    rng = np.random.default_rng(0)
    own, other, shared = rng.normal(size=(3, 400_000))
    for part in (0.0, 0.5):
        e_y, e_s = own + part * shared, 0.7 * other + part * shared
        risks = 1 + part**2, 0.49 + part**2, part**2
        for w in (0.2, optimal_given_weight(*risks)):
            assert np.square(w * e_y + (1 - w) * e_s).mean() == pytest.approx(mixed_risk(w, *risks), rel=0.01)
