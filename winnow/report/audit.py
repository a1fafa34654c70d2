"""The report of an audit: how many labels look wrong and which, what else is odd, what the numbers rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from winnow.report import audit_words, words
from winnow.report.audit_cards import duplicate_pairs, odd_grids, outlier_grid
from winnow.report.audit_plots import worth_looking
from winnow.report.cards import Budget, Picture
from winnow.report.doubted import doubted_labels
from winnow.report.folder import Labels, read_findings, read_labels, read_set_aside, read_source, read_summary
from winnow.report.matrix import Confusion, matrix_plot, share_decimals, shares_plot
from winnow.report.page import PageTooLarge, render, write_page
from winnow.report.plots import quality_plot

Summary = dict[str, Any]

PAIRS_SHOWN = 20
ROWS_SHOWN = 20
ROWS_FOLDED = 1000
NAMES_SHOWN = 10
SENTENCES_SHOWN = 50
LONGEST_SENTENCE = 600
# Characters of pictures; the next one is for a page that became too large.
BUDGETS = (4_000_000, 1_000_000, 0)


def write_audit_report(folder: Path, picture: Picture, test_picture: Picture | None = None) -> Path:
    """Write `report.html` into the folder of an audit: one file, no script, no network, always under 5 MB.

    Args:
        folder: what the audit wrote; nothing else is read.
        picture: gives uint8 (H, W, C), C = 1 or 3, for a row of `labels.parquet`; where it raises, the card says so.
        test_picture: the same for a row of the test set in which leaks were found.

    Returns:
        The file written.

    Raises:
        InputError: the folder lacks its summary, labels or findings, or they are damaged.
        MachineError: the page cannot be written.
    """
    for characters in BUDGETS[:-1]:
        try:
            return _write(folder, picture, test_picture, Budget(characters=characters))
        except PageTooLarge:  # names of nothing but quotation marks, say: words stay, pictures go
            continue
    return _write(folder, picture, test_picture, Budget(characters=BUDGETS[-1]))


def _write(folder: Path, picture: Picture, test_picture: Picture | None, budget: Budget) -> Path:
    values = audit_values(folder, picture, test_picture, budget)
    return write_page(folder / "report.html", render("audit.html", **values))


def audit_values(folder: Path, picture: Picture, test_picture: Picture | None, budget: Budget) -> dict[str, object]:
    """Everything that the template of an audit shows."""
    summary, findings = read_summary(folder), read_findings(folder)
    labels = read_labels(folder, [])
    # What is bounded comes first, so that the wrong labels can have all the room that is left.
    pairs = duplicate_pairs(findings, labels, picture, test_picture, budget)
    outliers = outlier_grid(findings, labels, picture, budget)
    odd = odd_grids(findings, labels, picture, budget)
    interval = summary.get("estimated_noise_rate_interval")
    wrong = int(labels.doubted.sum())
    confusion = estimated_confusion(summary, labels)
    shares = class_rows(summary, labels.class_names) if audit_words.labelled(summary) else []
    judged = bool(np.isfinite(labels.quality).any())
    return {
        "title": f"winnow audit: {words.short(summary.get('data', folder.name), 60)}",
        "headline": audit_words.answer(summary),
        "small_line": audit_words.small_line(summary),
        "lead": audit_words.lead(summary),
        "next": audit_words.next_step(summary, folder),
        "findings": finding_rows(summary),
        "checked": checked_rows(summary),
        "quality": quality_plot(labels.quality, labels.doubted, "flagged", threshold=True) if judged else None,
        "worth": worth_looking(
            labels.quality, wrong, summary.get("estimated_noise_rate"), interval and tuple(interval)
        ),
        "one_class": labels.num_classes < 2,
        "several": bool(summary.get("multilabel")),
        "unjudged": unjudged_classes(labels),
        "judged": judged,
        "num_labelled": audit_words.labelled(summary),
        "wrong": doubted_labels(labels, picture, budget, heading="Most likely wrong first"),
        "duplicates": pairs,
        "outliers": outliers,
        "odd": odd,
        "meanings": audit_words.MEANINGS,
        "set_aside": read_set_aside(folder, NAMES_SHOWN),
        "shares": shares_figure(summary, labels.class_names),
        "class_rows": shares[:ROWS_SHOWN],
        "class_rows_folded": shares[ROWS_SHOWN : ROWS_SHOWN + ROWS_FOLDED],
        "num_classes": labels.num_classes,
        "pairs": confused_pairs(summary, labels),
        "matrix": matrix_plot(confusion) if confusion and confusion.top_pairs(1) else None,
        "matrix_estimated": bool(confusion and confusion.estimated),
        "kind": noise_kind(summary),
        "remarks": sentences(remark.get("sentence") for remark in summary.get("remarks") or []),
        "notes": sentences(summary.get("notes") or []),
        "settings": settings_tables(summary, read_source(folder)),
        "summary": summary,
    }


def finding_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """The table of findings: kind, what it means, images, likely true."""
    return [
        (kind, audit_words.MEANINGS.get(kind, ""), images, likely)
        for kind, images, likely in audit_words.finding_rows(summary)
    ]


def checked_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """What the known labels say about the audit, where there are any: what, how much, how to read it."""
    told = {
        "wrong_label_auroc": ("wrong labels ranked first (AUROC)", "0.5 is chance, 1 perfect"),
        "wrong_label_ap": ("average precision of the ranking", "1 is perfect"),
        "wrong_label_f1": ("F1 of the flags", "1 if exactly the wrong labels are flagged"),
    }
    return [(what, words.area(summary[key]), how) for key, (what, how) in told.items() if words.known(summary.get(key))]


def unjudged_classes(labels: Labels) -> list[tuple[str, str]]:
    """Classes none of whose labels was judged among several, with their images: too few to compare."""
    if labels.num_classes < 2:
        return []
    present = (labels.given >= 0) & (labels.given < labels.num_classes)
    images = np.bincount(labels.given[present], minlength=labels.num_classes)
    judged = np.bincount(labels.given[present & np.isfinite(labels.quality)], minlength=labels.num_classes)
    never = np.flatnonzero((images > 0) & (judged == 0)).tolist()
    return [(labels.name(index), words.counted(int(images[index]), "image")) for index in never]


def estimated_confusion(summary: Summary, labels: Labels) -> Confusion | None:
    """Believed class against given label: the estimated matrix; of very many classes the flagged labels, counted."""
    if summary.get("multilabel") or labels.num_classes < 2:
        return None
    matrix = summary.get("transition_matrix")
    if not matrix:
        believed = np.where(labels.doubted, labels.suggested, labels.given)
        return Confusion.from_labels(labels.class_names, believed, labels.given)
    estimated = np.array([entry.get("estimated") or 0.0 for entry in in_order(summary, labels.num_classes)])
    images = estimated * audit_words.labelled(summary)
    return Confusion.from_matrix(labels.class_names, np.nan_to_num(np.asarray(matrix, float)) * images[:, None])


def in_order(summary: Summary, num_classes: int) -> list[Mapping[str, Any]]:
    """The entries of `class_shares` by class index, empty where there is none."""
    found = {entry["class"]: entry for entry in summary.get("class_shares") or []}
    return [found.get(index, {}) for index in range(num_classes)]


def confused_pairs(summary: Summary, labels: Labels) -> list[list[str]]:
    """The largest confusions: given, looks like, about how many images, share of the believed class."""
    return [
        [
            words.visible(labels.name(entry["given"])),
            words.visible(labels.name(entry["believed"])),
            words.estimate(entry["images"]),
            words.percent(entry["share"]),
        ]
        for entry in (summary.get("confusions") or [])[:PAIRS_SHOWN]
    ]


def shares_figure(summary: Summary, class_names: Sequence[str]) -> Any:
    """Given and estimated share of the classes; None where they were not estimated."""
    entries = [entry for entry in summary.get("class_shares") or [] if words.known(entry.get("estimated"))]
    if len(class_names) < 2 or not entries:
        return None
    names = [_class_name(class_names, entry) for entry in entries]
    given, estimated = (np.array([entry[key] or 0.0 for entry in entries]) for key in ("given", "estimated"))
    interval = np.array([[entry.get("low"), entry.get("high")] for entry in entries], dtype=float)
    return shares_plot(names, given, estimated, interval)


def class_rows(summary: Summary, class_names: Sequence[str]) -> list[list[str]]:
    """A row a class, the largest difference between given and estimated share first."""

    def difference(entry: Mapping[str, Any]) -> float:
        known = words.known(entry.get("estimated")) and words.known(entry.get("given"))
        return abs(entry["estimated"] - entry["given"]) if known else 0.0

    rows = []
    decimals = share_decimals(len(class_names))
    for entry in sorted(summary.get("class_shares") or [], key=lambda entry: -difference(entry)):
        interval = (entry.get("low"), entry.get("high"))
        within = words.percent_range(interval, decimals) if all(map(words.known, interval)) else words.NONE
        rows.append(
            [
                words.short(_class_name(class_names, entry), 200),
                words.count(entry.get("images")),
                words.percent(entry.get("given"), decimals),
                words.percent(entry.get("estimated"), decimals),
                within,
            ]
        )
    return rows


def _class_name(class_names: Sequence[str], entry: Mapping[str, Any]) -> str:
    index = entry["class"]
    return class_names[index] if index < len(class_names) else f"class {index}"


def noise_kind(summary: Summary) -> dict[str, Any] | None:
    """The kind of noise with its evidence as rows (what, value, interval, sentence), and the limits of that."""
    kind = summary.get("noise_kind")
    if not kind:
        return None
    evidence = []
    for item in (kind.get("evidence") or [])[:SENTENCES_SHOWN]:
        interval = (item.get("low"), item.get("high"))
        within = " to ".join(map(words.decimal, interval)) if all(map(words.known, interval)) else "exact"
        sentence = words.short(item.get("sentence", ""), LONGEST_SENTENCE)
        evidence.append((words.short(item.get("name", "")), words.decimal(item.get("value")), within, sentence))
    return {
        "name": words.short(kind.get("name", ""), 80),
        "evidence": evidence,
        "limits": sentences(kind.get("limits") or []),
    }


def sentences(found: Any) -> list[str]:
    """Sentences from a summary, so many and so long that the page stays small."""
    return [words.short(text, LONGEST_SENTENCE) for text in list(found)[:SENTENCES_SHOWN] if text]


def settings_tables(summary: Summary, source: Summary) -> list[tuple[str, list[tuple[str, str]]]]:
    """How the audit was made: what was read, what was chosen, how long it took."""
    aside = summary.get("quarantined") or 0
    made = [
        ("command", words.setting(summary.get("command", words.NONE))),
        ("data", f"{words.setting(summary.get('data'))}, {words.counted(summary.get('num_images') or 0, 'image')}"),
        ("fingerprint", words.setting(source.get("fingerprint") or words.NONE)),
        ("features", words.setting(summary.get("features") or words.NONE)),
        ("without a label", words.count(summary.get("unlabelled") or 0)),
        ("verified labels", words.count(summary.get("verified") or 0)),
        ("set aside", words.count(aside)),
        ("seed", words.setting(summary.get("seed"))),
        ("time", words.duration(summary.get("seconds"))),
        *([("stages", words.stage_times(stages))] if (stages := summary.get("stage_seconds")) else []),
        ("version", words.setting(summary.get("version"))),
    ]
    further = [("All settings", summary.get("settings")), ("How the data was read", source.get("settings"))]
    return [("The audit", made), *((title, words.settings(values)) for title, values in further if values)]
