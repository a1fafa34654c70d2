"""MLNT: weights that one step on wrong labels does little harm to.

Li et al. 2019, arXiv:1812.05214, with the authors' released code where the paper is silent. In every step the batch
gets several sets of synthetic wrong labels; the network moves a little along each of them, and each moved network must
still agree with a teacher, the running average of the student's weights.

The released code differs from the paper in three things, and from this file:

- A detach in it has no effect, so that it is of second order where the paper speaks of first. Both are here.
- It divides the KL divergence by the number of classes; here it is the mean over images, and `meta_weight = 1 / K` is
  its weight.
- Its virtually moved networks write to the running statistics of the student's normalisation layers. Here they do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap

from winnow.functional.neighbours import neighbours
from winnow.functional.stored_targets import StoredTargets
from winnow.methods.base import Batch, Draw, Losses, Method, Moment, Phase, Problem, Turn, cosine, warmup_length
from winnow.methods.nlnl import mean_of_selected
from winnow.methods.ranges import at_least, finite_at_least, in_interval, one_of
from winnow.models import Network
from winnow.models.average import WeightAverage
from winnow.survey import Survey

_ORDERS = ("second", "first", "head")
_UPDATES = ("joint", "sequential")


def synthetic_labels(
    noisy_labels: Int[Tensor, " batch"],
    neighbour_labels: Int[Tensor, "batch k"],
    sets: int,
    share: float,
) -> Int[Tensor, "sets batch"]:
    """Sets of labels in which some images have the label of one of their neighbours, which may be the same one.

    Drawn from torch's generator, which the trainer sets at every step.

    Args:
        noisy_labels: as annotated.
        neighbour_labels: given labels of the nearest images in feature space.
        sets: M, how many.
        share: rho, of the batch in [0, 1]: floor(rho B) images of each set, all different, are drawn again.
    """
    batch, k = neighbour_labels.shape
    count = math.floor(share * batch + 1e-9)  # 0.29 of a hundred is 29
    device = noisy_labels.device
    images = torch.rand(sets, batch, device=device).argsort(dim=1)[:, :count]
    drawn = neighbour_labels[images, torch.randint(k, images.shape, device=device)]
    return noisy_labels.repeat(sets, 1).scatter(1, images, drawn)


def moved_logits(
    network: nn.Module,
    inputs: Float[Tensor, "batch ..."],
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    rate: float,
    *,
    second_order: bool = False,
) -> Float[Tensor, "batch classes"]:
    """What the network would say after a step theta' = theta - rate * gradient of cross-entropy to `labels`.

    Its own weights and buffers stay as they are; gradients reach the weights through theta', and the inputs.

    Args:
        network: from inputs to logits.
        inputs: its inputs.
        logits: what it says of them now, with their graph, which is kept: the step is derived from it, so that many
            sets of labels share one forward pass.
        labels: what the step is taken on.
        rate: alpha, of the step.
        second_order: differentiate through the step as well; else its gradient is a constant.
    """
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    inner = F.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(inner, list(weights.values()), retain_graph=True, create_graph=second_order)
    moved = {name: w - rate * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    return functional_call(network, moved | _copied_buffers(network), (inputs,))


def moved_head_logits(
    head: nn.Module,
    features: Float[Tensor, "batch dim"],
    logits: Float[Tensor, "batch classes"],
    label_sets: Int[Tensor, "sets batch"],
    rate: float,
) -> Float[Tensor, "sets batch classes"]:
    """`moved_logits` of first order for all sets at once, where the network is a head: one product instead of many.

    Args:
        head: from features to logits.
        features: its inputs.
        logits: what it says of them now, with their graph, which is kept.
        label_sets: what the steps are taken on.
        rate: alpha, of the steps.
    """
    weights = dict(head.named_parameters())
    given = F.one_hot(label_sets, logits.shape[1])
    residuals = (logits.detach().softmax(dim=1) - given) / len(logits)  # the gradient of cross-entropy to the logits
    gradients = torch.autograd.grad(logits, list(weights.values()), residuals, retain_graph=True, is_grads_batched=True)
    moved = {name: w - rate * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    return vmap(lambda one: functional_call(head, one, (features,)))(moved)


def ramp(done: float, start: float, full: float) -> float:
    """Weight of the meta loss: 0 up to `start`, then exp(-5 (1 - u)^2) with u from 0 to 1 at `full`, then 1."""
    if done <= start:
        return 0.0
    if done >= full:
        return 1.0
    return math.exp(-5 * (1 - (done - start) / (full - start)) ** 2)


@dataclass(frozen=True)
class Stage:
    """When and how a round's meta loss acts.

    Attributes:
        start: share of the run at which the warm-up ends.
        full: share of the run from which the meta loss has its full weight.
        mentored: whether there is a mentor, who filters and has a part in the target.
    """

    start: float
    full: float
    mentored: bool


class MLNT(Method):
    """MLNT. In one round without label sets it is cross-entropy with `averaging`, in weights and predictions.

    A step minimises, over the weights theta of the student,

        L(X, Y; theta) + w / M sum_m KL(teacher || f(X; theta - alpha grad L(X, Y_m; theta))),

    where L is cross-entropy, Y_m a set of synthetic labels and w = `meta_weight` times a ramp. The teacher is deployed.
    A teacher leads plain cross-entropy by averaging alone, the more so the further back it goes: compare MLNT with
    `cross-entropy averaging=true`, which has the same average and the same views. With an average over the whole run,
    consistency alone (`inner_rate = 0`) did as well (one run, not recorded).

    With shifted views, the default, cross-entropy memorises little of the noise: on 6,000 images of MNIST with 50 %
    symmetric noise it reached 93.6 % with them; MLNT on images as they are 72.4 %, or 86.5 % with the head alone and an
    average over the whole run (relations `mlnt`).

    The order says what is differentiated. `second`: the inner step, too. `first`: the step counts as a constant; the M
    steps share one forward pass. `head`: as `first`, but only the head is moved, which costs next to nothing. The
    authors' small alpha makes the first two nearly equal.

    Neighbours are searched once a round, in the whole collection, among the features of the student at the end of its
    warm-up. The released code takes them from the batch, by a network trained for that purpose: where classes are many,
    nearly all images of a batch are unrelated.

    Rounds: after the first one the teacher becomes the mentor, and a fresh student begins. Images whose given label the
    mentor finds less probable than `keep_above` have no part in cross-entropy any more (they keep their part in the
    consistency), and the mentor's probabilities, on plain views, are mixed into the target. The run's epochs are
    divided among the rounds, and each has a whole learning-rate schedule; the paper's three rounds are each as long as
    the first. Rounds are not in the released code: `keep_above` and `teacher_share` are not confirmed by it. The paper
    takes the best model on validation images as mentor, here it is the last teacher.

    Args:
        problem: what to learn.
        label_sets: M, sets of synthetic labels a step; 0 = none.
        order: `second`, `first` or `head`.
        update: `joint`, one optimiser step on the sum, as in the released code; or `sequential`, as in the paper: a
            step on the meta loss (with a momentum of its own, and with weight decay), then one on cross-entropy.
        inner_rate: alpha, of the virtual step, at least 0.
        resampled_share: rho, of the batch in each set, in [0, 1].
        num_neighbours: k, from which a synthetic label is drawn.
        meta_weight: of the mean KL divergence, at least 0.
        meta_every: steps from one meta step to the next.
        warmup_share: of a round's epochs, plain cross-entropy; at least one epoch. In [0, 1).
        full_share: of a round, from which on the meta loss has its full weight; it rises from the end of the warm-up.
        window: of the teacher's average, in epochs. The authors' momentum of 0.999 reaches back 1,000 steps: with
            batches of 128, 2.6 epochs of CIFAR-10.
        rounds: trainings one after the other, at least 1; no more than half the epochs.
        keep_above: tau, probability under the mentor from which on a label is learnt, in [0, 1).
        teacher_share: lambda, of the teacher in the target beside the mentor, in [0, 1]; the ramp applies to it.
        views: `plain` or `weak`.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "mlnt"
    title = "robust to wrong-label steps"
    paper = "Li et al. 2019, arXiv:1812.05214"
    assumes = "any"
    remedy = "robust"
    cost = 17.0
    control: ClassVar = {"averaging": True}
    round_step: Tensor
    drawn: Tensor
    flipped: Tensor
    flip_rate: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        label_sets: int = 10,
        order: str = "first",
        update: str = "joint",
        inner_rate: float = 0.02,
        resampled_share: float = 0.5,
        num_neighbours: int = 10,
        meta_weight: float = 1.0,
        meta_every: int = 1,
        warmup_share: float = 0.1,
        full_share: float = 0.3,
        window: float = 2.0,
        rounds: int = 1,
        keep_above: float = 0.01,
        teacher_share: float = 0.5,
        views: str = "weak",
    ):
        super().__init__(problem)
        at_least(0, label_sets=label_sets)
        one_of(_ORDERS, order=order)
        one_of(_UPDATES, update=update)
        finite_at_least(0, inner_rate=inner_rate, meta_weight=meta_weight)
        at_least(1, num_neighbours=num_neighbours, meta_every=meta_every, rounds=rounds)
        in_interval("[0, 1]", resampled_share=resampled_share, teacher_share=teacher_share)
        in_interval("[0, 1)", warmup_share=warmup_share, keep_above=keep_above)
        if not warmup_share <= full_share <= 1:
            raise ValueError(f"full_share must lie in [warmup_share, 1], got {full_share}")
        if not window > 0:
            raise ValueError(f"window must be above 0, got {window}")
        one_of(("plain", "weak"), views=views)
        self.label_sets = label_sets if meta_weight else 0
        self.order = order
        self.update = update
        self.inner_rate = inner_rate
        self.resampled_share = resampled_share
        self.meta_weight = meta_weight
        self.meta_every = meta_every
        self.warmup_share = warmup_share
        self.full_share = full_share
        self.rounds = rounds
        self.keep_above = keep_above
        self.teacher_share = teacher_share
        self.views = views
        self.teacher = WeightAverage(self.classifier, window)
        if self.label_sets:
            width = max(1, min(num_neighbours, len(problem.train_rows) - 1))
            self.neighbour_labels = problem.rows("neighbour-labels", width, dtype="int32")
        if rounds > 1:
            self.mentor_probs = StoredTargets(problem.memory, problem.num_classes, name="mentor-probs")
            self.kept = problem.rows("kept", dtype="uint8", fill=1.0)
        self.register_buffer("round_step", torch.tensor(0))
        self.register_buffer("drawn", torch.tensor(0))
        self.register_buffer("flipped", torch.tensor(0))
        self.register_buffer("flip_rate", torch.tensor(0.0))

    def plan(self, epochs: int) -> list[Phase]:
        """For each round a warm-up on the given labels, then both losses."""
        rounds = max(1, min(self.rounds, epochs // 2))
        bounds = [round(number * epochs / rounds) for number in range(rounds + 1)]
        phases = []
        for number, (first, end) in enumerate(pairwise(bounds), start=1):
            warm = warmup_length(end - first, self.warmup_share * (end - first))
            full = max(first + warm, first + self.full_share * (end - first))
            stage = Stage((first + warm) / epochs, full / epochs, mentored=number > 1)
            given = Turn(partial(self.given_loss, stage=stage), optimizer=f"given {number}")
            turns = [given]
            if self.label_sets and self.update == "joint":
                turns = [Turn(partial(self.joint_loss, stage=stage), optimizer=given.optimizer)]
            elif self.label_sets:
                turns = [Turn(partial(self.meta_loss, stage=stage), optimizer=f"meta {number}"), given]
            phase = partial(
                Phase,
                revise_every=0,
                draws={"train": Draw(views=(self.views,))},
                schedule=partial(_cosine_between, start=first / epochs, end=end / epochs),
            )
            warm_up = phase(f"warm up {number}", [given], epochs=warm)
            meta = phase(f"meta {number}", turns, epochs=end - first - warm, end_epoch=self.measure_flips)
            if stage.mentored:
                warm_up = replace(warm_up, begin=self.take_up_teacher, revise=partial(self.consult, f"round {number}"))
            elif self.label_sets:
                meta = replace(meta, revise=self.find_neighbours)
            phases += [warm_up, meta]
        return phases

    # What a step minimises

    def given_loss(self, batch: Batch, moment: Moment, stage: Stage) -> Losses:
        """Cross-entropy to the given labels, after the first round to those that the mentor keeps."""
        return self.cross_entropy(batch, self.classifier(batch.images), stage)

    def joint_loss(self, batch: Batch, moment: Moment, stage: Stage) -> Iterator[Losses]:
        """Both losses; of the graphs, only that of the shared pass lives longer than one item."""
        features, logits = self.seen(batch)
        given = self.cross_entropy(batch, logits, stage)
        terms = self.consistency(batch, moment, stage, features, logits)
        if self.order == "second":
            yield given
            yield from ({"consistency": term} for term in terms)
        elif self.order == "first":
            yield from ({"consistency": term} for term in terms)
            yield given
        else:
            losses = dict(given)
            for term in terms:  # one at most, whose graph is the features' as well
                losses["consistency"] = term
            yield losses

    def meta_loss(self, batch: Batch, moment: Moment, stage: Stage) -> Iterator[Losses]:
        """The consistency alone."""
        if not self.weight(moment, stage):
            return
        for term in self.consistency(batch, moment, stage, *self.seen(batch)):
            yield {"consistency": term}

    def seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The student's features and logits, with their graph."""
        features = self.classifier.features(batch.images)
        return features, self.classifier.head(features).float()

    def cross_entropy(self, batch: Batch, logits: Tensor, stage: Stage) -> Losses:
        """The classification loss."""
        if not stage.mentored:
            return {"cross_entropy": F.cross_entropy(logits, batch.noisy_labels)}
        losses = F.cross_entropy(logits, batch.noisy_labels, reduction="none")
        return {"cross_entropy": mean_of_selected(losses, self.kept.read(batch.indices) > 0)}

    def weight(self, moment: Moment, stage: Stage) -> float:
        """Of the meta loss in this step."""
        if moment.step % self.meta_every:
            return 0.0
        return self.meta_weight * ramp(moment.fraction, stage.start, stage.full)

    def consistency(
        self, batch: Batch, moment: Moment, stage: Stage, features: Tensor, logits: Tensor
    ) -> Iterator[Float[Tensor, ""]]:
        """The weighted divergence of the moved networks from the target: a term each; one if only heads move."""
        weight = self.weight(moment, stage)
        if not weight:
            return
        target = self.target(batch, moment, stage)
        neighbour_labels = self.neighbour_labels.read(batch.indices).long()
        sets = synthetic_labels(batch.noisy_labels, neighbour_labels, self.label_sets, self.resampled_share)
        self.drawn += sets.numel()
        self.flipped += (sets != batch.noisy_labels).sum()
        if self.order == "head":
            moved = moved_head_logits(self.classifier.head, features, logits, sets, self.inner_rate).flatten(0, 1)
            yield weight * _divergence(moved, target.repeat(self.label_sets, 1))
            return
        for labels in sets:
            if self.order == "first":
                moved = moved_logits(self.classifier, batch.images, logits, labels, self.inner_rate)
            else:  # a pass of its own, so that its graph can go with the term
                here = functional_call(self.classifier, _copied_buffers(self.classifier), (batch.images,))
                moved = moved_logits(self.classifier, batch.images, here, labels, self.inner_rate, second_order=True)
            yield weight / self.label_sets * _divergence(moved, target)

    @torch.no_grad()
    def target(self, batch: Batch, moment: Moment, stage: Stage) -> Float[Tensor, "batch classes"]:
        """What the moved networks should say: the teacher's view; after the first round the mentor has a share."""
        self.teacher.eval()  # its running statistics are the average of the student's
        probs = self.teacher(batch.images).softmax(dim=1)
        if not stage.mentored:
            return probs
        share = self.teacher_share * ramp(moment.fraction, stage.start, stage.full)
        return share * probs + (1 - share) * self.mentor_probs.read(batch.indices)

    # Between the steps

    def find_neighbours(self, survey: Survey) -> None:
        """Stores the given labels of each training image's nearest training images."""
        rows, labels = self.problem.train_rows, self.problem.noisy_labels
        stored = np.repeat(labels[:, None], self.neighbour_labels.values.shape[1], axis=1)
        if len(rows) > 1:
            found = neighbours(survey.features[rows], stored.shape[1]).indices
            stored[rows] = labels[rows[found]]
        self.neighbour_labels.replace(stored)

    def take_up_teacher(self) -> None:
        """The teacher becomes the mentor, whose view of the collection is asked for next."""
        self.classifier.load_state_dict(self.teacher.network.state_dict())

    def consult(self, purpose: str, survey: Survey) -> None:
        """Stores what the mentor says of each image; the student gets fresh weights."""
        if self.label_sets:
            self.find_neighbours(survey)
        probs, labels = torch.from_numpy(survey.probs), torch.from_numpy(self.problem.noisy_labels)
        self.mentor_probs.write(torch.from_numpy(survey.indices), probs)
        self.kept.replace((self.problem.task.given(probs, labels) > self.keep_above).numpy())
        self.start_afresh(purpose)
        self.round_step.zero_()

    def after_step(self, moment: Moment) -> None:
        """Moves the teacher; at a round's first step it becomes a copy of the student."""
        self.teacher.update(self.classifier, int(self.round_step), moment.steps_per_epoch)
        self.round_step += 1

    def measure_flips(self) -> None:
        """Share of the epoch's synthetic labels that differ from the given ones."""
        self.flip_rate.copy_(self.flipped / self.drawn.clamp_min(1))
        self.drawn.zero_()
        self.flipped.zero_()

    def deployed(self) -> list[Network]:
        """The teacher."""
        return [self.teacher.network]

    def log_values(self) -> dict[str, float]:
        """Share of synthetic labels that differ from the given ones: near 0 there is only a teacher; share kept."""
        values = {"flip_rate": self.flip_rate.item()}
        if self.rounds > 1:
            values["kept"] = float(self.kept.values[self.problem.train_rows].mean())
        return values


def _copied_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Running statistics to write to in vain: those of a network are its own steps' alone."""
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def _divergence(logits: Tensor, target: Tensor) -> Float[Tensor, ""]:
    """KL(target || prediction), a mean over images."""
    return F.kl_div(F.log_softmax(logits.float(), dim=1), target, reduction="batchmean")


def _cosine_between(run: float, phase: float, start: float, end: float) -> float:
    """The usual schedule, over a part of the run."""
    return cosine((run - start) / (end - start), phase)
