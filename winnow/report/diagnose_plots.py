"""Drawings of a diagnosis: learning curves with added noise, and by how much each class is over-counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from winnow.report import words
from winnow.report.figures import LETTER, WIDTH, Figure, Scale, circle, drawing, line, path, spread, text, ticks

MOST_CLASSES = 15


def learning_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Agreement with the given labels against the number of images, a line for each amount of added noise.

    Args:
        rows: one a size, ascending: `images`, and for each added noise `added_RATE`, a measure.
    """
    names = [name for name in rows[0] if name.startswith("added_")]
    sizes = [int(row["images"]) for row in rows]
    lines = {name: [float(row[name]["value"]) for row in rows] for name in names}
    values = [value for line_values in lines.values() for value in line_values]
    margin = 0.06 * (max(values) - min(values)) or 0.01
    height, left, top = 250, 10 + 5 * LETTER, 26
    right, bottom = WIDTH - 8 * LETTER, height - 38
    x = Scale(math.log(sizes[0]), math.log(sizes[-1]), left + 6, right - 8)
    y = Scale(min(values) - margin, max(values) + margin, bottom, top)
    marks = [text(0, 13, "agreement with the given labels, %", "axis")]
    for value in ticks(y.low, y.high, 4):
        marks += [line(left, y(value), right, y(value), "grid")]
        marks += [text(left - 5, y(value) + 4.5, f"{100 * value:g}", "axis", "end")]
    for size in sizes:
        marks += [text(x(math.log(size)), bottom + 17, words.count(size), "axis small", "middle")]
    marks += [text((left + right) / 2, height - 4, "images", "axis", "middle")]
    ends = spread([y(line_values[-1]) for line_values in lines.values()], 16, top + 4, bottom - 4)
    for (name, line_values), end in zip(lines.items(), ends, strict=True):
        css = "plain" if _added(name) == 0 else "given"
        places = [(x(math.log(size)), y(value)) for size, value in zip(sizes, line_values, strict=True)]
        marks += [path(places, f"line {css}")]
        for row, place in zip(rows, places, strict=True):
            marks += [circle(*place, 2.6, f"dot {css}", _interval(row[name]))]
        marks += [text(right + 2, end + 4.5, f"+{100 * _added(name):g}{words.NO_BREAK}%", f"name {css}")]
    first, last = names[0], names[-1]
    description = (
        f"From all {words.counted(sizes[-1], 'image')} a linear model agrees with {_percent(rows[-1][first])} of the "
        f"labels; with {100 * _added(last):g}{words.NO_BREAK}% more of them wrong, {_percent(rows[-1][last])}."
    )
    columns = ["images", *(f"{100 * _added(name):g}{words.NO_BREAK}% added" for name in names)]
    table = [[words.count(row["images"]), *(_percent(row[name]) for name in names)] for row in rows]
    title = "What more images bring, with and without more noise"
    return Figure(title, description, drawing(title, description, height, marks), columns, table)


def overcounts(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A row a class: by how many points of all images it is over-counted, with its interval; the largest first.

    Args:
        rows: one a class: `class`, `name`, `images` and the measures `share`, `overcount`, `purity`.
    """
    chosen = sorted(rows, key=lambda row: (-abs(row["overcount"]["value"]), row["class"]))[:MOST_CLASSES]
    ends = [row["overcount"][end] for row in chosen for end in ("low", "high")]
    x = Scale(min(0.0, *ends), max(0.0, *ends), 8, WIDTH - 8)
    row_height, top = 34, 4
    bottom = top + row_height * len(chosen)
    marks: list[Markup] = [line(x(0), top, x(0), bottom, "axis-line")]
    for row_number, row in enumerate(chosen):
        level = top + row_height * row_number + 24
        over = row["overcount"]
        marks += [text(0, level - 9, words.short(row["name"], 20), "small")]
        marks += [text(WIDTH, level - 9, _points(over), "axis small", "end")]
        marks += [path([(x(over["low"]), level), (x(over["high"]), level)], "join")]
        marks += [circle(x(over["value"]), level, 5, "given-dot", _points(over))]
    for value in ticks(x.low, x.high, 4):
        marks += [text(x(value), bottom + 17, f"{100 * value:g}".replace("-", words.MINUS), "axis", "middle")]
    marks += [text(WIDTH / 2, bottom + 35, "over-counted by, points of all images", "axis", "middle")]
    largest = chosen[0]
    description = f"Largest: {words.inline(largest['name'])}, {_points(largest['overcount'])} points."
    columns = ["class", "images given", "true share, %", "over-counted, points", "pure, %"]
    table = [
        [
            words.short(row["name"]),
            words.count(row["images"]),
            _percent(row["share"]),
            _points(row["overcount"]),
            _percent(row["purity"]),
        ]
        for row in chosen
    ]
    title = "Classes counted too often, and too seldom"
    return Figure(title, description, drawing(title, description, bottom + 40, marks), columns, table)


def _added(name: str) -> float:
    return float(name.removeprefix("added_"))


def _percent(measure: Mapping[str, Any]) -> str:
    if measure.get("exact"):
        return words.percent(measure["value"])
    return f"{words.percent(measure['value'])} ({words.percent_range([measure['low'], measure['high']])})"


def _interval(measure: Mapping[str, Any]) -> str:
    return f"{_percent(measure)}{', exact' if measure.get('exact') else ''}"


def _points(measure: Mapping[str, Any]) -> str:
    value, low, high = (words.signed_points(measure[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
