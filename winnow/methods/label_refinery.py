"""Label refinery: a network trained on the given labels relabels every view of an image for the next one.

Bagherinezhad et al. 2018, arXiv:1805.02641. A crop may show something else than the label of its image says; the
refinery's prediction on that very crop, soft and made anew in every step, replaces the label. The student has fresh
weights and may be the next refinery. The released code leaves the refinery in training mode, with the statistics of
the batch and running ones that move; here it is in evaluation mode, so that a label depends on its view alone. The
paper's adversarial jitter of the crops, which the released code lacks as well, is left out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from winnow.functional.stored_targets import StoredTargets
from winnow.methods.base import Batch, Losses, Method, Moment, Phase, Problem, Turn, cosine_in_phase
from winnow.methods.ranges import at_least, in_interval, one_of
from winnow.survey import Survey


def refinery_loss(
    logits: Float[Tensor, "batch classes"], soft_labels: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """KL(q || p) of the refinery's label q and the student's prediction p: 0 where they agree.

    The gradient with respect to the logits is that of the cross-entropy to q, which is larger by the entropy of q.

    Args:
        logits: the student's scores before the softmax.
        soft_labels: q, rows summing to one; no gradient reaches them.

    Returns:
        Mean over the batch, in nats.
    """
    return F.kl_div(F.log_softmax(logits, dim=1), soft_labels.detach(), reduction="batchmean")


class LabelRefinery(Method):
    """Label refinery. One generation is plain cross-entropy.

    The first generation learns the given labels; every later one starts from fresh weights and learns what the one
    before says of each view, never looking at the given labels. The epochs of the run are divided among them, and each
    has the whole learning-rate schedule in its own. Under label noise a first generation that memorises its labels
    hands the noise down: stop it early with `first_share`.

    Args:
        problem: what to learn.
        generations: networks trained one after the other, at least 1; no more than there are epochs, the rest is left
            out.
        first_share: share of the epochs for the first generation, below 1; 0 = an equal one. However large, each later
            generation keeps an epoch.
        labels: `online`, made on the student's own view in every step, or `static`: one an image, made on its plain
            view as a generation starts and stored (the paper's ablation; spares the refinery's forward pass).

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "label-refinery"
    title = "soft labels of each view"
    paper = "Bagherinezhad et al. 2018, arXiv:1805.02641"
    remedy = "cleansing"
    cost = 1.33
    entropy_sum: Tensor
    labels_seen: Tensor
    label_entropy: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        generations: int = 2,
        first_share: float = 0.0,
        labels: str = "online",
    ):
        super().__init__(problem)
        at_least(1, generations=generations)
        in_interval("[0, 1)", first_share=first_share)
        one_of(("online", "static"), labels=labels)
        self.generations = generations
        self.first_share = first_share
        static = labels == "static"
        self.stored = StoredTargets(problem.memory, problem.num_classes) if static else None
        self.refinery = None if static else problem.network("refinery").requires_grad_(False)
        self.register_buffer("entropy_sum", torch.tensor(0.0))
        self.register_buffer("labels_seen", torch.tensor(0))
        self.register_buffer("label_entropy", torch.tensor(0.0))

    def plan(self, epochs: int) -> list[Phase]:
        """Cross-entropy on the given labels, then a phase for every refined generation."""
        first, *refined = _lengths(epochs, self.generations, self.first_share)
        phases = [Phase("generation 1", self.supervised_loss, epochs=first, schedule=cosine_in_phase)]
        for number, length in enumerate(refined, start=2):
            name = f"generation {number}"
            phase = Phase(
                name,
                [Turn(self.loss, optimizer=name)],
                epochs=length,
                end_epoch=self.measure_entropy,
                schedule=cosine_in_phase,
            )
            if self.refinery is not None:
                phase = replace(phase, begin=partial(self.hand_over, name))
            else:  # a survey after `begin` would see the new student, so the old one stays until it is done
                phase = replace(phase, revise=partial(self.store_labels, name), revise_every=0)
            phases.append(phase)
        return phases

    def hand_over(self, generation: str) -> None:
        """The student becomes the refinery; the new student has fresh weights."""
        assert self.refinery is not None
        self.refinery.load_state_dict(self.classifier.state_dict())
        self.start_afresh(generation)

    def store_labels(self, generation: str, survey: Survey) -> None:
        """The student labels every image's plain view; the new student has fresh weights."""
        assert self.stored is not None
        self.stored.write(torch.from_numpy(survey.indices), torch.from_numpy(survey.probs))
        self.start_afresh(generation)

    @torch.no_grad()
    def soft_labels(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """What the refinery says of the very views that the student sees, or what was stored of their images."""
        if self.stored is not None:
            return self.stored.read(batch.indices)
        assert self.refinery is not None
        self.refinery.eval()
        return self.refinery(batch.images).softmax(dim=1)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """KL from the soft labels; the given ones are not looked at."""
        soft_labels = self.soft_labels(batch)
        self.entropy_sum += torch.special.entr(soft_labels).sum()
        self.labels_seen += len(soft_labels)
        return {"refinery": refinery_loss(self.classifier(batch.images), soft_labels)}

    def measure_entropy(self) -> None:
        """Mean entropy of the epoch's soft labels."""
        self.label_entropy.copy_(self.entropy_sum / self.labels_seen.clamp_min(1))
        self.entropy_sum.zero_()
        self.labels_seen.zero_()

    def log_values(self) -> dict[str, float]:
        """How soft the last epoch's labels were, in nats: near 0 they are hard and say no more than a class."""
        return {"label_entropy": self.label_entropy.item()}


def _lengths(epochs: int, generations: int, first_share: float) -> list[int]:
    """Epochs of each generation, at least one; the first gets its share, the others equal ones.

    Where there are more generations than epochs, those that have time, and an empty one for those that have none.
    """
    if generations > epochs:
        return [1] * epochs + [0]
    if generations == 1:
        return [epochs]
    first = round((first_share or 1 / generations) * epochs)
    first = min(max(1, first), epochs - (generations - 1))
    shortest, longer = divmod(epochs - first, generations - 1)
    return [first] + [shortest + (number < longer) for number in range(generations - 1)]
