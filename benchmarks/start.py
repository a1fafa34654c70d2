"""What a newcomer waits for: the first help text, and the demo. Wall time, as it is felt; CPU time beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from benchmarks.record import Finding

HELP_ROUNDS = 9
_LOADED = """
import sys
from winnow.cli import main
try:
    main(["--help"])
except SystemExit as end:
    code = end.code
print(f"code={code} torch={'torch' in sys.modules}", file=sys.stderr)
"""


def start(rounds: int = HELP_ROUNDS, demo: bool = True) -> list[Finding]:
    """`winnow --help` several times, `winnow demo` once."""
    times = [_run(["--help"]) for _ in range(rounds)]
    walls = [wall for wall, _ in times]
    low, _, high = quantiles(walls, n=4, method="inclusive") if rounds > 1 else (walls[0],) * 3
    findings = [
        Finding(
            "winnow --help, wall time",
            median(walls),
            at_most=0.5,
            unit="s",
            spread=(low, high),
            details={"wall_s": walls, "cpu_s": [cpu for _, cpu in times]},
        ),
        Finding("torch imported by winnow --help (0 = no)", float(help_imports_torch()), at_most=0, unit=""),
    ]
    if demo:
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = _run(["demo", "--quiet", "--out", str(Path(folder) / "demo")])
        findings.append(
            Finding("winnow demo, wall time, once", wall, at_most=90, unit="s", details={"wall_s": wall, "cpu_s": cpu})
        )
    return findings


def help_imports_torch() -> bool:
    """Whether the help text needs torch."""
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    if "code=0" not in done.stderr:
        raise RuntimeError(f"winnow --help failed: {done.stderr}")
    return "torch=True" in done.stderr


def _run(arguments: list[str]) -> tuple[float, float]:
    """(wall, CPU) seconds of a command of ours, with the threads that it chooses by itself."""
    script = Path(sys.executable).with_name("winnow")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "winnow"]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    before, started = os.times(), time.perf_counter()
    subprocess.run([*command, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu
