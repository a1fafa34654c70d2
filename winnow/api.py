"""What `import winnow` offers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from winnow.audit.blind import BlindCheck, read_check
from winnow.audit.embedding import from_run
from winnow.audit.folder import AuditFolder, Findings, refuse_overwriting
from winnow.audit.run import audit as _audit
from winnow.audit.settings import AuditSettings
from winnow.data.open import Arrays, open_source, open_test
from winnow.data.source import Source
from winnow.errors import InputError
from winnow.report.audit import write_audit_report
from winnow.report.run import write_run_report
from winnow.train.fit import Run, Settings
from winnow.train.fit import fit as _fit
from winnow.train.loggers import Logger
from winnow.train.progress import Progress

CACHE = ".winnow-features"

__all__ = ["Findings", "Run", "audit", "fit", "open_source"]


def fit(
    source: Source | str | Path | Arrays,
    method: str | None = None,
    *,
    out: str | Path | None = None,
    test: Source | str | Path | Arrays | None = None,
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
        source: from `open_source`, or what it opens: DATA, or arrays `{"x": images, "y": labels}`.
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


def audit(
    source: Source | str | Path | Arrays,
    *,
    out: str | Path | None = None,
    test: Source | str | Path | Arrays | None = None,
    annotators: Sequence[str] = (),
    weights: str | Path | None = None,
    model: str | None = None,
    budget_minutes: float = 5.0,
    blind: int = 0,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Findings:
    """Finds wrong labels, outliers, copies and broken files in a collection, without a trained model.

    Args:
        source: from `open_source`, or what it opens: DATA, or arrays `{"x": images, "y": labels}`.
        out: the folder of the audit; a temporary one by default.
        test: images that must not be among those of the source, opened or what `open_source` opens.
        annotators: label columns of several people; their consensus then stands for the given labels.
        weights: file of weights whose network gives the features; by default edges and thumbnails, or a network trained
            here.
        model: the network of `weights`.
        budget_minutes: how long a network may be trained for features.
        blind: images to draw among those that are not flagged, for a person to check: `blind.csv`.
        seed: of every random decision.
        device: `auto`, `cpu`, `cuda`, ...
        threads: of the CPU's arithmetic.
        force: replace what `out` holds.
        progress: hears of the work.

    Returns:
        The audit: its folder, its summary, its tables.

    Raises:
        winnow.errors.WinnowError: with one line that says what, where and what to do.
    """
    if not isinstance(source, Source):
        source = open_source(source, unlabelled_ok=True)
    if not (test is None or isinstance(test, Source)):
        test = open_test(test, source)
    settings = AuditSettings(
        weights=str(weights) if weights is not None else None,
        model=model,
        budget_minutes=budget_minutes,
        seed=seed,
        device=device,
        threads=threads,
        blind=blind,
    )
    target = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="winnow-audit-"))
    return audit_opened(
        source,
        settings,
        target,
        test=test,
        annotators=annotators,
        keep_features=out is not None,
        force=force,
        progress=progress,
        data_settings={"unlabelled_ok": True},
    )


def audit_opened(
    source: Source,
    settings: AuditSettings,
    out: Path,
    *,
    test: Source | None = None,
    run: Path | None = None,
    known: Source | None = None,
    annotators: Sequence[str] = (),
    verified: str | None = None,
    keep_features: bool = True,
    force: bool = False,
    progress: Progress | None = None,
    command: str = "winnow.audit",
    data_settings: Mapping[str, Any] | None = None,
) -> Findings:
    """Audits a source that is open, and writes the report.

    Args:
        source: the collection.
        settings: how to audit.
        out: the folder.
        test: see `audit`.
        run: a run whose network gives the features.
        known: images of an earlier audit, opened: see `winnow.audit.run.audit`.
        annotators: see `audit`.
        verified: what was named as verified: a blind sample that a person has filled in tells what was found.
        keep_features: keep features that took long beside the folder, so that the next audit need not make them.
        force: see `audit`.
        progress: see `audit`.
        command: for the record.
        data_settings: how the source was opened, for the record.
    """
    refuse_overwriting(out, [source.address, test.address if test is not None else None, verified])
    check: BlindCheck | None = read_check(Path(verified)) if verified and Path(verified).is_file() else None
    votes = _votes(source, annotators)
    with AuditFolder(out, force=force) as folder:
        found = _audit(
            source,
            settings,
            folder,
            test=test,
            known=known,
            features=None if run is None else partial(from_run, run, source, device=settings.device, progress=progress),
            cache=out.parent / CACHE if keep_features else None,
            votes=votes,
            check=check,
            progress=progress,
            command=command,
            data_settings=data_settings,
        )
        write_audit_report(found.folder, source.pictures.read, test.pictures.read if test is not None else None)
    return found


def _votes(source: Source, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Label columns of several people.

    Raises:
        InputError: there is no such column of labels.
    """
    if not names:
        return {}
    own = {} if source.label_column is None or source.is_multilabel else {source.label_column: source.noisy_labels}
    columns = {**(source.other_labels() if source.other_labels else {}), **own}
    if missing := [name for name in names if name not in columns]:
        there = ", ".join(columns) or "none"
        raise InputError(f"{source.address}: no column of labels '{missing[0]}' for --annotators (there are: {there})")
    return {name: columns[name] for name in names}
