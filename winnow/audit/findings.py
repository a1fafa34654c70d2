"""What an audit found: beliefs about every label, findings on single images, sentences about the whole collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

KINDS = (
    "wrong_label",
    "conflicting_duplicate",
    "exact_duplicate",
    "near_duplicate",
    "outlier",
    "test_leak",
    "unreadable",
    "blank",
    "dark",
    "bright",
    "blurred",
    "odd_size",
    "odd_shape",
    "odd_mode",
    "odd_file",
)
"""Kinds of findings on single images, the most important first: an image with several is counted under the first."""


@dataclass(frozen=True)
class LabelBeliefs:
    """What is believed of every label of n images.

    Attributes:
        label_quality: probability that the given label is right, calibrated; NaN where it is missing or not judged.
        suggested_label: most probable class.
        suggested_probability: of that class.
        is_issue: whether the label is flagged as wrong; never where it is missing or verified.
        reasons: for a person, by row; only for flagged labels.
        joint: estimated number of images, entry (i, j) = given label i, true label j.
        transition_matrix: entry (i, j) = P(noisy = j given clean = i); row i is NaN where no label names class i.
        noise_rate: estimated share of wrong labels among the labelled.
        noise_rate_interval: of 95 %.
        precision: estimated share of the flagged labels that are wrong; NaN if none is flagged.
    """

    label_quality: Float[np.ndarray, " n"]
    suggested_label: Int[np.ndarray, " n"]
    suggested_probability: Float[np.ndarray, " n"]
    is_issue: Bool[np.ndarray, " n"]
    reasons: Mapping[int, str]
    joint: Float[np.ndarray, "classes classes"]
    transition_matrix: Float[np.ndarray, "classes classes"]
    noise_rate: float
    noise_rate_interval: tuple[float, float]
    precision: float


@dataclass(frozen=True)
class Found:
    """Images with one kind of finding, the worst first.

    Attributes:
        kind: one of `KINDS`.
        rows: the images.
        probability: that the finding is true; NaN where it is a fact, such as equal bytes, or where there is only a
            `similarity`.
        reasons: one sentence an image, without its name.
        others: another image that each is about (the copy; for `test_leak` a row of the test set), -1 = none; None
            where the kind knows no other image.
        similarity: of near copies: 1 alike in every pixel, 0 as unlike as unrelated neighbours in the collection; NaN
            for a fact, None where nothing is a matter of likeness. It is no probability: whether look-alikes are
            copies or the same thing seen twice depends on how the pictures were made.
    """

    kind: str
    rows: Int[np.ndarray, " m"]
    probability: Float[np.ndarray, " m"]
    reasons: Sequence[str]
    others: Int[np.ndarray, " m"] | None = None
    similarity: Float[np.ndarray, " m"] | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Remark:
    """A finding about the collection as a whole.

    Attributes:
        kind: such as `class_imbalance`, `order_effect`, `weak_slice`, `merged_classes`.
        sentence: for a person, with its numbers and their intervals.
        numbers: the same for a program.
    """

    kind: str
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
