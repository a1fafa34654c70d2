"""The project's default method: weigh every label by the trust it deserves; where the task is learnt, correct forward.

One network, its weight average as teacher, a memory of the teacher's beliefs for each sample, a transition matrix
counted on the confident part, a fitted sharpness, and one posterior that is both the trust in the given label and the
refurbished label. Forward correction after Patrini et al. 2017 (arXiv:1609.03683).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from winnow.functional.correction import forward_losses, label_posterior
from winnow.methods.base import Batch, Beliefs, Draw, Losses, Method, Moment, Phase, Problem
from winnow.methods.ranges import in_interval
from winnow.models.average import WeightAverage
from winnow.noise.estimate import confident_transition_matrix
from winnow.survey import Survey

SHARPNESS_GRID = tuple(float(value) for value in np.geomspace(1.0, 4.0, 25))
_FLOOR = 1e-4


def sharpened(beliefs: Float[Tensor, "batch classes"], sharpness: float) -> Float[Tensor, "batch classes"]:
    """softmax(sharpness * log beliefs), eq. (3): training on noise makes beliefs too soft."""
    return F.softmax(sharpness * (beliefs + _FLOOR).log(), dim=1)


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


def forward_loss(
    log_probs: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    transition_matrix: Float[Tensor, "classes classes"],
    share: float,
) -> Float[Tensor, " batch"]:
    """-log of the given label's probability under the matrix (1 - share) I + share T; cross-entropy at share 0.

    Args:
        log_probs: of the true class.
        noisy_labels: as annotated.
        transition_matrix: entry (i, j) = P(noisy = j given clean = i).
        share: how much of the correction is applied, in [0, 1].

    Returns:
        The loss of each sample, in nats.
    """
    if share == 0:
        return F.nll_loss(log_probs, noisy_labels, reduction="none")
    identity = torch.eye(len(transition_matrix), device=log_probs.device)
    blend = (1 - share) * identity + share * transition_matrix
    return forward_losses(log_probs, noisy_labels, blend)


def ramp(fraction: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, linear between."""
    return min(1.0, max(0.0, (fraction - start) / (end - start)))


class Winnow(Method):
    """winnow. Until a fifth of the training is done it is cross-entropy on weak views.

    After each epoch, from the memory q (eq. 1) and the given labels y:

    - T is counted on the most confident share of each predicted class (eq. 2);
    - beta is the sharpness at which b = softmax(beta log q), sent through T, explains the labels best (eq. 3);
    - fit = mean of max b: an estimate, calibrated on the labels, of how often the network is right (eq. 4);
    - g = ramp(fit, 0.80, 0.90): whether the task is learnt, and h = 1 - ramp(mean diagonal of T, 0.95, 0.98): whether
      there is noise to speak of, and s = max(1, 0.5 / mean diagonal of T) (eq. 5).

    With trust = pi(y), pi(k) proportional to b(k) T[k, y] (eq. 6), and ramps in the share t of the run, the loss of
    an image is (eq. 7)

        [(1 - a) + a s trust] * -log((1 - l) p(y) + l sum_k p(k) T[k, y]),
        a = h ramp(t, 0.20, 0.45),  l = h g ramp(t, 0.20, 0.40).

    The more of the task is learnt, the more images T is counted on, up to all of them: the most confident images are
    those whose wrong label was memorised, and a count of them alone makes the noise look too mild.

    Args:
        problem: what to learn.
        memory_momentum: of the per-sample beliefs, in [0, 1).
        window: of the teacher's average, in epochs.
        confident_share: of each predicted class, on which the transition matrix is counted until the task is learnt.
        pseudo_counts: pull of the matrix towards symmetric noise, in images a row.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "winnow"
    title = "trust weights, then correction"
    paper = "this project"
    assumes = "any"
    remedy = "tolerant"
    cost = 1.33
    control: ClassVar = {"averaging": True}
    transition_matrix: Tensor
    sharpness: Tensor
    fit: Tensor

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
        in_interval("[0, 1)", memory_momentum=memory_momentum)
        in_interval("(0, 1]", confident_share=confident_share)
        if not window > 0:
            raise ValueError(f"window must be above 0, got {window}")
        if not 0 < pseudo_counts < float("inf"):
            raise ValueError(f"pseudo_counts must be above 0 and finite, got {pseudo_counts}")
        self.memory_momentum = memory_momentum
        self.confident_share = confident_share
        self.pseudo_counts = pseudo_counts
        self.teacher = WeightAverage(self.classifier, window)
        classes = problem.num_classes
        self.memory = problem.rows("beliefs", classes, fill=1 / classes)
        self.visits = problem.rows("visits", dtype="uint16")
        self.register_buffer("transition_matrix", 0.9 * torch.eye(classes) + 0.1 / classes)
        self.register_buffer("sharpness", torch.tensor(1.0))
        self.register_buffer("fit", torch.tensor(0.0))

    def plan(self, epochs: int) -> list[Phase]:
        """One phase, two independent weak views: the student's and the teacher's."""
        draws = {"train": Draw(views=("weak", "weak"))}
        return [Phase("train", self.loss, epochs=epochs, draws=draws, end_epoch=self.measure_noise)]

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Eq. (7). The weights and the matrix carry no gradient."""
        seen, other_view = batch.views
        posterior = self.posterior(self.remember(batch.indices, other_view), batch.noisy_labels)
        trust = posterior.gather(1, batch.noisy_labels[:, None])[:, 0]
        caution = self.caution()
        weighing = caution * ramp(moment.fraction, 0.20, 0.45)
        share = caution * self.learnt() * ramp(moment.fraction, 0.20, 0.40)
        log_probs = F.log_softmax(self.classifier(seen), dim=1)
        losses = forward_loss(log_probs, batch.noisy_labels, self.transition_matrix, share)
        weights = 1 - weighing + weighing * self.lift() * trust
        return {"given": (weights * losses).mean()}

    def learnt(self) -> float:
        """g of eq. (5): 0 while the network is right in less than about 80 % of the images, 1 from 90 %."""
        return ramp(self.fit.item(), 0.80, 0.90)

    def lift(self) -> float:
        """s of eq. (5): 1, or more where over half of the labels are wrong: trust alone would put training to sleep."""
        return max(1.0, 0.5 / self.transition_matrix.diagonal().mean().item())

    def caution(self) -> float:
        """h of eq. (5): 1 where labels are wrong, 0 where nearly none is: clean labels are best learnt plainly."""
        return 1 - ramp(self.transition_matrix.diagonal().mean().item(), 0.95, 0.98)

    @torch.no_grad()
    def remember(self, indices: Tensor, images: Tensor) -> Float[Tensor, "batch classes"]:
        """Blends the teacher's view of some images into their memory, eq. (1), and gives the new rows."""
        self.teacher.eval()  # its own running statistics are the average of the student's
        probs = self.teacher(images).softmax(dim=1)
        visits = self.visits.read(indices).long() + 1
        momentum = (1 - 1 / visits).clamp_max(self.memory_momentum)[:, None]
        beliefs = momentum * self.memory.read(indices).float() + (1 - momentum) * probs
        self.memory.write(indices, beliefs)
        self.visits.write(indices, visits.clamp_max(65535))
        return beliefs

    @torch.no_grad()
    def posterior(self, beliefs: Tensor, noisy_labels: Tensor) -> Float[Tensor, "batch classes"]:
        """Eq. (6) with the sharpness and matrix of the last epoch's end."""
        return label_posterior(sharpened(beliefs, self.sharpness.item()), noisy_labels, self.transition_matrix)

    @torch.no_grad()
    def measure_noise(self) -> None:
        """Eq. (2) to (4) on the memory of the images visited so far."""
        rows = self.problem.train_rows[self.visits.values[self.problem.train_rows] > 0]
        beliefs, labels = self.memory.values[rows].astype(np.float32), self.problem.noisy_labels[rows]
        share = self.confident_share + (1 - self.confident_share) * self.learnt()
        matrix = confident_transition_matrix(beliefs, labels, share=share, pseudo_counts=self.pseudo_counts)
        found = torch.from_numpy(beliefs)
        sharpness = fitted_sharpness(found, torch.from_numpy(labels), torch.from_numpy(matrix).float())
        self.transition_matrix.copy_(torch.from_numpy(matrix))
        self.sharpness.fill_(sharpness)
        self.fit.fill_(sharpened(found, sharpness).max(dim=1).values.mean().item())

    def after_step(self, moment: Moment) -> None:
        """Moves the teacher."""
        self.teacher.update(self.classifier, moment.step, moment.steps_per_epoch)

    def beliefs(self, survey: Survey) -> Beliefs:
        """Trust, decided class and its probability; images that were never trained on are judged by the last survey."""
        visited = self.visits.values > 0
        beliefs = np.where(visited[:, None], self.memory.values.astype(np.float32), survey.probs)
        sharp = sharpened(torch.from_numpy(beliefs), self.sharpness.item())
        outlier_score = (1 - sharp.max(dim=1).values).numpy()
        return Beliefs.under_channel(sharp, self.problem.noisy_labels, self.transition_matrix.cpu(), outlier_score)

    def deployed(self) -> list:
        """The teacher."""
        return [self.teacher.network]

    def log_values(self) -> dict[str, float]:
        """What was measured at the end of the epoch."""
        return {
            "sharpness": self.sharpness.item(),
            "fit": self.fit.item(),
            "learnt": self.learnt(),
            "caution": self.caution(),
            "labels_believed_right": self.transition_matrix.diagonal().mean().item(),
        }
