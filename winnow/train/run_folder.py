"""The folder of one run: locked, probed, and left as the design says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from winnow.errors import InputError
from winnow.files import atomic_write, locked, write_error

_CONFIG, _METRICS, _SUMMARY, _LOCK, _PROBE = "config.toml", "metrics.jsonl", "summary.json", ".lock", ".probe"
_REPLACED = ".replaced"


class RunFolder:
    """Opens a folder for a run and keeps every other process out of it.

    Args:
        path: the folder; made if it is not there.
        resume: go on with what it holds; an empty one starts.
        force: replace what it holds, once the new run has begun; until then nothing is lost.

    Raises:
        InputError: it holds a run already, or another process has it.
        MachineError: nothing can be written there.
    """

    def __init__(self, path: Path, *, resume: bool = False, force: bool = False):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not self.is_run(path) and any(not _is_leftover(entry) for entry in path.iterdir()):
                raise InputError(f"{path} is neither empty nor a run: name another --out; nothing in it was touched")
            self._lock = locked(path / _LOCK, path, "--out")
            self._settle_replaced()
            there = self.is_run(path)
            if there and force and not resume:
                self._set_aside()
            elif there and not resume:
                self.close()
                raise InputError(
                    f"{path} holds a run already: name another --out, go on with --resume, or replace it with --force"
                )
            probe = path / _PROBE
            probe.write_bytes(b"winnow")
            probe.unlink()
        except OSError as error:
            raise write_error(error, path, 0) from error

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether a folder holds a run, finished or not."""
        return (path / _CONFIG).is_file()

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

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self._made("checkpoint")

    @property
    def memory(self) -> Path:
        """Where per-sample memory lies."""
        return self._made("checkpoint/rows")

    def forget_memory(self) -> None:
        """Takes away the per-sample memory of a start that never came to a checkpoint."""
        for leftover in self.memory.iterdir():
            leftover.unlink()

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / _SUMMARY).is_file()

    def read_config(self) -> dict[str, Any] | None:
        """The configuration of the run that is here, if one is."""
        import tomllib

        if not self.is_run(self.path):
            return None
        try:
            config = tomllib.loads((self.path / _CONFIG).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise InputError(f"{self.path / _CONFIG}: not readable: {error}") from error
        if config.get("schema_version") != 1:
            raise InputError(f"{self.path / _CONFIG}: written by another version of winnow")
        return config

    def write_config(self, config: dict[str, Any]) -> None:
        """Writes the resolved configuration."""
        atomic_write(self.path / _CONFIG, to_toml(config).encode())
        self._settle_replaced()

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        """Replaces the lines of all epochs: after going back to a checkpoint, which has them too."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        atomic_write(self.path / _METRICS, text.encode())

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Adds an epoch's line. It is not synced: should it be cut, the checkpoint brings it back."""
        path = self.path / _METRICS
        text = json.dumps(line) + "\n"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise write_error(error, path, len(text)) from error

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file."""
        atomic_write(self.path / name, (json.dumps(content, indent=1) + "\n").encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes the summary: the mark of a finished run, so it comes last."""
        self.write_json(_SUMMARY, summary)

    def read_summary(self) -> dict[str, Any]:
        """The summary of a finished run."""
        result: dict[str, Any] = json.loads((self.path / _SUMMARY).read_text())
        return result

    def close(self) -> None:
        """Lets other processes in; where no run came to be the folder is as before: an earlier run, or away."""
        if self.path.is_dir() and not self.is_run(self.path):
            for entry in filter(_is_leftover, self.path.iterdir()):
                if entry.name != _REPLACED:
                    _remove(entry)
            self._settle_replaced()
            if not any(self.path.iterdir()):
                self.path.rmdir()
        self._lock.close()

    def _made(self, name: str) -> Path:
        path = self.path / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, path, 0) from error
        return path

    def _set_aside(self) -> None:
        """An earlier run makes room, and comes back unless a new one begins."""
        replaced = self.path / _REPLACED
        replaced.mkdir()
        # The configuration goes last: until then the folder is that of the old run.
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name == _CONFIG):
            if entry.name not in (_LOCK, _REPLACED):
                entry.rename(replaced / entry.name)

    def _settle_replaced(self) -> None:
        """Takes an earlier run away if the new one has begun, else puts it back; also after a crash."""
        replaced = self.path / _REPLACED
        if not replaced.is_dir():
            return
        if not self.is_run(self.path) or not self.is_run(replaced):
            for entry in sorted(replaced.iterdir(), key=lambda entry: entry.name == _CONFIG):
                if (there := self.path / entry.name).exists():
                    _remove(there)
                entry.rename(there)
        _remove(replaced)


def _is_leftover(entry: Path) -> bool:
    """Whether it is ours although there is no run yet: a process was killed before it wrote the configuration."""
    ours = {_LOCK, _PROBE, _REPLACED, "checkpoint", "quarantine.parquet"}
    return entry.name in ours or re.fullmatch(r"\.[0-9a-f]{16}\.tmp", entry.name) is not None


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def to_toml(config: dict[str, Any]) -> str:
    """Flat values and one level of tables as TOML; None is left out."""
    plain = [
        f"{key} = {_toml_value(value)}"
        for key, value in config.items()
        if not isinstance(value, dict) and value is not None
    ]
    tables = []
    for key, table in config.items():
        if isinstance(table, dict):
            rows = [f"{k} = {_toml_value(v)}" for k, v in table.items() if v is not None]
            tables.append("\n".join([f"\n[{key}]", *rows]))
    return "\n".join([*plain, *tables]) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    # A JSON string is a TOML basic string, but for the delete character.
    return json.dumps(str(value)).replace("\x7f", "\\u007f")
