"""`winnow demo`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo; an earlier demo there is replaced.")] = Path(
        "runs/demo"
    ),
    rate: Annotated[float, typer.Option(help="Share of the labels made wrong at random.")] = 0.4,
    seeds: Annotated[int, typer.Option(help="Number of seeds, from 0.")] = 3,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """Plain against robust training, in about a minute."""
    from winnow.cli.terminal import TerminalProgress, bold, next_step, plain
    from winnow.demo import AUDIT, METHODS, audit_sentence, check_arguments, run_demo, sentence, table_lines

    check_arguments(rate, seeds)
    say = print if not (json_output or quiet) else (lambda *_: None)
    say(f"1,437 digits, {100 * rate:.0f} % of the labels made wrong at random; 360 clean test digits.")
    say(f"Plain against robust training, seeds {' '.join(map(str, range(seeds)))}, on cpu: about 1 minute.")
    total = seeds * len(METHODS)
    progress = TerminalProgress(quiet)

    def begin(number: int, method: str, seed: int) -> TerminalProgress:
        progress.begin_part(f"[{number}/{total}] {method}, seed {seed}")
        return progress

    summary = run_demo(out, rate=rate, seeds=seeds, begin=begin)
    progress.finish()
    if json_output:
        print(json.dumps(summary))
        return
    say(bold(sentence(summary)))
    for line in table_lines(summary):
        say(plain(line))
    for line in textwrap.wrap(plain(audit_sentence(summary)), 80):
        say(line)
    say(f"Report   {out / 'report.html'}")
    say(f"Audit    {out / AUDIT / 'report.html'}")
    say(next_step("winnow audit FOLDER", "find wrong labels in your own images"))
