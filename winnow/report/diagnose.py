"""The page of a diagnosis: five consequences of wrong labels in sentences, with every number's assumption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.report import words
from winnow.report.diagnose_plots import learning_curves, overcounts
from winnow.report.diagnose_words import LIMITS, TITLES, headline, lead, measure_rows, sentences
from winnow.report.figures import Figure
from winnow.report.page import render, write_page
from winnow.report.run import Next


@dataclass(frozen=True)
class Section:
    """One diagnostic on the page."""

    name: str
    title: str
    sentences: list[str]
    plots: list[Figure]
    rows: list[list[str]]


def write_diagnose_report(out: Path, summary: Mapping[str, Any]) -> Path:
    """Write `report.html` into a folder.

    Args:
        out: the folder.
        summary: content of `summary.json`.

    Returns:
        The file written.

    Raises:
        MachineError: it cannot be written.
    """
    return write_page(out / "report.html", render("diagnose.html", **page_values(summary)))


def page_values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    size = (
        f"{words.counted(summary['num_images'], 'image')} · {words.counted(summary['num_classes'], 'class', 'classes')}"
    )
    return {
        "title": f"winnow diagnose: {words.short(summary['data'], 60)}",
        "small_line": f"winnow diagnose {words.short(summary['data'], 60)} · {size}",
        "headline": headline(summary),
        "lead": lead(summary),
        "next": Next(summary["next"], "find the wrong labels"),
        "sections": [
            Section(name, TITLES[name], told, _plots(name, summary), measure_rows(summary["diagnostics"][name]))
            for name, told in sentences(summary).items()
        ],
        "limits": LIMITS,
        "made": [
            ["noise", summary["assumption"]],
            ["features", summary["features"]],
            ["seed", str(summary["seed"])],
            ["left out", words.counted(summary["unlabelled"], "image") + " without a label"],
            ["version", f"winnow {summary['version']}"],
        ],
    }


def _plots(name: str, summary: Mapping[str, Any]) -> list[Figure]:
    curves = summary["diagnostics"][name].get("curves", {})
    if name == "samples" and "learning_curve" in curves:
        return [learning_curves(curves["learning_curve"])]
    if name == "frequencies" and "classes" in curves:
        return [overcounts(curves["classes"])]
    return []
