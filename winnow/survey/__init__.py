"""One pass of a network over a whole collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Survey:
    """A network's view of the whole collection, in source order.

    Attributes:
        values: what `Method.observe` gave, by name, each (N, width).
    """

    values: Mapping[str, np.ndarray]

    @property
    def indices(self) -> np.ndarray:
        """Rows of the collection, (N,)."""
        return np.arange(len(next(iter(self.values.values()))))

    @property
    def features(self) -> np.ndarray:
        """Last embeddings, float32 (N, D)."""
        return self.values["features"]

    @property
    def probs(self) -> np.ndarray:
        """Class probabilities, float32 (N, K)."""
        return self.values["probs"]
