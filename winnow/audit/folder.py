"""The folder that an audit leaves behind."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.audit.blind import read_check
from winnow.data.open import open_source
from winnow.data.places import absolute
from winnow.data.source import Source
from winnow.errors import InputError
from winnow.output_folder import OutputFolder

SCHEMA_VERSION = 1
READING = frozenset(inspect.signature(open_source).parameters) - {"data", "progress"}
"""What a record says about how a collection was opened."""
LABELS, FINDINGS, QUARANTINE = "labels.parquet", "findings.parquet", "quarantine.parquet"
SUMMARY, SOURCE, BLIND, REPORT = "summary.json", "source.json", "blind.csv", "report.html"


class AuditFolder(OutputFolder):
    """The folder of an audit; see `OutputFolder`. It comes to be as a whole: `source.json` is first, and until
    `summary.json`, which is last, stands in it an earlier audit comes back should anything go wrong.
    """

    first, mark = SOURCE, SUMMARY
    what = "an audit"
    files = frozenset({SOURCE, LABELS, FINDINGS, QUARANTINE, BLIND, SUMMARY, REPORT})

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # Whoever stops the report wants nothing of it, and the same command to begin anew.
            (self.path / self.mark).unlink(missing_ok=True)
        self.close()

    def begin(self, source: Source, data_settings: Mapping[str, Any]) -> None:
        """Writes where the images come from."""
        self.write_json(SOURCE, source_record(source, data_settings))


@dataclass(frozen=True)
class Findings:
    """An audit that is done.

    Attributes:
        folder: where everything lies.
        summary: the content of `summary.json`.
        source: what was audited.
    """

    folder: Path
    summary: dict[str, Any]
    source: Source

    @property
    def labels(self) -> pa.Table:
        """`labels.parquet`, one row an image."""
        return pq.read_table(self.folder / LABELS)

    @property
    def table(self) -> pa.Table:
        """`findings.parquet`, one row a finding."""
        return pq.read_table(self.folder / FINDINGS)


def refuse_overwriting(out: Path, inputs: Sequence[str | None]) -> None:
    """Refuses an audit whose folder would lie in its source, or whose inputs lie in its folder.

    Args:
        out: the folder of the audit to be.
        inputs: what it will read, files, folders or other addresses; None is left out.

    Raises:
        InputError: so it is, or the folder holds a blind sample that somebody has filled in.
    """
    target = out.resolve()
    for name in filter(None, inputs):
        path = Path(name)
        if not path.exists():
            continue
        place = path.resolve()
        if place.is_dir() and place != target and target.is_relative_to(place) and not AuditFolder.is_there(path):
            raise InputError(f"{out} lies in {name}, which is read: name another --out")
        if place.is_relative_to(target) and place != target:
            raise InputError(f"{name} lies in {out}, which would be replaced: name another --out")
    try:
        is_filled = (out / BLIND).is_file() and read_check(out / BLIND) is not None
    except InputError:  # as it was drawn
        is_filled = False
    if is_filled:
        raise InputError(f"{out / BLIND} has been filled in: move it, or name another --out")


def source_record(source: Source, data_settings: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `source.json`: how the collection was opened, and how to know that it is the same."""
    test = data_settings.get("test")
    return {
        "schema_version": SCHEMA_VERSION,
        "address": absolute(source.address),
        "settings": {**data_settings, **(source.opened or {})} | ({"test": absolute(test)} if test else {}),
        "can_be_opened": source.opened is not None,
        "num_images": len(source),
        "fingerprint": fingerprint(source),
    }


def opened_again(folder: Path) -> Source:
    """The collection of an audit, opened as it was then.

    Raises:
        InputError: the folder holds no audit, or the collection is no longer the one that was audited.
    """
    record = read_source_record(folder)
    refuse_made(record, folder)
    known = {name: value for name, value in record["settings"].items() if name in READING and value is not None}
    source = open_source(record["address"], **known)
    if fingerprint(source) != record["fingerprint"]:
        raise InputError(
            f"{record['address']}: no longer holds the {record['num_images']:,} images that {folder} was made of; "
            "audit it anew"
        )
    return source


def refuse_made(record: Mapping[str, Any], folder: Path) -> None:
    """Refuses an audit of images that no address leads to.

    Raises:
        InputError: so it is.
    """
    if not record.get("can_be_opened", True):
        raise InputError(
            f"{folder} is an audit of a source that was put together in Python: {record['address']} alone does not "
            "give its images; audit what winnow.open_source returns, or take labels.parquet as it is"
        )


def fingerprint(source: Source) -> str:
    """32 hex digits of the images' names and the classes' names, in order; labels may be corrected meanwhile."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (*source.class_names, "", *source.ids):
        text = name.encode("utf-8", "surrogateescape")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def read_source_record(folder: Path) -> dict[str, Any]:
    """`source.json` of an audit.

    Raises:
        InputError: the folder holds no audit, or one of another version.
    """
    path = folder / SOURCE
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{path}: written by another version of winnow (schema {record['schema_version']})")
        return {"address": str(record["address"]), **record}
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no audit (no {SOURCE}): make one with winnow audit DATA --out DIR") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable as the record of an audit: {error}") from error
