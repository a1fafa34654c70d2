"""Odd files: each kind planted once among photographs is found, and nothing else is."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from winnow.audit.odd_files import find_odd
from winnow.data.collection import load
from winnow.data.open import open_source


def photographs(count, size=(60, 50)):
    random = np.random.default_rng(0)
    for place in range(count):
        whole = load_sample_images().images[place % 2]
        top, left = random.integers(0, 120), random.integers(0, 240)
        yield Image.fromarray(whole[top : top + 300, left : left + 360]).resize(size, Image.Resampling.BICUBIC)


def odd(folder):
    source = open_source(folder)
    collection = load(source)
    names = [source.ids[row].split("/")[-1] for row in collection.rows]
    return {
        found.kind: {names[row]: text for row, text in zip(found.rows, found.reasons, strict=True)}
        for found in find_odd(collection)
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "data"
    (folder / "one").mkdir(parents=True)
    *usual, last = photographs(121)
    for place, picture in enumerate(usual):
        picture.save(folder / f"one/{place:03d}.png")
    planted = {
        "blank.png": Image.new("RGB", (60, 50), (200, 30, 30)),
        "dark.png": last.point(lambda level: level // 16),
        "bright.png": last.point(lambda level: 235 + level // 14),
        "blurred.png": last.filter(ImageFilter.GaussianBlur(12)),
        "large.png": last.resize((600, 500)),
        "small.png": last.resize((12, 10)),
        "wide.png": last.resize((300, 20)),
        "alpha.png": last.convert("RGBA"),
        "cmyk.jpg": last.convert("CMYK"),
        "deep.png": Image.fromarray(np.asarray(last.convert("L")).astype(np.uint16) * 257),
    }
    for name, picture in planted.items():
        picture.save(folder / "one" / name)
    last.save(folder / "one/named.jpg", "PNG")
    return odd(folder)


def test_each_kind_is_found_once(found):
    kinds = {kind: set(names) for kind, names in found.items()}

    assert kinds["blank"] == {"blank.png"}
    assert kinds["dark"] == {"dark.png"}
    assert kinds["bright"] == {"bright.png"}
    assert "blurred.png" in kinds["blurred"]
    assert kinds["blurred"] <= {"blurred.png", "small.png"}
    assert kinds["odd_size"] == {"large.png", "small.png"}
    assert kinds["odd_shape"] == {"wide.png"}
    assert kinds["odd_mode"] == {"alpha.png", "cmyk.jpg", "deep.png"}
    assert kinds["odd_file"] == {"named.jpg"}


def test_reasons_tell_the_numbers(found):
    assert found["odd_size"]["large.png"] == "It is 600 x 500 pixels, in the middle are 60 x 50."
    assert found["odd_mode"]["cmyk.jpg"].startswith("Its pixels are stored as CMYK, as in 1 of 131 files")
    assert found["odd_file"]["named.jpg"] == "The file is named with another format's extension (extension-mismatch)."
    assert "one colour" in found["blank"]["blank.png"]


def test_digits_have_nothing_odd():
    assert [len(each) for each in find_odd(load(open_source("digits")))] == [0] * 8


def test_among_a_few_only_blank_pictures_and_remarks_are_odd(tmp_path):
    (tmp_path / "one").mkdir()
    for place, picture in enumerate(photographs(3)):
        picture.resize((60, 10 + 100 * place)).save(tmp_path / f"one/{place}.png")
    Image.new("L", (30, 30)).save(tmp_path / "one/blank.png")
    kinds = odd(tmp_path)

    assert set(kinds) == {"blank", "odd_file"}
    assert set(kinds["blank"]) == {"blank.png"}


@pytest.mark.parametrize(("alone", "others", "word"), [("L", "RGB", "grey"), ("RGB", "L", "coloured")])
def test_one_grey_picture_among_coloured_ones_is_odd_and_the_reverse(tmp_path, alone, others, word):
    (tmp_path / "one").mkdir()
    for place, picture in enumerate(photographs(12)):
        picture.convert(others if place else alone).save(tmp_path / f"one/{place}.png")

    assert odd(tmp_path)["odd_mode"] == {"0.png": f"It is {word}, as 1 of 12 pictures are."}


def test_what_many_share_is_not_odd(tmp_path):
    (tmp_path / "one").mkdir()
    for place, picture in enumerate(photographs(40)):
        (picture.convert("L").resize((600, 500)) if place % 10 == 0 else picture).save(tmp_path / f"one/{place}.png")

    assert not any(odd(tmp_path).values())
