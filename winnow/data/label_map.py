"""New names for labels, as a person lists them: renamed, merged or taken away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from winnow.data.classes import RawLabels, is_valid_text
from winnow.data.delimited import read_delimited
from winnow.errors import InputError, UsageError

_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class LabelMap:
    """Old labels and their new names; every other label stays as it is.

    Attributes:
        new_names: the new name of an old label; None takes the label away, its image is then unlabelled.
    """

    new_names: Mapping[str, str | None]

    @classmethod
    def parsed(cls, given: str | Path | Mapping[str, str | None] | LabelMap) -> LabelMap:
        """From `"old=new,old=new"`, or from a .csv or .tsv file with the columns `old` and `new`.

        Raises:
            UsageError: the text is neither, or a new name is no valid text.
            InputError: the file cannot be used.
        """
        if isinstance(given, LabelMap):
            return given
        if isinstance(given, Mapping):
            pairs = dict(given)
        elif Path(given).suffix.lower() in (".csv", ".tsv") and "=" not in Path(given).name:
            pairs = _from_file(Path(given))
        else:
            pairs = _from_text(str(given))
        invalid = [new for new in pairs.values() if new is not None and not is_valid_text(new)]
        if invalid:
            raise UsageError(f"--map-labels: the new name {invalid[0]!a} is no valid text; write it as UTF-8")
        return cls(pairs)

    def of(self, label: str) -> str | None:
        """The new name of a label; blanks around the old one do not matter."""
        if label in self.new_names:
            return self.new_names[label]
        return self.new_names.get(label.strip(), label)

    def class_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """A class list with its new names, in the old order; a merged class stands where its first member stood."""
        return tuple(name for name in dict.fromkeys(map(self.of, names)) if name is not None)

    def of_columns(
        self, columns: Sequence[RawLabels], own: Sequence[Sequence[str] | None]
    ) -> tuple[list[RawLabels], list[Sequence[str] | None], list[str]]:
        """Label columns and the classes that their file lists, renamed; and old labels that do not occur."""
        found: set[str | None] = set()
        for column, names in zip(columns, own, strict=True):
            found.update(column.values if column.is_text else as_texts(column, names), names or ())
        return (
            [self.applied(column, names) for column, names in zip(columns, own, strict=True)],
            [self.class_names(names) if names is not None else None for names in own],
            self.unused(text for text in found if text is not None),
        )

    def unused(self, labels: Iterable[str]) -> list[str]:
        """Old labels that do not occur among some labels."""
        seen = {text for label in labels for text in (label, label.strip())}
        return [old for old in self.new_names if old not in seen]

    def applied(self, column: RawLabels, own_names: Sequence[str] | None) -> RawLabels:
        """A column with its new labels.

        Indices into a class list become names; other integers stay integers if their new names are.

        Args:
            column: labels as found.
            own_names: the classes that the file itself lists.
        """
        texts = as_texts(column, own_names)
        if column.is_text:  # a text that would mean "missing" may have been given a name
            texts = [
                value if value is not None and value.strip() in self.new_names else text
                for value, text in zip(column.values, texts, strict=True)
            ]
        new = {text: None if text is None else self.of(text) for text in set(texts)}
        values = [new[text] for text in texts]
        missing = np.fromiter((value is None for value in values), bool, len(values))
        integers = own_names is None and not column.is_text
        if integers and all(value is None or _INTEGER.fullmatch(value) for value in values):
            numbers = np.fromiter((0 if value is None else int(value) for value in values), np.int64, len(values))
            return RawLabels(column.column, numbers, missing)
        return RawLabels(column.column, np.array(values, dtype=object), missing)


def as_texts(column: RawLabels, own_names: Sequence[str] | None) -> list[str | None]:
    """Labels as a person reads them: names where the file lists its classes, else as written; None where missing."""
    if column.is_text:
        return [None if gone else value for value, gone in zip(column.values, column.missing, strict=True)]
    names = list(own_names or ())
    return [
        None if gone else names[value] if 0 <= value < len(names) else str(value)
        for value, gone in zip(column.values.tolist(), column.missing, strict=True)
    ]


def _from_text(text: str) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for part in text.split(","):
        old, sign, new = part.partition("=")
        if not sign or not old.strip():
            raise UsageError(
                f"--map-labels {text}: '{part}' is not old=new; name a .csv file with the columns old and new, "
                "or write old=new,old=new"
            )
        _add(pairs, old.strip(), new.strip(), f"--map-labels {text}")
    return pairs


def _from_file(path: Path) -> dict[str, str | None]:
    if not path.is_file():
        raise InputError(f"--map-labels {path}: no such file")
    table = read_delimited(path)
    if set(table.columns) != {"old", "new"}:
        raise InputError(f"--map-labels {path} line 1: needs the columns old and new, has {', '.join(table.columns)}")
    pairs: dict[str, str | None] = {}
    for old, new, line in zip(table.columns["old"], table.columns["new"], table.lines, strict=True):
        _add(pairs, old, new.strip(), f"--map-labels {path} line {line}")
    return pairs


def _add(pairs: dict[str, str | None], old: str, new: str, where: str) -> None:
    if pairs.get(old, new or None) != (new or None):
        raise InputError(f"{where}: '{old}' has two new names, '{pairs[old] or ''}' and '{new}'")
    pairs[old] = new or None
