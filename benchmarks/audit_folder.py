"""A dirty folder of digits: what of its copies, outliers and broken files is found, and at what price.

    python -m benchmarks.audit_folder --seed 7
    python -m benchmarks.audit_folder --folder-only PATH     only builds the folder

1,797 digits of scikit-learn as PNG files of 64 x 64 pixels in folders named by a noisy label (20 % symmetric), 20 exact
copies, 20 near copies (brightness x 0.9, JPEG of quality 60), 20 cuts out of photographs and 5 broken files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import roc_auc_score

from benchmarks import record
from benchmarks.record import Finding
from winnow.audit.copies import find_copies
from winnow.audit.odd_files import find_odd
from winnow.audit.outliers import find_outliers
from winnow.data.collection import load
from winnow.data.open import open_source
from winnow.functional.hashing import scaled
from winnow.functional.neighbours import neighbours

SIDE = 64
NOISE_SEED, NOISE_RATE = 0, 0.2
PLANTED = 20
NEIGHBOURS = 25
BROKEN = {
    "empty.png": "empty",
    "half.png": "truncated",
    "text.jpg": "not-an-image",
    "header.png": "truncated",
    "page.jpg": "not-an-image",
}
"""Broken files and the fault that each must be reported with."""


@dataclass(frozen=True)
class Truth:
    """What is wrong with the folder; files are named by their path in it.

    Attributes:
        true_labels: the digit of each file that shows one, copies included.
        wrong: files among the original 1,797 that lie in another digit's folder.
        exact: copies and what they are copies of.
        near: the same of near copies.
        foreign: cuts out of photographs.
        broken: files without a picture, with the code of their fault.
    """

    true_labels: dict[str, int]
    wrong: frozenset[str]
    exact: dict[str, str]
    near: dict[str, str]
    foreign: frozenset[str]
    broken: dict[str, str]


def build(folder: Path, seed: int = 7) -> Truth:
    """Writes the folder, which must not exist or be empty.

    Args:
        folder: where.
        seed: of what is copied and cut.
    """
    images, labels = load_digits(return_X_y=True)
    given = noisy(labels)
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
    names = [f"{label}/{row:04d}.png" for row, label in enumerate(given)]
    pictures = [enlarged(image) for image in images]
    for name, picture in zip(names, pictures, strict=True):
        picture.save(folder / name)
    random = np.random.default_rng(seed)
    picked = random.choice(len(names), 2 * PLANTED, replace=False).tolist()
    exact = {f"{given[row]}/copy{row:04d}.png": names[row] for row in picked[:PLANTED]}
    near = {f"{given[row]}/near{row:04d}.jpg": names[row] for row in picked[PLANTED:]}
    for copy, original in exact.items():
        shutil.copyfile(folder / original, folder / copy)
    for copy, row in zip(near, picked[PLANTED:], strict=True):
        darker = (np.asarray(pictures[row]) * 0.9).astype(np.uint8)
        Image.fromarray(darker).save(folder / copy, quality=60)
    foreign = [f"{random.integers(10)}/foreign{place:02d}.png" for place in range(PLANTED)]
    for name, cut in zip(foreign, cuts(random), strict=True):
        Image.fromarray(cut).save(folder / name)
    broken = {f"{digit}/{name}": code for digit, (name, code) in enumerate(BROKEN.items())}
    for name, content in zip(broken, broken_contents(pictures[0]), strict=True):
        (folder / name).write_bytes(content)
    true_labels = dict(zip(names, labels.tolist(), strict=True))
    true_labels |= {copy: true_labels[original] for copy, original in (exact | near).items()}
    wrong = frozenset(name for name, label, other in zip(names, labels, given, strict=True) if label != other)
    return Truth(true_labels, wrong, exact, near, frozenset(foreign), broken)


def noisy(labels: np.ndarray) -> np.ndarray:
    """The labels with a fifth of them moved to another digit, all others being as likely."""
    random = np.random.default_rng(NOISE_SEED)
    count = round(NOISE_RATE * len(labels))
    moved = random.choice(len(labels), count, replace=False)
    given = labels.copy()
    given[moved] = (labels[moved] + random.integers(1, 10, count)) % 10
    return given


def enlarged(image: np.ndarray) -> Image.Image:
    """A digit of levels 0 to 16, (64,), as a picture."""
    grey = np.rint(image.reshape(8, 8) * 255 / 16).astype(np.uint8)
    return Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")


def cuts(random: np.random.Generator) -> Iterable[np.ndarray]:
    """Squares out of scikit-learn's two photographs, in turn."""
    photographs = load_sample_images().images
    for place in range(PLANTED):
        photograph = photographs[place % 2]
        top, left = (int(random.integers(length - SIDE + 1)) for length in photograph.shape[:2])
        yield photograph[top : top + SIDE, left : left + SIDE]


def broken_contents(picture: Image.Image) -> list[bytes]:
    """Nothing, half a PNG, text, the beginning of a PNG, and a page: in the order of `BROKEN`."""
    file = BytesIO()
    picture.save(file, "PNG")
    whole = file.getvalue()
    return [b"", whole[: len(whole) // 2], b"no picture\n", whole[:40], b"<!doctype html><title>404</title>"]


def judged(folder: Path, truth: Truth) -> list[Finding]:
    """Looks through the folder and compares with the truth; broken files, copies and outliers have goals."""
    start = time.process_time()
    source = open_source(folder)
    collection = load(source)
    names = [source.ids[row] for row in collection.rows]
    copies = find_copies(
        collection.pixels, source.noisy_labels[collection.rows], facts=collection.facts, mirrored=False
    )
    thumbnails = scaled(collection.images, 16).reshape(len(names), -1) / 255
    graph = neighbours(thumbnails, NEIGHBOURS, metric="cosine")
    outliers = find_outliers(graph, collection.pixels)
    odd = find_odd(collection)
    seconds = time.process_time() - start

    pairs = truth.exact | truth.near
    groups = dict(zip(names, copies.group.tolist(), strict=True))
    together = {copy for copy, original in pairs.items() if groups[copy] == groups[original] >= 0}
    members: dict[int, set[str]] = {}
    for name, group in groups.items():
        members.setdefault(group, set()).add(name)
    planted = [set(pair) for pair in pairs.items()]
    false_groups = sum(group >= 0 and those not in planted for group, those in members.items())
    foreign = np.array([name in truth.foreign for name in names])
    highest = foreign[np.argsort(-outliers.score, kind="stable")[:PLANTED]]
    flagged = foreign[outliers.found.rows]
    set_aside = {item.id: item.code for item in collection.quarantined}
    odd_counts = {found.kind: len(found) for found in odd}
    return [
        _found("broken files listed with their fault", len(set_aside.items() & truth.broken.items()), 5),
        _found("exact copies found, of 20", len(together & truth.exact.keys()), PLANTED),
        _found("near copies found, of 20", len(together & truth.near.keys()), PLANTED),
        Finding("groups of copies that were not planted", false_groups, at_most=0, unit="groups"),
        Finding("foreign pictures: AUROC of the score", roc_auc_score(foreign, outliers.score), at_least=0.97, unit=""),
        Finding("foreign pictures among the 20 of highest score", float(highest.mean()), at_least=0.85, unit=""),
        Finding("foreign pictures reported, of 20", int(flagged.sum()), unit="images"),
        Finding("others reported as outliers", int((~flagged).sum()), unit="images"),
        Finding("odd files reported", sum(odd_counts.values()), unit="images", details=odd_counts),
        Finding("CPU time of this process", seconds, at_most=20, unit="s"),
    ]


def _found(what: str, measured: int, wanted: int) -> Finding:
    return Finding(what, measured, at_least=wanted, unit="files")


def main(arguments: list[str] | None = None) -> int:
    """0 if every goal is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_folder", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=7, help="of what is copied and cut; default 7")
    parser.add_argument("--folder-only", type=Path, metavar="PATH", help="only build the folder there")
    given = parser.parse_args(arguments)
    if given.folder_only:
        build(given.folder_only, given.seed)
        return 0
    with tempfile.TemporaryDirectory() as place:
        findings = judged(Path(place) / "digits", build(Path(place) / "digits", given.seed))
    print("\n".join(record.table_lines(("folder", finding) for finding in findings)))
    return 1 if any(finding.met == "no" for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
