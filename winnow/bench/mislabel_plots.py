"""The mislabelling study drawn: accuracy against noise, what is worth what, biased and unbiased, memorising."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from winnow.report import words
from winnow.report.figures import LETTER, WIDTH, Figure, Scale, circle, drawing, line, path, spread, text, ticks

Row = Mapping[str, Any]
_STYLES = 5


@dataclass(frozen=True)
class Band:
    """A line with its interval.

    Args:
        name: in the table; `label` at the line's end.
        css: class that colours and dashes it.
        points: (x, value, low, high), ascending; low and high None where there is no interval.
    """

    name: str
    label: str
    css: str
    points: Sequence[tuple[float, float, float | None, float | None]]


@dataclass(frozen=True)
class Axis:
    """One axis: its title, how a value is written on it, and what it must contain."""

    title: str
    show: Callable[[float], str]
    low: float
    high: float
    whole: bool = False


def size_style(place: int, number: int) -> str:
    """The class of the line of a size: the largest is plain, smaller ones lighter or dashed."""
    return f"level{min(_STYLES - 1, number - 1 - place)}"


def banded_lines(
    title: str,
    description: str,
    bands: Sequence[Band],
    *,
    x: Axis,
    y: Axis,
    show: Callable[[float | None], str],
    levels: Sequence[tuple[float, str]] = (),
    marks_at: Sequence[tuple[float, str]] = (),
    height: int = 250,
) -> Figure:
    """Lines with shaded intervals, named at their ends.

    Args:
        show: writes a value at a line's end and in the table.
        levels: horizontal dashed lines, (value, name).
        marks_at: vertical dashed lines, (value, name).
    """
    y_ticks = ticks(y.low, y.high, 5)
    left = 10 + LETTER * max(len(y.show(value)) for value in [*y_ticks, 0])
    widest = max((max(len(band.label), len(show(band.points[-1][1]))) for band in bands), default=0)
    right = WIDTH - 4 - 1.05 * LETTER * widest
    top, bottom = 26, height - 38
    across = Scale(x.low, x.high, left + 6, right - 10)
    up = Scale(y.low, y.high, bottom, top)
    marks = [text(0, 13, y.title, "axis")]
    for value in y_ticks:
        marks += [line(left, up(value), right - 6, up(value), "grid")]
        marks += [text(left - 5, up(value) + 4.5, y.show(value), "axis", "end")]
    for value in ticks(x.low, x.high, 5, whole=x.whole):
        marks += [text(across(value), bottom + 17, x.show(value), "axis", "middle")]
    marks += [text((left + right) / 2, height - 4, x.title, "axis", "middle")]
    for band in bands:
        edges = [(px, low, high) for px, _, low, high in band.points if low is not None and high is not None]
        inside = [(px, max(low, y.low), min(high, y.high)) for px, low, high in edges]
        if len(inside) > 1:
            around = [(px, high) for px, _, high in inside] + [(px, low) for px, low, _ in reversed(inside)]
            marks += [path([(across(px), up(py)) for px, py in around], f"band {band.css}", closed=True)]
    for value, name in levels:
        marks += [line(left, up(value), right - 6, up(value), "phase")]
        marks += [text(left + 8, up(value) - 4, name, "axis small")]
    for value, name in marks_at:
        marks += [line(across(value), top, across(value), bottom, "phase")]
        marks += [text(across(value) - 4, top + 10, name, "axis small", "end")]
    for band in bands:
        places = [(across(px), up(value)) for px, value, *_ in band.points]
        if len(places) > 1:
            marks += [path(places, f"line {band.css}")]
        marks += [circle(*place, 2.6, f"dot {band.css}") for place in places]
    ends = spread([up(band.points[-1][1]) for band in bands], 34, top + 4, bottom - 12)
    for band, place in zip(bands, ends, strict=True):
        marks += [text(right, place, band.label, f"name {band.css}")]
        marks += [text(right, place + 15, show(band.points[-1][1]), f"name {band.css}")]
    cells = 2 if any(point[2] is not None for band in bands for point in band.points) else 1
    columns = [x.title, *(name for band in bands for name in (band.name, "interval")[:cells])]
    by_x = [{point[0]: point for point in band.points} for band in bands]
    rows = [
        [x.show(value), *(cell for points in by_x for cell in _cells(points.get(value), show)[:cells])]
        for value in sorted({point[0] for band in bands for point in band.points})
    ]
    return Figure(title, description, drawing(title, description, height, marks), columns, rows)


def _cells(point: tuple[float, float, float | None, float | None] | None, show: Callable[[Any], str]) -> list[str]:
    if point is None:
        return [words.NONE, words.NONE]
    _, value, low, high = point
    return [show(value), words.NONE if low is None or high is None else f"{show(low)} to {show(high)}"]


def accuracy_plot(rows: Sequence[Row], kind: str, summary: Mapping[str, Any]) -> Figure:
    """Accuracy against the rate, one line a size; chance, and where the right label is no longer the most frequent."""
    mine = [row for row in rows if row["kind"] == kind]
    bands = _by_size(mine, summary["sizes"], "accuracy")
    chance = 1 / summary["num_classes"]
    tip = summary["tipping_rates"].get(kind)
    largest = [row for row in mine if row["size"] == max(row["size"] for row in mine)]
    first, last = largest[0], largest[-1]
    description = (
        f"With {words.counted(last['size'], 'image')} accuracy goes from {words.percent(first['accuracy'])} "
        f"at {_rate(first['rate'])} to {words.percent(last['accuracy'])} at {_rate(last['rate'])} wrong labels."
    )
    if tip is not None:
        description += (
            f" Above {_rate(tip)} a class's most frequent label is wrong, whatever the number of images; "
            f"chance is {words.percent(chance)}."
        )
    x = Axis("wrong labels, %", _plain, 0.0, max(summary["rates"]) or 1.0)
    return banded_lines(
        f"{kind.capitalize()} mistakes: accuracy",
        description,
        bands,
        x=x,
        y=Axis("test accuracy, %", _plain, 0.0, 1.0),
        show=words.percent,
        levels=[(chance, f"chance {words.percent(chance)}")],
        marks_at=[(tip, f"tips at {_rate(tip)}")] if tip is not None and tip <= x.high else [],
    )


def difference_plot(rows: Sequence[Row], sizes: Sequence[int], rates: Sequence[float]) -> Figure:
    """Biased minus unbiased accuracy, paired by repeat."""
    bands = _by_size(rows, sizes, "difference")
    reach = [v for band in bands for point in band.points for v in point[1:] if v is not None]
    low, high = min(*reach, 0.0), max(*reach, 0.0)
    margin = 0.08 * (high - low) or 0.01
    largest = max(rows, key=lambda row: (row["size"], row["rate"]))
    smallest = max((row for row in rows if row["size"] == rows[0]["size"]), key=lambda row: row["rate"])
    description = (
        f"At {_rate(largest['rate'])} wrong labels biased mistakes cost {_more(-largest['difference'])} than unbiased "
        f"ones with {words.counted(largest['size'], 'image')}, and {_more(-smallest['difference'])} with "
        f"{words.count(smallest['size'])}. "
        "A band that contains zero settles nothing."
    )
    return banded_lines(
        "Biased minus unbiased, points",
        description,
        bands,
        x=Axis("wrong labels, %", _plain, 0.0, max(rates)),
        y=Axis("difference in accuracy, points", _plain_signed, low - margin, high + margin),
        show=lambda value: words.NONE if value is None else words.signed_points(value),
        levels=[(0.0, "")],
    )


def memory_plot(rows: Sequence[Row]) -> Figure:
    """Agreement with wrong labels, with the truth behind them, and with right labels, during the training."""
    last = rows[-1]
    title = f"{last['kind'].capitalize()} mistakes: memorising"
    kinds = (
        ("given_flipped", "wrong labels taken over", "wrong", "given dashed"),
        ("true_flipped", "truth told in spite of them", "truth", "suggested"),
        ("given_clean", "right labels learnt", "right", "level3"),
    )
    bands = [
        Band(name, label, css, [(row["step"], row[key], None, None) for row in rows if row[key] is not None])
        for key, name, label, css in kinds
    ]
    taken, told = words.percent(last["given_flipped"]), words.percent(last["true_flipped"])
    description = (
        f"{words.counted(last['size'], 'training image')}, {_rate(last['rate'])} of the labels wrong. At the end the "
        f"network repeats {taken} of the wrong labels and tells the truth for {told} of them."
    )
    return banded_lines(
        title,
        description,
        [band for band in bands if band.points],
        x=Axis("step", lambda value: words.count(round(value)), 0, last["step"], whole=True),
        y=Axis("of the training images, %", _plain, 0.0, 1.0),
        show=words.percent,
    )


def exchange_map(
    rows: Sequence[Row], contours: Sequence[Row], answer: Row | None, kind: str, rates: Sequence[float]
) -> Figure:
    """Lines of equal accuracy over size (logarithmic) and rate, and the two ways from one point to the same line."""
    mine = [row for row in rows if row["kind"] == kind]
    sizes = sorted({row["size"] for row in mine})
    height, left, right, top = 280, 42.0, WIDTH - 34.0, 30.0
    bottom = height - 40.0
    logs = Scale(math.log(sizes[0]), math.log(sizes[-1]), left + 16, right - 10)
    up = Scale(0.0, max(rates) or 1.0, bottom - 14, top + 8)

    def place(size: float, rate: float) -> tuple[float, float]:
        return logs(math.log(size)), up(rate)

    marks: list[Markup] = [text(0, 13, "wrong labels, %", "axis")]
    for rate in rates:
        marks += [line(left, up(rate), right, up(rate), "grid")]
        marks += [text(left - 5, up(rate) + 4.5, _plain(rate), "axis", "end")]
    for size in sizes:
        marks += [text(logs(math.log(size)), bottom + 17, words.count(size), "axis", "middle")]
    marks += [text((left + right) / 2, height - 3, "training images (logarithmic)", "axis", "middle")]
    ends: list[tuple[tuple[float, float], str]] = []
    for contour in contours:
        points = [place(size, rate) for size, rate in contour["points"]]
        marks += [path(points, "line contour")]
        ends.append((max(points), f"{100 * contour['level']:.0f}{words.NO_BREAK}%"))
    for row in mine:
        tip = f"{words.count(row['size'])} images, {_rate(row['rate'])} wrong: {words.percent(row['accuracy'])}"
        marks += [circle(*place(row["size"], row["rate"]), 2.6, "dot level3", tip)]
    for (end_x, end_y), name in ends:
        marks += [text(min(end_x + 5, WIDTH - 30), end_y + 4.5, name, "axis small halo")]
    title = f"{kind.capitalize()} mistakes: what is worth what"
    description = "Along a line accuracy is the same. Where it runs level, more images do not help: better labels do."
    if answer is not None and answer["gain"] > 0:
        here = place(answer["size"], answer["rate"])
        halved = place(answer["size"], answer["rate"] / 2)
        marks += [path([here, halved], "line given"), circle(*halved, 3.5, "dot given")]
        if answer["times"] is not None:
            more = place(answer["size"] * answer["times"], answer["rate"])
            inside = min(more[0], right)
            marks += [path([here, (inside, more[1])], "line suggested")]
            marks += [circle(inside, more[1], 3.5, "dot suggested")] if inside == more[0] else []
        marks += [circle(*here, 5, "seed")]
        description += (
            f" The ring is {words.counted(answer['size'], 'image')} at {_rate(answer['rate'])}: half of the wrong "
            "labels (down, orange) is worth as much as more images (to the right, blue)."
        )
    cells = {(row["size"], row["rate"]): row["accuracy"] for row in mine}
    columns = ["wrong labels", *(words.counted(size, "image") for size in sizes)]
    table = [[_rate(rate), *(words.percent(cells.get((size, rate))) for size in sizes)] for rate in rates]
    return Figure(title, description, drawing(title, description, height, marks), columns, table)


def _by_size(rows: Sequence[Row], sizes: Sequence[int], name: str) -> list[Band]:
    bands = []
    for place, size in enumerate(sizes):
        points = [
            (row["rate"], row[name], row[f"{name}_low"], row[f"{name}_high"]) for row in rows if row["size"] == size
        ]
        if points:
            bands.append(Band(words.counted(size, "image"), words.count(size), size_style(place, len(sizes)), points))
    return bands


def _plain(value: float) -> str:
    return f"{100 * value:g}"


def _more(cost: float) -> str:
    return f"{words.points(cost)} points {'less' if cost < 0 else 'more'}"


def _plain_signed(value: float) -> str:
    return _plain(value).replace("-", words.MINUS)


def _rate(value: float) -> str:
    return words.percent(value, 0) if round(100 * value, 9) % 1 == 0 else words.percent(value)
