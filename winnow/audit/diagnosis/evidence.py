"""What a diagnosis knows of a collection: features, given labels, out-of-fold opinions, and labels it may trust.

The one place where features and beliefs come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from winnow.data.randomness import permutation, stream_key, text_keys
from winnow.data.source import Source
from winnow.errors import InputError
from winnow.functional.neighbours import neighbours
from winnow.noise.features import DESCRIPTION, out_of_fold_probabilities, thumbnail_features
from winnow.noise.intervals import clopper_pearson
from winnow.noise.matrices import symmetric_matrix

FOLDS = 5
FEWEST = 50
_NEIGHBOURS = 10
_SUREST = 0.5
_CHECKED_ENOUGH = 30
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evidence:
    """A collection as the diagnostics see it: labelled images only.

    Attributes:
        features: of every image.
        labels: as given.
        class_names: in index order.
        fold: the part that each image is predicted in; copies are in one.
        groups: images of one group are copies; the bootstrap draws groups. Numbers from 0, none left out.
        predicted: class by a model that did not see the image, for what is asked of its predictions.
        believed: class that each image is believed to be of.
        trusted: where the belief is as good as the truth: what is counted there is label noise.
        surest: some of `trusted` where it is best; what is counted there cannot come from hard images.
        contradiction: how often the two opinions that must agree for trust contradict each other where the surest
            images are taken from; both may err as often at once.
        checked: whether `trusted` are images whose truth is known; then there is nothing to believe.
        description: of the features.
    """

    features: Float[np.ndarray, "n dim"]
    labels: Int[np.ndarray, " n"]
    class_names: tuple[str, ...]
    fold: Int[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    believed: Int[np.ndarray, " n"]
    trusted: Bool[np.ndarray, " n"]
    surest: Bool[np.ndarray, " n"]
    contradiction: float
    checked: bool
    description: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def transition_matrix(
        self, weights: Float[np.ndarray, " n"] | None = None, *, surest: bool = False
    ) -> Float[np.ndarray, "classes classes"]:
        """T, entry (i, j) = P(given j | true i), counted among the trusted images.

        One image a class is added, of symmetric noise with the rate of all: a class of few images borrows from the
        others. Where all trusted labels are right it is the identity.

        Args:
            weights: how often each image counts; by default once.
            surest: among the surest only.
        """
        counts = self._counts(self.surest if surest else self.trusted, weights)
        wrong = 1 - np.trace(counts) / counts.sum()
        counts += symmetric_matrix(self.num_classes, float(min(1.0, max(0.0, wrong))))
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    @cached_property
    def noise_rate(self) -> float:
        """Estimated share of wrong labels: among the trusted, weighted to all images by their believed class."""
        shares = np.bincount(self.believed, minlength=self.num_classes) / len(self)
        return float(1 - shares @ self.transition_matrix().diagonal())

    @cached_property
    def noise_rate_interval(self) -> tuple[float, float]:
        """Of 95 %: from what only the surest images show, less what may be errors of belief, to all trusted ones."""
        wrong = self.believed != self.labels
        low = clopper_pearson(int(wrong[self.surest].sum()), int(self.surest.sum()))[0]
        low = max(0.0, low - self.contradiction)
        high = clopper_pearson(int(wrong[self.trusted].sum()), int(self.trusted.sum()))[1]
        return min(low, self.noise_rate), max(high, self.noise_rate)

    @property
    def assumption(self) -> str:
        """What the estimates of noise rest on."""
        if self.checked:
            return f"counted on {int(self.trusted.sum()):,} images whose truth is known"
        return (
            "model-based: where a linear model and the nearest pictures agree on a class, a label that differs is wrong"
        )

    def bootstrap_weights(self, seed: int, number: int) -> Iterator[Float[np.ndarray, " n"]]:
        """How often each image counts in each of `number` resamples of the groups; the same for the same seed."""
        random = np.random.default_rng(stream_key(seed, "diagnose/bootstrap"))
        size = int(self.groups.max()) + 1
        for _ in range(number):
            drawn = np.bincount(random.integers(size, size=size), minlength=size)
            yield drawn[self.groups].astype(np.float64)

    def part(self, most: int, seed: int) -> Evidence:
        """A random part of at most `most` images, in order; itself if there are no more."""
        if len(self) <= most:
            return self
        rows = np.sort(permutation(stream_key(seed, "diagnose/part"), np.arange(len(self)))[:most])
        arrays = {
            item.name: value[rows] for item in fields(self) if isinstance(value := getattr(self, item.name), np.ndarray)
        }
        arrays["groups"] = np.unique(arrays["groups"], return_inverse=True)[1]
        return replace(self, **arrays)

    def _counts(self, chosen: Bool[np.ndarray, " n"], weights: np.ndarray | None) -> np.ndarray:
        cells = self.believed[chosen] * self.num_classes + self.labels[chosen]
        weights = None if weights is None else weights[chosen]
        counts = np.bincount(cells, weights=weights, minlength=self.num_classes**2)
        return counts.astype(np.float64).reshape(self.num_classes, self.num_classes)


def features_of(
    source: Source, progress: Callable[[int, int], None] | None = None
) -> tuple[Float[np.ndarray, "n dim"], str]:
    """Features of every image, and what they are.

    Raises:
        InputError: no image can be read.
    """
    return thumbnail_features(source, progress=progress), DESCRIPTION


def gathered(
    source: Source,
    *,
    groups: Int[np.ndarray, " n"] | None = None,
    count_truth: bool = False,
    progress: Progress | None = None,
) -> Evidence:
    """Everything that the diagnostics look at.

    Args:
        source: one label an image; images without one are left out.
        groups: of copies, which are never held out apart; -1 = alone.
        count_truth: count noise on the images whose truth the source knows, instead of estimating it.
        progress: hears of reading the images.

    Raises:
        InputError: fewer than 50 labelled images, or a single class, or several labels an image; the truth shall be
            counted and is known of fewer than 30 images.
    """
    if source.is_multilabel:
        raise InputError(f"{source.address}: its images may have several labels; a diagnosis needs one label an image")
    rows = np.flatnonzero(source.noisy_labels >= 0)
    labels = source.noisy_labels[rows]
    if len(rows) < FEWEST or len(np.unique(labels)) < 2:
        raise InputError(
            f"{source.address}: {len(rows):,} labelled images of {len(np.unique(labels))} classes; a diagnosis needs "
            f"{FEWEST} images and 2 classes at least"
        )
    every, description = features_of(
        source, None if progress is None else lambda done, total: progress("reading", done, total)
    )
    features = every[rows]
    alone = np.arange(len(source))
    copies = alone if groups is None else np.where(groups >= 0, groups, int(groups.max()) + 1 + alone)
    _, first, members = np.unique(copies[rows], return_index=True, return_inverse=True)
    # A copy has its fold by the name of the first of its group.
    names = [source.ids[rows[first[group]]] for group in members]
    fold = (text_keys(stream_key(0, "noise/folds"), names) % np.uint64(FOLDS)).astype(np.int64)
    probs = out_of_fold_probabilities(features, labels, names, source.num_classes, folds=FOLDS)
    predicted = probs.argmax(axis=1)
    truth = _checked(source, rows)
    if count_truth and (known := int((truth >= 0).sum())) < _CHECKED_ENOUGH:
        raise InputError(
            f"{source.address}: the truth of {known} labelled images is known; counting noise on them needs "
            f"{_CHECKED_ENOUGH} at least"
        )
    if count_truth:
        trusted = surest = truth >= 0
        contradiction = 0.0
        believed = np.where(trusted, truth, predicted)
    else:
        trusted, surest, contradiction = agreed(features, labels, probs)
        believed = predicted
    return Evidence(
        features,
        labels,
        source.class_names,
        fold,
        members,
        predicted,
        believed,
        trusted,
        surest,
        contradiction,
        count_truth,
        description,
    )


def agreed(
    features: Float[np.ndarray, "n dim"], labels: Int[np.ndarray, " n"], probs: Float[np.ndarray, "n classes"]
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"], float]:
    """(trusted, surest, contradiction): where two opinions that err in different ways name the same class.

    One is the model's, the other the most frequent label among the ten nearest other images. Neither has seen the
    image's own label. The surest are those of them in the half of each class that the model is surest
    of; the contradiction is the share of that half where the opinions differ.
    """
    classes = probs.shape[1]
    predicted = probs.argmax(axis=1)
    near = labels[neighbours(features, _NEIGHBOURS, metric="cosine").indices]
    cells = np.arange(len(labels))[:, None] * classes + near
    votes = np.bincount(cells.ravel(), minlength=len(labels) * classes).reshape(len(labels), classes)
    trusted = votes[np.arange(len(labels)), predicted] == votes.max(axis=1)
    confidence = probs[np.arange(len(labels)), predicted]
    surest = np.zeros(len(labels), dtype=bool)
    for k in range(classes):
        members = np.flatnonzero(predicted == k)
        kept = int(np.ceil(_SUREST * len(members)))
        surest[members[np.argsort(-confidence[members], kind="stable")[:kept]]] = True
    return trusted, surest & trusted, float((~trusted)[surest].mean())


def _checked(source: Source, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The true class of some images, -1 where it is unknown or none of the classes."""
    if source.clean_labels is None or not len(source.clean_labels):
        return np.full(len(rows), -1)
    return source.clean_labels.take(rows).checked(np.full(len(rows), -1), np.arange(len(rows)))
