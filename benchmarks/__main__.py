"""`python -m benchmarks [NAME ...]`: runs benchmarks, shows a table, records each under `benchmarks/results/`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from benchmarks import record
from benchmarks.memory import memory
from benchmarks.record import Finding
from benchmarks.start import HELP_ROUNDS, start

SPEED = ("P1", "P2", "P3", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14", "P15", "P16")
NAMES = (*SPEED, "reading", "streaming", "memory", "neighbours", "start")


def chosen(names: list[str]) -> list[str]:
    """The benchmarks that were asked for, in order; `speed` is all the ratios, nothing is everything.

    Raises:
        ValueError: there is no such benchmark.
    """
    known = {name.lower(): [name] for name in NAMES} | {"speed": list(SPEED)}
    wanted: list[str] = []
    for name in names:
        if name.lower() not in known:
            raise ValueError(f"no benchmark is called {name!r} (speed, {', '.join(NAMES)})")
        wanted += known[name.lower()]
    return [name for name in NAMES if name in wanted] or list(NAMES)


def main(arguments: list[str] | None = None) -> int:
    """0 if every goal is met, or missed by less than the tolerance."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Checks the goals of speed and memory.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"speed, {', '.join(NAMES)}; default: all")
    given = parser.parse_args(arguments)
    try:
        names = chosen(given.names)
    except ValueError as error:
        parser.error(str(error))
    table: list[tuple[str, Finding]] = []
    for name in names:
        try:
            findings, threads, rounds = run(name)
        except record.Skipped as reason:
            print(f"{name}: skipped, {reason}", file=sys.stderr, flush=True)
            continue
        record.write(name, findings, threads, rounds)
        table += [(name, finding) for finding in findings]
        print(f"{name}: done", file=sys.stderr, flush=True)
    print("\n".join(record.table_lines(table)))
    return 1 if any(finding.met == "no" for _, finding in table) else 0


def run(name: str) -> tuple[list[Finding], int, int]:
    """(findings, threads, rounds) of a benchmark."""
    if name == "start":
        return start(), 0, HELP_ROUNDS
    if name == "memory":
        return memory(), 1, 1
    import torch

    from benchmarks import audit_speed, reading, speed
    from benchmarks.neighbours import neighbour_graph
    from benchmarks.setting import Scale

    torch.set_num_threads(1)
    benchmarks: Mapping[str, Callable[[Scale], list[Finding]]] = {
        "P1": speed.p1,
        "P2": speed.p2,
        "P3": speed.p3,
        "P7": speed.p7,
        "P8": speed.p8,
        "P9": speed.p9,
        "P16": lambda scale: reading.p16(scale.rounds),
        "streaming": reading.streaming,
    }
    if name in audit_speed.BENCHMARKS:
        return audit_speed.BENCHMARKS[name](), 1, audit_speed.ROUNDS
    if name == "reading":
        return reading.reading(), 1, 1
    if name == "neighbours":
        return neighbour_graph(), 1, 1
    scale = Scale()
    return benchmarks[name](scale), torch.get_num_threads(), scale.rounds


if __name__ == "__main__":
    sys.exit(main())
