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
from winnow.data.decode import MAX_FILE_BYTES, Limits
from winnow.data.metadata import TableMetadata
from winnow.data.multilabel import Several, sets_from_texts, sets_from_values
from winnow.data.pictures import EncodedOnes
from winnow.data.places import Place
from winnow.data.signatures import IMAGE_EXTENSIONS
from winnow.data.source import Pictures, Unreadable
from winnow.errors import InputError

_LABEL_BYTES = 2**20
_LABEL_ENDINGS = ("cls", "txt", "json")
_BLOCK = bytes(tarfile.BLOCKSIZE)
_CUT = "truncated-archive"
_DAMAGED = "Labels that cannot be read, the images are used without them"
_INTEGER = re.compile(r"[0-9]{1,18}")
_SHOWN = 3


@dataclass(frozen=True)
class TarPictures(EncodedOnes):
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
    """What the files of one key say: where the picture is, the endings of its label files, whether one is cut off."""

    key: str
    shard: int
    start: int = -1
    size: int = 0
    fault: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    endings: set[str] = field(default_factory=set)
    cut: bool = False


class TarColumns:
    """Shards as a table: a column `cls` or `txt` for files of that ending, and one for each key of the .json files.

    A picture that is a link, sparse, cut off, outside of the archive's folder or there twice is a row that cannot be
    read; so is one that may have lost a label where its archive breaks off. Whole numbers in .cls files are class
    indices; a list in a .json file names several classes.

    Raises:
        InputError: a shard is no tar file, there are no pictures, or labels but none that can be read.
    """

    default_label = "label"

    def __init__(self, shards: Sequence[Place], where: str):
        self.where = self.header = where
        self.shards = tuple(shards)
        self.samples: list[_Sample] = []
        self.remarks: dict[str, list[str]] = {}
        self.ends: dict[int, int] = {}  # of shards that break off, in bytes
        for number, shard in enumerate(shards):
            self.samples += self._samples(number, shard)
        self._set_aside_what_lost_its_label()
        self.num_rows = len(self.samples)
        if not self.samples:
            broken = "; it breaks off, fetch or write it again" if self.ends else ""
            raise InputError(f"{where}: no pictures in it{broken}")
        if _DAMAGED in self.remarks and not any(sample.values for sample in self.samples):
            raise InputError(f"{self.remarks[_DAMAGED][0]}; no label in {where} can be read")
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
        """Lists of classes, or texts such as `cat;dog` if a separator says so; `unknown_COLUMN` as in JSON lines."""
        lists = sets_from_values(
            column, self._column, lambda row: f"{self.place(row)} ({self.samples[row].key})", self.where
        )
        return sets_from_texts(column, self.texts(column), separator) if lists is None and separator else lists

    def _column(self, column: str) -> list[Any] | None:
        """What the label files say under a name, None where one says nothing; None altogether if none does."""
        return [sample.values.get(column) for sample in self.samples] if column in self.columns[1:] else None

    def class_names(self, column: str) -> list[str] | None:
        """Shards list no classes."""
        return None

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent."""
        if column == "id":
            return self.ids
        values = self._column(column)
        return None if values is None else ["" if value is None else str(value) for value in values]

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
        key = ""
        for member, fault in self._members(number, shard):
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
            elif ending in _LABEL_ENDINGS and (not fault or fault.startswith(_CUT)):
                sample = samples.setdefault(key, _Sample(key, number))
                if fault:
                    sample.cut = True
                    continue
                sample.endings.add(ending)
                values, known = self._values(shard, member, ending), sample.values
                if known.keys() & values.keys():
                    self._remark("Labels that stand there twice, the first is used", f"{shard}: {member.name}")
                known.update({name: value for name, value in values.items() if name not in known})
            elif member.isfile() or fault:
                self._remark("Files passed over", f"{shard}: {member.name}")
        if number in self.ends and key in samples:
            # The files of one key mostly stand together: where the archive breaks off, the next might be a label.
            samples[key].cut |= not samples[key].endings
        for sample in samples.values():
            if sample.start < 0:
                self._remark("Labels without a picture were passed over", f"{shard}: {sample.key}")
        return [sample for sample in samples.values() if sample.start >= 0] + doubles

    def _set_aside_what_lost_its_label(self) -> None:
        """Faults for the pictures that lack a label that may have stood where their archive breaks off."""
        endings = set().union(*(sample.endings for sample in self.samples))
        for sample in self.samples:
            if sample.shard in self.ends and not sample.fault and (sample.cut or not sample.endings >= endings):
                end = self.ends[sample.shard]
                sample.fault = f"{_CUT}: the archive breaks off at byte {end:,}, perhaps before a label of this picture"

    def _members(self, number: int, shard: Place) -> Iterator[tuple[tarfile.TarInfo, str]]:
        """Every member with what is wrong with it; folders are left out."""
        size = shard.size()
        with shard.open() as file:
            try:
                archive = tarfile.TarFile(fileobj=file)
            except tarfile.TarError as error:
                advice = "it is cut off" if size < len(_BLOCK) else "a compressed one must be unpacked"
                raise InputError(f"{shard}: cannot be read as .tar: {error}; {advice}") from error
            while True:
                try:
                    member = archive.next()
                except (tarfile.TarError, ValueError):
                    member = None
                if member is None:
                    break
                if not member.isdir():
                    yield member, _fault(member, size)
            # For tarfile, a header that is cut off or damaged is an end like any other; a true one is two empty blocks.
            end = min(archive.offset, size)
            file.seek(end)
            ending = file.read(2 * len(_BLOCK))
        if ending != 2 * _BLOCK:
            self._remark("Archives that break off", f"{shard}: at byte {end:,}")
        if not ending.startswith(_BLOCK):
            self.ends[number] = end

    def _values(self, shard: Place, member: tarfile.TarInfo, ending: str) -> dict[str, Any]:
        """What a label file says; nothing, with a remark, if it cannot be read."""
        where = f"{shard}: {member.name}"
        if member.size > _LABEL_BYTES:
            self._remark(_DAMAGED, f"{where}: {member.size:,} bytes are no label")
            return {}
        data = shard.read_range(member.offset_data, member.offset_data + member.size)
        try:
            text = data.decode()
            if ending != "json":
                text = text.strip()
                return {ending: int(text) if ending == "cls" and _INTEGER.fullmatch(text) else text or None}
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._remark(_DAMAGED, f"{where}: cannot be read: {error}")
            return {}
        if not isinstance(record, dict):
            self._remark(_DAMAGED, f"{where}: one JSON object is needed, this is a {type(record).__name__}")
            return {}
        return {name: value for name, value in record.items() if _is_plain(value) and name != "image"}

    def _remark(self, what: str, item: str) -> None:
        self.remarks.setdefault(what, []).append(item)


def _is_plain(value: Any) -> bool:
    """Whether it is a value or a list of values; what is nested (boxes, scored captions) is not ours to understand."""
    inner = value if isinstance(value, list) else [value]
    return not any(isinstance(each, (dict, list)) for each in inner)


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
        return f"{_CUT}: the archive ends before the picture does"
    return ""
