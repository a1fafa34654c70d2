"""Where a number was made: the machine, the versions, the commit."""

from __future__ import annotations

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import winnow
from winnow.train.cores import cores


@cache
def circumstances() -> dict[str, Any]:
    """Processor, cores that this process may use, versions and commit; nothing heavy is imported for it."""
    return {
        "cpu": cpu(),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": _installed("torch"),
        "winnow": winnow.__version__,
        "commit": commit(),
    }


def cpu() -> str:
    """The processor's name."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit that the package lies in, ` with changes` behind it if it has any; None outside of a checkout."""
    package = Path(winnow.__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not git("ls-files", "--", "__init__.py"):
            return None  # the package lies in somebody else's checkout
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except OSError:
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
