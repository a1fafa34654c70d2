"""Reading collections: goal P16, a folder of 50,000 files, and training from disk.

The folder and the training are measured once, in wall time: they are what a person waits for.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.ratio import ROUNDS, alternated
from benchmarks.record import Finding
from benchmarks.setting import CONVNET, Scale, Training, data
from winnow.data.collection import load
from winnow.data.decode import Limits, examine
from winnow.data.open import open_source
from winnow.data.pixels import Backing, FilePixels
from winnow.data.source import Source
from winnow.data.views import Preprocessing, Views
from winnow.train.fit import Settings, fit

MEGABYTE = 1_000_000


def p16(rounds: int = ROUNDS, count: int = 1000) -> list[Finding]:
    """Our guarded decoding of 32 x 32 JPEG files against Pillow's alone, one thread."""
    files = jpeg_files(count)
    limits = Limits()

    def ours() -> None:
        for content in files:
            examine(content, limits)

    findings = []
    for what, goal, decode in (
        ("Pillow, converted to RGB as usual", 5.0, lambda data: np.asarray(Image.open(BytesIO(data)).convert("RGB"))),
        ("Pillow, not converted", None, lambda data: np.asarray(Image.open(BytesIO(data)))),
    ):

        def pillow(decode: Callable[[bytes], np.ndarray] = decode) -> None:
            for content in files:
                decode(content)

        ratio = alternated(pillow, ours, rounds)
        rates = {"Pillow": count / median(ratio.first), "ours": count / median(ratio.second)}
        findings.append(Finding.of(f"{what} / our decoding, JPEG 32x32", ratio, at_least=goal, images_per_cpu_s=rates))
    return findings


def jpeg_files(count: int) -> list[bytes]:
    """CIFAR-10's test images as they are stored if WINNOW_DATA is set, else smooth noise."""
    folder = os.environ.get("WINNOW_DATA")
    if folder:
        batch = next(pq.ParquetFile(Path(folder) / "cifar10_test.parquet").iter_batches(count, columns=["image"]))
        images = batch.column(0).to_pylist()
        return [image["bytes"] if isinstance(image, dict) else image for image in images]
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [_encoded(Image.fromarray(image).resize((32, 32)), "JPEG") for image in small]


def reading(files: int = 50_000) -> list[Finding]:
    """A folder of small files: opened, then decoded; and the same number of pictures from one table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoded = jpeg_files(min(files, 1000))
        for number in range(files):
            place = folder / f"class {number % 10}"
            if number < 10:
                place.mkdir()
            (place / f"{number:06d}.jpg").write_bytes(encoded[number % len(encoded)])
        opened, source = _timed(lambda: open_source(folder))
        loaded, _ = _timed(lambda: load(source))
    return [
        Finding(f"a folder of {files:,} files, opened", opened, at_most=10, unit="s"),
        Finding(
            f"a folder of {files:,} JPEG files 32x32, read and decoded",
            files / loaded,
            unit="images/s",
            details={"wall_s": loaded, "start_of_a_worker_s": _start_of_a_worker()},
        ),
    ]


def streaming(
    scale: Scale, images: int = 1000, epochs: int = 4, counts: tuple[int, int] = (5000, 40_000)
) -> list[Finding]:
    """Training from disk against training from memory, and memory by the size of the collection.

    The ratio is one of CPU times, as the speed goals. A slow source, with a pause before each picture, is trained on in
    wall time: its fastest epoch against the fastest one from memory, and how often it is asked for each picture.
    """
    with tempfile.TemporaryDirectory() as folder:
        from_disk, from_memory = Training(CONVNET, scale), Training(CONVNET, scale)
        stored = FilePixels(Path(folder), (CONVNET.size, CONVNET.size, CONVNET.channels))
        stored.append(data(CONVNET, scale.images)[0])
        from_disk.trainer.views = replace(from_disk.trainer.views, pixels=stored)
        ratio = alternated(from_disk, from_memory, scale.rounds)
    slow = _Made(images, 0.002)
    here, there = _epochs(_Made(images), epochs, False), _epochs(slow, epochs, True)
    peaks = [_peak(count) for count in counts]
    return [
        Finding.of(f"steps from disk / from memory, {CONVNET}", ratio, at_most=1.1),
        Finding(
            f"epoch from disk of a source with {1000 * slow.pause:g} ms a picture / from memory",
            min(there) / min(here),
            at_most=1.1,
            details={"from_memory_s": here, "from_disk_s": there},
        ),
        Finding(f"times that each picture is read in {epochs} epochs", slow.reads / images, at_most=1, unit=""),
        Finding(
            f"rise of peak memory, {counts[1]:,} against {counts[0]:,} images of 64x64x3",
            peaks[1] - peaks[0],
            at_most=50,
            unit="MB",
            details={
                "peaks_mb": dict(zip(map(str, counts), peaks, strict=True)),
                "decoded_mb": [count * 64 * 64 * 3 / MEGABYTE for count in counts],
            },
        ),
    ]


class _Made:
    """Pictures that are made as they are asked for, each as a file's content after a pause."""

    limits = Limits()

    def __init__(self, count: int, pause: float = 0.0):
        self.count = count
        self.pause = pause
        self.reads = 0
        generator = np.random.default_rng(0)
        small = generator.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
        self.files = [_encoded(Image.fromarray(image).resize((64, 64)), "JPEG") for image in small]

    def __len__(self) -> int:
        return self.count

    def encoded(self, row: int) -> bytes:
        time.sleep(self.pause)
        self.reads += 1
        return self.files[row % len(self.files)]

    def read(self, row: int) -> np.ndarray:
        return examine(self.encoded(row), self.limits).pixels


def _source(pictures: _Made) -> Source:
    labels = np.arange(len(pictures)) % 10
    names = tuple(str(number) for number in range(10))
    return Source("made", [f"{row:06d}" for row in range(len(pictures))], names, labels, pictures)


def _epochs(pictures: _Made, epochs: int, stream: bool) -> list[float]:
    """Wall seconds of each epoch."""
    settings = Settings(
        method="cross-entropy", model="convnet", epochs=epochs, device="cpu", threads=1, validation=0.0, stream=stream
    )
    with tempfile.TemporaryDirectory() as folder:
        run = fit(_source(pictures), settings, Path(folder) / "run")
        lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    ends = [json.loads(line)["seconds"] for line in lines]
    return [after - before for before, after in pairwise([0.0, *ends])]


def _peak(count: int) -> float:
    """By how many megabytes anonymous memory rises while a collection is decoded to disk and gone through once."""
    peak = 0.0

    def look(*_: int) -> None:
        nonlocal peak
        peak = max(peak, _anonymous())

    with tempfile.TemporaryDirectory() as folder:
        look()
        before = peak
        found = load(_source(_Made(count)), backing=Backing(True, Path(folder)), progress=look)
        views = Views(found.pixels, Preprocessing.of(found.pixels, True), 0, torch.device("cpu"))
        for start in range(0, count, 64):
            views.view("weak", np.arange(start, min(count, start + 64)), 0, "")
            look()
    return peak - before


def _anonymous() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) * 1024 / MEGABYTE


def _start_of_a_worker() -> float:
    from winnow.data.workers import Worker

    seconds, worker = _timed(Worker)
    worker.end()
    return seconds


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = do()
    return time.perf_counter() - started, result


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, quality=90)
    return buffer.getvalue()
