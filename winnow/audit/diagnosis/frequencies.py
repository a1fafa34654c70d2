"""D5: how wrong labels distort the frequencies of the classes.

The given shares are p~ = T^T p; p is sought on the simplex. Per class: over- or under-count, and how many of the images
that carry its name are truly of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from winnow.audit.diagnosis.evidence import Evidence
from winnow.audit.diagnosis.measure import COUNTED, Diagnostic, Measure, bootstrap_interval, hull

LARGEST_CONDITION = 50.0
_SUM_WEIGHT = 1e3
MOST_CLASSES = 1000


def corrected_shares(
    given: Float[np.ndarray, " classes"], transition_matrix: Float[np.ndarray, "classes classes"]
) -> Float[np.ndarray, " classes"]:
    """p on the simplex with T^T p nearest to the given shares, by least squares; the given ones if T is the identity.

    Args:
        given: p~, summing to one.
        transition_matrix: T.
    """
    # The sum to one is a further equation, so heavy that it holds; then it holds exactly.
    equations = np.vstack([transition_matrix.T, np.full(len(given), _SUM_WEIGHT)])
    found, _ = nnls(equations, np.append(given, _SUM_WEIGHT))
    return np.asarray(found / found.sum())


def total_variation(first: Float[np.ndarray, " classes"], second: Float[np.ndarray, " classes"]) -> float:
    """Half the sum of absolute differences of two distributions, in [0, 1]."""
    return float(np.abs(first - second).sum() / 2)


def purity(
    shares: Float[np.ndarray, " classes"],
    given: Float[np.ndarray, " classes"],
    transition_matrix: Float[np.ndarray, "classes classes"],
) -> Float[np.ndarray, " classes"]:
    """Share of the images given each label that are truly of it, p_j T_jj / (T^T p)_j, in [0, 1]; NaN for no images."""
    reached = transition_matrix.T @ shares
    right = shares * transition_matrix.diagonal()
    found = np.divide(right, reached, out=np.full(len(shares), np.nan), where=(reached > 0) & (given > 0))
    return np.asarray(found.clip(0, 1))


def frequencies(evidence: Evidence, *, seed: int, resamples: int = 200) -> Diagnostic:
    """Shares of the classes as given and as they probably are.

    Args:
        evidence: the collection.
        seed: of the bootstrap.
        resamples: of it.
    """
    classes = evidence.num_classes
    counts = np.bincount(evidence.labels, minlength=classes)
    if classes > MOST_CLASSES:
        return Diagnostic.of(withheld=[f"Class frequencies are not corrected for more than {MOST_CLASSES:,} classes."])
    matrix = evidence.transition_matrix()
    condition = float(np.linalg.cond(matrix))
    if condition > LARGEST_CONDITION:
        return Diagnostic.of(
            Measure("condition_number", condition, None, "of the estimated transition matrix"),
            withheld=["Class frequencies are not corrected: the transition matrix cannot be inverted reliably."],
        )
    value = _estimate(evidence, None, False)
    spans = []
    for surest in (False,) if evidence.checked else (False, True):
        centre = _estimate(evidence, None, surest)
        copies = [_estimate(evidence, weight, surest) for weight in evidence.bootstrap_weights(seed, resamples)]
        spans.append((centre, {name: np.array([copy[name] for copy in copies]) for name in centre}))

    def measured(name: str, k: int, bounds: tuple[float, float], among: int = 1) -> Measure:
        own = float(value[name][k])
        each = [bootstrap_interval(float(at[name][k]), copies[name][:, k], bounds, among) for at, copies in spans]
        return Measure(name, own, hull(*each, (own, own)), evidence.assumption)

    rows: list[dict[str, Any]] = [
        {
            "class": k,
            "name": evidence.class_names[k],
            "images": int(counts[k]),
            "share": measured("share", k, (0, 1)),
            # Together, so that a collection of many classes does not flag some by chance.
            "overcount": measured("overcount", k, (-1, 1), among=classes),
            "purity": measured("purity", k, (0, 1)),
        }
        for k in np.flatnonzero(counts).tolist()
    ]
    flagged = [row for row in rows if not _holds_zero(row["overcount"].interval)]
    distance = total_variation(counts / counts.sum(), value["share"])
    shifts = np.array([[total_variation(g, p) for g, p in zip(c["given"], c["share"], strict=True)] for _, c in spans])
    # A distance cannot fall below 0 by chance, only rise; with no class that stands out, 0 is among what may be.
    low, high = hull(*(bootstrap_interval(distance, copies, (0, 1)) for copies in shifts))
    return Diagnostic.of(
        Measure("total_variation", distance, (low if flagged else 0.0, max(high, distance)), evidence.assumption),
        Measure("condition_number", condition, None, "of the estimated transition matrix"),
        Measure("flagged_classes", float(len(flagged)), None, f"{COUNTED}; their intervals, taken together, exclude 0"),
        classes=rows,
    )


def _estimate(evidence: Evidence, weights: np.ndarray | None, surest: bool) -> dict[str, np.ndarray]:
    given = np.bincount(evidence.labels, weights=weights, minlength=evidence.num_classes)
    given = given / given.sum()
    matrix = evidence.transition_matrix(weights, surest=surest)
    shares = corrected_shares(given, matrix)
    return {"given": given, "share": shares, "overcount": given - shares, "purity": purity(shares, given, matrix)}


def _holds_zero(interval: tuple[float, float] | None) -> bool:
    return interval is None or interval[0] <= 0 <= interval[1]
