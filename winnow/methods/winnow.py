"""The project's default method: weigh every label by the trust it deserves, replace it where another class is decided.

One network, its weight average as teacher, a memory of the teacher's beliefs for each sample, a transition matrix
counted on the confident part, a fitted sharpness, and one posterior that is at once the trust in the label, the
refurbished label and the weight of both loss terms.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from winnow.methods.base import Batch, Beliefs, Draw, Losses, Method, Moment, Phase, Problem
from winnow.models.average import WeightAverage
from winnow.noise.estimate import confident_transition_matrix
from winnow.survey import Survey

SHARPNESS_GRID = (0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
_FLOOR = 1e-4


def sharpened(beliefs: Float[Tensor, "batch classes"], sharpness: float) -> Float[Tensor, "batch classes"]:
    """softmax(sharpness * log beliefs), eq. (3): training on noise makes beliefs too soft."""
    return F.softmax(sharpness * (beliefs + _FLOOR).log(), dim=1)


def label_posterior(
    beliefs: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    transition_matrix: Float[Tensor, "classes classes"],
) -> Float[Tensor, "batch classes"]:
    """P(true class | image, given label): belief times the chance of this label for that class, eq. (4)."""
    joint = beliefs * transition_matrix.T[noisy_labels]
    return joint / joint.sum(dim=1, keepdim=True)


def fitted_sharpness(
    beliefs: Float[Tensor, "n classes"],
    noisy_labels: Int[Tensor, " n"],
    transition_matrix: Float[Tensor, "classes classes"],
    grid: tuple[float, ...] = SHARPNESS_GRID,
) -> float:
    """The sharpness of `grid` under which beliefs, sent through the matrix, best explain the labels, eq. (3)."""
    columns = transition_matrix.T[noisy_labels]
    fits = [(sharpened(beliefs, value) * columns).sum(dim=1).log().mean().item() for value in grid]
    return grid[max(range(len(grid)), key=fits.__getitem__)]


def ramp(fraction: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, linear between."""
    return min(1.0, max(0.0, (fraction - start) / (end - start)))


class Winnow(Method):
    """winnow. While both ramps are at zero it is cross-entropy on weak views.

    Args:
        problem: what to learn.
        memory_momentum: of the per-sample beliefs, in [0, 1).
        window: of the teacher's average, in epochs.
        confident_share: of each predicted class from which the transition matrix is counted.
        pseudo_counts: pull of the matrix towards symmetric noise, in images a row.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "winnow"
    title = "Trust weights, decided labels replaced, one posterior"
    paper = "this project"
    assumes = "any"
    remedy = "tolerant"
    cost = 1.33
    transition_matrix: Tensor
    sharpness: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        memory_momentum: float = 0.7,
        window: float = 2.0,
        confident_share: float = 0.20,
        pseudo_counts: float = 100.0,
    ):
        super().__init__(problem)
        if not 0 <= memory_momentum < 1:
            raise ValueError(f"memory_momentum must lie in [0, 1), got {memory_momentum}")
        if not 0 < confident_share <= 1:
            raise ValueError(f"confident_share must lie in (0, 1], got {confident_share}")
        if window <= 0 or pseudo_counts <= 0:
            raise ValueError(f"window and pseudo_counts must be above 0, got {window} and {pseudo_counts}")
        self.memory_momentum = memory_momentum
        self.confident_share = confident_share
        self.pseudo_counts = pseudo_counts
        self.teacher = WeightAverage(self.classifier, window)
        classes = problem.num_classes
        self.memory = problem.rows("beliefs", classes, fill=1 / classes)
        self.visits = problem.rows("visits", dtype="uint16")
        self.register_buffer("transition_matrix", 0.9 * torch.eye(classes) + 0.1 / classes)
        self.register_buffer("sharpness", torch.tensor(1.0))

    def plan(self, epochs: int) -> list[Phase]:
        """One phase, two independent weak views: the student's and the teacher's."""
        draws = {"train": Draw(views=("weak", "weak"))}
        return [Phase("train", self.loss, epochs=epochs, draws=draws, end_epoch=self.measure_noise)]

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Eq. (5): the given label by its trust, plus the decided class where it is another one."""
        seen, other_view = batch.views
        posterior = self.posterior(batch.indices, self.remember(batch.indices, other_view), batch.noisy_labels)
        trust = posterior.gather(1, batch.noisy_labels[:, None])[:, 0]
        certainty, decided = posterior.max(dim=1)
        trust_ramp, replace_ramp = ramp(moment.fraction, 0.20, 0.45), ramp(moment.fraction, 0.30, 0.50)
        log_probs = F.log_softmax(self.classifier(seen), dim=1)
        given = F.nll_loss(log_probs, batch.noisy_labels, reduction="none")
        other = F.nll_loss(log_probs, decided, reduction="none")
        replaced = (decided != batch.noisy_labels) * (2 * certainty - 1).clamp_min(0)
        return {
            "given": ((1 - trust_ramp + trust_ramp * trust) * given).mean(),
            "replaced": (replace_ramp * replaced * other).mean(),
        }

    @torch.no_grad()
    def remember(self, indices: Tensor, images: Tensor) -> Float[Tensor, "batch classes"]:
        """Blends the teacher's view of some images into their memory, eq. (1), and gives the new rows."""
        probs = self.teacher(images).softmax(dim=1)
        visits = self.visits.read(indices).long() + 1
        momentum = (1 - 1 / visits).clamp_max(self.memory_momentum)[:, None]
        beliefs = momentum * self.memory.read(indices).float() + (1 - momentum) * probs
        self.memory.write(indices, beliefs)
        self.visits.write(indices, visits.clamp_max(65535))
        return beliefs

    @torch.no_grad()
    def posterior(self, indices: Tensor, beliefs: Tensor, noisy_labels: Tensor) -> Float[Tensor, "batch classes"]:
        """Eq. (4) with the sharpness and matrix of the last epoch's end."""
        return label_posterior(sharpened(beliefs, self.sharpness.item()), noisy_labels, self.transition_matrix)

    @torch.no_grad()
    def measure_noise(self) -> None:
        """Counts the transition matrix and fits the sharpness on the memory, eq. (2) and (3)."""
        rows = self.problem.train_rows[self.visits.values[self.problem.train_rows] > 0]
        beliefs, labels = self.memory.values[rows].astype(np.float32), self.problem.noisy_labels[rows]
        matrix = confident_transition_matrix(
            beliefs, labels, share=self.confident_share, pseudo_counts=self.pseudo_counts
        )
        self.transition_matrix.copy_(torch.from_numpy(matrix))
        place = self.transition_matrix.device
        fit = fitted_sharpness(torch.from_numpy(beliefs), torch.from_numpy(labels), self.transition_matrix.cpu())
        self.sharpness.copy_(torch.tensor(fit, device=place))

    def after_step(self, moment: Moment) -> None:
        """Moves the teacher."""
        self.teacher.update(self.classifier, moment.step, moment.steps_per_epoch)

    def beliefs(self, survey: Survey) -> Beliefs:
        """Trust, decided class and its probability; images that were never trained on are judged by the last survey."""
        visited = self.visits.values > 0
        beliefs = np.where(visited[:, None], self.memory.values.astype(np.float32), survey.probs)
        labels = torch.from_numpy(self.problem.noisy_labels.copy())
        sharp = sharpened(torch.from_numpy(beliefs), self.sharpness.item())
        posterior = label_posterior(sharp, labels.clamp_min(0), self.transition_matrix.cpu())
        posterior = torch.where((labels >= 0)[:, None], posterior, sharp)
        probability, suggested = posterior.max(dim=1)
        quality = posterior.gather(1, labels.clamp_min(0)[:, None])[:, 0]
        return Beliefs(
            label_quality=quality.numpy(),
            suggested_label=suggested.numpy(),
            suggested_probability=probability.numpy(),
            outlier_score=(1 - sharp.max(dim=1).values).numpy(),
        )

    def deployed(self) -> list:
        """The teacher."""
        return [self.teacher.network]

    def log_values(self) -> dict[str, float]:
        """Sharpness, and the share of right labels that the matrix believes in."""
        return {
            "sharpness": self.sharpness.item(),
            "believed_right": self.transition_matrix.diagonal().mean().item(),
        }
