"""The page of the web study: a function of its summary, which is one of its result lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from winnow.bench.phrases import unbreakable
from winnow.bench.web_plots import annotation_plot, cap_plot, change_plot, noise_by_rank_plot
from winnow.bench.web_words import interval, recall_remark
from winnow.report import words
from winnow.report.cards import Card, Encoded
from winnow.report.page import Next, render

Row = Mapping[str, Any]
_MOST_FAILURES = 20


def web_page(summary: Mapping[str, Any]) -> str:
    """The page as text: the same for the same summary."""
    crawl = summary["crawl"]
    told = [unbreakable(sentence) for sentence in summary["sentences"]]
    plots = [
        plot
        for plot in (
            change_plot(summary),
            annotation_plot(summary["annotation"]),
            cap_plot(summary["caps"]),
            noise_by_rank_plot(crawl["noise"] if crawl else []),
        )
        if plot
    ]
    simulated = summary["settings"].get("simulated")
    return render(
        "web.html",
        title="winnow study web",
        small_line=_small_line(summary),
        headline=told[0].removesuffix(".") if told else "No training is finished yet",
        lead=_lead(summary),
        told=told[1:],
        next=Next("winnow train FOLDER --out runs/mine", "says which labels of your own images look wrong"),
        simulated=simulated,
        plots=plots,
        crawl=crawl,
        fates=[(name, words.count(count)) for name, count in crawl["fates"].items()] if crawl else [],
        recall=[(name, words.percent(share)) for name, share in crawl["recall"].items()] if crawl else [],
        recall_remark=unbreakable(recall_remark(crawl)) if crawl else "",
        copies=_copies(summary["copies"]),
        pairs=[_pair(pair) for pair in crawl["pairs"]] if crawl else [],
        noise_columns=["images", "of them", "checked", "cross-domain", "interval", "cross-category", "interval "],
        noise=[_noise_row(row) for row in crawl["noise"]] if crawl else [],
        part_columns=_PART_COLUMNS,
        part_rows=[_part_row(row) for row in summary["rows"]],
        test_error=words.points(max((row["test_error"] for row in summary["rows"]), default=0.0)),
        annotation_columns=_ANNOTATION_COLUMNS,
        annotation=[_annotation_row(row) for row in summary["annotation"]],
        settings=_settings(summary),
        failed=[(each["part"], each["error"]) for each in summary["failed"][:_MOST_FAILURES]],
        num_failed=len(summary["failed"]),
    )


def _small_line(summary: Mapping[str, Any]) -> str:
    parts = [summary["command"]]
    data = summary["settings"].get("data", {}).get("data")
    if data:
        parts.append(words.inline(data))
    if summary["crawl"]:
        parts += [
            words.counted(summary["crawl"]["images"], "image"),
            words.counted(summary["crawl"]["num_classes"], "class", "classes"),
            words.counted(summary["crawl"]["num_test"], "test image"),
        ]
    return " · ".join([*parts, words.counted(summary["cells"], "training")])


def _lead(summary: Mapping[str, Any]) -> str:
    if not summary["learner"]:
        return "The same command goes on where it stopped; this page then has plots and answers."
    repeats = words.counted(summary["repeats"], "repeat")
    return f"Learner: {words.inline(summary['learner'], 80)}, {repeats}. Brackets are 95{words.NO_BREAK}% intervals."


def _copies(row: Row | None) -> list[list[str]]:
    """Accuracy with and without copies, on the test images that have one and on the others."""
    if row is None:
        return []
    names = {"all": "all test images", "copied": "those with a copy in the crawl", "others": "those without"}
    return [
        [
            name,
            words.percent(row[f"{key}_with"]),
            words.percent(row[f"{key}_without"]),
            _change(row, f"change_{key}"),
        ]
        for key, name in names.items()
        if row[f"{key}_with"] is not None
    ]


def _pair(pair: Row) -> Card:
    facts = [("image", pair["id"]), ("returned for", pair["label"]), ("test image", pair["test_id"])]
    facts += [("its class", pair["test_label"]), ("bits of the hash that differ", str(pair["bits"]))]
    text = f"left the image of the crawl {pair['id']}, right the test image {pair['test_id']}"
    return Card(Encoded(**pair["picture"]), text, f"likeness {pair['likeness']:.3f}", facts)


def _noise_row(row: Row) -> list[str]:
    def rate(name: str) -> list[str]:
        if row[name] is None:
            return [words.NONE, words.NONE]
        return [words.percent(row[name]), f"{words.percent_range(row[f'{name}_interval'])}"]

    counts = [words.count(row["images"]), words.count(row["checked"])]
    return [row["part"], *counts, *rate("cross_domain"), *rate("cross_category")]


_PART_COLUMNS = ["learnt from", "images", "accuracy", "change, points", "against", "labels not true"]


def _part_row(row: Row) -> list[str]:
    half = None if row["accuracy_low"] is None else row["accuracy"] - row["accuracy_low"]
    return [
        row["name"],
        words.count(row["images"]),
        words.percent(row["accuracy"]) + (f" ±{words.points(half)}" if half is not None else ""),
        _change(row, "change"),
        row["against"] or words.NONE,
        words.percent(row["noise_left"]),
    ]


_ANNOTATION_COLUMNS = ["annotated", "chosen", "accuracy", "gain, points", "over random ones", "wrong labels found"]


def _annotation_row(row: Row) -> list[str]:
    return [
        words.count(row["budget"]),
        row["by"],
        words.percent(row["accuracy"]),
        _change(row, "gain"),
        _change(row, "over_random"),
        f"{row['wrong_found']:.0f} ({words.percent(row['wrong_found'] / row['budget'], 0)})",
    ]


def _change(row: Row, name: str) -> str:
    if row[name] is None:
        return words.NONE
    return f"{words.signed_points(row[name])}{interval(row, name)}".replace("+", "")


def _settings(summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    settings = summary["settings"]
    if not settings:
        return []
    crawl = summary["crawl"]
    found = [
        ("data", ", ".join(f"{name} {value}" for name, value in settings["data"].items())),
        ("made by", settings["simulated"] or "not said in the file"),
        ("rank", settings["rank_column"] or "not given: no caps"),
        ("foreign images", settings["foreign_column"] or "not given"),
        ("learner", summary["learner"]),
        ("optimiser", f"SGD, Nesterov momentum 0.9, rate {settings['learning_rate']:g}"),
        ("batch", f"{settings['batch_size']}, or less where it would leave out a twentieth of the images"),
        ("weight decay", f"{settings['weight_decay']:g}"),
        ("views", "plain: no augmentation (what a method asks for as strong stays)"),
    ]
    if crawl:
        rule = crawl["rule"]
        hashed = ", or near perceptual hashes" if rule["hashed"] else "; too small for a perceptual hash"
        mirrored = "; mirrored ones too" if rule["mirrored"] else ""
        found += [
            ("copy of a test image", f"likeness {rule['likeness']:g} or more over a grid of crops{hashed}{mirrored}"),
            ("copy in the crawl", f"likeness {rule['merging']:g} or more of the whole image{hashed}"),
        ]
    return [
        *found,
        ("device", f"{settings['device']}, {settings['precision']}, one thread a training"),
        ("seed", str(settings["seed"])),
        ("time", f"{words.duration(summary['seconds'])} of training and measuring"),
        ("machine", "; ".join(summary["machines"])),
    ]
