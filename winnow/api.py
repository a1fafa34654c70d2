"""What `import winnow` offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from winnow.data.open import open_source, open_test
from winnow.data.source import Source
from winnow.report.run import write_run_report
from winnow.train.fit import Run, Settings
from winnow.train.fit import fit as _fit
from winnow.train.loggers import Logger
from winnow.train.progress import Progress

__all__ = ["Run", "fit", "open_source"]


def fit(
    source: Source | str | Path,
    method: str | None = None,
    *,
    out: str | Path | None = None,
    test: Source | str | Path | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    freeze: bool = False,
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    validation: float = 0.05,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    stream: bool = False,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    loggers: Sequence[Logger] = (),
    **hyperparameters: Any,
) -> Run:
    """Trains an image classifier on noisy labels and says which labels it doubts.

    Args:
        source: from `open_source`, or DATA itself.
        method: a name of `winnow methods`, or `file.py:Class`; by default `winnow`, or `label-smoothing` where
            an image may have several classes.
        out: the run folder; a temporary one by default.
        test: images with true labels, opened or DATA; by default those that a built-in brings.
        model: a network of `winnow.models.network_class`; by default chosen from image size and device.
        weights: file of weights to start from: .safetensors, or .pt, .pth, .bin of tensors alone.
        freeze: train the head alone, on features that the body gives once.
        image_size: side in pixels that the images are scaled to; by default as they are, at most 64.
        epochs: passes over the data; by default chosen from its size.
        batch_size: images a step.
        learning_rate: before the schedule; by default the network's own.
        seed: of every random decision.
        validation: share of the labelled images held out to choose a best epoch on.
        device: `auto`, `cpu`, `cuda`, ...
        precision: `auto`, `bf16` or `float32`.
        threads: of the CPU's arithmetic.
        stream: keep the decoded images on disk even if they would fit in memory; the result is the same.
        resume: go on with what `out` holds.
        force: replace what `out` holds.
        progress: hears of the work.
        loggers: get settings, epochs and summary beside the run folder, see `winnow.train.loggers`.
        hyperparameters: of the method.

    Returns:
        The run: its folder, its summary, its table of labels.

    Raises:
        winnow.errors.WinnowError: with one line that says what, where and what to do.
    """
    if not isinstance(source, Source):
        source = open_source(source)
    if not (test is None or isinstance(test, Source)):
        test = open_test(test, source)
    settings = Settings(
        method=method,
        model=model,
        weights=str(weights) if weights is not None else None,
        freeze=freeze,
        image_size=image_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        validation=validation,
        device=device,
        precision=precision,
        threads=threads,
        stream=stream,
        hyperparameters=hyperparameters,
    )
    run = _fit(
        source,
        settings,
        Path(out) if out is not None else None,
        test=test,
        resume=resume,
        force=force,
        progress=progress,
        loggers=loggers,
    )
    write_run_report(run.folder, source.pictures.read)
    return run
