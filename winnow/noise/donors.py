"""Foreign images: from another collection, or made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from PIL import Image, ImageFilter

from winnow.data.decode import Decoded
from winnow.data.pictures import ArrayPictures, EncodedPictures, JoinedPictures, StoredPictures
from winnow.data.randomness import uniforms
from winnow.data.source import Pictures, Source, Unreadable
from winnow.errors import InputError
from winnow.noise.channel import LabelNoise, noise_keys, normals

MADE = {
    "uniform": "images of uniform noise",
    "gaussian": "images of Gaussian noise",
    "blurred": "their own blurred copies",
}
_LOOKED_AT = 32
_GAUSSIAN = (127.5, 64.0)
_BLUR = 6
"""The blur's deviation is the picture's shorter side divided by this."""


def donor_rows(donors: Source, class_names: tuple[str, ...]) -> np.ndarray:
    """Images of another collection that are of none of some classes, by their class names, ascending.

    Case, blanks, underscores and hyphens make no difference. Unlabelled images are taken.

    Raises:
        InputError: there are none.
    """
    target = {_plain(name) for name in class_names}
    shared = np.array([_plain(name) in target for name in donors.class_names] + [False])
    labels = donors.noisy_labels
    clash = (labels * shared[:-1] > 0).any(axis=1) if donors.is_multilabel else shared[labels]
    rows = np.flatnonzero(~clash)
    if not len(rows):
        raise InputError(f"{donors.address}: every class there is a class here too; choose another --donor")
    return rows


def with_donors(noise: LabelNoise, source: Source, donors: Source) -> LabelNoise:
    """Noise whose foreign images are those of another collection.

    Where the source's pictures are pixels, or encoded and of one size, donors are brought to that size.

    Args:
        noise: of `open_set` or `web`, its `donor_rows` counting in `donors`.
        source: what the noise was made for.
        donors: only images that may be used.
    """
    assert noise.foreign is not None
    assert noise.donor_rows is not None
    if not noise.foreign.any():
        return noise
    own = cast(StoredPictures, source.pictures)
    foreign: Pictures = donors.pictures
    size = common_size(own)
    is_grey = isinstance(own, ArrayPictures) and own.array.ndim == 3
    if size is not None and (is_grey or common_size(foreign) != size):
        foreign = FittedPictures(foreign, size, is_grey)
    row = np.where(noise.foreign, noise.donor_rows, np.arange(len(source)))
    parts = (own, cast(StoredPictures, foreign))
    return replace(noise, pictures=JoinedPictures(parts, noise.foreign.astype(np.int64), row))


def with_made_donors(noise: LabelNoise, source: Source, kind: str) -> LabelNoise:
    """Noise whose foreign images are made, each of its original's size: see `MADE` for the kinds."""
    assert noise.foreign is not None
    if not noise.foreign.any():
        return noise
    own = cast(StoredPictures, source.pictures)
    made = MadePictures(own, kind, noise_keys(noise.seed, "pixels", source.ids), source.grey)
    parts = (own, cast(StoredPictures, made))
    return replace(noise, pictures=JoinedPictures(parts, noise.foreign.astype(np.int64), np.arange(len(source))))


def common_size(pictures: Pictures) -> tuple[int, int] | None:
    """Height and width of pictures that are pixels, or encoded and of one size in a sample; else None."""
    if isinstance(pictures, ArrayPictures):
        return pictures.array.shape[1], pictures.array.shape[2]
    if not isinstance(pictures, EncodedPictures):
        return None
    sizes = set()
    for row in np.unique(np.linspace(0, len(pictures) - 1, _LOOKED_AT).astype(int)).tolist():
        try:
            sizes.add(pictures.read(row).shape[:2])
        except Unreadable:
            continue
    return sizes.pop() if len(sizes) == 1 else None


@dataclass(frozen=True)
class FittedPictures:
    """The centres of other pictures, brought to one size.

    Attributes:
        pictures: the others.
        size: height and width.
        grey: whether to take their colour away.
    """

    pictures: Pictures
    size: tuple[int, int]
    grey: bool

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: np.ndarray) -> FittedPictures:
        """The pictures of some rows."""
        return replace(self, pictures=cast(StoredPictures, self.pictures).take(rows))

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        image = Image.fromarray(self.pictures.read(row))
        height, width = self.size
        scale = min(image.height / height, image.width / width)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, top, left + scale * width, top + scale * height)
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(image.convert("L").convert("RGB") if self.grey else image)

    def examine(self, row: int) -> Decoded:
        """The picture, without remarks."""
        return Decoded(self.read(row))


@dataclass(frozen=True)
class MadePictures:
    """Pictures of nothing, of the size of the originals.

    Attributes:
        originals: the pictures that they replace.
        kind: one of `MADE`.
        keys: of each picture's randomness, uint64 (N,).
        grey: whether to make them without colour.
    """

    originals: StoredPictures
    kind: str
    keys: np.ndarray
    grey: bool

    def __len__(self) -> int:
        return len(self.originals)

    def take(self, rows: np.ndarray) -> MadePictures:
        """The pictures of some rows."""
        return replace(self, originals=self.originals.take(rows), keys=self.keys[rows])

    def read(self, row: int) -> np.ndarray:
        """The picture as uint8 (height, width, 3)."""
        original = self.originals.read(row)
        height, width = original.shape[:2]
        if self.kind == "blurred":
            blur = ImageFilter.GaussianBlur(min(height, width) / _BLUR)
            return np.asarray(Image.fromarray(original).filter(blur))
        key, channels = int(self.keys[row]), 1 if self.grey else 3
        if self.kind == "gaussian":
            mean, deviation = _GAUSSIAN
            values = np.clip(mean + deviation * normals(key, height * width, channels), 0, 255)
        else:
            values = np.floor(uniforms(key, np.arange(height * width), channels) * 256)
        return np.broadcast_to(values.astype(np.uint8).reshape(height, width, -1), (height, width, 3)).copy()

    def examine(self, row: int) -> Decoded:
        """The picture, without remarks."""
        return Decoded(self.read(row))


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
