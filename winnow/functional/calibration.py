"""Probabilities as sure as the labels bear out: temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_HALVINGS = 40


def tempered(probs: Float[Tensor, "n classes"], temperature: float) -> Float[Tensor, "n classes"]:
    """softmax(log probs / temperature): 1 changes nothing, more makes less sure.

    Args:
        probs: may hold zeros; they are taken for the smallest number of the precision.
        temperature: above 0.
    """
    return (log_probs_of(probs) / temperature).softmax(dim=1)


def fitted_temperature(
    scores: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], bounds: tuple[float, float] = (0.05, 20.0)
) -> float:
    """The temperature at which softmax(scores / temperature) makes the labels most likely; 1 without any label.

    Args:
        scores: logits, or logarithms of probabilities, of images that were not trained on. A class may be impossible
            (-inf); images whose own label is have no part.
        labels: class indices; noisy ones calibrate the noisy posterior.
        bounds: where it is sought.
    """
    scores = scores.double()
    possible = scores.gather(1, labels[:, None])[:, 0].isfinite()
    if not possible.any():
        return 1.0
    scores = scores[possible].clamp_min(torch.finfo(torch.float64).min / 1e6)  # 0 times -inf is no number
    given = scores.gather(1, labels[possible][:, None]).mean()
    low, high = 1 / bounds[1], 1 / bounds[0]
    for _ in range(_HALVINGS):
        inverse = (low * high) ** 0.5
        # The mean loss is convex in 1 / temperature; this is its slope.
        slope = ((inverse * scores).softmax(dim=1) * scores).sum(dim=1).mean() - given
        low, high = (low, inverse) if slope > 0 else (inverse, high)
    return (low * high) ** -0.5


def log_probs_of(probs: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
    """Logarithms; zeros are taken for the smallest number of the precision."""
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
