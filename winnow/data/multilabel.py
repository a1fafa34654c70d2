"""Labels where an image may have several classes: as lists, as a column a class, or as a matrix.

All become int8 (N, K): 1 present, 0 absent, -1 unknown. Absent and unknown are kept apart: a class that a list does not
name is absent, a missing list says nothing about any class, and an empty cell of a class's own column is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from winnow.data.classes import MISSING_TEXTS, RawLabels, as_text, encode, from_array, from_arrow, from_texts
from winnow.data.label_map import LabelMap, as_texts
from winnow.errors import InputError

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
_CELLS = {"1": PRESENT, "1.0": PRESENT, "true": PRESENT, "0": ABSENT, "0.0": ABSENT, "false": ABSENT}
_CELLS |= {"-1": UNKNOWN, "-1.0": UNKNOWN}
_SHOWN = 10


@dataclass(frozen=True)
class RawSets:
    """One column of lists of classes as it was found.

    Attributes:
        members: the entries of all lists, one after the other.
        rows: the row that each entry belongs to, int64.
        missing: which rows have no list, boolean (N,).
        unknown: rows of the same form that name the classes about which a row says nothing, if there are any.
    """

    members: RawLabels
    rows: np.ndarray
    missing: np.ndarray
    unknown: RawSets | None = None

    def __len__(self) -> int:
        return len(self.missing)


@dataclass(frozen=True)
class Cells:
    """Labels that came as cells.

    Attributes:
        class_names: one a column.
        values: 1, 0 or -1, int8 (N, K).
    """

    class_names: tuple[str, ...]
    values: np.ndarray

    def of_classes(self, names: Sequence[str], where: str) -> np.ndarray:
        """The cells in the order of some class names.

        Raises:
            InputError: the classes are others.
        """
        if set(names) != set(self.class_names):
            raise InputError(
                f"{where}: its classes ({_few(self.class_names)}) are not the expected ones ({_few(names)}); "
                "name the columns alike, or say which is which: --map-labels"
            )
        return self.values[:, [self.class_names.index(name) for name in names]]

    def renamed(self, label_map: LabelMap) -> Cells:
        """With new class names; a merged class is present if any part is, absent if all are, else unknown."""
        names = label_map.class_names(self.class_names)
        new = [label_map.of(name) for name in self.class_names]
        values = np.empty((len(self.values), len(names)), np.int8)
        for k, name in enumerate(names):
            parts = self.values[:, [part for part, merged in enumerate(new) if merged == name]]
            present, absent = (parts == PRESENT).any(axis=1), (parts == ABSENT).all(axis=1)
            values[:, k] = np.where(present, PRESENT, np.where(absent, ABSENT, UNKNOWN))
        return Cells(names, values)


Several = RawSets | Cells


def is_list_column(kind: pa.DataType) -> bool:
    """Whether an Arrow column holds lists of labels."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    inner = kind.value_type
    inner = inner.value_type if pa.types.is_dictionary(inner) else inner
    return pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_integer(inner)


def sets_from_arrow(column: str, values: pa.ChunkedArray, where: str) -> RawSets:
    """A column of lists of class names or indices."""
    lists = values.combine_chunks()
    flat = lists.flatten()
    lengths = np.nan_to_num(np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), float)).astype(np.int64)
    members = from_arrow(column, pa.chunked_array([flat]), where)
    return RawSets(members, np.repeat(np.arange(len(lists)), lengths), np.asarray(lists.is_null()))


def sets_from_lists(column: str, lists: Sequence[Sequence[str] | Sequence[int] | None], where: str) -> RawSets:
    """Lists of class names, or of class indices; None where nothing is known."""
    flat = [entry for found in lists for entry in found or ()]
    rows = np.repeat(np.arange(len(lists)), [len(found or ()) for found in lists]).astype(np.int64)
    if all(isinstance(entry, int) and not isinstance(entry, bool) for entry in flat) and flat:
        members = from_array(column, np.array(flat, dtype=np.int64), where)
    else:
        members = from_texts(column, [as_text(entry) for entry in flat])
    return RawSets(members, rows, np.array([found is None for found in lists], dtype=bool))


def sets_from_values(
    column: str, values: Callable[[str], Sequence[Any] | None], located: Callable[[int], str], where: str
) -> RawSets | None:
    """A column of plain values and lists of classes, None where missing; None altogether if it holds no list.

    Args:
        column: its name.
        values: gives a column, None if it is absent; what `unknown_COLUMN` lists is unknown instead of absent.
        located: names the file and a row in it, for messages.
        where: the file, for messages.

    Raises:
        InputError: beside lists stands something else.
    """
    cells, beside = values(column) or (), f"unknown_{column}"
    if not any(isinstance(cell, list) for cell in cells):
        return None

    def sets(name: str, cells: Sequence[Any]) -> RawSets:
        for row, cell in enumerate(cells):
            if not (cell is None or isinstance(cell, list)):
                raise InputError(f"{located(row)}: '{name}' is {cell!r}, where others are lists")
        return sets_from_lists(name, cells, where)

    unknown = values(beside)
    part = sets(beside, unknown) if unknown is not None else None
    return replace(sets(column, cells), unknown=part)


def sets_from_texts(column: str, texts: Sequence[str] | None, separator: str) -> RawSets | None:
    """Cells such as `cat;dog`, if there are any; an empty one is a missing list, as an empty list would look alike."""
    if texts is None:
        return None
    lists = [None if text.strip() in MISSING_TEXTS else text.split(separator) for text in texts]
    return sets_from_lists(column, lists, column)


def encode_sets(
    columns: Sequence[RawSets], place: Callable[[int], str], *, class_names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names and cells of each column, int8 (N, K).

    The rules and errors are those of single labels, see `classes.encode`.
    """
    parts = [part for column in columns for part in (column, column.unknown) if part is not None]
    for part in parts:
        empty = np.flatnonzero(part.members.missing)
        if len(empty):
            row = int(part.rows[empty[0]])
            raise InputError(f"{where}: the list of '{part.members.column}' at {place(row)} holds an empty entry")
    names, indices = _encoded(parts, place, class_names, where)
    found = iter(zip(parts, indices, strict=True))
    cells = []
    for column in columns:
        values = np.full((len(column), len(names)), ABSENT, dtype=np.int8)
        _, present = next(found)
        if column.unknown is not None:
            part, unknown = next(found)
            _refuse_both(column, present, part, unknown, names, place, where)
            values[part.rows, unknown] = UNKNOWN
        values[column.rows, present] = PRESENT
        values[column.missing] = UNKNOWN
        cells.append(values)
    return names, cells


def _refuse_both(
    column: RawSets, present: np.ndarray, part: RawSets, unknown: np.ndarray, names: Sequence[str],
    place: Callable[[int], str], where: str,
) -> None:  # fmt: skip
    both = np.intersect1d(column.rows * len(names) + present, part.rows * len(names) + unknown)
    if len(both):
        row, index = divmod(int(both[0]), len(names))
        raise InputError(
            f"{where}: '{names[index]}' at {place(row)} stands in both '{column.members.column}' and "
            f"'{part.members.column}'; a class is present or unknown, not both"
        )


def cells_from_columns(columns: Mapping[str, RawLabels], place: Callable[[int], str], where: str) -> Cells:
    """One column a class, in the order given: 1 or true, 0 or false, -1 or empty for unknown."""
    cells = np.full((len(next(iter(columns.values())).values), len(columns)), UNKNOWN, dtype=np.int8)
    for k, (name, column) in enumerate(columns.items()):
        texts = [str(value).strip().lower() for value in column.values]
        found = [UNKNOWN if gone else _CELLS.get(text) for text, gone in zip(texts, column.missing, strict=True)]
        wrong = [row for row, value in enumerate(found) if value is None]
        if wrong:
            shown = ", ".join(f"'{column.values[row]}' at {place(row)}" for row in wrong[:_SHOWN])
            raise InputError(
                f"{where}: column '{name}' must hold 1 (present), 0 (absent), or -1 or nothing (unknown), found {shown}"
            )
        cells[:, k] = np.array(found, dtype=np.int8)
    return Cells(tuple(columns), cells)


def encode_several(
    columns: Sequence[Several],
    own: Sequence[Sequence[str] | None],
    *,
    class_names: Sequence[str] | None,
    label_map: LabelMap | None,
    place: Callable[[int], str],
    where: str,
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names and cells of label columns over the same rows, int8 (N, K) each.

    Args:
        columns: all lists, or all cells.
        own: for each column, the classes that the file lists for indices in lists; None if it lists none.
        class_names: the only classes allowed, in index order.
        label_map: new names for labels.
        place: names a row, for messages.
        where: the file, for messages.

    Raises:
        InputError: labels cannot be used.
    """
    sets = [column for column in columns if isinstance(column, RawSets)]
    if len(sets) == len(columns):
        # Indices become the names they mean, since other classes than the file's own may be wanted.
        sets = [
            column
            if label_map is None and (names is None or column.members.is_text)
            else _renamed(column, label_map or LabelMap({}), names)
            for column, names in zip(sets, own, strict=True)
        ]
        listed = list(dict.fromkeys(name for names in own if names is not None for name in names))
        if class_names is None and listed:
            class_names = label_map.class_names(listed) if label_map is not None else listed
        return encode_sets(sets, place, class_names=class_names, where=where)
    if sets:
        raise InputError(f"{where}: lists and cells of labels do not go together")
    cells = [column for column in columns if isinstance(column, Cells)]
    if label_map is not None:
        cells = [column.renamed(label_map) for column in cells]
    names = tuple(class_names) if class_names is not None else cells[0].class_names
    return names, [column.of_classes(names, where) for column in cells]


def written(column: Several, own_names: Sequence[str] | None) -> set[str]:
    """The labels that occur, as a person reads them."""
    if isinstance(column, Cells):
        return set(column.class_names)
    parts = [column.members, *([column.unknown.members] if column.unknown is not None else [])]
    return {text for part in parts for text in (*as_texts(part, own_names), *(own_names or ())) if text is not None}


def _renamed(column: RawSets, label_map: LabelMap, own_names: Sequence[str] | None) -> RawSets:
    members = label_map.applied(column.members, own_names)
    kept = ~members.missing
    unknown = _renamed(column.unknown, label_map, own_names) if column.unknown is not None else None
    renamed = RawLabels(members.column, members.values[kept], members.missing[kept])
    return RawSets(renamed, column.rows[kept], column.missing, unknown)


def cells_from_matrix(name: str, values: np.ndarray, where: str) -> np.ndarray:
    """A matrix (N, K) of 1, 0 and -1 (or NaN) as int8."""
    numbers = np.where(np.isnan(values), UNKNOWN, values) if values.dtype.kind == "f" else values
    if numbers.dtype.kind not in "iubf" or not np.isin(numbers, (PRESENT, ABSENT, UNKNOWN)).all():
        raise InputError(f"{where}: labels '{name}' of {values.ndim} dimensions must be 1, 0 or -1 for each class")
    return numbers.astype(np.int8)


def _encoded(
    parts: Sequence[RawSets], place: Callable[[int], str], class_names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """`encode` over columns of different lengths: as one column, cut again afterwards."""
    columns = [part.members for part in parts]
    rows = np.concatenate([part.rows for part in parts])
    is_text = any(column.is_text and len(column.values) for column in columns)
    if is_text and not all(column.is_text or not len(column.values) for column in columns):
        raise InputError(f"{where}: labels '{columns[0].column}' mix class names and indices")
    values = [column.values.astype(object) if is_text else column.values for column in columns]
    whole = RawLabels(columns[0].column, np.concatenate(values), np.concatenate([column.missing for column in columns]))
    names, [indices] = encode([whole], lambda entry: place(int(rows[entry])), class_names=class_names, where=where)
    return names, np.split(indices, np.cumsum([len(column.values) for column in columns])[:-1])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
