"""CleanNet: does an image belong to its class? Asked of an embedding of the image and one of the class.

Lee, He, Zhang & Yang 2018, arXiv:1711.07131, with the authors' released code where the paper is silent. The class is
embedded from a few representatives of its images, their features pooled by attention; the cosine between image and
class, learnt from images that a person has checked, is the weight of the image in the classifier's loss.

The paper's person says of an image whether its given label is right. Here a checked image stands under its true class,
and nobody knows any more what it was given before. It is therefore an example of its class, and a counterexample of
another one: a class drawn from the classifier's own prediction without the true class, which, as the classifier learnt
from noisy labels, is its estimate of the wrong label that the image would have got.

The released decoder ends in tanh, which its target, log(1 + v), exceeds wherever v > 1.72; here it ends in a linear
layer. Its reference encoder runs once for every image of a batch, here once for every class. It draws unverified images
class by class, here they are drawn as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import Parameter

from winnow.data.randomness import permutation, stream_key
from winnow.errors import UsageError
from winnow.functional.kmeans import kmeans
from winnow.methods.base import (
    Batch,
    Beliefs,
    Draw,
    Losses,
    Method,
    Moment,
    Need,
    Phase,
    Problem,
    Turn,
    cosine_in_phase,
)
from winnow.methods.ranges import at_least, finite_at_least, in_interval, one_of
from winnow.survey import Survey

FEWEST_TO_TRANSFER = 20
"""Verified classes from which on others are judged by what these taught."""
_CLUSTERED = 10_000
"""Images of a class among which its representatives are looked for."""
FEWEST_VERIFIED = 10
"""Verified images a class below which a person is warned: a choice, not a measured bound."""
_ROWS = 4096
_SHORTEST = 1e-2
"""Embeddings shorter than this count as so long: the cosine's gradient grows without bound toward the zero vector."""
_AT_MEAN = 1e-5
"""Distance from the mean, in lengths of the mean, that may be a rounding error."""
_ENCODER_RATE, _ENCODER_DECAY = 0.5, 1e-4


def log_scaled(features: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
    """log(1 + v), the paper's input for rectified features v; odd, so that others have one too."""
    return features.sign() * features.abs().log1p()


def verification_losses(
    similarity: Float[Tensor, " batch"], is_right: Bool[Tensor, " batch"], margin: float, negative_weight: float
) -> Float[Tensor, " batch"]:
    """1 - s where image and class belong together, else negative_weight * max(0, s - margin).

    Args:
        similarity: s, cosine of image and class.
        is_right: whether they belong together.
        margin: the paper's rho.
        negative_weight: the paper's omega.
    """
    return torch.where(is_right, 1 - similarity, negative_weight * F.relu(similarity - margin))


def pseudo_losses(similarity: Float[Tensor, " batch"], margin: float) -> Float[Tensor, " batch"]:
    """`verification_losses` of images that nobody checked, taken to be right from s >= margin on.

    The others would be counterexamples that have the loss zero already.
    """
    return torch.where(similarity >= margin, 1 - similarity, 0.0)


def reconstruction_losses(
    features: Float[Tensor, "batch features"], decoded: Float[Tensor, "batch features"]
) -> Float[Tensor, " batch"]:
    """||v - v'||^2; from an error of twice the length of v (at least 2) on it grows linearly, as steeply as there.

    No decoder that learns is so far off. One whose rate is too high is, and its steps then grow no more.
    """
    squares = (features - decoded).square().sum(dim=1)
    far = 2 * features.norm(dim=1).clamp_min(1)
    linear = far * (2 * squares.clamp_min(far.square()).sqrt() - far)
    return torch.where(squares <= far.square(), squares, linear)


def relevance_weights(similarity: Float[Tensor, " batch"], weighting: str, margin: float) -> Float[Tensor, " batch"]:
    """`soft`: max(0, s); `hard`: 1 from s >= margin on, else 0."""
    return F.relu(similarity) if weighting == "soft" else (similarity >= margin).to(similarity)


def weighted_cross_entropy(
    logits: Float[Tensor, "batch classes"], noisy_labels: Int[Tensor, " batch"], weights: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Sum of weighted losses over the number of images, in nats: small weights make small steps."""
    return (weights * F.cross_entropy(logits, noisy_labels, reduction="none")).mean()


def drawn_mistakes(
    logits: Float[Tensor, "batch classes"], true_labels: Int[Tensor, " batch"], among: Bool[Tensor, " classes"]
) -> Int[Tensor, " batch"]:
    """For each image another class than its own, in proportion to its predicted probability.

    Drawn from torch's generator, which the trainer sets at every step.

    Args:
        logits: scores before the softmax.
        true_labels: the classes that are not drawn.
        among: the classes that may be drawn, at least two.
    """
    # Gumbel's maximum needs no probabilities, all of which may have vanished beside that of the true class. Drawn on
    # the processor, so that every device sees the same.
    noise = -torch.empty(logits.shape).exponential_().log().to(logits)
    scores = (logits + noise).masked_fill(~among, -math.inf)
    return scores.scatter(1, true_labels[:, None], -math.inf).argmax(dim=1)


class QueryEncoder(nn.Module):
    """Embeds images, and makes features of the embedding again.

    Args:
        num_features: D, of an image.
        width: W, of the embedding.
    """

    def __init__(self, num_features: int, width: int):
        super().__init__()
        self.encode = _tanh_layers(num_features, 2 * width, width)
        self.decode = nn.Sequential(_tanh_layers(width, 2 * width), nn.Linear(2 * width, num_features))

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch width"]:
        """The embedding."""
        return self.encode(features)


class ReferenceEncoder(nn.Module):
    """Embeds classes, each from its representatives in whatever order.

    Args:
        num_features: D, of a representative.
        width: W, of the embedding.
    """

    def __init__(self, num_features: int, width: int):
        super().__init__()
        self.embed = _tanh_layers(num_features, 4 * width, 2 * width)
        self.score = nn.Sequential(_tanh_layers(2 * width, 2 * width), nn.Linear(2 * width, 1, bias=False))
        self.pool = _tanh_layers(2 * width, width)

    def attention(self, embedded: Float[Tensor, "classes references hidden"]) -> Float[Tensor, "classes references"]:
        """Share of each representative in its class; they sum to one."""
        return self.score(embedded)[..., 0].softmax(dim=1)

    def forward(self, references: Float[Tensor, "classes references features"]) -> Float[Tensor, "classes width"]:
        """The embedding."""
        embedded = self.embed(references)
        return self.pool((self.attention(embedded)[..., None] * embedded).sum(dim=1))


class CleanNet(Method):
    """CleanNet: cross-entropy, each image weighted by its relevance to its class.

    The classifier warms up on the labels as they are. Then, as often as there are `rounds`: its features of all images
    are taken, each class gets representatives (k-means over all features that carry its label, verified or not), the
    two encoders learn from verified and other images, each image is judged, and the classifier goes on with the
    weights. Verified images have the weight 1. The encoders' steps come on top of the epochs.

    A class of which no image was verified is judged by what the encoders learnt of others, if 20 classes or more were
    verified. From few classes little is learnt of others: on MNIST with 5 of 10 classes verified, wrong labels of the
    rest were ranked better by the centroid (single runs, not recorded). Such classes are then judged by it, the cosine
    of the image with the mean of the class, both seen from the mean of all images, and the run warns. With
    `similarity=centroid` all classes are, which is the simplest rival. A class of fewer images than representatives
    repeats them. The run also warns of fewer than 10 verified images a class.

    An image at the mean of all, as identical ones are, has the similarity 0 to every centroid; nothing then tells right
    labels from wrong ones.

    With shifted views, the default, cross-entropy memorises little of the noise: on 6,000 images of MNIST with 40 %
    symmetric noise it reached 94.9 % with them, CleanNet on images as they are 91.6 % (relations `cleannet`).

    `labels.parquet` gets the column `relevance`, the weight. The label's quality is the similarity, laid on 0 to 1 so
    that the margin comes to 0.5: it ranks, and is no calibrated probability.

    Args:
        problem: what to learn.
        similarity: `learned`, or `centroid`.
        weighting: `soft`, the similarity, or `hard`, whether it reaches the margin.
        margin: the paper's rho, from which similarity on a label is held to be right, in [0, 1).
        negative_weight: the paper's omega, of counterexamples, at least 0.
        reconstruction_weight: the paper's beta, at least 0.
        pseudo_weight: the paper's gamma, of images that were not verified, at least 0.
        references: representatives of a class, at least 1.
        width: of the embeddings, at least 1; the layers before are two and four times as wide.
        encoder_steps: of each training of the encoders, at least 1; the paper takes 60,000.
        rounds: of encoders and classifier by turns, at least 1.
        warmup_epochs: of cross-entropy, at least 1, at most half of the run; features that have memorised the noise
            tell nothing.
        views: `plain` or `weak`.

    Raises:
        ValueError: an option lies outside its range.
    """

    name = "cleannet"
    title = "relevance to a class"
    paper = "Lee et al. 2018, arXiv:1711.07131"
    remedy = "cleansing"
    needs = frozenset({Need.VERIFIED})
    is_verified: Tensor
    exemplified: Tensor
    class_references: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        similarity: str = "learned",
        weighting: str = "soft",
        margin: float = 0.1,
        negative_weight: float = 5.0,
        reconstruction_weight: float = 0.1,
        pseudo_weight: float = 0.1,
        references: int = 32,
        width: int = 128,
        encoder_steps: int = 1000,
        rounds: int = 1,
        warmup_epochs: int = 3,
        views: str = "weak",
    ):
        super().__init__(problem)
        one_of(("learned", "centroid"), similarity=similarity)
        one_of(("soft", "hard"), weighting=weighting)
        in_interval("[0, 1)", margin=margin)
        finite_at_least(
            0,
            negative_weight=negative_weight,
            reconstruction_weight=reconstruction_weight,
            pseudo_weight=pseudo_weight,
        )
        at_least(
            1,
            references=references,
            width=width,
            encoder_steps=encoder_steps,
            rounds=rounds,
            warmup_epochs=warmup_epochs,
        )
        one_of(("plain", "weak"), views=views)
        self.learns = similarity == "learned"
        self.weighting = weighting
        self.margin = margin
        self.negative_weight = negative_weight
        self.reconstruction_weight = reconstruction_weight
        self.pseudo_weight = pseudo_weight
        self.encoder_steps = encoder_steps
        self.rounds = rounds
        self.warmup_epochs = warmup_epochs
        self.views = views
        self.verified_rows = np.intersect1d(problem.verified, problem.train_rows)
        exemplified = np.isin(np.arange(problem.num_classes), problem.noisy_labels[self.verified_rows])
        is_verified = np.isin(np.arange(problem.num_samples), problem.verified)
        self.transfers = int(exemplified.sum()) >= FEWEST_TO_TRANSFER
        self.register_buffer("exemplified", torch.from_numpy(exemplified), persistent=False)
        self.register_buffer("is_verified", torch.from_numpy(is_verified), persistent=False)
        # Until images are judged every label is believed.
        self.similarities = problem.rows("similarities", dtype="float32", fill=1.0)
        self.encoders = nn.ModuleDict()
        if self.learns:
            features = self.classifier.num_features
            for role, kind in (("query", QueryEncoder), ("reference", ReferenceEncoder)):
                self.encoders[role] = problem.layer(kind, features, width, purpose=f"{role} encoder")
            self.register_buffer("class_references", torch.zeros(problem.num_classes, references, features))

    def plan(self, epochs: int) -> list[Phase]:
        """The warm-up, then encoders and classifier by turns."""
        if self.learns and self.exemplified.sum() < 2:
            raise UsageError(
                f"--method {self.name} needs verified images of at least 2 classes to train on, "
                f"got {int(self.exemplified.sum())}: nothing would be a counterexample"
            )
        if self.learns:
            self._warn_of_few()
        warm = min(self.warmup_epochs, epochs // 2)
        classify = partial(Phase, draws={"train": Draw(views=(self.views,))}, schedule=cosine_in_phase)
        phases = [classify("warm up", self.supervised_loss, epochs=warm)]
        rest = epochs - warm
        for number in range(min(self.rounds, rest)):
            if self.learns:
                phases.append(self._verification())
            length = rest // self.rounds + (number < rest % self.rounds)
            phases.append(classify("classify", self.loss, epochs=length, revise=self.judge, revise_every=0))
        return phases

    def _warn_of_few(self) -> None:
        classes, images = int(self.exemplified.sum()), len(self.verified_rows)
        if images < FEWEST_VERIFIED * classes:
            self.warn(
                f"{self.name}: only {images} verified images of {classes} classes to learn from; verify "
                f"{FEWEST_VERIFIED} a class, or try --set similarity=centroid"
            )
        given = np.unique(self.problem.noisy_labels[self.problem.train_rows])
        others = len(given) - classes
        if others and not self.transfers:
            self.warn(
                f"{self.name}: {others} of {len(given)} classes have no verified images, and {classes} with some are "
                f"too few to learn from for others (from {FEWEST_TO_TRANSFER} on); they are judged by their centroid"
            )

    def _verification(self) -> Phase:
        unverified = np.setdiff1d(self.problem.train_rows, self.verified_rows)
        draws = {
            # It sees nothing and is as long as an epoch, so that tests come no more often than in the rest of the run.
            "train": Draw(views=()),
            "verified": Draw(samples=lambda: self.verified_rows, views=("features",), size=0.5),
            "unverified": Draw(samples=lambda: unverified, views=("features",), size=0.5),
        }
        turn = Turn(self.verification_loss, self.encoders.parameters, optimizer="encoders")
        return Phase(
            "verify",
            [turn],
            steps=self.encoder_steps,
            revise=self.represent,
            revise_every=0,
            draws=draws,
            schedule=cosine_in_phase,
        )

    def parameter_groups(self, parameters: Sequence[Parameter]) -> list[dict]:
        """The encoders' own rate, above the paper's 0.01 as their steps are fewer, and the paper's decay."""
        encoders = {id(parameter) for parameter in self.encoders.parameters()}
        return [
            {"params": [p for p in parameters if id(p) not in encoders]},
            {
                "params": [p for p in parameters if id(p) in encoders],
                "lr_scale": _ENCODER_RATE,
                "weight_decay": _ENCODER_DECAY,
            },
        ]

    # The encoders

    def represent(self, survey: Survey) -> None:
        """Gives each class its representatives; one without images keeps what it has, nothing asks for it."""
        count = self.class_references.shape[1]
        for k, rows in enumerate(self._rows_by_class()):
            if not len(rows):
                continue
            some = permutation(stream_key(self.problem.seed, "clustered"), rows)[:_CLUSTERED]
            features = log_scaled(torch.from_numpy(survey.features[some])).numpy()
            centroids = kmeans(features, count, seed=self.problem.seed).centroids
            whole = np.resize(centroids, (count, centroids.shape[1]))  # fewer are repeated in turn
            self.class_references[k] = torch.from_numpy(whole)

    def verification_loss(self, batch: Batch, moment: Moment) -> Losses:
        """The paper's sum over image-class pairs: a right and a wrong one of each verified image, and the unverified.

        Only the encoders learn.
        """
        verified, unverified = batch.streams["verified"], batch.streams["unverified"]
        true, seen = verified.noisy_labels, verified.images
        with torch.no_grad():
            wrong = drawn_mistakes(self.classifier.head(seen).float(), true, self.exemplified)
        features = log_scaled(torch.cat([seen, seen, unverified.images]))
        labels = torch.cat([true, wrong, unverified.noisy_labels])
        checked = 2 * len(true)
        is_right = torch.arange(checked, device=labels.device) < len(true)
        # Outside autocast: the margin is finer than 8 bits of mantissa tell apart.
        with torch.autocast(features.device.type, enabled=False):
            return self.pair_losses(features, labels, is_right)

    def pair_losses(
        self,
        features: Float[Tensor, "pairs features"],
        labels: Int[Tensor, " pairs"],
        is_right: Bool[Tensor, " checked"],
    ) -> Losses:
        """Means over all pairs of scaled features and a class, of which the first ones are checked."""
        encoder = self.encoders["query"]
        assert isinstance(encoder, QueryEncoder)
        queries = encoder(features)
        classes, places = labels.unique(return_inverse=True)
        similarity = self.similarity_to(queries, self.encoders["reference"](self.class_references[classes])[places])
        checked = len(is_right)
        verification = verification_losses(similarity[:checked], is_right, self.margin, self.negative_weight)
        reconstruction = reconstruction_losses(features, encoder.decode(queries))
        return {
            "verification": verification.sum() / len(labels),
            "reconstruction": self.reconstruction_weight * reconstruction.mean(),
            "pseudo": self.pseudo_weight * pseudo_losses(similarity[checked:], self.margin).sum() / len(labels),
        }

    @staticmethod
    def similarity_to(
        queries: Float[Tensor, "batch width"], classes: Float[Tensor, "batch width"], shortest: float = _SHORTEST
    ) -> Float[Tensor, " batch"]:
        """Cosine, in [-1, 1], of vectors at least so long; of shorter ones it goes to 0 with their length."""
        return F.cosine_similarity(queries, classes, dim=1, eps=shortest).clamp(-1, 1)

    # The classifier

    @torch.no_grad()
    def judge(self, survey: Survey) -> None:
        """Compares every labelled image with its class."""
        device = self.is_verified.device
        centroids, mean = self._centroids(survey)
        shortest = max(_AT_MEAN * mean.norm().item(), 1e-8)
        if self.learns:
            embedded = torch.cat([self.encoders["reference"](part) for part in self.class_references.split(64)])
        for part in torch.from_numpy(np.flatnonzero(self.problem.noisy_labels >= 0)).split(_ROWS):
            labels = torch.from_numpy(self.problem.noisy_labels[part.numpy()]).to(device)
            features = log_scaled(torch.from_numpy(survey.features[part.numpy()])).to(device)
            similarity = self.similarity_to(features - mean, centroids[labels] - mean, shortest)
            if self.learns:
                learned = self.similarity_to(self.encoders["query"](features), embedded[labels])
                similarity = torch.where(self.exemplified[labels] | self.transfers, learned, similarity)
            self.similarities.write(part, similarity)

    def _rows_by_class(self) -> list[np.ndarray]:
        """The training images of each class."""
        rows = self.problem.train_rows
        return [rows[self.problem.noisy_labels[rows] == k] for k in range(self.problem.num_classes)]

    def _centroids(self, survey: Survey) -> tuple[Float[Tensor, "classes features"], Float[Tensor, " features"]]:
        """(Mean of the scaled features of each class, that of all training images); empty classes stand at the mean."""
        groups = self._rows_by_class()
        sums = torch.stack([log_scaled(torch.from_numpy(survey.features[rows])).sum(dim=0) for rows in groups])
        counts = torch.tensor([len(rows) for rows in groups])[:, None]
        mean = sums.sum(dim=0) / counts.sum()
        centroids = torch.where(counts > 0, sums / counts.clamp_min(1), mean)
        return centroids.to(self.is_verified.device), mean.to(self.is_verified.device)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Cross-entropy, weighted by relevance."""
        logits = self.classifier(batch.images)
        return {"relevant": weighted_cross_entropy(logits, batch.noisy_labels, self.relevance(batch.indices))}

    def relevance(self, indices: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The weight of each image, in [0, 1]."""
        weights = relevance_weights(self.similarities.read(indices), self.weighting, self.margin)
        return torch.where(self.is_verified[indices], 1.0, weights)

    def beliefs(self, survey: Survey) -> Beliefs:
        """The label's quality from the similarity, the suggestion from the last view."""
        similarity, task = self.similarities.values, self.problem.task
        above, below = (similarity - self.margin) / (1 - self.margin), (similarity - self.margin) / (1 + self.margin)
        return Beliefs(
            label_quality=(1 + np.where(similarity >= self.margin, above, below)) / 2,
            suggested_label=task.decided(survey.probs),
            suggested_probability=task.certainty(survey.probs),
        )

    def columns(self, survey: Survey) -> Mapping[str, Float[np.ndarray, " n"]]:
        """The weight of every labelled image."""
        relevance = self._all_relevance()
        return {"relevance": np.where(self.problem.noisy_labels >= 0, relevance, np.nan)}

    def log_values(self) -> dict[str, float]:
        """Mean relevance of the training images, and the share of them whose similarity reaches the margin."""
        rows = self.problem.train_rows
        return {
            "mean_relevance": float(self._all_relevance()[rows].mean()),
            "held_to_be_right": float((self.similarities.values[rows] >= self.margin).mean()),
        }

    def _all_relevance(self) -> np.ndarray:
        return self.relevance(torch.arange(self.problem.num_samples, device=self.is_verified.device)).cpu().numpy()


def _tanh_layers(*widths: int) -> nn.Sequential:
    """Linear layers from width to width, tanh after each."""
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1]), nn.Tanh()]
    return nn.Sequential(*layers)
