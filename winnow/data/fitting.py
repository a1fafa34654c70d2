"""From a picture of any size to the square that is kept of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

DEFAULT_SIZE = 64
_SMALLEST = 8


@dataclass(frozen=True)
class Fitting:
    """What to keep of a picture.

    Attributes:
        size: side of the square in pixels; None keeps small pictures whole and scales others to 64.
        grey: turn colour into grey.
        one_channel: look whether a picture is grey, and then give one channel.
    """

    size: int | None = None
    grey: bool = False
    one_channel: bool = True

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The fitted picture, uint8 (h, w, 1 or 3), of a picture (H, W, 3)."""
        if (self.grey or self.one_channel) and is_grey(pixels):
            pixels = pixels[..., :1]
        elif self.grey:
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
        if self.size is None and native_size(pixels.shape[:2]) is not None:
            return pixels
        return fitted(pixels, self.size or DEFAULT_SIZE)


def native_size(shape: tuple[int, ...]) -> int | None:
    """The shorter side of pictures small and square enough to stay as they are."""
    shorter, longer = min(shape), max(shape)
    return shorter if shorter >= _SMALLEST and longer <= min(DEFAULT_SIZE, 2 * shorter) else None


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a picture (H, W, 1 or 3), scaled to a side."""
    height, width, channels = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if side == size:
        return pixels[top : top + side, left : left + side]
    image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    box = (left, top, left + side, top + side)
    scaled = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return scaled.reshape(size, size, channels)


def is_grey(pixels: np.ndarray) -> bool:
    """Whether all channels of pictures (..., C) are the same."""
    return bool((pixels[..., :-1] == pixels[..., 1:]).all())


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """uint8 images (..., C) with the wanted number of channels: grey from luma, colour by repetition."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    luma = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.rint(luma).astype(np.uint8)[..., None]
