"""Plain JPEG files, decoded several times as fast as Pillow does it, to the same pixels.

Only files are taken of which it is certain that Pillow would take them too: every marker before the pixels is of a
kind that it reads without an opinion, nothing turns the picture or gives its colours another meaning, and the decoder
has no complaint. Whatever is in doubt is left to Pillow.
"""

from __future__ import annotations

import numpy as np

try:
    import simplejpeg
except ImportError:  # the extra `fast` is not installed
    simplejpeg = None

_START = b"\xff\xd8\xff\xe0"
_END = b"\xff\xd9"
_SCAN = 0xDA
_FRAMES = (0xC0, 0xC2)  # baseline and progressive, Huffman-coded
# Quantisation and Huffman tables, restart interval, comment.
_HARMLESS = frozenset({0xDB, 0xC4, 0xDD, 0xFE})
_SHORTEST_JFIF = 16

# Files of one collection mostly share all that stands before the pixels: what was found out of it last, and of what.
_last: tuple[bytes, tuple[int, int]] = b"\0", (0, 0)


def decode_plain(data: bytes, max_pixels: int) -> np.ndarray | None:
    """The pixels of a plain JPEG file, uint8 (height, width, 3); None leaves it to Pillow.

    Args:
        data: the whole file.
        max_pixels: width times height; a larger picture is left to Pillow's path, which refuses it.
    """
    if simplejpeg is None or not data.endswith(_END):
        return None
    size = _plain_size(data)
    if size is None or size[0] * size[1] > max_pixels:
        return None
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data)
    except ValueError:  # damaged, or coded in a way that it does not know
        return None
    return pixels


def _plain_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a file that holds nothing but a grey or YCbCr picture with a JFIF header."""
    global _last
    head, known = _last
    if data.startswith(head):
        return known
    # JFIF says that three components are YCbCr, whatever their names.
    if data[:4] != _START or data[6:10] != b"JFIF" or int.from_bytes(data[4:6]) < _SHORTEST_JFIF:
        return None
    position = 4 + int.from_bytes(data[4:6])
    size = None
    while data[position : position + 1] == b"\xff":
        marker = data[position + 1] if position + 1 < len(data) else 0
        if marker == _SCAN:
            if size is not None:
                _last = data[: position + 2], size
            return size
        length = int.from_bytes(data[position + 2 : position + 4])
        if marker in _FRAMES:
            precision, components = data[position + 4 : position + 5], data[position + 9 : position + 10]
            if size is not None or precision != b"\x08" or components not in (b"\x01", b"\x03"):
                return None
            size = int.from_bytes(data[position + 5 : position + 7]), int.from_bytes(data[position + 7 : position + 9])
        elif marker not in _HARMLESS:
            return None
        position += 2 + length
    return None
