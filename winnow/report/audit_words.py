"""What an audit found in words: one answer and one table of findings, the same in the terminal and on the page."""

from __future__ import annotations

import shlex
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from winnow.report import words
from winnow.report.folder import KindFindings
from winnow.report.page import Next

Summary = Mapping[str, Any]

MEANINGS = {
    "wrong_label": "looks like another class than the given one",
    "conflicting_duplicate": "the same picture as another one that has another label",
    "exact_duplicate": "the same picture as another one, pixel by pixel",
    "near_duplicate": "nearly the same picture as another one",
    "outlier": "looks like none of the classes",
    "test_leak": "also in the test set, where it makes the accuracy look better",
    "unreadable": "cannot be read as a picture; left out of everything else",
    "blank": "one colour all over",
    "dark": "too dark to tell what it shows",
    "bright": "too bright to tell what it shows",
    "blurred": "much less sharp than the others",
    "odd_size": "much larger or smaller than the others",
    "odd_shape": "much wider or taller than the others",
    "odd_mode": "stored in other colours than the others, such as grey among coloured ones",
    "odd_file": "readable, but something about the file is unusual",
}
"""What each kind of finding says about an image, after its name."""

ODD_KINDS = ("blank", "dark", "bright", "blurred", "odd_size", "odd_shape", "odd_mode", "odd_file")
DUPLICATE_KINDS = ("conflicting_duplicate", "test_leak", "exact_duplicate", "near_duplicate")
UNSEEN = "Mistakes that everyone makes alike cannot be seen here: --blind 60 checks."

COLUMNS = 80
NAME_COLUMNS, CLASS_COLUMNS = 24, 12
LEAST_NAME = 5
"""Of the 29 columns that the longest kind leaves, ` looks like ` takes 12."""


def flagged(summary: Summary) -> int:
    """Images whose label is flagged as wrong."""
    return summary.get("num_flagged") or 0


def readable(summary: Summary) -> int:
    """Images that could be read."""
    return (summary.get("num_images") or 0) - (summary.get("quarantined") or 0)


def labelled(summary: Summary) -> int:
    """Readable images with a label."""
    return max(0, readable(summary) - (summary.get("unlabelled") or 0))


def answer(summary: Summary) -> str:
    """How bad it is, in one sentence without its full stop."""
    images, wrong = readable(summary), flagged(summary)
    others = max(0, (summary.get("num_issues") or 0) - wrong)
    found = f"; {words.counted(others, 'image')} {'has' if others == 1 else 'have'} other findings" if others else ""
    if not images:
        return f"None of {words.counted(summary.get('num_images') or 0, 'image')} can be read"
    if not labelled(summary):
        return f"There is no label to judge among {words.counted(images, 'image')}{found}"
    if (summary.get("num_classes") or 0) < 2:
        return f"With one class no label can look like another one{found}"
    if not wrong:
        return f"No label stands out among {words.counted(labelled(summary), 'image')}{found}"
    rate = summary.get("estimated_noise_rate")
    if summary.get("multilabel"):
        some = f"{words.count(wrong)} of {words.counted(images, 'image')} hold a label that looks wrong"
        return f"{some}: about {_rate(summary)} of all labels" if words.known(rate) else some
    of = f"of {words.counted(labelled(summary), 'label')} look wrong"
    if rate is None or not words.known(rate):
        return f"{words.count(wrong)} {of}"
    return f"{words.about(rate * labelled(summary)).capitalize()} {of}: {_rate(summary)}"


def _rate(summary: Summary) -> str:
    interval = summary.get("estimated_noise_rate_interval")
    within = f" (interval {words.percent_range(interval)})" if interval and all(map(words.known, interval)) else ""
    return words.percent(summary.get("estimated_noise_rate")) + within


def lead(summary: Summary) -> str:
    """How sure the answer is, and why the labels that are estimated to be wrong are not those that are flagged."""
    wrong, sentences = flagged(summary), []
    if not readable(summary):
        sentences.append("The reasons are counted below; nothing else could be judged.")
    elif not labelled(summary) or (summary.get("num_classes") or 0) < 2:
        sentences.append("Outliers, duplicates and odd files need no labels; they are below.")
    elif wrong:
        share = summary.get("likely_true", {}).get("wrong_label")
        unit = "image" if summary.get("multilabel") else "label"
        likely = f"; about {words.percent(share, 0)} of them are truly wrong" if words.known(share) else ""
        sentences.append(f"{words.counted(wrong, unit)} {'is' if wrong == 1 else 'are'} flagged{likely}.")
        sentences.append(
            "The estimate differs: it leaves out the flagged labels that are right and adds wrong ones "
            f"that do not stand out one by one. Intervals have level 95{words.NO_BREAK}%."
        )
    else:
        rate = summary.get("estimated_noise_rate")
        sentences.append(f"60 clean blind checks would bound the rate of wrong labels below 5{words.NO_BREAK}%.")
        if words.known(rate):
            level = f"95{words.NO_BREAK}%"
            within = _rate(summary).replace("interval", f"{level} interval")
            sentences.append(f"The estimate from the images alone is {within}.")
    if missing := summary.get("unlabelled"):
        sentences.append(f"{words.counted(missing, 'image')} without a label {_was(missing)} not judged.")
    return " ".join(sentences)


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def small_line(summary: Summary) -> str:
    """Command and size of the collection, above the answer."""
    command = words.inline(summary.get("command", "winnow audit"), 70)
    images = words.counted(summary.get("num_images") or 0, "image")
    classes = words.counted(summary.get("num_classes") or 0, "class", "classes")
    aside = summary.get("quarantined") or 0
    return f"{command} · {images}, {classes}" + (f"; {words.count(aside)} unreadable set aside" if aside else "")


def next_step(summary: Summary, audit: Path) -> Next:
    """What to type after an audit.

    Args:
        summary: of the audit.
        audit: its folder.
    """
    if not readable(summary):
        return Next("winnow doctor", "checks this installation, in case that the files open elsewhere")
    if flagged(summary) or not labelled(summary) or (summary.get("num_classes") or 0) < 2:
        table = f"winnow export {shlex.quote(words.visible(audit))} --to csv --out labels.csv"
        return Next(table, "the collection without what was flagged, as a table")
    data = shlex.quote(words.visible(summary.get("data") or "DATA"))
    return Next(f"winnow audit {data} --blind 60", "draws 60 images at random to check by eye")


def finding_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """The table of findings: kind, images, the share of them that is likely true, how alike they are, or `exact`."""
    likely, alike = summary.get("likely_true") or {}, summary.get("similarity") or {}

    def share(kind: str) -> str:
        if kind not in likely:
            return words.NONE
        if likely[kind] is not None:
            return words.percent(likely[kind], 0)
        return f"{words.percent(alike[kind], 0)} alike" if kind in alike else "exact"

    counts = summary.get("counts") or {}
    kinds = [*(kind for kind in MEANINGS if kind in counts), *(kind for kind in counts if kind not in MEANINGS)]
    return [(words.visible(kind), words.count(counts[kind]), share(kind)) for kind in kinds if counts[kind]]


@dataclass(frozen=True)
class Example:
    """The worst finding of a kind in a few words: before, name, told.

    Attributes:
        name: of the image; it is cut in its middle where room is scarce.
        before: what stands before it.
        told: what is said of it; cut at its end.
        wanted: columns of `told` that the name makes room for: a suggested class says more than a long name.
    """

    name: str
    before: str = ""
    told: str = ""
    wanted: int = 0

    def line(self, columns: int) -> str:
        """All of it in so many columns, as far as it fits."""
        room = columns - width(self.before) - min(self.wanted, width(self.told))
        name = _middle_cut(self.name, min(NAME_COLUMNS, max(LEAST_NAME, room)))
        return _beginning(f"{self.before}{name}{self.told}", columns)


def examples(findings: Mapping[str, KindFindings], class_names: Sequence[str]) -> dict[str, Example]:
    """The worst finding of each kind, for the last column of the terminal's table.

    Args:
        findings: of an audit, by kind; none of them empty.
        class_names: in index order.
    """
    found = {}
    for kind, items in findings.items():
        groups = len(np.unique(items.groups[items.groups >= 0])) if kind in DUPLICATE_KINDS else 0
        name = words.visible(items.text(0, "id"))
        if 0 <= (suggested := int(items.suggested[0])) < len(class_names):
            told = f" looks like {_middle_cut(words.visible(class_names[suggested]), CLASS_COLUMNS)}"
            found[kind] = Example(name, told=told, wanted=width(told))
        elif groups:
            found[kind] = Example(name, f"{words.counted(groups, 'group')}, such as ")
        else:
            found[kind] = Example(name, told=f": {words.visible(items.text(0, 'reason'))}")
    return found


def terminal_lines(summary: Summary, examples: Mapping[str, Example] | None = None) -> list[str]:
    """The answer and the table of findings, at most 80 columns wide.

    Args:
        summary: of the audit.
        examples: by kind; see the function of that name.

    Returns:
        The answer, one line or more for it; the table, if anything was found; what an audit cannot see.
    """
    lines = textwrap.wrap(f"{answer(summary)}.", COLUMNS)
    rows = finding_rows(summary)
    if rows:
        longest = max(len("wrong_label"), *(len(kind) for kind, _, _ in rows))
        lines.append(f"  {'finding':<{longest}}  {'images':>9}   {'likely true':>11}   for example")
        for kind, images, likely in rows:
            start = f"  {kind:<{longest}}  {images:>9}   {likely:>11}   "
            example = (examples or {}).get(kind)
            lines.append((start + (example.line(COLUMNS - len(start)) if example else "")).rstrip())
    if labelled(summary) and (summary.get("num_classes") or 0) > 1:
        lines.append(UNSEEN)
    return [line.replace(words.NO_BREAK, " ") for line in lines]


def width(text: str) -> int:
    """Columns of a terminal: Chinese and the like take two a letter."""
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _beginning(text: str, columns: int) -> str:
    """As much of a text as fits."""
    whole = words.visible(text)
    fits = _fitting(whole, columns)
    return whole if fits == whole else f"{fits[: max(0, len(fits) - 2)].rstrip()}{words.ELLIPSIS}"


def _middle_cut(text: str, columns: int) -> str:
    """A text cut in its middle to so many columns, with twice as much of its beginning as of its end."""
    if width(text) <= columns:
        return text
    tail = _fitting(text[::-1], (columns - 1) // 3)[::-1]
    return f"{_fitting(text, columns - 1 - width(tail))}{words.ELLIPSIS}{tail}"


def _fitting(text: str, columns: int) -> str:
    """The longest beginning of so many columns at most."""
    taken = 0
    for place, letter in enumerate(text):
        taken += _columns(letter)
        if taken > columns:
            return text[:place]
    return text
