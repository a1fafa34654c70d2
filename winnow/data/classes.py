"""From label columns as people write them to class indices: nothing is guessed, nothing is repaired.

Texts are class names, sorted (by number if all are integers). Integers are class indices from 0. True and false are the
classes `true` and `false`. Missing values become -1. Everything doubtful (3.0, "3 ", a negative index, counting from 1,
an unknown name) is refused with the rows concerned; `label_map` is where a person says what such labels mean.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.data.source import UNLABELLED
from winnow.errors import InputError

MISSING_TEXTS = frozenset({"", "nan", "NaN", "NAN", "None", "none", "null", "NULL", "NA", "N/A", "<NA>"})
_INTEGER = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?|[+-]?[0-9]+\.|[+-]?inf")
_SURROGATE = re.compile("[\\ud800-\\udfff]")
_SHOWN = 10
_MOST_CLASSES = 1_000_000
_LARGEST = 2**62
_KINDS: dict[type, str] = {dict: "nested object", list: "list"}


@dataclass(frozen=True)
class RawLabels:
    """One label column as it was found.

    Attributes:
        column: its name.
        values: int64 (N,), or texts as objects (N,); what stands at missing places means nothing.
        missing: which rows have no label, boolean (N,).
    """

    column: str
    values: np.ndarray
    missing: np.ndarray

    @property
    def is_text(self) -> bool:
        """Whether the labels are names rather than indices."""
        return self.values.dtype == object


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in index order: by number if all are integers, else by letter."""
    names = set(names)
    if all(_INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def class_advice(name: str, class_names: Sequence[str]) -> str:
    """What may have been meant by the name of no class, as the end of a message."""
    near = get_close_matches(name, class_names, n=1)
    shown = ", ".join(class_names[:_SHOWN]) + (", ..." if len(class_names) > _SHOWN else "")
    return f"did you mean {near[0]}?" if near else f"the classes are {shown}"


def as_text(value: object) -> str:
    """A plain value as a label: true and false are the classes `true` and `false`, whatever holds them."""
    return str(value).lower() if isinstance(value, (bool, np.bool_)) else str(value)


def is_valid_text(text: str) -> bool:
    """Whether a text can be written to a file: lone surrogates, halves of characters, cannot."""
    return not _SURROGATE.search(text)


def refuse_names(names: Sequence[str], where: str) -> None:
    """Refuses a class list that names a class twice, or by what is no valid text.

    Raises:
        InputError: it does.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{where}: its class names list {twice[0]!a} twice; give every class a name of its own")
    invalid = [name for name in names if not is_valid_text(name)]
    if invalid:
        raise InputError(f"{where}: the class name {invalid[0]!a} holds half of a character; correct it")


def from_texts(column: str, texts: Sequence[str | None]) -> RawLabels:
    """Labels given as texts."""
    values = np.array(texts, dtype=object)
    is_missing = {text: text is None or text.strip() in MISSING_TEXTS for text in set(texts)}
    return RawLabels(column, values, np.fromiter((is_missing[text] for text in texts), bool, len(texts)))


def from_array(column: str, values: np.ndarray, where: str, *, minus_one_is_missing: bool = False) -> RawLabels:
    """Labels given as a numpy array of integers, floats (as texts such as 3.0, NaN is missing) or texts."""
    if values.ndim != 1:
        raise InputError(f"{where}: labels '{column}' have the shape {values.shape}, one label an image is needed")
    if values.dtype.kind in "US":
        return from_texts(column, [str(value) for value in values.astype(str)])
    if values.dtype.kind == "b":
        return from_texts(column, [as_text(value) for value in values])
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        if missing.all():
            return RawLabels(column, np.zeros(len(values), np.int64), missing)
        return RawLabels(column, np.array([str(value) for value in values.tolist()], dtype=object), missing)
    if values.dtype.kind not in "iu":
        raise InputError(f"{where}: labels '{column}' are of type {values.dtype}; integers or texts are needed")
    integers = values.astype(np.int64)
    missing = integers == UNLABELLED if minus_one_is_missing else np.zeros(len(integers), bool)
    return RawLabels(column, integers, missing)


def from_values(column: str, values: Sequence[object], where: str, place: Callable[[int], str]) -> RawLabels:
    """Labels given as Python values, all texts or all numbers; None where missing.

    Args:
        column: its name.
        values: one a row.
        where: the file, for messages.
        place: names a row, for messages.
    """
    kinds = {}
    for row, value in enumerate(values):
        if value is not None and type(value) not in kinds:
            if not isinstance(value, (str, int, float)):
                raise InputError(f"{where} {place(row)}: '{column}' holds a {_KINDS.get(type(value), 'structure')}, "
                                 "no label")  # fmt: skip
            kinds[type(value)] = row
    if str in kinds and len(kinds) > 1:
        text, number = kinds[str], next(row for kind, row in kinds.items() if kind is not str)
        raise InputError(f"{where}: '{column}' holds a text at {place(text)} and a number at {place(number)}; "
                         "write all labels alike")  # fmt: skip
    if str in kinds:
        return from_texts(column, [value if isinstance(value, str) else None for value in values])
    if bool in kinds and len(kinds) > 1:
        truth, number = kinds[bool], next(row for kind, row in kinds.items() if kind is not bool)
        raise InputError(f"{where}: '{column}' holds true or false at {place(truth)} and a number at {place(number)}; "
                         "write all labels alike")  # fmt: skip
    if bool in kinds:
        return from_texts(column, [None if value is None else as_text(value) for value in values])
    missing = np.fromiter((value is None for value in values), bool, len(values))
    if float in kinds:
        return RawLabels(column, np.array([str(value) for value in values], dtype=object), missing)
    if any(abs(int(value)) > _LARGEST for value in values if isinstance(value, int)):
        raise InputError(f"{where}: labels '{column}' are too large; these look like something else than classes")
    integers = [value if isinstance(value, int) else 0 for value in values]
    return RawLabels(column, np.array(integers, dtype=np.int64), missing)


def from_arrow(column: str, values: pa.ChunkedArray, where: str) -> RawLabels:
    """Labels given as a column of an Arrow table."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return from_texts(column, values.to_pylist())
    missing = values.is_null().to_numpy()
    if pa.types.is_null(kind):
        return RawLabels(column, np.zeros(len(values), np.int64), missing)
    if pa.types.is_boolean(kind):
        return from_texts(column, [None if value is None else as_text(value) for value in values.to_pylist()])
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(f"{where}: label column '{column}' is of type {kind}; integers or texts are needed")
    filler = float("nan") if pa.types.is_floating(values.type) else 0
    filled = pc.fill_null(values, pa.scalar(filler, values.type))
    found = from_array(column, filled.to_numpy(), where)
    return RawLabels(column, found.values, missing | found.missing)


def encode(
    columns: Sequence[RawLabels], place: Callable[[int], str], *, class_names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names and the class indices of each column, int64 (N,), -1 where a label is missing.

    Args:
        columns: label columns over the same rows; without a class list their classes are united.
        place: names a row so that a person finds it, for messages.
        class_names: the only classes allowed, in index order; None takes those that are found.
        where: the file, for messages.

    Raises:
        InputError: labels that cannot be used, with up to ten of them.
    """
    if class_names is not None:
        refuse_names(class_names, where)
        columns = [_with_known_names(column, class_names) for column in columns]
    for column in columns:
        _refuse(column, place, _flaws(column, class_names), where)
    names = tuple(class_names) if class_names is not None else _found_names(columns, where)
    encoded = []
    for column in columns:
        if not column.is_text and class_names is None and not any(other.is_text for other in columns):
            _refuse_counting_from_one(column, where)
        indices = indices_of(column, names)
        unknown = (indices < 0) & ~column.missing
        _refuse(
            column,
            place,
            {int(row): f"not among the {len(names)} classes" for row in np.flatnonzero(unknown)},
            where,
        )
        encoded.append(indices)
    return names, encoded


def class_indices(
    columns: Sequence[RawLabels],
    own: Sequence[Sequence[str] | None],
    *,
    class_names: Sequence[str] | None,
    place: Callable[[int], str],
    where: str,
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """As `encode`, for columns whose file may list the classes that its indices mean.

    Args:
        columns: label columns over the same rows.
        own: for each column, the classes that its file lists; None if it lists none.
        class_names: the only classes allowed, in index order; None takes the file's own, or those that are found.
        place: names a row, for messages.
        where: the file, for messages.
    """
    lists = {tuple(names) for names in own if names is not None}
    if not lists or (len(lists) == 1 and class_names in (None, list(next(iter(lists))), next(iter(lists)))):
        listed = class_names if class_names is not None else next(iter(lists), None)
        return encode(columns, place, class_names=listed, where=where)
    # Other lists than ours, or several: indices are compared by the names they mean.
    named = [
        column if names is None or column.is_text else from_texts(column.column, _by_name(column, names, place, where))
        for column, names in zip(columns, own, strict=True)
    ]
    if class_names is None:
        class_names = list(dict.fromkeys(name for names in own if names is not None for name in names))
    return encode(named, place, class_names=class_names, where=where)


def _by_name(column: RawLabels, own: Sequence[str], place: Callable[[int], str], where: str) -> list[str | None]:
    """Indices into a class list as the names they mean; None where missing."""
    _, (indices,) = encode([column], place, class_names=own, where=where)
    return [own[index] if index >= 0 else None for index in indices.tolist()]


def are_class_labels(column: RawLabels, names: Sequence[str]) -> bool:
    """Whether every label of a column is one of some classes, so that it may be another label column."""
    return bool(((indices_of(column, names) >= 0) | column.missing).all()) and not bool(column.missing.all())


def _with_known_names(column: RawLabels, class_names: Sequence[str]) -> RawLabels:
    """A class that is really called `none` is not missing."""
    known = MISSING_TEXTS & set(class_names)
    if not column.is_text or not known:
        return column
    return replace(column, missing=column.missing & ~np.isin(column.values.astype(str), list(known)))


def indices_of(column: RawLabels, names: Sequence[str]) -> np.ndarray:
    """Class indices of a column, int64 (N,); -1 where missing or unknown."""
    if column.is_text:
        places = {name: index for index, name in enumerate(names)}
        found = (places.get(value, UNLABELLED) for value in column.values)
        indices = np.fromiter(found, np.int64, len(column.values))
    elif all(_INTEGER.fullmatch(name) for name in names):
        # Names that are numbers name their integers, whatever place they stand at.
        numbers = np.array([int(name) for name in names], dtype=np.int64)
        order = np.argsort(numbers)
        places_of = np.searchsorted(numbers[order], column.values).clip(max=max(0, len(names) - 1))
        indices = order[places_of] if len(names) else np.full(len(column.values), UNLABELLED)
        if len(names):
            indices = np.where(numbers[indices] == column.values, indices, UNLABELLED)
    else:
        inside = (column.values >= 0) & (column.values < len(names))
        indices = np.where(inside, column.values, UNLABELLED)
    return np.where(column.missing, UNLABELLED, indices).astype(np.int64)


def _found_names(columns: Sequence[RawLabels], where: str) -> tuple[str, ...]:
    texts = {value for column in columns if column.is_text for value in column.values[~column.missing]}
    if texts:
        return sorted_names(texts)
    largest = max(
        (int(column.values[~column.missing].max(initial=-1)) for column in columns if not column.is_text),
        default=-1,
    )
    if largest >= _MOST_CLASSES:
        raise InputError(
            f"{where}: labels go up to {largest:,}; these look like numbers of something else than classes"
        )
    return tuple(str(index) for index in range(largest + 1))


def _flaws(column: RawLabels, class_names: Sequence[str] | None) -> dict[int, str]:
    """What is wrong with single labels, by row; unknown names come later."""
    if not column.is_text:
        return {int(row): "negative" for row in np.flatnonzero((column.values < 0) & ~column.missing)}
    flaw_of: dict[str, str] = {}
    allowed = set(class_names or ())
    counts = Counter(column.values[~column.missing])
    numbers = class_names is None and all(_NUMBER.fullmatch(text.strip()) for text in counts)
    for text in counts:
        if text in allowed:
            continue
        if not is_valid_text(text):
            flaw_of[text] = "no valid text"
            continue
        if text != text.strip():
            flaw_of[text] = "blanks around it"
        elif numbers and not _INTEGER.fullmatch(text):
            flaw_of[text] = "negative" if text.startswith("-") else "no whole number"
    if not flaw_of:
        return {}
    return {row: flaw_of[text] for row, text in enumerate(column.values) if not column.missing[row] and text in flaw_of}


def _refuse(column: RawLabels, place: Callable[[int], str], flaws: dict[int, str], where: str) -> None:
    if not flaws:
        return
    rows = sorted(flaws)
    shown = ", ".join(f"{_plain(column.values[row])} ({flaws[row]}) at {place(row)}" for row in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    count = f"{len(rows):,} label{'s' if len(rows) > 1 else ''}"
    raise InputError(
        f"{where}: {count} of '{column.column}' cannot be used: {shown}{more}; "
        "correct them, or say what they mean: --map-labels"
    )


def _plain(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _refuse_counting_from_one(column: RawLabels, where: str) -> None:
    used = np.unique(column.values[~column.missing])
    if len(used) > 1 and used[0] == 1 and used[-1] == len(used):
        raise InputError(
            f"{where}: labels of '{column.column}' run from 1 to {used[-1]}; class indices count from 0: "
            "subtract 1, or name them: --map-labels 1=cat,2=dog,..."
        )
