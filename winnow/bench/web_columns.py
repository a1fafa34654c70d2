"""What the table of a crawl says of its images besides their labels: rank in the results, foreign or not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from winnow.bench.cells import canonical, hashed
from winnow.data.columns import Columns as Table
from winnow.data.open import open_source
from winnow.data.places import places
from winnow.data.source import Source
from winnow.data.table import TABLES, open_columns
from winnow.errors import InputError, UsageError

FOREIGN_COLUMN = "foreign"
"""What `winnow noise` calls it; read without being named."""
_YES, _NO = {"true", "yes", "1"}, {"false", "no", "0"}


@dataclass(frozen=True)
class Columns:
    """What was found.

    Attributes:
        ids: of all images of the table, unreadable ones included.
        rank: by id.
        foreign: ids of images of none of the classes.
        foreign_column: where that was read; None if nowhere.
        simulated: how `winnow noise` made the labels, if it did.
    """

    ids: tuple[str, ...] = ()
    rank: Mapping[str, float] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    foreign_column: str | None = None
    simulated: str | None = None

    @property
    def fingerprint(self) -> str:
        """Of what plays a part in results."""
        return hashed(canonical([sorted(self.rank.items()), sorted(self.foreign)]).encode("utf-8", "surrogateescape"))


def read_columns(
    source: Source, opening: Mapping[str, Any], rank_column: str | None, foreign_column: str | None
) -> Columns:
    """Reads the further columns of a crawl.

    Args:
        source: the crawl, opened as `opening` says.
        opening: see `winnow.bench.shared.prepare`.
        rank_column: numbers, the smallest first.
        foreign_column: true where an image is of none of the classes; by default `foreign`, if there is such a column.

    Raises:
        UsageError: a column was named, and the data have none.
        InputError: a column is missing, or holds something else.
    """
    reading = {name: value for name, value in opening.items() if name in ("image_column", "label_column")}
    path = Path(source.address)
    if path.is_dir() or path.suffix.lower() not in TABLES:
        for option, column in (("rank", rank_column), ("foreign", foreign_column)):
            if column is not None:
                raise UsageError(f"--{option}-column {column}: {source.address} is no table; list its images in a .csv")
        return Columns(tuple(source.ids))
    table = open_columns(places(source.address), source.address, opening.get("image_column"))
    ids = list(open_source(source.address, **reading).ids)
    assert len(ids) == table.num_rows
    if foreign_column is None and FOREIGN_COLUMN in table.columns:
        foreign_column = FOREIGN_COLUMN
    noise = table.metadata.noise
    return Columns(
        tuple(ids),
        _ranks(table, rank_column, ids) if rank_column is not None else {},
        _foreign(table, foreign_column, ids) if foreign_column is not None else frozenset(),
        foreign_column,
        str(noise.get("convention", noise.get("generator"))) if noise else None,
    )


def _ranks(table: Table, column: str, ids: list[str]) -> dict[str, float]:
    found = {}
    for row, text in _cells(table, column, "rank"):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{table.where} {table.place(row)}: '{column}' is {text!r}; a rank is a number")
        found[ids[row]] = value
    return found


def _foreign(table: Table, column: str, ids: list[str]) -> frozenset[str]:
    found = set()
    for row, text in _cells(table, column, "foreign"):
        word = text.strip().lower()
        if word not in _YES | _NO:
            raise InputError(f"{table.where} {table.place(row)}: '{column}' is {text!r}; it must be true or false")
        if word in _YES:
            found.add(ids[row])
    return frozenset(found)


def _cells(table: Table, column: str, option: str) -> list[tuple[int, str]]:
    """The cells of a column that are not empty, as texts, with their rows."""
    if column not in table.columns:
        near = get_close_matches(column, table.columns, n=1)
        advice = f"did you mean {near[0]}?" if near else f"it has {', '.join(table.columns)}"
        raise InputError(f"{table.header}: no column '{column}' for --{option}-column; {advice}")
    raw = table.labels(column)
    return [(row, str(raw.values[row])) for row in range(len(raw.values)) if not raw.missing[row]]
