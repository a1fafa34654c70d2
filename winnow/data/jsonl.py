"""JSON lines: one object a line, read strictly."""

from __future__ import annotations

import json
from typing import Any

from winnow.data.classes import RawLabels, from_values, is_valid_text
from winnow.data.decode import Limits
from winnow.data.delimited import read_text
from winnow.data.metadata import TableMetadata
from winnow.data.multilabel import Several, sets_from_texts, sets_from_values
from winnow.data.places import Place
from winnow.data.source import Pictures
from winnow.errors import InputError


class JsonLinesColumns:
    """A .jsonl file: one object a line, of plain values and lists of them; a key that a line lacks is a missing value.

    Raises:
        InputError: a line is no JSON object, or holds an object or a list in a list; the message names the line.
    """

    default_label = "label"

    def __init__(self, file: Place):
        self.file = file
        self.where = self.header = str(file)
        self.cells: dict[str, list[Any]] = {}
        self.lines: list[int] = []
        for number, line in enumerate(read_text(file).split("\n"), 1):
            if line.strip():
                self._add(_record(line, f"{file} line {number}"))
                self.lines.append(number)
        self.num_rows = len(self.lines)
        self.columns = list(self.cells)
        self.metadata = TableMetadata()
        self.label_like = self.columns

    def _add(self, record: dict[str, Any]) -> None:
        for key, value in record.items():
            if key not in self.cells:
                self.cells[key] = [None] * len(self.lines)
            self.cells[key].append(value)
        for key in self.cells.keys() - record.keys():
            self.cells[key].append(None)

    def labels(self, column: str) -> RawLabels:
        """A column as labels."""
        return from_values(column, self.cells[column], self.where, self.place)

    def several(self, column: str, separator: str | None) -> Several | None:
        """Lists of classes; a key `unknown_COLUMN` names those that are unknown instead of absent."""
        lists = sets_from_values(column, self.cells.get, lambda row: f"{self.where} {self.place(row)}", self.where)
        if lists is not None or not separator:
            return lists
        are_texts = all(value is None or isinstance(value, str) for value in self.cells[column])
        return sets_from_texts(column, self.texts(column), separator) if are_texts else None

    def class_names(self, column: str) -> list[str] | None:
        """JSON lines list no classes."""
        return None

    def texts(self, column: str) -> list[str] | None:
        """A column as texts; None if it is absent."""
        values = self.cells.get(column)
        return None if values is None else ["" if value is None else str(value) for value in values]

    def is_picture_like(self, column: str) -> bool:
        """Values hold paths."""
        return False

    def pictures(self, column: str, limits: Limits) -> Pictures:
        """A column as pictures."""
        for row, path in enumerate(self.cells[column]):
            if not (path is None or isinstance(path, str)):
                raise InputError(f"{self.where} {self.place(row)}: '{column}' is {path!r}, no path")
        return self.file.pictures(self.cells[column], limits)

    def place(self, row: int) -> str:
        """The line in the file, counted from 1."""
        return f"line {self.lines[row]}"


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=lambda pairs: _unique(pairs, where))
    except (json.JSONDecodeError, RecursionError) as error:
        reason = (
            f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deep"
        )
        raise InputError(f"{where}: no JSON object: {reason}") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: one JSON object a line is needed, this is a {type(record).__name__}")
    if "\\ud" in line.lower():  # UTF-8 itself holds no surrogates, an escape may
        _refuse_surrogates(record, where)
    for key, value in record.items():
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value)):
            kind = "an object" if isinstance(value, dict) else "a list of more than plain values"
            raise InputError(f"{where}: '{key}' is {kind}; plain values or lists are needed, or leave the key away")
    return record


def _refuse_surrogates(record: dict[str, Any], where: str) -> None:
    for key, value in record.items():
        texts = [key, *(value if isinstance(value, list) else [value])]
        if not all(is_valid_text(text) for text in texts if isinstance(text, str)):
            raise InputError(f"{where}: {key!a} holds a lone surrogate, half of a character; correct the line")


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: the key '{twice}' stands there twice")
    return record
