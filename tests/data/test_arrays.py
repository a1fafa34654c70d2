"""Arrays of a program in place of a file."""

from __future__ import annotations

import numpy as np
import pytest

import winnow
from winnow.data.open import open_source, open_test
from winnow.errors import InputError

ROWS = 60


def arrays(**more):
    random = np.random.default_rng(0)
    labels = np.arange(ROWS) % 3
    images = (random.integers(0, 60, (ROWS, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
    return {"x": images, "y": labels, **more}


def test_they_are_read_as_an_npz_of_the_same_arrays_is(tmp_path):
    given = arrays(class_names=np.array(["ant", "bee", "cat"]), truth=np.arange(ROWS) % 3)
    np.savez(tmp_path / "same.npz", **given)
    mine = open_source(given, clean_label_column="truth", limit=20)
    theirs = open_source(tmp_path / "same.npz", clean_label_column="truth", limit=20)
    assert mine.class_names == theirs.class_names == ("ant", "bee", "cat")
    assert list(mine.ids) == list(theirs.ids)
    np.testing.assert_array_equal(mine.noisy_labels, theirs.noisy_labels)
    assert mine.clean_labels is not None
    assert mine.clean_labels.wrong(mine.noisy_labels).sum() == 0


def test_lists_and_names_will_do():
    source = open_source({"x": arrays()["x"], "y": ["cat", "ant", "cat"] * 20})
    assert source.class_names == ("ant", "cat")
    assert source.noisy_labels[:3].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"x": np.zeros((ROWS, 8, 8))}, "the arrays: array 'x' is of type float64; uint8 from 0 to 255 is needed"),
        ({"y": np.arange(5)}, "the arrays: 5 labels 'y' for 60 images"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(wrong, line):
    with pytest.raises(InputError, match=line):
        open_source(arrays(**wrong))


def test_a_test_set_may_be_arrays_too():
    source = open_source(arrays(class_names=np.array(["ant", "bee", "cat"])))
    assert open_test(arrays(y=np.array(["cat"] * ROWS)), source).noisy_labels.tolist() == [2] * ROWS


def test_they_are_audited_but_cannot_be_opened_again_for_an_export(tmp_path):
    found = winnow.audit(arrays(), out=tmp_path / "audit", test=arrays())
    assert found.summary["num_images"] == ROWS
    assert found.summary["counts"]["test_leak"] > 0
    from winnow.audit.folder import opened_again

    with pytest.raises(InputError, match="the arrays"):
        opened_again(tmp_path / "audit")
