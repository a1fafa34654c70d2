"""Drawings of a run: lines over epochs, dots over seeds, bars of label quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

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
    rect,
    spread,
    text,
    ticks,
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: what it is called in the table; `label` is its short name at its end.
        values: one per x, None where there is none.
        css: class that colours and dashes it.
    """

    name: str
    label: str
    values: Sequence[float | None]
    css: str


def _stretches(xs: Sequence[float], values: Sequence[float | None]) -> Iterator[list[Point]]:
    """The parts of a line between its gaps."""
    part: list[Point] = []
    for x, value in zip(xs, values, strict=True):
        if value is not None and math.isfinite(value):
            part.append((x, value))
        elif part:
            yield part
            part = []
    if part:
        yield part


def gap_areas(
    xs: Sequence[float], upper: Sequence[float | None], lower: Sequence[float | None]
) -> Iterator[list[Point]]:
    """Where `upper` lies above `lower`: the areas between them, cut exactly where the lines cross."""
    above: list[tuple[float, float, float]] = []

    def area() -> list[Point]:
        return [(x, a) for x, a, _ in above] + [(x, b) for x, _, b in reversed(above)]

    before: tuple[float, float, float] | None = None
    for x, a, b in zip(xs, upper, lower, strict=True):
        if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)):
            if len(above) > 1:
                yield area()
            above, before = [], None
            continue
        if before is not None and (before[1] > before[2]) != (a > b):
            share = (before[1] - before[2]) / ((before[1] - before[2]) - (a - b))
            level = before[1] + share * (a - before[1])
            above.append((before[0] + share * (x - before[0]), level, level))
            if a <= b:
                if len(above) > 1:
                    yield area()
                above = []
        if a > b:
            above.append((x, a, b))
        before = (x, a, b)
    if len(above) > 1:
        yield area()


def lines_over_epochs(
    title: str,
    description: str,
    epochs: Sequence[int],
    lines: Sequence[Line],
    *,
    show: Callable[[float | None], str],
    axis: Callable[[float], str] | None = None,
    y_title: str,
    height: int = 230,
    shade: tuple[Line, Line] | None = None,
    phases: Sequence[str] | None = None,
) -> Figure:
    """Lines over the epochs of a run, named at their ends.

    Args:
        show: writes a value at a line's end and in the table; `axis` writes it at a tick.
        shade: two lines; where the first lies above the second the gap is tinted orange, elsewhere grey.
        phases: the phase of each epoch; where it changes stands a thin line.
    """
    axis = axis or show
    present = [float(v) for item in lines for v in item.values if v is not None and math.isfinite(v)]
    low, high = (min(present), max(present)) if present else (0.0, 1.0)
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    y_ticks = ticks(low - margin, high + margin, 4)
    left = 10 + LETTER * max([len(axis(value)) for value in y_ticks] + [3])
    ends = [(item, part[-1]) for item in lines for part in list(_stretches(epochs, item.values))[-1:]]
    widest = max((len(shown) for item, (_, value) in ends for shown in (item.label, show(value))), default=0)
    right = WIDTH - 4 - 1.1 * LETTER * widest
    top, bottom = 26, height - 38
    first, last = (epochs[0], epochs[-1]) if epochs else (0, 1)
    x, y = Scale(first, last, left + 4, right - 10), Scale(low - margin, high + margin, bottom, top)

    marks = [text(0, 13, y_title, "axis")]
    for value in y_ticks:
        marks += [line(left, y(value), right - 6, y(value), "grid")]
        marks += [text(left - 5, y(value) + 4.5, axis(value), "axis", "end")]
    for value in ticks(first, last, 5, whole=True):
        marks += [text(x(value), bottom + 17, words.count(round(value)), "axis", "middle")]
    marks += [text((left + right) / 2, height - 4, "epoch", "axis", "middle")]
    for index in range(1, len(phases or [])):
        if phases and phases[index] != phases[index - 1]:
            place = x((epochs[index - 1] + epochs[index]) / 2)
            marks += [line(place, top, place, bottom, "phase")]
    if shade:
        for a, b, css in ((shade[0], shade[1], "gap-given"), (shade[1], shade[0], "gap-grey")):
            for area in gap_areas(epochs, a.values, b.values):
                marks += [path([(x(px), y(py)) for px, py in area], css, closed=True)]

    for item in lines:
        for part in _stretches(epochs, item.values):
            places = [(x(px), y(py)) for px, py in part]
            if len(places) > 1:
                marks += [path(places, f"line {item.css}")]
            marks += [circle(*places[-1], 2.6, f"dot {item.css}")]
    places_y = spread([y(value) for _, (_, value) in ends], 34, top + 4, bottom - 12)
    for (item, (_, value)), place in zip(ends, places_y, strict=True):
        below = 15 if item.label else 4.5
        marks += [text(right, place, item.label, f"name {item.css}")] if item.label else []
        marks += [text(right, place + below, show(value), f"name {item.css}")]

    columns = ["epoch", *(["phase"] if phases else []), *(item.name for item in lines)]
    rows = [
        [
            words.count(epoch),
            *([words.visible(phases[index])] if phases else []),
            *(show(item.values[index]) for item in lines),
        ]
        for index, epoch in enumerate(epochs)
    ]
    drawn = drawing(title, description, height, marks)
    return Figure(title, description, drawn, columns, rows, names=2 if phases else 1)


def seeds_plot(title: str, description: str, methods: dict[str, Sequence[float]], seeds: Sequence[int]) -> Figure:
    """A row a method: a dot a seed, a tick at the mean. The x axis begins near the smallest value."""
    values = [value for results in methods.values() for value in results]
    margin = 0.08 * (max(values) - min(values)) or 0.01
    low, high = max(0.0, min(values) - margin), min(1.0, max(values) + margin)
    x = Scale(low, high, 16, WIDTH - 16)
    row_height, top = 52, 6
    bottom = top + row_height * len(methods)
    marks: list[Markup] = []
    for value in ticks(low, high, 4):
        marks += [line(x(value), top, x(value), bottom, "grid")]
        marks += [text(x(value), bottom + 17, f"{100 * value:g}", "axis", "middle")]
    for index, (method, results) in enumerate(methods.items()):
        level = top + row_height * index + 36
        mean = sum(results) / len(results)
        marks += [text(0, level - 20, words.short(method, 26), "strong")]
        marks += [text(WIDTH, level - 20, f"mean {words.percent(mean)}", "axis", "end")]
        marks += [line(6, level, WIDTH - 6, level, "axis-line")]
        marks += [line(x(mean), level - 10, x(mean), level + 10, "mean")]
        for seed, value in zip(seeds, results, strict=True):
            marks += [circle(x(value), level, 5, "seed", f"seed {seed}: {words.percent(value)}")]
    marks += [text(WIDTH / 2, bottom + 35, "test accuracy at the last epoch, %", "axis", "middle")]
    rows = [
        [
            words.short(method),
            *(words.percent(value) for value in results),
            words.percent(sum(results) / len(results)),
        ]
        for method, results in methods.items()
    ]
    columns = ["method", *(f"seed {seed}" for seed in seeds), "mean"]
    return Figure(title, description, drawing(title, description, bottom + 40, marks), columns, rows)


def cut(label_quality: np.ndarray, flagged: np.ndarray) -> tuple[float, int]:
    """The quality that parts flagged labels from the others best, and how many lie on the wrong side of it.

    A verified label may be of low quality and is never flagged, so there need not be a clean cut.
    """
    order = np.argsort(label_quality, kind="stable")
    quality, wrong = label_quality[order], flagged[order]
    misplaced = np.concatenate([[0], np.cumsum(np.where(wrong, -1, 1))]) + int(wrong.sum())
    # Only between different qualities can there be a line.
    possible = np.concatenate([[True], quality[1:] > quality[:-1], [True]])
    cost = np.where(possible, misplaced, len(quality) + 1)
    best = int(np.flatnonzero(cost == cost.min())[-1])  # of equals the highest, which has more flagged labels below
    ends = np.concatenate([[0.0], quality, [1.0]])
    return float(ends[best] + ends[best + 1]) / 2, int(misplaced[best])


def quality_plot(
    label_quality: np.ndarray, flagged: np.ndarray, flagged_word: str = "doubted", *, threshold: bool = False
) -> Figure:
    """Forty bars of `label_quality`, the flagged labels apart from the rest: how clear is the cut.

    The height is the square root of the count, so that a few doubted labels among many stay visible. `threshold` asks
    for a line where the flagged labels end, with the counts on both sides.
    """
    bars = 40
    finite = np.isfinite(label_quality)
    quality, marked = np.clip(label_quality[finite], 0, 1), flagged[finite]
    bins = np.minimum((quality * bars).astype(int), bars - 1)
    doubted = np.bincount(bins[marked], minlength=bars)
    others = np.bincount(bins[~marked], minlength=bars)
    highest = max(1, int((doubted + others).max()) if len(bins) else 1)
    left = 10 + LETTER * len(words.count(highest))
    above, below = int(marked.sum()), int((~marked).sum())
    threshold = threshold and above > 0 and below > 0
    height, top = (272, 68) if threshold else (250, 46)
    bottom = height - 38
    x, y = Scale(0, bars, left, WIDTH - 8), Scale(0, math.sqrt(highest), bottom, top)
    title = "How clear is the cut"
    description = f"{words.counted(above, 'label') if above else 'No label'} {flagged_word}, {words.count(below)} not."
    if above and below:
        description += " Two hills apart mean a clear cut; one hill means that the border is a matter of taste."
    marks = [text(0, 13, "images (height: square root of the count)", "axis")]
    marks += [rect(left, 22, 11, 11, "bar-given"), text(left + 16, 32, flagged_word, "axis")]
    other_x = left + 34 + LETTER * len(flagged_word)
    marks += [rect(other_x, 22, 11, 11, "bar-grey"), text(other_x + 16, 32, f"not {flagged_word}", "axis")]
    for value in sorted({highest, round(highest / 4)} - {0}):
        marks += [line(left, y(math.sqrt(value)), WIDTH - 8, y(math.sqrt(value)), "grid")]
        marks += [text(left - 5, y(math.sqrt(value)) + 4.5, words.count(value), "axis", "end")]
    for index in range(bars):
        total = doubted[index] + others[index]
        if not total:
            continue
        span = f"{index / bars:.3g} to {(index + 1) / bars:.3g}"
        tip = f"{span}: {words.count(doubted[index])} {flagged_word}, {words.count(others[index])} not"
        full = y(math.sqrt(int(total)))
        split = bottom - (bottom - full) * doubted[index] / total
        width = x(1) - x(0) - 1
        if doubted[index]:
            marks += [rect(x(index), split, width, bottom - split, "bar-given", tip)]
        if others[index]:
            marks += [rect(x(index), full, width, split - full, "bar-grey", tip)]
    if threshold:
        border, misplaced = cut(quality, marked)
        description += f" The line stands at {words.decimal(border, 2)}"
        description += f"; {words.counted(misplaced, 'label')} on the other side of it." if misplaced else "."
        place, under = x(bars * border), words.count(int((quality <= border).sum()))
        over = words.count(int((quality > border).sum()))
        # The counts flank the line; where it stands at an edge they move along and stay apart.
        middle = min(max(place, LETTER * len(under) + 8), WIDTH - 8 - LETTER * len(over))
        marks += [line(place, top - 18, place, bottom, "threshold")]
        marks += [text(middle - 5, top - 10, under, "strong", "end"), text(middle + 5, top - 10, over, "strong")]
    marks += [line(left, bottom, WIDTH - 8, bottom, "axis-line")]
    for share in (0, 0.5, 1):
        marks += [text(x(bars * share), bottom + 17, f"{share:g}", "axis", "middle")]
    marks += [text((left + WIDTH) / 2, height - 4, "label_quality", "axis", "middle")]
    rows = [
        [f"{i / bars:.3f} to {(i + 1) / bars:.3f}", words.count(doubted[i]), words.count(others[i])]
        for i in range(bars)
        if doubted[i] + others[i]
    ]
    columns = ["label_quality", flagged_word, f"not {flagged_word}"]
    return Figure(title, description, drawing(title, description, height, marks), columns, rows)
