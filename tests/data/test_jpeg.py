"""The short way for plain JPEG files: the pixels that Pillow gives, and nothing that Pillow would refuse."""

from io import BytesIO

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.test_decode import encoded, picture
from winnow.data import decode as decoding
from winnow.data import jpeg
from winnow.data.decode import Limits, decode, decoder, examine
from winnow.data.jpeg import decode_plain
from winnow.data.source import Unreadable

pytestmark = pytest.mark.skipif(jpeg.simplejpeg is None, reason="simplejpeg is not installed")
ENOUGH = 10**9


def by_pillow(data):
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 75, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (32, 32), (33, 65)])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_those_of_pillow_bit_by_bit(quality, subsampling, shape, progressive):
    for image in (picture(*shape), smooth(*shape)):
        data = encoded(image, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)

        assert (decode_plain(data, ENOUGH) == by_pillow(data)).all()


def test_grey_files_become_three_equal_channels():
    data = encoded(Image.fromarray(smooth(20, 30)).convert("L"), "JPEG", quality=90)

    assert (decode_plain(data, ENOUGH) == by_pillow(data)).all()


@pytest.mark.parametrize("name", ["cifar10_test", "tinyimagenet100_val"])
def test_real_files_are_all_taken_and_have_pillows_pixels(research_data, name):
    file = pq.ParquetFile(research_data / f"{name}.parquet")
    batch = next(file.iter_batches(600, columns=["image"]))
    images = batch.column(0).to_pylist()

    for image in images:
        data = image["bytes"] if isinstance(image, dict) else image
        assert np.array_equal(decode_plain(data, ENOUGH), by_pillow(data))


def with_segment(data, marker, content):
    """A segment put in after the JFIF header."""
    place = 4 + int.from_bytes(data[4:6])
    return data[:place] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content + data[place:]


def plain():
    return encoded(smooth(40, 50), "JPEG", quality=90)


ODD = {
    "orientation": encoded(smooth(40, 50), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06"),
    "xmp": with_segment(plain(), 0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
    "adobe transform": with_segment(plain(), 0xEE, b"Adobe\0d\0\0\0\0\0"),
    "profile": encoded(smooth(40, 50), "JPEG", icc_profile=b"x" * 200),
    "cmyk": encoded(Image.fromarray(smooth(40, 50)).convert("CMYK"), "JPEG"),
    "no JFIF": plain()[:2] + plain()[20:],
    "short JFIF": plain()[:4] + b"\0\x07JFIF\0" + plain()[20:],
    "trailing bytes": plain() + b"\0" * 9,
    "several pictures": encoded(Image.fromarray(smooth(40, 50)), "MPO", save_all=True, append_images=[
        Image.fromarray(smooth(40, 50))]),
    "no end": plain()[:-2],
    "end only": plain()[:-60] + b"\xff\xd9",
    "fill bytes": plain()[:20] + b"\xff" + plain()[20:],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_whatever_is_odd_is_left_to_pillow(name):
    assert decode_plain(plain(), ENOUGH) is not None
    assert decode_plain(ODD[name], ENOUGH) is None


def test_a_picture_above_the_limit_is_refused():
    with pytest.raises(Unreadable, match="too-many-pixels: 50 x 40, more than 1,999"):
        decode(plain(), max_pixels=1999)
    assert decode(plain(), max_pixels=2000).shape == (40, 50, 3)


def test_no_cut_off_file_is_taken_wherever_the_cut():
    data = encoded(smooth(24, 24), "JPEG", quality=50)

    assert all(decode_plain(data[:end], ENOUGH) is None for end in range(len(data)))
    assert all(decode_plain(data[:end] + b"\xff\xd9", ENOUGH) is None for end in range(len(data) - 2 - 8))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3), st.booleans())
def test_a_damaged_file_is_taken_only_if_pillow_takes_it_with_the_same_pixels(changes, progressive):
    data = bytearray(encoded(smooth(24, 24), "JPEG", quality=50, progressive=progressive))
    for place, value in changes:
        data[place % len(data)] = value
    found = decode_plain(bytes(data), 10**6)

    if found is not None:
        assert np.array_equal(found, by_pillow(bytes(data)))


def test_a_file_with_the_same_header_but_another_size_is_measured_anew():
    for shape in ((16, 16), (16, 24), (16, 16), (24, 16)):
        data = encoded(smooth(*shape), "JPEG", quality=90)
        assert decode_plain(data, ENOUGH).shape == (*shape, 3)


def test_remarks_are_those_of_the_long_way(monkeypatch):
    cases = [(plain(), "a.jpg"), (plain(), "a.png"), (encoded(smooth(3, 90), "JPEG"), "")]
    short = [examine(data, Limits(), name=name).notes for data, name in cases]
    monkeypatch.setattr(decoding, "decode_plain", lambda data, most: None)

    assert short == [examine(data, Limits(), name=name).notes for data, name in cases]
    assert short == [(), ("extension-mismatch",), ("degenerate",)]


def test_without_the_extra_everything_goes_to_pillow(monkeypatch):
    data = plain()
    expected = decode(data)
    monkeypatch.setattr(jpeg, "simplejpeg", None)

    assert decode_plain(data, ENOUGH) is None
    assert (decode(data) == expected).all()


def test_the_decoder_is_recorded_with_its_versions():
    assert decoder() == f"pillow {Image.__version__}, simplejpeg {jpeg.simplejpeg.__version__}"
