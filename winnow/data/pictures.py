"""Pictures by row, where they lie: in an array, in files, or encoded in a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from winnow.data.decode import Decoded, Limits, examine, read_file
from winnow.data.source import Unreadable


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


@dataclass(frozen=True)
class FilePictures:
    """Pictures in files.

    Attributes:
        paths: one a row.
        limits: what is accepted.
        root: links must not lead out of this folder; None lets them.
    """

    paths: Sequence[str]
    limits: Limits
    root: str | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> FilePictures:
        """The pictures of some rows."""
        return FilePictures([self.paths[row] for row in rows], self.limits, self.root)

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        return self.examine(row).pixels

    def examine(self, row: int) -> Decoded:
        """The picture and remarks about it."""
        return examine(self.encoded(row), self.limits, name=self.paths[row])

    def encoded(self, row: int) -> bytes:
        """The file's content."""
        path = self.paths[row]
        if self.root is not None and os.path.islink(path) and not is_inside(path, self.root):
            raise Unreadable("link-outside", "the link leads out of the folder (--follow-links allows it)")
        return read_file(path)


@dataclass(frozen=True)
class EncodedPictures:
    """Pictures whose files stand in a table column.

    Attributes:
        column: binary Arrow column.
        limits: what is accepted.
        files: where a row's bytes are missing, its file, if the table names one.
    """

    column: pa.ChunkedArray
    limits: Limits
    files: FilePictures | None = None

    def __len__(self) -> int:
        return len(self.column)

    def take(self, rows: np.ndarray) -> EncodedPictures:
        """The pictures of some rows."""
        return EncodedPictures(self.column.take(pa.array(rows)), self.limits, self.files and self.files.take(rows))

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        return self.examine(row).pixels

    def examine(self, row: int) -> Decoded:
        """The picture and remarks about it."""
        return examine(self.encoded(row), self.limits)

    def encoded(self, row: int) -> bytes:
        """The picture's file content."""
        data: bytes | None = self.column[row].as_py()
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


StoredPictures = ArrayPictures | FilePictures | EncodedPictures | JoinedPictures


def is_inside(path: str, root: str) -> bool:
    """Whether a path, links resolved, lies in a folder."""
    real, real_root = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, real_root]) == real_root
