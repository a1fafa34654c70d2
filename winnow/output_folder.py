"""A folder that a command leaves behind: locked, probed, replaced only once something new has begun."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Self

from winnow.errors import InputError
from winnow.files import atomic_write, locked, write_error

_LOCK, _PROBE, _REPLACED = ".lock", ".probe", ".replaced"


class OutputFolder:
    """Opens a folder for something new and keeps every other process out of it until `close`.

    Args:
        path: the folder; made if it is not there.
        resume: go on with what it holds; an empty one starts.
        force: replace what it holds, once the new one has begun; until then nothing is lost.

    Attributes:
        mark: the file whose presence says that it holds such a thing, finished or not.
        what: what it holds, with its article, for messages.
        leftovers: what may be there before the mark is: of a process that was killed.
        go_on: what else can be done where one is there, for messages.

    Raises:
        InputError: it holds one already, or another process has it.
        MachineError: nothing can be written there.
    """

    mark: ClassVar[str]
    what: ClassVar[str]
    leftovers: ClassVar[frozenset[str]] = frozenset()
    go_on: ClassVar[str] = ""

    def __init__(self, path: Path, *, resume: bool = False, force: bool = False):
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file: name a folder as --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not self.is_there(path) and any(not self._is_leftover(entry) for entry in path.iterdir()):
                raise InputError(
                    f"{path} is neither empty nor {self.what}: name another --out; nothing in it was touched"
                )
            self._lock = locked(path / _LOCK, path, "--out")
            self._settle_replaced()
            there = self.is_there(path)
            if there and force and not resume:
                self._set_aside()
            elif there and not resume:
                self.close()
                raise InputError(
                    f"{path} holds {self.what} already: name another --out,{self.go_on} or replace it with --force"
                )
            probe = path / _PROBE
            probe.write_bytes(b"winnow")
            probe.unlink()
        except OSError as error:
            raise write_error(error, path, 0) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def is_there(cls, path: Path) -> bool:
        """Whether a folder holds one, finished or not."""
        return (path / cls.mark).is_file()

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
        if self.path.is_dir() and not self.is_there(self.path):
            for entry in filter(self._is_leftover, self.path.iterdir()):
                if entry.name != _REPLACED:
                    _remove(entry)
            self._settle_replaced()
            if not any(self.path.iterdir()):
                self.path.rmdir()
        self._lock.close()

    def _set_aside(self) -> None:
        """An earlier one makes room, and comes back unless a new one begins."""
        replaced = self.path / _REPLACED
        replaced.mkdir()
        # The mark goes last: until then the folder is the old one.
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name == self.mark):
            if entry.name not in (_LOCK, _REPLACED):
                entry.rename(replaced / entry.name)

    def _settle_replaced(self) -> None:
        """Takes an earlier one away if the new one has begun, else puts it back; also after a crash."""
        replaced = self.path / _REPLACED
        if not replaced.is_dir():
            return
        if not self.is_there(self.path) or not self.is_there(replaced):
            for entry in sorted(replaced.iterdir(), key=lambda entry: entry.name == self.mark):
                if (there := self.path / entry.name).exists():
                    _remove(there)
                entry.rename(there)
        _remove(replaced)

    def _is_leftover(self, entry: Path) -> bool:
        """Whether it is ours although there is no mark yet."""
        ours = {_LOCK, _PROBE, _REPLACED, *self.leftovers}
        return entry.name in ours or re.fullmatch(r"\.[0-9a-f]{16}\.tmp", entry.name) is not None


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
