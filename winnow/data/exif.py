"""What pictures carry beside their pixels, EXIF and XMP: only whether it can be read matters here."""

from __future__ import annotations

import warnings
from xml.parsers import expat

from PIL import Image

_MOST_XMP = 2**20
"""Bytes of XMP that are looked through; a longer packet is taken as it is."""
_BLANKS = b"\xef\xbb\xbf \t\r\n\0"


def has_broken_metadata(image: Image.Image) -> bool:
    """Whether EXIF or XMP data are there and cannot be read; nothing of them is needed but the orientation."""
    return _is_broken_xmp(image.info.get("xmp", b"")) or _is_broken_exif(image.info.get("exif"))


def _is_broken_xmp(xmp: bytes | str) -> bool:
    content = (xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp).strip(_BLANKS)
    if not 0 < len(content) <= _MOST_XMP:
        return False
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, _Entity):
        return True
    return False


class _Entity(Exception):
    """XMP declares none; one could stand for gigabytes."""


def _refuse_entity(*_: object) -> None:
    raise _Entity


def _is_broken_exif(exif: bytes | None) -> bool:
    if not exif:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Image.Exif().load(exif)
    except Exception:  # It fails in every way.
        return True
    return False
