"""Drawings of a grid: accuracy against noise, accuracy against what it costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup

from winnow.bench.comparison import Condition, Row
from winnow.report import words
from winnow.report.figures import (
    LETTER,
    WIDTH,
    Figure,
    Scale,
    circle,
    drawing,
    line,
    path,
    spread,
    text,
    ticks,
)

_LABEL = 15
_BOLD = 1.14 * LETTER
_GAP = 16


@dataclass(frozen=True)
class _Frame:
    """A drawing area with its axes, and room for names on the right."""

    x: Scale
    y: Scale
    marks: list[Markup]
    right: float


def _frame(
    xs: tuple[float, float], values: Sequence[float], height: int, *, x_title: str, y_title: str, percent_x: bool
) -> _Frame:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.02
    low, high = max(0.0, low - margin), min(1.0, high + margin)
    left, right, top, bottom = 34.0, WIDTH - 8 - _BOLD * _LABEL, 24.0, height - 38.0
    x, y = Scale(*xs, left + 6, right - 8), Scale(low, high, bottom, top)
    marks = [text(0, 13, y_title, "axis")]
    for value in ticks(low, high, 4):
        marks += [line(left, y(value), right, y(value), "grid")]
        marks += [text(left - 4, y(value) + 4.5, f"{100 * value:g}", "axis", "end")]
    for value in ticks(*xs, 4):
        shown = f"{100 * value:g}" if percent_x else f"{value:g}"
        marks += [text(x(value), bottom + 17, shown, "axis", "middle")]
    marks += [text((left + right) / 2, height - 4, x_title, "axis", "middle")]
    return _Frame(x, y, marks, right)


def noise_plot(conditions: Sequence[Condition]) -> Figure:
    """Accuracy against the rate of one kind of noise: a line a method, whiskers from the lowest to the highest seed.

    Args:
        conditions: of one collection, one kind of noise and one training, at least two rates.
    """
    conditions = sorted(conditions, key=lambda condition: condition.rate)
    rates = [condition.rate for condition in conditions]
    methods = list(dict.fromkeys(row.method for condition in conditions for row in condition.rows))
    rows = {method: [condition.row(method) for condition in conditions] for method in methods}
    lines = {method: found for method, found in rows.items() if any(row and row.values() for row in found)}
    ends = {method: _last(found) for method, found in lines.items()}
    best = max(ends, key=lambda method: ends[method])
    seeds = [value for found in lines.values() for row in found if row for value in row.values().values()]
    height = _height(lines)
    frame = _frame(
        (rates[0], rates[-1]), seeds, height, x_title="share of wrong labels asked for, %", y_title="test accuracy, %",
        percent_x=True,
    )  # fmt: skip
    marks = frame.marks
    for method in sorted(lines, key=lambda name: name == best):  # the best one lies on top
        css = _css(method, best)
        points = []
        for rate, row in zip(rates, lines[method], strict=True):
            values = list(row.values().values()) if row else []
            if values:
                place = frame.x(rate)
                points.append((place, frame.y(sum(values) / len(values))))
                if len(values) > 1:
                    marks += [line(place, frame.y(min(values)), place, frame.y(max(values)), "whisker")]
        marks += [path(points, f"line {css}")] if len(points) > 1 else []
        marks += [circle(*point, 3, f"dot {css}", method) for point in points]
    marks += _names(frame, {method: frame.y(value) for method, value in ends.items()}, best, height)
    condition = conditions[0]
    title = f"{condition.data}: {condition.kind} noise" if condition.kind != "none" else condition.data
    title = words.short(title, 60)
    if rates[0] == 0 and len(conditions) > 1:
        title = words.short(f"{condition.data}: {conditions[-1].kind} noise", 60)
    description = f"At {words.percent(rates[-1], 0)} {words.short(best)} reaches {words.percent(ends[best])}" + (
        f", the most of {words.counted(len(lines), 'method')}." if len(lines) > 1 else "."
    )
    columns = ["method", *(words.percent(rate, 0) for rate in rates)]
    table = [
        [words.short(method), *(words.percent(row.mean() if row else None) for row in found)]
        for method, found in lines.items()
    ]
    return Figure(title, description, drawing(title, description, height, marks), columns, table)


def cost_plot(condition: Condition) -> Figure | None:
    """Accuracy against seconds of training: a dot a method, named at the right; None for one method alone."""
    rows = [row for row in condition.rows if row.mean() is not None and row.time("training_seconds") is not None]
    if len(rows) < 2:
        return None
    best = condition.ranked[0].method
    seconds = {row.method: row.time("training_seconds") or 0.0 for row in rows}
    accuracies = {row.method: row.mean() or 0.0 for row in rows}
    height = _height(seconds)
    frame = _frame(
        (0.0, max(seconds.values()) * 1.05 or 1.0), list(accuracies.values()), height,
        x_title="seconds of training", y_title="test accuracy, %", percent_x=False,
    )  # fmt: skip
    places = {method: frame.y(value) for method, value in accuracies.items()}
    marks = frame.marks
    for method, levels in _levels(places, height).items():
        marks += [line(frame.x(seconds[method]), places[method], frame.right + 2, levels[0], "leader")]
    for method in sorted(places, key=lambda name: name == best):
        marks += [circle(frame.x(seconds[method]), places[method], 5, f"dot {_css(method, best)}", method)]
    marks += _names(frame, places, best, height)
    title = words.short(condition.title, 60)
    fastest = min(seconds, key=lambda method: seconds[method])
    description = f"{words.short(best)} is the most accurate and trains for {words.duration(seconds[best])}; "
    if fastest == best:
        description += "none is quicker."
    else:
        description += f"{words.short(fastest)} is the quickest with {words.duration(seconds[fastest])}."
    table = [
        [words.short(row.method), words.duration(seconds[row.method]), words.percent(accuracies[row.method])]
        for row in rows
    ]
    columns = ["method", "training", "test accuracy"]
    return Figure(title, description, drawing(title, description, height, marks), columns, table)


def _last(rows: Sequence[Row | None]) -> float:
    return next((mean for row in reversed(rows) if row and (mean := row.mean()) is not None), 0.0)


def _css(method: str, best: str) -> str:
    if method == best:
        return "best"
    return "plain dashed" if method.startswith("cross-entropy") else "other"


def _label(method: str) -> list[str]:
    """A method's name, and its options on lines of their own: they are what tells controls apart."""
    name, _, options = method.partition(" ")
    return [words.short(part, _LABEL) for part in (name, *wrap(options, _LABEL, break_on_hyphens=False))]


def _height(methods: Collection[str]) -> int:
    return max(230, 70 + _GAP * sum(len(_label(method)) for method in methods))


def _levels(places: dict[str, float], height: int) -> dict[str, list[float]]:
    """Where the lines of each method's label stand, apart from all others."""
    owners = [method for method in places for _ in _label(method)]
    levels = spread([places[method] for method in owners], _GAP, 28, height - 42)
    return {
        method: [level for owner, level in zip(owners, levels, strict=True) if owner == method] for method in places
    }


def _names(frame: _Frame, places: dict[str, float], best: str, height: int) -> list[Markup]:
    return [
        text(frame.right + 6, level + 4.5, part, f"name {_css(method, best).split()[0]}")
        for method, levels in _levels(places, height).items()
        for part, level in zip(_label(method), levels, strict=True)
    ]
