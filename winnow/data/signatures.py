"""What kind of picture some bytes are, by their first and last bytes; nothing is decoded here."""

from __future__ import annotations

import re

FORMAT_OF_EXTENSION = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
UNSUPPORTED = frozenset({"HEIC", "SVG", "EPS", "PDF", "JPEG 2000", "JPEG XL", "PSD", "ICO", "PNM", "TGA"})
# Files with these endings are listed too, so that each is set aside with its reason instead of vanishing.
IMAGE_EXTENSIONS = frozenset(FORMAT_OF_EXTENSION) | frozenset(
    {".heic", ".heif", ".svg", ".eps", ".pdf", ".jp2", ".jxl", ".psd", ".ico", ".pbm", ".pgm", ".ppm", ".pnm", ".tga"}
)

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "PDF"),
    (b"8BPS", "PSD"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
_PNM = re.compile(rb"P[1-6][ \t\r\n]+(#[^\n]*\n\s*)*[0-9]|P7\nWIDTH ")
_TGA_END = b"TRUEVISION-XFILE.\0"
_PNG_END = b"IEND\xaeB`\x82"


def format_of(data: bytes) -> str | None:
    """The format that the first bytes announce, of TGA the last; None for anything that is no picture."""
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = {data[position : position + 4] for position in range(8, min(int.from_bytes(data[:4]), 64), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands & _HEIF_BRANDS else None
    if _PNM.match(data):
        return "PNM"
    if data.endswith(_TGA_END):
        return "TGA"
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    return "SVG" if head.startswith((b"<svg", b"<?xml", b"<!--")) and b"<svg" in head else None


def looks_cut_off(data: bytes, kind: str) -> bool:
    """Whether a picture that failed to decode ends before its end."""
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    if kind == "PNG":
        return _PNG_END not in data
    if kind == "GIF":
        return not data.rstrip(b"\x00").endswith(b";")
    if kind == "AVIF":
        return _boxes_end(data) > len(data)
    declared = _declared_size(data, kind)
    return declared is not None and declared > len(data)


def trailing_bytes(data: bytes, kind: str) -> int:
    """Number of bytes after the end of a picture, as far as its format tells without decoding."""
    if kind == "JPEG":
        if data.endswith(b"\xff\xd9"):
            return 0
        end = data.rfind(b"\xff\xd9")
        return len(data) - end - 2 if end >= 0 else 0
    if kind == "PNG":
        end = data.find(_PNG_END)
        return len(data) - end - len(_PNG_END) if end >= 0 else 0
    if kind == "GIF":
        end = data.rfind(b";")
        return len(data) - end - 1 if end >= 0 else 0
    declared = _declared_size(data, kind)
    return max(0, len(data) - declared) if declared else 0


def _declared_size(data: bytes, kind: str) -> int | None:
    if kind == "WEBP":
        size = int.from_bytes(data[4:8], "little") + 8
        return size + size % 2
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") or None
    return None


def _boxes_end(data: bytes) -> int:
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4])
        if size == 1:  # a 64-bit size follows
            size = int.from_bytes(data[position + 8 : position + 16])
        if size < 8:  # 0: to the end of the file
            return len(data)
        position += size
    return position
