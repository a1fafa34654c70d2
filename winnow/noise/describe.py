"""What kind of noise a collection seems to have, from the labels that are doubted: evidence, and what it cannot tell.

Kinds, after Frénay & Verleysen 2014 and Krause et al. 2016: `random` (each other class as likely: NCAR),
`class-conditional` (depends on the class: NAR), `instance-dependent` (on the image too: NNAR), `open-set` (the image is
of none of the classes; cross-domain, where the others are cross-category). Random noise is unbiased; where a class is
mostly mistaken for the same other one it is biased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import norm

from winnow.noise.confident_joint import joint_counts
from winnow.noise.intervals import clopper_pearson

FEWEST = 30
"""Doubted labels from which a kind is told."""
CONCENTRATED, UNEVEN = 0.1, 0.5
GATHERED, ALIKE, ALIKE_INSIDE = 1.5, 0.1, 0.03
FOREIGN = 0.3
"""What the lower end of an interval must exceed to speak for a kind, see `describe`."""
_BORDER, _HARD = 0.4, 0.75
_FEW = 0.05
_OUTLYING = 0.95
_RESAMPLES = 200
_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Evidence:
    """One observation for or against a kind.

    Attributes:
        name: stable, for programs.
        value: the number.
        low, high: its 95 % interval.
        sentence: for a person, with both.
    """

    name: str
    value: float
    low: float
    high: float
    sentence: str


@dataclass(frozen=True)
class NoiseKind:
    """A kind of noise with the evidence for it.

    Attributes:
        name: `none`, `random`, `class-conditional`, `instance-dependent`, `open-set`, or `unclear`.
        evidence: what was seen, whatever it speaks for.
        limits: what cannot be seen: sentences.
    """

    name: str
    evidence: tuple[Evidence, ...]
    limits: tuple[str, ...]


def smallest_check(bound: float = 0.05, level: float = 0.95) -> int:
    """Random images without any error that bound the error rate below `bound`: 59, for which 0.95^59 < 0.05."""
    return math.floor(math.log(1 - level) / math.log(1 - bound)) + 1


LIMITS = (
    "Mistakes that everyone makes alike (biased noise) look like right labels and cannot be excluded without a check: "
    f"{math.ceil(smallest_check() / 10) * 10} random images that nothing stands out in (--blind 60), without an error "
    "among them, bound their rate below 5 % at 95 %.",
    "Hard images are doubted as wrong labels are; where classes meet, the two cannot be told apart.",
)
_NO_OUTLIERS = "Without outlier scores, images of none of the classes cannot be told from wrong labels."
_FOREIGN_LIKE = "Foreign images that look like those of a class are not seen."


def describe(
    labels: Int[np.ndarray, " n"],
    believed: Int[np.ndarray, " n"],
    doubted: Bool[np.ndarray, " n"],
    nearest: Int[np.ndarray, "n k"],
    num_classes: int,
    *,
    outlier_score: Float[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> NoiseKind:
    """The kind of noise, from where the doubted labels lie and what they say.

    Args:
        labels: as given, -1 where one is missing.
        believed: most probable class of every image.
        doubted: labels taken to be wrong.
        nearest: rows of the nearest other images, k at least 1.
        num_classes: K.
        outlier_score: higher = less like any of the classes.
        seed: of the intervals.
    """
    doubted = doubted & (labels >= 0) & (believed != labels)
    limits = (*LIMITS, _NO_OUTLIERS if outlier_score is None else _FOREIGN_LIKE)
    number, known = int(doubted.sum()), int((labels >= 0).sum())
    if number < FEWEST or num_classes < 2:
        name = "none" if number <= 0.05 * known else "unclear"
        sentence = f"{number:,} of {known:,} labels are doubted, too few to tell a kind from."
        low, high = clopper_pearson(number, known)
        return NoiseKind(name, (Evidence("doubted", number / max(1, known), low, high, sentence),), limits)
    view = _View(labels, believed, doubted, nearest, num_classes, seed)
    evidence = [view.concentration(), view.unevenness() if num_classes > 2 else None, view.gathering()]
    evidence += [view.likeness(), view.inner_likeness(), view.bordering()]
    if outlier_score is not None:
        evidence.append(_foreign(doubted, outlier_score))
    found = {item.name: item for item in evidence if item is not None}
    return NoiseKind(_named(found, number / known), tuple(found.values()), limits)


def _named(found: dict[str, Evidence], share: float) -> str:
    def above(name: str, threshold: float) -> bool:
        return name in found and found[name].low > threshold

    if above("foreign", FOREIGN):
        return "open-set"
    if above("gathered", GATHERED) or above("alike_inside", ALIKE_INSIDE):
        return "instance-dependent"
    if above("at_borders", _HARD):
        # Nearly all lie where classes meet: so would hard images with right labels.
        return "none" if share <= _FEW else "unclear"
    if above("at_borders", _BORDER) and above("alike", ALIKE):
        return "instance-dependent"
    if above("concentrated", CONCENTRATED) or above("uneven", UNEVEN):
        return "class-conditional"
    return "random"


class _View:
    """Doubted labels among the classes they are believed to be of, and among their neighbours there."""

    def __init__(
        self,
        labels: np.ndarray,
        believed: np.ndarray,
        doubted: np.ndarray,
        nearest: np.ndarray,
        num_classes: int,
        seed: int,
    ):
        self.believed, self.doubted, self.classes = believed, doubted, num_classes
        known = labels >= 0
        self.sizes = np.bincount(believed[known], minlength=num_classes)
        self.counts = joint_counts(believed[doubted], labels[doubted], num_classes)
        self.border = (believed[nearest] != believed[:, None]).any(axis=1)
        self.known = known
        # Pairs of a doubted image and a neighbour that is believed to be of the same class.
        rows = np.repeat(np.flatnonzero(doubted), nearest.shape[1])
        others = nearest[doubted].ravel()
        kept = (believed[rows] == believed[others]) & known[others]
        self.rows, self.others = rows[kept], others[kept]
        self.labels = labels
        random = np.random.default_rng(seed)
        size = len(labels)
        self.weights = [np.bincount(random.integers(size, size=size), minlength=size) for _ in range(_RESAMPLES)]

    def concentration(self) -> Evidence:
        """How far the wrong labels of a class agree on one other class: 0 evenly spread, 1 always the same."""
        value, error = _collision(self.counts)
        spread = 1 / (self.classes - 1)
        if self.classes == 2:
            value, error = 0.0, 0.0  # there is only one other class
        else:
            value, error = (value - spread) / (1 - spread), error / (1 - spread)
        low, high = value - _Z * error, value + _Z * error
        biased = "biased: a class is mostly mistaken for the same other one" if low > 0.5 else ""
        unbiased = "unbiased: every other class is as likely" if high < CONCENTRATED else ""
        tail = f"; {biased or unbiased}" if biased or unbiased else ""
        return Evidence(
            "concentrated",
            value,
            low,
            high,
            f"Wrong labels of a class agree by {_told(value, low, high)} (0 spread, 1 one class){tail}.",
        )

    def unevenness(self) -> Evidence:
        """Spread of the classes' rates, beyond chance, in units of the mean rate."""

        def spread(wrong: np.ndarray, sizes: np.ndarray) -> float:
            rates = wrong / np.maximum(sizes, 1)
            chance = rates * (1 - rates) / np.maximum(sizes, 1)
            return float(np.sqrt(max(0.0, (rates.var() - chance.mean()))) / max(rates.mean(), 1e-12))

        value = spread(self.counts.sum(axis=1), self.sizes)
        copies = []
        for weights in self.weights:
            wrong = np.bincount(self.believed[self.doubted], weights=weights[self.doubted], minlength=self.classes)
            sizes = np.bincount(self.believed[self.known], weights=weights[self.known], minlength=self.classes)
            copies.append(spread(wrong, sizes))
        low, high = _around(value, copies)
        sentence = f"Rates of wrong labels differ between classes by {_told(value, low, high)} of their mean."
        return Evidence("uneven", value, max(0.0, low), high, sentence)

    def gathering(self) -> Evidence:
        """How often a neighbour of a doubted image is doubted, against anywhere in its class."""
        expected = (self.counts.sum(axis=1) - 1) / np.maximum(self.sizes - 1, 1)
        value, low, high = self._ratio(
            self.doubted[self.others].astype(float), expected[self.believed[self.rows]], np.ones(len(self.rows), bool)
        )
        times = _told(value, low, high)
        sentence = f"Beside a wrong label another one is {times} times as frequent as elsewhere in its class."
        return Evidence("gathered", value, low, high, sentence)

    def likeness(self) -> Evidence:
        """How much more often two neighbours, both doubted, carry the same label than any two of their class."""
        value, low, high = self._same(np.ones(len(self.labels), dtype=bool))
        points = _points(value, low, high)
        sentence = f"Wrong labels of neighbours are the same {points} more often than of others in their class."
        return Evidence("alike", value, low, high, sentence)

    def inner_likeness(self) -> Evidence:
        """The same among images that have no neighbour of another class, where labels are seldom doubted wrongly."""
        value, low, high = self._same(~self.border)
        sentence = f"Well inside the classes they are so {_points(value, low, high)} more often."
        return Evidence("alike_inside", value, low, high, sentence)

    def bordering(self) -> Evidence:
        """Share of the doubted that have a neighbour of another class."""
        hits = int(self.border[self.doubted].sum())
        number = int(self.doubted.sum())
        low, high = clopper_pearson(hits, number)
        others = float(self.border[self.known & ~self.doubted].mean()) if (self.known & ~self.doubted).any() else 0.0
        sentence = (
            f"{100 * hits / number:.1f} % ({100 * low:.1f} to {100 * high:.1f}) of the wrong labels lie where classes "
            f"meet, of the others {100 * others:.1f} %."
        )
        return Evidence("at_borders", hits / number, low, high, sentence)

    def _same(self, among: np.ndarray) -> tuple[float, float, float]:
        """Excess of equal labels among doubted neighbours over equal labels in their class, of some images."""
        doubted = self.doubted & among
        counts = joint_counts(self.believed[doubted], self.labels[doubted], self.classes)
        sums = counts.sum(axis=1)
        collisions = (counts * (counts - 1)).sum(axis=1) / np.maximum(sums * (sums - 1), 1)
        chosen = doubted[self.rows] & doubted[self.others]
        equal = self.labels[self.rows] == self.labels[self.others]
        excess = equal - collisions[self.believed[self.rows]]
        if not chosen.any():
            return 0.0, -1.0, 1.0
        rows, others, excess = self.rows[chosen], self.others[chosen], excess[chosen]
        copies = []
        for weights in self.weights:
            both = weights[rows] * weights[others]
            copies.append(float((both * excess).sum() / max(both.sum(), 1)))
        value = float(excess.mean())
        # Few pairs vary little by chance: an interval from them must not be narrower than that of one share.
        least = _Z * 0.5 / math.sqrt(len(np.unique(rows)))
        low, high = _around(value, copies)
        return value, min(low, value - least), max(high, value + least)

    def _ratio(self, seen: np.ndarray, expected: np.ndarray, chosen: np.ndarray) -> tuple[float, float, float]:
        if not chosen.any() or not expected.sum():
            return 1.0, 0.0, math.inf
        value = float(seen.sum() / expected.sum())
        copies = []
        for weights in self.weights:
            both = weights[self.rows] * weights[self.others]
            copies.append(float((both * seen).sum() / max((both * expected).sum(), 1e-12)))
        low, high = _around(value, copies)
        return value, max(0.0, low), high


def _foreign(doubted: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Evidence:
    """Share of the doubted images that are outliers: those beyond the 95th percentile of the others, less 5 %."""
    limit = np.quantile(score[~doubted], _OUTLYING) if (~doubted).any() else -np.inf
    number, hits = int(doubted.sum()), int((score[doubted] > limit).sum())
    chance = 1 - _OUTLYING
    value, low, high = (
        max(0.0, (share - chance) / _OUTLYING) for share in (hits / number, *clopper_pearson(hits, number))
    )
    sentence = (
        f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f}) of the doubted images are like none of the classes "
        "(cross-domain); the others are of another class (cross-category)."
    )
    return Evidence("foreign", value, low, high, sentence)


def _collision(counts: Int[np.ndarray, "classes classes"]) -> tuple[float, float]:
    """(share of pairs within a row that are of one column, its standard error by the jackknife)."""
    sums = counts.sum(axis=1)
    same, pairs = float((counts * (counts - 1)).sum()), float((sums * (sums - 1)).sum())
    number = int(sums.sum())
    if not pairs:
        return 0.0, 1.0
    # Leaving one of cell (i, j) out takes 2 (n_ij - 1) equal pairs and 2 (n_i - 1) pairs.
    left = pairs - 2 * (sums[:, None] - 1)
    without = np.where(left > 0, (same - 2 * (counts - 1)) / np.maximum(left, 1), same / pairs)
    mean = float((counts * without).sum() / number)
    variance = (number - 1) / number * float((counts * np.square(without - mean)).sum())
    return same / pairs, math.sqrt(variance)


def _around(value: float, copies: list[float]) -> tuple[float, float]:
    half = _Z * float(np.std(copies, ddof=1))
    return value - half, value + half


def _told(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:.0f} points ({100 * low:.0f} to {100 * high:.0f})"
