"""Bootstrapping: the target is a blend of the given label and the network's own prediction.

Reed et al. 2014, arXiv:1412.6596. `beta` is the weight of the GIVEN label throughout. The paper's L_soft and L_hard are
printed without the leading minus; these carry it.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from winnow.functional.task import over_known_cells
from winnow.methods.base import Batch, Losses, Method, Moment, Phase, Problem, cosine_in_phase, warmup_length
from winnow.methods.ranges import at_least, finite_at_least, in_interval
from winnow.survey import Survey


def soft_bootstrap_loss(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    beta: float,
) -> Float[Tensor, ""]:
    """Cross-entropy against beta * label + (1 - beta) * prediction: beta CE + (1 - beta) entropy.

    Args:
        logits: scores before the softmax.
        targets: class indices as annotated, or distributions.
        beta: share of the target taken from the label, in [0, 1].

    Returns:
        Mean loss over the batch, in nats.
    """
    log_probs = F.log_softmax(logits, dim=1)
    # No detach: with frozen targets this is cross-entropy times beta, robust to nothing.
    blend = beta * _distribution(targets, log_probs) + (1 - beta) * log_probs.exp()
    return -(blend * log_probs).sum(dim=1).mean()


def hard_bootstrap_loss(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    beta: float,
) -> Float[Tensor, ""]:
    """Cross-entropy against beta * label + (1 - beta) * most probable class (ties: the lowest index).

    Args:
        logits: scores before the softmax.
        targets: class indices as annotated, or distributions.
        beta: share of the target taken from the label, in [0, 1].

    Returns:
        Mean loss over the batch, in nats.
    """
    log_probs = F.log_softmax(logits, dim=1)
    decided = _distribution(log_probs.argmax(dim=1), log_probs)
    blend = beta * _distribution(targets, log_probs) + (1 - beta) * decided
    return -(blend * log_probs).sum(dim=1).mean()


def sharp_bootstrap_loss(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    beta: float,
    sharpness: float,
    *,
    detach: bool = True,
) -> Float[Tensor, ""]:
    """The family between soft (sharpness 1) and hard (infinite): the prediction's logits are multiplied by `sharpness`.

    Args:
        logits: scores before the softmax.
        targets: class indices as annotated, or distributions.
        beta: share of the target taken from the label, in [0, 1].
        sharpness: the paper's T, an inverse temperature, at least 1.
        detach: hold the sharpened prediction fixed, so that it is a target and no entropy term.

    Returns:
        Mean loss over the batch, in nats.
    """
    log_probs = F.log_softmax(logits, dim=1)
    sharpened = F.softmax(sharpness * (logits.detach() if detach else logits), dim=1)
    blend = beta * _distribution(targets, log_probs) + (1 - beta) * sharpened
    return -(blend * log_probs).sum(dim=1).mean()


def multibox_bootstrap_loss(
    logits: Float[Tensor, "*batch"],
    targets: Float[Tensor, "*batch"],
    beta: float,
    *,
    hard: bool,
    weights: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The paper's MultiBox-hard and -soft for independent sigmoid confidences.

    Args:
        logits: before the sigmoid, any shape.
        targets: in [0, 1], the same shape.
        beta: share of the target taken from the annotation, in [0, 1].
        hard: blend with 1(confidence > 0.5) instead of the confidence itself. The soft target keeps its gradient: held
            fixed, the loss would be a rescaled cross-entropy.
        weights: multiplied in before the reduction; broadcast against `logits`.
        reduction: `none`, `mean` or `sum`.

    Returns:
        The loss in nats, of the shape that `reduction` says.

    Raises:
        ValueError: an unknown reduction.
    """
    own = (logits > 0).to(logits.dtype) if hard else torch.sigmoid(logits)
    blend = beta * targets + (1 - beta) * own
    # softplus(l) - blend * l is binary cross-entropy on logits; torch's own takes no target that wants a gradient.
    loss = F.softplus(logits) - blend * logits
    if weights is not None:
        loss = loss * weights
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean()
    raise ValueError(f"reduction must be none, mean or sum, got {reduction!r}")


def reconstruction_loss(
    features: Float[Tensor, "batch features"], reconstructed: Float[Tensor, "batch features"]
) -> Float[Tensor, ""]:
    """Squared distance between features and what the class posterior alone predicts of them, mean over the batch."""
    return (features - reconstructed).square().sum(dim=1).mean()


def _distribution(targets: Tensor, like: Tensor) -> Tensor:
    return F.one_hot(targets, like.shape[1]).to(like.dtype) if targets.dim() == 1 else targets


class _Bootstrap(Method):
    """What the three blends share: `beta` and a warm-up on the given labels.

    Raises:
        ValueError: an option lies outside its range.
    """

    paper = "Reed et al. 2014, arXiv:1412.6596"

    def __init__(self, problem: Problem, *, beta: float, warmup_epochs: int):
        super().__init__(problem)
        in_interval("[0, 1]", beta=beta)
        at_least(0, warmup_epochs=warmup_epochs)
        self.beta = beta
        self.warmup_epochs = warmup_epochs

    def multilabel_loss(self, batch: Batch, *, hard: bool) -> Losses:
        """MultiBox-soft or -hard over the known cells, where an image may have several classes."""
        logits, labels = self.classifier(batch.images), batch.noisy_labels
        losses = multibox_bootstrap_loss(
            logits, labels.clamp_min(0).to(logits.dtype), self.beta, hard=hard, reduction="none"
        )
        return {"bootstrap": over_known_cells(losses, labels)}

    def plan(self, epochs: int) -> list[Phase]:
        """Warm up on the given labels, then bootstrap."""
        warm = min(self.warmup_epochs, epochs)
        phases = [Phase("warm up", self.supervised_loss, epochs=warm)] if warm else []
        return [*phases, Phase("bootstrap", self.loss, epochs=epochs - warm)]


class BootstrapSoft(_Bootstrap):
    """Soft bootstrapping: cross-entropy plus minimum entropy. At `beta=1` it is plain cross-entropy.

    Args:
        problem: what to learn.
        beta: weight of the given label, in [0, 1].
        warmup_epochs: of plain cross-entropy at the start.
    """

    name = "bootstrap-soft"
    title = "targets mixed with predictions"
    multilabel = True

    def __init__(self, problem: Problem, *, beta: float = 0.95, warmup_epochs: int = 0):
        super().__init__(problem, beta=beta, warmup_epochs=warmup_epochs)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """The soft blend."""
        if batch.noisy_labels.dim() == 2:
            return self.multilabel_loss(batch, hard=False)
        return {"bootstrap": soft_bootstrap_loss(self.classifier(batch.images), batch.noisy_labels, self.beta)}


class BootstrapHard(_Bootstrap):
    """Hard bootstrapping. At `beta=1` it is plain cross-entropy.

    From random weights a low `beta` can lock onto one class, hence an epoch of cross-entropy first.

    Args:
        problem: what to learn.
        beta: weight of the given label, in [0, 1].
        warmup_epochs: of plain cross-entropy at the start.
    """

    name = "bootstrap-hard"
    title = "targets mixed with decisions"
    multilabel = True

    def __init__(self, problem: Problem, *, beta: float = 0.8, warmup_epochs: int = 1):
        super().__init__(problem, beta=beta, warmup_epochs=warmup_epochs)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """The hard blend."""
        if batch.noisy_labels.dim() == 2:
            return self.multilabel_loss(batch, hard=True)
        return {"bootstrap": hard_bootstrap_loss(self.classifier(batch.images), batch.noisy_labels, self.beta)}


class BootstrapSharp(_Bootstrap):
    """The family between soft and hard, its sharpness given or chosen on noisy held-out labels.

    Args:
        problem: what to learn.
        beta: weight of the given label, in [0, 1].
        sharpness: the paper's T, at least 1; 0 = chosen before every epoch among 1, 2, 5, 10 and 20 as the one that
            best explains the held-out images' given labels (the training images' where none are held out).
        detach: hold the sharpened prediction fixed.
        warmup_epochs: of plain cross-entropy at the start.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "bootstrap-sharp"
    title = "between soft and hard"
    grid = (1.0, 2.0, 5.0, 10.0, 20.0)
    chosen_sharpness: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        beta: float = 0.8,
        sharpness: float = 5.0,
        detach: bool = True,
        warmup_epochs: int = 1,
    ):
        super().__init__(problem, beta=beta, warmup_epochs=warmup_epochs)
        if sharpness != 0 and not 1 <= sharpness < math.inf:
            raise ValueError(f"sharpness must be at least 1 and finite, or 0 to choose it, got {sharpness}")
        self.chooses = sharpness == 0
        self.detach = detach
        self.register_buffer("chosen_sharpness", torch.tensor(sharpness or 1.0))

    def plan(self, epochs: int) -> list[Phase]:
        """As the others; where the sharpness is chosen, the collection is surveyed before every epoch."""
        phases = super().plan(epochs)
        if not self.chooses:
            return phases
        last = phases[-1]
        return [*phases[:-1], Phase(last.name, self.loss, epochs=last.epochs, revise=self.choose_sharpness)]

    def choose_sharpness(self, survey: Survey) -> None:
        """Takes the sharpness under which the prediction best explains noisy labels that were not trained on.

        A label is explained by the sharpened prediction, or by a uniform mistake; the share of mistakes that fits
        best is found along with each sharpness. Without it the noise itself would always speak for the softest
        prediction.
        """
        rows = self.problem.held_out_rows if len(self.problem.held_out_rows) else self.problem.train_rows
        log_probs = torch.from_numpy(survey.probs[rows]).double().clamp_min(1e-12).log()
        labels = torch.from_numpy(self.problem.noisy_labels[rows])
        shares = torch.arange(0.05, 1.0, 0.05, dtype=torch.float64)[:, None]
        fits = []
        for sharpness in self.grid:
            given = (sharpness * log_probs).softmax(dim=1).gather(1, labels[:, None])[:, 0]
            likelihood = ((1 - shares) * given + shares / self.problem.num_classes).log().mean(dim=1)
            fits.append(likelihood.max().item())
        self.chosen_sharpness.fill_(self.grid[max(range(len(fits)), key=fits.__getitem__)])

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """The blend at the present sharpness."""
        logits = self.classifier(batch.images)
        sharpness = self.chosen_sharpness.item()
        return {"bootstrap": sharp_bootstrap_loss(logits, batch.noisy_labels, self.beta, sharpness, detach=self.detach)}

    def log_values(self) -> dict[str, float]:
        """The sharpness in use."""
        return {"sharpness": self.chosen_sharpness.item()}


class BootstrapReconstruction(Method):
    """Consistency through reconstruction: a latent clean class explains both the noisy label and the features.

    Cross-entropy comes first; then a noise head W2, started at c I, maps the class posterior q to the noisy label, W3
    maps q back to the features, and everything is trained together at a tenth of the rate. Predictions are q, never
    the noise head's.

    Args:
        problem: what to learn.
        reconstruction_weight: of the squared distance of the features to W3 q, at least 0.
        assumed_noise: sets the start c = log((K - 1)(1 - assumed) / assumed); with W2 = I the simplex could not even
            express a confident label.
        warmup_share: share of the epochs that is plain cross-entropy, in (0, 1).

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "bootstrap-reconstruction"
    title = "latent class, reconstruction"
    paper = "Reed et al. 2014, arXiv:1412.6596"
    assumes = "class-conditional"
    remedy = "tolerant"

    def __init__(
        self,
        problem: Problem,
        *,
        reconstruction_weight: float = 0.005,
        assumed_noise: float = 0.3,
        warmup_share: float = 0.5,
    ):
        super().__init__(problem)
        finite_at_least(0, reconstruction_weight=reconstruction_weight)
        in_interval("(0, 1)", assumed_noise=assumed_noise)
        in_interval("(0, 1)", warmup_share=warmup_share)
        self.reconstruction_weight = reconstruction_weight
        self.warmup_share = warmup_share
        classes = problem.num_classes
        start = math.log(max(1, classes - 1) * (1 - assumed_noise) / assumed_noise)
        self.noise_head = nn.Linear(classes, classes)
        with torch.no_grad():
            self.noise_head.weight.copy_(start * torch.eye(classes))
            self.noise_head.bias.zero_()
        without_bias = partial(nn.Linear, bias=False)
        features = self.classifier.num_features
        self.reconstruction = problem.layer(without_bias, classes, features, purpose="reconstruction")

    def plan(self, epochs: int) -> list[Phase]:
        """Cross-entropy, then the joint objective at a tenth of the rate."""
        warm = warmup_length(epochs, epochs * self.warmup_share)
        return [
            Phase("warm up", self.supervised_loss, epochs=warm, schedule=cosine_in_phase),
            Phase("reconstruct", self.loss, epochs=epochs - warm, schedule=_tenth),
        ]

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Noisy labels through the noise head, and the reconstruction of the features."""
        features = self.classifier.features(batch.images)
        posterior = self.classifier.head(features).float().softmax(dim=1)
        # Outside autocast: the simplex in 8 bits of mantissa would drown the small entries.
        with torch.autocast(features.device.type, enabled=False):
            noisy = self.noise_head(posterior)
            reconstructed = self.reconstruction(posterior)
        return {
            "noisy_labels": F.cross_entropy(noisy, batch.noisy_labels),
            "reconstruction": self.reconstruction_weight * reconstruction_loss(features.float(), reconstructed),
        }


def _tenth(run: float, phase: float) -> float:
    return 0.1 * cosine_in_phase(run, phase)
