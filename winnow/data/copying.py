"""Pictures as they are stored, for copies of a collection: no picture is encoded a second time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image

from winnow.data.pictures import ArrayPictures, EncodedPictures, FilePictures, JoinedPictures
from winnow.data.signatures import FORMAT_OF_EXTENSION
from winnow.data.source import Pictures, Unreadable, first_line


def encoded(pictures: Pictures, row: int) -> bytes:
    """A picture's file content as it is stored; of arrays a PNG, grey where the array is.

    Raises:
        Unreadable: its file cannot be had.
    """
    if isinstance(pictures, JoinedPictures):
        return encoded(pictures.parts[pictures.part[row]], int(pictures.row[row]))
    if isinstance(pictures, ArrayPictures):
        return png(pictures.array[row])
    stored: Callable[[int], bytes] | None = getattr(pictures, "encoded", None)
    return stored(row) if stored is not None else png(pictures.read(row))


def file_path(pictures: Pictures, row: int) -> str:
    """The file on this machine that holds a picture and nothing else; "" where none does."""
    if isinstance(pictures, JoinedPictures):
        return file_path(pictures.parts[pictures.part[row]], int(pictures.row[row]))
    if isinstance(pictures, EncodedPictures):
        return ""
    return pictures.paths[row] if isinstance(pictures, FilePictures) else ""


def png(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 (H, W) or (H, W, 3), as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def stored_size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture file in pixels as its header tells them, before any rotation that it asks for.

    Raises:
        Unreadable: the header cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=tuple(set(FORMAT_OF_EXTENSION.values()))) as image:
                return image.size
    except Exception as error:  # Pillow's plugins fail in every way.
        raise Unreadable("broken", first_line(error)) from error
