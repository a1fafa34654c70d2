"""The contract: the method plans, the trainer loops.

A `Method` says what a step minimises and in which phases. It never loops, never asks on which device it is, and keeps
whatever it must remember in modules, buffers or per-sample rows, so that it moves, saves and resumes like any
`nn.Module`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import Parameter

from winnow.functional.correction import label_posterior
from winnow.functional.task import Task, task_of
from winnow.labels.memory import Memory, Rows
from winnow.models import ModelSpec, Network, seeded
from winnow.survey import Survey

Losses = Mapping[str, Tensor]
"""Named, already weighted terms; the trainer minimises their sum and logs each."""


class Need(Enum):
    """What a method cannot do without; checked before anything runs."""

    VERIFIED = "verified labels"
    UNLABELLED = "unlabelled images"


@dataclass(frozen=True)
class Moment:
    """The only clock.

    Attributes:
        step: optimiser steps' batches done in the whole run.
        epoch: epochs done in the whole run.
        phase_epoch: epochs done in this phase.
        fraction: share of the whole run that is done, in [0, 1).
        steps_per_epoch: batches an epoch has in this phase.
    """

    step: int
    epoch: int
    phase_epoch: int
    fraction: float
    steps_per_epoch: int


@dataclass(frozen=True)
class Draw:
    """One stream of samples in a step.

    Attributes:
        samples: row indices to draw from, asked when a phase or epoch starts, after `revise`; None = all.
        views: `plain`, `weak`, `strong` or `features` (of the last survey); a kind named twice gives two independent
            views.
        size: number of samples, in units of the batch size.
        order: `shuffled`, or `by_class`: shuffled, then sorted by given label.
        source: `train` or `unlabelled`.
    """

    samples: Callable[[], np.ndarray] | None = None
    views: tuple[str, ...] = ("weak",)
    size: float = 1.0
    order: str = "shuffled"
    source: str = "train"


ONE_STREAM: Mapping[str, Draw] = {"train": Draw()}


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        indices: rows of the collection, (B,).
        noisy_labels: as annotated: class indices (B,), -1 in an unlabelled stream; or, where an image may have several
            classes, (B, K): 1 present, 0 absent, -1 unknown.
        views: one tensor for each entry of the draw's `views`, in that order.
        streams: every stream of the step by its name in `draws`, this first one included.
    """

    indices: Int[Tensor, " batch"]
    noisy_labels: Int[Tensor, "batch *classes"]
    views: tuple[Tensor, ...]
    streams: Mapping[str, Batch] = field(default_factory=dict)

    @property
    def images(self) -> Tensor:
        """The first view."""
        return self.views[0]


Loss = Callable[[Batch, Moment], "Losses | Iterator[Losses]"]


@dataclass(frozen=True)
class Turn:
    """One optimiser step.

    Attributes:
        loss: gives named terms. A generator is back-propagated item by item, so that one graph lives at a time.
        parameters: what the step changes; None = every parameter of the method that wants a gradient.
        optimizer: the same name keeps its state across phases; a new name starts fresh.
        repeat: how often the step is taken on one batch.
    """

    loss: Loss
    parameters: Callable[[], Iterable[Parameter]] | None = None
    optimizer: str = "main"
    repeat: int = 1


Schedule = Callable[[float, float], float]
"""Learning-rate factor from (share of the run, share of the phase), both in [0, 1)."""


def cosine(run: float, phase: float, warmup: float = 0.1) -> float:
    """Rises linearly over the first tenth of the run, then falls to zero along a cosine."""
    if run < warmup:
        return run / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (run - warmup) / (1 - warmup))))


def cosine_in_phase(run: float, phase: float) -> float:
    """`cosine` over each phase by itself, for networks that start fresh with the phase."""
    return cosine(phase, phase)


def constant(run: float, phase: float) -> float:
    """Always the full rate."""
    return 1.0


@dataclass(frozen=True)
class Phase:
    """A stage of the method, as data.

    Attributes:
        name: for people and the log.
        turns: optimiser steps for each batch; a bare loss is one turn.
        epochs: passes over the first stream; or
        steps: batches, if `epochs` is 0. With neither the phase is left out, and the person told that it had no time.
        begin: runs once as the phase starts (a student becomes the teacher, weights are drawn afresh).
        revise: gets the network's view of the whole collection, in source order.
        revise_every: epochs between two calls; 0 = once, as the phase starts.
        end_epoch: runs after every epoch (matrices counted, thresholds fitted on what the memory holds).
        draws: the streams of a step; the first one sets the length of an epoch.
        schedule: factor on the learning rate.
    """

    name: str
    turns: Loss | Sequence[Turn]
    epochs: int = 0
    steps: int = 0
    begin: Callable[[], None] | None = None
    revise: Callable[[Survey], None] | None = None
    revise_every: int = 1
    end_epoch: Callable[[], None] | None = None
    draws: Mapping[str, Draw] = field(default_factory=lambda: ONE_STREAM)
    schedule: Schedule = cosine

    @property
    def turn_list(self) -> Sequence[Turn]:
        """The turns, a bare loss wrapped."""
        return [Turn(self.turns)] if callable(self.turns) else self.turns


def warmup_length(epochs: int, wanted: int | float) -> int:
    """Epochs of a warm-up: the wanted ones rounded, at least one, and one fewer than the run has if it has two or more.

    Of a single epoch nothing is left; the trainer tells which phase has no time.

    Args:
        epochs: of the run.
        wanted: of the warm-up.
    """
    return max(1, min(round(wanted), epochs - 1))


@dataclass(frozen=True)
class Beliefs:
    """What a method ends up believing about the labels of the whole collection, in source order.

    Attributes:
        label_quality: probability that the given label is right, (N,); of each class (N, K) where an image may have
            several.
        suggested_label: most probable class, (N,), or 1 and 0 for each class, (N, K).
        suggested_probability: its probability, in the same shape.
        outlier_score: in [0, 1], high for images of no class; None where the method has no opinion.
    """

    label_quality: Float[np.ndarray, "n *classes"]
    suggested_label: Int[np.ndarray, "n *classes"]
    suggested_probability: Float[np.ndarray, "n *classes"]
    outlier_score: Float[np.ndarray, " n"] | None = None

    @classmethod
    def under_channel(
        cls,
        probs: Float[Tensor, "n classes"],
        noisy_labels: Int[np.ndarray, " n"],
        transition_matrix: Float[Tensor, "classes classes"],
        outlier_score: Float[np.ndarray, " n"] | None = None,
    ) -> Beliefs:
        """The posterior of the true class, given the prediction and the label; without a label (-1), the prediction."""
        labels = torch.from_numpy(noisy_labels.copy())
        given = labels.clamp_min(0)
        posterior = label_posterior(probs, given, transition_matrix)
        posterior = torch.where((labels >= 0)[:, None], posterior, probs)
        probability, suggested = posterior.max(dim=1)
        return cls(
            label_quality=posterior.gather(1, given[:, None])[:, 0].numpy(),
            suggested_label=suggested.numpy(),
            suggested_probability=probability.numpy(),
            outlier_score=outlier_score,
        )


@dataclass(frozen=True)
class Problem:
    """What a method is given to work on.

    Attributes:
        class_names: in index order.
        noisy_labels: int64 (N,), -1 where there is none; or int8 (N, K), see `Batch`.
        train_rows: rows that training may draw: labelled and not held out, ascending.
        held_out_rows: labelled rows kept for choosing on noisy labels, ascending; no gradient comes from them.
        model: the network's architecture.
        seed: of the run.
        memory: where `rows` live.
        verified: rows whose given label a person has checked, ascending.
    """

    class_names: tuple[str, ...]
    noisy_labels: Int[np.ndarray, "n *classes"]
    train_rows: Int[np.ndarray, " train"]
    held_out_rows: Int[np.ndarray, " held_out"]
    model: ModelSpec
    seed: int
    memory: Memory
    verified: Int[np.ndarray, " verified"] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def task(self) -> Task:
        """What the labels mean."""
        return task_of(self.noisy_labels)

    @property
    def num_samples(self) -> int:
        """N, with unlabelled and held-out images."""
        return len(self.noisy_labels)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def network(self, purpose: str = "classifier") -> Network:
        """A network whose fresh weights are a function of (run seed, purpose)."""
        return self.model.build(self.seed, purpose)

    def layer(self, kind: Callable[..., nn.Module], *arguments: Any, purpose: str) -> nn.Module:
        """A layer beside the networks, `kind(*arguments)`; its fresh weights are a function of (run seed, purpose)."""
        return seeded(self.seed, purpose, lambda: kind(*arguments))

    def rows(self, name: str, width: int = 0, dtype: str = "float16", fill: float = 0) -> Rows:
        """Per-sample memory that resumes with the checkpoint, see `labels.memory`."""
        return self.memory.rows(name, width, dtype, fill)


class Method(nn.Module):
    """A way to learn from noisy labels: complete once constructed.

    Hyperparameters are keyword arguments of the constructor, with the paper's values; the command line and the run's
    record read them from the signature.
    """

    name: ClassVar[str]
    """As typed on the command line."""
    title: ClassVar[str]
    """One line for the table of methods."""
    paper: ClassVar[str] = ""
    """Authors, year, arXiv number."""
    assumes: ClassVar[str] = "any"
    """The noise that the method is made for."""
    remedy: ClassVar[str] = "robust"
    """`robust`, `cleansing` or `tolerant` (Frenay & Verleysen 2014); `none` for the plain learner."""
    cost: ClassVar[float] = 1.0
    """Time of a step in units of cross-entropy."""
    control: ClassVar[Mapping[str, Any]] = {}
    """Options of `cross-entropy` that give it what this method trains with beside its idea: views, mixup, averaging."""
    needs: frozenset[Need] = frozenset()
    """An option may lift a need, of the one method that it is given to."""
    multilabel: ClassVar[bool] = False
    """Whether it also learns where an image may have several classes."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.problem = problem
        self.classifier = problem.network()
        self.warn: Callable[[str], None] = _unheard
        """Tells a person something that does not stop the work; the trainer lets its listener hear it."""

    def start_afresh(self, purpose: str) -> None:
        """Gives the classifier the fresh weights of a purpose, as a later phase begins."""
        self.classifier.load_state_dict(self.problem.network(purpose).state_dict())

    def loss(self, batch: Batch, moment: Moment) -> Losses | Iterator[Losses]:
        """The weighted terms that a step minimises the sum of."""
        raise NotImplementedError(f"{type(self).__name__} gives neither `loss` nor a `plan` of its own")

    def supervised_loss(self, batch: Batch, moment: Moment) -> Losses:
        """Plain cross-entropy on the given labels: the warm-up of many methods."""
        return {"cross_entropy": self.problem.task.cross_entropy(self.classifier(batch.images), batch.noisy_labels)}

    def plan(self, epochs: int) -> Sequence[Phase]:
        """The phases, together `epochs` long; by default one phase of `loss`."""
        return [Phase("train", self.loss, epochs=epochs)]

    @torch.no_grad()
    def observe(self, images: Tensor) -> dict[str, Tensor]:
        """What a survey keeps of each image: features (B, D) and class probabilities (B, K) by default."""
        features = self.classifier.features(images)
        return {"features": features, "probs": self.problem.task.probabilities(self.classifier.head(features).float())}

    def beliefs(self, survey: Survey) -> Beliefs | None:
        """What the method believes about the labels, given the deployed networks' last view of the collection.

        None leaves it to the trainer: label quality is then the running mean of p[given label] over the training
        passes.
        """
        return None

    def columns(self, survey: Survey) -> Mapping[str, Float[np.ndarray, " n"]]:
        """What else the method found out about each image, by name: further columns of `labels.parquet`.

        Asked once, after training, with the same view as `beliefs`; in source order, NaN where nothing is known of an
        image.
        """
        return {}

    def parameter_groups(self, parameters: Sequence[Parameter]) -> list[dict]:
        """Groups for the optimiser, with own `lr` factors (`lr_scale`) or decay where a paper wants them."""
        return [{"params": list(parameters)}]

    def after_step(self, moment: Moment) -> None:
        """After each batch's turns: averages, projections."""

    def deployed(self) -> Sequence[Network]:
        """The networks whose mean probabilities `predict` gives; saved with the run."""
        return [self.classifier]

    def log_values(self) -> dict[str, float]:
        """Numbers worth a line an epoch: fitted scalars, shares kept."""
        return {}

    @torch.no_grad()
    def predict(self, images: Tensor) -> Float[Tensor, "batch classes"]:
        """Clean-class probabilities, never through a noise layer."""
        probs = [self.problem.task.probabilities(network(images)) for network in self.deployed()]
        return torch.stack(probs).mean(dim=0)


def _unheard(text: str) -> None:
    """Where no trainer listens."""
