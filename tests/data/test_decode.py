"""Decoding hostile and odd files: rows 1-9, 14 and 15 of the fault table."""

import os
import struct
import threading
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from winnow.data.decode import Limits, decode, examine, read_file
from winnow.data.source import Unreadable


def picture(height=40, width=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, kind, **options):
    buffer = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def grey_png(depth, row, transparent, colour=0, width=4):
    """One row of pixels as PNG stores them, with a transparent colour."""
    rest = png_chunk(b"tRNS", transparent) + png_chunk(b"IDAT", zlib.compress(b"\0" + row)) + png_chunk(b"IEND", b"")
    return png_header(width, 1, depth, colour) + rest


def grey_tiff(values, white_is_zero=False, sample_format=1):
    """An uncompressed TIFF file of one row; sample formats: 1 unsigned, 2 signed, 3 floating point."""
    values = np.asarray(values)[None]
    numbers = {256: values.size, 257: 1, 258: 8 * values.itemsize, 259: 1, 262: int(not white_is_zero), 273: 134,
               277: 1, 278: 1, 279: values.nbytes, 339: sample_format}  # fmt: skip
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in numbers.items())
    return b"II*\0" + struct.pack("<IH", 8, len(numbers)) + tags + bytes(4) + values.tobytes()


def png_header(width, height, depth=1, colour=0):
    start = b"\x89PNG\r\n\x1a\n"
    return start + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def code_of(data, **options):
    with pytest.raises(Unreadable) as caught:
        decode(data, **options)
    return caught.value.code


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_exact_pixels(kind):
    assert (decode(encoded(picture(), kind)) == picture()).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "AVIF"])
def test_every_listed_format_is_read(kind):
    assert decode(encoded(picture(), kind)).shape == (40, 50, 3)


def test_a_zero_byte_image_is_empty():
    assert code_of(b"") == "empty"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.95])
def test_a_cut_off_image_is_truncated(kind, share):
    data = encoded(picture(200, 200), kind)

    assert code_of(data[: int(len(data) * share)]) == "truncated"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_allow_truncated_uses_the_part_that_is_there_and_says_so(kind):
    data = encoded(np.full((200, 200, 3), 200, np.uint8), kind, **({"quality": 100} if kind == "JPEG" else {}))
    if kind == "PNG":
        data = encoded(picture(200, 200), kind)

    found = examine(data[: int(len(data) * 0.9)], Limits(allow_truncated=True))

    assert found.notes == ("truncated",)
    assert found.pixels.shape == (200, 200, 3)
    assert found.pixels.mean() > 100


def test_allowing_truncated_images_in_one_thread_does_not_let_them_through_in_another():
    data = encoded(picture(300, 300), "PNG")[:-2000]
    stop = threading.Event()

    def tolerate():
        while not stop.is_set():
            decode(data, allow_truncated=True)

    thread = threading.Thread(target=tolerate)
    thread.start()
    try:
        assert {code_of(data) for _ in range(30)} == {"truncated"}
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("text", [b"hello", b"<html><script>alert(1)</script>", b'{"a": 1}', b"\x00" * 50])
def test_text_with_an_image_extension_is_no_image_and_its_start_is_shown_escaped(text):
    with pytest.raises(Unreadable) as caught:
        examine(text, Limits(), name="x.jpg")

    assert caught.value.code == "not-an-image"
    assert repr(text[:24]) in caught.value.reason
    assert caught.value.reason.isprintable()


def test_a_wrong_extension_is_used_and_noted():
    found = examine(encoded(picture(), "PNG"), Limits(), name="photo.JPG")

    assert (found.pixels == picture()).all()
    assert found.notes == ("extension-mismatch",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_trailing_bytes_are_noted(kind):
    data = encoded(picture(), kind)

    assert examine(data, Limits()).notes == ()
    assert examine(data + b"\x00" * 30, Limits()).notes == ("trailing-bytes",)


def test_a_png_with_a_wrong_checksum_is_corrupt():
    data = bytearray(encoded(picture(), "PNG"))
    data[data.find(b"IDAT") + 500] ^= 0xFF

    assert code_of(bytes(data)) == "corrupt"


def test_a_huge_header_without_data_is_refused_before_decoding():
    stub = png_chunk(b"IDAT", b"x")

    assert code_of(png_header(60_000, 60_000) + stub) == "too-many-pixels"
    assert code_of(png_header(60_000, 60_000)) == "truncated"


def test_a_decompression_bomb_is_refused_before_decoding():
    rows = zlib.compress(bytes(20_000 // 8 + 1) * 200)
    bomb = png_header(20_000, 20_000) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")

    assert code_of(bomb) == "too-many-pixels"


def test_the_pixel_limit_counts_width_times_height():
    data = encoded(picture(40, 50), "PNG")

    assert decode(data, max_pixels=2000).shape == (40, 50, 3)
    assert code_of(data, max_pixels=1999) == "too-many-pixels"


def test_where_pillow_only_warns_we_decide():
    width, height = 10_000, 9_500  # above 89 megapixels Pillow warns, above 178 it refuses
    rows = zlib.compress(bytes(width // 8 + 1) * height)
    data = png_header(width, height) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")

    assert code_of(data) == "too-many-pixels"


def test_a_giant_text_chunk_costs_one_picture_at_most():
    chunk = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(b"a" * 80_000_000, 1))
    data = encoded(picture(), "PNG")
    position = data.index(b"IDAT") - 4

    assert code_of(data[:position] + chunk + data[position:]) == "corrupt"


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"%PDF-1.7\n",
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
        b"P6\n# by hand\n1 1\n255\nabc",
        b"P5 1 1 255 a",
        b"P7\nWIDTH 1\n",
        bytes(2) + b"\x02" + bytes(9) + b"\x01\x00\x01\x00\x18\x00abc" + bytes(8) + b"TRUEVISION-XFILE.\x00",
    ],
)
def test_other_picture_formats_are_named_as_unsupported(data):
    assert code_of(data) == "unsupported-format"


def test_sixteen_bits_are_scaled_not_saturated():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)

    pixels = decode(encoded(Image.fromarray(values), "PNG"))

    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floats_between_zero_and_one_are_scaled():
    values = np.array([[0, 0.5, 1.0, np.nan]], dtype=np.float32)

    assert decode(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 0]


def test_floats_of_any_range_are_stretched():
    values = np.array([[-1, 0, 1]], dtype=np.float32)

    assert decode(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


def test_infinite_and_missing_floats_are_black_and_do_not_stretch_the_others():
    values = np.array([1000, np.inf, 2000, np.nan, -np.inf, 1500], "<f4")

    assert decode(grey_tiff(values, sample_format=3))[0, :, 0].tolist() == [0, 0, 255, 0, 0, 128]
    assert decode(grey_tiff(values[1:2], sample_format=3)).tolist() == [[[0, 0, 0]]]


def test_unsigned_integers_of_32_bits_do_not_wrap():
    values = np.array([0, 2**31, 2**32 - 1], "<u4")

    assert decode(grey_tiff(values))[0, :, 0].tolist() == [0, 128, 255]
    assert decode(grey_tiff(np.array([-5, 0, 5], "<i4"), sample_format=2))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "sample_format"),
    [(np.array([0, 51, 255], "u1"), 1), (np.array([0, 51 * 257, 65535], "<u2"), 1), (np.array([0, 0.2, 1], "<f4"), 3)],
)
def test_grey_where_zero_is_white_is_inverted(values, sample_format):
    assert decode(grey_tiff(values, False, sample_format))[0, :, 0].tolist() == [0, 51, 255]
    assert decode(grey_tiff(values, True, sample_format))[0, :, 0].tolist() == [255, 204, 0]


def test_a_tiff_of_samples_that_are_not_read_is_unsupported():
    assert code_of(grey_tiff(np.array([0, 0.5, 1], "<f8"), sample_format=3)) == "unsupported-format"


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (16, struct.pack(">4H", 0, 257, 32896, 65535), b"\x01\x01", [0, 255, 128, 255]),
        (16, struct.pack(">4H", 0, 257, 32896, 65535), b"\x01\x02", [0, 1, 128, 255]),
        (8, bytes([0, 7, 9, 200]), b"\x00\x09", [0, 7, 255, 200]),
        (4, bytes([0x12, 0x3F]), b"\x00\x03", [17, 34, 255, 255]),
        (2, bytes([0b00011011]), b"\x00\x01", [0, 255, 170, 255]),
        (1, bytes([0b01010000]), b"\x00\x00", [255, 255, 255, 255]),
        (1, bytes([0b01010000]), b"\x00\x01", [0, 255, 0, 255]),
    ],
)
def test_the_transparent_grey_of_a_png_becomes_white_and_no_other(depth, row, transparent, expected):
    assert decode(grey_png(depth, row, transparent))[0, :, 0].tolist() == expected


def test_the_transparent_colour_of_a_png_of_16_bits_becomes_white():
    row = struct.pack(">6H", 0x0101, 0x0202, 0x0303, 0x0401, 0x0502, 0x0603)

    pixels = decode(grey_png(16, row, row[:6], colour=2, width=2))

    assert pixels.tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_transparency_is_laid_over_white():
    values = np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], dtype=np.uint8)

    assert decode(encoded(values, "PNG")).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = Image.fromarray(picture()).convert(mode)

    assert decode(encoded(image, "JPEG" if mode == "CMYK" else "PNG")).shape == (40, 50, 3)


def test_orientation_tags_are_obeyed():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "PNG", exif=exif)

    assert (decode(data) == np.rot90(picture(), -1)).all()


def test_a_broken_orientation_tag_costs_nothing():
    data = encoded(picture(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).shape == (40, 50, 3)


def test_pillows_warnings_do_not_come_out_and_do_not_cost_the_orientation():
    # A directory that promises two entries and holds the orientation alone: Pillow says "Corrupt EXIF data".
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x02\x00" + struct.pack("<HHII", 0x0112, 3, 1, 6)
    data = encoded(picture(), "PNG", exif=exif)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = examine(data, Limits())

    assert heard == []
    assert found.pixels.shape == (50, 40, 3)
    assert "broken-metadata" in found.notes


def test_an_animation_gives_its_first_frame_and_a_note():
    frames = [Image.fromarray(np.full((20, 20), value, np.uint8)) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])

    found = examine(data, Limits())

    assert found.notes == ("first-frame",)
    assert (found.pixels == 10).all()


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "large.jpg").write_bytes(b"12345")

    def code(name, **options):
        with pytest.raises(Unreadable) as caught:
            read_file(str(tmp_path / name), **options)
        return caught.value.code

    assert code("pipe.jpg") == code("folder.jpg") == "not-a-regular-file"
    assert code("empty.jpg") == "empty"
    assert code("loop.jpg") == code("dangling.jpg") == code("missing.jpg") == code("a\x00b") == "unreadable"
    assert code("large.jpg", max_bytes=4) == "too-many-bytes"
    assert read_file(str(tmp_path / "large.jpg")) == b"12345"
