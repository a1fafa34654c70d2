"""Where and how exactly numbers are computed: device, precision, threads."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from winnow.errors import UsageError
from winnow.train.cores import cores


@dataclass(frozen=True)
class Device:
    """A device with the arithmetic used on it.

    Attributes:
        torch_device: where tensors live.
        precision: `bf16` (autocast over float32 weights) or `float32`.
        threads: of the CPU's arithmetic. Sums change with it, so that 'the same bits' holds for one count.
    """

    torch_device: torch.device
    precision: str
    threads: int

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto", threads: int | None = None) -> Device:
        """The device asked for, or the best there is; precision from its arithmetic, which is read, not timed.

        Args:
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, ...
            precision: `auto`, `bf16` or `float32`.
            threads: by default OMP_NUM_THREADS, else half of the cores that this process may use.

        Raises:
            UsageError: there is no such device or precision, or a launcher started several processes.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError(
                "training over several processes is not supported yet: start one, without torchrun or launch"
            )
        if precision not in ("auto", "bf16", "float32"):
            raise UsageError(f"--precision must be auto, bf16 or float32, got {precision!r}")
        chosen = _find(device)
        if precision == "auto":
            precision = "bf16" if _has_bf16(chosen) else "float32"
        if threads is None:
            threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // 2))
        if threads < 1:
            raise UsageError(f"--threads must be at least 1, got {threads}")
        return cls(chosen, precision, threads)

    def autocast(self) -> AbstractContextManager:
        """The context in which networks run."""
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.torch_device.type == "cpu" else ""
        return f"{self.torch_device} {self.precision}{threads}"


def _find(device: str) -> torch.device:
    if device == "auto":
        if not torch.accelerator.is_available():
            return torch.device("cpu")
        from accelerate import PartialState

        return PartialState().device
    try:
        chosen = torch.device(device)
    except RuntimeError as error:  # its message lists every name that PyTorch has ever given
        raise UsageError(f"--device {device}: no such device (auto, cpu, cuda, cuda:1, mps, ...)") from error
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {device}: not available here ({reason})") from error
    return chosen


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
