"""What is kept of an embedding, and under which name."""

import numpy as np
import pytest

from winnow.audit.embedded import ByHeart, Embedding, content_key, keep, kept
from winnow.data.pixels import ArrayPixels
from winnow.errors import MachineError

EMBEDDING = Embedding(
    np.arange(6, dtype=np.float32).reshape(3, 2),
    np.array([[0.1, 0.9], [0.5, 0.5], [1, 0]], np.float32),
    np.array([0.2, np.nan, 0.7], np.float32),
    "two networks",
    ByHeart((90, 100), (6, 10)),
)


def key(pixel=0, label=0, classes=2, **settings):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[1, 7, 7] = pixel
    return content_key(ArrayPixels(images), np.array([1, label]), classes, settings)


def test_the_name_depends_on_every_pixel_label_and_setting():
    names = [key(), key(pixel=1), key(label=1), key(classes=3), key(seed=1)]
    assert len(set(names)) == len(names)
    assert key() == key()


def test_pictures_of_another_shape_have_another_name():
    flat = content_key(ArrayPixels(np.zeros((1, 8, 8, 4), np.uint8)), np.array([0]), 2, {})
    assert flat != content_key(ArrayPixels(np.zeros((1, 16, 16, 1), np.uint8)), np.array([0]), 2, {})


@pytest.mark.parametrize("without", [(), ("probs",), ("probs", "memory", "by_heart")])
def test_what_is_kept_comes_back_to_the_bit(tmp_path, without):
    embedding = Embedding(**{**vars(EMBEDDING), **dict.fromkeys(without)})
    keep(embedding, tmp_path / "e.npz")
    found = kept(tmp_path / "e.npz", 3)
    assert found.description == embedding.description
    assert found.by_heart == embedding.by_heart
    for name in ("features", "probs", "memory"):
        expected, came = getattr(embedding, name), getattr(found, name)
        assert came is None if expected is None else came.tobytes() == expected.tobytes()


def test_a_file_that_is_missing_damaged_or_of_other_pictures_is_no_embedding(tmp_path):
    path = tmp_path / "e.npz"
    assert kept(path, 3) is None
    keep(EMBEDDING, path)
    assert kept(path, 4) is None
    whole = path.read_bytes()
    middle = whole.index(np.float32(0.9).tobytes())
    for damaged in (b"", whole[: len(whole) // 2], whole[:middle] + b"\0\0" + whole[middle + 2 :]):
        path.write_bytes(damaged)
        assert kept(path, 3) is None


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(MachineError, match="gone"):
        keep(EMBEDDING, tmp_path / "gone" / "e.npz")


def test_by_heart_is_what_is_known_better_for_having_been_learnt():
    known = ByHeart((90, 100), (6, 10))
    assert known.share == pytest.approx(0.3)
    assert known.deviation == pytest.approx((91 / 102 * 11 / 102 / 100 + 7 / 12 * 5 / 12 / 10) ** 0.5)
    assert ByHeart((50, 100), (6, 10)).share == 0
    assert ByHeart((100, 100), (1, 1)).deviation > 0.4  # one image says next to nothing
