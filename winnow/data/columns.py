"""The columns of a table, however it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.classes import RawLabels, from_arrow, from_texts
from winnow.data.decode import Limits
from winnow.data.delimited import read_delimited
from winnow.data.metadata import TableMetadata, hugging_face_names, of_parquet
from winnow.data.multilabel import Several, is_list_column, sets_from_arrow, sets_from_texts
from winnow.data.pictures import EncodedPictures, FilePictures
from winnow.data.places import LocalPlace, Place
from winnow.data.row_groups import StoredColumn
from winnow.data.source import Pictures, first_line
from winnow.errors import InputError

_OPENED_AT_ONCE = 16


class Columns(Protocol):
    """What a table of any kind can be asked.

    Attributes:
        where: the file, for messages.
        header: where its columns are named, for messages.
        columns: their names.
        num_rows: how many images.
        metadata: what the file says of itself.
        default_label: the label column, unless one is named.
    """

    where: str
    header: str
    columns: list[str]
    num_rows: int
    metadata: TableMetadata
    default_label: str

    @property
    def label_like(self) -> list[str]:
        """Columns that may hold labels."""
        ...

    def labels(self, column: str) -> RawLabels:
        """A column as labels."""
        ...

    def several(self, column: str, separator: str | None) -> Several | None:
        """A column that may give an image several classes; None if it gives one.

        Args:
            column: its name.
            separator: between the classes in a cell of text.
        """
        ...

    def class_names(self, column: str) -> list[str] | None:
        """The classes that the file lists for the indices of a column."""
        ...

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent or holds something else."""
        ...

    def is_picture_like(self, column: str) -> bool:
        """Whether a column holds pictures rather than their paths."""
        ...

    def pictures(self, column: str, limits: Limits) -> Pictures:
        """A column as pictures."""
        ...

    def place(self, row: int) -> str:
        """How a person finds a row, counted from 1."""
        ...


class DelimitedColumns:
    """A csv or tsv file: every cell is a text."""

    default_label = "label"

    def __init__(self, file: Place):
        self.file = file
        self.where = str(file)
        self.header = f"{file} line 1"
        self.cells = read_delimited(file)
        self.columns = list(self.cells.columns)
        self.num_rows = len(self.cells.lines)
        self.metadata = TableMetadata()
        self.label_like = self.columns

    def labels(self, column: str) -> RawLabels:
        """A column as labels."""
        return from_texts(column, self.cells.columns[column])

    def several(self, column: str, separator: str | None) -> Several | None:
        """Cells such as `cat;dog`, if a separator says so."""
        return sets_from_texts(column, self.texts(column), separator) if separator else None

    def class_names(self, column: str) -> list[str] | None:
        """A csv lists no classes."""
        return None

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent."""
        return self.cells.columns.get(column)

    def is_picture_like(self, column: str) -> bool:
        """Cells hold paths."""
        return False

    def pictures(self, column: str, limits: Limits) -> Pictures:
        """A column as pictures."""
        return self.file.pictures(self.cells.columns[column], limits)

    def place(self, row: int) -> str:
        """The line in the file, counted from 1."""
        return f"line {self.cells.lines[row]}"


class ArrowColumns:
    """Columns in Arrow's memory layout; `read` gives one of them."""

    default_label = "label"

    def __init__(
        self,
        where: str,
        schema: pa.Schema,
        num_rows: int,
        metadata: TableMetadata,
        folder: Place,
        names_of: dict[str, list[str]] | None = None,
    ):
        self.where = where
        self.header = where
        self.schema = schema
        self.columns = list(schema.names)
        self.num_rows = num_rows
        self.metadata = metadata
        self.folder = folder
        self.label_like = [
            field.name
            for field in schema
            if pa.types.is_integer(field.type) or is_text(field.type) or pa.types.is_dictionary(field.type)
        ]
        self.names_of = hugging_face_names(schema.metadata) if names_of is None else names_of
        # A dataset whose only class label has another name leaves no doubt.
        if "label" not in self.columns and len(self.names_of) == 1:
            self.default_label = next(iter(self.names_of))

    def read(self, column: str) -> pa.ChunkedArray:
        """A column as stored; a field of a struct after a dot."""
        raise NotImplementedError

    def stored_bytes(self, column: str) -> pa.ChunkedArray | StoredColumn:
        """A column of pictures, which may be larger than memory."""
        return self.read(column)

    def labels(self, column: str) -> RawLabels:
        """A column as labels."""
        return from_arrow(column, self.read(column), self.where)

    def several(self, column: str, separator: str | None) -> Several | None:
        """A column of lists; the classes in `unknown_COLUMN`, if there is one, are unknown instead of absent."""
        if not is_list_column(self.schema.field(column).type):
            return sets_from_texts(column, self.texts(column), separator) if separator else None
        found = sets_from_arrow(column, self.read(column), self.where)
        beside = f"unknown_{column}"
        if beside in self.columns and is_list_column(self.schema.field(beside).type):
            found = replace(found, unknown=sets_from_arrow(beside, self.read(beside), self.where))
        return found

    def class_names(self, column: str) -> list[str] | None:
        """The classes that the file lists for the indices of a column."""
        if self.metadata.class_names or column in self.names_of:
            return self.metadata.class_names or self.names_of[column]
        # A second column of indices beside Hugging Face's `label` counts the same classes.
        kind = self.schema.field(column).type if column in self.columns else None
        kind = kind.value_type if kind is not None and is_list_column(kind) else kind
        return self.names_of.get(self.default_label) if kind is not None and pa.types.is_integer(kind) else None

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent or holds something else."""
        kind = self.schema.field(column).type if column in self.columns else None
        if kind is None or not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            return None
        return [str(value) if value is not None else "" for value in self.read(column).to_pylist()]

    def is_picture_like(self, column: str) -> bool:
        """Whether a column holds encoded pictures."""
        kind = self.schema.field(column).type
        return is_binary(kind) or (pa.types.is_struct(kind) and "bytes" in {field.name for field in kind})

    def pictures(self, column: str, limits: Limits) -> Pictures:
        """A column as pictures."""
        kind = self.schema.field(column).type
        if is_text(kind):
            return self.folder.pictures(self.read(column).to_pylist(), limits)
        if is_binary(kind):
            return EncodedPictures(self.stored_bytes(column), limits)
        if not self.is_picture_like(column):
            raise InputError(f"{self.where}: image column '{column}' is of type {kind}; bytes or paths are needed")
        files = None
        if "path" in {field.name for field in kind}:
            files = self.folder.pictures(self.read(f"{column}.path").to_pylist(), limits)
        # What lies at an address is not fetched for a row without bytes.
        beside = files if isinstance(files, FilePictures) else None
        return EncodedPictures(self.stored_bytes(f"{column}.bytes"), limits, beside)

    def place(self, row: int) -> str:
        """The row, counted from 1."""
        return f"row {row + 1:,}"


class ParquetColumns(ArrowColumns):
    """One Parquet file, or several as one table; columns are read when asked for."""

    def __init__(self, files: Sequence[Place], where: str, names_of: dict[str, list[str]] | None = None):
        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:  # at an address each takes a while
            self.parts = list(pool.map(_parquet, files))
        schema: pa.Schema = self.parts[0].schema_arrow
        for file, part in zip(files, self.parts, strict=True):
            if not part.schema_arrow.equals(schema):
                raise InputError(f"{file}: {_difference(part.schema_arrow, schema, str(files[0]))}")
        num_rows = sum(int(part.metadata.num_rows) for part in self.parts)
        super().__init__(where, schema, num_rows, of_parquet(schema.metadata, str(files[0])), files[0], names_of)

    def stored_bytes(self, column: str) -> StoredColumn:
        """A column of pictures, read as it is asked for."""
        return StoredColumn(self.parts, column, self.where)

    def read(self, column: str) -> pa.ChunkedArray:
        """A column as stored; a field of a struct after a dot."""
        try:
            parts = [part.read(columns=[column]).column(0) for part in self.parts]
            if column not in self.columns:
                parts = [field_of(part, column.rpartition(".")[2]) for part in parts]
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.where}: column '{column}' cannot be read: {first_line(error)}") from error
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], type=parts[0].type)


def _parquet(file: Place) -> pq.ParquetFile:
    try:
        if isinstance(file, LocalPlace):
            return pq.ParquetFile(file.path, memory_map=True)
        # With Arrow's own read-ahead the last row group of every file would stay in memory.
        return pq.ParquetFile(file.open(), pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read as Parquet: {first_line(error)}") from error


def _difference(schema: pa.Schema, first: pa.Schema, other: str) -> str:
    for field in first:
        if field.name not in schema.names:
            return f"lacks the column '{field.name}' of {other}"
        if (kind := schema.field(field.name).type) != field.type:
            return f"column '{field.name}' is of type {kind}, in {other} of type {field.type}"
    return f"has the columns {', '.join(schema.names)}, {other} has {', '.join(first.names)}"


def field_of(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A field of a struct; a missing struct has missing fields."""
    at = column.type.get_field_index(name)
    return pa.chunked_array([chunk.flatten()[at] for chunk in column.chunks], type=column.type.field(at).type)


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds texts."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
