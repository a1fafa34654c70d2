"""Losses and posteriors under a known channel: summed by hand, limits, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from winnow.functional.correction import backward_losses, forward_losses, label_posterior

T = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]], dtype=torch.float64)


@pytest.fixture
def logits():
    return torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


def test_the_loss_is_the_log_of_the_summed_paths(logits):
    probs = logits.softmax(dim=1)
    by_hand = [-torch.log(sum(probs[b, i] * T[i, LABELS[b]] for i in range(3))) for b in range(6)]
    found = forward_losses(logits.log_softmax(dim=1), LABELS, T)
    assert torch.allclose(found, torch.stack(by_hand), rtol=0, atol=1e-12)


def test_a_channel_that_changes_nothing_leaves_cross_entropy(logits):
    found = forward_losses(logits.log_softmax(dim=1), LABELS, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(found, F.cross_entropy(logits, LABELS, reduction="none"), rtol=0, atol=1e-12)


def test_the_gradient_is_prediction_minus_posterior(logits):
    logits.requires_grad_()
    forward_losses(logits.log_softmax(dim=1), LABELS, T).sum().backward()
    probs = logits.detach().softmax(dim=1)
    assert torch.allclose(logits.grad, probs - label_posterior(probs, LABELS, T), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda z, t: forward_losses(z.log_softmax(dim=1), LABELS, t), (logits, (T + 0.01).requires_grad_())
    )


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = forward_losses(logits.log_softmax(dim=1), torch.tensor([1]), T.float()).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


INVERSE = torch.linalg.inv(T)


def test_the_backward_loss_is_a_row_of_the_inverse_times_the_losses(logits):
    losses = -logits.log_softmax(dim=1)
    by_hand = [sum(INVERSE[LABELS[b], k] * losses[b, k] for k in range(3)) for b in range(6)]
    found = backward_losses(-losses, LABELS, INVERSE)
    assert torch.allclose(found, torch.stack(by_hand), rtol=0, atol=1e-12)


def test_without_noise_backward_is_cross_entropy_in_value_and_gradient(logits):
    logits.requires_grad_()
    eye = torch.eye(3, dtype=torch.float64)
    found = backward_losses(logits.log_softmax(dim=1), LABELS, torch.linalg.inv(eye))
    expected = F.cross_entropy(logits, LABELS, reduction="none")
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)


def test_the_mean_backward_loss_over_noisy_labels_is_the_loss_on_the_true_one(logits):
    log_probs = logits.log_softmax(dim=1)
    every = torch.stack([backward_losses(log_probs, torch.full((6,), j), INVERSE) for j in range(3)], dim=1)
    for clean in range(3):
        assert torch.allclose(every @ T[clean], -log_probs[:, clean], rtol=0, atol=1e-10)


def test_the_mean_forward_loss_over_noisy_labels_is_least_at_the_true_posterior(logits):
    """Fisher consistency: its gradient is zero there, and any other prediction has a larger loss."""
    truth = logits[:1].softmax(dim=1)
    noisy = (truth @ T)[0]

    def expected_loss(z):
        log_probs = z.log_softmax(dim=1).expand(3, 3)
        return (noisy * forward_losses(log_probs, torch.arange(3), T)).sum()

    at_truth = truth.log().requires_grad_()
    expected_loss(at_truth).backward()
    assert at_truth.grad.abs().max() < 1e-12
    for other in logits[1:]:
        assert expected_loss(other[None]) > expected_loss(truth.log()) + 1e-6


def test_the_backward_gradient_is_prediction_minus_a_row_of_the_inverse(logits):
    logits.requires_grad_()
    backward_losses(logits.log_softmax(dim=1), LABELS, INVERSE).sum().backward()
    assert torch.allclose(INVERSE.sum(dim=1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.allclose(logits.grad, logits.detach().softmax(dim=1) - INVERSE[LABELS], rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z: backward_losses(z.log_softmax(dim=1), LABELS, INVERSE), logits)


@pytest.mark.parametrize(("rate", "classes"), [(0.3, 3), (0.5, 10)])
def test_backward_under_symmetric_noise_is_label_smoothing_by_a_negative_rate(rate, classes):
    """T = (1 - m) I + m / K with m = rate K / (K - 1); its inverse smooths by -m / (1 - m)."""
    m = rate * classes / (classes - 1)
    smoothing = -m / (1 - m)
    eye = torch.eye(classes, dtype=torch.float64)
    inverse = torch.linalg.inv((1 - m) * eye + m / classes)
    assert torch.allclose(inverse, (eye - m / classes) / (1 - m), rtol=0, atol=1e-12)
    logits = torch.randn(20, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(20) % classes
    log_probs = logits.log_softmax(dim=1)
    own = log_probs[torch.arange(20), labels]
    expected = -((1 - smoothing) * own + smoothing * log_probs.mean(dim=1))
    assert torch.allclose(backward_losses(log_probs, labels, inverse), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_renaming_the_classes_changes_no_loss(kind, logits):
    order = torch.tensor([2, 0, 1])
    log_probs, renamed = logits.log_softmax(dim=1), torch.argsort(order)[LABELS]
    moved = T[order][:, order]
    if kind == "forward":
        first, second = forward_losses(log_probs, LABELS, T), forward_losses(log_probs[:, order], renamed, moved)
    else:
        first = backward_losses(log_probs, LABELS, INVERSE)
        second = backward_losses(log_probs[:, order], renamed, torch.linalg.inv(moved))
    assert torch.allclose(first, second, rtol=0, atol=1e-12)


def test_zeros_in_the_matrix_are_as_good_as_very_small_entries(logits):
    padded = T.clamp_min(1e-8) / T.clamp_min(1e-8).sum(dim=1, keepdim=True)
    log_probs = logits.log_softmax(dim=1)
    assert torch.allclose(forward_losses(log_probs, LABELS, T), forward_losses(log_probs, LABELS, padded), atol=1e-5)
