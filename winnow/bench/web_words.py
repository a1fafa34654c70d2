"""The web study in words: the sentences a person wants, the tables of the terminal, the CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase
from textwrap import wrap
from typing import Any

from winnow.bench.phrases import WIDTH, several, signed

Row = Mapping[str, Any]
Part = Mapping[str, Any]


def part_name(part: Part) -> str:
    """What a part is, in a few words."""
    match part["name"]:
        case "raw":
            return "raw"
        case "without as many":
            return "raw, as many others out"
        case "decontaminated":
            return "without test copies"
        case "cap":
            how = "first" if part["by"] == "rank" else "random"
            return f"filtered, {how} {part['images']:,} a class"
        case "annotated only":
            return f"{part['budget']:,} annotated alone"
        case "annotated":
            return f"filtered, {part['budget']:,} {part['by']} put right"
        case "noise":
            kinds = {
                "none": "right images",
                "right": "and more right ones",
                "cross-domain": "and foreign ones",
                "cross-category": "and wrong-class ones",
            }
            return kinds[part["kind"]]
    return str(part["name"])


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """The answers, as far as there are any; the most important first."""
    return [sentence for sentence in _sentences(summary) if sentence]


def _sentences(summary: Mapping[str, Any]) -> Iterator[str]:
    crawl = summary["crawl"]
    if crawl is None:
        return
    copies = crawl["fates"]["copy of a test image"]
    if summary["copies"] is not None:
        yield _about_copies(summary["copies"], copies)
        yield _about_copied(summary["copies"])
        yield _about_chance(crawl, copies)
    elif not copies:
        yield "No image of the crawl is a near copy of a test image."
    if summary["annotation"]:
        yield _about_annotation(summary["annotation"])
    if summary["noise"]:
        yield _about_noise(summary["noise"])
    if summary["caps"]:
        yield _about_caps(summary["caps"])


def _about_copies(row: Row, copies: int) -> str:
    number = f"{copies:,} near {'copy' if copies == 1 else 'copies'} of test images"
    return (
        f"Removing {number} changes test accuracy by {change(row, 'change_all')}, "
        "against removing as many other images."
    )


def _about_copied(row: Row) -> str:
    """The test images that a copy gives away."""
    if row["change_copied"] is None:
        return ""
    return (
        f"On the test images that have a copy, accuracy goes from {_percent(row['copied_with'])} to "
        f"{_percent(row['copied_without'])} %."
    )


def _about_chance(crawl: Row, copies: int) -> str:
    """Copies that are none: told where they are more than a twentieth, or the first sentence would mislead."""
    number = round(crawl["chance"] * (crawl["images"] - copies))
    if number <= copies / 20:
        return ""
    return (
        f"Up to some {number:,} of the {copies:,} removed may be no copies but alike by chance: "
        f"{_percent(crawl['chance'])} % of the test images look like another test image. --likeness asks for more."
    )


def _about_annotation(rows: Sequence[Row]) -> str:
    budget = max(row["budget"] for row in rows)
    mine = {row["by"]: row for row in rows if row["budget"] == budget}
    if "doubtful" not in mine or "random" not in mine:
        return ""
    doubtful, by_chance = mine["doubtful"], mine["random"]
    return (
        f"Annotating the {budget:,} most doubtful images is worth {change(doubtful, 'gain')}, "
        f"a random {budget:,} {change(by_chance, 'gain', short=True)}; the difference is "
        f"{change(doubtful, 'over_random')}."
    )


def _about_noise(rows: Sequence[Row]) -> str:
    mine = {row["kind"]: row for row in rows}
    if not {"cross-domain", "cross-category"} <= set(mine):
        return ""
    foreign, wrong = mine["cross-domain"], mine["cross-category"]
    return (
        f"Added to {foreign['to']:,} right images, {foreign['added']:,} foreign ones (cross-domain) change accuracy by "
        f"{change(foreign, 'change')}, as many of a wrong class (cross-category) by {change(wrong, 'change')}."
    )


def _about_caps(rows: Sequence[Row]) -> str:
    best = max(rows, key=lambda row: (row["rank_accuracy"], -row["cap"]))
    # The best of several is a little better by luck: the reader must know that it was chosen.
    among = f", the best of {len(rows)} caps" if len(rows) > 1 else ""
    return (
        f"Keeping the first {best['cap']:,} of each class by rank ({best['images']:,} images{among}) is worth "
        f"{change(best, 'gain')} against as many random ones, and {change(best, 'against_all')} against all "
        "filtered images."
    )


def change(row: Row, name: str, short: bool = False) -> str:
    """Such as `−1.2 points (−1.9 to −0.4)`; without interval the number of repeats is too small for one."""
    if row[name] is None:
        return "an unknown number of points"
    unit = "" if short else " points"
    return f"{signed(row[name])}{unit}{interval(row, name)}"


def interval(row: Row, name: str) -> str:
    """` (−1.9 to −0.4)`, or nothing."""
    if row[f"{name}_low"] is None:
        return ""
    return f" ({signed(row[f'{name}_low'])} to {signed(row[f'{name}_high'])})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def table_lines(summary: Mapping[str, Any]) -> list[str]:
    """What became of the images, and every part, at most 80 columns wide."""
    return list(_lines(summary))


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    crawl = summary["crawl"]
    if crawl is not None:
        yield ""
        yield f"{crawl['images']:,} images of the crawl"
        for name, count in crawl["fates"].items():
            yield f"  {name:<30}{count:>9,}"
        for row in crawl["noise"]:
            if row["part"] in ("filtered",) or "crawled" in row["part"]:
                yield from wrap(f"  {_noise_line(row, crawl['complete'])}", WIDTH, subsequent_indent="    ")
    if summary["rows"]:
        yield ""
        yield from wrap(f"{summary['learner']}: test accuracy at the end, %", WIDTH)
        yield f"  {'learnt from':<34}{'images':>8}{'accuracy':>11} change against"
        references = dict.fromkeys(filter(None, map(_against, summary["rows"])))
        marks = dict(zip(references, ascii_lowercase, strict=False))
        for row in summary["rows"]:
            half = "" if row["accuracy_low"] is None else f" ±{100 * (row['accuracy'] - row['accuracy_low']):.1f}"
            versus = (
                f" {signed(row['change'])}{interval(row, 'change')} {marks[_against(row)]}" if _against(row) else ""
            )
            yield f"  {row['name'][:34]:<34}{row['images']:>8,}{_percent(row['accuracy']) + half:>11}{versus}"
        if marks:
            told = "; ".join(f"{mark}: {name}" for name, mark in marks.items())
            yield from wrap(f"  against {told}", WIDTH, subsequent_indent="    ")
    yield ""
    yield from wrap(" ".join(remarks(summary)), WIDTH)


def _against(row: Row) -> str:
    """What the change of a row is measured against; nothing without a change."""
    if row["change"] is None:
        return ""
    part = row["part"]
    return "as many random ones" if part["name"] == "cap" and part["by"] == "rank" else str(row["against"])


def _noise_line(row: Row, complete: bool) -> str:
    def rate(name: str) -> str:
        if row[name] is None:
            return "unknown"
        low, high = row[f"{name}_interval"]
        return f"{_percent(row[name])} %" + ("" if complete else f" ({_percent(low)} to {_percent(high)})")

    seen = "" if complete else f" of {row['checked']:,} checked"
    return f"{row['part']}{seen}: cross-domain {rate('cross_domain')}, cross-category {rate('cross_category')}"


def remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the numbers rest on, for the terminal."""
    if any(row["accuracy_low"] is not None for row in summary["rows"]):
        yield "± and brackets: 95 % t intervals over the repeats; changes are taken repeat by repeat."
    elif summary["rows"]:
        yield "Fewer than 3 repeats: no interval yet."
    if summary["rows"]:
        largest = max(row["test_error"] for row in summary["rows"])
        yield (
            f"{summary['crawl']['num_test'] if summary['crawl'] else 0:,} test images add a standard error of up to "
            f"{100 * largest:.1f} points, the same for all."
        )
    crawl = summary["crawl"]
    if crawl is not None:
        yield recall_remark(crawl)
    if summary["failed"]:
        failed = summary["failed"][0]
        yield f"{several(len(summary['failed']), 'cell')} failed, such as {failed['part']}: {failed['error']}."


def recall_remark(crawl: Row) -> str:
    """How well copies are found, with the weakest kind named."""
    worst = min(crawl["recall"], key=lambda name: crawl["recall"][name])
    text = (
        f"Copies: likeness {crawl['rule']['likeness']:g} finds {_percent(crawl['recall']['recompressed'])} % of test "
        f"images saved as poor JPEG, {_percent(crawl['recall'][worst])} % of those {worst}; "
    )
    return f"{text}{_percent(crawl['chance'])} % of the test images look like another one to it."


def csv_text(summary: Mapping[str, Any]) -> str:
    """The parts as CSV, one row each; numbers as they are, nothing where there is none."""
    names = (
        "name",
        "images",
        "repeats",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "test_error",
        "against",
        "change",
        "change_low",
        "change_high",
        "noise_left",
        "asked",
        "asked_wrong",
    )
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(summary["rows"])
    return file.getvalue()
