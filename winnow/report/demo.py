"""The report of the demo: plain against robust training over seeds, then the first robust run in detail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from winnow.report import words
from winnow.report.cards import Picture
from winnow.report.page import Next, render, write_page
from winnow.report.plots import seeds_plot
from winnow.report.run import run_values

BASELINE = "cross-entropy"


def write_demo_report(out: Path, summary: dict[str, Any], run: Path, picture: Picture) -> Path:
    """Write the page of a comparison over seeds.

    Args:
        out: the file to write, or the folder to write `report.html` into.
        summary: the demo's, its `methods` giving one number a seed.
        run: the folder of the robust method's first run, shown in detail.
        picture: gives the picture of a row of that run's `labels.parquet`.

    Returns:
        The file written.

    Raises:
        InputError: the run folder lacks a file or holds a damaged one.
    """
    robust, plain = compared(summary["methods"])
    values = run_values(run, picture)
    values |= {
        "title": "winnow demo",
        "headline": headline(summary, robust, plain),
        "small_line": small_line(summary),
        "lead": lead(summary, robust, plain),
        "next": Next("winnow train FOLDER --out runs/mine", "the same on your own images, one folder for each class"),
        "robust": robust,
        "first_seed": summary["seeds"][0],
        "num_seeds": len(summary["seeds"]),
        "comparison": comparison_rows(summary["methods"]),
        "seeds": seeds_plot(
            "Every seed",
            f"Mean test accuracy: {means(summary['methods'])}.",
            {name: results["test_accuracy_last"] for name, results in summary["methods"].items()},
            summary["seeds"],
        ),
    }
    target = out if out.suffix == ".html" else out / "report.html"
    return write_page(target, render("demo.html", **values))


def compared(methods: dict[str, Any]) -> tuple[str, str]:
    """Names of the robust method and of the plain one that it is measured against."""
    names = list(methods)
    plain = BASELINE if BASELINE in methods else names[0]
    return next((name for name in names if name != plain), plain), plain


def mean(values: Sequence[float]) -> float:
    """The mean over seeds."""
    return sum(values) / len(values)


def means(methods: dict[str, Any]) -> str:
    """The mean accuracy of each method, in one phrase."""
    return ", ".join(
        f"{words.short(name)} {words.percent(mean(results['test_accuracy_last']))}" for name, results in methods.items()
    )


def differences(summary: dict[str, Any], robust: str, plain: str) -> list[float]:
    """Robust minus plain test accuracy, seed by seed: both saw the same wrong labels."""
    methods = summary["methods"]
    pairs = zip(methods[robust]["test_accuracy_last"], methods[plain]["test_accuracy_last"], strict=True)
    return [ours - theirs for ours, theirs in pairs]


def headline(summary: dict[str, Any], robust: str, plain: str) -> str:
    """Better, worse or no different, with the spread over seeds."""
    gains = differences(summary, robust, plain)
    gain, low, high = mean(gains), min(gains), max(gains)
    where = "On clean test digits" if summary.get("data") == "digits" else "On clean test images"
    name = words.short(robust)
    if words.points(gain) == "0.0":
        verdict = f"{name} is as good as {words.short(plain)}"
    else:
        better = "better" if gain > 0 else "worse"
        verdict = f"{name} is {words.points(gain)} points {better} than {words.short(plain)}"
    if len(gains) == 1:
        return f"{where} {verdict} (one seed)"
    if low < 0 < high:
        spread = f"{words.signed_points(low)} to +{words.points(high)} over {len(gains)} seeds: not settled"
    elif gain < 0:
        spread = f"{words.points(high)} to {words.points(low)} over {len(gains)} seeds"
    else:
        spread = f"{words.points(low)} to {words.points(high)} over {len(gains)} seeds"
    return f"{where} {verdict} ({spread})"


def small_line(summary: dict[str, Any]) -> str:
    """What was run on what, above the headline."""
    seeds = " ".join(map(str, summary["seeds"]))
    return (
        f"winnow demo · {words.counted(summary['num_images'], 'image')}, "
        f"{words.percent(summary['noise_rate'], 0)} of the labels made wrong at random · seeds {seeds}"
    )


def lead(summary: dict[str, Any], robust: str, plain: str) -> str:
    """The comparison in words, and what the doubted labels are worth."""
    methods = summary["methods"]
    reached = {name: words.percent(mean(methods[name]["test_accuracy_last"])) for name in (plain, robust)}
    text = (
        f"Both learned from the same wrong labels. {words.short(plain)} gets {reached[plain]} of "
        f"{words.counted(summary['num_test'], 'clean test image')} right at the last epoch, "
        f"{words.short(robust)} {reached[robust]}."
    )
    repaired = methods[robust].get("corrected_label_accuracy")
    if repaired:
        text += (
            f" After its repair {words.percent(mean(repaired))} of the training labels are right, "
            f"before {words.percent(1 - summary['noise_rate'])}."
        )
    return text


def comparison_rows(methods: dict[str, Any]) -> list[list[str]]:
    """A row a method: mean accuracy, its range over seeds, AUROC of label quality, labels right after."""

    def over_seeds(values: Sequence[float] | None, show: Any) -> str:
        return show(mean(values)) if values else words.NONE

    return [
        [
            words.short(name),
            words.percent(mean(results["test_accuracy_last"])),
            words.percent_range(results["test_accuracy_last"]),
            over_seeds(results.get("label_quality_auroc"), words.area),
            over_seeds(results.get("corrected_label_accuracy"), words.percent),
        ]
        for name, results in methods.items()
    ]
