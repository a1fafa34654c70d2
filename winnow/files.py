"""Writing files so that a reader sees the old one or the new one, never a mixture; keeping other writers out."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from winnow.errors import InputError, MachineError

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
    # NumPy tells a write that was cut short without an errno.
    if error.errno not in _DISK_FULL and not re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        return MachineError(f"{path}: cannot be written: {error.strerror or error}")
    free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
    needs = f"{needed:,} bytes or more are needed, {free:,} are free"
    return MachineError(f"{path}: the disk is full: {needs}; the old file is untouched")


def locked(lock_path: Path, path: Path, other: str) -> TextIO:
    """Keeps other processes out until the file that is returned is closed, or this process ends.

    Args:
        lock_path: the lock's file; made if it is not there. Its owner may take it away.
        path: what is locked, for the message.
        other: what to name instead, for the message.

    Raises:
        InputError: another process has it; the message says which.
    """
    lock = lock_path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not lock_path.exists() or not os.path.samestat(os.fstat(lock.fileno()), lock_path.stat()):
            raise BlockingIOError  # its owner was taking it away at this moment
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise InputError(f"{path} is in use by {owner}: wait for it, or name another {other}") from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
