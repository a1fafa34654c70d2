"""D1: what wrong labels hide of a model's accuracy, and what they take of it.

Agreement with wrong labels is not accuracy. Where the given label depends on the true class alone, the share M[j, y] of
images predicted j and given y is (C^T T)[j, y], C[i, j] the share that is truly i and predicted j; so C follows from T.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

from winnow.audit.diagnosis.added_noise import DELTAS, REPEATS, lost_to_noise, with_added_noise
from winnow.audit.diagnosis.evidence import Evidence
from winnow.audit.diagnosis.learner import Learner
from winnow.audit.diagnosis.measure import (
    ADDED,
    Diagnostic,
    Measure,
    bootstrap_interval,
    hull,
    mean_interval,
    over_draws,
)
from winnow.noise.confident_joint import joint_counts
from winnow.noise.intervals import clopper_pearson

LEAST_SIGNAL = 0.1
"""Smallest singular value of T that is inverted; for symmetric noise it is 1 - rate K / (K - 1)."""


def clean_accuracy(
    agreement: Float[np.ndarray, "classes classes"], transition_matrix: Float[np.ndarray, "classes classes"]
) -> float:
    """Accuracy on the true labels, in [0, 1], from what is seen on given ones.

    For symmetric noise it is (a - rate / (K - 1)) / (1 - rate K / (K - 1)) with a the agreement.

    Args:
        agreement: M, entry (j, y) = share of images predicted j and given y; it sums to one.
        transition_matrix: T.
    """
    return float(np.clip(np.trace(agreement @ np.linalg.inv(transition_matrix)), 0, 1))


def expected_agreement(
    confusion: Float[np.ndarray, "classes classes"], transition_matrix: Float[np.ndarray, "classes classes"]
) -> Float[np.ndarray, "classes classes"]:
    """M of a model whose C, entry (i, j) = share truly i and predicted j, is known: the way back."""
    return np.asarray(confusion.T @ transition_matrix)


def is_invertible(transition_matrix: Float[np.ndarray, "classes classes"]) -> bool:
    """Whether the labels still carry enough to be corrected for."""
    return bool(np.linalg.svd(transition_matrix, compute_uv=False)[-1] >= LEAST_SIGNAL)


def accuracy(evidence: Evidence, part: Evidence, learner: Learner, *, seed: int, resamples: int = 200) -> Diagnostic:
    """Agreement, the accuracy behind it, the ceiling of agreement, and what the present noise costs.

    Args:
        evidence: the collection.
        part: as much of it as is refitted.
        learner: fits all images of that.
        seed: of draws.
        resamples: of the bootstrap.
    """
    labels = evidence.labels
    agreement = float((evidence.predicted == labels).mean())
    told = [
        Measure(
            "agreement",
            agreement,
            clopper_pearson(round(agreement * len(labels)), len(labels)),
            "with the given labels, out of fold",
        )
    ]
    matrix = evidence.transition_matrix()
    if not is_invertible(matrix):
        return Diagnostic.of(
            *told,
            withheld=["The accuracy behind the labels is not told: they carry less than a tenth of the signal."],
        )
    told.append(Measure("accuracy", *_accuracy(evidence, seed, resamples), evidence.assumption))
    ceiling = _ceiling(evidence, seed, resamples)
    told.append(Measure("ceiling", *ceiling, f"no model can agree more; {evidence.assumption}"))
    cost, points = _cost(part, learner, seed)
    return Diagnostic.of(*told, cost, added_noise=points)


def _accuracy(evidence: Evidence, seed: int, resamples: int) -> tuple[float, tuple[float, float]]:
    cells = evidence.predicted * evidence.num_classes + evidence.labels

    def estimate(weight: np.ndarray | None, *, surest: bool = False) -> float:
        seen = np.bincount(cells, weights=weight, minlength=evidence.num_classes**2).reshape(-1, evidence.num_classes)
        return clean_accuracy(seen / seen.sum(), evidence.transition_matrix(weight, surest=surest))

    value = estimate(None)
    spans = [
        bootstrap_interval(
            estimate(None, surest=surest), _copies(evidence, seed, resamples, partial(estimate, surest=surest)), (0, 1)
        )
        for surest in ((False,) if evidence.checked else (False, True))
    ]
    return value, hull(*spans, (value, value))


def _ceiling(evidence: Evidence, seed: int, resamples: int) -> tuple[float, tuple[float, float]]:
    """Sum over classes of p_i max_j T_ij."""

    def estimate(weight: np.ndarray | None) -> float:
        shares = np.bincount(evidence.believed, weights=weight, minlength=evidence.num_classes)
        return float(shares @ evidence.transition_matrix(weight).max(axis=1) / shares.sum())

    value = estimate(None)
    return value, bootstrap_interval(value, _copies(evidence, seed, resamples, estimate), (0, 1))


def _copies(
    evidence: Evidence, seed: int, resamples: int, estimate: Callable[[np.ndarray], float]
) -> Float[np.ndarray, " copies"]:
    return np.array([estimate(weights) for weights in evidence.bootstrap_weights(seed, resamples)])


def _cost(evidence: Evidence, learner: Learner, seed: int) -> tuple[Measure, list[dict[str, object]]]:
    """What the present noise takes of the accuracy of the linear learner, and how it falls with added noise."""
    classes, matrix = evidence.num_classes, evidence.transition_matrix()
    reached = np.empty((REPEATS, len(DELTAS)))
    for draw in range(REPEATS):
        for place, delta in enumerate(DELTAS):
            noisy = with_added_noise(evidence.labels, delta, classes, seed=seed, draw=draw)
            predicted = learner.fit(noisy).best
            # Judged by the labels without the added noise, whose matrix is known.
            reached[draw, place] = clean_accuracy(
                joint_counts(predicted, evidence.labels, classes) / len(evidence), matrix
            )
    lost = {}
    for rate in (*evidence.noise_rate_interval, evidence.noise_rate):
        lost[rate] = np.array([lost_to_noise(np.array(DELTAS), values, rate, classes) for values in reached])
    value = float(lost[evidence.noise_rate].mean())
    interval = hull(*(mean_interval(values) for values in lost.values()))
    points = [
        {"added": delta, "accuracy": over_draws("accuracy", values, f"of a linear model; {ADDED}", (0, 1))}
        for delta, values in zip(DELTAS, reached.T, strict=True)
    ]
    return Measure("accuracy_lost", value, interval, f"of a linear model on the features; {ADDED}"), points
