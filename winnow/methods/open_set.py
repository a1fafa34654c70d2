"""Iterative learning with open-set noisy labels: images of no class are outliers among those that share their label.

Wang et al. 2018, arXiv:1804.00092, with the authors' released code where the paper is silent. A cumulative local
outlier factor detects them, a contrastive loss pushes them away from the others, their cross-entropy is scaled down.

Parts from the released code: pairs are those within a batch, on one shared forward, instead of listed ones on two;
there is one head instead of one for each branch; the optimiser's momentum goes on from round to round.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.functional.local_outliers import class_outlier_factors, outlier_probabilities
from winnow.methods.base import Batch, Beliefs, Draw, Losses, Method, Moment, Phase, Problem
from winnow.methods.ranges import at_least, finite_at_least, in_interval, one_of
from winnow.survey import Survey

LARGEST_FACTOR = 1e3
"""A local outlier factor counts no more than this: beside copies of one image another one has some 1e10."""
_NEAREST = 1e-7
"""Squared distance below which two features are one: the root's slope is infinite at 0."""


def squared_distances(features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch batch"]:
    """||a - b||^2 of every two samples, at least 0; where it is 0 so is its gradient."""
    squares = features.square().sum(dim=1)
    return (squares[:, None] + squares - 2 * features @ features.T).clamp_min(0)


def contrastive_losses(distances: Float[Tensor, "*pairs"], similar: bool, margin: float) -> Float[Tensor, "*pairs"]:
    """D^2 of similar pairs, max(0, margin - D)^2 of dissimilar ones.

    Args:
        distances: squared, D^2.
        similar: whether the pairs are to be pulled together.
        margin: the paper's mu: dissimilar pairs that far apart are left alone.
    """
    if similar:
        return distances
    return (margin - distances.clamp_min(_NEAREST).sqrt()).clamp_min(0).square()


def pairs(
    noisy_labels: Int[Tensor, " batch"], outliers: Bool[Tensor, " batch"]
) -> tuple[Bool[Tensor, "batch batch"], Bool[Tensor, "batch batch"], Bool[Tensor, "batch batch"]]:
    """The pairs of a batch, each once, above the diagonal: similar ones, and dissimilar ones of two kinds.

    Two outliers are no pair, nor are an outlier and a sample of another label.

    Args:
        noisy_labels: as annotated.
        outliers: which samples are detected.

    Returns:
        Inliers of one label; an inlier and an outlier of one label; inliers of different labels.
    """
    once = torch.ones(len(noisy_labels), len(noisy_labels), dtype=torch.bool, device=noisy_labels.device).triu(1)
    alike = noisy_labels[:, None] == noisy_labels
    inliers = ~outliers
    both_in = inliers[:, None] & inliers & once
    one_in = (inliers[:, None] ^ inliers) & once
    return both_in & alike, one_in & alike, both_in & ~alike


def contrastive_loss(
    features: Float[Tensor, "batch features"],
    noisy_labels: Int[Tensor, " batch"],
    outliers: Bool[Tensor, " batch"],
    margin: float,
) -> Float[Tensor, ""]:
    """Mean over the three kinds of `pairs`, each the mean over its pairs; a kind without pairs is left out.

    Kinds weigh the same, as in the released code, which lists as many of each. Without any pair it is 0.

    Args:
        features: embeddings, in float32 or better.
        noisy_labels: as annotated.
        outliers: which samples are detected.
        margin: see `contrastive_losses`.
    """
    distances = squared_distances(features)
    pulled = contrastive_losses(distances, similar=True, margin=margin)
    pushed = contrastive_losses(distances, similar=False, margin=margin)
    chosen = torch.stack(pairs(noisy_labels, outliers))
    counts = chosen.sum(dim=(1, 2))
    means = (torch.stack([pulled, pushed, pushed]) * chosen).sum(dim=(1, 2)) / counts.clamp_min(1)
    return means.sum() / (counts > 0).sum().clamp_min(1)


def weighted_cross_entropy(
    logits: Float[Tensor, "batch classes"], noisy_labels: Int[Tensor, " batch"], weights: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Sum of weight * cross-entropy over the batch's size, in nats: a batch of outliers teaches little."""
    return (weights * F.cross_entropy(logits, noisy_labels, reduction="none")).mean()


class OpenSet(Method):
    """Open-set iterative learning: detect images of no class, push their features away, learn little from them.

    After a warm-up on pairs of the given labels and cross-entropy, before every `every`-th epoch:

    1. Each image's local outlier factor (LOF) is taken among the features of the images that share its given label, by
       the cosine, and cumulated with those of the rounds before.
    2. The images of a class that score lowest, a share `outlier_quantile`, are its outliers: their cross-entropy is
       weighted by their score, that of all others by 1.
    3. Pairs of a batch are drawn together (inliers of one label) or apart (an inlier and an outlier of its label;
       inliers of different labels).

    The score is the mean of 1/LOF over the rounds. Nothing is relabelled: a wrong label of a known class is detected
    and weighted like an image of no class.

    `neighbour_share` must be at least the noise rate: outliers that lie together have each other as neighbours and look
    like inliers where these are few. A class of less than three images has no outliers; in one of less images than
    neighbours, all others are neighbours.

    The reweighting needs the contrastive loss: a network that need not fit the outliers no longer keeps them apart.
    The released code's rounds last ten epochs, after a warm-up of five and for 105 in all; in a short run the warm-up
    is at most half of it. Batches need several images of a label for pairs that are drawn together.

    With shifted views, the default, cross-entropy memorises little of the noise: on MNIST's digits 0 to 4, of which
    40 % were replaced by other digits, it reached 98.7 % with them, this method on images as they are 97.0 % (relations
    `outliers`).

    In `labels.parquet` `outlier_score` is 1 / (1 + score): 0.5 where the surroundings are as dense as those of the
    neighbours, toward 1 for outliers; under `score=erf` the probability itself. The column `weight` is that of the
    image's cross-entropy in the last epoch.

    Args:
        problem: what to learn.
        neighbour_share: of the images of a class, the number of neighbours, in (0, 1].
        outlier_quantile: share of each class that is taken for outliers, in [0, 1); 0 = none. The released code's half,
            for 40 % of noise, costs clean pairs where there is less.
        score: `reciprocal`, or `erf`: one minus the probability max(0, erf((LOF - mean) / (sqrt(2) std))), mean and
            spread over the class.
        contrastive_weight: of the pairs' mean loss, at least 0. The released code adds the cross-entropies of both
            samples to a pair's loss; beside their mean that is a half.
        margin: the paper's mu, how far apart dissimilar pairs are wanted, above 0.
        normalised: take the pairs' distances between features of length 1, at most 2 apart. The paper's are between
            features as they are, on whose scale, the network's, `margin` then depends.
        warmup_epochs: before the first detection, at least 1.
        every: epochs between two detections, at least 1.
        reference_size: a larger class is compared with a random sample of so many of its images, at least 3.
        views: `plain`, as in the released code, or `weak`.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "open-set"
    title = "outliers pushed away"
    paper = "Wang et al. 2018, arXiv:1804.00092"
    assumes = "open-set"
    remedy = "cleansing"
    cost = 1.1
    rounds: Tensor
    thresholds: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        neighbour_share: float = 0.4,
        outlier_quantile: float = 0.5,
        score: str = "reciprocal",
        contrastive_weight: float = 0.5,
        margin: float = 1.0,
        normalised: bool = True,
        warmup_epochs: int = 5,
        every: int = 5,
        reference_size: int = 2000,
        views: str = "weak",
    ):
        super().__init__(problem)
        in_interval("(0, 1]", neighbour_share=neighbour_share)
        in_interval("[0, 1)", outlier_quantile=outlier_quantile)
        one_of(("reciprocal", "erf"), score=score)
        finite_at_least(0, contrastive_weight=contrastive_weight)
        if not 0 < margin < math.inf:
            raise ValueError(f"margin must be above 0 and finite, got {margin}")
        at_least(1, warmup_epochs=warmup_epochs, every=every)
        at_least(3, reference_size=reference_size)
        one_of(("plain", "weak"), views=views)
        self.neighbour_share = neighbour_share
        self.outlier_quantile = outlier_quantile
        self.score = score
        self.contrastive_weight = contrastive_weight
        self.margin = margin
        self.normalised = normalised
        self.warmup_epochs = warmup_epochs
        self.every = every
        self.reference_size = reference_size
        self.views = views
        self.cumulated = problem.rows("cumulated-factors", dtype="float32")
        self.scores = problem.rows("inlier-scores", dtype="float32", fill=1.0)
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        # Scores below that of their class are outliers; at first there are none.
        self.register_buffer("thresholds", torch.zeros(problem.num_classes))

    def plan(self, epochs: int) -> list[Phase]:
        """Warm up without outliers, then detect them again and again."""
        warm = min(self.warmup_epochs, max(1, epochs // 2))
        learn = partial(Phase, turns=self.loss, draws={"train": Draw(views=(self.views,))})
        return [
            learn("warm up", epochs=warm),
            learn("iterate", epochs=epochs - warm, revise=self.detect, revise_every=self.every),
        ]

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Cross-entropy, weighted, and the pairs'; both on one forward."""
        features = self.classifier.features(batch.images)
        logits = self.classifier.head(features).float()
        outliers, weights = self.judged(batch.indices, batch.noisy_labels)
        # Outside autocast: squared distances in 8 bits of mantissa would be lost in their terms.
        with torch.autocast(features.device.type, enabled=False):
            embedded = F.normalize(features.float()) if self.normalised else features.float()
            contrastive = contrastive_loss(embedded, batch.noisy_labels, outliers, self.margin)
        return {
            "cross_entropy": weighted_cross_entropy(logits, batch.noisy_labels, weights),
            "contrastive": self.contrastive_weight * contrastive,
        }

    def detect(self, survey: Survey) -> None:
        """A round: cumulates the factors and decides anew which images are outliers."""
        self.rounds += 1
        self.cumulated.replace(self.cumulated.values + self.bounded(self.factors(survey)))
        scores = self.inlier_scores(self.cumulated.values / self.rounds.item()).astype(np.float32)
        self.scores.replace(scores)
        labels = self.problem.noisy_labels
        for label in np.unique(labels[labels >= 0]):
            # What equals the quantile is inside: identical images are no outliers.
            self.thresholds[label] = float(np.quantile(scores[labels == label], self.outlier_quantile))

    def factors(self, survey: Survey) -> Float[np.ndarray, " n"]:
        """The local outlier factor of each image in its given class; 1 without a label."""
        return class_outlier_factors(
            survey.features,
            self.problem.noisy_labels,
            share=self.neighbour_share,
            reference_size=self.reference_size,
            seed=self.problem.seed,
        )

    def bounded(self, factors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """What is cumulated of the factors: none of them outweighs all other rounds."""
        return 1 / factors if self.score == "reciprocal" else np.minimum(factors, LARGEST_FACTOR)

    def inlier_scores(self, mean: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """From the mean over the rounds: 1/LOF, about 1 for inliers; or one minus the probability, at most 1."""
        if self.score == "reciprocal":
            return mean
        scores = np.ones(len(mean))
        labels = self.problem.noisy_labels
        for label in np.unique(labels[labels >= 0]):
            members = labels == label
            scores[members] -= outlier_probabilities(mean[members].astype(np.float64))
        return scores

    def judged(
        self, indices: Int[Tensor, " batch"], noisy_labels: Int[Tensor, " batch"]
    ) -> tuple[Bool[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Which images are outliers, and the weight of each image's cross-entropy, in [0, 1]."""
        scores = self.scores.read(indices)
        outliers = scores < self.thresholds[noisy_labels]
        return outliers, torch.where(outliers, scores.clamp_max(1), 1.0)

    def beliefs(self, survey: Survey) -> Beliefs:
        """A label is right as far as the prediction and the score of the last round say so."""
        task, labels = self.problem.task, self.problem.noisy_labels
        scores = self.scores.values.astype(np.float64)
        given = task.given(torch.from_numpy(survey.probs), torch.from_numpy(labels)).numpy()
        outlier_score = 1 / (1 + scores) if self.score == "reciprocal" else 1 - scores
        return Beliefs(
            label_quality=given * np.minimum(scores, 1),
            suggested_label=task.decided(survey.probs),
            suggested_probability=task.certainty(survey.probs),
            outlier_score=np.where(labels >= 0, outlier_score, np.nan),
        )

    def columns(self, survey: Survey) -> dict[str, Float[np.ndarray, " n"]]:
        """The weight of each image's cross-entropy in the last epoch; unknown without a label."""
        labels = self.problem.noisy_labels
        _, weights = self.judged(*self._on_device(np.arange(len(labels)), labels.clip(0)))
        return {"weight": np.where(labels >= 0, weights.cpu().numpy(), np.nan)}

    def log_values(self) -> dict[str, float]:
        """Share of the training images that are outliers, and their mean weight (1 if there are none)."""
        rows = self.problem.train_rows
        outliers, weights = self.judged(*self._on_device(rows, self.problem.noisy_labels[rows]))
        mean = weights[outliers].mean().item() if outliers.any() else 1.0
        return {"outliers": outliers.float().mean().item(), "outlier_weight": mean}

    def _on_device(self, *arrays: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(array).to(self.thresholds.device) for array in arrays]
