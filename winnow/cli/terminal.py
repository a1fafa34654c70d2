"""What a person sees in the terminal: 80 columns, one live line, colour on three words only."""

from __future__ import annotations

import csv
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from winnow.export.spreadsheet import runs
from winnow.train.progress import Progress

_REPEAT = 60.0
"""Seconds between two lines where there is no terminal, after a first one."""


def _colours(stream: object) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and getattr(stream, "isatty", lambda: False)()


def _styled(text: str, code: str, stream: object) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _colours(stream) else text


def print_error(message: str, stopped: bool = False) -> None:
    """One unwrapped line on stderr."""
    if stopped:
        print(message, file=sys.stderr)
    else:
        print(f"{_styled('error:', '31', sys.stderr)} {message}", file=sys.stderr)


def warn_of_formulas(path: Path) -> None:
    """Says on stderr that a spreadsheet would run cells of a .csv: names are exact there, so that they read back."""
    if path.suffix.lower() != ".csv":
        return
    with path.open(newline="", encoding="utf-8") as file:
        count = sum(runs(cell) for row in csv.reader(file) for cell in row)
    if count:
        print(
            f"{_styled('warning:', '33', sys.stderr)} {path}: {count:,} cells begin like a formula (= + - @ tab), "
            "which a spreadsheet would run; open it with a program that does not, or write .parquet",
            file=sys.stderr,
        )


def plain(text: str) -> str:
    """The pages' words without their unbreakable spaces, which no `grep` would find."""
    return text.replace("\u00a0", " ")


def shown(text: str) -> str:
    """Text that holds names: what would move the cursor or break the line is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain(text))


def bold(text: str) -> str:
    """The answer."""
    return _styled(plain(text), "1", sys.stdout)


def next_step(command: str, remark: str = "") -> str:
    """The last line: a command to paste."""
    return f"{_styled('Next', '36', sys.stdout)}     {command}{'    ' + remark if remark else ''}"


def time_left(seconds: float) -> str:
    """Minutes and seconds, or hours."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"


class TerminalProgress(Progress):
    """Tells the progress on stderr: a live line in a terminal, a plain line a minute elsewhere.

    Args:
        quiet: say nothing but warnings.
        verbose: a line for every epoch as well, with every term of the loss.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False):
        self.quiet = quiet
        self.verbose = verbose
        self.prefix = ""
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""
        self._last = time.monotonic()
        self._wait = 10.0
        self._started: tuple[float, float] | None = None
        self._stage_started: tuple[str, float] = ("", 0.0)

    def begin_part(self, prefix: str) -> None:
        """Another of several trainings begins, such as `[2/6] winnow, seed 0`."""
        self.prefix = prefix
        self._started = None
        if not (self._live or self.quiet):
            print(prefix, file=sys.stderr, flush=True)

    def understood(self, label: str, text: str) -> None:
        """A line such as `Data     1,437 images`."""
        if not self.quiet and not self.prefix:
            self.finish()
            print(f"{label:<9}{shown(text)}", file=sys.stderr)

    def warning(self, text: str) -> None:
        """A line that is never silent."""
        self.finish()
        print(f"{_styled('warning:', '33', sys.stderr)} {shown(text)}", file=sys.stderr)

    def stage(self, name: str, done: int, total: int) -> None:
        """Reading, mostly."""
        now = time.monotonic()
        if self._stage_started[0] != name or done == 0:
            self._stage_started = (name, now)
        took = now - self._stage_started[1]
        left = took * (total - done) / max(1, done)
        # Steps that take seconds each are no images.
        rate = f"{done / took:,.0f} images/s" if took > 0.2 and done > took else ""
        parts = [name, f"{done:,}/{total:,}", rate, f"{time_left(left)} left" if took > 0.2 else ""]
        self._show(parts, done=done >= total)

    def fetching(self, name: str, done: int, total: int) -> None:
        """A download, in bytes; the total is 0 where it is unknown."""
        amount = f"{done / 1e6:.0f}/{total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
        self._show([name, amount], done=0 < total <= done)

    def training(
        self,
        *,
        phase: str,
        epoch: int,
        epochs: int,
        fraction: float,
        images_per_second: float,
        last: dict[str, float | None],
    ) -> None:
        """The live line of pages.md: epoch, phase, loss, given, test, time left."""
        now = time.monotonic()
        if self._started is None or fraction < self._started[1]:
            self._started = (now, fraction)
        begun, at = self._started
        left = f"{time_left((now - begun) * (1 - fraction) / (fraction - at))} left" if fraction > at else ""
        percent = {name: f"{name} {100 * value:.1f} %" for name, value in last.items() if value is not None}
        loss = last.get("loss")
        parts = [
            f"{self.prefix}  epoch {epoch}/{epochs}".strip(),
            phase if phase != "train" else "",
            "" if loss is None or self.prefix else f"loss {loss:.3f}",
            "" if self.prefix else percent.get("given", ""),
            "" if self.prefix else percent.get("test", ""),
            f"{images_per_second:,.0f} images/s",
            left,
        ]
        self._show(parts, done=fraction >= 1)

    def epoch(self, line: Mapping[str, Any]) -> None:
        """A line that stays, of what `metrics.jsonl` gets."""
        if not self.verbose:
            return
        self.finish()
        shares = {
            "given": line["given_label_agreement"],
            "held out": line["validation_agreement"],
            "test": line["test_accuracy"],
        }
        parts = [
            f"epoch {line['epoch']}",
            line["phase"],
            f"loss {line['loss']:.4f}",
            *(f"{name} {value:.4f}" for name, value in line["terms"].items() if len(line["terms"]) > 1),
            *(f"{name} {100 * value:.1f} %" for name, value in shares.items() if value is not None),
            *(f"{name} {value:.4g}" for name, value in line["log"].items()),
            f"rate {line['learning_rate']:.3g}",
            f"{line['seconds']:.1f} s",
        ]
        print("  ".join(parts), file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Takes the live line away."""
        if self._shown:
            print("\r" + " " * len(self._shown) + "\r", end="", file=sys.stderr, flush=True)
            self._shown = ""

    def _show(self, parts: list[str], done: bool) -> None:
        if self.quiet:
            return
        now = time.monotonic()
        if not self._live:
            # In a log: after ten seconds, then once a minute.
            if now - self._last > self._wait:
                print("  ".join(p for p in parts if p), file=sys.stderr, flush=True)
                self._last, self._wait = now, _REPEAT
            return
        if now - self._last < 0.1 and not done:
            return
        self._last = now
        width = shutil.get_terminal_size((80, 24)).columns - 1
        kept = [p for p in parts if p]
        # A narrow terminal loses the rate first, then counts from the middle; the line never wraps.
        for drop in ("images/s", "loss", "given", "test"):
            if len("  ".join(kept)) > width:
                kept = [p for p in kept if drop not in p]
        line = "  ".join(kept)[:width]
        print("\r" + line.ljust(len(self._shown)), end="", file=sys.stderr, flush=True)
        self._shown = line
