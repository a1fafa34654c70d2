"""Checkpoints: atomic, checksummed, without pickle; the last two are kept.

A checkpoint is a folder `NNNNNNNNN/` with `tensors.safetensors`, `state.json` and `manifest.json` (SHA-256 of the
other two, written last). It appears under its name in one rename, after everything in it is on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from winnow.errors import InputError
from winnow.files import sync, write_error
from winnow.labels.memory import Damaged, Memory

SCHEMA_VERSION = 1
KEPT = 2
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


class Checkpoints:
    """The checkpoints of one run, with the per-sample memory that belongs to them.

    Args:
        folder: where they lie.
        memory: restored together with them.
        identity: what a checkpoint must have in common with the run that loads it (data fingerprint, configuration).
    """

    def __init__(self, folder: Path, memory: Memory, identity: dict[str, str]):
        self.folder = folder
        self.memory = memory
        self.identity = identity

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Writes a checkpoint and drops all but the last two.

        Raises:
            MachineError: the disk is full or the folder is gone; earlier checkpoints are intact.
        """
        numbers = self.numbers()
        number = numbers[-1] + 1 if numbers else 0
        final = self.folder / f"{number:09d}"
        partial = self.folder / f".{number:09d}.partial"
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        try:
            self.memory.flush()
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial / _TENSORS)
            content = {
                **state,
                "schema_version": SCHEMA_VERSION,
                "identity": self.identity,
                "rows": self.memory.checksums(),
            }
            (partial / _STATE).write_text(json.dumps(content))
            manifest = {name: _digest(partial / name) for name in (_TENSORS, _STATE)}
            (partial / _MANIFEST).write_text(json.dumps(manifest))
            for name in (_TENSORS, _STATE, _MANIFEST):
                sync(partial / name)
            os.replace(partial, final)
            sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            cause = error if isinstance(error, OSError) else OSError(_os_error_number(error), str(error))
            raise write_error(cause, final, size) from error
        old = [n for n in numbers if n <= number - KEPT]
        self.memory.begin_log(number, keep=number - KEPT + 1)
        for n in old:
            shutil.rmtree(self.folder / f"{n:09d}", ignore_errors=True)

    def numbers(self) -> list[int]:
        """Checkpoints that are there, oldest first, good or not."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
        """The newest good checkpoint, the memory put back to it.

        Returns:
            Its tensors, its state, and a sentence for every damaged checkpoint that was passed over.

        Raises:
            InputError: there is no good one, or it belongs to other data, other settings or a newer version.
        """
        warnings: list[str] = []
        for number in reversed(self.numbers()):
            path = self.folder / f"{number:09d}"
            try:
                tensors, state = self._read(path)
                self.memory.restore(number, state["rows"])
            except Damaged as damage:
                warnings.append(str(damage))
                continue
            for later in self.numbers():
                if later > number:
                    shutil.rmtree(self.folder / f"{later:09d}")
            return tensors, state, [f"{warning}; falling back to the checkpoint before it" for warning in warnings]
        detail = "; ".join(warnings) or "there is none"
        raise InputError(f"{self.folder}: no usable checkpoint ({detail}); train anew with --force")

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            for name in (_TENSORS, _STATE):
                if manifest.get(name) != _digest(path / name):
                    raise Damaged(f"{path / name}: checksum differs, the file is damaged")
            state = json.loads((path / _STATE).read_text())
        except OSError as error:
            raise Damaged(f"{error.filename}: {error.strerror}") from error
        except (ValueError, AttributeError) as error:
            raise Damaged(f"{path / _MANIFEST}: not readable, the checkpoint is damaged") from error
        version = state.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path}: written by another version of winnow (schema {version}, this one reads {SCHEMA_VERSION})"
            )
        for what, value in self.identity.items():
            if state["identity"].get(what) != value:
                raise InputError(f"{path}: made with other {what}; resume with the same, or train anew with --force")
        try:
            return load_file(path / _TENSORS), state
        except SafetensorError as error:
            raise Damaged(f"{path / _TENSORS}: {error}") from error


def flattened(prefix: str, tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Splits nested dictionaries and lists into named tensors, collected in `tensors`, and plain JSON, returned."""
    if isinstance(tree, Tensor):
        tensors[prefix] = tree
        return {"__tensor__": prefix}
    if isinstance(tree, dict):
        return {str(key): flattened(f"{prefix}/{key}", value, tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [flattened(f"{prefix}/{i}", value, tensors) for i, value in enumerate(tree)]
    return tree


def restored(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `flattened`; keys of dictionaries come back as text, tuples as lists."""
    if isinstance(tree, dict):
        if "__tensor__" in tree:
            return tensors[tree["__tensor__"]]
        return {key: restored(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [restored(value, tensors) for value in tree]
    return tree


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _os_error_number(error: Exception) -> int:
    import errno

    # safetensors wraps the system's error in a text of its own.
    return errno.ENOSPC if "No space left" in str(error) or "os error 28" in str(error) else errno.EIO
