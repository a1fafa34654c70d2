"""What the nearest images say of an image's class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from winnow.functional.neighbours import Neighbours

VOTERS = 10


@dataclass(frozen=True)
class Voters:
    """The nearest neighbours of each row that are no copies of it.

    Attributes:
        indices: rows, nearest first; what lies beyond the last one counts nothing.
        weights: of their votes, 0 to 1; 0 for what is no voter.
    """

    indices: Int[np.ndarray, "n voters"]
    weights: Float[np.ndarray, "n voters"]

    @classmethod
    def of(cls, graph: Neighbours, groups: Int[np.ndarray, " n"] | None) -> Voters:
        """The first ten neighbours outside the own group; a near one weighs more than a far one.

        The weight falls as a Gaussian of the distance in units of that to the furthest voter, so it depends on no
        scale.
        """
        indices, distances = graph.indices[:, :VOTERS], graph.distances[:, :VOTERS].astype(np.float64)
        stranger = np.ones(indices.shape, dtype=bool)
        if groups is not None:
            stranger = (groups[graph.indices] != groups[:, None]) | (groups[:, None] < 0)
            # Strangers first, each kind in the order of nearness.
            order = np.argsort(~stranger, axis=1, kind="stable")[:, :VOTERS]
            indices, distances, stranger = (
                np.take_along_axis(values, order, axis=1) for values in (graph.indices, graph.distances, stranger)
            )
        furthest = np.max(distances, axis=1, initial=0.0, where=stranger, keepdims=True)
        relative = np.divide(distances, furthest, out=np.zeros_like(distances), where=furthest > 0)
        return cls(indices, np.where(stranger, np.exp(-(relative**2)), 0.0))

    def shares(
        self, rows: Int[np.ndarray, " m"], ballots: Int[np.ndarray, " n"], trust: Float[np.ndarray, " n"], classes: int
    ) -> tuple[Float[np.ndarray, "m classes"], Float[np.ndarray, " m"]]:
        """(share of the votes for each class, sum of the votes) for some rows.

        Args:
            rows: who is voted on.
            ballots: the class that each row votes for, -1 = none.
            trust: weight of each row's ballot.
            classes: K.
        """
        named = ballots[self.indices[rows]]
        weights = np.where(named >= 0, self.weights[rows] * trust[self.indices[rows]], 0.0)
        if not named.size:
            return np.zeros((len(rows), classes)), np.zeros(len(rows))
        place = np.arange(len(rows))[:, None] * classes + np.maximum(named, 0)
        votes = np.bincount(place.ravel(), weights.ravel(), minlength=len(rows) * classes).reshape(-1, classes)
        total = votes.sum(axis=1)
        return np.divide(votes, total[:, None], out=votes, where=total[:, None] > 0), total
