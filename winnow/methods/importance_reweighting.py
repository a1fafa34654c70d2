"""Importance reweighting: every label's loss is weighted by P(clean = label | x) / P(noisy = label | x).

Liu & Tao 2016, arXiv:1411.7718, who have two classes; more classes are this project's extension. Under noise that
depends on the class alone, a weighted mean over noisy labels estimates the mean over clean ones, for any loss. The
dynamic weights are those of T-Revision (Xia et al. 2019, arXiv:1906.00189) without its learnt slack.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from winnow.data.randomness import permutation, stream_key
from winnow.functional.calibration import fitted_temperature, log_probs_of, tempered
from winnow.functional.correction import forward_losses
from winnow.methods.base import (
    Batch,
    Draw,
    Losses,
    Method,
    Moment,
    Phase,
    Problem,
    Turn,
    cosine_in_phase,
    warmup_length,
)
from winnow.methods.ranges import finite_at_least, in_interval, one_of
from winnow.noise.estimate import confident_joint_transition_matrix
from winnow.survey import Survey

MINIMUM_SEPARATION = 0.05
"""Labels that tell less of the truth are not weighted."""
_RARE = 1e-3
"""Of a noisy posterior: what is divided by is no smaller."""
_CHUNK = 10_000
"""Images whose weights are found together."""
_UPDATES = 50
"""After them, the clean posterior moves by less than 0.01."""


def flip_rate_matrix(noisy_posterior: Float[np.ndarray, "n 2"], quantile: float = 0.01) -> Float[np.ndarray, "2 2"]:
    """T of two classes: P(noisy = j | the other class) = min over x of P(noisy = j | x).

    The paper's estimate, exact where some image is certainly of each class.

    Args:
        noisy_posterior: calibrated, of images that were not trained on: the minimum of an overfitted one is 0.
        quantile: what stands for the minimum, which a single outlier would set; 0 = the minimum.
    """
    into = np.quantile(noisy_posterior.astype(np.float64), quantile, axis=0)
    return np.array([[1 - into[1], into[1]], [into[0], 1 - into[0]]])


def separation(transition_matrix: Float[np.ndarray, "classes classes"]) -> float:
    """How much of the truth labels tell, (trace T - 1) / (K - 1): 1 without noise, 0 where they are drawn blindly.

    With two classes it is the paper's 1 - rho_{+1} - rho_{-1}.
    """
    classes = len(transition_matrix)
    return float(np.trace(transition_matrix) - 1) / (classes - 1) if classes > 1 else 1.0


def inverse_weights(
    noisy_posterior: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    transition_matrix: Float[Tensor, "classes classes"],
) -> Float[Tensor, " batch"]:
    """(q T^-1)(y) / q(y), from the noisy posterior q alone. The paper's beta(X, Y) with two classes:

        (q(y) - rho_{-y}) / ((1 - rho_{+1} - rho_{-1}) q(y)).

    Negative numerators, of a posterior that no clean one leads to, are 0; q(y) is at least 0.001 in the denominator.

    Args:
        noisy_posterior: q.
        noisy_labels: y, as annotated.
        transition_matrix: T, entry (i, j) = P(noisy = j given clean = i), invertible.
    """
    columns = torch.linalg.inv(transition_matrix).T[noisy_labels]
    clean = (noisy_posterior * columns).sum(dim=1).clamp_min(0)
    return clean / noisy_posterior.gather(1, noisy_labels[:, None])[:, 0].clamp_min(_RARE)


def nearest_clean_posterior(
    noisy_posterior: Float[Tensor, "batch classes"], transition_matrix: Float[Tensor, "classes classes"]
) -> Float[Tensor, "batch classes"]:
    """The distribution p whose p T is nearest to q: it maximises sum_j q(j) log (p T)(j).

    Where q T^-1 is a distribution it is that. With more than two classes it hardly ever is one, as the inverse
    multiplies every error of q: on MNIST with 45 % of the labels permuted not for a single image.

    Found by expectation maximisation, p(i) <- p(i) sum_j T[i, j] q(j) / (p T)(j), from all classes alike.

    Args:
        noisy_posterior: q.
        transition_matrix: T, entry (i, j) = P(noisy = j given clean = i), without zeros.
    """
    p = torch.full_like(noisy_posterior, 1 / noisy_posterior.shape[1])
    for _ in range(_UPDATES):
        p = p * ((noisy_posterior / (p @ transition_matrix)) @ transition_matrix.T)
    return p


def ratio_weights(
    log_probs: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    transition_matrix: Float[Tensor, "classes classes"],
) -> Float[Tensor, " batch"]:
    """p(y) / (p T)(y), from the clean posterior p; without a gradient: it would shrink p(y) to shrink the loss.

    Args:
        log_probs: log p, as the network in training has it.
        noisy_labels: y, as annotated.
        transition_matrix: T, entry (i, j) = P(noisy = j given clean = i), with no zero on the diagonal.
    """
    log_probs = log_probs.detach()
    given = log_probs.gather(1, noisy_labels[:, None])[:, 0]
    # In logarithms: both parts of the ratio may underflow.
    return (given + forward_losses(log_probs, noisy_labels, transition_matrix)).exp()


def clipped_weights(
    weights: Float[Tensor, " batch"], transition_matrix: Float[Tensor, "classes classes"], largest: float
) -> Float[Tensor, " batch"]:
    """Weights of at most `largest`, or 1 / min diagonal T where that is more: no right weight exceeds it."""
    return weights.clamp(max=max(largest, 1 / transition_matrix.diagonal().min().item()))


def effective_sample_size(weights: Float[np.ndarray, " n"]) -> float:
    """(sum w)^2 / sum w^2, in (0, N]: as many equally weighted samples would leave a mean as uncertain.

    0 if every weight is 0.
    """
    weights = weights.astype(np.float64)
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


class ImportanceReweighting(Method):
    """Importance reweighting. The network first learns the noisy posterior, then the weighted labels.

    A part of the training images is left out of the first phase. On them and on those held out, the posterior is
    calibrated by a temperature, and the transition matrix is estimated: with two classes as the paper does it, from the
    lowest posterior of either label; with more by the confident joint.

    - `static`, the paper: the noisy posterior gives each label one weight, their mean is 1, and a fresh network learns.
      With more than two classes the clean posterior that explains the noisy one best takes the place of its inverse.
    - `dynamic`: the same network goes on, its present prediction taken for the clean posterior.

    Labels that tell hardly anything of the truth (`separation` below 0.05, which is 1 - rho_{+1} - rho_{-1} with two
    classes) are not weighted: training is then plain, and `reweighting` is 0 in the log. The column `weight` of
    `labels.parquet` holds the last weight of every image trained on.

    Args:
        problem: what to learn.
        mode: `static` or `dynamic`.
        estimation_share: share of the epochs in which the noisy posterior is learnt, in (0, 1). Few, so that no label
            is learnt by heart.
        reserved_share: share of the training images left out of these epochs, in [0, 1).
        quantile: of the noisy posterior that stands for its minimum with two classes, in [0, 0.5).
        largest_weight: weights are cut there, or where no right weight can be; at least 1. Static ones are then scaled
            to a mean of 1, by which the largest may come to lie above.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "importance-reweighting"
    title = "weights, clean over noisy"
    paper = "Liu & Tao 2016, arXiv:1411.7718"
    assumes = "class-conditional"
    remedy = "tolerant"
    transition_matrix: Tensor
    temperature: Tensor
    reweighting: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        mode: str = "static",
        estimation_share: float = 0.25,
        reserved_share: float = 0.2,
        quantile: float = 0.01,
        largest_weight: float = 5.0,
    ):
        super().__init__(problem)
        one_of(("static", "dynamic"), mode=mode)
        in_interval("(0, 1)", estimation_share=estimation_share)
        in_interval("[0, 1)", reserved_share=reserved_share)
        in_interval("[0, 0.5)", quantile=quantile)
        finite_at_least(1, largest_weight=largest_weight)
        self.mode = mode
        self.estimation_share = estimation_share
        self.quantile = quantile
        self.largest_weight = largest_weight
        self.weights = problem.rows("weights", dtype="float32", fill=1.0)
        order = permutation(stream_key(problem.seed, "reserved"), problem.train_rows)
        self.reserved_rows = order[: int(reserved_share * len(order))]
        self.register_buffer("transition_matrix", torch.eye(problem.num_classes))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("reweighting", torch.tensor(False))

    def plan(self, epochs: int) -> list[Phase]:
        """The noisy posterior, then weighted labels."""
        first = warmup_length(epochs, epochs * self.estimation_share)
        return [
            Phase(
                "noisy posterior",
                self.supervised_loss,
                epochs=first,
                draws={"train": Draw(samples=self.estimation_rows)},
                schedule=cosine_in_phase,
            ),
            Phase(
                "reweighted",
                [Turn(self.loss, optimizer="reweighted")],
                epochs=epochs - first,
                revise=self.weigh,
                revise_every=0,
                schedule=cosine_in_phase,
            ),
        ]

    def estimation_rows(self) -> np.ndarray:
        """The training images that the noisy posterior is learnt from."""
        return np.setdiff1d(self.problem.train_rows, self.reserved_rows)

    @torch.no_grad()
    def weigh(self, survey: Survey) -> None:
        """Calibrates the noisy posterior, estimates the matrix and, in static mode, weighs and starts afresh."""
        labels = torch.from_numpy(self.problem.noisy_labels)
        honest = np.union1d(self.reserved_rows, self.problem.held_out_rows)
        honest = honest if len(honest) else self.problem.train_rows
        probs = torch.from_numpy(survey.probs)
        temperature = fitted_temperature(log_probs_of(probs[honest]), labels[honest])
        matrix = self.estimated_matrix(tempered(probs[honest], temperature).numpy(), labels[honest].numpy())
        self.temperature.fill_(temperature)
        self.transition_matrix.copy_(torch.from_numpy(matrix))
        self.reweighting.fill_(separation(matrix) >= MINIMUM_SEPARATION)
        if self.mode == "dynamic":
            return
        if self.reweighting:
            rows = torch.from_numpy(self.problem.train_rows)
            channel = torch.from_numpy(matrix)
            parts = [
                self.static_weights(tempered(probs[part], temperature).double(), labels[part], channel)
                for part in rows.split(_CHUNK)
            ]
            weights = clipped_weights(torch.cat(parts), channel, self.largest_weight)
            # Cut numerators and weights moved the mean off 1; without any weight left, labels are taken as they are.
            mean = weights.mean()
            self.weights.write(rows, weights / mean if mean > 0 else torch.ones_like(weights))
        self.start_afresh("reweighted")

    def static_weights(self, noisy_posterior: Tensor, noisy_labels: Tensor, transition_matrix: Tensor) -> Tensor:
        """The paper's with two classes; with more, those of the nearest clean posterior."""
        if self.problem.num_classes == 2:
            return inverse_weights(noisy_posterior, noisy_labels, transition_matrix)
        clean = nearest_clean_posterior(noisy_posterior, transition_matrix)
        return ratio_weights(clean.clamp_min(torch.finfo(clean.dtype).tiny).log(), noisy_labels, transition_matrix)

    def estimated_matrix(
        self, noisy_posterior: Float[np.ndarray, "n classes"], noisy_labels: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, "classes classes"]:
        """T from images that were not trained on; entries of at least 1e-8, so that every label can be right."""
        if self.problem.num_classes == 2:
            matrix = flip_rate_matrix(noisy_posterior, self.quantile)
        else:
            # The direct extension would be anchors; on small sets they gave worse matrices than counting did.
            matrix = confident_joint_transition_matrix(noisy_posterior, noisy_labels)
        matrix = np.maximum(matrix, 1e-8)
        return matrix / matrix.sum(axis=1, keepdims=True)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Weighted cross-entropy, divided by the number of images."""
        log_probs = F.log_softmax(self.classifier(batch.images).float(), dim=1)
        if self.mode == "dynamic" and self.reweighting:
            weights = ratio_weights(log_probs, batch.noisy_labels, self.transition_matrix)
            self.weights.write(batch.indices, clipped_weights(weights, self.transition_matrix, self.largest_weight))
        losses = F.nll_loss(log_probs, batch.noisy_labels, reduction="none")
        return {"reweighted": (self.weights.read(batch.indices) * losses).mean()}

    def columns(self, survey: Survey) -> dict[str, np.ndarray]:
        """The weight of every image trained on."""
        weights = np.full(self.problem.num_samples, np.nan, dtype=np.float32)
        weights[self.problem.train_rows] = self.weights.values[self.problem.train_rows]
        return {"weight": weights}

    def log_values(self) -> dict[str, float]:
        """What the labels are held to be worth."""
        weights = self.weights.values[self.problem.train_rows]
        return {
            "labels_believed_right": self.transition_matrix.diagonal().mean().item(),
            "separation": separation(self.transition_matrix.cpu().double().numpy()),
            "temperature": self.temperature.item(),
            "reweighting": float(self.reweighting.item()),
            "mean_weight": float(weights.mean(dtype=np.float64)),
            "effective_sample_size": effective_sample_size(weights),
        }
