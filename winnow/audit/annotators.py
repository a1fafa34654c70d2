"""Several people's labels of the same images: what is true most probably, and how good each person is.

Dawid & Skene 1979, each row of a person's confusion matrix drawn towards the person's own accuracy and the mistakes
that all have in common: few labels of a class say little about it alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from winnow.noise.intervals import clopper_pearson

_ROUNDS = 200
_SETTLED = 1e-6
_PULL = 100.0
"""Images of a class that a person must have labelled before their habits there count as much as their usual ones."""
_FLOOR = 1e-6


@dataclass(frozen=True)
class Consensus:
    """What several people's labels say together.

    Attributes:
        posterior: P(true class given the labels), rows sum to 1; where nobody labelled, the classes' shares.
        labels: most probable class, -1 where nobody labelled.
        matrices: entry (a, i, j) = P(person a says j given class i).
        quality: probability that a person's label is right, over the classes as frequent as they are.
        quality_interval: of 95 %, (A, 2); Clopper-Pearson with the expected number of right labels.
        counts: labels that each person gave.
    """

    posterior: Float[np.ndarray, "n classes"]
    labels: Int[np.ndarray, " n"]
    matrices: Float[np.ndarray, "people classes classes"]
    quality: Float[np.ndarray, " people"]
    quality_interval: Float[np.ndarray, "people 2"]
    counts: Int[np.ndarray, " people"]


def consensus(votes: Int[np.ndarray, "n people"], num_classes: int) -> Consensus:
    """The most probable classes and confusion matrices by expectation maximisation, from the vote shares on.

    A model's out-of-fold class can stand among the people: its habits are estimated as theirs are.

    Args:
        votes: class indices, -1 where a person gave none.
        num_classes: K.
    """
    people = votes.shape[1]
    given = votes >= 0
    shares = np.stack([np.where(given, votes == k, 0).sum(axis=1) for k in range(num_classes)], axis=1).astype(float)
    labelled = np.asarray(given.any(axis=1))
    posterior = np.divide(shares, shares.sum(axis=1, keepdims=True), out=shares, where=labelled[:, None])
    for _ in range(_ROUNDS):
        prior, matrices = _habits(votes, given, posterior, labelled)
        found = _posterior(votes, given, prior, matrices)
        change = float(np.abs(found - posterior)[labelled].max(initial=0.0))
        posterior = found
        if change < _SETTLED:
            break
    prior, matrices = _habits(votes, given, posterior, labelled)
    right = np.array([posterior[given[:, a], votes[given[:, a], a]].sum() for a in range(people)])
    counts = given.sum(axis=0)
    interval = np.array([clopper_pearson(float(r), int(m)) for r, m in zip(right, counts, strict=True)])
    return Consensus(
        posterior,
        np.where(labelled, posterior.argmax(axis=1), -1),
        matrices,
        np.einsum("k,akk->a", prior, matrices),
        interval.reshape(people, 2),
        counts,
    )


def _habits(
    votes: np.ndarray, given: np.ndarray, posterior: np.ndarray, labelled: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(shares of the classes, confusion matrices): expected counts, each person's rows drawn towards what is usual."""
    num_classes, people = posterior.shape[1], votes.shape[1]
    counts = np.zeros((people, num_classes, num_classes))
    for a in range(people):
        # Column j sums the beliefs about the images that the person called j.
        np.add.at(counts[a].T, votes[given[:, a], a], posterior[given[:, a]])
    prior = posterior[labelled].sum(axis=0) + 1.0
    common = counts.sum(axis=0) + np.eye(num_classes) + 1.0 / num_classes
    right = np.trace(common) / common.sum()
    # One's own accuracy, and for the mistakes what everybody mistakes a class for.
    accuracy = (counts.diagonal(axis1=1, axis2=2).sum(axis=1) + right) / (counts.sum(axis=(1, 2)) + 1)
    mistakes = common * (1 - np.eye(num_classes))
    mistakes /= np.maximum(mistakes.sum(axis=1, keepdims=True), _FLOOR)
    usual = accuracy[:, None, None] * np.eye(num_classes) + (1 - accuracy[:, None, None]) * mistakes
    matrices = (counts + _PULL * usual) / (counts.sum(axis=2, keepdims=True) + _PULL)
    return prior / prior.sum(), matrices


def _posterior(votes: np.ndarray, given: np.ndarray, prior: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(matrices, _FLOOR))
    score = np.tile(np.log(prior), (len(votes), 1))
    for a in range(votes.shape[1]):
        rows = given[:, a]
        score[rows] += logs[a][:, votes[rows, a]].T
    score -= score.max(axis=1, keepdims=True)
    posterior = np.exp(score)
    return posterior / posterior.sum(axis=1, keepdims=True)
