"""Peak memory of a training, against the terms that it cannot do without, in a process of its own.

    excess = peak - (resident after imports + uint8 data + model and optimiser + activations of one batch)

* peak: the kernel's high-water mark of the process at the end of `fit`, with reading, training, the last survey and
  all that is written. Where the kernel tells it (VmHWM) it is taken from there: `getrusage` also counts what the
  process that started this one held.
* resident after imports: before the source is opened.
* data: computed, images x size x size x channels bytes, those of the test set included.
* model and optimiser: computed, everything that the method's `state_dict` holds, a gradient and a momentum for each
  trained parameter.
* activations: measured afterwards on one step of the same network with plain cross-entropy: the distinct storages
  that autograd keeps for the backward pass, parameters left out.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Finding

MEGABYTE = 1_000_000
ALLOWANCE = 200
EPOCHS = 2
TRAININGS = (("convnet", 10_000, 32, 3), ("mlp", 60_000, 28, 1))


def memory(trainings: tuple[tuple[str, int, int, int], ...] = TRAININGS) -> list[Finding]:
    """Every training in a fresh process."""
    findings = []
    for model, count, size, channels in trainings:
        with tempfile.TemporaryDirectory() as folder:
            terms = _in_a_process(model, _source(Path(folder), count, size, channels), count, Path(folder) / "run")
        needed = sum(terms[f"{part}_mb"] for part in ("imports", "data", "model_and_optimiser", "activations"))
        findings.append(
            Finding(
                f"peak above its terms, {model}, {count:,} images of {size}x{size}x{channels}",
                terms["peak_mb"] - needed,
                at_most=ALLOWANCE,
                unit="MB",
                details=terms,
            )
        )
    return findings


def _source(folder: Path, count: int, size: int, channels: int) -> str:
    if os.environ.get("WINNOW_DATA"):
        return "mnist" if channels == 1 else "cifar10n:worse"
    generator = np.random.default_rng(0)
    shape = (count, size, size) if channels == 1 else (count, size, size, channels)
    path = folder / "noise.npz"
    np.savez(path, x=generator.integers(0, 256, shape, dtype=np.uint8), y=generator.integers(0, 10, count))
    return str(path)


def _in_a_process(model: str, source: str, count: int, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", model, source, str(count), str(out)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def measured(model: str, source: str, count: int, out: Path) -> dict[str, Any]:
    """Trains, and gives the terms in megabytes; meant to run in a fresh process."""
    # What `fit` imports only when it needs it.
    import pyarrow.parquet  # noqa: F401
    import sklearn.metrics  # noqa: F401

    from winnow.data.open import open_source
    from winnow.train.fit import Settings, fit

    imports = status("VmRSS")
    settings = Settings(model=model, epochs=EPOCHS, validation=0.0, device="cpu", threads=1)
    run = fit(open_source(source, limit=count), settings, out)
    peak, by_getrusage = status("VmHWM"), _getrusage()
    summary = run.summary
    return {
        "peak_mb": peak,
        "imports_mb": imports,
        "data_mb": (count + summary["num_test"]) * summary["image_size"] ** 2 * _channels(model) / MEGABYTE,
        **_of_the_network(model, summary["settings"]["batch_size"]),
        "peak_by_getrusage_mb": by_getrusage,
        "method": summary["method"],
        "batch_size": summary["settings"]["batch_size"],
        "precision": summary["precision"],
        "epochs": EPOCHS,
    }


def _getrusage() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


def status(name: str) -> float:
    """A line of the kernel's status of this process, in megabytes; elsewhere the peak so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return _getrusage()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / MEGABYTE


def _channels(model: str) -> int:
    return {name: channels for name, _, _, channels in TRAININGS}[model]


def _of_the_network(model: str, batch: int) -> Mapping[str, float]:
    from dataclasses import replace

    from benchmarks.setting import CONVNET, MLP, Scale, Training
    from winnow.methods.winnow import Winnow

    case = replace({"convnet": CONVNET, "mlp": MLP}[model], batch=batch)
    scale = Scale(rounds=1, images=2 * batch)
    held = _bytes(Training(case, scale, Winnow).method.state_dict().values())
    training = Training(case, scale)
    trained = _bytes(p for p in training.method.parameters() if p.requires_grad)
    return {
        "model_and_optimiser_mb": (held + 2 * trained) / MEGABYTE,
        "activations_mb": kept_for_backward(training) / MEGABYTE,
    }


def kept_for_backward(training: Any) -> int:
    """Bytes that autograd holds at the end of one step's forward pass."""
    import torch

    storages: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in training.method.parameters()}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held.append(storage)  # else its address could be given to another one
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    trainer = training.trainer
    rows = np.arange(trainer.batch_size)
    images = trainer.views.view("weak", rows, 0, "train/0")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), trainer.device.autocast():
        torch.nn.functional.cross_entropy(training.method.classifier(images), trainer.noisy_labels[: len(rows)])
    return sum(storages.values())


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
