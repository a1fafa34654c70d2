"""The columns of a table file, however it is stored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.classes import RawLabels, from_arrow, from_texts
from winnow.data.decode import Limits
from winnow.data.delimited import read_delimited
from winnow.data.metadata import TableMetadata, of_parquet
from winnow.data.pictures import EncodedPictures, FilePictures, StoredPictures
from winnow.errors import InputError


class DelimitedColumns:
    """A csv or tsv file: every cell is a text."""

    def __init__(self, path: Path):
        self.path = path
        self.header = f"{path} line 1"
        self.cells = read_delimited(path)
        self.columns = list(self.cells)
        self.num_rows = len(next(iter(self.cells.values()), []))
        self.metadata = TableMetadata()
        self.label_like = self.columns

    def labels(self, column: str) -> RawLabels:
        """A column as labels."""
        return from_texts(column, self.cells[column])

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent or holds something else."""
        return self.cells.get(column)

    def is_picture_like(self, column: str) -> bool:
        """Whether a column holds encoded pictures."""
        return False

    def pictures(self, column: str, limits: Limits) -> StoredPictures:
        """A column as pictures."""
        return FilePictures(_beside(self.path, self.cells[column]), limits)


class ParquetColumns:
    """A Parquet file; columns are read when asked for."""

    def __init__(self, path: Path):
        self.path = path
        self.header = str(path)
        try:
            self.file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read as Parquet: {_first_line(error)}") from error
        self.schema: pa.Schema = self.file.schema_arrow
        self.columns = list(self.schema.names)
        self.num_rows = int(self.file.metadata.num_rows)
        self.metadata = of_parquet(self.schema.metadata, str(path))
        self.label_like = [
            field.name
            for field in self.schema
            if pa.types.is_integer(field.type) or pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)
        ]

    def read(self, column: str) -> pa.ChunkedArray:
        """A column as stored."""
        try:
            return self.file.read(columns=[column]).column(column)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: column '{column}' cannot be read: {_first_line(error)}") from error

    def labels(self, column: str) -> RawLabels:
        """A column as labels."""
        return from_arrow(column, self.read(column), str(self.path))

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent or holds something else."""
        kind = self.schema.field(column).type if column in self.columns else None
        if kind is None or not (_is_text(kind) or pa.types.is_integer(kind)):
            return None
        return [str(value) if value is not None else "" for value in self.read(column).to_pylist()]

    def is_picture_like(self, column: str) -> bool:
        """Whether a column holds encoded pictures."""
        kind = self.schema.field(column).type
        return _is_binary(kind) or (pa.types.is_struct(kind) and "bytes" in {field.name for field in kind})

    def pictures(self, column: str, limits: Limits) -> StoredPictures:
        """A column as pictures."""
        kind = self.schema.field(column).type
        if _is_text(kind):
            return FilePictures(_beside(self.path, self.read(column).to_pylist()), limits)
        if _is_binary(kind):
            return EncodedPictures(self.read(column), limits)
        if not self.is_picture_like(column):
            raise InputError(f"{self.path}: image column '{column}' is of type {kind}; bytes or paths are needed")
        fields = dict(zip((field.name for field in kind), self.read(column).combine_chunks().flatten(), strict=True))
        files = None
        if "path" in fields:
            files = FilePictures(_beside(self.path, fields["path"].to_pylist()), limits)
        return EncodedPictures(pa.chunked_array([fields["bytes"]]), limits, files)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _beside(table: Path, paths: Sequence[str | None]) -> list[str]:
    # A missing path stays empty: the row is then set aside as unreadable.
    folder = str(table.parent)
    return [os.path.join(folder, path) if path else "" for path in paths]


Columns = DelimitedColumns | ParquetColumns
