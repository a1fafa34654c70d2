"""D4: how many more images the same accuracy needs, because of wrong labels.

Accuracy of n images with rate delta of added noise follows a - b (n / r)^-c: noise divides the data by r. Given c, the
curves of all deltas are one linear least-squares problem. Theory for symmetric noise: r = 1 / (1 - delta K / (K-1))^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from winnow.audit.diagnosis.added_noise import DELTAS, REPEATS, inflation, remaining, with_added_noise
from winnow.audit.diagnosis.evidence import Evidence
from winnow.audit.diagnosis.learner import Learner
from winnow.audit.diagnosis.measure import (
    ADDED,
    DRAWS,
    Diagnostic,
    Measure,
    bootstrap_interval,
    hull,
    mean_interval,
    over_draws,
)
from winnow.data.randomness import permutation, stream_key

PARTS = (8, 4, 2, 1)
_EXPONENTS = np.arange(0.1, 2.01, 0.05)
_LARGEST_RATIO = 100.0
FEWEST_A_CLASS = 4
SUSPICIOUS = 100


@dataclass(frozen=True)
class Curve:
    """Fitted learning curves with a common limit and exponent.

    Attributes:
        limit: a, accuracy with endless data.
        exponent: c.
        factors: b of each delta.
    """

    limit: float
    exponent: float
    factors: Float[np.ndarray, " deltas"]

    def ratios(self) -> Float[np.ndarray, " deltas"]:
        """r of each delta against the first: images needed for the same accuracy, within [0.01, 100]."""
        first = max(self.factors[0], np.finfo(np.float64).tiny)
        with np.errstate(over="ignore"):
            found = (self.factors.clip(min=0) / first) ** (1 / self.exponent)
        return np.asarray(found.clip(1 / _LARGEST_RATIO, _LARGEST_RATIO))

    def gain(self, size: float, times: float) -> float:
        """Accuracy won by `times` as many images as `size`, with no added noise."""
        return float(self.factors[0] * size**-self.exponent * (1 - times**-self.exponent))


def fitted_curve(sizes: Float[np.ndarray, " sizes"], reached: Float[np.ndarray, "sizes deltas"]) -> Curve:
    """The curves a - b_delta n^-c of least squares, c on a grid from 0.1 to 2.

    Args:
        sizes: n.
        reached: accuracy.
    """
    num_sizes, num_deltas = reached.shape
    best: tuple[float, Curve] | None = None
    for exponent in _EXPONENTS:
        columns = np.zeros((num_sizes, num_deltas, num_deltas + 1))
        columns[:, :, 0] = 1
        for place in range(num_deltas):
            columns[:, place, place + 1] = -(sizes**-exponent)
        design = columns.reshape(-1, num_deltas + 1)
        found = np.linalg.lstsq(design, reached.ravel(), rcond=None)[0]
        error = float(np.square(design @ found - reached.ravel()).sum())
        if best is None or error < best[0]:
            best = error, Curve(float(found[0]), float(exponent), found[1:])
    assert best is not None
    return best[1]


def samples(evidence: Evidence, learner: Learner, *, seed: int, resamples: int = 200) -> Diagnostic:
    """Learning curves with and without added noise, what noise costs in images, and what would help.

    Args:
        evidence: the collection.
        learner: fits all of its images.
        seed: of the draws.
        resamples: of the bootstrap.
    """
    classes = evidence.num_classes
    sizes = np.array([len(evidence) // part for part in PARTS])
    if sizes[0] < FEWEST_A_CLASS * classes:
        return Diagnostic.of(
            withheld=[
                f"The need for samples is not told: an eighth of the images is fewer than {FEWEST_A_CLASS} a class."
            ]
        )
    reached = np.stack([_reached(evidence, learner, sizes, seed, draw) for draw in range(REPEATS)])
    curves = [fitted_curve(sizes.astype(float), values) for values in reached]
    # Ratios are multiplied, so their logarithms are averaged.
    logs = np.log([curve.ratios() for curve in curves])
    told = [
        Measure(
            f"images_ratio_{delta:g}",
            float(np.exp(logs[:, place].mean())),
            _exp(mean_interval(logs[:, place])),
            f"with {delta:g} more of the labels wrong at random, {DRAWS}",
        )
        for place, delta in enumerate(DELTAS)
        if delta
    ]
    told.append(_present(evidence, logs))
    more = np.array([curve.gain(float(sizes[-1]), 1.1) for curve in curves])
    # Agreement with given labels moves by what is left of the signal for each point of accuracy.
    left = max(remaining(evidence.noise_rate, classes), 0.1)
    told.append(Measure("gain_of_more_data", float(more.mean()) / left, _scaled(mean_interval(more), left), ADDED))
    told.append(_relabelling(evidence, learner, seed, resamples, left))
    rows = [
        {
            "images": int(size),
            **{
                f"added_{delta:g}": over_draws("agreement", reached[:, i, j], "with the given labels", (0, 1))
                for j, delta in enumerate(DELTAS)
            },
        }
        for i, size in enumerate(sizes)
    ]
    return Diagnostic.of(*told, learning_curve=rows)


def _reached(
    evidence: Evidence, learner: Learner, sizes: Int[np.ndarray, " sizes"], seed: int, draw: int
) -> Float[np.ndarray, "sizes deltas"]:
    """Agreement with the given labels of all images, of models that learnt from some with added noise."""
    order = permutation(stream_key(seed, "diagnose/subsets", draw), np.arange(len(evidence)))
    found = np.empty((len(sizes), len(DELTAS)))
    for i, size in enumerate(sizes):
        rows = np.zeros(len(evidence), dtype=bool)
        rows[order[:size]] = True
        part = learner if rows.all() else Learner(evidence.features, evidence.fold, evidence.num_classes, rows)
        for j, delta in enumerate(DELTAS):
            noisy = with_added_noise(evidence.labels, delta, evidence.num_classes, seed=seed, draw=draw)
            found[i, j] = (part.fit(noisy).best == evidence.labels).mean()
    return found


def _present(evidence: Evidence, logs: Float[np.ndarray, "draws deltas"]) -> Measure:
    """Images that the present noise costs: theory, times how much more or less added noise cost than theory says."""
    theory = np.log(inflation(np.array(DELTAS), evidence.num_classes))
    strength = logs @ theory / (theory @ theory)
    rates = (*evidence.noise_rate_interval, evidence.noise_rate)
    costs = [strength * np.log(inflation(rate, evidence.num_classes)) for rate in rates]
    value = float(np.exp(costs[-1].mean()))
    return Measure("images_ratio_present", value, _exp(hull(*map(mean_interval, costs))), ADDED)


def _relabelling(evidence: Evidence, learner: Learner, seed: int, resamples: int, left: float) -> Measure:
    """What relabelling the labels that contradict belief where it is trusted, the hundred first, would gain."""
    doubted = np.flatnonzero(evidence.trusted & (evidence.believed != evidence.labels))
    # The surest first; of equals, the order of the collection.
    chosen = doubted[np.argsort(~evidence.surest[doubted], kind="stable")][:SUSPICIOUS]
    repaired = evidence.labels.copy()
    repaired[chosen] = evidence.believed[chosen]
    kept = np.ones(len(evidence), dtype=bool)
    kept[chosen] = False  # their labels changed, the others' are a fair judge
    before, after = (learner.fit(labels).best == evidence.labels for labels in (evidence.labels, repaired))
    change = np.where(kept, after.astype(float) - before, 0.0)
    value = float(change.sum() / kept.sum()) / left
    weights = evidence.bootstrap_weights(seed, resamples)
    copies = np.array([(weight * change).sum() / (weight * kept).sum() / left for weight in weights])
    return Measure(
        "gain_of_relabelling",
        value,
        bootstrap_interval(value, copies, (-1, 1)),
        f"by giving {len(chosen)} doubted images the class that they look like; {evidence.assumption}",
    )


def _exp(interval: tuple[float, float]) -> tuple[float, float]:
    return float(np.exp(interval[0])), float(np.exp(interval[1]))


def _scaled(interval: tuple[float, float], left: float) -> tuple[float, float]:
    return interval[0] / left, interval[1] / left
