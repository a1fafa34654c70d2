"""The report of a run: what came out, whether wrong labels were memorised, which labels are doubted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from winnow.report import words
from winnow.report.cards import Picture
from winnow.report.doubted import doubted_labels
from winnow.report.figures import Figure
from winnow.report.folder import Labels, read_epochs, read_labels, read_set_aside, read_summary
from winnow.report.matrix import Confusion, classes_plot, matrix_plot
from winnow.report.page import Next, render, write_page
from winnow.report.plots import quality_plot
from winnow.report.progress import curves, term_plots
from winnow.train.settings import FEW_STEPS

Summary = dict[str, Any]

ROWS_SHOWN = 20
ROWS_FOLDED = 1000


def write_run_report(run: Path, picture: Picture) -> Path:
    """Write `report.html` into a run folder: one file, no script, no network, always under 5 MB.

    Args:
        run: the folder of a finished run.
        picture: gives uint8 (H, W, C), C = 1 or 3, for a row of `labels.parquet`; where it raises,
            the card says so.

    Returns:
        The file written.

    Raises:
        InputError: the folder lacks its summary or label table, or they are damaged.
        MachineError: the page cannot be written.
    """
    values = run_values(run, picture)
    return write_page(run / "report.html", render("run.html", **values))


def run_values(run: Path, picture: Picture) -> dict[str, object]:
    """Everything that the template of a run shows."""
    summary = read_summary(run)
    epochs = read_epochs(run)
    class_names = [str(name) for name in summary.get("class_names") or []]
    labels = read_labels(run, class_names)
    several = is_multilabel(summary)
    confusion = run_confusion(summary, labels)
    return {
        "title": f"winnow: {words.short(summary.get('run', run.name), 60)}",
        "headline": headline(summary),
        "small_line": small_line(summary),
        "lead": lead(summary),
        "next": next_step(summary, run),
        "summary": summary,
        "one_class": len(labels.class_names) < 2,
        "several": several,
        "has_truth": words.known(summary.get("label_quality_auroc")),
        "accuracy": accuracy_rows(summary, epochs),
        "curves": curves(epochs),
        "terms": term_plots(epochs),
        "num_phases": len({epoch.get("phase") for epoch in epochs}),
        "doubted": doubted_labels(labels, picture),
        "quality": quality_plot(labels.quality, labels.doubted),
        "confusion": confusion,
        "matrix": matrix_plot(confusion) if confusion.counts and not several else None,
        "pairs": pair_rows(confusion),
        "class_counts": class_counts(labels) if not several else None,
        "class_columns": class_columns(summary),
        "class_rows": class_rows(summary)[:ROWS_SHOWN],
        "class_rows_folded": class_rows(summary)[ROWS_SHOWN : ROWS_SHOWN + ROWS_FOLDED],
        "num_classes": len(class_names),
        "num_judged": judged(summary),
        "set_aside": read_set_aside(run),
        "settings": settings_tables(summary),
    }


def is_multilabel(summary: Summary) -> bool:
    """Whether an image may have several classes."""
    return bool(summary.get("task") == "multi-label")


def judged(summary: Summary) -> int:
    """Images that could be read."""
    return (summary.get("num_images") or 0) - (summary.get("quarantined") or 0)


def headline(summary: Summary) -> str:
    """The answer: accuracy on the test images if there are any, and how many labels are doubted."""
    doubted = summary.get("num_doubted") or 0
    method = words.short(summary.get("method", "the method"))
    accuracy = summary.get("test_accuracy_last")
    if not words.known(accuracy):
        labels = summary.get("num_labels", judged(summary) - (summary.get("unlabelled") or 0))
        some = words.count(doubted) if doubted else "none"
        return f"{method} doubts {some} of {words.counted(labels, 'label')}"
    doubts = f"doubts {words.counted(doubted, 'label')}" if doubted else "doubts no label"
    if is_multilabel(summary):
        return f"{method} decides {words.percent(accuracy)} of the test labels right and {doubts}"
    return f"{method} reaches {words.percent(accuracy)} on the test images and {doubts}"


def small_line(summary: Summary) -> str:
    """Command and size of the collection, above the headline."""
    command = words.inline(summary.get("command", "winnow train"), 70)
    images = words.counted(summary.get("num_images") or 0, "image")
    aside = summary.get("quarantined") or 0
    classes = words.counted(summary.get("num_classes") or 0, "class", "classes")
    return f"{command} · {images}, {classes}" + (f"; {words.count(aside)} could not be read" if aside else "")


def lead(summary: Summary) -> str:
    """Two or three sentences that say how sure the headline is and what doubted means."""
    sentences = []
    accuracy, number = summary.get("test_accuracy_last"), summary.get("num_test")
    if accuracy is not None and words.known(accuracy):
        if is_multilabel(summary):
            precision = words.area(summary.get("test_mean_average_precision_last"))
            images = words.counted(number or 0, "test image")
            sentences.append(
                f"At the last epoch {words.percent(accuracy)} of the labels of {images} are decided right; "
                f"the mean average precision over the classes is {precision}."
            )
        elif number:
            interval = words.percent_range(words.wilson_interval(accuracy, number))
            right = f"{words.count(round(accuracy * number))} of {words.counted(number or 0, 'test image')}"
            level = words.percent(0.95, 0)
            sentences.append(f"At the last epoch {right} are classified right ({level} interval {interval}).")
    else:
        sentences.append("There was no test set, so the accuracy on new images is unknown (--test DATA measures it).")
    if (steps := summary.get("steps")) is not None and steps < FEW_STEPS:
        sentences.append(
            f"Only {words.counted(steps, 'step')} were trained: too few to judge labels; try more --epochs."
        )
    if summary.get("num_doubted"):
        sentences.append(
            "A label is doubted when the network believes that the image shows another class; "
            "it looks wrong until a person has decided."
        )
    elif (summary.get("num_classes") or 0) < 2:
        sentences.append("With a single class no label can look like another one.")
    else:
        sentences.append(f"No label stands out among {words.counted(judged(summary), 'image')}.")
    return " ".join(sentences)


def next_step(summary: Summary, run: Path) -> Next:
    """What to type after a run."""
    address = shlex.quote(words.visible(summary.get("run") or run))
    return Next(f"winnow predict {address} IMAGES", "classes and probabilities for images that it has not seen")


def accuracy_rows(summary: Summary, epochs: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The rows of the accuracy table: what, how much, of how many or how chosen."""
    rows = []
    last, best, number = (
        summary.get("test_accuracy_last"),
        summary.get("test_accuracy_best"),
        summary.get("num_test"),
    )
    if last is not None and words.known(last):
        of = f"{words.count(round(last * number))} of {words.count(number)}" if number else ""
        if is_multilabel(summary):
            of = f"labels of {words.counted(number or 0, 'test image')}, present or absent"
        elif number:
            of += f", 95{words.NO_BREAK}% interval {words.percent_range(words.wilson_interval(last, number))}"
        rows.append(("test accuracy, last epoch", words.percent(last), of))
        if words.known(best):
            epoch = words.count(summary.get("best_epoch"))
            chosen = f"epoch {epoch}, chosen by agreement with held-out given labels"
            rows.append(("test accuracy, best epoch", words.percent(best), f"{chosen}, never by the test images"))
    precision = summary.get("test_mean_average_precision_last")
    if words.known(precision):
        rows.append(("mean average precision", words.area(precision), "over the classes, test images; 1 is perfect"))
    agreement = summary.get("given_label_agreement")
    if words.known(agreement):
        rows.append(
            (
                "agreement with given labels",
                words.percent(agreement),
                "training images whose given label is the network's answer",
            )
        )
    held_out = epochs[-1].get("validation_agreement") if epochs else None
    if words.known(held_out):
        number = words.count(summary.get("held_out"))
        of = f"on {number} images kept from training, their labels as noisy as the rest"
        rows.append(("agreement with held-out given labels", words.percent(held_out), of))
    if words.known(summary.get("label_quality_auroc")):
        wrong = summary.get("num_wrong")
        among = f"{words.counted(wrong, 'label')} truly wrong; " if wrong is not None else ""
        rows.append(
            (
                "wrong labels ranked first (AUROC)",
                words.area(summary["label_quality_auroc"]),
                f"{among}0.5 is chance, 1 perfect",
            )
        )
    before, after = summary.get("given_label_accuracy"), summary.get("corrected_label_accuracy")
    if words.known(after):
        of = f"{words.percent(before)} as given" if words.known(before) else ""
        rows.append(("right labels after repair", words.percent(after), of))
    return rows


def run_confusion(summary: Summary, labels: Labels) -> Confusion:
    """Believed class against given label: the summary's matrix, or counted from the label table."""
    stored = (summary.get("suggested_by_given") or {}).get("matrix")
    if stored:
        return Confusion.from_matrix(labels.class_names, np.asarray(stored, dtype=np.int64))
    believed = np.where(labels.doubted, labels.suggested, labels.given)
    return Confusion.from_labels(labels.class_names, believed, labels.given)


def pair_rows(confusion: Confusion) -> list[list[str]]:
    """The most frequent mistakes: given, looks like, images, share of the believed class."""
    return [
        [
            words.visible(confusion.names[given]),
            words.visible(confusion.names[believed]),
            words.count(images),
            words.percent(images / int(confusion.totals[believed])),
        ]
        for believed, given, images in confusion.top_pairs()
    ]


def class_counts(labels: Labels) -> Figure | None:
    """Images of each class by given and by suggested label; None where nothing is doubted."""
    if not labels.doubted.any():
        return None
    classes = len(labels.class_names)
    labelled = labels.given >= 0
    believed = np.where(labels.doubted, labels.suggested, labels.given)[labelled]
    given = np.bincount(labels.given[labelled], minlength=classes)
    return classes_plot(labels.class_names, given, np.bincount(believed, minlength=classes))


def class_columns(summary: Summary) -> list[str]:
    """The columns of the class table; those of the test set only where there is one."""
    columns = ["class", "images", "doubted", "doubted, %", "looks like it"]
    if not summary.get("test"):
        return columns
    return [*columns, "test images", "test accuracy", *(["average precision"] if is_multilabel(summary) else [])]


def class_rows(summary: Summary) -> list[list[str]]:
    """A row a class, the most doubted first."""
    rows = []
    for entry in sorted(summary.get("per_class") or [], key=lambda entry: -(entry.get("doubted") or 0)):
        images, doubted = entry.get("images") or 0, entry.get("doubted") or 0
        row = [
            words.short(entry.get("name", ""), 200),
            words.count(images),
            words.count(doubted),
            words.percent(doubted / images if images else None),
            words.count(entry.get("suggested_images")),
        ]
        if summary.get("test"):
            row += [words.count(entry.get("test_images")), words.percent(entry.get("test_accuracy"))]
            if is_multilabel(summary):
                row.append(words.area(entry.get("test_average_precision")))
        rows.append(row)
    return rows


def settings_tables(summary: Summary) -> list[tuple[str, list[tuple[str, str]]]]:
    """How the run was made: what was read, what was chosen, the numbers of the method."""

    made = [
        ("command", words.setting(summary.get("command", words.NONE))),
        (
            "method",
            f"{words.setting(summary.get('method'))}: {words.setting(summary.get('method_title', ''))}".removesuffix(
                ": "
            ),
        ),
        ("data", f"{words.setting(summary.get('data'))}, {words.counted(summary.get('num_images') or 0, 'image')}"),
        ("test set", words.setting(summary.get("test"))),
        ("held out", words.count(summary.get("held_out") or 0)),
        ("without a label", words.count(summary.get("unlabelled") or 0)),
        ("set aside", words.count(summary.get("quarantined") or 0)),
        ("network", f"{words.setting(summary.get('model'))}, {words.setting(summary.get('image_size'))} px"),
        (
            "device",
            f"{words.setting(summary.get('device'))}, {words.setting(summary.get('precision'))}, threads: "
            f"{words.setting(summary.get('threads'))}",
        ),
        ("epochs; seed", f"{words.setting(summary.get('epochs'))}; {words.setting(summary.get('seed'))}"),
        (
            "time",
            f"{words.duration(summary.get('seconds'))}, {words.count(summary.get('images_per_second'))} images/s",
        ),
        *([("stages", words.stage_times(stages))] if (stages := summary.get("stage_seconds")) else []),
        ("version", words.setting(summary.get("version"))),
    ]
    tables = [("The run", made)]
    for title, key in (("Hyperparameters of the method", "hyperparameters"), ("All settings", "settings")):
        if values := summary.get(key):
            tables.append((title, words.settings(values)))
    return tables
