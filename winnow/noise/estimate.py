"""Measuring label noise: transition matrices, entry (i, j) = P(noisy = j given clean = i), rows summing to one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from winnow.noise.matrices import symmetric_matrix


def confident_transition_matrix(
    beliefs: Float[np.ndarray, "n classes"],
    noisy_labels: Int[np.ndarray, " n"],
    *,
    share: float = 0.20,
    pseudo_counts: float = 100.0,
) -> Float[np.ndarray, "classes classes"]:
    """Counts given labels among the most confident images of each predicted class, shrunk towards symmetric noise.

    Counting all predictions would take the network's own mistakes for label noise (methods/winnow, eq. 2).

    Args:
        beliefs: class probabilities.
        noisy_labels: as annotated, none missing.
        share: of each predicted class that is counted, at least one image.
        pseudo_counts: weight of the symmetric matrix in each row, in images.
    """
    classes = beliefs.shape[1]
    if classes == 1:
        return np.ones((1, 1))
    counts = np.zeros((classes, classes))
    predicted = beliefs.argmax(axis=1)
    confidence = beliefs[np.arange(len(beliefs)), predicted]
    for k in range(classes):
        members = np.flatnonzero(predicted == k)
        if len(members):
            kept = max(1, round(share * len(members)))
            # A stable order by confidence: ties are broken by row, so that the count is a function of the data.
            chosen = members[np.argsort(-confidence[members], kind="stable")[:kept]]
            counts[k] = np.bincount(noisy_labels[chosen], minlength=classes)
    keep = min(0.98, (np.trace(counts) + 1) / (counts.sum() + 1 + 1 / classes))
    prior = symmetric_matrix(classes, 1 - keep)
    return (counts + pseudo_counts * prior) / (counts.sum(axis=1, keepdims=True) + pseudo_counts)


def joint_transition_matrix(joint: Int[np.ndarray, "classes classes"]) -> Float[np.ndarray, "classes classes"]:
    """The transition matrix of a joint count, whose entry (i, j) = images of given label i and true label j.

    A class that no image truly has keeps its labels.
    """
    counts = joint.T.astype(np.float64)
    empty = counts.sum(axis=1) == 0
    counts[empty, empty] = 1
    return counts / counts.sum(axis=1, keepdims=True)
