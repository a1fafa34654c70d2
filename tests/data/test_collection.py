"""Decoding whole sources: rows 1, 2, 13 and 50 of the fault table."""

from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from winnow.data.collection import load, write_quarantine
from winnow.data.open import open_source
from winnow.data.pictures import ArrayPictures
from winnow.data.source import Source
from winnow.errors import InputError


def encoded(pixels, kind="PNG"):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def colours(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def source_of(tmp_path):
    def build(pictures, **options):
        path = tmp_path / "pictures.parquet"
        data = [item if isinstance(item, bytes) else encoded(item) for item in pictures]
        pq.write_table(pa.table({"image": data, "label": [0] * len(data)}), path)
        return open_source(path, **options)

    return build


def arrays(array, **options):
    ids = [f"{row:06d}" for row in range(len(array))]
    return Source("a.npz", ids, ("x",), np.zeros(len(array), np.int64), ArrayPictures(array), **options)


def test_small_pictures_of_one_size_are_kept_to_the_pixel(source_of):
    pictures = [colours(32, 32, seed) for seed in range(200)]

    found = load(source_of(pictures))

    assert (found.images == np.stack(pictures)).all()
    assert found.rows.tolist() == list(range(200))
    assert found.size == 32


def test_other_sizes_become_squares_of_64(source_of):
    found = load(source_of([colours(30, 40), colours(100, 300), colours(64, 64)]))

    assert found.images.shape == (3, 64, 64, 3)
    assert (found.images[2] == colours(64, 64)).all()


def test_large_pictures_of_one_size_become_64(source_of):
    assert load(source_of([colours(65, 65)] * 3)).images.shape == (3, 64, 64, 3)


def test_the_result_does_not_depend_on_which_picture_comes_first(source_of):
    pictures = [colours(30, 40), colours(100, 300), colours(20, 20), colours(64, 64)]

    forward = load(source_of(pictures)).images
    backward = load(source_of(pictures[::-1])).images

    assert (forward == backward[::-1]).all()


def test_a_small_size_off_the_square_is_cropped_at_the_centre(source_of):
    pictures = [colours(32, 40, seed) for seed in range(3)]

    assert (load(source_of(pictures)).images == np.stack(pictures)[:, :, 4:36]).all()


def test_a_given_size_is_obeyed(source_of):
    assert load(source_of([colours(32, 32), colours(9, 90)]), size=24).images.shape == (2, 24, 24, 3)


def test_scaling_averages_rather_than_picks(source_of):
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255

    images = load(source_of([stripes])).images

    assert np.abs(images.astype(int) - 127).max() < 12


def test_one_channel_is_enough_if_every_picture_is_grey(source_of):
    grey = [np.repeat(colours(16, 16, seed)[..., :1], 3, axis=2) for seed in range(3)]

    assert (load(source_of(grey)).images == np.stack(grey)[..., :1]).all()
    assert load(source_of([*grey, colours(16, 16)])).images.shape == (4, 16, 16, 3)


def test_unreadable_pictures_are_set_aside_with_place_id_and_reason(source_of, tmp_path):
    cut = encoded(colours(32, 32))[:-200]
    wrong_sum = bytearray(encoded(colours(32, 32)))
    wrong_sum[200] ^= 255

    found = load(source_of([b"", colours(32, 32), b"text", cut, bytes(wrong_sum), colours(32, 32, 1)]))

    assert [(item.row, item.id, item.code) for item in found.quarantined] == [
        (0, "000000", "empty"),
        (2, "000002", "not-an-image"),
        (3, "000003", "truncated"),
        (4, "000004", "corrupt"),
    ]
    assert found.rows.tolist() == [1, 5]
    assert (found.images == np.stack([colours(32, 32), colours(32, 32, 1)])).all()
    write_quarantine(tmp_path / "quarantine.parquet", found.quarantined)
    table = pq.read_table(tmp_path / "quarantine.parquet")
    assert table.column_names == ["row", "id", "code", "reason"]
    assert table["code"].to_pylist() == ["empty", "not-an-image", "truncated", "corrupt"]


def test_a_file_named_with_another_formats_extension_is_told(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(encoded(colours(9, 9), "BMP"))
    (tmp_path / "x" / "b.png").write_bytes(encoded(colours(9, 9)))

    found = load(open_source(tmp_path))

    assert found.notes == ("1 images named with another format's extension (extension-mismatch): x/a.png.",)


def test_truncated_pictures_can_be_used_and_are_told(source_of):
    cut = encoded(colours(32, 32))[:-200]

    found = load(source_of([cut, colours(32, 32)], allow_truncated=True))

    assert len(found.images) == 2
    assert found.notes == ("1 images cut off; what could be decoded is used (truncated): 000000.",)


def test_if_nothing_can_be_used_the_reasons_are_counted(source_of):
    with pytest.raises(InputError, match=r"none of the 3 images can be used: 2 empty, 1 not-an-image"):
        load(source_of([b"", b"", b"text"]))


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_or_identical_pictures_are_fine(source_of, count):
    assert load(source_of([colours(12, 12)] * count)).images.shape == (count, 12, 12, 3)


def test_extreme_shapes_are_used_and_noted(source_of):
    found = load(source_of([colours(1, 1), colours(1, 5000), colours(2000, 1)]))

    assert found.images.shape == (3, 64, 64, 3)
    assert "degenerate" in found.notes[0]


def test_no_images_at_all_is_an_error():
    with pytest.raises(InputError, match="no images"):
        load(arrays(np.zeros((0, 8, 8), np.uint8)))


def test_arrays_are_taken_as_they_are():
    pixels = colours(28, 28)[None].repeat(5, axis=0)

    assert (load(arrays(pixels)).images == pixels).all()
    assert load(arrays(pixels[..., 0], grey=True)).images.shape == (5, 28, 28, 1)
    assert load(arrays(pixels[..., :1].repeat(3, axis=3))).images.shape == (5, 28, 28, 1)
    assert load(arrays(colours(100, 80)[None])).images.shape == (1, 64, 64, 3)


def test_broken_metadata_neither_cost_the_picture_nor_clutter_the_terminal(source_of):
    buffer = BytesIO()
    Image.fromarray(colours(16, 16)).save(buffer, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")

    assert load(source_of([buffer.getvalue()])).quarantined == []


def test_progress_counts_to_the_end(source_of):
    seen = []

    load(source_of([colours(9, 9)] * 150), progress=lambda done, total: seen.append((done, total)))

    assert seen == [(64, 150), (128, 150), (150, 150)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 80), st.integers(1, 80)), min_size=1, max_size=6))
def test_every_mixture_of_sizes_gives_one_square_array(tmp_path_factory, shapes):
    path = tmp_path_factory.mktemp("mixture") / "pictures.parquet"
    data = [encoded(colours(*shape)) for shape in shapes]
    pq.write_table(pa.table({"image": data, "label": [0] * len(data)}), path)

    found = load(open_source(path))

    assert found.images.shape[:3] == (len(shapes), found.size, found.size)
    assert 8 <= found.size <= 64
