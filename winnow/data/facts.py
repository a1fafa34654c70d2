"""What the decoder knew of each picture before it was scaled: a few bytes a picture, kept beside the pixels."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt

LAYOUTS = ("plain", "transparent", "CMYK", "more than 8 bits", "palette", "two-coloured", "LAB")
"""How pixels were stored; plain is grey or RGB of 8 bits. The place in here is the code in `Facts.layouts`."""
PLAIN = 0


@dataclass(frozen=True)
class Facts:
    """Of n pictures, row by row.

    Attributes:
        sizes: height and width in the file, in pixels.
        layouts: places in `LAYOUTS`.
        contents: 64 bits of a hash of the file's bytes; 0 where there was no file.
        notes: codes of oddities by row, such as `trailing-bytes`; rows without any are missing.
    """

    sizes: Int[np.ndarray, "n 2"]
    layouts: UInt[np.ndarray, " n"]
    contents: UInt[np.ndarray, " n"]
    notes: Mapping[int, tuple[str, ...]]

    @classmethod
    def of_array(cls, number: int, height: int, width: int) -> Facts:
        """Of pictures that were an array: all alike, so they take no memory."""
        return cls(
            np.broadcast_to(np.array([height, width], dtype=np.int32), (number, 2)),
            np.broadcast_to(np.uint8(PLAIN), number),
            np.broadcast_to(np.uint64(0), number),
            {},
        )


class GatheredFacts:
    """Collects the facts of pictures as they come."""

    def __init__(self) -> None:
        self.sizes = array("i")
        self.layouts = array("B")
        self.contents = array("Q")
        self.notes: dict[int, tuple[str, ...]] = {}

    def add(self, size: tuple[int, ...], layout: int, content: int, notes: tuple[str, ...]) -> None:
        """Takes those of the next picture; see `Facts`."""
        if notes:
            self.notes[len(self.layouts)] = notes
        self.sizes.extend(size)
        self.layouts.append(layout)
        self.contents.append(content)

    def facts(self) -> Facts:
        """All of them so far."""
        sizes = np.array(self.sizes, dtype=np.int32).reshape(-1, 2)
        return Facts(
            sizes, np.array(self.layouts, dtype=np.uint8), np.array(self.contents, dtype=np.uint64), self.notes
        )


def layout(mode: str, is_transparent: bool) -> int:
    """The layout's place in `LAYOUTS`.

    Args:
        mode: Pillow's name of it.
        is_transparent: whether there is an alpha channel or a transparent colour.
    """
    if is_transparent:
        return LAYOUTS.index("transparent")
    if mode in ("I", "F") or mode.startswith("I;"):
        return LAYOUTS.index("more than 8 bits")
    return {"CMYK": 2, "P": 4, "1": 5, "LAB": 6}.get(mode, PLAIN)
