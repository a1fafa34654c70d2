"""The self-check: reads pictures, trains, saves, goes on, predicts, and compares with what must come out."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from winnow.errors import WinnowError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_HOW: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}
_LOSSY = {"JPEG", "AVIF"}
_LARGEST_ERROR = 12
"""Grey levels that a lossy format may be off by, for a picture of large even areas; measured 1 to 3."""
_EPOCHS = 4
_LEAST_ACCURACY = 0.6
"""On the digits' test images after that many epochs; chance is 0.1, measured 0.9."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: what was tried.
        ok: whether the right thing came out.
        detail: what came out, in a few words.
        seconds: how long it took.
    """

    name: str
    ok: bool
    detail: str
    seconds: float


class Failed(Exception):
    """Something else came out than must."""


def run_checks(devices: Sequence[str]) -> Iterator[Check]:
    """Every check in turn; one that fails does not keep the others from being tried."""
    yield _tried("pictures", pictures_come_back)
    with tempfile.TemporaryDirectory(prefix="winnow-doctor-") as folder:
        for device in devices:
            run = Path(folder) / device.replace(":", "-")
            yield _tried(f"train, {device}", partial(training_learns, run, device))
            yield _tried(f"resume, {device}", partial(checkpoint_brings_the_run_back, run))
            yield _tried(f"predict, {device}", partial(predictions_agree, run, device))


def pictures_come_back() -> str:
    """Writes a picture in every format and reads it with winnow's decoder."""
    from winnow.data.decode import decode

    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:12, :20], pixels[:12, 20:], pixels[12:, :20] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    for kind in FORMATS:
        buffer = io.BytesIO()
        try:
            Image.fromarray(pixels).save(buffer, kind, **_HOW.get(kind, {}))
            found = decode(buffer.getvalue())
        except Exception as error:  # whatever a codec's absence looks like
            raise Failed(f"{kind}: {error}") from error
        if found.shape != pixels.shape:
            raise Failed(f"{kind}: came back as {found.shape}")
        # Colours run over edges between areas in lossy formats: only their middles must be right.
        middles = (slice(4, None, 12), slice(8, None, 20))
        off = abs(found[middles].astype(int) - pixels[middles]) if kind in _LOSSY else abs(found.astype(int) - pixels)
        if off.max() > (_LARGEST_ERROR if kind in _LOSSY else 0):
            raise Failed(f"{kind}: off by {off.max()} grey levels")
    return f"{len(FORMATS)} formats read back"


def training_learns(run: Path, device: str) -> str:
    """Trains a few epochs on digits into a run folder."""
    from winnow.data.open import open_source
    from winnow.train.fit import Settings, fit

    settings = Settings(method="cross-entropy", epochs=_EPOCHS, device=device, validation=0)
    summary = fit(open_source("digits"), settings, run).summary
    accuracy = summary["test_accuracy_last"]
    if not accuracy >= _LEAST_ACCURACY:
        raise Failed(f"{100 * accuracy:.1f} % of the digits right, {100 * _LEAST_ACCURACY:.0f} % at least must be")
    return f"{_EPOCHS} epochs of digits, {100 * accuracy:.1f} % right"


def checkpoint_brings_the_run_back(run: Path) -> str:
    """Takes away what the finished run wrote, so that its last checkpoint has to bring it back."""
    import json

    from winnow.data.open import open_source
    from winnow.train.fit import Settings, fit

    files = ("model.safetensors", "labels.parquet")
    config = _train_settings(run)
    before = [_hash(run / name) for name in files]
    for name in (*files, "summary.json"):
        (run / name).unlink()
    fit(open_source("digits"), Settings(**config), run, resume=True)
    if [_hash(run / name) for name in files] != before:
        raise Failed("the resumed run has other weights or labels than the first one")
    epochs = len((run / "metrics.jsonl").read_text().splitlines())
    if epochs != json.loads((run / "summary.json").read_text())["epochs"]:
        raise Failed(f"{epochs} epochs on record after resuming")
    return "weights and labels came back bit for bit"


def predictions_agree(run: Path, device: str) -> str:
    """Loads the model from its files; its accuracy must be the one of the run, and near the CPU's probabilities."""
    import json

    from winnow.data.open import open_source
    from winnow.train.device import Device
    from winnow.train.predictor import Predictor

    test = open_source("digits:test")
    chosen = Device.choose(device)
    found = Predictor.load(run).predict(test, chosen)
    accuracy = found.agreement(test, test.class_names)
    expected = json.loads((run / "summary.json").read_text())["test_accuracy_last"]
    if accuracy is None or abs(accuracy - expected) > 1e-9:
        raise Failed(f"accuracy {accuracy} from the files, {expected} in the run")
    plain = Predictor.load(run).predict(test, replace(Device.choose("cpu"), precision="float32"))
    off = float(abs(found.probs - plain.probs).max())
    # bf16 has 8 bits of mantissa: probabilities near 0.5 can differ in the second digit.
    if off > (0.1 if chosen.precision == "bf16" else 1e-3):
        raise Failed(f"probabilities differ from the CPU's by {off:.3g}")
    return f"{len(found.rows)} digits, within {off:.1g} of float32"


def _tried(name: str, attempt: Callable[[], str]) -> Check:
    started = time.monotonic()
    try:
        ok, detail = True, attempt()
    except (Failed, WinnowError) as error:
        ok, detail = False, str(error)
    except Exception as error:  # the point is to find out what does not work, whatever it raises
        ok, detail = False, f"{type(error).__name__}: {error}"
    return Check(name, ok, " ".join(detail.split()), time.monotonic() - started)


def _train_settings(run: Path) -> dict[str, Any]:
    import tomllib

    config: dict[str, Any] = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["train"]
    return config


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
