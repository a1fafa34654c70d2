import os
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures import message
from winnow.data.builtin import digits
from winnow.data.open import open_source, open_test
from winnow.errors import UsageError


@pytest.fixture
def write_npz(tmp_path):
    def write(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return path

    return write


def grey(count=4):
    return np.arange(count * 64, dtype=np.uint8).reshape(count, 8, 8)


def test_an_npz_holds_pictures_labels_and_class_names(write_npz):
    source = open_source(write_npz(x=grey(), y=[0, 2, 1, 0], class_names=["a", "b", "c"]))

    assert source.class_names == ("a", "b", "c")
    assert source.noisy_labels.tolist() == [0, 2, 1, 0]
    assert list(source.ids) == ["000000", "000001", "000002", "000003"]
    assert source.grey
    assert (source.pictures.read(1) == grey()[1][..., None]).all()


def test_an_npz_may_hold_several_label_columns(write_npz):
    path = write_npz(x=grey(), y=[0, 1, 1, 0], worse=[1, 1, 1, 0])

    source = open_source(path, label_column="worse", clean_label_column="y")

    assert source.noisy_labels.tolist() == [1, 1, 1, 0]
    assert source.clean_labels.accuracy(source.noisy_labels) == 0.75
    assert "did you mean --label-column worse?" in message(path, label_column="wors")


def test_booleans_are_the_classes_true_and_false(write_npz):
    source = open_source(write_npz(x=grey(), y=np.array([True, False, True, True])))

    assert source.class_names == ("false", "true")
    assert source.noisy_labels.tolist() == [1, 0, 1, 1]


def test_class_names_that_stand_there_twice_are_refused(write_npz):
    single = write_npz(x=grey(), y=[0, 2, 1, 0], class_names=["a", "b", "a"])
    assert "its class names list 'a' twice" in message(single)

    cells = write_npz(x=grey(), y=np.eye(4, 3, dtype=np.int8), class_names=["a", "b", "b"])
    assert "its class names list 'b' twice" in message(cells)


def test_a_name_or_id_of_half_a_character_is_refused(write_npz):
    assert r"the class name '\ud800'" in message(write_npz(x=grey(), y=[0, 1, 1, 0], class_names=["a", "\ud800"]))
    assert r"'\ud800' (no valid text) at index 1" in message(write_npz(x=grey(), y=["a", "\ud800", "a", "a"]))
    ids = ["1", "2", "\ud800", "4"]
    assert r"'id' '\ud800' at index 2 is no valid text" in message(write_npz(x=grey(), y=[0, 1, 1, 0], id=ids))


def test_an_npz_never_unpickles(write_npz, tmp_path):
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(canary),))

    path = write_npz(x=grey(1), y=np.array([Hostile()], dtype=object))

    assert "cannot be read" in message(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": grey().astype(float), "y": [0, 1, 0, 1]}, "uint8 from 0 to 255"),
        ({"x": np.zeros((2, 3, 8, 8), np.uint8), "y": [0, 1]}, "channels belong last"),
        ({"x": np.zeros((2, 8), np.uint8), "y": [0, 1]}, "2x8"),
        ({"x": np.zeros((0, 8, 8), np.uint8), "y": []}, "no images"),
        ({"x": grey(), "y": [0, 1]}, "2 labels 'y' for 4 images"),
        ({"x": grey(), "y": [0, 1, -1, 0]}, "-1 (negative) at index 2"),
        ({"x": grey(), "y": [0.0, 1.0, 3.0, 0.0]}, "'3.0' (no whole number) at index 2"),
        ({"x": grey(), "y": [[0], [1], [1], [0]]}, "one label an image"),
        ({"x": grey()}, "no column 'y'"),
        ({"y": [1]}, "no column 'x'"),
        ({"x": grey(), "y": [0] * 4, "id": ["a"] * 4}, "'a' at index 0 and index 1"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(write_npz, arrays, expected):
    assert expected in message(write_npz(**arrays))


def test_a_damaged_npz_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nonsense")

    assert "cannot be read as .npz" in message(tmp_path / "x.npz")


def test_digits_are_split_once_for_all_and_balanced():
    train, test = digits(), digits(test=True)

    assert (len(train), len(test)) == (1437, 360)
    assert np.bincount(test.noisy_labels).tolist() == [36] * 10
    assert not set(train.ids) & set(test.ids)
    assert test.ids[:3] == digits(test=True).ids[:3]
    assert train.pictures.array.dtype == np.uint8
    assert train.pictures.array.max() == 255
    assert (train.grey, train.mirror) == (True, False)


def test_digits_bring_their_test_set():
    source = open_source("digits")

    assert len(source.test()) == 360
    assert source.test_address == "digits:test"
    assert len(open_source("digits:test")) == 360


def test_digits_have_no_columns():
    with pytest.raises(UsageError, match="no columns to choose from; leave --label-column away"):
        open_source("digits", label_column="x")


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar10n:worse"])
def test_absent_files_name_the_option_and_the_variable(name, tmp_path, monkeypatch):
    monkeypatch.delenv("WINNOW_DATA", raising=False)

    assert "--root FOLDER or WINNOW_DATA=FOLDER" in message(name)
    assert str(tmp_path) in message(name, root=tmp_path)


def test_limit_is_a_subset_fixed_by_the_data_in_source_order():
    whole = open_source("digits")

    part = open_source("digits", limit=100)
    places = [list(whole.ids).index(name) for name in part.ids]

    assert len(part) == 100
    assert places == sorted(places)
    assert part.noisy_labels.tolist() == whole.noisy_labels[places].tolist()
    assert (part.pictures.array == whole.pictures.array[places]).all()
    assert set(part.ids) < set(open_source("digits", limit=200).ids)
    assert part.class_names == whole.class_names
    assert len(part.test()) == 360
    with pytest.raises(UsageError, match="at least 1"):
        open_source("digits", limit=0)


needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("WINNOW_DATA", "nowhere")) / "cifar10_train.parquet").is_file(),
    reason="WINNOW_DATA does not name the research data",
)


@needs_data
def test_mnist_comes_with_its_test_set():
    source = open_source("mnist")

    assert (len(source), len(source.test())) == (60_000, 10_000)
    assert source.noisy_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (source.grey, source.mirror) == (True, False)


@needs_data
@pytest.mark.parametrize(("column", "wrong"), [("aggre", 0.0901), ("random1", 0.17234), ("worse", 0.40208)])
def test_human_cifar_labels_have_their_published_error(column, wrong):
    source = open_source(f"cifar10n:{column}")

    assert source.class_names[0] == "airplane"
    assert source.clean_labels.accuracy(source.noisy_labels) == pytest.approx(1 - wrong, abs=1e-5)
    assert len(source.test()) == 10_000
    assert source.test().noisy_labels.max() == 9


def test_a_built_in_named_as_test_set_means_its_test_images():
    train = open_source("digits")

    test = open_test("digits", train)

    assert len(test) == 360
    assert not set(test.ids) & set(train.ids)
