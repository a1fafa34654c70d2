"""Local outlier factors: how much thinner the surroundings of a point are than those of its neighbours.

Breunig et al. 2000; per class and cumulated over rounds of training, Wang et al. 2018 (arXiv:1804.00092).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from winnow.functional.neighbours import Neighbours, check_finite, neighbours

EPSILON = 1e-10
QUERIES = 10_000
"""Points compared with a sample at a time: each brings k neighbours."""


def local_outlier_factors(found: Neighbours) -> Float[np.ndarray, " n"]:
    """LOF on a neighbour graph of a set within itself, at a cost of O(N k): about 1 inside, far above 1 for outliers.

    With d_k(j) the distance of j to its last neighbour and the reachability max(d_k(j), d(i, j)), the density of i is
    1 / (its mean reachability from its neighbours + 1e-10), and LOF the mean density of its neighbours over its own.
    Finite; exactly 1 for identical points. Points without neighbours count as inside.

    Args:
        found: the neighbours of each point, itself left out.
    """
    if not found.indices.shape[1]:
        return np.ones(len(found.indices))
    reach = _last_distance(found)
    density = _density(found, reach)
    return _factors(found, density, density)


def class_outlier_factors(
    features: Float[np.ndarray, "n dim"],
    noisy_labels: Int[np.ndarray, " n"],
    *,
    share: float = 0.4,
    metric: str = "cosine",
    reference_size: int = 5000,
    seed: int = 0,
) -> Float[np.ndarray, " n"]:
    """LOF of each point within its given class; 1 where a class has fewer than three points, or there is no label.

    The number of neighbours is ceil(share * size of the class), at most all others: k must be comparable with the
    number of outliers in the class, or outliers that lie together look like inliers. A class of more than
    `reference_size` points is compared with a random sample of so many, with the same share of the sample.

    Args:
        features: of each image.
        noisy_labels: as annotated; -1 = none.
        share: k in units of the class's size, in (0, 1]; at least the noise rate.
        metric: see `neighbours`.
        reference_size: at least 3.
        seed: of the samples.

    Raises:
        InvalidInput: a feature is NaN or infinite.
        ValueError: an option lies outside its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    if reference_size < 3:
        raise ValueError(f"reference_size must be at least 3, got {reference_size}")
    check_finite(features, "features")
    factors = np.ones(len(features))
    for label in np.unique(noisy_labels[noisy_labels >= 0]):
        rows = np.flatnonzero(noisy_labels == label)
        if len(rows) < 3:
            continue
        # Of its own for each class, so that a class's sample does not depend on the others.
        random = np.random.default_rng((seed, int(label)))
        size = min(len(rows), reference_size)
        sample = np.sort(random.choice(len(rows), size, replace=False))
        factors[rows] = _against_sample(features[rows], sample, math.ceil(share * size), metric)
    return factors


def outlier_probabilities(factors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """LOF, of one round or the mean of several, as a probability: max(0, erf((LOF - mean) / (sqrt(2) std))), in [0, 1).

    Args:
        factors: of one class; where all are equal, nothing is an outlier.
    """
    if not len(factors):
        return factors
    spread = factors.std()
    # A std of rounding errors is none.
    if spread <= 1e-12 * abs(factors.mean()):
        return np.zeros(len(factors))
    scaled = (factors - factors.mean()) / (math.sqrt(2) * spread)
    probabilities = np.array([max(0.0, math.erf(value)) for value in scaled])
    return np.minimum(probabilities, np.nextafter(1.0, 0.0))


def _against_sample(
    features: Float[np.ndarray, "n dim"], sample: Int[np.ndarray, " sample"], k: int, metric: str
) -> Float[np.ndarray, " n"]:
    """LOF inside the sample; of the other points, against it."""
    known = neighbours(features[sample], k, metric=metric)
    reach = _last_distance(known)
    density = _density(known, reach)
    factors = np.empty(len(features))
    factors[sample] = _factors(known, density, density)
    others = np.setdiff1d(np.arange(len(features)), sample, assume_unique=True)
    for start in range(0, len(others), QUERIES):
        part = others[start : start + QUERIES]
        found = neighbours(features[sample], known.indices.shape[1], queries=features[part], metric=metric)
        factors[part] = _factors(found, _density(found, reach), density)
    return factors


def _last_distance(found: Neighbours) -> Float[np.ndarray, " n"]:
    return found.distances[:, -1].astype(np.float64)


def _density(found: Neighbours, reach: Float[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    reachability = np.maximum(reach[found.indices], found.distances)
    return 1 / (reachability.mean(axis=1) + EPSILON)


def _factors(
    found: Neighbours, own: Float[np.ndarray, " n"], of_points: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    return (of_points[found.indices] / own[:, None]).mean(axis=1)
