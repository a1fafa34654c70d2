"""What the hostile corpus is run with: commands with their cost, the lines of the table, the page."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

_SECONDS = 300
TITLE = "The hostile corpus"
_RIGHTS = "-dac_override,-dac_read_search"
WITHOUT_RIGHTS = ("setpriv", f"--inh-caps={_RIGHTS}", f"--bounding-set={_RIGHTS}")
"""Takes from an administrator the right to read what nobody may read."""


@dataclass(frozen=True)
class Ended:
    """A command that came to its end.

    Attributes:
        code: its exit code; -1 if it had to be killed for taking too long.
        out: what stood on stdout.
        err: what stood on stderr.
        seconds: of wall time.
        rss: bytes of its largest process at its peak.
    """

    code: int
    out: str
    err: str
    seconds: float
    rss: int


@dataclass
class Row:
    """A line of the table; `wrong` says what is not as it must be."""

    row: int
    done: str
    expected: str
    observed: str = ""
    code: int = 0
    counts: str = "-"
    unchanged: bool | None = None
    seconds: float = 0.0
    rss_mb: int = 0
    wrong: list[str] = field(default_factory=list)

    def must(self, holds: bool, otherwise: str) -> None:
        """Notes what is wrong unless something holds."""
        if not holds:
            self.wrong.append(otherwise)

    def same_sources(self, folder: Path, before: dict[bytes, str]) -> None:
        """Compares a folder of source files with its `fingerprint` before the command."""
        self.unchanged = fingerprint(folder) == before
        self.must(self.unchanged, "source files changed")


class Corpus:
    """A folder to work in, and the commands run there.

    Args:
        work: an empty folder.
    """

    def __init__(self, work: Path):
        self.work = work
        self.rows: list[Row] = []
        self._told = 0
        programs = work / "programs"
        programs.mkdir()
        # Whoever tries to start Ghostscript starts this.
        (programs / "gs").write_text(f"#!/bin/sh\ntouch {work / 'started'}\n")
        (programs / "gs").chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WINNOW_")}
        path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
        self.environment = {**kept, "PATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}

    def winnow(self, *arguments: str, before: Sequence[str] = (), limit: float = _SECONDS) -> Ended:
        """Runs a command from the working folder for `limit` seconds at most; `before` stands in front of it."""
        started = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "winnow", *arguments],
                cwd=self.work,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
            code, rss = _waited(process, started + limit)
            out.seek(0)
            err.seek(0)
            texts = [stream.read().decode("utf-8", "replace") for stream in (out, err)]
        told, said = (text.replace(f"{self.work}/", "") for text in texts)
        return Ended(code, told, said, time.monotonic() - started, rss)

    def add(self, row: Row, ended: Ended) -> Row:
        """Keeps a line with what the command cost, and what no command may ever do."""
        row.code, row.seconds, row.rss_mb = ended.code, round(ended.seconds, 1), ended.rss // 2**20
        if ended.code == -1:
            row.wrong.append("did not come to an end")
        if ended.code not in (0, 2, 4) or "Traceback" in ended.err or "bug in winnow" in ended.err:
            row.wrong.append(f"exit {ended.code}: {last_line(ended.err)}")
        self.rows.append(row)
        return row

    def tell(self) -> None:
        """Prints the lines that were not printed yet."""
        for row in self.rows[self._told :]:
            print(_told(row), flush=True)
        self._told = len(self.rows)


def _waited(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, int]:
    """Exit code and peak memory of a process; it is killed at the deadline."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss * 1024
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            return -1, 0
        time.sleep(0.05)


def fingerprint(folder: Path) -> dict[bytes, str]:
    """A hash of every regular file, the target of every link, the kind of everything else; by path."""
    found = {}
    for where, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(where, name)
            if os.path.islink(path):
                found[path] = f"link {os.readlink(path)!r}"
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = sha256(file.read()).hexdigest()
            else:
                found[path] = f"kind {os.lstat(path).st_mode:o}"
    return found


def markdown(rows: Sequence[Row], mixed: dict[str, Any] | None, title: str = TITLE) -> str:
    """The table as a page."""
    from datetime import date

    from winnow import __version__

    failed = sum(bool(row.wrong) for row in rows)
    lines = [
        f"# {title}",
        "",
        f"Made and run by `scripts/hostile_corpus.py` with winnow {__version__} on {date.today().isoformat()}: "
        f"{len(rows)} lines, {len(rows) - failed} survived. Row numbers are those of the fault table; 0 stands for a "
        "command over the whole corpus. Counts are seen = used + set aside. Every source file is hashed before and "
        "after. Peak is the largest process.",
        "",
        "| row | done | expected | observed | exit | survived | counts | sources unchanged | seconds | peak MB |",
        "|--:|---|---|---|--:|---|---|---|--:|--:|",
    ]
    for row in rows:
        observed = "; ".join(filter(None, [row.observed, *(f"**{text}**" for text in row.wrong)]))
        unchanged = {True: "yes", False: "NO", None: "-"}[row.unchanged]
        cost = (f"{row.seconds:.1f}", str(row.rss_mb)) if row.seconds else ("-", "-")
        cells = [str(row.row), row.done, row.expected, observed, str(row.code), "NO" if row.wrong else "yes",
                 row.counts, unchanged, *cost]  # fmt: skip
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    if mixed:
        lines += [
            "",
            "## A mixed folder, no option given",
            "",
            f"`winnow train FOLDER` on {mixed['files']:,} generated files (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF; 10 "
            "to 600 pixels; grey, transparent, 16-bit, CMYK, turned by EXIF) in 5 classes, "
            f"{mixed['broken']} of them broken: {mixed['seconds']:.0f} s ({mixed['epochs']} epochs, {mixed['plan']}), "
            f"peak {mixed['peak_mb']} MB, "
            f"{100 * mixed['held_out_accuracy']:.1f} % of 500 held-out pictures classified rightly.",
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("{{", "{ {")):
        text = text.replace(plain, safe)
    return escaped(text)


def escaped(text: str) -> str:
    """Printable text: everything else as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def last_line(text: str) -> str:
    """The last line that says something, cut short."""
    lines = [line for line in text.strip().splitlines() if line]
    return lines[-1][:300] if lines else ""


def _told(row: Row) -> str:
    verdict = "FAILED" if row.wrong else "ok"
    return f"{row.row:>3} {verdict:<7}{escaped(row.done)[:100]}: {escaped('; '.join(row.wrong) or row.observed)[:160]}"
