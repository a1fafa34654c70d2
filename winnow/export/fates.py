"""What becomes of every image of a judged collection: exactly one fate, with its reason.

Left out is what cannot be trusted, and nothing is invented: an image whose label looks wrong takes the suggested one
only if a person asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from winnow.data.source import Unreadable, without_label
from winnow.errors import UsageError
from winnow.export.judged import Judged

FATES = {
    "kept": "with its given label",
    "relabelled": "with the suggested label in place of the given one",
    "unreadable": "left out: it cannot be read",
    "outlier": "left out: it fits no class (--keep-outliers)",
    "wrong_label": "left out: its label looks wrong (--apply-suggestions, --keep-flagged)",
    "conflicting_duplicate": "left out: equal pictures have different labels (--keep-duplicates)",
    "exact_duplicate": "left out: an equal picture is kept (--keep-duplicates)",
    "unlabelled": "left out: it has no label, and this format needs one",
}
"""Every fate and what it means, in the order in which they are told."""
_CODES = {name: code for code, name in enumerate(FATES)}
_EXPORTED = (_CODES["kept"], _CODES["relabelled"])


@dataclass(frozen=True)
class Rule:
    """What a person wants of images that an audit has something against.

    Attributes:
        apply_suggestions: a label that looks wrong gives way to the suggested one.
        keep_flagged: an image whose label looks wrong stays, with that label.
        keep_outliers: images that fit no class stay.
        keep_duplicates: exact copies stay.
    """

    apply_suggestions: bool = False
    keep_flagged: bool = False
    keep_outliers: bool = False
    keep_duplicates: bool = False

    def __post_init__(self) -> None:
        if self.apply_suggestions and self.keep_flagged:
            raise UsageError("--apply-suggestions and --keep-flagged exclude each other: choose one")


EVERYTHING = Rule(keep_flagged=True, keep_outliers=True, keep_duplicates=True)
"""For tools in which a person looks at the findings: all images that can be read, as they were given."""


class Fates:
    """The fate of each image.

    Args:
        codes: places in `FATES`, (N,).
        labels: what is exported, in the shape of the given labels.
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray):
        self.codes = codes
        self.labels = labels
        self._faults: dict[int, str] = {}

    @property
    def exported(self) -> np.ndarray:
        """Rows of the images that are exported, ascending."""
        return np.flatnonzero(np.isin(self.codes, _EXPORTED))

    def set_aside(self, row: int, fault: Unreadable) -> None:
        """A picture turned out to be unreadable while it was copied."""
        self.codes[row] = _CODES["unreadable"]
        self._faults[row] = str(fault)

    def counts(self) -> dict[str, int]:
        """Number of images of each fate that occurs; their sum is the number of images."""
        found = np.bincount(self.codes, minlength=len(FATES))
        return {name: int(found[code]) for name, code in _CODES.items() if found[code]}

    def told(self, judged: Judged) -> Iterator[tuple[str, str]]:
        """Fate and reason of each image."""
        names = tuple(FATES)
        first_issues = judged.issues.to_pylist()
        for row, code in enumerate(self.codes.tolist()):
            name, detail = names[code], self._faults.get(row)
            if detail is None and name in ("wrong_label", "relabelled", "outlier", "unreadable"):
                # The table tells the reason of the most important finding alone.
                about = "wrong_label" if name == "relabelled" else name
                is_told = (first_issues[row] or [None])[0] == about
                detail = judged.reasons[row].as_py() if is_told else None
            if name == "exact_duplicate":
                detail = f"equal to {judged.source.ids[judged.copy_of[row]]}" if judged.copy_of[row] >= 0 else None
            yield name, f"{FATES[name]}{f': {detail}' if detail else ''}"


def decide(judged: Judged, rule: Rule, *, labels_needed: bool = False) -> Fates:
    """The fates of all images.

    An unreadable image stays out whatever is wanted. Among exact copies that are left by then the first labelled one
    is kept, none if their labels differ: nothing tells which is right.

    Args:
        judged: the collection.
        rule: what is wanted.
        labels_needed: whether an image without a label has no place in the format.
    """
    codes = np.full(len(judged), _CODES["kept"], dtype=np.int8)
    labels = judged.given_label.copy()
    flagged = judged.found("wrong_label")
    if rule.apply_suggestions:
        change = judged.doubted & (judged.suggested_label >= 0) & (judged.suggested_label != labels)
        labels = np.where(change, judged.suggested_label, labels)
        changed = change.any(axis=1) if change.ndim == 2 else change
        codes[changed] = _CODES["relabelled"]
        flagged &= ~changed
    if not rule.keep_flagged:
        codes[flagged] = _CODES["wrong_label"]
    if not rule.keep_outliers:
        codes[judged.found("outlier")] = _CODES["outlier"]
    codes[judged.found("unreadable")] = _CODES["unreadable"]
    if not rule.keep_duplicates:
        _drop_copies(codes, labels, judged.copy_of)
    if labels_needed:
        codes[np.isin(codes, _EXPORTED) & without_label(labels)] = _CODES["unlabelled"]
    return Fates(codes, labels)


def _drop_copies(codes: np.ndarray, labels: np.ndarray, copy_of: np.ndarray) -> None:
    """Of each group of equal pictures one is left, or none."""
    rows = np.flatnonzero((copy_of >= 0) & np.isin(codes, _EXPORTED))
    if not (copy_of >= 0).any():
        return
    unlabelled = without_label(labels)
    groups: dict[int, list[int]] = {int(first): [] for first in copy_of[copy_of >= 0]}
    for first in groups:
        if codes[first] in _EXPORTED:
            groups[first].append(first)
    for row in rows.tolist():
        groups[int(copy_of[row])].append(row)
    for members in groups.values():
        labelled = [row for row in members if not unlabelled[row]]
        if len(np.unique(labels[labelled], axis=0)) > 1:
            codes[members] = _CODES["conflicting_duplicate"]
        elif members:
            kept = (labelled or members)[0]
            codes[[row for row in members if row != kept]] = _CODES["exact_duplicate"]
