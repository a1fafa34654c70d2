"""The one way from bytes to a picture: guarded, and the same pixels for everyone who looks.

Pillow alone decides what a valid image is, with an explicit list of formats, so that no plug-in can start
another program. The header's size is checked before anything is decoded. Plain JPEG files take a shorter way to the
same pixels, see `jpeg`.

Conversion to 8-bit RGB, by the picture's mode:

- 16-bit grey is divided by 257 (65535 becomes 255);
- 32-bit integers are kept if they fit 8 bits, divided by 257 if they fit 16, else stretched to 0-255;
- floats in [0, 1] are multiplied by 255, in [0, 255] kept, else stretched; NaN and infinities become 0 and count for
  nothing else;
- grey where 0 means white, as a TIFF file may say, is inverted after that;
- transparency is laid over white, and pixels of a PNG file's transparent colour become white; of 16-bit RGB, Pillow
  gives the upper 8 bits, so they alone are compared;
- LAB is converted to sRGB by the colour engine, from the white of D50;
- everything else (palette, 1-bit, CMYK, YCbCr) is converted by Pillow, without regard to profiles; the CMYK of a JPEG
  file is taken as inverted, as Adobe writes it.

Orientation tags are obeyed, an animation gives its first frame.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import PIL
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

from winnow.data.exif import has_broken_metadata
from winnow.data.facts import PLAIN, layout
from winnow.data.jpeg import decode_plain, simplejpeg
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
# What Pillow multiplies the grey of such PNG files with, but not their transparent grey.
_PNG_SHADES = {"L;2": 85, "L;4": 17}
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # TIFF tags
_WHITE_IS_ZERO, _UNSIGNED = 0, 1
_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}


@dataclass(frozen=True)
class Limits:
    """What a picture may be.

    Attributes:
        max_pixels: width times height, checked before decoding.
        allow_truncated: use the part of a cut-off picture that can be decoded, and note it.
        seconds: that decoding one may take where a process of its own does it.
    """

    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    seconds: float = 30.0


@dataclass(frozen=True)
class Decoded:
    """A picture and what was odd about it.

    Attributes:
        pixels: uint8 (height, width, 3).
        notes: codes of oddities that did not keep it from being used, such as `extension-mismatch`.
        size: height and width in the file, where the pixels have been scaled since; None = those of the pixels.
        layout: how the pixels were stored, a place in `facts.LAYOUTS`.
        content: 64 bits of a hash of the file's bytes; 0 where there is no file.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    layout: int = PLAIN
    content: int = 0


def decoder() -> str:
    """What decodes pictures here, with versions: for the record."""
    fast = f", simplejpeg {simplejpeg.__version__}" if simplejpeg else ""
    return f"pillow {PIL.__version__}{fast}"


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
    if kind == "JPEG":
        pixels = decode_plain(data, limits.max_pixels)
        if pixels is not None:
            return Decoded(pixels, tuple(_remarks_on_file(kind, name) + _remarks_on_shape(*pixels.shape[:2])))
    with warnings.catch_warnings():
        # Pillow warns of metadata that we note ourselves, and of other things that cost nothing.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        return _examined_by_pillow(data, kind, limits, name)


def _examined_by_pillow(data: bytes, kind: str, limits: Limits, name: str) -> Decoded:
    notes = []
    try:
        image = _OPENERS[kind](BytesIO(data), "")
        if image.width * image.height > limits.max_pixels:
            size = f"{image.width} x {image.height}"
            raise Unreadable("too-many-pixels", f"{size}, more than {limits.max_pixels:,} (--max-pixels)")
        _scale_transparent_colour(image)
        is_deep = ";16" in str(image.tile[:1])  # told before decoding only: of 16-bit RGB, 8 bits are left
        if not _load(image, kind, data, limits):
            notes.append("truncated")
        pixels = _rgb(_upright(image), getattr(image, "tag_v2", {}))
    except (Unreadable, KeyboardInterrupt):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("too-many-pixels", str(error)) from error
    except Exception as error:  # Pillow's plug-ins fail in every way; each costs one picture, not the run.
        if str(error) == "unknown pixel mode":
            reason = "a TIFF of samples that are not read (convert it to JPEG or PNG)"
            raise Unreadable("unsupported-format", reason) from error
        code = "truncated" if looks_cut_off(data, kind) or "runcated" in str(error) else "corrupt"
        raise Unreadable(code, f"{kind}: {error or type(error).__name__}") from error
    notes.extend(_remarks(image, kind, data, name))
    is_transparent = image.mode in _ALPHA_MODES or "transparency" in image.info
    return Decoded(pixels, tuple(notes), layout=layout("I;16" if is_deep else image.mode, is_transparent))


def read_file(path: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """A file's content, if it is a regular file of a reasonable size.

    Raises:
        Unreadable: it is missing, empty, too large, no regular file or may not be read.
    """
    return read_stamped_file(path, max_bytes=max_bytes)[0]


def read_stamped_file(
    path: str, expected: tuple[int, ...] | None = None, *, max_bytes: int = MAX_FILE_BYTES
) -> tuple[bytes, tuple[int, int]]:
    """A file's content, with its length in bytes and the time of its last change in nanoseconds.

    Args:
        path: where it lies.
        expected: the length and time that it had before.
        max_bytes: how long it may be.

    Raises:
        Unreadable: see `read_file`; or it has changed, before or while it was read.
    """
    try:
        found = os.stat(path)
        _refuse_file(found, max_bytes)
        # Without waiting: what was a file a moment ago may be a pipe by now.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _refuse_file(os.fstat(file.fileno()), max_bytes)
            data = file.read(found.st_size + 1)
            stamp = stamp_of(os.fstat(file.fileno()))
    except OSError as error:
        raise Unreadable("unreadable", error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the path
        raise Unreadable("unreadable", str(error)) from error
    if stamp != stamp_of(found) or len(data) != found.st_size:
        raise Unreadable("changed", "the file was written to while it was read")
    if expected not in (None, stamp):
        raise Unreadable("changed", "the file is not the one that was listed: its length or time of change differs")
    return data, stamp


def stamp_of(found: os.stat_result) -> tuple[int, int]:
    """What tells a changed file from the one that was listed: its length and the time of its last change."""
    return found.st_size, found.st_mtime_ns


def _refuse_file(found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("not-a-regular-file", f"a {_kind_of_file(found.st_mode)}")
    if found.st_size == 0:
        raise Unreadable("empty", "0 bytes")
    if found.st_size > max_bytes:
        raise Unreadable("too-many-bytes", f"{found.st_size:,} bytes, more than {max_bytes:,}")


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


def _scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    """Pillow gives the transparent colour of a PNG file as it is stored, but scales the pixels to 8 bits."""
    colour = image.info.get("transparency")
    if image.format != "PNG" or colour is None or not image.tile:
        return
    stored = image.tile[0].args
    if stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif stored in _PNG_SHADES:
        image.info["transparency"] = colour * _PNG_SHADES[stored]


def _rgb(image: Image.Image, tags: Mapping[int, Any]) -> np.ndarray:
    """The pixels, uint8 (height, width, 3); `tags` are those of a TIFF file."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode == "L" and "transparency" not in image.info:
        return np.repeat(np.asarray(image)[..., None], 3, axis=2)
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        return np.repeat(_eight_bits(image, tags)[..., None], 3, axis=2)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
    if image.mode == "LAB":
        from PIL import ImageCms  # rarely needed

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    return np.asarray(image.convert("RGB"))


def _eight_bits(image: Image.Image, tags: Mapping[int, Any]) -> np.ndarray:
    stored = np.asarray(image)
    if image.mode == "I" and tags and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED:
        stored = stored.view(np.uint32)  # Pillow's own integers are signed
    values = stored.astype(np.float64)
    finite = np.isfinite(values)
    low, high = values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf)
    values[~finite] = low if finite.any() else 0
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
    pixels = np.rint(scaled).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    pixels[~finite] = 0
    if "transparency" in image.info:
        pixels[stored == image.info["transparency"]] = 255
    return pixels


def _remarks(image: ImageFile.ImageFile, kind: str, data: bytes, name: str) -> list[str]:
    remarks = _remarks_on_file(kind, name)
    if trailing_bytes(data, kind):
        remarks.append("trailing-bytes")
    if getattr(image, "is_animated", False):
        remarks.append("first-frame")
    if has_broken_metadata(image):
        remarks.append("broken-metadata")
    return remarks + _remarks_on_shape(image.height, image.width)


def _remarks_on_file(kind: str, name: str) -> list[str]:
    differs = name and FORMAT_OF_EXTENSION.get(os.path.splitext(name)[1].lower()) != kind
    return ["extension-mismatch"] if differs else []


def _remarks_on_shape(height: int, width: int) -> list[str]:
    shorter, longer = min(height, width), max(height, width)
    return ["degenerate"] if shorter < 4 or longer > 20 * shorter else []
