"""A folder that a command leaves behind: locked, probed, replaced only once something new has begun."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Self

from winnow.errors import InputError
from winnow.files import atomic_write, locked, write_error

_LOCK, _PROBE = ".lock", ".probe"
_REPLACED, _RESTORED, _DISCARDED = ".replaced", ".restored", ".discarded"
"""Folders for an earlier one: set aside, on its way back, on its way out."""


class OutputFolder:
    """Opens a folder for something new and keeps every other process out of it until `close`.

    Args:
        path: the folder; made if it is not there.
        resume: go on with what it holds; an empty one starts.
        force: replace the one that it holds, once the new one has its mark; until then nothing is lost. What others put
            there stays.

    Attributes:
        mark: the file whose presence says that it holds such a thing, together with `first`.
        first: what is written before everything else, if it is not the mark: `files` without it may be anyone's.
        what: what it holds, with its article, for messages.
        files: names of the files and folders that it consists of; nothing else is ever replaced.
        leftovers: those that may be there before the mark is: of a process that was killed.
        go_on: what else can be done where one is there, for messages.

    Raises:
        InputError: it holds one already, or another process has it.
        MachineError: nothing can be written there.
    """

    mark: ClassVar[str]
    first: ClassVar[str] = ""
    what: ClassVar[str]
    files: ClassVar[frozenset[str]]
    leftovers: ClassVar[frozenset[str]] = frozenset()
    go_on: ClassVar[str] = ""

    def __init__(self, path: Path, *, resume: bool = False, force: bool = False):
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file: name a folder as --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not self._is_for_us():
                raise InputError(
                    f"{path} is neither empty nor {self.what}: name another --out; nothing in it was touched"
                )
            self._lock = locked(path / _LOCK, path, "--out")
            try:
                self._make_room(resume, force)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise write_error(error, path, 0) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        self.close()

    def _is_for_us(self) -> bool:
        """Whether there is nothing in the folder, or one of ours: whole, set aside, or begun."""
        entries = list(self.path.iterdir())
        interrupted = any(entry.name in (_REPLACED, _RESTORED) for entry in entries)
        return interrupted or self.is_there(self.path) or all(map(self._is_leftover, entries))

    @classmethod
    def is_there(cls, path: Path) -> bool:
        """Whether a folder holds one."""
        return all((path / name).is_file() for name in (cls.mark, cls.first) if name)

    @classmethod
    def next_free(cls, parent: Path, stem: str) -> Path:
        """The first of STEM, STEM-2, STEM-3, ... in `parent` that is not there; it is made at once."""
        number = 1
        while True:
            path = parent / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                number += 1
            except OSError as error:
                raise write_error(error, path, 0) from error
            else:
                return path

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file."""
        atomic_write(self.path / name, (json.dumps(content, indent=1) + "\n").encode())

    def settle(self) -> None:
        """To be called once the mark is written: what it replaces goes."""
        self._settle_replaced()

    def close(self) -> None:
        """Lets other processes in; where nothing came to be the folder is as before: an earlier one, or away."""
        if self.path.is_dir():
            self._settle_replaced()
            if not self.is_there(self.path):
                self._clear()
                (self.path / _LOCK).unlink(missing_ok=True)
                if not any(self.path.iterdir()):
                    self.path.rmdir()
        self._lock.close()

    def _make_room(self, resume: bool, force: bool) -> None:
        """Refuses an earlier one or sets it aside, and tries whether anything can be written."""
        self._settle_replaced()
        if not self.is_there(self.path):
            self._clear()
        elif not resume:
            if not force:
                raise InputError(
                    f"{self.path} holds {self.what} already: name another --out,{self.go_on} or replace it with --force"
                )
            self._set_aside()
        probe = self.path / _PROBE
        probe.write_bytes(b"winnow")
        probe.unlink()

    def _set_aside(self) -> None:
        """An earlier one makes room, and comes back unless a new one begins."""
        replaced = self.path / _REPLACED
        replaced.mkdir()
        # The mark goes last: until then the folder is the old one.
        for entry in self._mark_last(self.path):
            if entry.name in self.files or _is_temporary(entry):
                entry.rename(replaced / entry.name)

    def _settle_replaced(self) -> None:
        """Takes an earlier one away if the new one has its mark, else puts it back; also after a crash in between."""
        replaced, restored, discarded = (self.path / name for name in (_REPLACED, _RESTORED, _DISCARDED))
        if replaced.is_dir():
            is_whole = self.is_there(replaced)  # else it was not all set aside, and nothing new is here
            if is_whole and self.is_there(self.path):
                replaced.rename(discarded)
            else:
                if is_whole:
                    self._clear()
                replaced.rename(restored)
        if restored.is_dir():
            for entry in self._mark_last(restored):
                entry.rename(self.path / entry.name)
            restored.rmdir()
        if discarded.is_dir():
            _remove(discarded)

    def _clear(self) -> None:
        """Takes away what was written of one that did not come to be."""
        ours = [entry for entry in self.path.iterdir() if self._is_leftover(entry)]
        for entry in sorted(ours, key=lambda entry: entry.name == self.first):
            if entry.name not in (_LOCK, _REPLACED, _RESTORED, _DISCARDED):
                _remove(entry)

    def _mark_last(self, folder: Path) -> list[Path]:
        return sorted(folder.iterdir(), key=lambda entry: entry.name == self.mark)

    def _is_leftover(self, entry: Path) -> bool:
        """Whether it is ours although there is no mark yet."""
        ours = {_LOCK, _PROBE, _REPLACED, _RESTORED, _DISCARDED, *self.leftovers}
        begun = bool(self.first) and (self.path / self.first).is_file()
        return entry.name in ours or (begun and entry.name in self.files) or _is_temporary(entry)


def _is_temporary(entry: Path) -> bool:
    """Whether it is what `atomic_write` leaves where its process is killed."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.tmp", entry.name) is not None


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
