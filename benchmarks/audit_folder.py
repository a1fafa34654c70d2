"""A dirty folder of digits: what of its copies, outliers and broken files is found, and at what price.

    python -m benchmarks.audit_folder --seed 7
    python -m benchmarks.audit_folder --folder-only PATH     only builds the folder

1,797 digits of scikit-learn as PNG files of 64 x 64 pixels in folders named by a noisy label (20 % symmetric), 20 exact
copies, 20 near copies (brightness x 0.9, JPEG of quality 60), 20 cuts out of photographs and 5 broken files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import winnow
from benchmarks import record
from benchmarks.record import Finding
from winnow.audit.findings import KINDS

SIDE, SEED = 64, 7
NOISE_SEED, NOISE_RATE = 0, 0.2
PLANTED = 20
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


def build(folder: Path, seed: int = SEED) -> Truth:
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
    """One call of the audit with its defaults, compared with the truth; the source must be as it was."""
    before = _state(folder)
    start = sum(os.times()[:4])
    found = winnow.audit(folder)
    seconds = sum(os.times()[:4]) - start
    labels, findings = found.labels.to_pylist(), found.table.to_pylist()
    rows_of = {name: {row["id"] for row in findings if row["kind"] == name} for name in KINDS}
    readable = [row for row in labels if row["outlier_score"] is not None]

    groups = {row["id"]: row["duplicate_group"] for row in readable}
    pairs = truth.exact | truth.near
    together = {
        copy for copy, original in pairs.items() if groups[copy] is not None and groups[copy] == groups[original]
    }
    members: dict[int, set[str]] = {}
    for name, group in groups.items():
        if group is not None:
            members.setdefault(group, set()).add(name)
    planted = [set(pair) for pair in pairs.items()]
    false_groups = sum(those not in planted for those in members.values())
    foreign = np.array([row["id"] in truth.foreign for row in readable])
    score = np.array([row["outlier_score"] for row in readable])
    quarantine = pq.read_table(found.folder / "quarantine.parquet").to_pylist()
    set_aside = {row["id"]: row["code"] for row in quarantine}
    originals = [row for row in readable if row["id"] in truth.true_labels and row["id"] not in pairs]
    wrong = np.array([row["id"] in truth.wrong for row in originals])
    flagged = np.array(["wrong_label" in row["issues"] for row in originals])
    quality = np.array([row["label_quality"] for row in originals])
    odd_counts = {name: len(rows_of[name]) for name in KINDS[KINDS.index("blank") :] if rows_of[name]}
    page = (found.folder / "report.html").stat().st_size
    shutil.rmtree(found.folder)
    return [
        _found("broken files listed with their fault", len(set_aside.items() & truth.broken.items()), 5),
        _found("exact copies found, of 20", len(together & truth.exact.keys()), PLANTED),
        _found("near copies found, of 20", len(together & truth.near.keys()), PLANTED),
        Finding("groups of copies that were not planted", false_groups, at_most=0, unit="groups"),
        Finding("foreign pictures: AUROC of the score", float(roc_auc_score(foreign, score)), at_least=0.97, unit=""),
        Finding(
            "foreign pictures among the 20 of highest score",
            float(foreign[np.argsort(-score, kind="stable")[:PLANTED]].mean()),
            at_least=0.85,
            unit="",
        ),
        Finding("foreign pictures reported, of 20", len(rows_of["outlier"] & truth.foreign), unit="images"),
        Finding("others reported as outliers", len(rows_of["outlier"] - truth.foreign), unit="images"),
        Finding("wrong labels: F1 of the flags", float(f1_score(wrong, flagged)), at_least=0.95, unit=""),
        Finding("wrong labels: average precision", float(average_precision_score(wrong, 1 - quality)), unit=""),
        Finding("odd files reported", sum(odd_counts.values()), unit="images", details=odd_counts),
        Finding(
            "files of the source that changed", len(before.items() ^ _state(folder).items()), at_most=0, unit="files"
        ),
        Finding("size of the report", page / 1e6, at_most=5, unit="MB"),
        Finding("CPU time, decoding processes included", seconds, at_most=20, unit="s"),
    ]


def _state(folder: Path) -> dict[str, str]:
    """A hash of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


def _found(what: str, measured: int, wanted: int) -> Finding:
    return Finding(what, measured, at_least=wanted, unit="files")


def main(arguments: list[str] | None = None) -> int:
    """0 if every goal is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_folder", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED, help="of what is copied and cut; default 7")
    parser.add_argument("--folder-only", type=Path, metavar="PATH", help="only build the folder there")
    given = parser.parse_args(arguments)
    if given.folder_only:
        build(given.folder_only, given.seed)
        return 0
    with tempfile.TemporaryDirectory() as place:
        findings = judged(Path(place) / "digits", build(Path(place) / "digits", given.seed))
    if given.seed == SEED:
        record.write("audit-folder", findings, threads=torch.get_num_threads(), rounds=1)
    print("\n".join(record.table_lines(("folder", finding) for finding in findings)))
    return 1 if any(finding.met == "no" for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
