"""Tar shards as WebDataset lays them out: files of one key are one sample. They are read in place, never extracted."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from winnow.data.classes import RawLabels, from_values
from winnow.data.decode import MAX_FILE_BYTES, Decoded, Limits, examine
from winnow.data.metadata import TableMetadata
from winnow.data.multilabel import Several, sets_from_texts
from winnow.data.places import Place
from winnow.data.signatures import IMAGE_EXTENSIONS
from winnow.data.source import Pictures, Unreadable
from winnow.errors import InputError

_LABEL_BYTES = 2**20
_INTEGER = re.compile(r"[0-9]{1,18}")
_SHOWN = 3


@dataclass(frozen=True)
class TarPictures:
    """Pictures inside of tar files.

    Attributes:
        shards: the files.
        shard: for each row the number of its file, (N,).
        start: where in it the picture begins, in bytes, (N,).
        size: its length in bytes, (N,).
        faults: for each row what keeps it from being read, as `code: reason`, empty if nothing does.
        limits: what pictures may be.
    """

    shards: tuple[Place, ...]
    shard: np.ndarray
    start: np.ndarray
    size: np.ndarray
    faults: Sequence[str]
    limits: Limits

    def __len__(self) -> int:
        return len(self.shard)

    def take(self, rows: np.ndarray) -> TarPictures:
        """The pictures of some rows."""
        faults = [self.faults[row] for row in rows]
        return TarPictures(self.shards, self.shard[rows], self.start[rows], self.size[rows], faults, self.limits)

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        return self.examine(row).pixels

    def examine(self, row: int) -> Decoded:
        """The picture and remarks about it."""
        return examine(self.encoded(row), self.limits)

    def encoded(self, row: int) -> bytes:
        """The picture's file content."""
        shard, start, size = self.shards[self.shard[row]], int(self.start[row]), int(self.size[row])
        where = f"{shard} at byte {start:,}"
        if self.faults[row]:
            code, _, reason = self.faults[row].partition(": ")
            raise Unreadable(code, f"{reason} ({where})")
        if size > MAX_FILE_BYTES:
            raise Unreadable("too-many-bytes", f"{size:,} bytes, more than {MAX_FILE_BYTES:,} ({where})")
        try:
            data = shard.read_range(start, start + size)
        except Exception as error:  # Drivers of addresses fail in every way; each costs one picture.
            raise Unreadable("unreadable", f"{error} ({where})") from error
        if len(data) < size:
            raise Unreadable("truncated", f"the archive ends after {len(data):,} of {size:,} bytes ({where})")
        return data


@dataclass
class _Sample:
    """What the files of one key say."""

    key: str
    shard: int
    start: int = -1
    size: int = 0
    fault: str = ""
    values: dict[str, Any] = field(default_factory=dict)


class TarColumns:
    """Shards as a table: a column `cls` or `txt` for files of that ending, and one for each key of the .json files.

    A picture that is a link, sparse, cut off, outside of the archive's folder or there twice is a row that cannot be
    read. Whole numbers in .cls files are class indices.

    Raises:
        InputError: a shard is no tar file, or there are no pictures.
    """

    default_label = "label"

    def __init__(self, shards: Sequence[Place], where: str):
        self.where = self.header = where
        self.shards = tuple(shards)
        self.samples: list[_Sample] = []
        self.remarks: dict[str, list[str]] = {}
        for number, shard in enumerate(shards):
            self.samples += self._samples(number, shard)
        self.num_rows = len(self.samples)
        if not self.samples:
            raise InputError(f"{where}: no pictures in it")
        keys = [sample.key for sample in self.samples]
        if len(set(keys)) < len(keys):
            names = [PurePosixPath(str(shard)).stem for shard in shards]
            keys = [f"{names[sample.shard]}/{key}" for sample, key in zip(self.samples, keys, strict=True)]
        self.ids = keys if len(set(keys)) == len(keys) else None
        self.columns = ["image", *dict.fromkeys(name for sample in self.samples for name in sample.values)]
        self.metadata = TableMetadata(image_column="image")
        if "label" not in self.columns:
            self.default_label = next((name for name in ("cls", "txt") if name in self.columns), "label")

    @property
    def label_like(self) -> list[str]:
        """Columns that may hold labels."""
        return [
            name
            for name in self.columns[1:]
            if all(isinstance(sample.values.get(name), (str, int, type(None))) for sample in self.samples)
        ]

    def labels(self, column: str) -> RawLabels:
        """A column as labels."""
        return from_values(column, [sample.values.get(column) for sample in self.samples], self.where, self.place)

    def several(self, column: str, separator: str | None) -> Several | None:
        """Texts such as `cat;dog`, if a separator says so."""
        texts = self.texts(column) if separator else None
        return sets_from_texts(column, texts, separator) if texts is not None and separator else None

    def class_names(self, column: str) -> list[str] | None:
        """Shards list no classes."""
        return None

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent."""
        if column == "id":
            return self.ids
        if column not in self.columns[1:]:
            return None
        values = (sample.values.get(column) for sample in self.samples)
        return ["" if value is None else str(value) for value in values]

    def is_picture_like(self, column: str) -> bool:
        """Whether a column holds pictures."""
        return column == "image"

    def pictures(self, column: str, limits: Limits) -> Pictures:
        """The pictures."""
        if column != "image":
            raise InputError(f"{self.where}: '{column}' is no column of pictures; leave --image-column away")
        return TarPictures(
            self.shards,
            np.array([sample.shard for sample in self.samples], np.int32),
            np.array([sample.start for sample in self.samples], np.int64),
            np.array([sample.size for sample in self.samples], np.int64),
            [sample.fault for sample in self.samples],
            limits,
        )

    def place(self, row: int) -> str:
        """The shard."""
        return str(self.shards[self.samples[row].shard])

    def notes(self) -> Iterator[str]:
        """Remarks about what was passed over."""
        for what, keys in self.remarks.items():
            shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
            yield f"{what}: {len(keys):,} ({shown})."

    def _samples(self, number: int, shard: Place) -> list[_Sample]:
        samples: dict[str, _Sample] = {}
        doubles: list[_Sample] = []
        for member, fault in self._members(shard):
            path = PurePosixPath(member.name)
            stem, _, ending = path.name.partition(".")
            key = str(path.parent / stem) if str(path.parent) != "." else stem
            if f".{ending.lower()}" in IMAGE_EXTENSIONS:
                sample = samples.setdefault(key, _Sample(key, number))
                if sample.start >= 0:
                    fault = fault or f"duplicate-member: a second picture of {key}"
                    sample = _Sample(f"{key}@{member.offset_data}", number)
                    doubles.append(sample)
                sample.start, sample.size, sample.fault = member.offset_data, member.size, fault
            elif ending in ("cls", "txt", "json") and not fault:
                values = self._values(shard, member, ending)
                known = samples.setdefault(key, _Sample(key, number)).values
                if known.keys() & values.keys():
                    self._remark("Labels that stand there twice, the first is used", f"{shard}: {member.name}")
                known.update({name: value for name, value in values.items() if name not in known})
            elif member.isfile() or fault:
                self._remark("Files passed over", f"{shard}: {member.name}")
        for sample in samples.values():
            if sample.start < 0:
                self._remark("Labels without a picture were passed over", f"{shard}: {sample.key}")
        return [sample for sample in samples.values() if sample.start >= 0] + doubles

    def _members(self, shard: Place) -> Iterator[tuple[tarfile.TarInfo, str]]:
        """Every member with what is wrong with it; folders are left out."""
        size = shard.size()
        with shard.open() as file:
            try:
                archive = tarfile.TarFile(fileobj=file)
            except tarfile.TarError as error:
                raise InputError(
                    f"{shard}: cannot be read as .tar: {error}; a compressed one must be unpacked"
                ) from error
            while True:
                try:
                    member = archive.next()
                except (tarfile.TarError, ValueError) as error:
                    self._remark("Archives that break off", f"{shard}: {error}")
                    return
                if member is None:
                    return
                if not member.isdir():
                    yield member, _fault(member, size)

    def _values(self, shard: Place, member: tarfile.TarInfo, ending: str) -> dict[str, Any]:
        where = f"{shard}: {member.name}"
        if member.size > _LABEL_BYTES:
            raise InputError(f"{where}: {member.size:,} bytes are no label")
        data = shard.read_range(member.offset_data, member.offset_data + member.size)
        try:
            text = data.decode()
            if ending != "json":
                text = text.strip()
                return {ending: int(text) if ending == "cls" and _INTEGER.fullmatch(text) else text or None}
            record = json.loads(text)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{where}: cannot be read: {error}") from error
        if not isinstance(record, dict):
            raise InputError(f"{where}: one JSON object is needed, this is a {type(record).__name__}")
        # Nested values (boxes, captions with their scores) are not ours to understand.
        return {
            name: value for name, value in record.items() if not isinstance(value, (dict, list)) and name != "image"
        }

    def _remark(self, what: str, item: str) -> None:
        self.remarks.setdefault(what, []).append(item)


def _fault(member: tarfile.TarInfo, size: int) -> str:
    if member.issym() or member.islnk():
        return f"link-in-archive: a link to {member.linkname!r} is not followed"
    if member.issparse():
        return f"sparse-in-archive: a sparse file of {member.size:,} bytes is not read"
    if not member.isreg():
        return "not-a-regular-file: a device or pipe"
    if member.name.startswith(("/", "\\")) or ".." in PurePosixPath(member.name).parts:
        return f"path-outside: the name {member.name!r} leads out of the archive"
    if member.offset_data + member.size > size:
        return "truncated: the archive ends before the picture does"
    return ""
