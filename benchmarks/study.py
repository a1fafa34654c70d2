"""Records a results file of the mislabelling study; on the digits with the relations that it must show there.

    winnow study mislabel --data digits --out runs/mislabel-digits
    python -m benchmarks.study runs/mislabel-digits/results.jsonl

The record is `results/study-DATA.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS
from winnow.bench.learner import Learner
from winnow.bench.mislabel_numbers import paired
from winnow.bench.mislabel_summary import Found, summarised
from winnow.bench.results import read_records

KINDS = ("unbiased", "biased")


def relations(found: Found, learner: Learner) -> Iterator[tuple[str, str, bool]]:
    """Claim, what was measured, whether it holds."""
    small, large, rates = found.sizes[0], found.sizes[-1], found.rates

    def mean(kind: str, rate: float, size: int) -> float:
        return float(np.mean(list(found.accuracies(learner, kind, rate, size).values())))

    def difference(first: tuple[str, float, int], second: tuple[str, float, int]) -> float:
        return float(np.mean(paired(found.accuracies(learner, *first), found.accuracies(learner, *second))))

    rises = [difference((k, b, n), (k, a, n)) for k in KINDS for n in found.sizes for a, b in pairwise(rates)]
    yield (
        "(a) every row falls with the rate (paired, tolerance 0.02)",
        f"largest step {max(rises):+.3f}",
        max(rises) < 0.02,
    )
    steps = [difference(("unbiased", p, b), ("unbiased", p, a)) for p in rates for a, b in pairwise(found.sizes)]
    yield "(b) every unbiased column rises with n", f"smallest step {min(steps):+.3f}", min(steps) > 0
    high = [difference(("unbiased", p, large), ("biased", p, large)) for p in rates if p >= 0.3]
    yield f"(c) n = {large}, rate >= 0.3: unbiased ahead by >= 0.08", _listed(high), min(high) >= 0.08
    low = [abs(difference(("unbiased", p, small), ("biased", p, small))) for p in rates]
    yield f"(d) n = {small}: the kinds differ by < 0.08", f"at most {max(low):.3f}", max(low) < 0.08
    half = [mean("biased", 0.5, size) for size in found.sizes]
    gain = difference(("unbiased", 0.5, large), ("unbiased", 0.5, small))
    holds = all(0.30 <= value <= 0.65 for value in half) and gain >= 0.25
    yield (
        "(e) 50 %: biased within 0.30 to 0.65 at every n, unbiased rises by >= 0.25",
        f"{_listed(half)}; {gain:+.3f}",
        holds,
    )


def document(records: list[dict[str, Any]]) -> str:
    """The record as Markdown."""
    found, summary = Found.of(records), summarised(records)
    cpu = sum(record["times"]["cpu_seconds"] for record in records)
    wall = sum(record["times"]["seconds"] for record in records)
    lines = [
        f"# The mislabelling study: {data_name(records)}",
        "",
        f"Made by `winnow study mislabel --data {data_name(records)}` and `python -m benchmarks.study RESULTS`.",
        "",
        f"- cells: {summary['cells']}, {summary['repeats']} repeats (0 to {summary['repeats'] - 1} of seed "
        f"{summary['settings']['seed']}), finished {max(record['finished'] for record in records)}",
        f"- test images: {summary['num_test']}",
        *(f"- machine: {machine}" for machine in summary["machines"]),
        f"- time: {cpu:.0f} CPU seconds of all cells ({cpu / len(records):.2f} a cell), {wall:.0f} s of wall time "
        "in their processes",
        f"- code: {', '.join(sorted({record['code'] for record in records}))}",
    ]
    for learner in found.learners:
        meaning = "Test accuracy at the last step, mean (standard deviation, number of repeats)"
        lines += ["", f"## {learner.name}", "", meaning, ""]
        lines += ["| kind, n | " + " | ".join(f"{100 * rate:g} %" for rate in found.rates) + " |"]
        lines += ["|---" * (1 + len(found.rates)) + "|"]
        for kind in KINDS:
            for size in found.sizes:
                row = [list(found.accuracies(learner, kind, rate, size).values()) for rate in found.rates]
                lines.append(f"| {kind} {size} | " + " | ".join(map(_cell, row)) + " |")
        if data_name(records) != "digits":
            continue
        lines += ["", "| relation | measured | holds |", "|---|---|---|"]
        lines += [
            f"| {claim} | {seen} | {'yes' if holds else 'no'} |" for claim, seen, holds in relations(found, learner)
        ]
    lines += ["", *(f"- {answer['learner']}: {answer['sentence']}." for answer in summary["answers"])]
    return "\n".join(lines) + "\n"


def data_name(records: list[dict[str, Any]]) -> str:
    """DATA as it was typed."""
    return str(records[0]["config"]["data"]["data"])


def _cell(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f} (-, 1)" if values else "-"
    return f"{np.mean(values):.3f} ({np.std(values, ddof=1):.3f}, {len(values)})"


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def main() -> None:
    """Reads the lines, writes the record, prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    records = [record for record in read_records(parser.parse_args().results) if "result" in record]
    text = document(records)
    (RESULTS / f"study-{data_name(records)}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
