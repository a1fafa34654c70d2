"""Pictures by row, where they lie: in an array, in files, or encoded in a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from winnow.data.decode import Decoded, Limits, examine, read_stamped_file, stamp_of
from winnow.data.row_groups import StoredColumn
from winnow.data.source import Pictures, Unreadable


@dataclass(frozen=True)
class ArrayPictures:
    """Pictures that are pixels already.

    Attributes:
        array: uint8 (N, H, W) for grey or (N, H, W, 3).
    """

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: np.ndarray) -> ArrayPictures:
        """The pictures of some rows."""
        return ArrayPictures(self.array[rows])

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        return self.examine(row).pixels

    def examine(self, row: int) -> Decoded:
        """The picture; arrays give no remarks."""
        picture = self.array[row]
        return Decoded(np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture)


class EncodedOnes:
    """What pictures have in common that are files, wherever these lie."""

    limits: Limits

    def encoded(self, row: int) -> bytes:
        """The picture's file content."""
        raise NotImplementedError

    def name(self, row: int) -> str:
        """The file's name, whose extension is compared with the content; "" if it has none."""
        return ""

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        return self.examine(row).pixels

    def examine(self, row: int) -> Decoded:
        """The picture and remarks about it."""
        return examine(self.encoded(row), self.limits, name=self.name(row))


@dataclass(frozen=True)
class FilePictures(EncodedOnes):
    """Pictures in files.

    Attributes:
        paths: one a row.
        limits: what is accepted.
        root: links must not lead out of this folder; None lets them.
        stamps: length and time of change of each file, int64 (N, 2), as they were when it was listed or first read; -1
            before. A file that is another one later is no longer the picture that was meant.
    """

    paths: Sequence[str]
    limits: Limits
    root: str | None = None
    stamps: np.ndarray | None = field(default=None, repr=False, compare=False)

    @classmethod
    def listed(cls, paths: Sequence[str], limits: Limits, root: str | None = None) -> FilePictures:
        """Pictures in files that have just been found: should they change until they are read, that is noticed."""
        return cls(paths, limits, root, np.array([_stamp(path) for path in paths], np.int64).reshape(-1, 2))

    def __post_init__(self) -> None:
        if self.stamps is None:
            object.__setattr__(self, "stamps", np.full((len(self.paths), 2), -1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> FilePictures:
        """The pictures of some rows."""
        assert self.stamps is not None
        return FilePictures([self.paths[row] for row in rows], self.limits, self.root, self.stamps[rows])

    def name(self, row: int) -> str:
        """The file's path."""
        return self.paths[row]

    def encoded(self, row: int) -> bytes:
        """The file's content."""
        path = self.paths[row]
        if self.root is not None and os.path.islink(path) and not is_inside(path, self.root):
            raise Unreadable("link-outside", "the link leads out of the folder (--follow-links allows it)")
        assert self.stamps is not None
        known = tuple(self.stamps[row].tolist())
        data, stamp = read_stamped_file(path, None if known == (-1, -1) else known)
        self.stamps[row] = stamp
        return data


@dataclass(frozen=True)
class EncodedPictures(EncodedOnes):
    """Pictures whose files stand in a table column.

    Attributes:
        column: of bytes, in memory or stored.
        limits: what is accepted.
        files: where a row's bytes are missing, its file, if the table names one.
    """

    column: pa.ChunkedArray | StoredColumn
    limits: Limits
    files: FilePictures | None = None

    def __len__(self) -> int:
        return len(self.column)

    def take(self, rows: np.ndarray) -> EncodedPictures:
        """The pictures of some rows."""
        part = self.column.take(rows if isinstance(self.column, StoredColumn) else pa.array(rows))
        return EncodedPictures(part, self.limits, self.files and self.files.take(rows))

    def encoded(self, row: int) -> bytes:
        """The picture's file content."""
        value = self.column.value(row) if isinstance(self.column, StoredColumn) else self.column[row].as_py()
        return self._or_file(row, value)

    def stretches(self) -> Iterator[Stretch]:
        """All pictures in order, without going to and fro in a stored column."""
        if not isinstance(self.column, StoredColumn):
            yield from _stretches_by_row(self)
            return
        start = 0
        for values, places in self.column.sequence():
            for first in range(0, len(places), STRETCH):
                some = places[first : first + STRETCH]
                rows = range(start, start + len(some))
                yield Stretch(rows, self.limits, partial(self._encoded_among, rows, values, some))
                start += len(some)

    def _encoded_among(self, rows: range, values: pa.Array, places: np.ndarray) -> Iterator[Item]:
        for row, place in zip(rows, places.tolist(), strict=True):
            try:
                yield "", self._or_file(row, values[place].as_py())
            except Unreadable as fault:
                yield fault

    def _or_file(self, row: int, data: bytes | None) -> bytes:
        if data is None and self.files is not None and self.files.paths[row]:
            return self.files.encoded(row)
        return data or b""


@dataclass(frozen=True)
class JoinedPictures:
    """Pictures of several sources in one order.

    Attributes:
        parts: where they come from.
        part: for each row the number of its part, (N,).
        row: its row there, (N,).
    """

    parts: tuple[StoredPictures, ...]
    part: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.part)

    def take(self, rows: np.ndarray) -> JoinedPictures:
        """The pictures of some rows."""
        return JoinedPictures(self.parts, self.part[rows], self.row[rows])

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        return self.examine(row).pixels

    def examine(self, row: int) -> Decoded:
        """The picture and remarks about it."""
        return self.parts[self.part[row]].examine(int(self.row[row]))

    def stretches(self) -> Iterator[Stretch]:
        """All pictures in order: part by part, unless the parts alternate."""
        ends = np.flatnonzero(np.diff(self.part)) + 1
        if len(ends) * STRETCH >= len(self):
            yield from _stretches_by_row(self)
            return
        start = 0
        for rows in np.split(np.arange(len(self)), ends):
            for stretch in stretches(self.parts[self.part[rows[0]]].take(self.row[rows])):
                yield replace(stretch, rows=range(start, start + len(stretch.rows)))
                start += len(stretch.rows)


StoredPictures = ArrayPictures | FilePictures | EncodedPictures | JoinedPictures

Item = tuple[str, bytes] | np.ndarray | Unreadable
"""A picture as it lies there: (file name or "", content), or pixels (height, width, 3); or why it cannot be had."""
STRETCH = 64


@dataclass(frozen=True)
class Stretch:
    """A few pictures that follow each other.

    Attributes:
        rows: which.
        limits: what encoded ones may be.
        read: reads them; different stretches may be read at the same time.
    """

    rows: range
    limits: Limits
    read: Callable[[], Iterator[Item]]


def stretches(pictures: Pictures) -> Iterator[Stretch]:
    """All pictures in order, not decoded yet where they can be had so."""
    own = getattr(pictures, "stretches", None)
    yield from own() if own else _stretches_by_row(pictures)


def _stretches_by_row(pictures: Pictures) -> Iterator[Stretch]:
    limits = _limits(pictures)
    for start in range(0, len(pictures), STRETCH):
        rows = range(start, min(start + STRETCH, len(pictures)))
        yield Stretch(rows, limits, partial(_items, pictures, rows))


def _limits(pictures: Pictures) -> Limits:
    if isinstance(pictures, JoinedPictures):
        return next((part.limits for part in pictures.parts if hasattr(part, "limits")), Limits())
    found: Limits = getattr(pictures, "limits", Limits())
    return found


def _items(pictures: Pictures, rows: range) -> Iterator[Item]:
    for row in rows:
        try:
            yield _item(pictures, row)
        except Unreadable as fault:
            yield fault


def _item(pictures: Pictures, row: int) -> Item:
    if isinstance(pictures, JoinedPictures):
        return _item(pictures.parts[pictures.part[row]], int(pictures.row[row]))
    return (pictures.name(row), pictures.encoded(row)) if isinstance(pictures, EncodedOnes) else pictures.read(row)


def _stamp(path: str) -> tuple[int, int]:
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):  # reading it will tell
        return -1, -1


def is_inside(path: str, root: str) -> bool:
    """Whether a path, links resolved, lies in a folder."""
    real, real_root = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, real_root]) == real_root
