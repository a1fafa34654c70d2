"""Quality embedding: the given label is made by a latent true class AND a latent quality that says how far to trust it.

Yao et al., IEEE TIP 28(4), 2019, arXiv:1711.00583: a contrastive layer infers the quality, an additive layer the class
(CAN). No code is public; what the two layers compute is our reading, hence CAN-style. With x an image, y its given
label, z the true class and s a Gaussian quality, an image costs

    -E[log P(y | z, s)] + w KL(q(s | x, y) || N(0, I)) + KL(q(z | x, y) || p(z | x)),

which at w = 1 is at least -log P(y | x). p is the classifier, all that is kept. The decoder is a gate,

    P(y = j | z = i, s) = g(s) 1(i = j) + (1 - g(s)) R[i, j],

so that quality scales the trust g in the label and can carry nothing else: a free decoder lets z and the classifier
disagree about what the classes are called. The expectation over z is summed exactly, in O(batch x classes).

Where an image may have several classes, each is a true state, absent or present, with a channel R[k] of 2 x 2; the
quality is the image's. What has one row an image below, (batch, states), then has (batch, classes, 2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import Parameter

from winnow.data.source import without_label
from winnow.functional.task import over_known_cells
from winnow.methods.base import Batch, Beliefs, Losses, Method, Moment, Phase, Problem, cosine_in_phase, warmup_length
from winnow.methods.ranges import at_least, finite_at_least, one_of
from winnow.noise.estimate import confident_transition_matrix
from winnow.survey import Survey

_WIDEST = 1024
"""Of the quality and its contrastive layer; a wider one would say no more, and cost memory."""
_FLOOR = 1e-8


def quality_divergence(
    mean: Float[Tensor, "batch quality"], log_variance: Float[Tensor, "batch quality"]
) -> Float[Tensor, " batch"]:
    """KL(N(mean, variance) || N(0, I)) of each image, in nats, summed over the dimensions."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def label_divergence(
    log_posterior: Float[Tensor, "*cells states"], log_prior: Float[Tensor, "*cells states"]
) -> Float[Tensor, "*cells"]:
    """KL(q || p) over the true classes, in nats. With q held fixed its gradient to the classifier's logits is p - q."""
    return (log_posterior.exp() * (log_posterior - log_prior)).sum(dim=-1)


def label_likelihood(
    trust: Float[Tensor, " batch"],
    given: Float[Tensor, "batch *classes states"],
    mistaken: Float[Tensor, "batch *classes states"],
) -> Float[Tensor, "batch *classes states"]:
    """P(y | z, s) of the given label for every true class z: the gate decoder.

    Args:
        trust: g(s), in [0, 1].
        given: 1 at the given label, else 0.
        mistaken: R[z, y] for every z.
    """
    trust = trust.reshape(-1, *(1,) * (given.dim() - 1))
    return trust * given + (1 - trust) * mistaken


def reconstruction_losses(
    log_posterior: Float[Tensor, "*cells states"], likelihood: Float[Tensor, "*cells states"]
) -> Float[Tensor, "*cells"]:
    """-sum_z q(z) log P(y | z, s), in nats."""
    return -(log_posterior.exp() * likelihood.clamp_min(_FLOOR).log()).sum(dim=-1)


def additive_posterior(
    log_prior: Float[Tensor, "*cells states"], evidence: Float[Tensor, "*cells states"]
) -> Float[Tensor, "*cells states"]:
    """log q(z | x, y): the additive layer adds what the label says of every true class to the classifier's log p.

    With evidence log T[z, y] this is Bayes' rule under the channel T.
    """
    return F.log_softmax(log_prior + evidence, dim=-1)


def contrast(
    predicted: Float[Tensor, "batch embedding"], given: Float[Tensor, "batch embedding"]
) -> Float[Tensor, "batch both"]:
    """The contrastive layer: difference and product of the embedded label and the embedded prediction, side by side."""
    return torch.cat([given - predicted, given * predicted], dim=1)


def sampled_quality(
    mean: Float[Tensor, "batch quality"],
    log_variance: Float[Tensor, "batch quality"],
    noise: Float[Tensor, "batch quality"],
) -> Float[Tensor, "batch quality"]:
    """s = mean + deviation * noise: a draw that mean and variance have a gradient through."""
    return mean + (0.5 * log_variance).exp() * noise


def channel_columns(
    channel: Float[Tensor, "*classes states states"], labels: Int[Tensor, "batch *classes"]
) -> Float[Tensor, "batch *classes states"]:
    """channel[z, y] for every true class z, y the given label; of each class's own channel where there are several."""
    if channel.dim() == 2:
        return channel.mT[labels]
    return channel.mT[torch.arange(len(channel), device=labels.device), labels]


def gate_and_mistakes(
    transition_matrix: Float[Tensor, "*classes states states"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "*classes states states"]]:
    """(g, R) with g I + (1 - g) R = T: most of what every class keeps is trust, so that each entry of R can be learnt.

    Exact where no class keeps less than 6 % of its labels.
    """
    kept = transition_matrix.diagonal(dim1=-2, dim2=-1)
    trust = (0.9 * kept.min()).clamp(0.05, 0.95)
    identity = torch.eye(transition_matrix.shape[-1]).to(transition_matrix)
    mistakes = ((transition_matrix - trust * identity) / (1 - trust)).clamp_min(0)
    return trust, mistakes / mistakes.sum(dim=-1, keepdim=True)


class QualityEmbedding(Method):
    """Quality embedding, CAN-style.

    After a warm-up of cross-entropy the transition matrix is counted, and gate and R start where they express it. Then
    classifier, encoder and decoder are trained together; q is held fixed for the classifier.

    `additive` says what the given label adds to log p. `scalar`, as the paper describes it, boosts the given label by
    one learnt number. That can explain a wrong label only as any mistake: under permutation noise 0.45 on 8,000 images
    of MNIST it reached 71 %, no more than cross-entropy, even when gate and R started at the estimate. `matrix` adds
    log(g(0) I + (1 - g(0)) R), the decoder's own channel: the exact posterior for an image of average quality, with
    which the classifier's gradient is that of forward correction. It reached 96 to 97 % there, two seeds. What else was
    found on the way, one to four seeds each, 5,000 test images:

    - Started at the true matrix, nothing drifts: 96 %, whether R and gate are learnt or not (the channel at the image's
      own trust, in runs where that hardly varied).
    - A matrix of its own in the additive layer, learnt from the same start, ended at 96.5 % with one seed and 86.5 %
      with another. The channel at the image's own trust confirmed its first guesses: 85 to 87 %.
    - All depends on the estimate. After 3 epochs, or at a learning rate that has not come down, the classifier calls
      classes by each other's names, and from such a matrix training ended at 54 to 75 %. So the warm-up is 5 epochs
      with a schedule of its own. With a fifth of the images counted and a strong pull towards symmetric noise it was 70
      to 77 %. So half of them are counted, with little pull.
    - The gate must see the contrast early: from embeddings of small variance the quality died out (a divergence of
      0.003 nats), from standard normal ones it tells labels apart (1.3 nats), worth 2 points at symmetric noise 0.5.

    `labels.parquet` gets the columns `trust`, g at the mean quality, low where the label is thought wrong, and
    `quality_1`, `quality_2` and so on, the mean quality.

    Args:
        problem: what to learn.
        additive: `matrix` or `scalar`.
        quality_dim: of s, 1 to 1,024.
        embedding_dim: of the contrastive layer, 1 to 1,024.
        quality_weight: w above, reached as many epochs after the warm-up as that had; at 1 quality may be ignored.
        warmup_epochs: of cross-entropy, at least 1; no more than half of the run is spent on it.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "quality-embedding"
    title = "latent class and label quality"
    paper = "Yao et al. 2019, arXiv:1711.00583"
    remedy = "tolerant"
    cost = 1.1
    multilabel = True
    strongest: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        additive: str = "matrix",
        quality_dim: int = 4,
        embedding_dim: int = 16,
        quality_weight: float = 0.05,
        warmup_epochs: int = 5,
    ):
        super().__init__(problem)
        one_of(("matrix", "scalar"), additive=additive)
        for option, value in (("quality_dim", quality_dim), ("embedding_dim", embedding_dim)):
            if not 1 <= value <= _WIDEST:
                raise ValueError(f"{option} must lie in 1 to {_WIDEST:,}, got {value}")
        finite_at_least(0, quality_weight=quality_weight)
        at_least(1, warmup_epochs=warmup_epochs)
        self.quality_weight = quality_weight
        self.warmup_epochs = warmup_epochs
        classes = problem.num_classes
        self.several = problem.noisy_labels.ndim == 2
        channel = (classes, 2, 2) if self.several else (classes, classes)
        self.embedding = problem.layer(_embedding, classes, embedding_dim, purpose="embedding")
        self.to_quality = problem.layer(nn.Linear, 2 * embedding_dim, 2 * quality_dim, purpose="quality")
        self.gate = nn.Linear(quality_dim, 1)
        nn.init.zeros_(self.gate.weight)  # every image starts with the same trust: a plain noise layer
        nn.init.zeros_(self.gate.bias)
        self.mistakes = Parameter(torch.zeros(channel))  # logits of R
        self.strength = Parameter(torch.tensor(math.log(math.e - 1))) if additive == "scalar" else None  # softplus: 1
        self.register_buffer("strongest", torch.tensor(1.0))

    def plan(self, epochs: int) -> list[Phase]:
        """Cross-entropy to a rate of zero, the noise measured once, then the bound."""
        # An untrained network would measure nothing, so of a single epoch the warm-up is what there is.
        warm = warmup_length(epochs, min(self.warmup_epochs, epochs // 2))
        return [
            Phase("warm up", self.supervised_loss, epochs=warm, schedule=cosine_in_phase),
            Phase(
                "embed quality",
                self.loss,
                epochs=epochs - warm,
                revise=self.measure_noise,
                revise_every=0,
                schedule=cosine_in_phase,
            ),
        ]

    def parameter_groups(self, parameters: Sequence[Parameter]) -> list[dict]:
        """No decay on encoder and decoder: it would pull the gate to 0.5 and R to uniform."""
        own = {id(parameter) for parameter in self.classifier.parameters()}
        return [
            {"params": [p for p in parameters if id(p) in own]},
            {"params": [p for p in parameters if id(p) not in own], "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def measure_noise(self, survey: Survey) -> None:
        """Starts gate and R at the transition matrix, and bounds the scalar strength by Bayes' value for its rate."""
        rows = self.problem.train_rows
        matrix = _counted(survey.probs[rows], self.problem.noisy_labels[rows]).to(self.mistakes)
        trust, mistakes = gate_and_mistakes(matrix)
        self.gate.bias.copy_(torch.logit(trust))
        self.mistakes.copy_(mistakes.clamp_min(1e-6).log())
        kept = matrix.diagonal(dim1=-2, dim2=-1).mean().clamp(0.01, 0.99)
        others = max(1, matrix.shape[-1] - 1)
        self.strongest.copy_((kept * others / (1 - kept)).log().clamp_min(0))

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """The bound's three terms; the weight of the quality's grows from 0."""
        logits = self.classifier(batch.images)
        warmed_up = max(1, moment.epoch - moment.phase_epoch)
        weight = self.quality_weight * min(1.0, moment.phase_epoch / warmed_up)
        # Outside autocast: probabilities and divergences in 8 bits of mantissa would drown the small entries.
        with torch.autocast(logits.device.type, enabled=False):
            return self.bound(logits, batch.noisy_labels, weight)

    def bound(
        self, logits: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch *classes"], quality_weight: float
    ) -> Losses:
        """The three terms, means over the batch, with one draw of the quality."""
        mean, log_variance = self.inferred_quality(self.problem.task.probabilities(logits.detach()), labels)
        # Drawn on the processor, so that every device sees the same.
        quality = sampled_quality(mean, log_variance, torch.randn(mean.shape).to(mean))
        given, mistaken = self.label_columns(labels)
        log_prior = self.log_prior(logits)
        log_posterior = self.log_posterior(log_prior.detach(), given, mistaken)
        likelihood = label_likelihood(self.trust(quality), given, mistaken)
        return {
            "reconstruction": self.over_labels(reconstruction_losses(log_posterior, likelihood), labels),
            "quality": quality_weight * quality_divergence(mean, log_variance).mean(),
            "label": self.over_labels(label_divergence(log_posterior, log_prior), labels),
        }

    def inferred_quality(self, probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(s | x, y), (batch, quality_dim) each; unknown cells contrast with nothing."""
        if self.several:
            given = torch.where(labels >= 0, labels.to(probs), probs)
        else:
            given = F.one_hot(labels, probs.shape[1]).to(probs)
        seen = contrast(self.embedding(probs), self.embedding(given))
        mean, log_variance = self.to_quality(seen).chunk(2, dim=1)
        return mean, log_variance.clamp(-6, 2)

    def trust(self, quality: Float[Tensor, "batch quality"]) -> Float[Tensor, " batch"]:
        """g(s)."""
        return self.gate(quality)[:, 0].sigmoid()

    def label_columns(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(1 at the given label, R[z, y] for every true class z); what stands at unknown cells means nothing."""
        known = labels.clamp_min(0).long()
        mistaken = channel_columns(self.mistakes.softmax(dim=-1), known)
        return F.one_hot(known, mistaken.shape[-1]).to(mistaken), mistaken

    def log_prior(self, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch *classes states"]:
        """log p(z | x); of several classes' states absent and present."""
        if self.several:
            return F.logsigmoid(torch.stack([-logits, logits], dim=-1))
        return F.log_softmax(logits, dim=1)

    def log_posterior(self, log_prior: Tensor, given: Tensor, mistaken: Tensor) -> Tensor:
        """log q(z | x, y) by the additive layer.

        The channel carries no gradient: q is then the exact posterior for an image of average quality, where the bound
        has no slope in q.
        """
        if self.strength is not None:
            return additive_posterior(log_prior, F.softplus(self.strength).minimum(self.strongest) * given)
        with torch.no_grad():
            average = self.gate.bias.sigmoid().expand(len(given))
            return additive_posterior(log_prior, label_likelihood(average, given, mistaken).clamp_min(_FLOOR).log())

    def over_labels(self, losses: Float[Tensor, "batch *classes"], labels: Tensor) -> Float[Tensor, ""]:
        """Mean over the images, of several classes' sums over the known ones."""
        return over_known_cells(losses, labels) if self.several else losses.mean()

    @torch.no_grad()
    def beliefs(self, survey: Survey) -> Beliefs:
        """q(z | x, y) under the last view; where no label is known, p(z | x)."""
        probs, labels = self._on_device(survey)
        log_prior = probs.clamp_min(_FLOOR).log()
        if self.several:
            log_prior = torch.stack([(1 - probs).clamp_min(_FLOOR).log(), log_prior], dim=-1)
        posterior = self.log_posterior(log_prior, *self.label_columns(labels)).exp()
        posterior = torch.where((labels >= 0)[..., None], posterior, log_prior.exp())
        probability, suggested = posterior.max(dim=-1)
        quality = posterior.gather(-1, labels.clamp_min(0).long()[..., None])[..., 0]
        return Beliefs(
            label_quality=quality.cpu().numpy(),
            suggested_label=suggested.cpu().numpy(),
            suggested_probability=probability.cpu().numpy(),
        )

    @torch.no_grad()
    def columns(self, survey: Survey) -> Mapping[str, Float[np.ndarray, " n"]]:
        """Trust at the mean quality, and the mean quality itself."""
        probs, labels = self._on_device(survey)
        mean, _ = self.inferred_quality(probs, labels if self.several else labels.clamp_min(0))
        unlabelled = without_label(self.problem.noisy_labels)
        found = {"trust": self.trust(mean)} | {f"quality_{j + 1}": column for j, column in enumerate(mean.unbind(1))}
        return {name: np.where(unlabelled, np.nan, values.cpu().numpy()) for name, values in found.items()}

    def log_values(self) -> dict[str, float]:
        """Average trust, and the share of labels that the decoder believes right."""
        trust = self.gate.bias.detach().sigmoid()
        kept = self.mistakes.detach().softmax(dim=-1).diagonal(dim1=-2, dim2=-1).mean()
        return {"trust": trust.item(), "labels_believed_right": (trust + (1 - trust) * kept).item()}

    def _on_device(self, survey: Survey) -> tuple[Tensor, Tensor]:
        device = self.mistakes.device
        return torch.from_numpy(survey.probs).to(device), torch.from_numpy(self.problem.noisy_labels.copy()).to(device)


def _embedding(classes: int, width: int) -> nn.Linear:
    """A vector for each class, standard normal; of a distribution their mean, of several classes their sum."""
    layer = nn.Linear(classes, width, bias=False)
    nn.init.normal_(layer.weight)
    return layer


def _counted(probs: np.ndarray, labels: np.ndarray) -> Tensor:
    """The transition matrix after the warm-up; where an image may have several classes, one of 2 x 2 for each."""

    def counted(beliefs: np.ndarray, given: np.ndarray) -> np.ndarray:
        # The warm-up has not memorised labels yet: the less confident half is left out, and the counts are trusted.
        return confident_transition_matrix(beliefs, given, share=0.5, pseudo_counts=10.0)

    if labels.ndim == 1:
        return torch.from_numpy(counted(probs, labels))
    known = labels >= 0
    states = np.stack([1 - probs, probs], axis=-1)
    each = [counted(states[known[:, k], k], labels[known[:, k], k].astype(np.int64)) for k in range(labels.shape[1])]
    return torch.from_numpy(np.stack(each))
