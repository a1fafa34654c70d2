"""D2: how well single features still tell the classes apart, and whether the best ones can be told.

Per feature: eta^2, the share of its variance that lies between the classes, and F, the same as a ratio of mean squares.
Symmetric noise shrinks differences of class means by s = 1 - rate K / (K - 1), so eta^2 by s^2; F falls by more where
the classes explain much of a feature, as what noise takes from between the classes it adds within them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from winnow.audit.diagnosis.added_noise import DELTAS, REPEATS, remaining, with_added_noise
from winnow.audit.diagnosis.evidence import Evidence
from winnow.audit.diagnosis.learner import standardised
from winnow.audit.diagnosis.measure import ADDED, Diagnostic, Measure, bootstrap_interval, over_draws
from winnow.data.randomness import permutation, stream_key

TOP = 20
SPLITS = 10
STABLE = 0.5
_COMPARED = 0.1


def explained_variance(
    features: Float[np.ndarray, "n dim"], labels: Int[np.ndarray, " n"], num_classes: int
) -> Float[np.ndarray, " dim"]:
    """eta^2 of each feature, in [0, 1]; 0 for a constant one.

    What chance alone explains, (K - 1) / (n - 1), is not taken off.
    """
    values = standardised(features)
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.eye(num_classes)[labels].T @ values
    between = (np.square(sums) / np.maximum(counts, 1)[:, None]).sum(axis=0)
    total = np.square(values).sum(axis=0)
    return np.divide(between, total, out=np.zeros(len(total)), where=total > 0).clip(0, 1)


def f_statistics(explained: Float[np.ndarray, " dim"], num: int, num_classes: int) -> Float[np.ndarray, " dim"]:
    """F of a one-way analysis of variance from eta^2; infinite where the classes explain everything.

    Args:
        explained: eta^2.
        num: images.
        num_classes: classes that occur, at least 2.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(explained / (1 - explained) * (num - num_classes) / (num_classes - 1))


def overlap(first: Int[np.ndarray, " top"], second: Int[np.ndarray, " top"]) -> float:
    """Jaccard's: size of the intersection over that of the union, in [0, 1]."""
    return len(np.intersect1d(first, second)) / max(1, len(np.union1d(first, second)))


def relevance(evidence: Evidence, *, seed: int, resamples: int = 200) -> Diagnostic:
    """Class information of single features now and under added noise, and how stable the best ones are.

    Args:
        evidence: the collection.
        seed: of draws and splits.
        resamples: of the bootstrap.
    """
    labels, classes = evidence.labels, evidence.num_classes
    present = len(np.unique(labels))
    now = explained_variance(evidence.features, labels, classes)
    if not now.any():
        return Diagnostic.of(withheld=["The relevance of features is not told: all of them are constant."])
    copies = []
    for weights in evidence.bootstrap_weights(seed, resamples):
        rows = np.repeat(np.arange(len(labels)), weights.astype(np.int64))
        copies.append(explained_variance(evidence.features[rows], labels[rows], classes).mean())
    value = float(now.mean())
    interval = bootstrap_interval(value, np.array(copies), (0, 1))
    told = [Measure("explained_variance", value, interval, "eta squared by given labels, mean over features")]
    ratios = np.ones((REPEATS, len(DELTAS), 2))
    noisy_top = []
    top = min(TOP, max(1, evidence.features.shape[1] // 2))
    strength = f_statistics(now, len(labels), present)
    for draw in range(REPEATS):
        for place, delta in enumerate(DELTAS):
            noisy = with_added_noise(labels, delta, classes, seed=seed, draw=draw)
            under = explained_variance(evidence.features, noisy, classes)
            f = f_statistics(under, len(labels), present)
            ratios[draw, place] = under.mean() / value, f.mean() / strength.mean()
            if delta == _COMPARED:
                noisy_top.append(best(under, top))
    attenuation = [
        {
            "added": delta,
            "explained_variance": over_draws("ratio", ratio[:, 0], "eta squared against no added noise"),
            "f_statistic": over_draws("ratio", ratio[:, 1], "F against no added noise"),
        }
        for delta, ratio in zip(DELTAS, ratios.transpose(1, 0, 2), strict=True)
    ]
    rates = (evidence.noise_rate, *evidence.noise_rate_interval)
    left = [float(remaining(rate, classes)) ** 2 for rate in rates]
    told.append(Measure("explained_left", left[0], (min(left), max(left)), f"theory for symmetric noise; {ADDED}"))
    halves = [_halves(evidence, seed, split, top) for split in range(SPLITS)]
    told.append(over_draws("overlap_halves", halves, f"of the {top} best features of two halves", (0, 1)))
    own = best(now, top)
    shifted = [overlap(own, other) for other in noisy_top]
    told.append(over_draws("overlap_noise", shifted, f"of the {top} best, after {_COMPARED:g} of added noise", (0, 1)))
    unstable = float(np.mean(halves)) < STABLE
    withheld = ["No feature is named as irrelevant: the best ones of two halves differ too much."] if unstable else []
    return Diagnostic.of(*told, withheld=withheld, attenuation=attenuation)


def best(explained: Float[np.ndarray, " dim"], top: int) -> Int[np.ndarray, " top"]:
    """The features that tell the classes apart best, the first of equals."""
    return np.argsort(-explained, kind="stable")[:top]


def _halves(evidence: Evidence, seed: int, split: int, top: int) -> float:
    order = permutation(stream_key(seed, "diagnose/halves", split), np.arange(len(evidence)))
    middle = len(order) // 2
    found = [
        best(explained_variance(evidence.features[rows], evidence.labels[rows], evidence.num_classes), top)
        for rows in (order[:middle], order[middle:])
    ]
    return overlap(*found)
