"""Cross-entropy on the given labels: the plain learner, and the fair control of every comparison.

Its options give it the same views, mixing (Zhang et al. 2018, arXiv:1710.09412) and averaging that robust methods use.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.methods.base import Batch, Draw, Losses, Method, Moment, Phase, Problem
from winnow.methods.ranges import finite_at_least, one_of
from winnow.models.average import WeightAverage


def mixed(
    images: Float[Tensor, "batch c h w"], partners: Int[Tensor, " batch"], share: Float[Tensor, " batch"]
) -> Float[Tensor, "batch c h w"]:
    """Images blended with their partners: share * own + (1 - share) * partner's."""
    own = share[:, None, None, None]
    return own * images + (1 - own) * images[partners]


class CrossEntropy(Method):
    """Cross-entropy.

    Args:
        problem: what to learn.
        views: `plain`, `weak` or `strong`.
        mixup: parameter of the Beta distribution of the mixing weights, one weight a batch; 0 = no mixing.
        averaging: deploy the average of the weights over the last `window` epochs.
        window: of the average, in epochs.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "cross-entropy"
    title = "the plain learner, the control"
    assumes = "none"
    remedy = "none"
    multilabel = True

    def __init__(
        self,
        problem: Problem,
        *,
        views: str = "weak",
        mixup: float = 0.0,
        averaging: bool = False,
        window: float = 2.0,
    ):
        super().__init__(problem)
        one_of(("plain", "weak", "strong"), views=views)
        finite_at_least(0, mixup=mixup)
        if not window > 0:
            raise ValueError(f"window must be above 0, got {window}")
        self.views = views
        self.mixup = mixup
        self.average = WeightAverage(self.classifier, window) if averaging else None

    def plan(self, epochs: int) -> list[Phase]:
        """One phase on the chosen views."""
        return [Phase("train", self.loss, epochs=epochs, draws={"train": Draw(views=(self.views,))})]

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Cross-entropy; under mixup against both labels, by share."""
        if not self.mixup:
            return self.supervised_loss(batch, moment)
        share = torch.distributions.Beta(self.mixup, self.mixup).sample().clamp(0, 1).to(batch.images.device)
        partners = torch.randperm(len(batch.indices)).to(batch.indices.device)
        logits = self.classifier(mixed(batch.images, partners, share.expand(len(partners))))
        cross_entropy = self.problem.task.cross_entropy
        own = cross_entropy(logits, batch.noisy_labels)
        other = cross_entropy(logits, batch.noisy_labels[partners])
        return {"cross_entropy": share * own + (1 - share) * other}

    def after_step(self, moment: Moment) -> None:
        """Moves the average."""
        if self.average is not None:
            self.average.update(self.classifier, moment.step, moment.steps_per_epoch)

    def deployed(self) -> list:
        """The averaged network if there is one."""
        return [self.classifier if self.average is None else self.average.network]
