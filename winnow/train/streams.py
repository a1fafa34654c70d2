"""The order of samples: a pure function of (seed, stream, epoch, step)."""

from __future__ import annotations

import numpy as np

from winnow.data.randomness import permutation, stream_key
from winnow.methods.base import Draw


class Stream:
    """One draw's rows, epoch by epoch.

    Args:
        name: of the draw; part of the key of its order.
        draw: what the method asked for.
        rows: all rows that the draw's source offers.
        noisy_labels: of the whole collection, for the order by class.
        seed: of the run.
        batch_size: of the run; the draw's `size` multiplies it.
        leads: whether it sets the length of an epoch; its batches shrink where whole ones would leave out more than a
            twentieth of its samples, the others go round instead.
    """

    def __init__(
        self,
        name: str,
        draw: Draw,
        rows: np.ndarray,
        noisy_labels: np.ndarray,
        seed: int,
        batch_size: int,
        leads: bool = False,
    ):
        self.name = name
        self.draw = draw
        self._all_rows = rows
        self._noisy_labels = noisy_labels
        self._seed = seed
        self._leads = leads
        self._wanted = max(1, round(batch_size * draw.size))
        self._epoch = 0
        self._rows = rows
        self._orders: dict[int, np.ndarray] = {}

    def start(self, epoch: int) -> None:
        """Asks the draw which samples it wants in this epoch of the run."""
        self._epoch = epoch
        self._orders.clear()
        if self.draw.samples is not None:
            self._rows = np.asarray(self.draw.samples(), dtype=np.int64)

    @property
    def size(self) -> int:
        """Samples a batch: the draw's size, or less (see `leads`), or everything if there is less."""
        rows = len(self._rows)
        wanted = min(self._wanted, rows)
        if self._leads and wanted and rows % wanted > rows // 20:
            return rows // -(-rows // wanted)
        return wanted

    @property
    def steps(self) -> int:
        """Batches an epoch; the last partial one is left out, so that every batch has one shape."""
        return len(self._rows) // self.size if len(self._rows) else 0

    def indices(self, step: int) -> np.ndarray:
        """Rows of a step; a stream shorter than the epoch goes round again in another order."""
        if not len(self._rows):
            return self._rows
        position = step * self.size
        parts = []
        missing = self.size
        while missing:
            lap, offset = divmod(position, len(self._rows))
            part = self._order(lap)[offset : offset + missing]
            parts.append(part)
            missing -= len(part)
            position += len(part)
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _order(self, lap: int) -> np.ndarray:
        if lap not in self._orders:
            key = stream_key(self._seed, f"order/{self.name}/{lap}", self._epoch)
            order = permutation(key, self._rows)
            if self.draw.order == "by_class":
                order = order[np.argsort(self._noisy_labels[order], kind="stable")]
            self._orders = {lap: order}
        return self._orders[lap]
