"""Label smoothing: the one-hot target mixed with a fixed distribution over the classes.

Szegedy et al. 2015, arXiv:1512.00567, section 7; negative rates after Wei et al. 2022 (ICML). Under label noise it is
regularisation: smoothing at rate n trains on the expected labels of symmetric noise n, a negative rate undoes them.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from winnow.functional.task import over_known_cells
from winnow.methods.base import Batch, Losses, Method, Moment, Problem
from winnow.methods.ranges import at_least, one_of


def label_smoothing_loss(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    rate: float,
    *,
    prior: Float[Tensor, " classes"] | None = None,
    exclude_true: bool = False,
) -> Float[Tensor, ""]:
    """Cross-entropy against (1 - rate) * target + rate * prior.

    Args:
        logits: scores before the softmax.
        targets: class indices, or distributions over the classes.
        rate: share of the prior; below 1, perhaps negative.
        prior: distribution to mix in; uniform if None.
        exclude_true: the other convention: `rate / (K - 1)` on each other class, `1 - rate` on the target.

    Returns:
        Mean loss over the batch, in nats.
    """
    log_probs = F.log_softmax(logits, dim=1)
    if targets.dim() == 1:
        on_target = -log_probs.gather(1, targets[:, None])[:, 0]
    else:
        on_target = -(targets * log_probs).sum(dim=1)
    classes = logits.shape[1]
    if exclude_true:
        # The two conventions agree at rate_all = rate_others * K / (K - 1).
        rate = rate * classes / (classes - 1)
    spread = -log_probs.mean(dim=1) if prior is None else -(log_probs * prior).sum(dim=1)
    return ((1 - rate) * on_target + rate * spread).mean()


def sigmoid_label_smoothing_loss(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, "batch classes"],
    rate: float,
    *,
    prior: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """The same for classes that are present or absent each by itself: the target is (1 - rate) * given + rate * prior.

    Args:
        logits: scores before the sigmoid.
        targets: 1 present, 0 absent, -1 unknown; unknown cells have no part.
        rate: share of the prior; below 1, perhaps negative.
        prior: probability that each class is present; one half if None.

    Returns:
        Sum over an image's classes, averaged over the batch (see `over_known_cells`), in nats.
    """
    spread = torch.full_like(logits[0], 0.5) if prior is None else prior
    smoothed = (1 - rate) * targets.clamp_min(0) + rate * spread
    return over_known_cells(F.softplus(logits) - smoothed * logits, targets)


class LabelSmoothing(Method):
    """Label smoothing. At `rate=0` it is cross-entropy.

    Args:
        problem: what to learn.
        rate: share of the prior in the target, below 1. A negative rate sharpens instead; its loss has no lower
            bound, so it starts after `warmup_epochs` of cross-entropy.
        prior: `uniform`, or `marginals` of the given labels.
        warmup_epochs: of plain cross-entropy at the start.

    Raises:
        ValueError: an option lies outside its range, or a negative rate comes without a warm-up.
    """

    name = "label-smoothing"
    title = "targets mixed with uniform"
    paper = "Szegedy et al. 2015, arXiv:1512.00567"
    assumes = "symmetric"
    multilabel = True
    prior: Tensor | None
    options: ClassVar[tuple[str, ...]] = ("uniform", "marginals")

    def __init__(self, problem: Problem, *, rate: float = 0.1, prior: str = "uniform", warmup_epochs: int = 0):
        super().__init__(problem)
        if not rate < 1:
            raise ValueError(f"rate must be below 1, got {rate}")
        one_of(self.options, prior=prior)
        at_least(0, warmup_epochs=warmup_epochs)
        if rate < 0 and warmup_epochs < 1:
            raise ValueError("a negative rate needs warmup_epochs of at least 1: its loss has no lower bound")
        self.rate = rate
        self.warmup_epochs = warmup_epochs
        self.register_buffer("prior", _marginals(problem) if prior == "marginals" else None)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """The smoothed loss, after the warm-up."""
        rate = self.rate if moment.epoch >= self.warmup_epochs else 0.0
        logits = self.classifier(batch.images)
        if batch.noisy_labels.dim() == 2:
            return {"label_smoothing": sigmoid_label_smoothing_loss(logits, batch.noisy_labels, rate, prior=self.prior)}
        return {"label_smoothing": label_smoothing_loss(logits, batch.noisy_labels, rate, prior=self.prior)}


def _marginals(problem: Problem) -> Float[Tensor, " classes"]:
    """Share of each class among the given labels; with several classes an image, among the known cells of the class."""
    labels = torch.from_numpy(problem.noisy_labels[problem.train_rows])
    if labels.dim() == 2:
        return (labels == 1).sum(dim=0) / (labels >= 0).sum(dim=0).clamp_min(1)
    counts = torch.bincount(labels, minlength=problem.num_classes).float()
    return counts / counts.sum().clamp_min(1)
