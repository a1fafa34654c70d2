"""The web study drawn: what each step changes, what annotation is worth, caps, noise along the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from winnow.bench.mislabel_plots import Axis, Band, banded_lines
from winnow.bench.phrases import signed
from winnow.bench.web_words import interval
from winnow.report import words
from winnow.report.figures import WIDTH, Figure, Scale, circle, drawing, line, text, ticks

Row = Mapping[str, Any]
_ROW = 42


def change_plot(summary: Mapping[str, Any]) -> Figure | None:
    """One thing changed at a time, in points, with intervals: left of zero it costs, right of it it gains."""
    steps = [(_step(row), row) for row in summary["rows"] if row["change"] is not None]
    rows = [(name, row, "change") for name, row in steps if name is not None]
    if not rows:
        return None
    reach = [0.0, *(v for _, row, name in rows for v in _ends(row, name))]
    margin = 0.06 * (max(reach) - min(reach)) or 0.01
    height, top = 44 + _ROW * len(rows) + 34, 26.0
    bottom = height - 36.0
    across = Scale(min(reach) - margin, max(reach) + margin, 14.0, WIDTH - 14.0)
    marks: list[Markup] = [text(0, 13, "change in test accuracy, points", "axis")]
    for value in ticks(across.low, across.high, 5):
        marks += [line(across(value), top, across(value), bottom, "grid")]
        marks += [text(across(value), bottom + 17, f"{100 * value:.4g}".replace("-", words.MINUS), "axis", "middle")]
    marks += [line(across(0), top, across(0), bottom, "phase")]
    for place, (name, row, key) in enumerate(rows):
        y = top + _ROW * place + 32
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        css = "suggested" if row[key] >= 0 else "given"
        marks += [text(14, y - 11, f"{name}: {signed(row[key])}", "axis halo")]
        if low is not None:
            marks += [line(across(low), y, across(high), y, f"line {css}")]
        marks += [circle(across(row[key]), y, 4, f"dot {css}")]
    title = "One thing at a time"
    clear = [name for name, row, key in rows if row[f"{key}_low"] is not None and not _settled(row, key)]
    description = "Each row against the same crawl without that change. "
    description += (
        f"An interval that contains zero settles nothing: {', '.join(clear)}."
        if clear
        else (
            "No interval contains zero."
            if any(row["change_low"] is not None for _, row, _ in rows)
            else "Fewer than 3 repeats: no interval yet."
        )
    )
    table = [[name, signed(row[key]), interval(row, key).strip() or words.NONE] for name, row, key in rows]
    return Figure(
        title, description, drawing(title, description, height, marks), ["change", "points", "interval"], table
    )


def _step(row: Row) -> str | None:
    part = row["part"]
    match part["name"]:
        case "decontaminated":
            return "copies of test images out"
        case "filtered":
            return "copies and ambiguous ones out"
        case "noise" if part["kind"] != "none":
            return {"right": "more right ones", "cross-domain": "foreign ones added"}.get(
                part["kind"], "wrong-class ones added"
            )
    return None


def annotation_plot(rows: Sequence[Row]) -> Figure | None:
    """Gain over nobody asked, against the number of images that annotators were asked about."""
    rows = [row for row in rows if row["gain"] is not None]
    budgets = sorted({row["budget"] for row in rows})
    if not budgets:
        return None
    styles = {"doubtful": "suggested", "spread": "level3", "random": "level2"}
    bands = []
    for by in ("doubtful", "spread", "random"):
        points = [(row["budget"], row["gain"], row["gain_low"], row["gain_high"]) for row in rows if row["by"] == by]
        if points:
            bands.append(Band(by, by, styles[by], [(0, 0.0, None, None), *sorted(points)]))
    last = {row["by"]: row for row in rows if row["budget"] == budgets[-1]}
    told = ", ".join(f"{by} {signed(last[by]['gain'])}" for by in ("doubtful", "spread", "random") if by in last)
    return banded_lines(
        "What annotation is worth",
        f"With {words.counted(budgets[-1], 'image')} annotated, points of accuracy by the choice of images: {told}.",
        bands,
        x=Axis("annotated images", lambda value: words.count(round(value)), 0, budgets[-1], whole=True),
        y=_points_axis("gain, points", bands),
        show=_points,
        levels=[(0.0, "")],
    )


def cap_plot(rows: Sequence[Row]) -> Figure | None:
    """Accuracy against the largest number of images of a class: the first in the results, and random ones."""
    if not rows:
        return None
    bands = [
        Band(
            f"{name}, {label}",
            name,
            css,
            [
                (row["cap"], row[f"{key}_accuracy"], row[f"{key}_accuracy_low"], row[f"{key}_accuracy_high"])
                for row in rows
            ],
        )
        for key, name, label, css in (
            ("rank", "by rank", "the first of each class", "suggested"),
            ("random", "random", "as many", "level2"),
        )
    ]
    first = rows[0]
    values = [v for band in bands for point in band.points for v in point[1:] if v is not None]
    low, high = max(0.0, min(values) - 0.01), min(1.0, max(values) + 0.01)
    return banded_lines(
        "Class caps",
        f"With {words.counted(first['cap'], 'image')} a class the first in the results differ from random ones by "
        f"{signed(first['gain'])} points.",
        bands,
        x=Axis(
            "images of a class, at most",
            lambda value: words.count(round(value)),
            rows[0]["cap"],
            rows[-1]["cap"] + 1e-9,
            True,
        ),
        y=Axis("test accuracy, %", lambda value: f"{100 * value:g}", low, high),
        show=words.percent,
    )


def noise_by_rank_plot(rows: Sequence[Row]) -> Figure | None:
    """Shares of foreign and of mislabelled images along the results of the search."""
    quarters = [row for row in rows if "quarter" in row["part"] and row["cross_category"] is not None]
    if len(quarters) < 2:
        return None
    bands = []
    for key, name, css in (("cross_domain", "foreign", "given"), ("cross_category", "wrong", "level3")):
        points = [(number + 1, row[key], *row[f"{key}_interval"]) for number, row in enumerate(quarters)]
        bands.append(Band(key.replace("_", "-"), name, css, points))
    high = max(point[3] or 0.0 for band in bands for point in band.points)
    description = (
        f"From the first to the last quarter of the results cross-domain noise goes from "
        f"{words.percent(quarters[0]['cross_domain'])} to {words.percent(quarters[-1]['cross_domain'])}, "
        f"cross-category from {words.percent(quarters[0]['cross_category'])} "
        f"to {words.percent(quarters[-1]['cross_category'])}."
    )
    return banded_lines(
        "Noise along the results",
        description,
        bands,
        x=Axis("quarter of the results, by rank", lambda value: f"{value:.0f}", 1, len(quarters), whole=True),
        y=Axis("of the images, %", lambda value: f"{100 * value:g}", 0.0, min(1.0, high * 1.1)),
        show=words.percent,
    )


def _points_axis(title: str, bands: Sequence[Band]) -> Axis:
    values = [0.0, *(v for band in bands for point in band.points for v in point[1:] if v is not None)]
    margin = 0.08 * (max(values) - min(values)) or 0.01
    return Axis(
        title, lambda value: f"{100 * value:g}".replace("-", words.MINUS), min(values) - margin, max(values) + margin
    )


def _points(value: float | None) -> str:
    return words.NONE if value is None else words.signed_points(value)


def _ends(row: Row, name: str) -> list[float]:
    return [value for value in (row[name], row[f"{name}_low"], row[f"{name}_high"]) if value is not None]


def _settled(row: Row, name: str) -> bool:
    return bool(row[f"{name}_low"] > 0 or row[f"{name}_high"] < 0)
