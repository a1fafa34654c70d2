"""The mislabelling study in words: the sentence a person wants, the tables of the terminal, the CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from winnow.bench.phrases import WIDTH, several
from winnow.report import words

_ABREAST = 6
"""Rates in one table, at 11 letters each."""

Row = Mapping[str, Any]


def sentence(row: Mapping[str, Any]) -> str:
    """The exchange rate in words: halving the noise is worth so many points, or so many times more data."""
    where = f"With {row['size']:,} images and {100 * row['rate']:g} % {row['kind']} mistakes"
    if row["gain"] <= 0:
        return f"{where}, halving the noise gains nothing that {several(row['repeats'], 'repeat')} could show"
    # With zero in the interval the mean alone would promise what was not measured.
    worth = "may be worth nothing:" if row["gain_low"] is not None and row["gain_low"] <= 0 else "is worth"
    return f"{where}, halving the noise {worth} {points_with_band(row)} or {times_in_words(row)}"


def points_with_band(row: Mapping[str, Any]) -> str:
    """Such as `5.1 points (3.9 to 6.3),`."""
    points = f"{100 * row['gain']:.1f} points"
    if row["gain_low"] is None:
        return f"{points} ({several(row['repeats'], 'repeat')}),"
    return f"{points} ({words.signed_points(row['gain_low'])} to {words.signed_points(row['gain_high'])}),"


def times_in_words(row: Mapping[str, Any]) -> str:
    """Such as `1.6 times more data (1.4 to 1.9)`; no interval where an end lies beyond the measured sizes."""
    match row["times_is"]:
        case "unknown":
            return "more data than was measured"
        case "unbounded":
            return "more data than any: at this noise its accuracy levels off below that"
    value = f"{row['times']:.1f}" if row["times"] < 100 else "over 100"
    if row["times_is"] != "measured":
        return f"{value} times more data, as far as the curve can be trusted beyond the largest size"
    band = f" ({row['times_low']:.1f} to {row['times_high']:.1f})" if row["times_high_is"] == "measured" else ""
    return f"{value} times more data{band}"


def table_lines(summary: Mapping[str, Any]) -> list[str]:
    """The answer, accuracies and exchange rates, at most 80 columns wide."""
    return list(_lines(summary))


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    for learner in summary["learners"]:
        rows = {_place(row): row for row in summary["rows"]}
        yield from ("", *wrap(f"{learner['name']}: test accuracy at the end, %", WIDTH))
        for kind in summary["kinds"] or ["clean"]:
            for start in range(0, len(summary["rates"]), _ABREAST):
                rates = summary["rates"][start : start + _ABREAST]
                yield f"  {kind[:11]:<11}" + "".join(f"{f'{100 * rate:g} %':>11}" for rate in rates)
                for size in summary["sizes"]:
                    places = [(learner["name"], kind, size, rate) for rate in rates]
                    yield f"  {size:>11,}" + "".join(f"{_accuracy(rows.get(place)):>11}" for place in places)
        yield from _exchange_lines(summary, learner["name"])
    yield ""
    yield from wrap(" ".join(_remarks(summary)), WIDTH)


def _accuracy(row: Row | None) -> str:
    if row is None:
        return "-"
    half = "" if row["accuracy_low"] is None else f" ±{100 * (row['accuracy'] - row['accuracy_low']):.1f}"
    return f"{100 * row['accuracy']:.1f}{half}"


def _exchange_lines(summary: Mapping[str, Any], learner: str) -> Iterator[str]:
    answers = [answer for answer in summary["answers"] if answer["learner"] == learner]
    if not answers:
        return
    rate = answers[0]["rate"]
    rows = {_place(row): row for row in summary["rows"]}
    where = f"at {100 * rate:g} % wrong"
    yield f"  {where:<20}{'halving it, points':>22}{'= more data':>15}{'worth clean':>13}{'guide':>8}"
    for row in summary["halving"]:
        if row["learner"] != learner or row["rate"] != rate:
            continue
        gain = words.signed_points(row["gain"])
        if row["gain_low"] is not None:
            gain += f" ({words.signed_points(row['gain_low'])} to {words.signed_points(row['gain_high'])})"
        place = rows[_place(row)]
        guide = f"{place['first_order_size']:,.0f}" if place["first_order_size"] is not None else "-"
        name = f"{row['kind'][:11]} {row['size']:,}"
        yield f"  {name:<20}{gain:>22}{shown_times(row):>15}{shown_worth(place):>13}{guide:>8}"


def shown_times(row: Row) -> str:
    """How many times more data, for a table: `1.6 x`, `~3.4 x` beyond the measured sizes, `never`, `-`."""
    if row["times_is"] == "unbounded":
        return "never"
    if row["times"] is None:
        return "-"
    value = f"{row['times']:.1f} x" if row["times"] < 100 else "> 100 x"
    return value if row["times_is"] == "measured" else f"~{value}"


def shown_worth(row: Row) -> str:
    """The effective size, for a table: `210`, `< 80` below the measured sizes, `~1,900` above, `as clean`, `-`."""
    if row["effective_is"] == "unbounded":
        return "as clean"
    if row["effective_size"] is None:
        return "-"
    if row["effective_is"] == "below":
        return f"< {row['effective_floor']:,}"
    value = f"{row['effective_size']:,.0f}"
    return value if row["effective_is"] in ("measured", "itself") else f"~{value}"


def _remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = summary["rows"]
    if any(row["accuracy_low"] is not None for row in rows):
        yield "± is half of the 95 % t interval over the repeats."
    else:
        yield "Fewer than 3 repeats: no interval yet."
    if rows:
        largest = max(row["test_error"] for row in rows)
        yield (
            f"{summary['num_test']:,} test images add a standard error of up to {100 * largest:.1f} points, "
            "the same for all cells."
        )
    if any(row["times_is"] != "unknown" for row in summary["halving"]):
        yield (
            "Worth clean: as many clean labels would do as well; guide: n (1 - rate K / (K - 1))^2, first order, "
            "no measurement. ~: beyond the measured sizes, from a fitted curve; never: it levels off below."
        )
    if summary["failed"]:
        failed = summary["failed"][0]
        yield f"{several(len(summary['failed']), 'cell')} failed, such as {failed['condition']}: {failed['error']}."


def csv_text(summary: Mapping[str, Any]) -> str:
    """The conditions as CSV, one row each; numbers as they are, nothing where there is none."""
    rows: Sequence[Mapping[str, Any]] = summary["rows"]
    worth = {_place(row): row for row in summary["halving"]}
    columns = [*(rows[0] if rows else ()), "gain_of_halving", "gain_low", "gain_high", "times_more_data", "times_is"]
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        half = worth.get(_place(row), {})
        exchange = {
            "gain_of_halving": half.get("gain"),
            "gain_low": half.get("gain_low"),
            "gain_high": half.get("gain_high"),
            "times_more_data": half.get("times"),
            "times_is": half.get("times_is"),
        }
        writer.writerow({**row, **exchange})
    return file.getvalue()


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["learner"], row["kind"], row["size"], row["rate"]
