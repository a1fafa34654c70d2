"""What a benchmark found: a table for the person, a JSON file a benchmark under `results/`."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.ratio import Ratio
from winnow.bench.machine import cpu
from winnow.train.cores import cores

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 0.1
"""On ratios: two runs of one benchmark differ by that much on a busy machine."""


class Skipped(Exception):
    """A benchmark cannot run here, for the reason given; what was recorded of it stays."""


@dataclass(frozen=True)
class Finding:
    """One measured number, and the goal for it if there is one.

    Attributes:
        what: a line for the table.
        measured: in `unit`.
        at_most: the goal, or
        at_least: the goal from below.
        unit: `x` for ratios.
        spread: of the measurement: quartiles.
        details: everything that was measured on the way.
    """

    what: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None
    unit: str = "x"
    spread: tuple[float, float] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, what: str, ratio: Ratio, *, at_most: float | None = None, at_least: float | None = None, **details: Any
    ) -> Finding:
        """The median of a ratio."""
        everything = {**details, "ratios": ratio.each, "first_cpu_s": ratio.first, "second_cpu_s": ratio.second}
        return cls(what, ratio.median, at_most, at_least, spread=ratio.spread, details=everything)

    @property
    def limit(self) -> str:
        """The goal for people."""
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}"
        return f">= {self.at_least:g} {self.unit}" if self.at_least is not None else "-"

    @property
    def met(self) -> str:
        """`yes`, `no`, for ratios `within 10 %`, or `-` where there is no goal."""
        slack = 1 + (TOLERANCE if self.unit == "x" else 0.0)
        if self.at_most is not None:
            met, nearly = self.measured <= self.at_most, self.measured <= self.at_most * slack
        elif self.at_least is not None:
            met, nearly = self.measured >= self.at_least, self.measured * slack >= self.at_least
        else:
            return "-"
        return "yes" if met else "within 10 %" if nearly else "no"


def table_lines(findings: Iterable[tuple[str, Finding]]) -> list[str]:
    """The findings of some benchmarks, (benchmark, finding) each."""
    lines = [f"{'':<11}{'goal':<66}{'limit':>11}{'measured':>11}  {'quartiles':<15}met", "-" * 122]
    for name, finding in findings:
        spread = f"{finding.spread[0]:.3f}-{finding.spread[1]:.3f}" if finding.spread else ""
        measured = f"{finding.measured:.3f} x" if finding.unit == "x" else f"{finding.measured:.4g} {finding.unit}"
        lines.append(f"{name:<11}{finding.what:<66}{finding.limit:>11}{measured:>11}  {spread:<15}{finding.met}")
    return lines


def write(name: str, findings: Sequence[Finding], threads: int, rounds: int, folder: Path = RESULTS) -> Path:
    """Replaces the record of a benchmark."""
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **circumstances(),
        "threads": threads,
        "rounds": rounds,
        "findings": [
            {
                "what": f.what,
                "limit": f.limit,
                "measured": f.measured,
                "unit": f.unit,
                "quartiles": f.spread,
                "met": f.met,
                **f.details,
            }
            for f in findings
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    text = json.dumps(rounded(record), indent=2)
    # Rows of numbers on one line each, so that a person can read the file.
    text = re.sub(r"\[\s+([-+\d.e,\s]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    path.write_text(text + "\n")
    return path


def circumstances() -> dict[str, Any]:
    """The machine and the versions."""
    import torch

    return {
        "commit": _commit(),
        "cpu": cpu(),
        "cores": cores(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "real_images": bool(os.environ.get("WINNOW_DATA")),
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../winnow", ".", ":!results")
        return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")
    except OSError:
        return "unknown"


def rounded(value: Any) -> Any:
    """Numbers with five digits, for records that a person reads."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value
