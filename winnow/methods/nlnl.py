"""Negative learning: push down the probability of classes that an image probably does not belong to.

Kim, Yim, Yun & Kim 2019, arXiv:1908.07387, with the authors' released code where the paper is silent. A given label may
be wrong; that an image is *not* of some other class, drawn at random, is wrong much less often. Images whose confidence
in their given label stays low under this are filtered out and get pseudo-labels.

The released code clamps p before it takes log(1 - p): the gradient vanishes exactly where it should be greatest. Here
the logarithm is exact. Its loss over an empty selection is not a number; here it is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.functional.stored_targets import StoredTargets
from winnow.methods.base import (
    Batch,
    Beliefs,
    Draw,
    Losses,
    Method,
    Moment,
    Phase,
    Problem,
    Turn,
    constant,
    cosine_in_phase,
)
from winnow.methods.ranges import at_least, in_interval, one_of
from winnow.survey import Survey

FEWEST_PASSED = 0.05
"""A filter that passes a smaller share of the images, or drops a smaller one, tells nothing."""


def log_complements(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """log(1 - p) of every class, exact however close p is to one.

    Args:
        logits: scores before the softmax, of at least two classes.
    """
    log_probs = F.log_softmax(logits, dim=1)
    top = log_probs.argmax(dim=1, keepdim=True)
    # Only the largest p can come close to one: for it the others' probabilities are added up instead.
    others = log_probs.scatter(1, top, -math.inf)
    return torch.log1p(-others.exp()).scatter(1, top, others.logsumexp(dim=1, keepdim=True))


def negative_losses(
    logits: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    complementary_labels: Int[Tensor, "batch drawn"] | None = None,
) -> Float[Tensor, " batch"]:
    """-sum over complementary labels of log(1 - p): a sum and no mean, so that their number scales the gradient.

    Args:
        logits: scores before the softmax, of at least two classes.
        noisy_labels: as annotated.
        complementary_labels: classes other than the given one, perhaps repeated; None = each of them once.

    Returns:
        The loss of each sample, in nats.
    """
    losses = -log_complements(logits)
    if complementary_labels is None:
        return losses.scatter(1, noisy_labels[:, None], 0.0).sum(dim=1)
    return losses.gather(1, complementary_labels).sum(dim=1)


def drawn_complements(noisy_labels: Int[Tensor, " batch"], num_classes: int, number: int) -> Int[Tensor, "batch drawn"]:
    """Complementary labels: uniform over the classes other than the given one, with replacement.

    Drawn from torch's generator, which the trainer sets at every step.
    """
    steps = torch.randint(1, num_classes, (len(noisy_labels), number), device=noisy_labels.device)
    return (noisy_labels[:, None] + steps) % num_classes


def mean_of_selected(losses: Float[Tensor, " batch"], selected: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean over the selected samples; zero, with zero gradient, if there are none."""
    # Not a product: an infinite loss that was left out would make it NaN.
    return torch.where(selected, losses, 0.0).sum() / selected.sum().clamp_min(1)


class NLNL(Method):
    """NLNL: negative learning, a filter made of its confidences, and pseudo-labels for what the filter drops.

    The five stages of the paper, one after the other:

    1. NL: the negative loss on all images. After each pass the confidence in the given label is remembered.
    2. SelNL: the same on images whose mean confidence over the last `history` epochs is at least 1/K.
    3. SelPL: cross-entropy on images whose mean confidence is at least `threshold`.
    4. A fresh network, cross-entropy on the images that passed the threshold: the others' teacher.
    5. A fresh network, on the teacher's mean class probabilities over its last `history` epochs (at most the last half
       of its stage).

    An image that a stage leaves out of its loss is still seen, so that it can come back. The mean confidence is the
    probability that a label is right. Stages 1 to 3 train at a constant rate; stages 4 and 5 follow the usual schedule.

    The paper trains for 3,120 epochs, 720 in each of the stages 1 to 3 and 480 in each of the others. On ten classes it
    draws one complementary label a step, whose pull on the given class is, at a uniform prediction, (K - 1)^2 times
    weaker than that of cross-entropy, and takes a fifth of the rate in stages 1 to 3; on a hundred classes it draws
    110. Here all other classes at once, in closed form, and the full rate in stages 1 and 2 bring that down to the
    epochs that other methods take. Stage 3 keeps the paper's rate: at the full one it diverged where few images passed.
    Runs of a few hundred steps remain too short: nothing passes the threshold yet.

    Where labels do not separate, as at 80 % symmetric noise, nearly all images or next to none pass a filter: the run
    warns where stage 3 begins with less than 5 % or more than 95 % of them at 1/K or above, or stage 4 at `threshold`.

    With shifted views, the default, cross-entropy memorises little of the noise: on 10,000 images of MNIST with 40 %
    symmetric noise it reached 96.1 % with them, NLNL on images as they are 93.8 % (relations `nlnl`). On 5,000 images
    with 50 % of it both saw shifted views: 93.1 % against 87.8 % (grid `all-methods`).

    Args:
        problem: what to learn.
        stages: relative lengths of the five stages; 0 leaves one out. In a run of fewer epochs than stages the last
            ones are left out.
        complements: complementary labels drawn for an image and step; 0 = every other class.
        threshold: the paper's gamma, mean confidence from which a label is kept, in [0, 1].
        history: epochs that the mean confidence goes back.
        relabel: `all` images learn from the teacher's probabilities in stage 5, as in the released code, or only those
            `filtered` out.
        class_weights: weigh an image by (count of the most frequent given label / count of its own), as in the
            released code; far from balanced classes make these weights large.
        views: `plain` or `weak`.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "nlnl"
    title = "learn what an image is not"
    paper = "Kim et al. 2019, arXiv:1908.07387"
    assumes = "symmetric"
    remedy = "cleansing"
    class_weights: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        stages: str = "3:3:3:2:2",
        complements: int = 0,
        threshold: float = 0.5,
        history: int = 10,
        relabel: str = "all",
        class_weights: bool = True,
        views: str = "weak",
    ):
        super().__init__(problem)
        at_least(0, complements=complements)
        in_interval("[0, 1]", threshold=threshold)
        at_least(1, history=history)
        one_of(("all", "filtered"), relabel=relabel)
        one_of(("plain", "weak"), views=views)
        self.stages = _stages(stages)
        self.complements = complements
        self.threshold = threshold
        self.history = history
        self.relabel = relabel
        self.views = views
        # A column for each of the last epochs; -1 where an image was not seen in it.
        self.confidences = problem.rows("confidences", history, fill=-1.0)
        if self.stages[4]:
            self.teacher_probs = StoredTargets(problem.memory, problem.num_classes, name="teacher-probs")
            self.teacher_passes = problem.rows("teacher-passes", dtype="int16")
        counts = np.bincount(problem.noisy_labels[problem.train_rows], minlength=problem.num_classes)
        weights = counts.max() / np.maximum(counts, 1) if class_weights else np.ones(len(counts))
        self.register_buffer("class_weights", torch.from_numpy(weights).float())

    def plan(self, epochs: int) -> list[Phase]:
        """The five stages; NL to SelPL go on with one momentum, the fresh networks start with none."""
        nl, sel_nl, sel_pl, teacher, student = _divided(epochs, self.stages)
        draws = {"train": Draw(views=(self.views,))}
        learn = partial(Phase, draws=draws, schedule=constant)
        learn_afresh = partial(Phase, draws=draws, schedule=cosine_in_phase)
        any_confidence, chance = 0.0, 1 / self.problem.num_classes
        since = max(teacher - self.history, teacher // 2)
        phases = [
            learn("NL", partial(self.negative_loss, at_least=any_confidence), epochs=nl),
            learn("SelNL", partial(self.negative_loss, at_least=chance), epochs=sel_nl),
            # The paper's rate: this loss is not as weak as the negative one, and few images may pass the filter.
            replace(
                learn("SelPL", self.positive_loss, epochs=sel_pl, begin=partial(self.check_filter, "above_chance")),
                schedule=a_fifth,
            ),
            learn_afresh(
                "teacher",
                [Turn(partial(self.teacher_loss, since=since), optimizer="teacher")],
                epochs=teacher,
                begin=self.begin_teacher,
            ),
            learn_afresh(
                "pseudo-labels",
                [Turn(self.pseudo_label_loss, optimizer="student")],
                epochs=student,
                begin=partial(self.start_afresh, "student"),
            ),
        ]
        return [phase for phase, share in zip(phases, self.stages, strict=True) if share]

    def begin_teacher(self) -> None:
        """The filter is made; a fresh network learns from what it kept."""
        self.check_filter("kept")
        self.start_afresh("teacher")

    def check_filter(self, share: str) -> None:
        """Warns where nearly all images pass a filter or next to none, by a share of `log_values`."""
        judged = bool((self.confidences.values[self.problem.train_rows] >= 0).any())
        passed = self.log_values()[share]
        if judged and not FEWEST_PASSED <= passed <= 1 - FEWEST_PASSED:
            level = "1/K" if share == "above_chance" else f"the threshold {self.threshold:g}"
            meaning = (
                "nearly all labels are right, or they do not separate" if passed > 0.5 else "they do not separate (yet)"
            )
            self.warn(f"{self.name}: {passed:.1%} of the labels reach {level}: {meaning}; do not rely on this filter")

    def negative_loss(self, batch: Batch, moment: Moment, at_least: float) -> Losses:
        """Stages 1 and 2: the negative loss on images of so much confidence."""
        logits, confidence = self.judged(batch, moment)
        drawn = None
        if self.complements:
            drawn = drawn_complements(batch.noisy_labels, self.problem.num_classes, self.complements)
        losses = self.class_weights[batch.noisy_labels] * negative_losses(logits, batch.noisy_labels, drawn)
        return {"negative": mean_of_selected(losses, confidence >= at_least)}

    def positive_loss(self, batch: Batch, moment: Moment) -> Losses:
        """Stage 3: cross-entropy on images that pass the threshold."""
        logits, confidence = self.judged(batch, moment)
        return {"positive": mean_of_selected(self.given_losses(logits, batch), confidence >= self.threshold)}

    def teacher_loss(self, batch: Batch, moment: Moment, since: int) -> Losses:
        """Stage 4: cross-entropy on what the filter kept; from epoch `since` all class probabilities are averaged.

        The dropped images go through the network as well: batch statistics are those of all images.
        """
        logits = self.classifier(batch.images)
        if self.stages[4] and moment.phase_epoch >= since:
            self.teach(batch.indices, logits.detach().float().softmax(dim=1))
        return {"positive": mean_of_selected(self.given_losses(logits, batch), self.kept(batch))}

    def pseudo_label_loss(self, batch: Batch, moment: Moment) -> Losses:
        """Stage 5: cross-entropy against the teacher; images that it was never asked about have no part."""
        logits = self.classifier(batch.images)
        targets = self.teacher_probs.read(batch.indices)
        weights = self.class_weights[targets.argmax(dim=1)]
        losses = weights * F.cross_entropy(logits, targets, reduction="none")
        selected = self.teacher_passes.read(batch.indices) > 0
        if self.relabel == "filtered":
            kept = self.kept(batch)
            losses = torch.where(kept, self.given_losses(logits, batch), losses)
            selected = selected | kept
        return {"pseudo_labels": mean_of_selected(losses, selected)}

    def given_losses(self, logits: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        """Weighted cross-entropy of each image to its given label."""
        return self.class_weights[batch.noisy_labels] * F.cross_entropy(logits, batch.noisy_labels, reduction="none")

    def judged(self, batch: Batch, moment: Moment) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Logits, and the mean confidence in the given labels, this pass included."""
        logits = self.classifier(batch.images)
        confidence = self.problem.task.given(logits.detach().float().softmax(dim=1), batch.noisy_labels)
        rows = self.confidences.read(batch.indices).float()
        rows[:, moment.epoch % rows.shape[1]] = confidence
        self.confidences.write(batch.indices, rows)
        return logits, _mean_of_filled(rows)

    def kept(self, batch: Batch) -> Bool[Tensor, " batch"]:
        """Which images the filter kept in the end; one that was never judged is none of them."""
        return _mean_of_filled(self.confidences.read(batch.indices).float()) >= self.threshold

    def teach(self, indices: Tensor, probs: Float[Tensor, "batch classes"]) -> None:
        """Takes the teacher's view of some images into its mean."""
        passes = self.teacher_passes.read(indices).long() + 1
        mean = self.teacher_probs.read(indices)
        self.teacher_probs.write(indices, mean + (probs - mean) / passes[:, None])
        self.teacher_passes.write(indices, passes)

    def beliefs(self, survey: Survey) -> Beliefs:
        """The mean confidence is the label's quality; images that were never trained on are judged by the survey."""
        task, labels = self.problem.task, torch.from_numpy(self.problem.noisy_labels)
        rows = torch.from_numpy(self.confidences.values[:]).float()
        now = task.given(torch.from_numpy(survey.probs), labels)
        return Beliefs(
            label_quality=torch.where((rows >= 0).any(dim=1), _mean_of_filled(rows), now).numpy(),
            suggested_label=task.decided(survey.probs),
            suggested_probability=task.certainty(survey.probs),
        )

    def log_values(self) -> dict[str, float]:
        """Shares of the training images whose mean confidence is at least 1/K, and at least the threshold."""
        confidence = _mean_of_filled(torch.from_numpy(self.confidences.values[self.problem.train_rows]).float())
        return {
            "above_chance": (confidence >= 1 / self.problem.num_classes).float().mean().item(),
            "kept": (confidence >= self.threshold).float().mean().item(),
        }


def a_fifth(run: float, phase: float) -> float:
    """A fifth of the full rate, always."""
    return 0.2


def _mean_of_filled(confidences: Float[Tensor, "n history"]) -> Float[Tensor, " n"]:
    """Mean over the epochs in which an image was seen: averaging over empty ones would call new images doubtful."""
    filled = confidences >= 0
    return torch.where(filled, confidences, 0.0).sum(dim=1) / filled.sum(dim=1).clamp_min(1)


def _stages(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(":"))
    except ValueError:
        shares = ()
    if len(shares) != 5 or not all(0 <= share < math.inf for share in shares):
        raise ValueError(f"stages must be five lengths of at least 0, such as 3:3:3:2:2, got {text!r}")
    if not sum(shares[:3]):
        raise ValueError(f"stages must have one of the first three, which make the filter, got {text!r}")
    if shares[4] and not shares[3]:
        raise ValueError(f"stages must have the fourth, the teacher, where they have the fifth, got {text!r}")
    return shares


def _divided(epochs: int, shares: Sequence[float]) -> list[int]:
    """Epochs by share, at least one for each share above 0; the last ones get none where there are too few."""
    present = [place for place, share in enumerate(shares) if share][:epochs]
    lengths = [int(place in present) for place in range(len(shares))]
    sums = [0.0, *accumulate(shares[place] for place in present)]
    ends = [round((epochs - len(present)) * share / sums[-1]) for share in sums]
    for place, (start, end) in zip(present, pairwise(ends), strict=True):
        lengths[place] += end - start
    return lengths
