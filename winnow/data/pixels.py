"""Decoded pictures of one size, in memory or, if they are larger than that, on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from winnow.errors import MachineError
from winnow.files import write_error

MEMORY_SHARE = 0.5
"""Of the memory that is free, the part that decoded pictures may take before they go to disk."""
BLOCK = 256
_CGROUP = Path("/sys/fs/cgroup")


@runtime_checkable
class Pixels(Protocol):
    """Pictures by row."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, height, width, channels)."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some pictures, uint8 (B, height, width, channels)."""
        ...


def blocks(pixels: Pixels) -> Iterator[np.ndarray]:
    """All pictures in order, a few hundred at a time."""
    for start in range(0, len(pixels), BLOCK):
        yield pixels.take(np.arange(start, min(start + BLOCK, len(pixels))))


class ArrayPixels:
    """Pictures in memory.

    Args:
        images: uint8 (N, height, width, channels).
    """

    def __init__(self, images: np.ndarray):
        self.images = images
        self._room = images

    @classmethod
    def empty(cls, most: int, picture: tuple[int, int, int]) -> ArrayPixels:
        """None yet, and room for some."""
        pixels = cls(np.empty((most, *picture), np.uint8))
        pixels.images = pixels._room[:0]
        return pixels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, height, width, channels)."""
        count, height, width, channels = self.images.shape
        return count, height, width, channels

    def __len__(self) -> int:
        return len(self.images)

    def append(self, pictures: np.ndarray) -> None:
        """Adds pictures (B, height, width, channels)."""
        count = len(self.images)
        self._room[count : count + len(pictures)] = pictures
        self.images = self._room[: count + len(pictures)]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some pictures."""
        return self.images[rows]


class FilePixels:
    """Pictures in a file without a name: it is gone with the process, however that ends.

    Nothing of it is kept in memory but what the system's cache can do without.

    Args:
        folder: where there is room for it.
        picture: (height, width, channels).
    """

    def __init__(self, folder: Path, picture: tuple[int, int, int]):
        self.folder = folder
        self.picture = picture
        self._count = 0
        self._bytes = prod(picture)
        try:
            self._file, name = tempfile.mkstemp(prefix=".pixels-", dir=folder)
            os.unlink(name)
        except OSError as error:
            raise write_error(error, folder, 0) from error
        weakref.finalize(self, os.close, self._file)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, height, width, channels)."""
        return self._count, *self.picture

    def __len__(self) -> int:
        return self._count

    @property
    def num_bytes(self) -> int:
        """Length of the file."""
        return self._count * self._bytes

    def append(self, pictures: np.ndarray) -> None:
        """Adds pictures (B, height, width, channels)."""
        rest, place = np.ascontiguousarray(pictures).reshape(-1).data, self.num_bytes
        try:
            while rest:
                written = os.pwrite(self._file, rest, place)
                rest, place = rest[written:], place + written
        except OSError as error:
            raise write_error(error, self.folder / "decoded pictures", len(rest)) from error
        self._count += len(pictures)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some pictures."""
        pictures = np.empty((len(rows), *self.picture), np.uint8)
        flat = pictures.reshape(len(rows), self._bytes)
        starts = (rows.astype(np.int64) * self._bytes).tolist()
        if hasattr(os, "posix_fadvise"):  # so that a slow disk seeks them all at once
            for start in starts:
                os.posix_fadvise(self._file, start, self._bytes, os.POSIX_FADV_WILLNEED)
        for picture, start in zip(flat, starts, strict=True):
            if os.preadv(self._file, [picture.data], start) != self._bytes:
                raise MachineError(f"{self.folder}: the file of decoded pictures ends too early")
        return pictures


class PixelsPart:
    """Some rows of others.

    Args:
        whole: where they are.
        rows: which, (N,).
    """

    def __init__(self, whole: Pixels, rows: np.ndarray):
        self.whole = whole
        self.rows = rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, height, width, channels)."""
        return len(self.rows), *self.whole.shape[1:]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some pictures."""
        return self.whole.take(self.rows[rows])


@dataclass(frozen=True)
class Backing:
    """Where decoded pictures are kept.

    Attributes:
        on_disk: None leaves it to their size: on disk if they would take more than half of the memory that is free.
        folder: for the file; None takes the system's folder for temporary files.
    """

    on_disk: bool | None = None
    folder: Path | None = None

    def room(self, most: int, picture: tuple[int, int, int]) -> ArrayPixels | FilePixels:
        """An empty store.

        Args:
            most: how many pictures there may be.
            picture: (height, width, channels).

        Raises:
            MachineError: they fit neither in memory nor on the disk.
        """
        needed = most * prod(picture)
        on_disk = needed > MEMORY_SHARE * free_memory() if self.on_disk is None else self.on_disk
        if not on_disk:
            return ArrayPixels.empty(most, picture)
        folder = self.folder or Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise MachineError(
                f"{folder}: {most:,} decoded pictures take {needed:,} bytes there, {free:,} are free; "
                "make room, name another --out, or try --limit"
            )
        return FilePixels(folder, picture)


AUTOMATIC = Backing()


def free_memory() -> float:
    """Bytes of memory that this process may still take; infinite where the system does not tell."""
    free = [float("inf")]
    try:
        facts = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024.0 for line in facts if line.startswith("MemAvailable:")]
    except OSError:
        pass
    for most, now, reclaimable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit, used = (int((_CGROUP / name).read_text()) for name in (most, now))
            lines = ((_CGROUP / now).parent / "memory.stat").read_text().splitlines()
            counts = dict(line.split() for line in lines)
            free.append(limit - used + int(counts.get(reclaimable, 0)))
        except (OSError, ValueError):  # no such limit ("max"), or no such file
            continue
    return max(0.0, min(free))
