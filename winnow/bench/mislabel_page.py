"""The page of the mislabelling study: a function of its summary, which is one of its result lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from winnow.bench.mislabel_plots import accuracy_plot, difference_plot, exchange_map, memory_plot
from winnow.bench.mislabel_words import shown_times, shown_worth
from winnow.bench.phrases import unbreakable
from winnow.report import words
from winnow.report.page import Next, render

Row = Mapping[str, Any]
_MOST_FAILURES = 20


def study_page(summary: Mapping[str, Any]) -> str:
    """The page as text: the same for the same summary."""
    several = len(summary["learners"]) > 1
    short = {learner["name"]: learner["short"] for learner in summary["learners"]}
    exchange = [(row["rate"], _exchange_row(row, short)[0 if several else 1 :]) for row in summary["halving"]]
    usual = summary["answer"]["rate"] if summary["answer"] else None
    return render(
        "study.html",
        title="winnow study mislabel",
        small_line=_small_line(summary),
        headline=_headline(summary),
        lead=_lead(summary),
        next=Next("winnow train FOLDER --out runs/mine", "says which labels of your own images look wrong"),
        learners=[_learner_values(summary, learner["name"]) for learner in summary["learners"]],
        exchange_columns=_EXCHANGE_COLUMNS[0 if several else 1 :],
        exchange_names=2 if several else 1,
        exchange=[row for rate, row in exchange if rate == usual],
        exchange_folded=[row for rate, row in exchange if rate != usual],
        condition_columns=_CONDITION_COLUMNS,
        settings=_settings(summary),
        failed=[(each["condition"], each["error"]) for each in summary["failed"][:_MOST_FAILURES]],
        num_failed=len(summary["failed"]),
        num_test=summary["num_test"],
    )


def _small_line(summary: Mapping[str, Any]) -> str:
    data = summary["settings"].get("data", {}).get("data")
    parts = [summary["command"]]
    if data:
        parts += [
            words.inline(data),
            words.counted(summary["num_classes"], "class", "classes"),
            words.counted(summary["num_test"], "test image"),
        ]
    return " · ".join([*parts, words.counted(summary["cells"], "training")])


def _headline(summary: Mapping[str, Any]) -> str:
    if summary["answer"]:
        return unbreakable(summary["answer"]["sentence"])
    if summary["cells"]:
        return "Too few trainings are finished to say what a wrong label costs"
    return "No training is finished yet"


def _lead(summary: Mapping[str, Any]) -> str:
    first = summary["answer"]
    if first is None:
        return "The same command goes on where it stopped; this page then has plots and an answer."
    others = [each for each in summary["answers"] if each["learner"] == first["learner"] and each is not first]
    text = f"Learner: {words.inline(first['learner'], 80)}, {words.counted(first['repeats'], 'repeat')}."
    for each in others:
        if each["kind"] != first["kind"]:
            text += f" {unbreakable(each['sentence'])}."
    return f"{text} The table below says the same for every size and rate that was measured."


def _learner_values(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    def mine(what: str) -> list[Row]:
        return [row for row in summary[what] if row["learner"] == name]

    rows, differences, curves = mine("rows"), mine("differences"), mine("curves")
    answers = {row["kind"]: row for row in mine("answers")}
    kinds = [kind for kind in summary["kinds"] if any(row["kind"] == kind for row in rows)]
    plots = [accuracy_plot(rows, kind, summary) for kind in kinds]
    maps = [
        exchange_map(
            rows,
            [row for row in mine("contours") if row["kind"] == kind],
            answers.get(kind),
            kind,
            summary["rates"],
        )
        for kind in kinds
        if len({row["size"] for row in rows if row["kind"] == kind}) > 1
    ]
    largest = max((row["size"] for row in curves), default=0)
    memories = [
        memory_plot(shown)
        for kind in kinds
        if (shown := [row for row in curves if row["kind"] == kind and row["size"] == largest])
    ]
    difference = [difference_plot(differences, summary["sizes"], summary["rates"])] if differences else []
    return {
        "name": name,
        "plots": [group for group in (plots, maps, difference, memories) if group],
        "conditions": [_condition_row(row) for row in rows],
    }


_CONDITION_COLUMNS = [
    "noise",
    "images",
    "wrong",
    "repeats",
    "accuracy",
    "interval",
    "error of the test set",
    "best step",
    "bias",
    "variance",
    "worth clean labels",
    "guide",
    "wrong labels taken over",
    "calibration error",
]


def _condition_row(row: Row) -> list[str]:
    return [
        row["kind"],
        words.count(row["size"]),
        words.percent(row["rate"], 0),
        words.count(row["repeats"]),
        words.percent(row["accuracy"]),
        _range(row["accuracy_low"], row["accuracy_high"]),
        words.points(row["test_error"]),
        words.percent(row["best_accuracy"]),
        words.percent(row["bias"]),
        words.percent(row["variance"]),
        shown_worth(row),
        words.NONE if row["first_order_size"] is None else words.count(round(row["first_order_size"])),
        words.percent(row["given_flipped"]),
        words.decimal(row["expected_calibration_error"]),
    ]


_EXCHANGE_COLUMNS = ["learner", "noise", "images", "wrong", "halving it, points", "interval", "as much as more data"]


def _exchange_row(row: Row, short: Mapping[str, str]) -> list[str]:
    return [
        short[row["learner"]],
        row["kind"],
        words.count(row["size"]),
        words.percent(row["rate"], 0),
        words.signed_points(row["gain"]) + ("*" if row["interpolated"] else ""),
        _range(row["gain_low"], row["gain_high"]),
        shown_times(row),
    ]


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return words.NONE
    return f"{words.signed_points(low)} to {words.signed_points(high)}"


def _settings(summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    settings = summary["settings"]
    if not settings:
        return []
    opening = ", ".join(f"{name} {value}" for name, value in settings["data"].items())
    return [
        ("data", opening),
        ("learners", "; ".join(learner["name"] for learner in summary["learners"])),
        ("optimiser", f"SGD, Nesterov momentum 0.9, rate {settings['learning_rate']:g}"),
        ("schedule", "that of the method; cosine after a tenth of warm-up for most"),
        ("batch", f"{settings['batch_size']}, or less where it would leave out a twentieth of the images"),
        ("weight decay", f"{settings['weight_decay']:g}"),
        ("views", "plain: no augmentation (what a method asks for as strong stays)"),
        ("biased mistakes", summary["map"] or "each class is taken for the next, the last for the first"),
        ("device", f"{settings['device']}, {settings['precision']}, one thread a training"),
        ("seed", str(settings["seed"])),
        ("time", f"{words.duration(summary['seconds'])} of training and measuring"),
        ("machine", "; ".join(summary["machines"])),
    ]
