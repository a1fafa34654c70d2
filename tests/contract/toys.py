"""Methods that exist only to prove the contract: each stands for a family of papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch.func import functional_call

from winnow.methods.base import (
    Batch,
    Draw,
    Losses,
    Method,
    Moment,
    Need,
    Phase,
    Problem,
    Turn,
    constant,
    cosine_in_phase,
)
from winnow.survey import Survey


class TwoNetworks(Method):
    """Each of two networks picks, by its remembered losses, what the other one learns from (co-teaching)."""

    name = "toy-two-networks"

    def __init__(self, problem: Problem, *, keep: float = 0.6):
        super().__init__(problem)
        self.keep = keep
        self.second = problem.network("second")
        self.losses = problem.rows("losses", 2, dtype="float32")

    def plan(self, epochs: int) -> list[Phase]:
        turns = [
            Turn(self.first_loss, lambda: self.classifier.parameters(), optimizer="first"),
            Turn(self.second_loss, lambda: self.second.parameters(), optimizer="second"),
        ]
        return [Phase("exchange", turns, epochs=epochs)]

    def first_loss(self, batch: Batch, moment: Moment) -> Losses:
        return {"first": self._loss(batch, self.classifier, mine=0, other=1)}

    def second_loss(self, batch: Batch, moment: Moment) -> Losses:
        return {"second": self._loss(batch, self.second, mine=1, other=0)}

    def _loss(self, batch: Batch, network: torch.nn.Module, mine: int, other: int) -> torch.Tensor:
        remembered = self.losses.read(batch.indices)
        count = max(1, round(self.keep * len(batch.indices)))
        kept = remembered[:, other].argsort(stable=True)[:count]
        losses = F.cross_entropy(network(batch.images), batch.noisy_labels, reduction="none")
        remembered[:, mine] = losses.detach()
        self.losses.write(batch.indices, remembered)
        return losses[kept].mean()

    def deployed(self) -> list:
        return [self.classifier, self.second]


class InnerGradient(Method):
    """Moves along synthetic labels inside the loss and wants the moved network to agree (meta-learning)."""

    name = "toy-inner-gradient"

    def __init__(self, problem: Problem, *, inner_steps: int = 2, rate: float = 0.1):
        super().__init__(problem)
        self.inner_steps = inner_steps
        self.rate = rate

    def loss(self, batch: Batch, moment: Moment) -> Iterator[Losses]:
        weights = dict(self.classifier.named_parameters())
        for _ in range(self.inner_steps):
            # A draw from torch's own generator: the trainer seeds it for each step.
            synthetic = batch.noisy_labels[torch.randperm(len(batch.noisy_labels))]
            inner = F.cross_entropy(functional_call(self.classifier, weights, (batch.images,)), synthetic)
            gradients = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            moved = {k: w - self.rate * g for (k, w), g in zip(weights.items(), gradients, strict=True)}
            logits = functional_call(self.classifier, moved, (batch.images,))
            yield {"meta": 0.5 * F.cross_entropy(logits, batch.noisy_labels) / self.inner_steps}
        yield {"plain": F.cross_entropy(self.classifier(batch.images), batch.noisy_labels)}


class Alternation(Method):
    """A head on features of the whole collection and the network below it take turns (alternating optimisation)."""

    name = "toy-alternation"

    def __init__(self, problem: Problem):
        super().__init__(problem)
        width = self.classifier.num_features
        self.probe = problem.layer(torch.nn.Linear, width, problem.num_classes, purpose="probe")
        self.register_buffer("prototypes", torch.zeros(problem.num_classes, width))
        self.targets = problem.rows("targets", dtype="int64")
        self.order: list[str] = []

    def plan(self, epochs: int) -> list[Phase]:
        network = Turn(self.network_loss, lambda: self.classifier.parameters())
        probe = Turn(self.probe_loss, lambda: self.probe.parameters(), optimizer="probe", repeat=2)
        return [
            Phase("warm up", self.supervised_loss, epochs=1, schedule=constant),
            Phase(
                "alternate",
                [probe, network],
                epochs=epochs - 1,
                revise=self.look,
                draws={"train": Draw(views=("weak", "features"), order="by_class", samples=self.near_rows)},
            ),
        ]

    def supervised_loss(self, batch: Batch, moment: Moment) -> Losses:
        return {"cross_entropy": F.cross_entropy(self.classifier(batch.images), batch.noisy_labels)}

    def probe_loss(self, batch: Batch, moment: Moment) -> Losses:
        _, features = batch.views
        return {"probe": F.cross_entropy(self.probe(features), self.targets.read(batch.indices))}

    def network_loss(self, batch: Batch, moment: Moment) -> Losses:
        images, _ = batch.views
        return {"network": F.cross_entropy(self.classifier(images), self.targets.read(batch.indices))}

    @torch.no_grad()
    def look(self, survey: Survey) -> None:
        features = torch.from_numpy(survey.features)
        labels = torch.from_numpy(self.problem.noisy_labels)
        for k in range(self.problem.num_classes):
            members = features[labels == k]
            self.prototypes[k] = members.mean(dim=0) if len(members) else 0
        self.targets.replace(torch.cdist(features, self.prototypes).argmin(dim=1).numpy())

    def near_rows(self) -> np.ndarray:
        """All training rows but every seventh: a selection that follows the survey would do the same."""
        rows = self.problem.train_rows
        return rows[(rows + int(self.targets.values.sum())) % 7 != 0]


class FreshStudent(Method):
    """A teacher is trained, then a student with fresh weights learns its soft labels (generations)."""

    name = "toy-fresh-student"

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.teacher = problem.network("teacher").requires_grad_(False)

    def plan(self, epochs: int) -> list[Phase]:
        half = epochs // 2
        return [
            Phase("teacher", self.supervised_loss, epochs=half, schedule=cosine_in_phase),
            Phase(
                "student",
                [Turn(self.distil, optimizer="student")],
                epochs=epochs - half,
                begin=self.hand_over,
                schedule=cosine_in_phase,
            ),
        ]

    def supervised_loss(self, batch: Batch, moment: Moment) -> Losses:
        return {"cross_entropy": F.cross_entropy(self.classifier(batch.images), batch.noisy_labels)}

    def hand_over(self) -> None:
        self.teacher.load_state_dict(self.classifier.state_dict())
        self.classifier.load_state_dict(self.problem.network("student").state_dict())

    def distil(self, batch: Batch, moment: Moment) -> Losses:
        with torch.no_grad():
            targets = self.teacher(batch.images).softmax(dim=1)
        return {"distil": F.cross_entropy(self.classifier(batch.images), targets)}


class UnlabelledPool(Method):
    """Two streams: labelled images, and twice as many unlabelled ones in two views (consistency); counted in steps."""

    name = "toy-unlabelled-pool"
    needs = frozenset({Need.UNLABELLED})

    def plan(self, epochs: int) -> list[Phase]:
        draws = {"train": Draw(), "pool": Draw(views=("weak", "strong"), size=0.5, source="unlabelled")}
        return [Phase("pool", self.loss, steps=4 * epochs, draws=draws)]

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        weak, strong = batch.streams["pool"].views
        with torch.no_grad():
            targets = self.classifier(weak).softmax(dim=1)
        return {
            "labelled": F.cross_entropy(self.classifier(batch.images), batch.noisy_labels),
            "consistent": F.cross_entropy(self.classifier(strong), targets),
        }


TOYS: Sequence[type[Method]] = (TwoNetworks, InnerGradient, Alternation, FreshStudent, UnlabelledPool)
