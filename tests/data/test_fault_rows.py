"""Odd and hostile image files, row by row of the fault table.

Here are the rows 7 to 13, from bytes to decoded pictures; rows 15, 16, 18 and 19 are in `test_fault_rows_of_files`,
rows 1 to 6 and 14 in `test_decode`, row 17 in `test_folder`, workers that die (6, 40) in `test_workers`.
"""

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.test_decode import code_of, encoded, picture, png_chunk, png_header
from winnow.data.collection import load
from winnow.data.decode import Limits, decode, examine
from winnow.data.exif import has_broken_metadata
from winnow.data.open import open_source

# Rows 7 and 8: memory

_RISE = """
import sys
from winnow.data.decode import decode
from winnow.data.source import Unreadable

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024

data = open(sys.argv[1], "rb").read()
before = peak()
try:
    code = str(decode(data).shape)
except Unreadable as fault:
    code = fault.code
print(code, peak() - before, sep="|")
"""


def code_and_rise(tmp_path, data):
    """What becomes of a picture, and by how many megabytes the peak memory of a process of its own rises."""
    (tmp_path / "data").write_bytes(data)
    command = [sys.executable, "-W", "ignore", "-c", _RISE, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    code, rise = done.stdout.strip().split("|")
    return code, int(rise)


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_row_7_a_decompression_bomb_takes_no_memory(tmp_path, side):
    rows = zlib.compress(bytes(side // 8 + 1) * 400)
    bomb = png_header(side, side) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")

    code, rise = code_and_rise(tmp_path, bomb)

    assert code == "too-many-pixels"
    assert rise < 100


def inserted(chunk):
    """A PNG file with a chunk before its pixels."""
    data = encoded(picture(), "PNG")
    place = data.index(b"IDAT") - 4
    return data[:place] + chunk + data[place:]


def test_row_8_a_text_chunk_of_80_megabytes_takes_no_memory(tmp_path):
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 80_000_000, 1))

    code, rise = code_and_rise(tmp_path, inserted(chunk))

    assert code == "corrupt"
    assert rise < 50


def test_row_8_a_giant_colour_profile_takes_no_memory(tmp_path):
    chunk = png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"a" * 80_000_000, 1))

    code, rise = code_and_rise(tmp_path, inserted(chunk))

    assert code in ("corrupt", "(40, 50, 3)")
    assert rise < 50


def test_row_8_giant_exif_data_takes_a_few_times_its_size(tmp_path):
    exif = (
        b"MM\0*\0\0\0\x08"
        + b"\0\x01"
        + b"\x01\x0e\0\x02"
        + (20_000_000).to_bytes(4)
        + b"\0\0\0\x20"
        + b"a" * 20_000_000
    )

    code, rise = code_and_rise(tmp_path, inserted(png_chunk(b"eXIf", exif)))

    assert code == "(40, 50, 3)"
    assert rise < 100


# Row 9: every mode, by hand


def one_row(values, mode=None):
    """A picture of one row of pixels."""
    array = np.array([values])
    return Image.fromarray(array if mode is None else array.astype(mode))


def rgb(data):
    return decode(data)[0].tolist()


def grey(*levels):
    return [[level] * 3 for level in levels]


def test_row_9_one_bit_becomes_black_and_white():
    assert rgb(encoded(one_row([0, 255, 0], "u1").convert("1"), "PNG")) == grey(0, 255, 0)


def test_row_9_grey_is_repeated():
    assert rgb(encoded(one_row([0, 7, 255], "u1"), "PNG")) == grey(0, 7, 255)


def test_row_9_grey_with_transparency_is_laid_over_white():
    image = Image.fromarray(np.array([[[0, 255], [0, 0], [100, 51]]], np.uint8), "LA")

    # 51 / 255 is a fifth: 0.2 * 100 + 0.8 * 255 = 224.
    assert rgb(encoded(image, "PNG")) == grey(0, 255, 224)


def palette_image():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
    return image


def test_row_9_a_palette_is_looked_up():
    assert rgb(encoded(palette_image(), "PNG")) == [[10, 20, 30], [200, 0, 0], [0, 0, 250]]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_row_9_a_transparent_palette_entry_is_white(kind):
    assert rgb(encoded(palette_image(), kind, transparency=1)) == [[10, 20, 30], [255, 255, 255], [0, 0, 250]]


def test_row_9_palette_entries_with_partial_transparency_are_laid_over_white():
    data = encoded(palette_image(), "PNG", transparency=bytes([255, 51, 0]))

    assert rgb(data) == [[10, 20, 30], [244, 204, 204], [255, 255, 255]]


def test_row_9_a_transparent_colour_is_white():
    image = one_row([[1, 2, 3], [9, 9, 9]], "u1")

    assert rgb(encoded(image, "PNG", transparency=(9, 9, 9))) == [[1, 2, 3], [255, 255, 255]]
    assert rgb(encoded(one_row([4, 9], "u1"), "PNG", transparency=9)) == grey(4, 255)


def test_row_9_colour_with_transparency_is_laid_over_white():
    image = one_row([[255, 0, 0, 255], [9, 9, 9, 0], [0, 0, 0, 51]], "u1")

    assert rgb(encoded(image, "PNG")) == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]


def test_row_9_cmyk_is_converted_without_a_profile():
    image = Image.fromarray(np.array([[[0, 255, 255, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0] * 4]], np.uint8), "CMYK")

    assert rgb(encoded(image, "TIFF")) == [[255, 0, 0], [0, 255, 255], [0, 0, 0], [255, 255, 255]]


def test_row_9_the_inverted_cmyk_of_adobes_jpeg_files_is_turned_round():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(image, "JPEG", quality=100)

    assert b"Adobe" in data  # Pillow writes them as Adobe does, inverted
    assert np.abs(decode(data).astype(int) - [255, 0, 0]).max() <= 2


def test_row_9_ycbcr_is_converted():
    image = Image.new("YCbCr", (4, 4), (76, 85, 255))  # red, by the equations of JFIF

    assert np.abs(decode(encoded(image, "TIFF")).astype(int) - [254, 0, 0]).max() <= 2


def test_row_9_lab_is_converted():
    # L 0-100 is stored as 0-255, a and b with their sign.
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8), "LAB")
    pixels = rgb(encoded(image, "TIFF"))

    assert np.abs(np.array(pixels) - np.array(grey(255, 0))).max() <= 2


def test_row_9_sixteen_bit_grey_is_scaled_not_saturated():
    values = [0, 257, 32896, 65535]

    for kind in ("PNG", "TIFF"):
        assert rgb(encoded(one_row(values, "u2"), kind)) == grey(0, 1, 128, 255)


def test_row_9_sixteen_bit_colour_keeps_its_upper_byte():
    pixels = np.array([[[0, 0x1234, 0xFFFF]]], ">u2").tobytes()
    data = png_header(1, 1, depth=16, colour=2) + png_chunk(b"IDAT", zlib.compress(b"\0" + pixels))

    assert rgb(data + png_chunk(b"IEND", b"")) == [[0, 0x12, 0xFF]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 7, 255], [0, 7, 255]),
        ([0, 257, 65535], [0, 1, 255]),
        ([-10, 0, 90], [0, 26, 255]),  # 10 / 100 * 255 = 25.5, to the even number
        ([70_000, 70_000], [0, 0]),
    ],
)
def test_row_9_32_bit_integers_are_kept_divided_or_stretched(values, expected):
    assert rgb(encoded(one_row(values, "i4"), "TIFF")) == grey(*expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.2, 1], [0, 51, 255]),
        ([0, 7.4, 255], [0, 7, 255]),
        ([-1, 0, 3], [0, 64, 255]),
        ([0, np.nan, 1], [0, 0, 255]),
        ([5e5, 5e5], [0, 0]),
    ],
)
def test_row_9_floats_are_scaled_kept_or_stretched(values, expected):
    assert rgb(encoded(one_row(values, "f4"), "TIFF")) == grey(*expected)


# Row 10


TURNED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, -1),
}
"""How an upright image lies in a file of each orientation."""


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_row_10_all_eight_orientations_are_equal_after_decoding(orientation, kind):
    upright = np.kron(np.array([[0, 80, 160], [240, 40, 120]], np.uint8), np.ones((16, 16), np.uint8))
    upright = np.repeat(upright[..., None], 3, axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    data = encoded(np.ascontiguousarray(TURNED[orientation](upright)), kind, exif=exif, **options)

    found = decode(data)

    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= (1 if kind == "JPEG" else 0)


# Row 11


@pytest.mark.parametrize(
    "segment",
    [
        b"Exif\0\0II*\0\xff\xff\xff\xffgarbage",
        b"Exif\0\0",
        b"Exif\0\0" + bytes(40),
        b"http://ns.adobe.com/xap/1.0/\0\xff<<<",
        b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation='ninety'",
        b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><a></x:xmpmeta>",
        b'http://ns.adobe.com/xap/1.0/\0<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
    ],
)
def test_row_11_broken_metadata_costs_a_note(segment):
    data = encoded(picture(), "JPEG")
    expected = decode(data)
    data = data[:20] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + data[20:]

    found = examine(data, Limits())

    assert (found.pixels == expected).all()
    assert found.notes == (("broken-metadata",) if segment != b"Exif\0\0" else ())


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<x/>",
        b'\xef\xbb\xbf<?xpacket begin="\xef\xbb\xbf"?><x:xmpmeta xmlns:x="adobe:ns:meta/"/>   <?xpacket end="w"?>\0',
        b"<x>" + b"y" * 2**20,  # too long to be looked through
    ],
)
def test_row_11_metadata_in_order_cost_no_note(packet):
    image = Image.new("RGB", (1, 1))
    image.info["xmp"] = packet

    assert not has_broken_metadata(image)


# Row 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_row_12_the_first_of_several_frames_is_used_and_noted(kind):
    frames = [Image.fromarray(np.full((20, 20, 3), value, np.uint8)) for value in (10, 200, 90)]
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)

    found = examine(data, Limits())

    assert found.notes == ("first-frame",)
    assert np.abs(found.pixels.astype(int) - 10).max() <= (3 if kind == "AVIF" else 0)


# Row 13


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (20_000, 1), (3, 3)])
def test_row_13_degenerate_pictures_are_used_and_noted(tmp_path, shape):
    (tmp_path / "a").mkdir()
    Image.fromarray(picture(*shape)).save(tmp_path / "a" / "x.png")

    found = load(open_source(tmp_path))

    assert found.images.shape == (1, 64, 64, 3)
    assert found.notes == ("1 images extremely small or narrow (degenerate): a/x.png.",)


# Row 2


def test_row_2_a_file_cut_off_near_its_very_end_is_truncated():
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        data = encoded(picture(200, 200), kind)
        end = int(len(data) * 0.99)

        assert code_of(data[:end]) == "truncated", kind
