"""The blind check: images drawn at random among those that nothing is said against, for a person to look at.

Mistakes that everyone makes alike cannot be seen in the data. A random sample bounds them: of 60 images without one
wrong label, fewer than 5 % of all are wrong at 95 %.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from winnow.data.randomness import stream_key, text_keys
from winnow.errors import InputError
from winnow.files import atomic_write
from winnow.noise.intervals import clopper_pearson

COLUMNS = ("id", "given_label", "label")


@dataclass(frozen=True)
class BlindCheck:
    """What a person found in the sample.

    Attributes:
        checked: images that were given a label by the person.
        wrong: of those, how many had another one.
        low, high: interval of 95 % (Clopper-Pearson) of the share wrong among the images not flagged; with none
            wrong, `high` is one-sided.
    """

    checked: int
    wrong: int
    low: float
    high: float


def drawn(candidates: np.ndarray, ids: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Rows of a random sample, in order: a function of the images' names and the seed.

    Args:
        candidates: rows that may be drawn.
        ids: names of all images.
        count: how many; at most all.
        seed: another one gives another sample.
    """
    keys = text_keys(stream_key(seed, "audit/blind"), [ids[row] for row in candidates.tolist()])
    return np.sort(candidates[np.argsort(keys, kind="stable")[:count]])


def write_sample(path: Path, rows: np.ndarray, ids: Sequence[str], given: Sequence[str]) -> None:
    """A .csv whose column `label` a person fills in; `--verified` reads it back.

    Args:
        path: where to.
        rows: the sample.
        ids: names of all images.
        given: class names of the sample's labels, in its order.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((ids[row], name, "") for row, name in zip(rows.tolist(), given, strict=True))
    atomic_write(path, text.getvalue().encode())


def read_check(path: Path) -> BlindCheck | None:
    """What was found in a sample that has been filled in; None if the file is no sample of ours.

    Raises:
        InputError: nobody has filled in a label.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            return None
        answers = [(row["given_label"], (row["label"] or "").strip()) for row in reader]
    filled = [(given, label) for given, label in answers if label]
    if not filled:
        raise InputError(f"{path}: no label is filled in; write the right class of each image into the column 'label'")
    wrong = sum(given != label for given, label in filled)
    return BlindCheck(len(filled), wrong, *share_interval(wrong, len(filled)))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Clopper-Pearson interval of a share, of 95 %; one-sided where `count` is 0 or `total`."""
    if count == 0:
        return 0.0, float(1 - 0.05 ** (1 / total))
    if count == total:
        return float(0.05 ** (1 / total)), 1.0
    return clopper_pearson(count, total)
