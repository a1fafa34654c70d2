"""What a person may want to hear while work goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Progress:
    """Hears of the work and says nothing; the command line's own says it in the terminal."""

    def understood(self, label: str, text: str) -> None:
        """A line about what was understood or chosen, such as ("Data", "1,437 images, 10 classes")."""

    def stage(self, name: str, done: int, total: int) -> None:
        """A countable piece of work before or after training; called often."""

    def training(
        self,
        *,
        phase: str,
        epoch: int,
        epochs: int,
        fraction: float,
        images_per_second: float,
        last: dict[str, float | None],
    ) -> None:
        """After each step. `last` has the last finished epoch's loss, agreement with given labels and test accuracy."""

    def epoch(self, line: Mapping[str, Any]) -> None:
        """After each epoch: its line of `metrics.jsonl`."""

    def warning(self, text: str) -> None:
        """Something a person should know that does not stop the work."""
