"""Fetching a published file: checked against its known checksum before anyone sees it."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from winnow.errors import MachineError
from winnow.files import atomic_write, write_error

LARGEST = 512 * 2**20
_PATIENCE = 30.0  # seconds without a byte
_LONGEST = 3600.0
_BLOCK = 2**20


def fetch(url: str, target: Path, md5: str, *, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Download a file into place; what is there is either the whole right file or nothing.

    A download that broke off begins anew.

    Args:
        url: its address.
        target: where it goes; missing folders are made.
        md5: what its content must have: the published one, against damage and mix-ups.
        progress: hears the file's name, bytes done and bytes in all (0 where the server does not say).

    Raises:
        MachineError: the network or the disk failed, or the content is another one.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, target.parent, 0) from error
    try:
        response = urllib.request.urlopen(url, timeout=_PATIENCE)
    except (OSError, HTTPException, ValueError) as error:
        raise _failed(url, error) from error
    with response:
        atomic_write(target, lambda file: _receive(response, file, url, target, md5, progress))


def _receive(
    response: BinaryIO,
    file: BinaryIO,
    url: str,
    target: Path,
    md5: str,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    total = int(getattr(response, "headers", {}).get("Content-Length") or 0)
    digest = hashlib.md5(usedforsecurity=False)
    done, deadline = 0, time.monotonic() + _LONGEST
    while block := _block(response, url):
        done += len(block)
        if done > LARGEST or time.monotonic() > deadline:
            raise MachineError(f"{url}: more than {LARGEST:,} bytes or an hour; nothing was kept")
        digest.update(block)
        file.write(block)
        if progress is not None:
            progress(f"fetching {target.name}", done, total)
    if done < total:
        raise MachineError(f"{url}: broke off after {done:,} of {total:,} bytes; nothing was kept, try again")
    if digest.hexdigest() != md5:
        raise MachineError(
            f"{url}: its checksum is {digest.hexdigest()}, not {md5}: another file, or damaged; nothing was kept"
        )


def _block(response: BinaryIO, url: str) -> bytes:
    # Apart from writing, so that a lost connection is not taken for a full disk.
    try:
        return response.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise _failed(url, error) from error


def _failed(url: str, error: Exception) -> MachineError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answers {error.code} {error.reason}"
    return MachineError(f"{url}: cannot be fetched ({reason}); try again, or bring the file here by other means")
