"""One column of bytes of a Parquet file, read as it is asked for: it may be larger than memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import RLock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.source import first_line
from winnow.errors import InputError

_KEPT_BYTES = 256 * 2**20
_BATCH_BYTES = 4 * 2**20
_LARGEST_BATCH = 1024

Part = tuple[int, pa.Array]
"""Some values of a row group, and the row in it at which they begin."""


class StoredColumn:
    """A column of bytes in the row groups of one or several files.

    Args:
        files: opened, in order.
        column: its name; a field of a struct after a dot.
        where: the file, for messages.
        rows: which rows, (N,), in any order; None takes all.
    """

    def __init__(self, files: Sequence[pq.ParquetFile], column: str, where: str, rows: np.ndarray | None = None):
        self.files = files
        self.column = column
        self.where = where
        self.rows = rows
        self.groups = [(file, number) for file in files for number in range(file.metadata.num_row_groups)]
        counts = [file.metadata.row_group(number).num_rows for file, number in self.groups]
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._lock = RLock()  # a Parquet reader is for one thread at a time
        self._kept: OrderedDict[int, pa.Array] = OrderedDict()
        self._passing: tuple[int, Iterator[Part], Part] = -1, iter(()), (0, pa.array([]))

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.rows is None else len(self.rows)

    def take(self, rows: np.ndarray) -> StoredColumn:
        """The values of some rows."""
        part = StoredColumn(self.files, self.column, self.where, rows if self.rows is None else self.rows[rows])
        part._lock = self._lock
        return part

    def value(self, row: int) -> bytes | None:
        """One value. Row groups are kept for the next ones, as far as 256 MiB go; a larger one is passed through.

        Raises:
            InputError: the file is damaged there.
        """
        place = row if self.rows is None else int(self.rows[row])
        group = int(np.searchsorted(self.starts, place, side="right")) - 1
        place -= int(self.starts[group])
        with self._lock:
            if self._bytes_of(group) <= _KEPT_BYTES:
                values = self._whole(group)
            else:
                start, values = self._part(group, place)
                place -= start
            found: bytes | None = values[place].as_py()
            return found

    def sequence(self) -> Iterator[tuple[pa.Array, np.ndarray]]:
        """All values in order: parts of the column, and which of their values are meant.

        Rows in ascending order are one pass over the files, of which little is in memory at a time.

        Raises:
            InputError: a file is damaged.
        """
        wanted = np.arange(len(self)) if self.rows is None else self.rows
        if (np.diff(wanted) < 0).any():
            yield from ((pa.array([self.value(row)], pa.large_binary()), np.zeros(1, int)) for row in range(len(self)))
            return
        for group in range(len(self.groups)):
            first, last = np.searchsorted(wanted, self.starts[group : group + 2])
            places = wanted[first:last] - self.starts[group]
            if not len(places):
                continue
            parts = self._parts(group, self._batch(group))
            while part := self._next(parts):
                start, values = part
                first, last = np.searchsorted(places, [start, start + len(values)])
                if first < last:
                    yield values, places[first:last] - start

    def _whole(self, group: int) -> pa.Array:
        if group not in self._kept:
            while self._kept and sum(map(self._bytes_of, (*self._kept, group))) > _KEPT_BYTES:
                self._kept.popitem(last=False)
            count = self.groups[group][0].metadata.row_group(self.groups[group][1]).num_rows
            self._kept[group] = pa.concat_arrays([values for _, values in self._parts(group, count)])
        self._kept.move_to_end(group)
        return self._kept[group]

    def _part(self, group: int, place: int) -> Part:
        passing, parts, part = self._passing
        if passing != group or place < part[0]:
            parts = self._parts(group, self._batch(group))
            part = 0, pa.array([])
        while place >= part[0] + len(part[1]):
            part = next(parts)
        self._passing = group, parts, part
        return part

    def _next(self, parts: Iterator[Part]) -> Part | None:
        with self._lock:
            return next(parts, None)

    def _parts(self, group: int, count: int) -> Iterator[Part]:
        file, number = self.groups[group]
        start = 0
        try:
            for batch in file.iter_batches(min(count, _LARGEST_BATCH), [number], [self.column], use_threads=False):
                values = batch.column(0)
                if pa.types.is_struct(values.type):
                    values = values.flatten()[0]
                yield start, values
                start += len(values)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.where}: column '{self.column}' cannot be read: {first_line(error)}") from error

    def _bytes_of(self, group: int) -> int:
        file, number = self.groups[group]
        facts = file.metadata.row_group(number)
        columns = (facts.column(place) for place in range(facts.num_columns))
        return next(found.total_uncompressed_size for found in columns if found.path_in_schema == self.column)

    def _batch(self, group: int) -> int:
        """How many rows are about four megabytes."""
        file, number = self.groups[group]
        bytes_per_row = max(1.0, self._bytes_of(group) / max(1, file.metadata.row_group(number).num_rows))
        return max(1, int(_BATCH_BYTES / bytes_per_row))
