"""Folders: rows 17, 20, 22 and 24 of the fault table."""

import os

import numpy as np
import pytest
from PIL import Image

from winnow.data.open import open_source
from winnow.data.source import Unreadable
from winnow.errors import InputError, UsageError


def put(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((10, 10, 3), value, np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    for name in ("dog/1.png", "dog/2.png", "cat/1.png"):
        put(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_sub_folders_are_the_classes_and_paths_the_ids(photos):
    source = open_source(photos)

    assert source.class_names == ("cat", "dog")
    assert list(source.ids) == ["cat/1.png", "dog/1.png", "dog/2.png"]
    assert source.noisy_labels.tolist() == [0, 1, 1]
    assert source.noisy_labels.dtype == np.int64
    assert source.pictures.read(0).shape == (10, 10, 3)
    assert source.notes == ()


def test_hidden_things_are_passed_over_and_an_empty_class_is_kept_and_listed(photos):
    put(photos / ".cache" / "1.png")
    put(photos / "cat" / ".hidden.png")
    (photos / "eel").mkdir()

    source = open_source(photos)

    assert source.class_names == ("cat", "dog", "eel")
    assert len(source) == 3
    assert source.notes == ("Classes without an image: eel.",)


def test_no_two_files_or_classes_have_the_same_name_once_it_is_printable(photos):
    folder = os.fsencode(photos / "cat")
    names = [b"r\xff.png", rb"r\xff.png", rb"r\x5cxff.png", b"r\\\xff.png", rb"r\\xff.png", rb"a\b.png", rb"C:\x20.png"]
    for name in names:
        put(photos / "cat" / "new.png")
        os.rename(os.path.join(folder, b"new.png"), os.path.join(folder, name))
    for name in (b"\xe9", rb"\xe9"):
        os.mkdir(os.path.join(os.fsencode(photos), name))

    source = open_source(photos)

    cats = {name for name in source.ids if name.startswith("cat/")}
    assert len(cats) == 1 + len(names)
    assert {r"cat/r\xff.png", r"cat/r\x5cxff.png", r"cat/a\b.png", r"cat/C:\x20.png"} <= cats
    assert source.num_classes == 4


def test_nested_files_belong_to_the_first_levels_class(photos):
    put(photos / "cat" / "indoors" / "night" / "3.png")

    source = open_source(photos)

    assert list(source.ids)[:2] == ["cat/1.png", "cat/indoors/night/3.png"]
    assert source.noisy_labels.tolist() == [0, 0, 1, 1]


def test_classes_that_differ_only_in_case_stay_apart_and_are_noted(photos):
    put(photos / "Cat" / "1.png")

    source = open_source(photos)

    assert source.class_names == ("Cat", "cat", "dog")
    assert source.notes == ("Classes that differ only in case are kept apart: Cat and cat.",)


def test_other_files_are_counted_but_not_read(photos):
    (photos / "cat" / "notes.txt").write_text("x")
    put(photos / "loose.png")

    assert open_source(photos).notes == (
        "Images that lie outside the class folders were passed over: 1.",
        "Files without an image's extension were passed over: 1.",
    )


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("10", "9", "0"):
        put(tmp_path / name / "1.png")

    assert open_source(tmp_path).class_names == ("0", "9", "10")


def test_a_link_out_of_the_folder_is_refused_unless_allowed(photos, tmp_path):
    put(tmp_path / "outside" / "x.png")
    (photos / "cat" / "x.png").symlink_to(tmp_path / "outside" / "x.png")
    (photos / "cat" / "more").symlink_to(tmp_path / "outside")

    source = open_source(photos)
    row = list(source.ids).index("cat/x.png")

    assert len(source) == 4
    assert source.notes == ("Links to folders were passed over: 1 (--follow-links allows them).",)
    with pytest.raises(Unreadable, match="link-outside"):
        source.pictures.read(row)

    followed = open_source(photos, follow_links=True)
    assert len(followed) == 5
    assert followed.pictures.read(row).shape == (10, 10, 3)


def test_a_link_loop_ends(photos):
    (photos / "cat" / "again").symlink_to(photos / "cat")

    assert len(open_source(photos, follow_links=True)) == 3


def test_a_link_inside_the_folder_is_read(photos):
    (photos / "cat" / "twin.png").symlink_to(photos / "cat" / "1.png")

    source = open_source(photos)

    assert source.pictures.read(list(source.ids).index("cat/twin.png")).shape == (10, 10, 3)


def test_a_folder_named_like_an_image_and_a_pipe_are_rows_that_cannot_be_read(photos):
    (photos / "cat" / "x.jpg").mkdir()
    os.mkfifo(photos / "cat" / "y.jpg")

    source = open_source(photos)

    for name in ("cat/x.jpg", "cat/y.jpg"):
        with pytest.raises(Unreadable, match="not-a-regular-file"):
            source.pictures.read(list(source.ids).index(name))


def test_names_are_taken_literally(tmp_path):
    names = ["<script>alert(1)</script>".replace("/", "_"), "=cmd()", "{{7*7}}", "a\nb", "\u202eabc", " "]
    for name in names:
        put(tmp_path / name / f"{name}.png")

    source = open_source(tmp_path)

    assert set(source.class_names) == set(names)
    assert all(source.pictures.read(row).shape == (10, 10, 3) for row in range(len(source)))


def test_a_name_that_is_no_utf8_gets_a_readable_id(photos):
    os.rename(os.fsencode(photos / "cat" / "1.png"), os.path.join(os.fsencode(photos / "cat"), b"\xff.png"))

    source = open_source(photos)

    assert source.ids[0] == "cat/\\xff.png"
    assert source.pictures.read(0).shape == (10, 10, 3)


def test_a_test_folder_takes_the_training_classes(photos):
    source = open_source(photos, class_names=("bird", "cat", "dog"))

    assert source.class_names == ("bird", "cat", "dog")
    assert source.noisy_labels.tolist() == [1, 2, 2]


def test_a_folder_that_is_no_known_class_is_an_error(photos):
    with pytest.raises(InputError, match="name no known class: 'dog'; known are cat, cow"):
        open_source(photos, class_names=("cat", "cow"))


def test_without_labels_images_may_lie_directly_in_the_folder(tmp_path):
    put(tmp_path / "1.png")
    put(tmp_path / "other" / "2.png")

    source = open_source(tmp_path, class_names=("cat",), unlabelled_ok=True)

    assert source.noisy_labels.tolist() == [-1, -1]


def test_a_folder_without_classes_or_images_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="one sub-folder per class is needed, but it has no sub-folders"):
        open_source(tmp_path)
    put(tmp_path / "1.png")
    with pytest.raises(InputError, match="1 images lie directly in it"):
        open_source(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="no images in its 1 sub-folders"):
        open_source(tmp_path)


def test_a_folder_of_splits_is_recognised(tmp_path):
    put(tmp_path / "train" / "cat" / "1.png")
    put(tmp_path / "test" / "cat" / "1.png")

    with pytest.raises(InputError, match=r"\(test, train\) are splits, not classes"):
        open_source(tmp_path)


def test_a_folder_has_no_columns(photos):
    with pytest.raises(UsageError, match="a folder has no columns"):
        open_source(photos, label_column="label")
