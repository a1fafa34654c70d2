"""Loss correction: class-conditional noise is a matrix T, and with it the loss on noisy labels finds the clean classes.

Patrini et al. 2017, arXiv:1609.03683. Forward correction sends the prediction through T before the logarithm, backward
correction multiplies the losses of all classes by T^-1. T is estimated from a network that was trained plainly, and
stopped early: one that has memorised the labels would say that none is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from winnow.functional.correction import backward_losses, forward_losses
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
    cosine_in_phase,
    warmup_length,
)
from winnow.methods.ranges import finite_at_least, in_interval
from winnow.noise.checked_matrix import matrix_health, read_transition_matrix
from winnow.noise.estimate import (
    anchor_transition_matrix,
    confident_joint_transition_matrix,
    gold_transition_matrix,
    soft_transition_matrix,
)
from winnow.survey import Survey

ESTIMATORS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "confident": confident_joint_transition_matrix,
    "anchor": lambda probs, noisy_labels: anchor_transition_matrix(probs),
    "soft": soft_transition_matrix,
    "verified": gold_transition_matrix,
}
"""From probabilities and labels to T; `verified` is given the images whose label is checked, the others the rest."""

_ENOUGH = 20
"""Held-out images a class that T is estimated on; with fewer, chance weighs more than memorised labels do."""
_ENOUGH_CHECKED = 5
"""Checked images of a class that its row of T is read from; with fewer it would be the verdict on single images."""
_LEAST = 1e-8
"""Entries of T are at least this, so that every given label is possible."""
_LEAST_PROBABILITY = 1e-7
"""Backward correction lowers no probability further than this, as in the authors' code: it bounds the loss."""
_MOST_CONDITION = 1e12
"""A condition number above this is that of a singular matrix."""


class _LossCorrection(Method):
    """What both corrections share: where T comes from, and the phases.

    Verified labels stand for the true class: they are learnt plainly, and take no part in training the network that T
    is estimated from, which is to know how labels were given.

    Raises:
        ValueError: an option lies outside its range, verified labels are asked for where there are none, or the file
            of the matrix cannot be used or holds a singular one.
    """

    paper = "Patrini et al. 2017, arXiv:1609.03683"
    assumes = "class-conditional"
    remedy = "tolerant"
    transition_matrix: Tensor
    condition_number: Tensor
    agreement: Tensor
    is_verified: Tensor

    def __init__(
        self, problem: Problem, *, estimator: str, transition_matrix: str, estimate_share: float, restart: bool
    ):
        super().__init__(problem)
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
        if estimator == "verified" and not len(problem.verified):
            raise ValueError("estimator=verified needs verified labels, and there are none")
        in_interval("(0, 1)", estimate_share=estimate_share)
        self.estimator = estimator
        self.estimate_share = estimate_share
        self.restart = restart
        classes = problem.num_classes
        self.given = read_transition_matrix(transition_matrix, classes) if transition_matrix else None
        if self.given is not None and matrix_health(self.given).condition_number > _MOST_CONDITION:
            raise ValueError(
                f"transition_matrix={transition_matrix}: singular; with it labels cannot tell the classes apart, "
                "as where two rows are equal"
            )
        unchecked = np.setdiff1d(problem.train_rows, problem.verified)
        self.noisy_rows = unchecked if len(unchecked) else problem.train_rows
        held_out = np.setdiff1d(problem.held_out_rows, problem.verified)
        self.holds_out = len(held_out) >= _ENOUGH * classes
        self.judged_rows = held_out if self.holds_out else self.noisy_rows
        checked = torch.zeros(problem.num_samples, dtype=torch.bool)
        checked[torch.from_numpy(problem.verified)] = True
        self.register_buffer("is_verified", checked, persistent=False)
        self.register_buffer("transition_matrix", torch.eye(classes))
        self.register_buffer("condition_number", torch.tensor(1.0))
        self.register_buffer("agreement", torch.tensor(0.0))

    def corrected_losses(self, log_probs: Tensor, noisy_labels: Tensor) -> Float[Tensor, " batch"]:
        """The loss of each image."""
        raise NotImplementedError

    def plan(self, epochs: int) -> list[Phase]:
        """Cross-entropy for a share of the epochs, then the corrected loss; a given matrix spares the first."""
        turn = Turn(self.loss, optimizer="corrected" if self.restart else "main")
        if self.given is not None:
            return [Phase("correct", [turn], epochs=epochs)]
        first = warmup_length(epochs, epochs * self.estimate_share)
        return [
            Phase(
                "estimate",
                self.supervised_loss,
                epochs=first,
                # Held-out labels tell at which epoch to stop; without them the last one is as good as any.
                revise=self.estimate if self.holds_out else None,
                draws={"train": Draw(samples=lambda: self.noisy_rows)},
                schedule=cosine_in_phase,
            ),
            Phase(
                "correct",
                [turn],
                epochs=epochs - first,
                revise=self.conclude_estimate,
                revise_every=0,
                schedule=cosine_in_phase,
            ),
        ]

    @torch.no_grad()
    def estimate(self, survey: Survey) -> None:
        """Estimates T, unless an earlier epoch's network agreed with more of the held-out labels."""
        rows, labels = self.judged_rows, self.problem.noisy_labels
        agreement = float((survey.probs[rows].argmax(axis=1) == labels[rows]).mean())
        if self.holds_out and agreement < self.agreement:
            return
        self.agreement.fill_(agreement)
        if self.estimator == "verified":
            checked = self.problem.verified
            others = confident_joint_transition_matrix(survey.probs[rows], labels[rows])
            matrix = gold_transition_matrix(
                survey.probs[checked], labels[checked], least=_ENOUGH_CHECKED, fallback=others
            )
        else:
            matrix = ESTIMATORS[self.estimator](survey.probs[rows], labels[rows])
        self.use(matrix)

    @torch.no_grad()
    def conclude_estimate(self, survey: Survey) -> None:
        """The last estimate; then fresh weights, unless training goes on with those that there are."""
        self.estimate(survey)
        if self.restart:
            self.start_afresh("corrected")

    def use(self, matrix: Float[np.ndarray, "classes classes"]) -> None:
        """Takes a matrix for the correction."""
        possible = np.maximum(matrix, _LEAST)
        possible /= possible.sum(axis=1, keepdims=True)
        self.transition_matrix.copy_(torch.from_numpy(possible))
        self.condition_number.fill_(min(_MOST_CONDITION, matrix_health(possible).condition_number))

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """The corrected loss; where a person checked the label, cross-entropy."""
        log_probs = F.log_softmax(self.classifier(batch.images).float(), dim=1)
        plain = F.nll_loss(log_probs, batch.noisy_labels, reduction="none")
        corrected = self.corrected_losses(log_probs, batch.noisy_labels)
        return {"corrected": torch.where(self.is_verified[batch.indices], plain, corrected).mean()}

    def beliefs(self, survey: Survey) -> Beliefs:
        """The posterior of the true class given image and label; the prediction where there is no label."""
        return Beliefs.under_channel(
            torch.from_numpy(survey.probs), self.problem.noisy_labels, self.transition_matrix.cpu()
        )

    def log_values(self) -> dict[str, float]:
        """The matrix in short, and what it was estimated on."""
        values = {
            "mean_diagonal": self.transition_matrix.diagonal().mean().item(),
            "condition_number": self.condition_number.item(),
        }
        if self.given is None:
            values |= {"estimated_on_held_out": float(self.holds_out), "estimate_agreement": self.agreement.item()}
        return values


class Forward(_LossCorrection):
    """Forward correction: the prediction, sent through T, has to explain the given label.

    Its minimiser on noisy labels is the clean posterior. What it gains comes from structured noise; under uniform noise
    it is close to cross-entropy.

    T is estimated on held-out images where there are twenty a class, by the network that agrees with most of their
    labels, else on the training images; `estimated_on_held_out` in the log tells which.

    Args:
        problem: what to learn.
        estimator: of T: `confident` (counts given labels among images that the network is sure of), `anchor` (the
            paper's: what the network says of the surest images of each class), `soft` (counts with the predictions as
            weights), or `verified` (what the network says of images whose label is checked, in the mean of each class;
            a class with fewer than 5 of them is estimated as by `confident`).
        transition_matrix: a file with T instead, .csv, .npy or .json: entry (i, j) = P(given j | true i), rows sum to
            one. Nothing is estimated then. A singular matrix is refused. One whose largest entries leave the diagonal
            is taken at its word, as a permutation of the classes may be meant: `mean_diagonal` in the log tells.
        estimate_share: share of the epochs that is plain cross-entropy, before T is estimated, in (0, 1).
        restart: begin the corrected training with fresh weights, as in the paper, or with those of the estimate.
    """

    name = "forward"
    title = "prediction through a matrix"

    def __init__(
        self,
        problem: Problem,
        *,
        estimator: str = "confident",
        transition_matrix: str = "",
        estimate_share: float = 0.25,
        restart: bool = True,
    ):
        super().__init__(
            problem,
            estimator=estimator,
            transition_matrix=transition_matrix,
            estimate_share=estimate_share,
            restart=restart,
        )
        if self.given is not None:
            self.use(self.given)

    def corrected_losses(self, log_probs: Tensor, noisy_labels: Tensor) -> Tensor:
        """-log sum_i p(i) T[i, y]."""
        return forward_losses(log_probs, noisy_labels, self.transition_matrix)


class Backward(_LossCorrection):
    """Backward correction: in the mean over noisy labels the loss is the cross-entropy on the true ones.

    T^-1 has negative entries, so a network that can memorise lowers the loss for ever: at high noise it falls behind
    plain cross-entropy at the end of training. Two guards keep it finite: probabilities count as 1e-7 at least, and the
    loss is divided by the largest row sum of |T^-1|, so that a step is no larger than one of cross-entropy. The closer
    T is to singular, the more of the signal is chance. The losses of labels that a person checked are free of it, and
    not divided: such an image weighs as many times more as that sum is above 1.

    Args:
        problem: what to learn.
        estimator: of T, see `forward`.
        transition_matrix: a file with T instead, see `forward`.
        estimate_share: see `forward`.
        restart: see `forward`.
        max_condition: largest condition number of T, at least 1. A given matrix above it is refused; an estimated one
            is blended with the identity, in steps of 0.05, until it is below.

    Raises:
        ValueError: an option lies outside its range, or the given matrix is too close to singular.
    """

    name = "backward"
    title = "losses through the inverse"
    inverse_matrix: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        estimator: str = "confident",
        transition_matrix: str = "",
        estimate_share: float = 0.25,
        restart: bool = True,
        max_condition: float = 20.0,
    ):
        super().__init__(
            problem,
            estimator=estimator,
            transition_matrix=transition_matrix,
            estimate_share=estimate_share,
            restart=restart,
        )
        finite_at_least(1, max_condition=max_condition)
        self.max_condition = max_condition
        self.register_buffer("inverse_matrix", torch.eye(problem.num_classes))
        if self.given is not None:
            condition = matrix_health(self.given).condition_number
            if condition > max_condition:
                raise ValueError(
                    f"transition_matrix={transition_matrix}: condition number {condition:.3g}, above "
                    f"max_condition={max_condition:g}; its inverse would multiply chance: use forward"
                )
            self.use(self.given)

    def use(self, matrix: Float[np.ndarray, "classes classes"]) -> None:
        """Takes a matrix, as near to it as `max_condition` allows, and inverts it once."""
        identity = np.eye(len(matrix))
        blends = ((1 - share) * matrix + share * identity for share in np.linspace(0, 1, 21))
        super().use(next(blend for blend in blends if matrix_health(blend).condition_number <= self.max_condition))
        self.inverse_matrix.copy_(torch.linalg.inv(self.transition_matrix.double()))

    def corrected_losses(self, log_probs: Tensor, noisy_labels: Tensor) -> Tensor:
        """-sum_k T^-1[y, k] log max(p(k), 1e-7), over the largest sum of absolute values in a row of T^-1."""
        bounded = log_probs.clamp_min(math.log(_LEAST_PROBABILITY))
        largest = self.inverse_matrix.abs().sum(dim=1).max()
        return backward_losses(bounded, noisy_labels, self.inverse_matrix) / largest
