"""Images that a table names twice: a question to the person, unless `--on-duplicate` has answered it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from winnow.data.classes import is_valid_text
from winnow.data.source import UNLABELLED, without_label
from winnow.errors import InputError

_SHOWN = 10


@dataclass(frozen=True)
class Named:
    """What names each row.

    Attributes:
        ids: from a column of its own; None if there is none.
        paths: of the image files, as they stand there, empty where missing; None if the pictures are no files.
        files: the same in one spelling each, so that one file is seen as one.
        where: the table, for messages.
        place: names a row, for messages.
    """

    ids: Sequence[str] | None
    paths: Sequence[str] | None
    files: Sequence[str] | None
    where: str
    place: Callable[[int], str]

    def groups(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """The rows of every name that stands there more than once."""
        if len(set(texts)) == len(texts):
            return {}
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, text in enumerate(texts):
            if text:
                rows_of[text].append(row)
        return {text: rows for text, rows in rows_of.items() if len(rows) > 1}

    def located(self, row: int) -> str:
        """Where a row stands and what it is called."""
        names = self.ids or self.paths
        return f"{self.place(row)} ({names[row]})" if names is not None and names[row] else self.place(row)

    def places(self, rows: Sequence[int]) -> str:
        """Where the first rows of a group stand."""
        return " and ".join(map(self.place, rows[:3])) + (" and more" if len(rows) > 3 else "")


def resolved(
    named: Named, labels: np.ndarray, names: Sequence[str], how: str | None
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Labels, the rows to keep (ascending), and a remark.

    Args:
        named: what names each row.
        labels: class indices (N,), or (N, K) for several classes an image.
        names: of the classes.
        how: `first` keeps the first row of an image that has a label, or the first; `conflict` keeps the first, without
            a label where the labels differ; None keeps every row, and refuses an id that stands there twice and a path
            with two labels. A row without a label contradicts nothing.

    Raises:
        InputError: an id that cannot be one, or a duplicate, and nobody said what to do with it.
    """
    everything = np.arange(len(labels))
    _refuse_ids(named)
    groups = [named.groups(texts) for texts in (named.ids, named.files) if texts is not None]
    if not any(groups):
        return labels, everything, None
    if how is None:
        _refuse(named, labels, names)
        return labels, everything, None
    first = np.arange(len(labels))
    for rows in (rows for group in groups for rows in group.values()):
        # A row may share its id with one row and its path with another: all lead to the first of them.
        first[rows] = first[rows].min()
    while not np.array_equal(first[first], first):
        first = first[first]
    kept = np.flatnonzero(first == everything)
    left_out = len(labels) - len(kept)
    what = f"later rows left out: {left_out:,}"
    if how == "first":
        labelled = np.flatnonzero(~without_label(labels))
        best = everything.copy()
        # The smallest row is written last, so it stays.
        best[first[labelled[::-1]]] = labelled[::-1]
        moved = int((best[kept] != kept).sum())
        kept = np.sort(best[kept])
        what = f"rows left out: {left_out:,}, {moved:,} of them first but without a label" if moved else what
    if how == "conflict":
        labels, conflicts = _without_conflicts(labels, first)
        what += f", unlabelled because their labels differ: {conflicts:,}"
    return labels, kept, f"Images named twice (--on-duplicate {how}): {what}."


def _without_conflicts(labels: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, int]:
    """The one label of each first row's group: none where they differ, the only one where the others are missing."""
    agreed = labels.copy()
    members: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(first != np.arange(len(first))):
        members[int(first[row])].append(int(row))
    conflicts = 0
    for head, others in members.items():
        found: dict[bytes, np.ndarray] = {
            labels[each].tobytes(): labels[each] for each in (head, *others) if (labels[each] >= 0).any()
        }
        conflicts += len(found) > 1
        agreed[head] = next(iter(found.values())) if len(found) == 1 else UNLABELLED
    return agreed, conflicts


def _refuse_ids(named: Named) -> None:
    """An image without an id, or with one that cannot be written, could not be named in any finding."""
    ids = named.ids if named.ids is not None else []
    empty = [row for row, text in enumerate(ids) if not text]
    if empty:
        raise InputError(
            f"{named.where}: 'id' is empty at {_listed(list(map(named.place, empty)), ', ')}; "
            "give every image its own, or leave the column away"
        )
    invalid = next((row for row, text in enumerate(ids) if not is_valid_text(text)), None)
    if invalid is not None:
        raise InputError(f"{named.where}: 'id' {ids[invalid]!a} at {named.place(invalid)} is no valid text")


def _refuse(named: Named, labels: np.ndarray, names: Sequence[str]) -> None:
    advice = "correct the table, or say what to do: --on-duplicate first or conflict"
    if named.ids is not None:
        twice = [f"'{text}' at {named.places(rows)}" for text, rows in named.groups(named.ids).items()]
        if twice:
            raise InputError(f"{named.where}: 'id' names {len(twice):,} images twice: {_listed(twice, ', ')}; {advice}")
    known = ~without_label(labels)
    conflicts = [
        f"'{os.path.normpath((named.paths or ())[rows[0]])}' is {' and '.join(_names(labels[rows], names))} "
        f"at {named.places(rows)}"
        for group in named.groups(named.files or ()).values()
        if len(rows := [row for row in group if known[row]]) > 1 and len(np.unique(labels[rows], axis=0)) > 1
    ]
    if conflicts:
        raise InputError(f"{named.where}: images with two labels: {_listed(conflicts, '; ')}; {advice}")


def _listed(texts: Sequence[str], separator: str) -> str:
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return separator.join(texts[:_SHOWN]) + more


def _names(labels: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    if labels.ndim == 2:
        present = (" + ".join(names[k] for k in np.flatnonzero(row == 1).tolist()) or "nothing" for row in labels)
        return iter(dict.fromkeys(present))
    singles: list[int] = list(dict.fromkeys(labels.tolist()))
    return (names[label] for label in singles)
