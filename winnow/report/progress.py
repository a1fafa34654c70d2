"""How a run went: curves that show memorising, and what each term of the loss did."""

from __future__ import annotations

import math
from typing import Any

from winnow.report import words
from winnow.report.figures import Figure
from winnow.report.plots import Line, lines_over_epochs

Epochs = list[dict[str, Any]]


def curves(epochs: Epochs) -> Figure | None:
    """Agreement with given labels against test accuracy, or against held-out given labels without one."""
    if not epochs:
        return None
    given = Line("agreement with given labels", "given", _column(epochs, "given_label_agreement"), "given dashed")
    test = Line("test accuracy", "test", _column(epochs, "test_accuracy"), "plain")
    held_out = Line(
        "agreement with held-out given labels", "held out", _column(epochs, "validation_agreement"), "plain"
    )
    other = next((item for item in (test, held_out) if any(map(words.known, item.values))), None)
    lines = [given] if other is None else [given, other]
    return lines_over_epochs(
        "Memorising: given labels against what is true",
        memorising(given, other),
        [int(epoch["epoch"]) for epoch in epochs],
        lines,
        show=words.percent,
        axis=lambda value: f"{100 * value:g}",
        y_title="%",
        shade=(given, other) if other else None,
        phases=[str(epoch.get("phase", "train")) for epoch in epochs],
    )


def memorising(given: Line, other: Line | None) -> str:
    """What the gap between the two lines says at the last epoch."""
    agreement, reached = given.values[-1], other.values[-1] if other else None
    if agreement is None or not math.isfinite(agreement):
        return "Agreement with the given labels was not measured."
    if other is None or reached is None or not math.isfinite(reached):
        return (
            f"At the last epoch the network agrees with {words.percent(agreement)} of the given labels. "
            "Without a test set or held-out images the gap that shows memorising cannot be drawn."
        )
    ends = f"{given.name} {words.percent(agreement)}, {other.name} {words.percent(reached)}"
    facts = f"At the last epoch: {ends}."
    gap = words.points(agreement - reached)
    if agreement > reached and other.label == "test":
        return (
            f"{facts} It reproduces the given labels {gap} points more often (orange) than it is right "
            "on images that it has not seen: it memorises."
        )
    if agreement > reached:
        return f"{facts} The {gap} points between them (orange) come from memorising."
    pairs = zip(given.values, other.values, strict=True)
    if any(a is not None and b is not None and a > b for a, b in pairs):
        return f"{facts} It memorised for a while (orange), but not at the end (grey)."
    return f"{facts} The given labels are never fitted better than new images (grey): no sign of memorising."


def _column(epochs: Epochs, key: str, inside: str | None = None) -> list[float | None]:
    parts = [(epoch.get(inside) or {}) if inside else epoch for epoch in epochs]
    return [None if part.get(key) is None else float(part[key]) for part in parts]


def term_plots(epochs: Epochs) -> list[Figure]:
    """A small plot for each term of the loss, the sum first if there are several, then what is logged."""
    terms = sorted({name for epoch in epochs for name in epoch.get("terms") or {}})
    logged = sorted({name for epoch in epochs for name in epoch.get("log") or {}})
    minimised, measured = "minimised, mean of the epoch", "measured after the epoch"
    wanted = [("sum of the terms", minimised, _column(epochs, "loss"))] if len(terms) != 1 else []
    wanted += [(name, minimised, _column(epochs, name, "terms")) for name in terms]
    wanted += [(name, measured, _column(epochs, name, "log")) for name in logged]
    numbers = [int(epoch["epoch"]) for epoch in epochs]
    phases = [str(epoch.get("phase", "train")) for epoch in epochs]
    figures = []
    for name, kind, values in wanted:
        present = [value for value in values if value is not None and math.isfinite(value)]
        if not present:
            continue
        title = words.short(name)
        figures.append(
            lines_over_epochs(
                title,
                f"{title}: from {words.decimal(present[0])} to {words.decimal(present[-1])}.",
                numbers,
                [Line(title, "", values, "plain")],
                show=words.decimal,
                y_title=kind,
                height=170,
                phases=phases,
            )
        )
    return figures
