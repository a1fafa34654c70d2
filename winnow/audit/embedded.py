"""What an audit sees of n pictures, and the file that keeps it for the next time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int

from winnow.data.pixels import Pixels, blocks
from winnow.files import atomic_write

_FORMAT = 2
"""Counted up whenever the same settings give other features: what older versions kept is then not taken."""


@dataclass(frozen=True)
class ByHeart:
    """How often a network names the given label of an image whose label it learnt, and of one whose label it did not.

    Were nothing known by heart, both would be equal: which labels are learnt is drawn by lot.

    Attributes:
        learnt: share of (agreements, images) among those learnt,
        held_back: among the others; at least one image.
    """

    learnt: tuple[int, int]
    held_back: tuple[int, int]

    @property
    def share(self) -> float:
        """Of the labels, by how much more they agree where they were learnt; at least 0."""
        return max(0.0, self.learnt[0] / self.learnt[1] - self.held_back[0] / self.held_back[1])

    @property
    def deviation(self) -> float:
        """Standard error of that; two imagined images more, one of which agrees, keep it above 0."""
        rates = [((agree + 1) / (number + 2), number) for agree, number in (self.learnt, self.held_back)]
        return float(sum(rate * (1 - rate) / number for rate, number in rates) ** 0.5)


@dataclass(frozen=True)
class Embedding:
    """Numbers in place of n pictures.

    Attributes:
        features: near each other (by the cosine) where the pictures look alike; float32.
        probs: class probabilities by networks that have not seen the picture's label; float32; where an image may have
            several classes, of each. None where no network is innocent of it.
        memory: probability that the given label is right as a network saw it while it learnt, in [0, 1]; NaN where no
            label was learnt. None without a training, or where an image may have several classes.
        description: where the numbers come from, a sentence without a full stop.
        by_heart: what a network that learnt these labels knows by heart; None where none learnt them.
    """

    features: Float[np.ndarray, "n dim"]
    probs: Float[np.ndarray, "n classes"] | None
    memory: Float[np.ndarray, " n"] | None
    description: str
    by_heart: ByHeart | None = None


def content_key(
    pixels: Pixels, labels: Int[np.ndarray, "n *classes"], num_classes: int, settings: Mapping[str, Any]
) -> str:
    """A name for the embedding of these pixels and labels under these settings, 32 hexadecimal digits.

    Args:
        pixels: of the pictures, in order; their names play no part.
        labels: as given.
        num_classes: K.
        settings: everything else that the numbers depend on, as JSON can write it.
    """
    head = {"format": _FORMAT, "classes": num_classes, "pictures": list(pixels.shape), **settings}
    digest = blake2b(json.dumps(head, sort_keys=True).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(labels, dtype=np.int64).data)
    for block in blocks(pixels):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def keep(embedding: Embedding, path: Path) -> None:
    """Writes an embedding to a file, atomically.

    Raises:
        MachineError: the disk is full or the place cannot be written.
    """
    arrays = {name: getattr(embedding, name) for name in ("features", "probs", "memory")}
    if embedding.by_heart is not None:
        arrays["by_heart"] = np.array([embedding.by_heart.learnt, embedding.by_heart.held_back])
    there = {name: values for name, values in arrays.items() if values is not None}

    def write(file: BinaryIO) -> None:
        np.savez(file, description=np.array(embedding.description), **there)

    atomic_write(path, write)


def kept(path: Path, num_pictures: int) -> Embedding | None:
    """The embedding of a file; None where there is none, or none that can be read."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        counts = found.get("by_heart")
        embedding = Embedding(
            found["features"],
            found.get("probs"),
            found.get("memory"),
            str(found["description"].item()),
            None if counts is None else ByHeart(*(tuple(pair) for pair in counts.tolist())),
        )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return embedding if len(embedding.features) == num_pictures else None
