"""The folder of one run: left as the design says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from winnow.errors import InputError
from winnow.files import atomic_write, write_error
from winnow.output_folder import OutputFolder

_CONFIG, _METRICS, _SUMMARY = "config.toml", "metrics.jsonl", "summary.json"


class RunFolder(OutputFolder):
    """The folder of a run; see `OutputFolder`."""

    mark = _CONFIG
    what = "a run"
    files = frozenset(
        {
            _CONFIG,
            _METRICS,
            _SUMMARY,
            "checkpoint",
            "diagnosis.json",
            "labels.parquet",
            "model.json",
            "model.safetensors",
            "quarantine.parquet",
            "report.html",
            "tensorboard",
        }
    )
    leftovers = frozenset({"checkpoint", "quarantine.parquet"})
    go_on = " go on with --resume,"

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

        if not self.is_there(self.path):
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
        self.settle()

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

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes the summary: the mark of a finished run, so it comes last."""
        self.write_json(_SUMMARY, summary)

    def read_summary(self) -> dict[str, Any]:
        """The summary of a finished run."""
        result: dict[str, Any] = json.loads((self.path / _SUMMARY).read_text())
        return result

    def _made(self, name: str) -> Path:
        path = self.path / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, path, 0) from error
        return path


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
