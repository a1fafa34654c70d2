"""The results file: one JSON line a finished cell, which survives whatever happens to the process that writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from winnow.errors import InputError
from winnow.files import atomic_write, locked, sync, write_error

Record = dict[str, Any]


class Results:
    """Opens a results file for one runner; every other one is kept out.

    A record has `key`, and either `result` or, for a cell that failed, `error`. Of several records of one key the last
    one counts. A last line that was cut off is taken away; `notes` tells it.

    Args:
        path: the file; made if it is not there.

    Raises:
        InputError: another process has it, or a line that is not the last one is damaged.
        MachineError: it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self.notes: list[str] = []
        self._records: dict[str, Record] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locked(path.with_name(f".{path.name}.lock"), path, "file")
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            except OSError:
                self._lock.close()
                raise
        except OSError as error:
            raise write_error(error, path, 0) from error
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        """The records that count, in the order of their first lines."""
        return iter(list(self._records.values()))

    def get(self, key: str) -> Record | None:
        """The record of a cell, finished or failed."""
        return self._records.get(key)

    def done(self, key: str) -> bool:
        """Whether a cell is finished; one that failed is not."""
        return "result" in self._records.get(key, {})

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line and brings it to the disk: a power cut afterwards loses nothing.

        Raises:
            MachineError: the disk is full, or the file cannot be written; it is as it was before.
        """
        line = _line(record)
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):  # the next start takes the torn line away
                os.ftruncate(self._file, before)
            raise write_error(error, self.path, len(line)) from error
        self._records[str(record["key"])] = dict(record)

    def settle(self, order: Sequence[str]) -> None:
        """Puts the lines in order once all cells are there, so that the file does not tell how often it was begun.

        Args:
            order: keys of the grid. Lines of other keys come first, as they stand; of each key one line remains.

        Raises:
            MachineError: the file cannot be written; it is as it was before.
        """
        ours = dict.fromkeys(key for key in order if key in self._records)
        others = [key for key in self._records if key not in ours]
        ordered = {key: self._records[key] for key in (*others, *ours)}
        content = b"".join(map(_line, ordered.values()))
        if content != self.path.read_bytes():
            atomic_write(self.path, content)
            os.close(self._file)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        self._records = ordered

    def close(self) -> None:
        """Lets other processes in; a file without a line, and its folder if nothing else is in it, go again."""
        if self._file < 0:
            return
        empty = not os.fstat(self._file).st_size
        os.close(self._file)
        self._file = -1
        if empty:
            with suppress(OSError):
                self.path.unlink()
                Path(self._lock.name).unlink()
                self.path.parent.rmdir()
        self._lock.close()

    def _read(self) -> None:
        with open(self._file, "rb", closefd=False) as file:
            content = file.read()
        records, whole, damage = _parsed(content, self.path)
        if damage:
            try:
                os.ftruncate(self._file, whole)
                if whole and not content[:whole].endswith(b"\n"):
                    os.write(self._file, b"\n")
                os.fsync(self._file)
                sync(self.path.parent)
            except OSError as error:
                raise write_error(error, self.path, 0) from error
            if whole < len(content):
                self.notes.append(f"{self.path}: the last line was cut off; it is taken away, and its cell runs again")
        self._records = {record["key"]: record for record in records}


def read_records(path: Path) -> list[Record]:
    """The records that count of a results file, in the order of their first lines; nothing is locked or repaired.

    Raises:
        InputError: there is no such file, or a line that is not the last one is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return list({record["key"]: record for record in _parsed(content, path)[0]}.values())


def _parsed(content: bytes, path: Path) -> tuple[list[Record], int, bool]:
    """The records, the length of the part that is whole, and whether anything follows or a line break is missing."""
    records: list[Record] = []
    start = 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("key"), str):
                raise ValueError("no key")
        except ValueError:
            if number == len(lines):
                return records, start, True
            raise InputError(
                f"{path} line {number}: not a line of results; take it away, or name another file"
            ) from None
        records.append(record)
        start += len(line)
    return records, start, bool(content) and not content.endswith(b"\n")


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
