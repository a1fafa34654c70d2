"""Files that a collection should not hold and does: made by code, the same bytes for the same seed.

Each `Item` is one file with what winnow must make of it: `used`, or the code under which it is set aside. The rows are
those of the project's fault table.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

Make = Callable[[Path], object]
USED = "used"


@dataclass(frozen=True)
class Item:
    """One file of the corpus.

    Attributes:
        row: of the fault table.
        name: of the file; may hold anything that a file system takes.
        content: its bytes, or what makes it at a path.
        expected: `used`, or the codes under which it may be set aside, separated by `|`.
        remark: the code of a remark that must be made about it.
        same_as: a group whose pictures must all look the same to the network.
    """

    row: int
    name: str
    content: bytes | Make
    expected: str
    remark: str = ""
    same_as: str = ""

    def write(self, folder: Path) -> None:
        """Makes it."""
        path = folder / self.name
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)


def picture(chance: np.random.Generator, kind: int, width: int = 40, height: int | None = None) -> np.ndarray:
    """A bright shape on dark noise, uint8 (height, width, 3): disc, square, triangle, bars or cross by `kind`."""
    height = height or width
    down, across = np.mgrid[:height, :width] + 0.5
    side = min(height, width)
    radius = side * chance.uniform(0.28, 0.42)
    y = (height - 2 * radius) * chance.uniform(0, 1) + radius - down
    x = (width - 2 * radius) * chance.uniform(0, 1) + radius - across
    inside = (
        y**2 + x**2 < radius**2,
        np.maximum(abs(y), abs(x)) < 0.8 * radius,
        (abs(x) < (radius - y) / 2) & (abs(y) < radius),
        (np.maximum(abs(y), abs(x)) < radius) & ((y / radius * 3).astype(int) % 2 == 0),
        (np.maximum(abs(y), abs(x)) < radius) & (np.minimum(abs(y), abs(x)) < 0.25 * radius),
    )[kind % 5]
    pixels = chance.integers(0, 60, (height, width, 3))
    pixels[inside] = chance.integers(140, 250, 3) - pixels[inside] // 2
    return pixels.clip(0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **how: object) -> bytes:
    """A picture in a format."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, data: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG from its parts, whatever they say; `extra` chunks come before the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _zeros(count: int) -> bytes:
    """`count` zero bytes, compressed, without holding them."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(min(1 << 20, count - done))) for done in range(0, count, 1 << 20)]
    return b"".join(parts) + packer.flush()


def items(seed: int = 0) -> list[Item]:
    """All hostile files, in the order of their rows."""
    chance = np.random.default_rng(seed)
    pixels = picture(chance, 0)
    return [
        *_damaged(pixels),
        *_too_large(pixels),
        *_modes(chance),
        *_metadata(pixels),
        *_odd_shapes(chance, pixels),
        *_no_pictures(),
        *_names(chance),
    ]


def _damaged(pixels: np.ndarray) -> Iterator[Item]:
    jpeg, as_png = encoded(pixels, "JPEG"), encoded(pixels, "PNG")
    yield Item(1, "zero.jpg", b"", "empty")
    for percent in (25, 50, 99):
        for name, data in (("jpg", jpeg), ("png", as_png)):
            yield Item(2, f"cut-{percent}.{name}", data[: len(data) * percent // 100], "truncated")
    yield Item(3, "text.jpg", b"this is no picture\n", "not-an-image")
    yield Item(3, "page.png", b"<html><script>alert(1)</script></html>", "not-an-image")
    yield Item(3, "object.webp", b'{"error": "not found"}', "not-an-image")
    yield Item(4, "png-inside.jpg", as_png, USED, "extension-mismatch")
    yield Item(4, "gif-inside.png", encoded(pixels, "GIF"), USED, "extension-mismatch")
    yield Item(5, "longer.jpg", jpeg + b"PK\x03\x04 an archive", USED, "trailing-bytes")
    yield Item(5, "longer.png", as_png + b"\0" * 100, USED, "trailing-bytes")
    place = as_png.index(b"IDAT") + 20
    yield Item(6, "checksum.png", as_png[:place] + bytes([as_png[place] ^ 255]) + as_png[place + 1 :], "corrupt")


def _too_large(pixels: np.ndarray) -> Iterator[Item]:
    yield Item(6, "header-60000.png", png(60_000, 60_000, 8, 2, zlib.compress(b"\0" * 100)), "too-many-pixels")
    # 20,000 x 20,000 pixels of one bit: 50 MB of rows in 50 kB.
    yield Item(7, "bomb-400mp.png", png(20_000, 20_000, 1, 0, _zeros(20_000 * 2_501)), "too-many-pixels")
    gif = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b";"
    yield Item(7, "bomb-4gp.gif", gif, "too-many-pixels|truncated|corrupt")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    size = pixels.shape[1], pixels.shape[0]
    text = (b"zTXt", b"Comment\0\0" + _zeros(80_000_000))
    profile = (b"iCCP", b"x\0\0" + _zeros(80_000_000))
    exif = (b"eXIf", b"MM\0*" + bytes(4_000_000))
    for name, chunk in (("text-80mb", text), ("icc-80mb", profile), ("exif-4mb", exif)):
        yield Item(8, f"{name}.png", png(*size, 8, 2, rows, chunk), f"{USED}|corrupt")


def _modes(chance: np.random.Generator) -> Iterator[Item]:
    """Row 9: one grey picture in every way that keeps its pixels, and what cannot keep them."""
    grey = picture(chance, 1)[..., 0]
    image = Image.fromarray(grey)
    opaque = Image.fromarray(np.full_like(grey, 255))
    yield Item(9, "grey-8.png", encoded(image, "PNG"), USED, same_as="grey")
    yield Item(9, "grey-as-rgb.png", encoded(image.convert("RGB"), "PNG"), USED, same_as="grey")
    yield Item(9, "grey-16.png", encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), USED, same_as="grey")
    yield Item(9, "grey-alpha.png", encoded(Image.merge("LA", (image, opaque)), "PNG"), USED, same_as="grey")
    floats = Image.fromarray((grey / np.float32(255)).astype(np.float32))
    yield Item(9, "grey-float.tiff", encoded(floats, "TIFF"), USED, same_as="grey")
    palette = image.convert("P")
    yield Item(9, "palette.png", encoded(palette, "PNG"), USED, same_as="grey")
    yield Item(9, "palette-alpha.png", encoded(palette, "PNG", transparency=3), USED)
    yield Item(9, "bits.png", encoded(image.convert("1"), "PNG"), USED)
    yield Item(9, "cmyk.jpg", encoded(image.convert("RGB").convert("CMYK"), "JPEG"), USED)
    yield Item(9, "cmyk.tiff", encoded(image.convert("RGB").convert("CMYK"), "TIFF"), USED)
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.fromarray(grey))
    yield Item(9, "alpha.webp", encoded(rgba, "WEBP", lossless=True), USED)
    yield Item(9, "tile.avif", encoded(image.convert("RGB"), "AVIF"), USED)


def _metadata(pixels: np.ndarray) -> Iterator[Item]:
    image = Image.fromarray(pixels)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for tag in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = tag
        turned = image.transpose(turns[tag]) if tag in turns else image
        yield Item(10, f"turned-{tag}.png", encoded(turned, "PNG", exif=exif), USED, same_as="upright")
    broken = "broken-metadata"
    yield Item(11, "bad-exif.jpg", encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), USED, broken)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta tiff:Orientation='ninety'")
    yield Item(11, "bad-xmp.png", encoded(image, "PNG", pnginfo=info), USED, broken)


def _odd_shapes(chance: np.random.Generator, pixels: np.ndarray) -> Iterator[Item]:
    more = [Image.fromarray(picture(chance, 2)) for _ in range(2)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(pixels, kind, save_all=True, append_images=more)
        yield Item(12, f"three-frames.{kind.lower()}", data, USED, "first-frame")
    for width, height in ((1, 1), (1, 5000), (20_000, 1)):
        line = chance.integers(0, 255, (height, width, 3)).astype(np.uint8)
        yield Item(13, f"{width}x{height}.png", encoded(line, "PNG"), USED, "degenerate")


def _no_pictures() -> Iterator[Item]:
    unsupported = "unsupported-format"
    heic = struct.pack(">I", 24) + b"ftypheic" + b"\0\0\0\0mif1heic" + bytes(64)
    yield Item(14, "phone.jpg", heic, unsupported)
    yield Item(14, "drawing.png", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', unsupported)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\nshowpage\n"
    yield Item(14, "script.jpg", script, unsupported)
    yield Item(14, "paper.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", unsupported)
    special = "not-a-regular-file"
    yield Item(15, "pipe.jpg", os.mkfifo, special)
    yield Item(15, "socket.jpg", _socket, special)
    yield Item(15, "folder.jpg", Path.mkdir, special)
    yield Item(16, "loop.jpg", lambda path: path.symlink_to(path.name), "unreadable|link-outside")
    yield Item(16, "dangling.jpg", lambda path: path.symlink_to("nowhere.jpg"), "unreadable|link-outside")
    yield Item(17, "device.jpg", lambda path: path.symlink_to("/dev/zero"), "link-outside|not-a-regular-file")
    yield Item(17, "outside.png", lambda path: path.symlink_to("../../outside/secret.png"), "link-outside")


def _socket(path: Path) -> None:
    here = Path.cwd()
    try:
        os.chdir(path.parent)  # the address of a socket may have 107 bytes at most
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _names(chance: np.random.Generator) -> Iterator[Item]:
    names = {
        19: (
            os.fsdecode(b"not-utf8-\xff\xfe.png"),
            "new\nline.png",
            "n" * 251 + ".png",
            "\N{OWL}\N{VARIATION SELECTOR-16}.png",
            "right-\N{RIGHT-TO-LEFT OVERRIDE}gnp.png",
            "blank .png",
            "..png",
            "...dots.png",
            "CON.png",
            "semi;colon,comma'quote\".png",
        ),
        20: (
            "<script>alert(1)<.png",
            '"><img src=x onerror=alert(1)>.png',
            "{{7*7}}.png",
            "${7*7}.png",
            "&lt;b&gt;.png",
        ),
        21: ("=cmd().png", "+1.png", "-1.png", "@SUM(A1).png", "\ttab.png", "\rreturn.png"),
    }
    for row, group in names.items():
        for name in group:
            if name.startswith("."):  # hidden files are passed over, which is row 22
                name = f"a{name}"
            yield Item(row, name, encoded(picture(chance, row), "PNG"), USED)
