"""Where the numbers of a run go beside `metrics.jsonl`: three calls, so that any service can be fed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from winnow.errors import InputError

_EXTRA = 'pip install "winnow-images[tensorboard]"'


class Logger(Protocol):
    """Hears of a run what its folder gets; what it raises stops the run.

    A run that goes on after an interruption calls `started` again, and then only the epochs that are left. After a step
    back to a checkpoint, epochs come again with the same numbers.
    """

    def started(self, config: Mapping[str, Any]) -> None:
        """Before the first step: the content of `config.toml`."""

    def epoch(self, line: Mapping[str, Any]) -> None:
        """After each epoch: its line of `metrics.jsonl`."""

    def finished(self, summary: Mapping[str, Any]) -> None:
        """At the end: the content of `summary.json`. An interrupted run does not come here."""


class TensorBoard:
    """Writes every number of an epoch's line for TensorBoard, over the epochs.

    Args:
        folder: where the event files go; made with the first epoch.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._open = summary_writer()
        self._writer: Any = None
        self._epoch = 0
        self._config = ""

    def started(self, config: Mapping[str, Any]) -> None:
        """Keeps the settings for the text that stands beside the curves."""
        tables = {name: table for name, table in config.items() if isinstance(table, Mapping)}
        rows = [f"| {name}.{key} | {value} |" for name, table in tables.items() for key, value in table.items()]
        self._config = "\n".join(["| setting | value |", "|---|---|", *rows])

    def epoch(self, line: Mapping[str, Any]) -> None:
        """Adds a point to every curve."""
        number = int(line["epoch"])
        if self._writer is None or number <= self._epoch:
            # What an earlier process, or the epochs before a step back, wrote from here on is shown no more.
            self._close()
            self._writer = self._open(str(self.folder), purge_step=number)
            self._writer.add_text("config", self._config, number)
        for name, value in _numbers(line):
            self._writer.add_scalar(name, value, number)
        self._writer.flush()
        self._epoch = number

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Closes the file."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def summary_writer() -> Any:
    """PyTorch's writer of event files.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(f"--log tensorboard needs an extra: {_EXTRA}") from error
    return SummaryWriter


def _numbers(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """What of a line is a number, by name: `loss`, `terms/bootstrap`."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "epoch":
            yield f"{prefix}{name}", float(value)
