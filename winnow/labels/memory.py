"""Per-sample memory that resumes with the checkpoint it belongs to.

Rows live in memory-mapped files; before a row changes for the first time after a checkpoint, its old value goes to an
undo log. Going back to a checkpoint plays the logs backwards. So a checkpoint costs nothing per row, and a process
killed at any instant leaves either the old row, or the new row together with its undo entry.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from winnow.errors import MachineError

_FRAME = struct.Struct("<IHIII")  # magic, length of the name, entries, bytes a row, checksum
_MAGIC = 0x574E4F57


class Damaged(Exception):
    """Stored state that cannot be trusted; the message says what is wrong with which file."""


class Rows:
    """An array with one row a sample, (N, width) or (N,), read and written by index.

    Made by `Memory.rows`; `values` is the whole array, for passes over the collection (do not write to it).
    """

    def __init__(self, name: str, values: np.ndarray, memory: Memory):
        self.name = name
        self.values = values
        self._memory = memory
        self.logged = np.zeros(len(values), dtype=bool)

    def read(self, indices: Tensor) -> Tensor:
        """Rows of `indices` (B,), on the device of `indices`, in the stored precision."""
        return torch.from_numpy(self.values[indices.cpu().numpy()]).to(indices.device)

    def write(self, indices: Tensor, values: Tensor) -> None:
        """Stores `values` (B, width) or (B,) in the rows `indices`, rounded to the stored precision.

        Where an index stands twice the last of its values stays.
        """
        self._put(indices.cpu().numpy(), values.detach().cpu().numpy())

    def replace(self, values: np.ndarray) -> None:
        """Stores every row at once, (N, width) or (N,)."""
        self._put(np.arange(len(self.values)), values)

    def _put(self, rows: np.ndarray, values: np.ndarray) -> None:
        fresh = np.unique(rows[~self.logged[rows]])
        if len(fresh):
            self._memory.log(self, fresh)
            self.logged[fresh] = True
        self.values[rows] = values


class Memory:
    """All the rows of one run.

    Args:
        num_samples: N.
        folder: where the rows live; None keeps them in memory, without an undo log.
    """

    def __init__(self, num_samples: int, folder: Path | None = None):
        self.num_samples = num_samples
        self.folder = folder
        self._rows: dict[str, Rows] = {}
        self._log: int | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def rows(self, name: str, width: int = 0, dtype: str = "float16", fill: float = 0) -> Rows:
        """Per-sample memory called `name`: (N, width), or (N,) at width 0, every entry `fill` at first.

        Args:
            name: unique within the run.
            width: columns; 0 for one value a sample.
            dtype: of numpy.
            fill: the value before anything is written.
        """
        if name in self._rows:
            raise ValueError(f"two per-sample memories are called {name!r}")
        shape = (self.num_samples, width) if width else (self.num_samples,)
        values: np.ndarray
        if self.folder is None or self.num_samples == 0:
            values = np.full(shape, fill, dtype=dtype)
        else:
            values = self._mapped(self.folder / f"{name}.rows", shape, np.dtype(dtype), fill)
        self._rows[name] = Rows(name, values, self)
        return self._rows[name]

    @staticmethod
    def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype, fill: float) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        if not path.exists() or path.stat().st_size != size:
            partial = path.with_suffix(".partial")
            try:
                created = np.memmap(partial, dtype=dtype, mode="w+", shape=shape)
                created[:] = fill
                created.flush()
                # A sparse file would fail with a bus error later, in the middle of training.
                with partial.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise MachineError(
                    f"{path}: {size:,} bytes of per-sample memory do not fit: {error.strerror}"
                ) from error
            os.replace(partial, path)
        return np.memmap(path, dtype=dtype, mode="r+", shape=shape)

    def log(self, rows: Rows, indices: np.ndarray) -> None:
        """Appends the present values of some rows to the undo log of the last checkpoint."""
        if self._log is None:
            return
        payload = indices.astype("<i8").tobytes() + np.ascontiguousarray(rows.values[indices]).tobytes()
        name = rows.name.encode()
        width = rows.values.nbytes // max(1, self.num_samples)
        frame = _FRAME.pack(_MAGIC, len(name), len(indices), width, zlib.crc32(payload)) + name + payload
        written = os.write(self._log, frame)
        if written != len(frame):
            raise MachineError(f"{self.folder}: disk full, the undo log needs {len(frame) - written:,} bytes more")

    def checksums(self) -> dict[str, int]:
        """CRC-32 of each memory, to be stored with a checkpoint."""
        return {name: zlib.crc32(np.ascontiguousarray(rows.values).data) for name, rows in self._rows.items()}

    def begin_log(self, checkpoint: int, keep: int) -> None:
        """Starts the undo log of a checkpoint that is now on disk; logs before checkpoint `keep` are dropped."""
        if self.folder is None:
            return
        self._close_log()
        path = self._log_path(checkpoint)
        self._log = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o644)
        for rows in self._rows.values():
            rows.logged[:] = False
        for number in self._log_numbers():
            if number < keep:
                self._log_path(number).unlink()

    def flush(self) -> None:
        """Brings the rows to the disk; a checkpoint that names them comes after."""
        for rows in self._rows.values():
            if isinstance(rows.values, np.memmap):
                rows.values.flush()

    def restore(self, checkpoint: int, checksums: dict[str, int]) -> None:
        """Puts every row back to what it was at a checkpoint.

        Raises:
            Damaged: the rows do not have the checkpoint's checksums afterwards.
        """
        if self.folder is None:
            return
        self._close_log()
        for number in sorted(self._log_numbers(), reverse=True):
            if number >= checkpoint:
                self._undo(self._log_path(number))
        damaged = sorted(name for name, value in self.checksums().items() if checksums.get(name) != value)
        if damaged:
            raise Damaged(f"{self.folder}: per-sample memory {', '.join(damaged)} does not match its checkpoint")
        self.flush()
        for number in self._log_numbers():
            if number > checkpoint:
                self._log_path(number).unlink()
        self.begin_log(checkpoint, keep=0)

    def _undo(self, path: Path) -> None:
        data = path.read_bytes()
        frames = []
        position = 0
        while position + _FRAME.size <= len(data):
            magic, name_length, count, width, checksum = _FRAME.unpack_from(data, position)
            start = position + _FRAME.size + name_length
            end = start + count * (8 + width)
            # A torn last frame is harmless: its rows had not been touched yet.
            if magic != _MAGIC or end > len(data) or zlib.crc32(data[start:end]) != checksum:
                break
            frames.append((data[position + _FRAME.size : start].decode(), count, start, end))
            position = end
        for name, count, start, end in reversed(frames):
            values = self._rows[name].values
            indices = np.frombuffer(data, dtype="<i8", count=count, offset=start)
            old = np.frombuffer(data[start + 8 * count : end], dtype=values.dtype)
            values[indices] = old.reshape((count, *values.shape[1:]))

    def _log_path(self, checkpoint: int) -> Path:
        assert self.folder is not None
        return self.folder / f"undo-{checkpoint:09d}.log"

    def _log_numbers(self) -> list[int]:
        assert self.folder is not None
        return [int(path.stem.removeprefix("undo-")) for path in self.folder.glob("undo-*.log")]

    def _close_log(self) -> None:
        if self._log is not None:
            os.close(self._log)
            self._log = None
