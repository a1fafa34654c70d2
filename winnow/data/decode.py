"""The one way from bytes to a picture: guarded, and the same pixels for everyone who looks.

Pillow alone decides what a valid image is, with an explicit list of formats, so that no plug-in can start
another program. The header's size is checked before anything is decoded.

Conversion to 8-bit RGB, by the picture's mode:

- 16-bit grey is divided by 257 (65535 becomes 255);
- 32-bit integers are kept if they fit 8 bits, divided by 257 if they fit 16, else stretched to 0-255;
- floats in [0, 1] are multiplied by 255, in [0, 255] kept, else stretched; NaN becomes 0;
- transparency is laid over white;
- everything else (palette, 1-bit, CMYK, YCbCr, LAB) is converted by Pillow.

Orientation tags are obeyed, an animation gives its first frame.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from winnow.data.signatures import FORMAT_OF_EXTENSION, UNSUPPORTED, format_of, looks_cut_off, trailing_bytes
from winnow.data.source import Unreadable

MAX_PIXELS = 50_000_000
MAX_FILE_BYTES = 512 * 2**20

_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_ORIENTED = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}


@dataclass(frozen=True)
class Limits:
    """What a picture may be.

    Attributes:
        max_pixels: width times height, checked before decoding.
        allow_truncated: use the part of a cut-off picture that can be decoded, and note it.
    """

    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False


@dataclass(frozen=True)
class Decoded:
    """A picture and what was odd about it.

    Attributes:
        pixels: uint8 (height, width, 3).
        notes: codes of oddities that did not keep it from being used, such as `extension-mismatch`.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, allow_truncated: bool = False) -> np.ndarray:
    """The picture in `data` as uint8 (height, width, 3).

    Raises:
        Unreadable: it cannot be used; the code says why.
    """
    return examine(data, Limits(max_pixels, allow_truncated)).pixels


def examine(data: bytes, limits: Limits, *, name: str = "") -> Decoded:
    """The picture in `data` together with remarks about it.

    Args:
        data: an encoded picture.
        limits: what is accepted.
        name: the file's name, if it has one, to compare its extension with the content.

    Raises:
        Unreadable: it cannot be used; the code says why.
    """
    if not data:
        raise Unreadable("empty", "0 bytes")
    kind = format_of(data)
    if kind in UNSUPPORTED:
        raise Unreadable("unsupported-format", f"{kind} is not read (convert it to JPEG or PNG)")
    if kind is None:
        raise Unreadable("not-an-image", f"starts with {data[:24]!r}")
    notes = []
    try:
        image = _OPENERS[kind](BytesIO(data), "")
        if image.width * image.height > limits.max_pixels:
            size = f"{image.width} x {image.height}"
            raise Unreadable("too-many-pixels", f"{size}, more than {limits.max_pixels:,} (--max-pixels)")
        if not _load(image, kind, data, limits):
            notes.append("truncated")
        pixels = _rgb(_upright(image))
    except (Unreadable, KeyboardInterrupt):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("too-many-pixels", str(error)) from error
    except Exception as error:  # Pillow's plug-ins fail in every way; each costs one picture, not the run.
        code = "truncated" if looks_cut_off(data, kind) or "runcated" in str(error) else "corrupt"
        raise Unreadable(code, f"{kind}: {error or type(error).__name__}") from error
    notes.extend(_remarks(image, kind, data, name))
    return Decoded(pixels, tuple(notes))


def read_file(path: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """A file's content, if it is a regular file of a reasonable size.

    Raises:
        Unreadable: it is missing, empty, too large, no regular file or may not be read.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("not-a-regular-file", f"a {_kind_of_file(found.st_mode)}")
        if found.st_size == 0:
            raise Unreadable("empty", "0 bytes")
        if found.st_size > max_bytes:
            raise Unreadable("too-many-bytes", f"{found.st_size:,} bytes, more than {max_bytes:,}")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Unreadable("unreadable", error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the path
        raise Unreadable("unreadable", str(error)) from error


def _kind_of_file(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _load(image: ImageFile.ImageFile, kind: str, data: bytes, limits: Limits) -> bool:
    """Decode; False if only a part could be, which must be allowed."""
    try:
        image.load()
    except (OSError, SyntaxError, IndexError, ValueError) as error:
        cut_off = "runcated" in str(error) or looks_cut_off(data, kind)
        if not (limits.allow_truncated and cut_off and image._im is not None):
            raise
        # Pillow's own switch, LOAD_TRUNCATED_IMAGES, is global: it would let broken pictures through in other
        # threads. Taking the rest of the work away keeps what has been decoded, here alone.
        image.tile = []
        image.load()
        return False
    return True


def _upright(image: Image.Image) -> Image.Image:
    if image.format == "TIFF" or any(key in image.info for key in _ORIENTED):
        try:
            return ImageOps.exif_transpose(image)
        except Exception:  # A broken tag must not cost the picture.
            return image
    return image


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode == "L" and "transparency" not in image.info:
        return np.repeat(np.asarray(image)[..., None], 3, axis=2)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        return np.repeat(_eight_bits(image)[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values)
    low, high = values.min(), values.max()
    if image.mode.startswith("I;"):
        scaled = values / 257
    elif image.mode == "F" and low >= 0 and high <= 1:
        scaled = values * 255
    elif low >= 0 and high <= 255:
        scaled = values
    elif image.mode == "I" and low >= 0 and high <= 65535:
        scaled = values / 257
    else:
        scaled = (values - low) / (high - low) * 255 if high > low else np.zeros_like(values)
    return np.rint(scaled).astype(np.uint8)


def _remarks(image: ImageFile.ImageFile, kind: str, data: bytes, name: str) -> list[str]:
    remarks = []
    if name and FORMAT_OF_EXTENSION.get(os.path.splitext(name)[1].lower()) != kind:
        remarks.append("extension-mismatch")
    if trailing_bytes(data, kind):
        remarks.append("trailing-bytes")
    if getattr(image, "is_animated", False):
        remarks.append("first-frame")
    shorter, longer = sorted(image.size)
    if shorter < 4 or longer > 20 * shorter:
        remarks.append("degenerate")
    return remarks
