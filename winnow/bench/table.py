"""Comparisons as text: the table of the terminal, a .csv for other programs."""

from __future__ import annotations

import csv
import io
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from winnow.bench.comparison import LEADS, MEASURES, Condition, Row
from winnow.bench.phrases import WIDTH, signed
from winnow.report import words

_NAME = 28
_TIMES = ("training_seconds", "seconds", "images_per_second", "peak_memory_bytes")


def table_lines(conditions: Sequence[Condition]) -> Iterator[str]:
    """The tables, one for each condition, at most 80 columns wide."""
    head = f"  {'method':<{_NAME}} {'last epoch':>10}  {'over seeds':<12}  against its control"
    for condition in conditions:
        yield from wrapped(condition.title)
        yield head
        for row in condition.rows:
            spread = words.percent_range(list(row.values().values())) if len(row.values()) > 1 else ""
            name = words.visible(row.method)
            if len(name) > _NAME:
                yield f"  {name}"
                name = ""
            gains = condition.differences(row)
            last = f"{words.percent(row.mean()):>10}  {spread:<12}  {difference(gains) if gains else '-'}"
            yield f"  {name:<{_NAME}} {last}{missing(row)}".rstrip()
        yield from wrapped(f"  {condition.realised}" if condition.realised else "")


def wrapped(text: str) -> Iterator[str]:
    """A line broken at words, indented like its beginning."""
    indent = text[: len(text) - len(text.lstrip())]
    yield from textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def missing(row: Row) -> str:
    """What a row lacks."""
    there = len(row.records)
    return "" if there == row.cells else f"  {there} of {row.cells} seeds"


def difference(gains: Sequence[float]) -> str:
    """A mean of differences in points, with the range over the seeds."""
    mean = signed(statistics.fmean(gains))
    return mean if len(gains) == 1 else f"{mean} ({signed(min(gains))} to {signed(max(gains))})"


def csv_text(conditions: Sequence[Condition]) -> str:
    """One line a finished cell, then means need no other source: condition, method, seed, what was measured, times."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["data", "noise", "rate", "realised_rate", "convention", "method", "control", "seed", *MEASURES]
    writer.writerow([*header, "difference_to_control", *_TIMES, "key"])
    for condition in conditions:
        for row in condition.rows:
            for seed, record in row.records.items():
                writer.writerow(_csv_row(condition, row, seed, record))
    return out.getvalue()


def _csv_row(condition: Condition, row: Row, seed: int, record: Mapping[str, Any]) -> list[Any]:
    result, times = record["result"], record["times"]
    control = condition.row(row.control) if row.control else None
    there = control.values().get(seed) if control else None
    ours = row.values().get(seed)
    noise = result["noise"]
    return [
        *map(_cell, (condition.data, condition.noise)),
        condition.rate,
        noise.get("realised_rate"),
        *map(_cell, (noise["convention"], row.method, row.control or "")),
        seed,
        *(result.get(name) for name in MEASURES),
        None if there is None or ours is None else ours - there,
        *(times.get(name) for name in _TIMES),
        record["key"],
    ]


def _cell(text: str) -> str:
    """A foreign name that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def summary(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """The comparisons for programs: one object a condition and method."""
    return [
        {
            "data": condition.data,
            "noise": condition.noise,
            "rate": condition.rate,
            "method": row.method,
            "control": row.control,
            "seeds": list(row.records),
            LEADS: list(row.values().values()),
            "mean": row.mean(),
            "deviation": row.deviation(),
            "differences_to_control": condition.differences(row),
            **{name: row.mean(name) for name in MEASURES[1:]},
            **{name: row.time(name) for name in _TIMES},
        }
        for condition in conditions
        for row in condition.rows
    ]
