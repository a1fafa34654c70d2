"""`winnow export`: from the folder of an audit or run to the cleaned collection, complete or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.errors import InputError, MachineError, UsageError
from winnow.export.content import Content
from winnow.export.fates import EVERYTHING, Rule, decide
from winnow.export.images import FATES_FILE, class_folders, write_folder
from winnow.export.judged import Judged, read_judged
from winnow.export.sheets import write_cleanlab, write_csv
from winnow.export.tables import write_hugging_face, write_parquet
from winnow.export.tools import write_coco, write_fiftyone, write_label_studio
from winnow.files import atomic_write, sync, write_error
from winnow.train.interrupt import stop_on_signals
from winnow.train.progress import Progress

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Format:
    """A form in which a collection is exported.

    Attributes:
        write: writes it to a file, or into a folder.
        endings: of the file; none if it is a folder.
        everything: whether it is for looking at the findings: it then holds every image that can be read, as given.
        labels_needed: whether an image without a label has no place in it.
        one_class: whether an image must have one class.
        places: whether it places pictures as files, which may be links.
    """

    write: Callable[[Content, Path], None]
    endings: tuple[str, ...] = ()
    everything: bool = False
    labels_needed: bool = False
    one_class: bool = False
    places: bool = False


FORMATS = {
    "folder": Format(write_folder, labels_needed=True, one_class=True, places=True),
    "csv": Format(write_csv, (".csv",)),
    "parquet": Format(write_parquet, (".parquet",)),
    "hugging-face": Format(write_hugging_face),
    "coco": Format(write_coco, places=True),
    "cleanlab": Format(write_cleanlab, (".csv", ".npz"), everything=True, labels_needed=True),
    "fiftyone": Format(write_fiftyone, everything=True, places=True),
    "label-studio": Format(write_label_studio, everything=True, places=True),
}


def export(
    folder: Path,
    to: str,
    out: Path,
    rule: Rule | None = None,
    *,
    link: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Exports what an audit or training run judged.

    Args:
        folder: of the audit or run; it is only read, as is the source.
        to: one of `FORMATS`.
        out: the file or folder to write; it is there only once it is complete. What became of each image stands in
            `fates.parquet` in the folder, or beside the file.
        rule: what becomes of images that something was found against; by default they are left out.
        link: place links to the source's image files instead of copies.
        force: replace what an earlier export left at `out`.
        progress: hears of it.

    Returns:
        What was done, as `--json` prints it.

    Raises:
        UsageError: the options do not fit the format.
        InputError: `folder` or its source cannot be used, or `out` is there already.
        MachineError: the disk is full, or cannot be written.
        Interrupted: a person asked to stop; nothing was written.
    """
    form = _checked_format(to, out, rule, link)
    out = Path(os.path.abspath(out))
    _refuse_there(out, form, force)
    progress = progress or Progress()
    judged = read_judged(folder)
    _refuse_place(out, folder, judged)
    if form.one_class and judged.given_label.ndim == 2:
        raise UsageError(f"--to {to}: its images have one class each, those of {folder} several; choose --to parquet")
    rule = EVERYTHING if form.everything else rule or Rule()
    fates = decide(judged, rule, labels_needed=form.labels_needed)
    progress.understood(
        "Data", f"{len(judged):,} images, {len(judged.source.class_names):,} classes, judged in {folder}"
    )
    with stop_on_signals() as stop:
        content = Content(judged, fates, out, link, progress, stop)
        try:
            _refuse_full(content, form)
            out.parent.mkdir(parents=True, exist_ok=True)
            (_write_file if form.endings else _write_folder)(content, form)
        except OSError as error:
            raise write_error(error, out, max(content.num_bytes, content.known_bytes())) from error
    counts = fates.counts()
    return {
        "source": str(folder),
        "data": judged.source.address,
        "to": to,
        "out": str(out),
        "fates_file": str(fates_file(out, form)),
        "num_images": len(judged),
        "num_classes": len(judged.source.class_names),
        "exported": len(fates.exported),
        "left_out": len(judged) - len(fates.exported),
        "fates": counts,
        "notes": content.notes,
    }


def fates_file(out: Path, form: Format) -> Path:
    """Where it stands what became of each image."""
    return out.with_name(f"{out.name}.{FATES_FILE}") if form.endings else out / FATES_FILE


def _checked_format(to: str, out: Path, rule: Rule | None, link: bool) -> Format:
    if to not in FORMATS:
        raise UsageError(f"--to {to}: unknown; the formats are {', '.join(FORMATS)}")
    form = FORMATS[to]
    if form.endings and out.suffix.lower() not in form.endings:
        raise UsageError(f"--out {out}: must end in {' or '.join(form.endings)} for --to {to}")
    if form.everything and rule not in (None, Rule()):
        raise UsageError(
            f"--to {to} shows every image with its findings, as it was given: leave the options that choose away"
        )
    if link and not form.places:
        placing = ", ".join(name for name, other in FORMATS.items() if other.places)
        raise UsageError(f"--link: --to {to} places no image files; {placing} do")
    return form


def _refuse_there(out: Path, form: Format, force: bool) -> None:
    """Only what an earlier export left is ever replaced."""
    fates = fates_file(out, form)
    there = [path for path in (out, fates) if os.path.lexists(path)]
    if not there or (not form.endings and out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise InputError(f"{there[0]} is there already: name another --out, or replace it with --force")
    if not _is_export(fates) or out.is_symlink() or (form.endings and out.is_dir()):
        raise InputError(f"{out} is no earlier export, so it is not replaced: name another --out")


def _is_export(fates: Path) -> bool:
    try:
        metadata = pq.read_schema(fates).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return b"winnow_export" in metadata


def _refuse_place(out: Path, folder: Path, judged: Judged) -> None:
    """Neither the source nor what was judged is ever changed."""
    real = Path(os.path.realpath(out))
    for name, there in (("the images", Path(judged.source.address)), ("what was judged", folder)):
        if not there.exists():
            continue  # a built-in name or an address
        place = Path(os.path.realpath(there))
        if real == place or real in place.parents or (place in real.parents and place.is_dir()):
            raise InputError(f"{out}: must not be, hold or lie in {there}, where {name} lie; name another --out")


def _refuse_full(content: Content, form: Format) -> None:
    """Said before an hour of copying, where sizes are known."""
    needed = 0 if content.link or (form.endings and form.write is not write_parquet) else content.known_bytes()
    there = next(parent for parent in content.out.parents if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise MachineError(
            f"{content.out}: the disk is too small: {needed:,} bytes or more are needed, {free:,} are free"
        )


def _write_file(content: Content, form: Format) -> None:
    form.write(content, content.out)
    _write_fates(content, fates_file(content.out, form), content.out.name)


def _write_folder(content: Content, form: Format) -> None:
    """Fills a hidden folder beside, which takes the name once it is complete."""
    out = content.out
    stage, old = (out.parent / f".{secrets.token_hex(8)}.tmp" for _ in range(2))
    try:
        stage.mkdir()
        form.write(content, stage)
        _write_fates(content, stage / FATES_FILE, out.name)
        if out.exists():
            out.rename(old)
        try:
            stage.rename(out)
        except OSError:
            with suppress(OSError):
                old.rename(out)
            raise
        sync(out.parent)
    finally:
        for left in (stage, old):
            shutil.rmtree(left, ignore_errors=True)


def _write_fates(content: Content, path: Path, name: str) -> None:
    """One row an image of the source: what became of it, under which label, in which file."""
    judged, fates = content.judged, content.fates
    exported = np.zeros(len(judged), dtype=bool)
    exported[fates.exported] = True
    told = list(fates.told(judged))

    def names(labels: np.ndarray, shown: np.ndarray) -> pa.Array:
        found = [[content.class_names[k] for k in content.classes(labels, row)] for row in range(len(judged))]
        if content.several:
            known = (labels >= 0).any(axis=1) & shown
            return pa.array([of if yes else None for of, yes in zip(found, known, strict=True)], pa.list_(pa.string()))
        return pa.array([of[0] if of and yes else None for of, yes in zip(found, shown, strict=True)], pa.string())

    table = pa.table(
        {
            "row": pa.array(np.arange(len(judged))),
            "id": pa.array(list(judged.source.ids), pa.string()),
            "fate": pa.array([fate for fate, _ in told], pa.string()),
            "reason": pa.array([reason for _, reason in told], pa.string()),
            "given_label": names(judged.given_label, np.ones(len(judged), dtype=bool)),
            "label": names(fates.labels, exported),
            "file": pa.array([content.files.get(row) for row in range(len(judged))], pa.string()),
        }
    )
    metadata = {
        "winnow_schema_version": str(SCHEMA_VERSION),
        "winnow_export": name,
        "class_names": json.dumps(list(content.class_names)),
        "class_folders": json.dumps(class_folders(content.class_names)),
    }
    table = table.replace_schema_metadata(metadata)
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))
