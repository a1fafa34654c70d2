"""Accuracy of the default method against its controls, by the command line, three seeds a case, last epoch.

    python -m benchmarks.accuracy cifar10 --seeds 0 1 2        # 10,000 images, 20 epochs, real and made noise
    python -m benchmarks.accuracy mnist --seeds 0 1 2          # 5,000 images, 20 epochs, the mlp
    python -m benchmarks.accuracy table                        # what is recorded, as Markdown

Needs WINNOW_DATA. Every cell is one `winnow train`; its summary goes to `results/accuracy-<data>.jsonl` as a line, and
a cell that is there is not run again. Averaging changes nothing about the network that it averages, so plain and
averaged cross-entropy come from one training: the plain network is read from its last checkpoint. Several of these
processes may share the work (`--share 0/2`, `--share 1/2`).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
AVERAGED = "cross-entropy, averaged"
METHODS: dict[str, list[str]] = {
    "cross-entropy": ["--method", "cross-entropy"],
    AVERAGED: ["--method", "cross-entropy", "--set", "averaging=true"],
    "winnow": ["--method", "winnow"],
    "bootstrap-hard": ["--method", "bootstrap-hard"],
    "cross-entropy, strong views, mixup": ["--method", "cross-entropy", "--set", "views=strong", "--set", "mixup=1"],
}
CASES = {
    "cifar10": ("worse", "symmetric 0.4", "asymmetric 0.4", "clean"),
    "mnist": ("symmetric 0.5", "symmetric 0.8", "asymmetric 0.4", "clean"),
}
CONTROLS = ("cross-entropy", AVERAGED)
KEPT = (
    "test_accuracy_last", "test_accuracy_best", "given_label_agreement", "given_label_accuracy",
    "label_quality_auroc", "corrected_label_accuracy", "num_doubted", "seconds", "images_per_second", "version",
)  # fmt: skip


def winnow(*arguments: str) -> str:
    """Runs a command and gives its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "winnow", *arguments], check=True, capture_output=True, text=True, env=_environment()
    )
    return done.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def train_arguments(data: str, case: str, seed: int, folder: Path) -> list[str]:
    """DATA and options of a case; made noise follows the seed."""
    root = Path(os.environ["WINNOW_DATA"])
    kind, _, rate = case.partition(" ")
    if data == "cifar10":
        table, extra = str(root / "cifar10_train.parquet"), ["--test", str(root / "cifar10_test.parquet")]
        extra += ["--limit", "10000", "--epochs", "20"]
    else:
        table, extra = "mnist", ["--limit", "5000", "--epochs", "20", "--model", "mlp", "--test", "mnist"]
    if not rate:
        column = ["--label-column", case if case != "clean" else "label", "--clean-label-column", "label"]
        return [table, *extra, *(column if data == "cifar10" else [])]
    noisy = folder / f"{data}-{kind}-{rate}-{seed}.{'parquet' if data == 'cifar10' else 'npz'}"
    if not noisy.exists():
        labels = ["--label-column", "label"] if data == "cifar10" else []
        class_map = ["--map", data] if kind == "asymmetric" else []
        winnow(
            "noise",
            table,
            *labels,
            "--kind",
            kind,
            "--rate",
            rate,
            *class_map,
            "--seed",
            str(seed),
            "--out",
            str(noisy),
        )
    return [str(noisy), *extra]


def cells(data: str, seeds: list[int], methods: list[str]) -> Iterator[tuple[str, str, int]]:
    """(case, method, seed), seed by seed, so that an early stop leaves whole comparisons."""
    for seed in seeds:
        for case in CASES[data]:
            for method in (m for m in methods if m != AVERAGED or "cross-entropy" not in methods):
                yield case, method, seed


def recorded(data: str) -> list[dict[str, Any]]:
    """The lines on record."""
    path = RESULTS / f"accuracy-{data}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(data: str, seeds: list[int], methods: list[str], share: tuple[int, int]) -> None:
    """Runs the cells that are not on record yet."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        for number, (case, method, seed) in enumerate(cells(data, seeds, methods)):
            done = {(r["case"], r["method"], r["seed"]) for r in recorded(data)}
            if number % share[1] != share[0] or (case, method, seed) in done:
                continue
            arguments = train_arguments(data, case, seed, Path(name))
            out = Path(name) / f"run-{number}"
            cell = {"case": case, "method": method, "seed": seed, "commit": commit, "threads": 1}
            options = METHODS[AVERAGED if method == "cross-entropy" else method]
            output = ["--seed", str(seed), "--out", str(out), "--json", "--quiet"]
            summary = json.loads(winnow("train", *arguments, *options, *output))
            if method == "cross-entropy":
                if (case, AVERAGED, seed) not in done:
                    _append(data, cell | {"method": AVERAGED} | {key: summary.get(key) for key in KEPT})
                summary |= {"test_accuracy_last": plain_accuracy(out, data), "test_accuracy_best": None}
                summary |= {"corrected_label_accuracy": None, "num_doubted": None}
            _append(data, cell | {key: summary.get(key) for key in KEPT})
            print(f"{data} {case}, {method}, seed {seed}: {100 * summary['test_accuracy_last']:.2f} %", flush=True)


def plain_accuracy(run: Path, data: str) -> float:
    """Test accuracy of the network that was averaged, from the run's last checkpoint."""
    from safetensors.torch import load_file

    from winnow.data.open import open_source
    from winnow.train.device import Device
    from winnow.train.predictor import Predictor

    predictor = Predictor.load(run)
    newest = max(path for path in (run / "checkpoint").iterdir() if path.name.isdigit())
    prefix = "/method/classifier."
    weights = {k.removeprefix(prefix): v for k, v in load_file(newest / "tensors.safetensors").items() if prefix in k}
    predictor.networks[0].load_state_dict(weights)
    root = Path(os.environ["WINNOW_DATA"])
    test = open_source(root / "cifar10_test.parquet") if data == "cifar10" else open_source("mnist:test")
    accuracy = predictor.predict(test, Device.choose("cpu", "auto", 1)).agreement(test, predictor.class_names)
    assert accuracy is not None
    return accuracy


def _append(data: str, line: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"accuracy-{data}.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(line) + "\n")


def table(data: str) -> str:
    """What is on record as Markdown: mean and spread over the seeds, and paired differences to the better control."""
    rows = recorded(data)
    columns = ["labels", "method", "test accuracy, last epoch", "over seeds (number)", "against the better control"]
    columns += ["AUROC of label_quality", "labels right, given -> corrected"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for case in CASES[data]:
        controls = [_mean(rows, case, m, "test_accuracy_last") for m in CONTROLS]
        control = max((mean for mean in controls if mean is not None), default=None)
        for method in METHODS:
            chosen = [r for r in rows if (r["case"], r["method"]) == (case, method)]
            if not chosen:
                continue
            accuracies = [100 * r["test_accuracy_last"] for r in chosen]
            mean = statistics.mean(accuracies)
            gain = "-" if control is None or method in CONTROLS else f"{mean - 100 * control:+.1f}"
            auroc = _mean(rows, case, method, "label_quality_auroc")
            given = _mean(rows, case, method, "given_label_accuracy")
            corrected = _mean(rows, case, method, "corrected_label_accuracy")
            right = "-" if given is None or corrected is None else f"{100 * given:.1f} -> {100 * corrected:.1f}"
            spread = f"{min(accuracies):.1f} to {max(accuracies):.1f} ({len(accuracies)})"
            name = f"**{method}**" if method == "winnow" else method
            ranked = "-" if auroc is None else f"{auroc:.3f}"
            lines.append(f"| {case} | {name} | {mean:.1f} | {spread} | {gain} | {ranked} | {right} |")
    return "\n".join(lines)


def _mean(rows: list[dict[str, Any]], case: str, method: str, key: str) -> float | None:
    values = [r[key] for r in rows if (r["case"], r["method"]) == (case, method) and r.get(key) is not None]
    return statistics.mean(values) if values else None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=[*CASES, "table"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--share", default="0/1", help="this process's part of the cells, such as 0/2")
    options = parser.parse_args()
    if options.data == "table":
        for data in CASES:
            print(f"## {data}\n\n{table(data)}\n")
        return
    if "WINNOW_DATA" not in os.environ:
        sys.exit("WINNOW_DATA is not set: the research data is not here")
    part, parts = (int(n) for n in options.share.split("/"))
    run(options.data, options.seeds, options.methods, (part, parts))


if __name__ == "__main__":
    main()
