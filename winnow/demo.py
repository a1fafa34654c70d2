"""The demo: the digits of scikit-learn, part of their labels made wrong, plain against robust training over seeds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from winnow import __version__
from winnow.audit.folder import AuditFolder
from winnow.audit.run import audit
from winnow.audit.settings import AuditSettings
from winnow.data.open import open_source
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.files import atomic_write, write_error
from winnow.labels.truth import CleanLabels
from winnow.noise.inject import symmetric
from winnow.report.audit import write_audit_report
from winnow.report.demo import write_demo_report
from winnow.report.words import percent
from winnow.train.fit import Settings, fit
from winnow.train.progress import Progress

METHODS = ("cross-entropy", "winnow")
AUDIT = "audit"
EPOCHS = 100


def noisy_digits(rate: float, seed: int) -> Source:
    """The digits with `rate` of their labels wrong, the truth kept beside for evaluation."""
    digits = open_source("digits")
    noise = symmetric(digits.noisy_labels, digits.ids, digits.num_classes, rate, seed=seed)
    return replace(digits, noisy_labels=noise.noisy_labels, clean_labels=CleanLabels(digits.noisy_labels))


def run_demo(
    out: Path, *, rate: float, seeds: int, begin: Callable[[int, str, int], Progress] | None = None
) -> dict[str, Any]:
    """Trains every method with every seed, and writes `summary.json` and `report.html`.

    Args:
        out: the folder; an earlier demo in it is replaced.
        rate: share of wrong labels, in (0, 1).
        seeds: how many, from 0; noise and training both follow them.
        begin: told of each training (number, method, seed), gives who hears of its progress.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: `out` holds something that is no demo.
        UsageError: `rate` or `seeds` is out of range.
    """
    check_arguments(rate, seeds)
    _make_room(out)
    started = time.monotonic()
    methods: dict[str, dict[str, list[Any]]] = {}
    number = 0
    for seed in range(seeds):
        source = noisy_digits(rate, seed)
        for method in METHODS:
            number += 1
            progress = begin(number, method, seed) if begin else None
            folder = out / f"{method}-s{seed}"
            run = fit(
                source,
                Settings(method=method, seed=seed, epochs=EPOCHS, device="cpu"),
                folder,
                progress=progress,
                command="winnow demo",
            )
            results = methods.setdefault(
                method, {"test_accuracy_last": [], "label_quality_auroc": [], "corrected_label_accuracy": []}
            )
            for key, values in results.items():
                values.append(run.summary[key])
    summary = {
        "schema_version": 1,
        "command": "winnow demo",
        "version": __version__,
        "data": "digits",
        "noise_rate": rate,
        "num_images": 1437,
        "num_test": 360,
        "epochs": EPOCHS,
        "seeds": list(range(seeds)),
        "methods": methods,
        "seconds": round(time.monotonic() - started, 1),
    }
    summary["audit"] = _audited(out / AUDIT, rate)
    write_demo_report(out, summary, out / f"{METHODS[-1]}-s0", noisy_digits(rate, 0).pictures.read)
    atomic_write(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def audit_sentence(summary: dict[str, Any]) -> str:
    """What the audit of the first seed's labels found, without any training."""
    found = summary["audit"]
    right, share = percent(found["wrong_label_precision"]), percent(found["wrong_label_recall"])
    return (
        f"An audit without training flags {found['num_flagged']:,} of {found['num_images']:,} labels; "
        f"{right} of them are wrong, and {share} of all wrong ones are found."
    )


def _audited(folder: Path, rate: float) -> dict[str, Any]:
    """Audits the labels of the first seed; of its summary the numbers that the demo tells."""
    source = noisy_digits(rate, 0)
    with AuditFolder(folder) as opened:
        found = audit(source, AuditSettings(device="cpu"), opened, command="winnow demo")
        write_audit_report(folder, source.pictures.read)
    told = ("num_images", "num_flagged", "estimated_noise_rate", "estimated_noise_rate_interval", "wrong_label_f1")
    return {name: found.summary[name] for name in (*told, "wrong_label_precision", "wrong_label_recall", "seconds")}


def check_arguments(rate: float, seeds: int) -> None:
    """Refuses what no demo can be made with."""
    if not 0 < rate < 1:
        raise UsageError(f"--rate must lie between 0 and 1, got {rate}")
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}")


def sentence(summary: dict[str, Any]) -> str:
    """The answer: how much better, with its spread over the seeds."""
    plain, robust = (summary["methods"][name]["test_accuracy_last"] for name in METHODS)
    gains = [100 * (r - p) for p, r in zip(plain, robust, strict=True)]
    mean = sum(gains) / len(gains)
    spread = f" ({min(gains):.1f} to {max(gains):.1f} over seeds)" if len(gains) > 1 else ""
    word = "better" if mean >= 0 else "worse"
    return f"On clean test digits winnow is {abs(mean):.1f} points {word}{spread}."


def table_lines(summary: dict[str, Any]) -> list[str]:
    """The table of pages.md, at most 80 columns wide."""
    lines = [f"  {'method':<15} {'test accuracy, last epoch':>26}   {'over seeds':<14} {'labels right':>13}"]
    for name, results in summary["methods"].items():
        accuracies = results["test_accuracy_last"]
        mean = percent(sum(accuracies) / len(accuracies))
        spread = f"{100 * min(accuracies):.1f} to {100 * max(accuracies):.1f}"
        right = results["corrected_label_accuracy"]
        lines.append(f"  {name:<15} {mean:>26}   {spread:<14} {percent(sum(right) / len(right)):>13}")
    given = percent(1 - summary["noise_rate"])
    lines.append(f"  labels right: after the doubted ones took the suggestion; {given} as given")
    return lines


def _make_room(out: Path) -> None:
    if not out.exists():
        try:
            out.mkdir(parents=True)
        except OSError as error:
            raise write_error(error, out, 0) from error
        return
    ours = {f"{method}-s" for method in METHODS}
    entries = [e for e in out.iterdir() if e.name not in ("summary.json", "report.html")] if out.is_dir() else [out]
    strange = [e.name for e in entries if e.name != AUDIT and not any(e.name.startswith(prefix) for prefix in ours)]
    if strange:
        raise InputError(f"{out} holds more than a demo ({strange[0]}): name another --out; nothing in it was touched")
    shutil.rmtree(out)
    out.mkdir()
