"""A noise layer after the softmax turns the prediction of the true class into one of the given label.

Sukhbaatar et al. 2014, arXiv:1406.2080. Two names, one matrix: Q[j, i] = P(noisy = j given clean = i) has columns that
sum to one, as in the paper; T = Q^T is the project's transition matrix, with rows that do. The bottom-up loss is
forward correction under T, see `functional.correction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Parameter

from winnow.functional.correction import forward_losses
from winnow.methods.base import Batch, Beliefs, Draw, Losses, Method, Moment, Phase, Problem, warmup_length
from winnow.methods.ranges import finite_at_least, in_interval
from winnow.noise.estimate import transition_matrix_of_joints
from winnow.survey import Survey

_START = 0.05
"""Share of the uniform matrix in the layer that learning starts from."""


def top_down_losses(
    log_probs: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    R: Float[Tensor, "classes classes"],
) -> Float[Tensor, " batch"]:
    """Cross-entropy against what the given label says of the true class, the image left aside.

    Args:
        log_probs: of the true class.
        noisy_labels: as annotated.
        R: R[i, j] = P(clean = i given noisy = j); columns sum to one.

    Returns:
        The loss of each sample, in nats.
    """
    return -(R.T[noisy_labels] * log_probs).sum(dim=1)


def reversed_channel(
    Q: Float[Tensor, "classes classes"], prior: Float[Tensor, " classes"]
) -> Float[Tensor, "classes classes"]:
    """R[i, j] = P(clean = i given noisy = j) by Bayes, from Q and P(clean = i); a label that cannot occur is kept."""
    joint = Q.T * prior[:, None]
    total = joint.sum(dim=0)
    return torch.where(total > 0, joint / total, torch.eye(len(Q), dtype=Q.dtype, device=Q.device))


def nearest_stochastic(
    matrix: Float[Tensor, "classes classes"], floor: float = 0.0
) -> Float[Tensor, "classes classes"]:
    """The closest matrix whose columns sum to one and whose entries are at least `floor`.

    Released code cuts off and divides by the sums instead. Gradient steps on Q then come to rest at shares
    proportional to the square roots of the true ones, far too uniform; with the projection they rest at the optimum.

    Args:
        matrix: any.
        floor: in [0, 1 / K].
    """
    classes = len(matrix)
    mass = 1 - classes * floor
    # What is added to a whole column changes nothing; with the largest entry at zero, huge ones lose no digits.
    above = matrix - matrix.max(dim=0).values
    ordered = above.sort(dim=0, descending=True).values
    ranks = torch.arange(1, classes + 1, dtype=matrix.dtype, device=matrix.device)[:, None]
    shifts = (ordered.cumsum(dim=0) - mass) / ranks
    # The entries that stay above zero are the largest ones, as many as lie above the shift that they ask for.
    kept = (ordered > shifts).sum(dim=0, keepdim=True)
    return (above - shifts.gather(0, kept - 1)).clamp_min(0) + floor


def sample_weights(
    checked: Bool[Tensor, " batch"], gamma: float, num_clean: int, num_noisy: int
) -> Float[Tensor, " batch"]:
    """1 for checked labels and `gamma` for the others, scaled to a mean of 1 over the collection.

    The mean over batches of weight times loss is then the sum over all images of 1 or gamma times loss, divided by
    num_clean + gamma num_noisy.

    Args:
        checked: which labels a person has checked.
        gamma: at least 0; above 0 where `num_clean` is 0.
        num_clean: checked labels in the collection.
        num_noisy: others.
    """
    scale = (num_clean + num_noisy) / (num_clean + gamma * num_noisy)
    return scale * (gamma + (1 - gamma) * checked.float())


class NoiseLayer(Method):
    """The noise layer, learned with the network or estimated from its confusions, and taken away for predictions.

    While the network warms up there is no layer. Then, learned: Q starts close to the identity and moves with every
    step, at a rate of its own; without a penalty a network that memorises lets it stay there. Estimated: images whose
    labels were checked are left out of the warm-up, then the network predicts them and the others; what turns the
    table of the ones into that of the others is Q. Where no label is checked, the predictions stand for the truth
    (Goldberger & Ben-Reuven 2017). Checked images must be a random sample; the labels of a class of which none is
    checked are taken for right.

    Checked labels are learnt from directly, past the layer. The paper chose `gamma` by cross-validation: compare
    values by several runs, in a grid, as one run cannot tell.

    A layer whose largest entry leaves the diagonal in some column, or (of more than two classes) whose mean diagonal
    falls below 1.5 / K, has renamed or blurred the classes: the values of an epoch then tell an alarm. Not for noise in
    which a wrong label is as frequent as the right one: nothing in the labels tells them apart.

    Args:
        problem: what to learn.
        layer: `learned`, `estimated`, or `none`: only `gamma` then stands between this and cross-entropy.
        direction: `bottom-up`: the prediction goes through Q. `top-down`: the label goes through R, the reversed Q, and
            the prediction is compared with that; the layer must be estimated, as the loss is linear in R and would be
            least where every label means the one class that is cheapest.
        gamma: weight of a label that nobody checked, beside 1 for the others, in [0, 1]; without checked labels it
            plays no part, and 0 is refused. The paper's value is for as many checked labels as others; where few are
            checked, each would weigh too much in its batch: rather 1.
        parametrisation: `projected`: Q itself is moved, then brought back among the stochastic matrices. `softmax`:
            each column is the softmax of free numbers, which want a `layer_rate` of about 10.
        penalty: `weight-decay`, the squared entries of Q, or its `trace`, which does not stop at the diagonal.
        alpha: weight of the penalty's mean over columns, at least 0; the paper's weight of the sum is 1 / K of it, as
            each column learns from 1 / K of the images. Up to 1/2 the layer of clean labels of equal classes stays the
            identity, up to K / 2 times its share the column of a rarer one; with too little, that of noisy labels does,
            too.
        layer_rate: of learning Q, in units of the network's rate, in (0, 1000].
        warmup_share: share of the epochs without the layer, in (0, 1).

    Raises:
        ValueError: an option lies outside its range, or two do not go together.
    """

    name = "noise-layer"
    title = "noise layer after the softmax"
    paper = "Sukhbaatar et al. 2014, arXiv:1406.2080"
    assumes = "class-conditional"
    remedy = "tolerant"
    choices: ClassVar = {
        "layer": ("learned", "estimated", "none"),
        "direction": ("bottom-up", "top-down"),
        "parametrisation": ("projected", "softmax"),
        "penalty": ("weight-decay", "trace"),
    }
    checked: Tensor
    prior: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        layer: str = "learned",
        direction: str = "bottom-up",
        gamma: float = 0.1,
        parametrisation: str = "projected",
        penalty: str = "weight-decay",
        alpha: float = 0.4,
        layer_rate: float = 0.1,
        warmup_share: float = 0.25,
    ):
        super().__init__(problem)
        given = {"layer": layer, "direction": direction, "parametrisation": parametrisation, "penalty": penalty}
        for option, value in given.items():
            if value not in self.choices[option]:
                raise ValueError(f"{option} must be {' or '.join(self.choices[option])}, got {value!r}")
        if direction == "top-down" and layer != "estimated":
            raise ValueError(f"direction top-down needs the layer estimated, got {layer!r}")
        finite_at_least(0, alpha=alpha)
        in_interval("(0, 1000]", layer_rate=layer_rate)
        in_interval("(0, 1)", warmup_share=warmup_share)
        self.noisy_rows = np.setdiff1d(problem.train_rows, problem.verified, assume_unique=True)
        self.num_clean = len(problem.train_rows) - len(self.noisy_rows)
        if not 0 <= gamma <= 1 or (gamma == 0 and not self.num_clean):
            raise ValueError(f"gamma must lie in [0, 1], above 0 where no label is checked, got {gamma}")
        self.layer = layer
        self.direction = direction
        self.gamma = gamma
        self.parametrisation = parametrisation
        self.penalty = penalty
        self.alpha = alpha
        self.layer_rate = layer_rate
        self.warmup_share = warmup_share
        classes = problem.num_classes
        # Little of every entry: from the exact identity the gradient of a zero entry has no bound, that of its logit
        # is zero.
        self.floor = 0.01 / classes
        start = (1 - _START) * torch.eye(classes) + _START / classes
        self.layer_weights = Parameter(self._weights_of(start), requires_grad=layer == "learned")
        self.register_buffer("prior", torch.full((classes,), 1 / classes))
        checked = torch.zeros(problem.num_samples, dtype=torch.bool)
        checked[torch.from_numpy(problem.verified)] = True
        self.register_buffer("checked", checked, persistent=False)

    @property
    def Q(self) -> Float[Tensor, "classes classes"]:
        """Q[j, i] = P(noisy = j given clean = i); columns sum to one."""
        return self.layer_weights if self.parametrisation == "projected" else self.layer_weights.softmax(dim=0)

    @property
    def T(self) -> Float[Tensor, "classes classes"]:
        """The transition matrix, T[i, j] = P(noisy = j given clean = i); rows sum to one."""
        return self.Q.T

    def plan(self, epochs: int) -> list[Phase]:
        """Warm up without the layer, then with it."""
        if self.layer == "none":
            return [Phase("train", self.plain_loss, epochs=epochs)]
        warm = warmup_length(epochs, epochs * self.warmup_share)
        if self.layer == "learned" or not len(self.noisy_rows):
            return [Phase("warm up", self.plain_loss, epochs=warm), Phase("learn", self.loss, epochs=epochs - warm)]
        # Images that were trained on with their true label would show the network's mistakes too small.
        unchecked = {"train": Draw(samples=lambda: self.noisy_rows)}
        return [
            Phase("warm up", self.plain_loss, epochs=warm, draws=unchecked),
            Phase("learn", self.loss, epochs=epochs - warm, revise=self.estimate_layer, revise_every=0),
        ]

    def plain_loss(self, batch: Batch, moment: Moment) -> Losses:
        """All labels as they stand: the layer is the identity."""
        log_probs = F.log_softmax(self.classifier(batch.images), dim=1)
        losses = F.nll_loss(log_probs, batch.noisy_labels, reduction="none")
        return self._weighted(batch, clean=losses, noisy=losses)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Checked labels as they stand, the others through the layer; and the penalty of a layer that is learned."""
        labels, num_noisy = batch.noisy_labels, len(self.noisy_rows)
        log_probs = F.log_softmax(self.classifier(batch.images), dim=1)
        if self.direction == "top-down":
            noisy = top_down_losses(log_probs, labels, reversed_channel(self.Q, self.prior))
        else:
            noisy = forward_losses(log_probs, labels, self.T)
        terms = self._weighted(batch, clean=F.nll_loss(log_probs, labels, reduction="none"), noisy=noisy)
        if self.layer == "learned" and self.alpha:
            size = self.Q.trace() if self.penalty == "trace" else self.Q.square().sum()
            # As heavy as the noisy labels are: the layer learns from them alone, whatever gamma is.
            share = self.gamma * num_noisy / (self.num_clean + self.gamma * num_noisy)
            terms["penalty"] = share * self.alpha * size / len(self.Q)
        return terms

    def _weighted(self, batch: Batch, *, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        checked = self.checked[batch.indices]
        weights = sample_weights(checked, self.gamma, self.num_clean, len(self.noisy_rows))
        terms = {"noisy": (weights * ~checked * noisy).mean()}
        return {"clean": (weights * checked * clean).mean(), **terms} if self.num_clean else terms

    def after_step(self, moment: Moment) -> None:
        """Brings Q back among the stochastic matrices."""
        if self.layer == "learned" and self.parametrisation == "projected":
            with torch.no_grad():
                self.layer_weights.copy_(nearest_stochastic(self.layer_weights, self.floor))

    @torch.no_grad()
    def estimate_layer(self, survey: Survey) -> None:
        """Q from predictions of images with checked and with other labels, and the classes' shares for the reversal.

        Predictions are counted as decided: under the noise that it learns from, the network's probabilities are as
        mixed as the labels, and their table close to singular.
        """
        classes, labels = self.problem.num_classes, self.problem.noisy_labels
        predicted = survey.probs.argmax(axis=1)

        def table(rows: np.ndarray) -> np.ndarray:
            cells = np.bincount(labels[rows] * classes + predicted[rows], minlength=classes**2)
            return cells.reshape(classes, classes).astype(np.float64)

        labelled = np.flatnonzero(labels >= 0)
        noisy = table(np.setdiff1d(labelled, self.problem.verified, assume_unique=True))
        clean = table(np.intersect1d(labelled, self.problem.verified, assume_unique=True))
        if not clean.any():
            clean = np.diag(noisy.sum(axis=0))
        # With a share of zero a class would lose all its labels to others, and never be learnt.
        absent = ~clean.any(axis=1)
        clean[absent] = noisy[absent] * (clean.sum() / max(1.0, noisy[~absent].sum()))
        transition = transition_matrix_of_joints(clean, noisy, ridge=classes / float(clean.sum()))
        Q = nearest_stochastic(torch.from_numpy(transition.T), self.floor)
        self.layer_weights.copy_(self._weights_of(Q))
        self.prior.copy_(torch.from_numpy(clean.sum(axis=1) / clean.sum()))

    def _weights_of(self, Q: Tensor) -> Tensor:
        return Q if self.parametrisation == "projected" else Q.log()

    def parameter_groups(self, parameters: Sequence[Parameter]) -> list[dict]:
        """The layer at its own rate; ordinary weight decay would be a second penalty, on another scale."""
        network = [p for p in parameters if p is not self.layer_weights]
        layer = [p for p in parameters if p is self.layer_weights]
        return [{"params": network}, {"params": layer, "lr_scale": self.layer_rate, "weight_decay": 0.0}]

    @torch.no_grad()
    def beliefs(self, survey: Survey) -> Beliefs | None:
        """The posterior of the true class under the layer; without one the trainer's own judgement."""
        if self.layer == "none":
            return None
        return Beliefs.under_channel(torch.from_numpy(survey.probs), self.problem.noisy_labels, self.T.cpu())

    @torch.no_grad()
    def log_values(self) -> dict[str, float]:
        """How much of the labels the layer keeps, in how many classes it does not, and whether that is an alarm."""
        if self.layer == "none":
            return {}
        Q = self.Q.cpu()
        kept, classes = Q.diagonal().mean().item(), len(Q)
        lost = int((Q.argmax(dim=0) != torch.arange(classes)).sum())
        return {
            "labels_believed_right": kept,
            "columns_off_diagonal": float(lost),
            "alarm": float(lost > 0 or (classes > 2 and kept < 1.5 / classes)),
        }
