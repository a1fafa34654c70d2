"""The label step of an audit at scale: time, memory and quality, ours and cleanlab's, each in a process of its own.

    python -m benchmarks.audit_scale          protocol C, recorded in results/audit_scale.json
    python -m benchmarks.audit_scale large    a million rows of a thousand classes from a file of 4 GB

Labels are uniform, 20 % of them flipped uniformly; float32 probabilities are uniform in [0, .05), plus uniform in
[0, 1.5) for the true class, and each row is divided by its sum.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.memory import status
from benchmarks.record import Finding

ROWS_AT_ONCE = 10_000
NOISE = 0.2
ROUNDS = 7
SIZES = ((100_000, 10), (1_000_000, 10), (100_000, 100), (100_000, 1000))
LARGE = (1_000_000, 1000)
SECONDS = {(1_000_000, 10): 0.5, (100_000, 1000): 0.8, LARGE: 30.0}
RISE = {(1_000_000, 10): 50.0, (100_000, 1000): 60.0, LARGE: 1000.0}
SEEDS = 5
F1 = {(100_000, 10): 0.985, (1_000_000, 10): 0.985, (100_000, 100): 0.906, (100_000, 1000): 0.819}
"""What cleanlab reaches on such data, to three digits: the bar where it is not installed.

Where it is, the bar is what it reaches on the same data. Which of several equal cells of a joint gives way to rounding
is arbitrary, and with 1,000 classes moves the F1 of a seed by .001 either way; so it is the mean of some seeds.
"""


def write_input(folder: Path, num: int, classes: int, seed: int = 0) -> None:
    """`labels.npy`, `wrong.npy` and, float32 (num, classes), `probs.npy`; never held as a whole."""
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=num)
    wrong = random.random(num) < NOISE
    labels = np.where(wrong, (truth + random.integers(1, classes, num)) % classes, truth)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "wrong.npy", wrong)
    probs = np.lib.format.open_memmap(folder / "probs.npy", mode="w+", dtype=np.float32, shape=(num, classes))
    for start in range(0, num, ROWS_AT_ONCE):
        rows = truth[start : start + ROWS_AT_ONCE]
        part = random.random((len(rows), classes), dtype=np.float32) * np.float32(0.05)
        part[np.arange(len(rows)), rows] += 1.5 * random.random(len(rows), dtype=np.float32)
        probs[start : start + len(rows)] = part / part.sum(axis=1, keepdims=True)
    probs.flush()


def read_input(folder: Path, mapped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities)."""
    return np.load(folder / "labels.npy"), np.load(folder / "probs.npy", mmap_mode="r" if mapped else None)


def finder(who: str) -> Callable[..., np.ndarray]:
    """`find_label_issues` of `winnow` or, in one process and in silence, of `cleanlab`."""
    if who == "winnow":
        from winnow.audit.confident import find_label_issues

        return find_label_issues
    from cleanlab.filter import find_label_issues as theirs

    def quietly(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return theirs(labels, probs, n_jobs=1)

    return quietly


def f1(found: np.ndarray, wrong: np.ndarray) -> float:
    """Of the labels found."""
    return float(2 * (found & wrong).sum() / (found.sum() + wrong.sum()))


def measured(who: str, folder: Path, mapped: bool, rounds: int) -> dict[str, Any]:
    """CPU seconds, growth of memory over the input in MB and F1; meant to run in a fresh process.

    Of an array in memory the growth is that of the kernel's high-water mark. Pages of a mapped file are no growth:
    there the anonymous memory is looked at, every millisecond.
    """
    labels, probs = read_input(folder, mapped)
    find = finder(who)
    find(np.arange(1000) % 2, np.full((1000, 2), 0.5, dtype=np.float32))  # what is imported late
    before, done = status("RssAnon" if mapped else "VmRSS"), threading.Event()
    peak = [before]
    watch = threading.Thread(target=_watch, args=(peak, done), daemon=True)
    if mapped:
        watch.start()
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        found = find(labels, probs)
        seconds.append(time.process_time() - started)
    done.set()
    rise = (peak[0] if mapped else status("VmHWM")) - before
    np.save(folder / f"{who}-{mapped}.npy", found)
    return {"cpu_s": median(seconds), "rise_mb": rise, "f1": f1(found, np.load(folder / "wrong.npy"))}


def _watch(peak: list[float], done: threading.Event) -> None:
    while not done.wait(0.001):
        peak[0] = max(peak[0], status("RssAnon"))


def in_a_process(who: str, folder: Path, *, mapped: bool = False, rounds: int = ROUNDS) -> dict[str, Any]:
    """`measured` in a fresh process of one thread."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.audit_scale", "measure", who, str(folder), str(int(mapped)), str(rounds)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def protocol_c(sizes: tuple[tuple[int, int], ...] = SIZES, rounds: int = ROUNDS) -> list[Finding]:
    """Every size: in memory and memory-mapped, beside cleanlab where it is installed."""
    findings = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder, what = Path(name), f"{size[0]:,} x {size[1]}"
            write_input(folder, *size)
            ours = in_a_process("winnow", folder, rounds=rounds)
            mapped = in_a_process("winnow", folder, mapped=True, rounds=rounds)
            findings += [
                Finding(f"{what}: CPU", ours["cpu_s"], at_most=SECONDS.get(size), unit="s"),
                Finding(f"{what}: memory above the input", ours["rise_mb"], at_most=RISE.get(size), unit="MB"),
                f1_of_seeds(size),
                Finding(f"{what}: memory, mapped", mapped["rise_mb"], at_most=RISE.get(size), unit="MB"),
            ]
            found = np.load(folder / "winnow-False.npy")
            others = {"memory-mapped": np.load(folder / "winnow-True.npy")}
            labels, probs = read_input(folder)
            for rows in (777, 65_536):
                others[f"{rows:,} rows at once"] = finder("winnow")(labels, probs, chunk_rows=rows)
            differ = sum(int((other != found).sum()) for other in others.values())
            what_differs = f"{what}: rows that differ"
            findings.append(Finding(what_differs, differ, at_most=0, unit=""))
            if find_spec("cleanlab") is not None:
                theirs = in_a_process("cleanlab", folder, rounds=min(rounds, 3))
                flags = np.load(folder / "cleanlab-False.npy")
                agreement = float((flags & found).sum() / (flags | found).sum())
                findings += [
                    Finding(f"{what}: cleanlab, CPU", theirs["cpu_s"], unit="s"),
                    Finding(f"{what}: cleanlab, memory above the input", theirs["rise_mb"], unit="MB"),
                    Finding(f"{what}: issues of both / of either", agreement, unit=""),
                ]
    return findings


def f1_of_seeds(size: tuple[int, int], seeds: int = SEEDS) -> Finding:
    """The mean F1 of some seeds of the data, in three digits, beside cleanlab's."""
    peers = ["winnow", "cleanlab"] if find_spec("cleanlab") is not None else ["winnow"]
    reached: dict[str, list[float]] = {who: [] for who in peers}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            write_input(Path(name), *size, seed)
            labels, probs = read_input(Path(name))
            wrong = np.load(Path(name) / "wrong.npy")
        for who in peers:
            reached[who].append(f1(finder(who)(labels, probs), wrong))
    bar = round(float(np.mean(reached["cleanlab"])), 3) if "cleanlab" in reached else F1.get(size)
    mean = round(float(np.mean(reached["winnow"])), 3)
    what = f"{size[0]:,} x {size[1]}: F1, mean of {seeds} seeds"
    return Finding(what, mean, at_least=bar, unit="", details={"f1_of_seeds": reached})


def large(size: tuple[int, int] = LARGE) -> list[Finding]:
    """From a memory-mapped file, once."""
    with tempfile.TemporaryDirectory() as name:
        write_input(Path(name), *size)
        found = in_a_process("winnow", Path(name), mapped=True, rounds=1)
    what = f"{size[0]:,} x {size[1]:,} from a file"
    return [
        Finding(f"{what}: CPU", found["cpu_s"], at_most=SECONDS[LARGE], unit="s"),
        Finding(f"{what}: memory", found["rise_mb"], at_most=RISE[LARGE], unit="MB"),
        Finding(f"{what}: F1", found["f1"], unit=""),
    ]


def main(arguments: list[str]) -> int:
    """0 if every bar is reached."""
    if arguments[:1] == ["measure"]:
        who, folder, mapped, number = arguments[1:]
        print(json.dumps(measured(who, Path(folder), mapped == "1", int(number))))
        return 0
    name, run, rounds = ("audit_large", large, 1) if arguments == ["large"] else ("audit_scale", protocol_c, ROUNDS)
    findings = run()
    record.write(name, findings, 1, rounds)
    print("\n".join(record.table_lines(("", finding) for finding in findings)))
    return 1 if any(finding.met == "no" for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
