"""A source decoded into memory: one uint8 array, and the list of what could not be used."""

from __future__ import annotations

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow.data.decode import Decoded
from winnow.data.folder import printable
from winnow.data.pictures import ArrayPictures
from winnow.data.source import Source, Unreadable
from winnow.errors import InputError
from winnow.files import atomic_write

DEFAULT_SIZE = 64
_CHUNK = 64
_SMALLEST = 8
_REMARKS = {
    "truncated": "cut off; what could be decoded is used",
    "extension-mismatch": "named with another format's extension",
    "trailing-bytes": "followed by other bytes",
    "first-frame": "animated; the first frame is used",
    "degenerate": "extremely small or narrow",
}


@dataclass(frozen=True)
class Quarantined:
    """An image that cannot be used.

    Attributes:
        row: its place in the source.
        id: its name.
        code: the fault's stable name, such as `truncated`.
        reason: the same for a person.
    """

    row: int
    id: str
    code: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """The images of a source that could be read, square and of one size.

    Attributes:
        images: uint8 (n, size, size, channels), one channel if every picture is grey, else three.
        rows: their places in the source, int64 (n,), ascending.
        quarantined: the others; both together are the whole source.
        notes: remarks for the person.
        size: side in pixels.
    """

    images: np.ndarray
    rows: np.ndarray
    quarantined: list[Quarantined]
    notes: tuple[str, ...]
    size: int


def load(source: Source, *, size: int | None = None, progress: Callable[[int, int], None] | None = None) -> Collection:
    """Decode a whole source.

    If all pictures share one size that is about square with no side above 64 pixels, they keep it (the
    shorter side); otherwise the shorter side is scaled to `size`, by default 64, antialiased. Either way the
    centre is cut out.

    Args:
        source: what to read.
        size: side of the square in pixels; None chooses as said.
        progress: called with the number of pictures done and their total.

    Raises:
        InputError: there are no images, or none can be used.
    """
    if not len(source):
        raise InputError(f"{source.address}: no images")
    pictures = source.pictures
    if isinstance(pictures, ArrayPictures):
        native = _native_size(pictures.array.shape[1:3])
        if native is not None and size in (None, native):
            return _load_array(source, pictures.array, native)
    gathered = _Gathered(source, size)
    with warnings.catch_warnings():
        # Pillow warns of metadata that we do not use; set once, here, because threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for rows, results in _decoded(source, gathered.prepare):
            gathered.add(rows, results)
            if progress is not None:
                progress(rows.stop, len(source))
    return gathered.collection()


def write_quarantine(path: Path, quarantined: Sequence[Quarantined]) -> None:
    """Write the images set aside as Parquet: row, id, code, reason."""
    columns = {
        "row": pa.array([item.row for item in quarantined], pa.int64()),
        "id": pa.array([printable(item.id) for item in quarantined], pa.string()),
        "code": pa.array([item.code for item in quarantined], pa.string()),
        "reason": pa.array([printable(item.reason) for item in quarantined], pa.string()),
    }
    table = pa.table(columns).replace_schema_metadata({"schema_version": "1"})

    def write(file: BinaryIO) -> None:
        pq.write_table(table, file)

    atomic_write(path, write)


def _native_size(shape: tuple[int, ...]) -> int | None:
    """The shorter side of pictures small and square enough to stay as they are."""
    shorter, longer = min(shape), max(shape)
    return shorter if shorter >= _SMALLEST and longer <= min(DEFAULT_SIZE, 2 * shorter) else None


def _fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a picture (H, W, 3), scaled to a side."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if side == size:
        return pixels[top : top + side, left : left + side]
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box))


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels[..., :-1] == pixels[..., 1:]).all())


def _load_array(source: Source, array: np.ndarray, size: int) -> Collection:
    """Arrays need no look at single pictures."""
    top, left = (array.shape[1] - size) // 2, (array.shape[2] - size) // 2
    images = array[:, top : top + size, left : left + size]
    if images.ndim == 3:
        images = images[..., None]
    elif source.grey or all(_is_grey(images[start : start + 1024]) for start in range(0, len(images), 1024)):
        images = images[..., :1]
    return Collection(np.ascontiguousarray(images), np.arange(len(images)), [], (), size)


def _decoded(
    source: Source, prepare: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[range, list[Decoded | Unreadable]]]:
    """Chunks of pictures in order, decoded by threads that run only a little ahead."""
    examine: Callable[[int], Decoded] = getattr(
        source.pictures, "examine", lambda row: Decoded(source.pictures.read(row))
    )

    def decode(rows: range) -> list[Decoded | Unreadable]:
        results: list[Decoded | Unreadable] = []
        for row in rows:
            try:
                found = examine(row)
                results.append(Decoded(prepare(found.pixels), found.notes))
            except Unreadable as fault:
                results.append(fault)
        return results

    chunks = [range(start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK)]
    threads = min(8, os.cpu_count() or 1, len(chunks))
    if threads == 1:
        yield from ((rows, decode(rows)) for rows in chunks)
        return
    pending: deque[tuple[range, Future[list[Decoded | Unreadable]]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for rows in chunks:
            pending.append((rows, pool.submit(decode, rows)))
            if len(pending) > 2 * threads:
                done, future = pending.popleft()
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Gathered:
    """Collects small pictures as they come and settles on one size at the end.

    Pictures with a side above 64 are scaled at once. Smaller ones are kept as they are: they may all turn out
    to have one size. The array is laid out for the first picture's size; whatever differs waits beside it.
    """

    def __init__(self, source: Source, size: int | None):
        self.source = source
        self.size = size
        self.grey = source.grey
        self.coloured = False
        self.count = 0
        self.rows: list[int] = []
        self.quarantined: list[Quarantined] = []
        self.remarks: dict[str, list[str]] = {}
        self.images: np.ndarray | None = None
        self.shape: tuple[int, ...] = ()
        self.others: dict[int, np.ndarray] = {}
        self.scaled = False

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """In a thread: scale what is too large to wait."""
        if not self.coloured and not _is_grey(pixels):
            if self.grey:
                grey = np.asarray(Image.fromarray(pixels).convert("L"))
                pixels = np.repeat(grey[..., None], 3, axis=2)
            else:
                self.coloured = True  # from now on nobody needs to look
        if self.size is not None:
            return _fitted(pixels, self.size)
        if _native_size(pixels.shape[:2]) is None:
            self.scaled = True
            return _fitted(pixels, DEFAULT_SIZE)
        return pixels

    def add(self, rows: range, results: Sequence[Decoded | Unreadable]) -> None:
        """Take the next pictures, in source order."""
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Unreadable):
                self.quarantined.append(Quarantined(row, self.source.ids[row], result.code, result.reason))
                continue
            for code in result.notes:
                self.remarks.setdefault(code, []).append(self.source.ids[row])
            if self.images is None:
                self.shape = result.pixels.shape
                self.images = np.empty((len(self.source), *self.shape), np.uint8)
            if result.pixels.shape == self.shape:
                self.images[self.count] = result.pixels
            else:
                self.others[self.count] = result.pixels
            self.rows.append(row)
            self.count += 1

    def collection(self) -> Collection:
        """All pictures at their final size."""
        if self.images is None:
            raise InputError(self._nothing_left())
        images = self.images[: self.count]
        native = _native_size(self.shape[:2])
        if self.size is not None:
            size = self.size
        elif native is not None and not self.others and not self.scaled:
            size = native
        else:
            size = DEFAULT_SIZE
        if self.shape[:2] != (size, size):
            images = np.stack([_fitted(self.others.get(place, image), size) for place, image in enumerate(images)])
        else:
            for place, pixels in self.others.items():
                images[place] = _fitted(pixels, size)
        if not self.coloured:
            images = np.ascontiguousarray(images[..., :1])
        rows = np.array(self.rows, dtype=np.int64)
        return Collection(images, rows, self.quarantined, tuple(self._notes()), size)

    def _notes(self) -> Iterator[str]:
        for code, ids in sorted(self.remarks.items()):
            shown = ", ".join(map(printable, ids[:3])) + (", ..." if len(ids) > 3 else "")
            yield f"{len(ids):,} images {_REMARKS.get(code, code)} ({code}): {shown}."

    def _nothing_left(self) -> str:
        counts = Counter(item.code for item in self.quarantined)
        reasons = ", ".join(f"{count:,} {code}" for code, count in counts.most_common())
        first = self.quarantined[0]
        return (
            f"{self.source.address}: none of the {len(self.source):,} images can be used: {reasons}; "
            f"for example {printable(first.id)}: {first.reason}"
        )
