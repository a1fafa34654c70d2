"""A source: names, labels and where the pictures are. It reads and names, never repairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from winnow.labels.truth import CleanLabels

UNLABELLED = -1


class Unreadable(Exception):
    """One picture that cannot be used.

    Args:
        code: the fault's stable name, such as `empty` or `truncated`.
        reason: the same for a person, without the picture's name.
    """

    def __init__(self, code: str, reason: str):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


def first_line(error: Exception) -> str:
    """What a library's error says, in one line for our own message."""
    return (str(error) or type(error).__name__).splitlines()[0]


def without_label(labels: np.ndarray) -> np.ndarray:
    """Which images have no label at all, boolean (N,), from labels (N,) or (N, K)."""
    missing = labels < 0
    return np.asarray(missing.all(axis=1) if labels.ndim == 2 else missing)


@runtime_checkable
class Pictures(Protocol):
    """Pictures by row, decoded on demand."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3).

        Raises:
            Unreadable: it cannot be used.
        """
        ...


@dataclass(frozen=True)
class Source:
    """A collection of images with labels, in a fixed order.

    Attributes:
        address: what the user typed to name it.
        ids: one stable name an image.
        class_names: in index order.
        noisy_labels: class indices as annotated, int64 (N,), -1 where a label is missing; or, if an image may have
            several classes, int8 (N, K): 1 present, 0 absent, -1 unknown.
        pictures: the images.
        clean_labels: the truth where a column of it was named; evaluation only.
        verified: which given labels a person has checked, boolean (N,); None where nobody has.
        grey: whether every picture is grey by nature (digits), so that one channel is enough.
        mirror: whether a mirrored picture keeps its class; None leaves it to the default (colour: yes).
        test: opens the test set that a built-in brings along.
        notes: remarks for the person: sentences about what was found and how it was read.
        label_column: where the noisy labels were read, if the source has named columns.
        clean_label_column: where the truth was read.
        test_address: what opens the test set that belongs to it.
        other_labels: reads further label columns as class indices, for copies of the data; never to train on.
        opened: the arguments of `open_source`, but for its defaults, that open these images once more; None where it
            cannot, as they were put together otherwise.
    """

    address: str
    ids: Sequence[str]
    class_names: tuple[str, ...]
    noisy_labels: np.ndarray
    pictures: Pictures
    clean_labels: CleanLabels | None = None
    verified: np.ndarray | None = None
    grey: bool = False
    mirror: bool | None = None
    test: Callable[[], Source] | None = None
    notes: tuple[str, ...] = field(default=())
    label_column: str | None = None
    clean_label_column: str | None = None
    test_address: str | None = None
    other_labels: Callable[[], Mapping[str, np.ndarray]] | None = None
    opened: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        """Number of classes, empty ones included."""
        return len(self.class_names)

    @property
    def is_multilabel(self) -> bool:
        """Whether an image may have several classes, or none."""
        return self.noisy_labels.ndim == 2

    @property
    def unlabelled(self) -> np.ndarray:
        """Which images have no label at all, boolean (N,)."""
        return without_label(self.noisy_labels)

    def may_mirror(self, channels: int) -> bool:
        """Whether a mirrored picture keeps its class: what is known of the collection, else so for colour.

        Args:
            channels: of the decoded pictures, 1 or 3.
        """
        return channels == 3 if self.mirror is None else self.mirror
