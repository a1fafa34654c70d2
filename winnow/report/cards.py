"""Pictures on a page: encoded small, counted against a budget, and never the reason that a page fails."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from winnow.report import words

Picture = Callable[[int], np.ndarray]

SHOWN_SIDE = 96
LOSSLESS_SIDE = 32
STORED_SIDE = 128
WEBP_QUALITY = 60


@dataclass(frozen=True)
class Encoded:
    """A picture inside the page.

    Args:
        address: a `data:` address holding the whole picture.
        width, height: in page pixels; a whole multiple of the picture's own when `crisp`.
        crisp: shown with hard pixel edges, since smoothing a small picture hides what it shows.
    """

    address: str
    width: int
    height: int
    crisp: bool


@dataclass(frozen=True)
class Card:
    """One image of a grid with what is said about it.

    Args:
        picture: the encoded picture, or None when it could not be read.
        alternative: the text in place of the picture.
        caption: what differs from the neighbours, one short line.
        facts: pairs (what, text) kept folded: id, reason, full names.
        pair: given and suggested class, where the grid's heading does not say them already.
    """

    picture: Encoded | None
    alternative: str
    caption: str
    facts: list[tuple[str, str]]
    pair: tuple[str, str] | None = None


@dataclass
class Grid:
    """Cards that share a heading.

    Args:
        heading: what is common, or "" where `pair` (given and suggested class) says it.
        total: how many there are in the collection.
        cards: seen at once; `more` are folded below them.
    """

    heading: str
    total: int
    cards: list[Card]
    more: list[Card] = field(default_factory=list)
    pair: tuple[str, str] | None = None

    @property
    def shown(self) -> int:
        """Cards on the page, folded ones included."""
        return len(self.cards) + len(self.more)


@dataclass
class Budget:
    """How many pictures a page may still take: its size must not grow with the collection.

    Args:
        images: pictures left.
        characters: base64 characters left.
    """

    images: int = 300
    characters: int = 4_000_000
    spent: bool = field(default=False, init=False)

    def take(self, encoded: Encoded | None) -> bool:
        """Pay for one picture; False (and spent for good) when it no longer fits."""
        cost = len(encoded.address) if encoded else 0
        if self.spent or self.images < 1 or self.characters < cost:
            self.spent = True
            return False
        self.images -= 1
        self.characters -= cost
        return True


def encode(pixels: np.ndarray) -> Encoded:
    """A picture for the page: lossless PNG up to 32 px, WebP of at most 128 px above.

    Args:
        pixels: uint8, (H, W, C) with C = 1 or 3.

    Raises:
        ValueError: the array is no such picture.
    """
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
        raise ValueError(f"expected uint8 (H, W, 1 or 3), got {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    crisp = max(image.size) <= LOSSLESS_SIDE
    buffer = io.BytesIO()
    if crisp:
        image.save(buffer, "PNG", optimize=True)
        factor: float = SHOWN_SIDE // max(image.size)
    else:
        image.thumbnail((STORED_SIDE, STORED_SIDE), Image.Resampling.LANCZOS)
        image.save(buffer, "WEBP", quality=WEBP_QUALITY)
        factor = SHOWN_SIDE / max(image.size)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Encoded(
        address=f"data:image/{'png' if crisp else 'webp'};base64,{text}",
        width=max(1, round(image.width * factor)),
        height=max(1, round(image.height * factor)),
        crisp=crisp,
    )


def encoded_row(picture: Picture, row: int) -> tuple[Encoded | None, str]:
    """The picture of a row, or None and the reason why it cannot be shown."""
    try:
        return encode(picture(row)), ""
    except Exception as error:  # a file may have vanished since training; the page still tells the rest
        return None, words.short(f"{type(error).__name__}: {error}", 200)
