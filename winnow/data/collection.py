"""A source decoded: pictures of one size, and the list of what could not be used."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.decode import Decoded
from winnow.data.facts import Facts, GatheredFacts
from winnow.data.fitting import DEFAULT_SIZE, Fitting, fitted, is_grey, native_size, with_channels
from winnow.data.folder import printable
from winnow.data.pictures import ArrayPictures, Stretch, stretches
from winnow.data.pixels import AUTOMATIC, BLOCK, ArrayPixels, Backing, FilePixels, Pixels, blocks
from winnow.data.source import Source, Unreadable
from winnow.data.worker import Picture
from winnow.data.workers import Job, shared
from winnow.errors import InputError
from winnow.files import atomic_write

_BATCH_BYTES = 16 * 2**20
_MORE_READERS = 6  # than workers: some wait for a disk or a network meanwhile
_AHEAD = 4
_PART_BYTES = 64 * 2**20
REMARKS = {
    "truncated": "cut off; what could be decoded is used",
    "extension-mismatch": "named with another format's extension",
    "trailing-bytes": "followed by other bytes",
    "broken-metadata": "with EXIF or XMP data that cannot be read and are ignored",
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
        pixels: uint8 (n, size, size, channels), one channel if every picture is grey, else three; in memory or on disk.
        rows: their places in the source, int64 (n,), ascending.
        quarantined: the others; both together are the whole source.
        notes: remarks for the person.
        size: side in pixels.
        facts: what the decoder knew of each, row by row of `pixels`.
    """

    pixels: Pixels
    rows: np.ndarray
    quarantined: list[Quarantined]
    notes: tuple[str, ...]
    size: int
    facts: Facts

    @cached_property
    def images(self) -> np.ndarray:
        """All pixels as one array in memory."""
        if isinstance(self.pixels, ArrayPixels):
            return self.pixels.images
        return self.pixels.take(np.arange(len(self.rows)))


def load(
    source: Source,
    *,
    size: int | None = None,
    channels: int | None = None,
    backing: Backing = AUTOMATIC,
    progress: Callable[[int, int], None] | None = None,
) -> Collection:
    """Decode a whole source.

    If all pictures share one size that is about square with no side above 64 pixels, they keep it (the
    shorter side); otherwise the shorter side is scaled to `size`, by default 64, antialiased. Either way the
    centre is cut out.

    Encoded pictures are decoded in processes of their own: one that breaks or holds up its decoder is set aside. The
    memory needed beside the decoded pictures does not grow with their number.

    Args:
        source: what to read.
        size: side of the square in pixels; None chooses as said.
        channels: 1 or 3; None gives one channel if every picture is grey, else three.
        backing: where the decoded pictures are kept.
        progress: called with the number of pictures done and their total.

    Raises:
        InputError: there are no images, or none can be used.
        MachineError: there is no room for them, or no process can be started.
    """
    pictures = source.pictures
    if isinstance(pictures, ArrayPictures) and len(pictures) and not backing.on_disk:
        native = native_size(pictures.array.shape[1:3])
        if native is not None and size in (None, native):
            return _load_array(source, pictures.array, native, channels)
    gathered = _Gathered(source, len(source), size, channels, backing)
    with closing(_decoded(source, gathered.fitting)) as decoded:
        for rows, results in decoded:
            for row, result in zip(rows, results, strict=True):
                gathered.add(row, result)
            if progress is not None:
                progress(rows.stop, len(source))
    return gathered.collection()


def parts(source: Source, *, size: int, channels: int) -> Iterator[Collection]:
    """Decode a source bit by bit, for one pass over collections of any size.

    Args:
        source: what to read.
        size: side of the square in pixels.
        channels: 1 or 3.

    Returns:
        Collections of at most 64 MiB, whose `rows` are places in the source; the last one may have no pictures. All of
        them together hold what `load` would give.

    Raises:
        InputError, MachineError: see `load`.
    """
    backing = Backing(on_disk=False)
    most = max(1, _PART_BYTES // (size**2 * channels))
    gathered = _Gathered(source, most, size, channels, backing)
    fitting, is_first = gathered.fitting(), True
    with closing(_decoded(source, lambda: fitting)) as decoded:
        for rows, results in decoded:
            for row, result in zip(rows, results, strict=True):
                gathered.add(row, result)
                if len(gathered.rows) == most:
                    yield gathered.collection()
                    gathered, is_first = _Gathered(source, most, size, channels, backing), False
    if gathered.rows or is_first:
        yield gathered.collection()
    elif gathered.quarantined:
        none = ArrayPixels(np.empty((0, size, size, channels), np.uint8))
        facts = Facts.of_array(0, size, size)
        yield Collection(none, np.empty(0, np.int64), gathered.quarantined, (), size, facts)


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


def _load_array(source: Source, stored: np.ndarray, size: int, channels: int | None) -> Collection:
    """Arrays need no look at single pictures."""
    top, left = (stored.shape[1] - size) // 2, (stored.shape[2] - size) // 2
    images = stored[:, top : top + size, left : left + size]
    if images.ndim == 3:
        images = images[..., None]
    elif source.grey or all(is_grey(images[start : start + 1024]) for start in range(0, len(images), 1024)):
        images = images[..., :1]
    images = with_channels(images, channels or images.shape[3])
    facts = Facts.of_array(len(images), *stored.shape[1:3])
    return Collection(ArrayPixels(np.ascontiguousarray(images)), np.arange(len(images)), [], (), size, facts)


Results = list[Decoded | Unreadable]


def _decoded(source: Source, fitting: Callable[[], Fitting]) -> Generator[tuple[range, Results], None, None]:
    """Stretches of pictures in order, read by threads that run only a little ahead, decoded by workers.

    Args:
        source: what to read.
        fitting: tells what to keep of a picture, as far as is known by now.
    """
    if not len(source):
        raise InputError(f"{source.address}: no images")
    job = Job(shared())
    readers = job.workers.most + _MORE_READERS
    pending: deque[tuple[range, Future[Results]]] = deque()
    pool = ThreadPoolExecutor(readers, thread_name_prefix="read")
    try:
        for stretch in stretches(source.pictures):
            pending.append((stretch.rows, pool.submit(_results, stretch, job, fitting)))
            if len(pending) > readers + _AHEAD:
                rows, future = pending.popleft()
                yield rows, future.result()
        while pending:
            rows, future = pending.popleft()
            yield rows, future.result()
    except BaseException:
        job.give_up()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _results(stretch: Stretch, job: Job, fitting: Callable[[], Fitting]) -> Results:
    """In a thread: what became of a few pictures."""
    results: dict[int, Decoded | Unreadable] = {}
    waiting: dict[int, Picture] = {}

    def decode() -> None:
        found = job.decode(list(waiting.values()), stretch.limits, fitting())
        results.update(zip(waiting, found, strict=True))
        waiting.clear()

    size = 0
    for row, item in zip(stretch.rows, stretch.read(), strict=True):
        if isinstance(item, Unreadable):
            results[row] = item
        elif isinstance(item, np.ndarray):
            results[row] = Decoded(fitting()(item), size=item.shape[:2])
        else:
            waiting[row] = item
            size += len(item[1])
        if size > _BATCH_BYTES:
            decode()
            size = 0
    if waiting:
        decode()
    return [results[row] for row in stretch.rows]


class _Gathered:
    """Collects pictures as they come, in one store whose layout follows what is known.

    As long as all have one small size they are kept as they are, and in one channel as long as all are grey. The first
    one that differs settles it: what has been stored until then is brought to the new layout, once.
    """

    def __init__(self, source: Source, most: int, size: int | None, channels: int | None, backing: Backing):
        self.source = source
        self.most = most
        self.size = size
        self.channels = channels
        self.backing = backing
        self.pixels: ArrayPixels | FilePixels | None = None
        self.rows: list[int] = []
        self.quarantined: list[Quarantined] = []
        self.remarks: dict[str, list[str]] = {}
        self.facts = GatheredFacts()
        self._waiting: list[np.ndarray] = []

    def fitting(self) -> Fitting:
        """What to keep of the next pictures."""
        is_grey_so_far = self.pixels is None or self.pixels.shape[3] == 1
        return Fitting(self.size, self.source.grey, self.channels is None and is_grey_so_far)

    def add(self, row: int, result: Decoded | Unreadable) -> None:
        """Takes the next picture, in source order."""
        name = self.source.ids[row]
        if isinstance(result, Unreadable):
            self.quarantined.append(Quarantined(row, name, result.code, result.reason))
            return
        for code in result.notes:
            self.remarks.setdefault(code, []).append(name)
        self.facts.add(result.size or result.pixels.shape[:2], result.layout, result.content, result.notes)
        self._waiting.append(self._laid_out(result.pixels))
        self.rows.append(row)
        if len(self._waiting) == BLOCK:
            self._store_waiting()

    def collection(self) -> Collection:
        """All pictures at their final size."""
        if self.pixels is None:
            raise InputError(self._nothing_left())
        self._store_waiting()
        height, width, channels = self.pixels.shape[1:]
        size = self.size or native_size((height, width)) or DEFAULT_SIZE
        if (height, width) != (size, size):
            self._lay_out((size, size, channels), lambda picture: fitted(picture, size))
        rows = np.array(self.rows, dtype=np.int64)
        return Collection(self.pixels, rows, self.quarantined, tuple(self._notes()), size, self.facts.facts())

    def _laid_out(self, picture: np.ndarray) -> np.ndarray:
        """A picture in the layout of the store, which follows if it must."""
        if self.pixels is None:
            height, width, channels = picture.shape
            self.pixels = self.backing.room(self.most, (height, width, self.channels or channels))
        height, width, channels = self.pixels.shape[1:]
        if self.channels is None and picture.shape[2] > channels:
            channels = 3
            self._lay_out((height, width, channels), lambda grey: with_channels(grey, 3))
        if picture.shape[:2] != (height, width):
            size = self.size = self.size or DEFAULT_SIZE
            if (height, width) != (size, size):
                self._lay_out((size, size, channels), lambda other: fitted(other, size))
            picture = fitted(picture, size)
        return with_channels(picture, channels)

    def _lay_out(self, layout: tuple[int, int, int], change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._store_waiting()
        assert self.pixels is not None
        changed = self.backing.room(self.most, layout)
        for block in blocks(self.pixels):
            changed.append(np.stack([change(picture) for picture in block]))
        self.pixels = changed

    def _store_waiting(self) -> None:
        if self._waiting:
            assert self.pixels is not None
            self.pixels.append(np.stack(self._waiting))
            self._waiting.clear()

    def _notes(self) -> Iterator[str]:
        if isinstance(self.pixels, FilePixels):
            yield f"The decoded images are kept on disk, not in memory: {self.pixels.num_bytes:,} bytes."
        for code, ids in sorted(self.remarks.items()):
            shown = ", ".join(map(printable, ids[:3])) + (", ..." if len(ids) > 3 else "")
            yield f"{len(ids):,} images {REMARKS.get(code, code)} ({code}): {shown}."

    def _nothing_left(self) -> str:
        counts = Counter(item.code for item in self.quarantined)
        reasons = ", ".join(f"{count:,} {code}" for code, count in counts.most_common())
        first = self.quarantined[0]
        return (
            f"{self.source.address}: none of the {len(self.source):,} images can be used: {reasons}; "
            f"for example {printable(first.id)}: {first.reason}"
        )
