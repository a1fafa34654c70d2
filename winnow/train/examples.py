"""What a run trains on and is measured with: images read, labels told to the person, rows divided."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from winnow.data.collection import Collection, load
from winnow.data.pixels import Backing, Pixels, blocks
from winnow.data.randomness import permutation, stream_key
from winnow.data.rows import as_classes
from winnow.data.source import Source, without_label
from winnow.data.views import Preprocessing, Views, on_device
from winnow.errors import InputError
from winnow.train.device import Device
from winnow.train.evaluate import TestSet
from winnow.train.progress import Progress

MAX_HELD_OUT = 1000


@dataclass(frozen=True)
class Examples:
    """The images of a source that could be read, and their labels.

    Attributes:
        source: where they come from.
        collection: their pixels, and what was set aside.
    """

    source: Source
    collection: Collection

    @property
    def labels(self) -> np.ndarray:
        """Given labels of the readable images, (n,) or (n, K)."""
        return self.source.noisy_labels[self.collection.rows]

    @property
    def verified(self) -> np.ndarray:
        """Rows of the collection whose given label a person has checked."""
        verified = self.source.verified
        return np.flatnonzero(verified[self.collection.rows]) if verified is not None else np.empty(0, dtype=np.int64)

    @property
    def mirror(self) -> bool:
        """Whether views may be mirrored: what the source says, else images in colour."""
        return self.source.may_mirror(self.collection.pixels.shape[3])

    def tell(self, progress: Progress) -> None:
        """What was found, in a line, and the remarks."""
        labels = self.labels
        parts = [f"{len(labels):,} images, {self.source.num_classes} classes"]
        if self.collection.quarantined:
            parts.append(f"{len(self.collection.quarantined):,} unreadable set aside (quarantine.parquet)")
        if self.source.is_multilabel:
            parts.append(f"{(labels == 1).sum() / max(1, len(labels)):.1f} classes an image")
            if (share := float((labels < 0).mean())) > 0:
                parts.append(f"{100 * share:.1f} % of the labels unknown")
        if (missing := int(without_label(labels).sum())) > 0:
            parts.append(f"{missing:,} without a label")
        if (verified := len(self.verified)) > 0:
            parts.append(f"{verified:,} verified")
        progress.understood("Data", "; ".join(parts))
        for note in (*self.source.notes, *self.collection.notes):
            progress.understood("Note", note)
        if len(np.unique(labels[labels >= 0])) == 1:
            same = "every known label is the same" if self.source.is_multilabel else "all labels are of one class"
            progress.warning(f"{same}: there is nothing to tell apart")

    def divided(self, share: float, seed: int, *, hold_out: bool) -> tuple[np.ndarray, np.ndarray]:
        """(Rows to train on, rows held out), ascending.

        Args:
            share: of the labelled images that is held out; less than ten are none.
            seed: of the run.
            hold_out: whether any are held out at all.

        Raises:
            InputError: no image has a label.
        """
        labelled = np.flatnonzero(~without_label(self.labels))
        if not len(labelled):
            raise InputError(f"{self.source.address}: none of its {len(self.labels):,} readable images has a label")
        wanted = min(MAX_HELD_OUT, math.floor(share * len(labelled)))
        if not hold_out or wanted < 10:
            return labelled, labelled[:0]
        order = permutation(stream_key(seed, "held out"), labelled)
        return np.sort(order[wanted:]), np.sort(order[:wanted])

    def fingerprint(self) -> str:
        """A hash of names, labels and pixels: a checkpoint belongs to them."""
        digest = blake2b(digest_size=16)
        digest.update("\n".join([*self.source.class_names, *self.source.ids]).encode("utf-8", "surrogateescape"))
        digest.update(self.source.noisy_labels.tobytes())
        checksum = 0
        for block in blocks(self.collection.pixels):
            checksum = zlib.crc32(np.ascontiguousarray(block).data, checksum)
        digest.update(checksum.to_bytes(4, "little"))
        return digest.hexdigest()


def views_of(pixels: Pixels, preprocessing: Preprocessing, seed: int, device: Device) -> Views:
    """Views of pixels on a device, if they fit there."""
    place = device.torch_device
    return Views(on_device(pixels, place), preprocessing, seed, place)


def read_test_set(
    source: Source,
    train: Source,
    preprocessing: Preprocessing,
    seed: int,
    device: Device,
    backing: Backing,
    progress: Progress,
) -> TestSet:
    """The labelled images of a test set, at the size that the network wants.

    Raises:
        InputError: it has other classes than the training source, or no labels.
    """
    if source.is_multilabel != train.is_multilabel:
        which = ("the test set", "the training set") if source.is_multilabel else ("the training set", "the test set")
        raise InputError(f"{source.address}: {which[0]} gives an image several classes, {which[1]} one")
    source = as_classes(source, train.class_names)
    collection = load(
        source,
        size=preprocessing.size,
        channels=preprocessing.channels,
        backing=backing,
        progress=lambda done, total: progress.stage("reading the test set", done, total),
    )
    labels = source.noisy_labels[collection.rows]
    labelled = ~without_label(labels)
    if collection.quarantined:
        progress.warning(f"{len(collection.quarantined):,} unreadable test images are left out")
    if not labelled.any():
        raise InputError(f"{source.address}: no test image has a label")
    views = views_of(collection.pixels, preprocessing, seed, device)
    if not labelled.all():
        views = views.part(np.flatnonzero(labelled))
    return TestSet(views, labels[labelled], device.autocast)
