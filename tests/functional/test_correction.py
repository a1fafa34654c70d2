"""Losses and posteriors under a known channel: summed by hand, limits, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from winnow.functional.correction import forward_losses, label_posterior

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
