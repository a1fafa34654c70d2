"""From a source and a method's name to a finished run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.source import Source
from winnow.errors import MachineError
from winnow.train.device import Device
from winnow.train.loggers import Logger
from winnow.train.predictions import Predictions
from winnow.train.predictor import Predictor
from winnow.train.progress import Progress
from winnow.train.run_folder import RunFolder
from winnow.train.session import Session
from winnow.train.settings import Settings

__all__ = ["Run", "Settings", "fit"]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where everything lies.
        summary: the content of `summary.json`.
        source: what was trained on.
    """

    folder: Path
    summary: dict[str, Any]
    source: Source

    @property
    def labels(self) -> pa.Table:
        """`labels.parquet`."""
        return pq.read_table(self.folder / "labels.parquet")

    def predict(self, source: Source) -> Predictions:
        """Class probabilities of another source's images, on the device that a training would choose."""
        return Predictor.load(self.folder).predict(source, Device.choose())


def fit(
    source: Source,
    settings: Settings,
    out: Path | None = None,
    *,
    test: Source | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    loggers: Sequence[Logger] = (),
    command: str = "winnow.fit",
    data_settings: Mapping[str, Any] | None = None,
) -> Run:
    """Trains and leaves a run folder.

    Args:
        source: the collection; its clean labels are read by evaluation alone.
        settings: how to train.
        out: the run folder; a temporary one if None.
        test: images with true labels; by default those that a built-in source brings.
        resume: go on with what `out` holds.
        force: replace what `out` holds.
        progress: hears of the work.
        loggers: get the numbers of the run, beside its folder.
        command: for the record.
        data_settings: how the source was opened, for the record.

    Raises:
        UsageError, InputError, MachineError: see `winnow.errors`.
        Interrupted: a signal stopped the training; it can be resumed.
    """
    progress = progress or Progress()
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="winnow-run-"))
    folder = RunFolder(out, resume=resume, force=force)
    try:
        session = Session(source, settings, folder, test, progress, command, dict(data_settings or {}), loggers)
        return Run(folder.path, session.run(resume), source)
    except MemoryError as error:
        raise MachineError(f"out of memory ({error}); try --limit, or a smaller --batch-size") from error
    finally:
        folder.close()
