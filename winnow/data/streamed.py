"""Parquet files of the Hugging Face hub, read where they are: nothing is stored, and only what is asked for is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.columns import ParquetColumns
from winnow.data.decode import Limits
from winnow.data.pictures import EncodedPictures
from winnow.data.places import RemotePlace, remote_place
from winnow.data.reading import Reading
from winnow.data.source import Pictures, first_line
from winnow.errors import InputError, MachineError

_AT_ONCE = 16
_Answer = TypeVar("_Answer")


class HubFile:
    """A file on the hub as Arrow reads one: every read is one request, and nothing of it is kept.

    What fsspec would keep of every file by itself, 5 MiB, is more than fits where there are thousands.
    """

    closed = False

    def __init__(self, place: RemotePlace):
        self.where = place.address
        self.file = _reached(self.where, partial(place.files.open, place.path, "rb", cache_type="none"))

    def read(self, count: int = -1) -> bytes:
        """So many bytes from here on.

        Raises:
            MachineError: the network fails; the library has tried several times by then.
        """
        return bytes(_reached(self.where, partial(self.file.read, count)))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to another place of the file."""
        return int(self.file.seek(offset, whence))

    def tell(self) -> int:
        """The place in the file."""
        return int(self.file.tell())

    def close(self) -> None:
        """Nothing is held open."""
        self.closed = True


class HubPlace(RemotePlace):
    """A Parquet file on the hub."""

    def open(self) -> BinaryIO:
        """The file, opened to read."""
        return cast(BinaryIO, HubFile(self))


class StreamedColumns(ParquetColumns):
    """The columns of a dataset on the hub.

    Labels and identifiers are read in one pass that selects only them, several files at a time. Pictures stay where
    they are until they are asked for (see `StoredColumn`).

    Args:
        addresses: the Parquet files, in order.
        where: the dataset, for messages.
        names_of: the class names of columns; None leaves it to the files.
        reading: names columns, and hears how far the pass is.

    Raises:
        InputError: a file is damaged, or the files do not belong together.
        MachineError: the network fails.
    """

    def __init__(self, addresses: Sequence[str], where: str, names_of: dict[str, list[str]] | None, reading: Reading):
        found = [remote_place(address) for address in addresses]
        super().__init__([HubPlace(place.address, place.files, place.path) for place in found], where, names_of)
        self.progress = reading.progress
        usual = ("id", "name", "noisy_label", self.default_label, reading.clean_label_column, reading.verified)
        wanted = {*usual, *(reading.label_column or "").split(",")}
        self._small = [name for name in self.columns if name in wanted and not self.is_picture_like(name)]
        self._read: pa.Table | None = None

    @property
    def num_bytes(self) -> int:
        """Of all columns, as they are stored."""
        return sum(_stored(part, self.columns) for part in self.parts)

    def read(self, column: str) -> pa.ChunkedArray:
        """A column as stored; those that are needed in any case come together."""
        if column not in self._small:
            return super().read(column)
        if self._read is None:
            self._read = self._one_pass()
        return self._read.column(column)

    def pictures(self, column: str, limits: Limits) -> Pictures:
        """A column as pictures; the names of the files that they once were are not read."""
        kind = self.schema.field(column).type
        if pa.types.is_struct(kind) and self.is_picture_like(column):
            return EncodedPictures(self.stored_bytes(f"{column}.bytes"), limits)
        return super().pictures(column, limits)

    def _one_pass(self) -> pa.Table:
        total = sum(_stored(part, self._small) for part in self.parts)
        done, tables = 0, []
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="labels") as pool:
            read = partial(pq.ParquetFile.read, columns=self._small, use_threads=False)
            try:
                for part, table in zip(self.parts, pool.map(read, self.parts), strict=True):
                    tables.append(table)
                    done += _stored(part, self._small)
                    if self.progress is not None:
                        self.progress(f"reading labels of {self.where}", done, total)
            except (pa.ArrowException, OSError) as error:
                names = ", ".join(self._small)
                raise InputError(f"{self.where}: columns {names} cannot be read: {first_line(error)}") from error
        return pa.concat_tables(tables)


def _stored(file: pq.ParquetFile, columns: Sequence[str]) -> int:
    """How many bytes of a file some columns take."""
    wanted = set(columns)
    size = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        size += sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in wanted)
    return size


def _reached(where: str, ask: Callable[[], _Answer]) -> _Answer:
    try:
        return ask()
    except FileNotFoundError as error:
        raise InputError(f"{where}: is no longer there") from error
    except Exception as error:  # The client's errors are of many kinds.
        raise MachineError(f"{where}: the network failed: {first_line(error)}; try again") from error
