"""Probabilities as sure as the labels bear out: temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_COLDEST, _HOTTEST = 0.05, 20.0
_HALVINGS = 40


def tempered(probs: Float[Tensor, "n classes"], temperature: float) -> Float[Tensor, "n classes"]:
    """softmax(log probs / temperature): 1 changes nothing, more makes less sure.

    Args:
        probs: may hold zeros; they are taken for the smallest number of the precision.
        temperature: above 0.
    """
    return (_logs(probs) / temperature).softmax(dim=1)


def fitted_temperature(probs: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """The temperature at which `tempered` probabilities explain the labels best, sought in [0.05, 20].

    Args:
        probs: of images that were not trained on.
        labels: class indices; noisy ones calibrate the noisy posterior.
    """
    scores = _logs(probs.double())
    given = scores.gather(1, labels[:, None]).mean()
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    for _ in range(_HALVINGS):
        inverse = (low * high) ** 0.5
        # The mean loss is convex in 1 / temperature; this is its slope.
        slope = ((inverse * scores).softmax(dim=1) * scores).sum(dim=1).mean() - given
        low, high = (low, inverse) if slope > 0 else (inverse, high)
    return (low * high) ** -0.5


def _logs(probs: Tensor) -> Tensor:
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
