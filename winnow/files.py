"""Writing files so that a reader sees the old one or the new one, never a mixture."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from winnow.errors import MachineError

Content = bytes | Callable[[BinaryIO], object]
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def atomic_write(path: str | Path, content: Content) -> None:
    """Write a file through a temporary one beside it: flushed, synced, then put in place in one step.

    A missing folder is not made: one that vanished during a run must be noticed.

    Args:
        path: where the file goes.
        content: the bytes, or a function that writes them to the open file it is given.

    Raises:
        MachineError: the disk is full or the place cannot be written; an older file is still as it was.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        # How much a function would still have written is unknown; what fitted is a lower bound.
        needed = len(content) if isinstance(content, bytes) else _size(temporary)
        raise write_error(error, path, needed) from error
    finally:
        with suppress(OSError):  # the folder itself may be gone
            temporary.unlink()


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk: a power cut may forget what was only written."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_error(error: OSError, path: Path, needed: int) -> MachineError:
    """The one line for a write that failed.

    Args:
        error: what the system said.
        path: what should have been written.
        needed: its size in bytes, or what is known of it.
    """
    if error.errno not in _DISK_FULL:
        return MachineError(f"{path}: cannot be written: {error.strerror or error}")
    free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
    needs = f"{needed:,} bytes or more are needed, {free:,} are free"
    return MachineError(f"{path}: the disk is full: {needs}; the old file is untouched")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
