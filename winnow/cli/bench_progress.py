"""The live line of a grid of trainings."""

from __future__ import annotations

from typing import Any, Self

from winnow.bench.runner import CellProgress
from winnow.cli.terminal import TerminalProgress, time_left


class BenchProgress(TerminalProgress, CellProgress):
    """Tells on stderr how many cells are done and how long the rest takes; as a context it takes the line away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def working(self, *, done: int, failed: int, total: int | None, seconds_left: float | None) -> None:
        """Cells done, failed ones, time left."""
        parts = [
            f"{done:,}/{total:,} cells" if total is not None else f"{done:,} cells",
            f"{failed:,} failed" if failed else "",
            f"{time_left(seconds_left)} left" if seconds_left is not None else "",
        ]
        self._show(parts, done=False)

    def ended(self, record: dict[str, Any]) -> None:
        """Says why a cell failed."""
        if "error" in record:
            self.warning(f"a cell failed: {record['error']}")
