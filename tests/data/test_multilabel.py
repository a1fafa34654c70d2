"""Labels where an image may have several classes: absent and unknown are kept apart."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from winnow.data.classes import from_array, from_texts
from winnow.data.multilabel import (
    cells_from_columns,
    cells_from_matrix,
    encode_sets,
    is_list_column,
    sets_from_arrow,
    sets_from_lists,
    sets_from_texts,
)
from winnow.data.open import open_source, open_test
from winnow.errors import InputError, UsageError

PLACE = "abcd".__getitem__


def test_a_list_names_what_is_present_and_a_missing_list_says_nothing():
    raw = sets_from_lists("tags", [["dog", "cat"], [], None, ["cat"]], "t")

    names, [cells] = encode_sets([raw], PLACE, class_names=None, where="t")

    assert names == ("cat", "dog")
    assert cells.tolist() == [[1, 1], [0, 0], [-1, -1], [1, 0]]
    assert cells.dtype == np.int8


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string())])
def test_arrow_lists_of_names_read_the_same(kind):
    column = pa.chunked_array([pa.array([["dog", "cat"], []], kind), pa.array([None, ["cat"]], kind)])
    assert is_list_column(column.type)

    names, [cells] = encode_sets([sets_from_arrow("tags", column, "t")], PLACE, class_names=None, where="t")

    assert names == ("cat", "dog")
    assert cells.tolist() == [[1, 1], [0, 0], [-1, -1], [1, 0]]


def test_lists_of_indices_follow_a_class_list():
    column = pa.chunked_array([pa.array([[2], [0, 1], [], [2, 0]])])

    names, [cells] = encode_sets([sets_from_arrow("y", column, "t")], PLACE, class_names=("x", "y", "z"), where="t")

    assert names == ("x", "y", "z")
    assert cells.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_a_second_list_names_the_classes_that_a_row_says_nothing_about():
    unknown = sets_from_lists("unknown_tags", [["dog"], [], None, []], "t")
    raw = sets_from_lists("tags", [["cat"], ["dog"], [], ["cat"]], "t")
    raw = type(raw)(raw.members, raw.rows, raw.missing, unknown)

    _, [cells] = encode_sets([raw], PLACE, class_names=None, where="t")

    assert cells.tolist() == [[1, -1], [0, 1], [0, 0], [1, 0]]


def test_two_columns_share_their_classes():
    first = sets_from_lists("tags", [["cat"], ["dog"], [], []], "t")
    truth = sets_from_lists("true", [["cat"], ["owl"], [], []], "t")

    names, [noisy, clean] = encode_sets([first, truth], PLACE, class_names=None, where="t")

    assert names == ("cat", "dog", "owl")
    assert noisy[1].tolist() == [0, 1, 0]
    assert clean[1].tolist() == [0, 0, 1]


def test_texts_are_cut_at_the_separator_and_an_empty_cell_is_unknown():
    _, [cells] = encode_sets(
        [sets_from_texts("tags", ["cat;dog", "", "dog", "cat"], ";")], PLACE, class_names=None, where="t"
    )

    assert cells.tolist() == [[1, 1], [-1, -1], [0, 1], [1, 0]]


def test_an_unknown_name_is_refused_with_its_row():
    with pytest.raises(InputError, match=r"'owl' \(not among the 2 classes\) at b"):
        encode_sets([sets_from_lists("tags", [["cat"], ["owl"]], "t")], PLACE, class_names=("cat", "dog"), where="t")


@pytest.mark.parametrize("entry", ["", " cat"])
def test_empty_or_blank_entries_are_refused(entry):
    with pytest.raises(InputError, match="at b"):
        encode_sets([sets_from_lists("tags", [["cat"], [entry]], "t")], PLACE, class_names=None, where="t")


def test_a_column_a_class_holds_present_absent_and_unknown():
    columns = {
        "cat": from_texts("cat", ["1", "0", "", "-1"]),
        "dog": from_array("dog", np.array([0, 1, 1, -1]), "t"),
        "owl": from_texts("owl", ["true", "False", "1.0", "0.0"]),
    }

    cells = cells_from_columns(columns, PLACE, "t")

    assert cells.class_names == ("cat", "dog", "owl")
    assert cells.values.tolist() == [[1, 0, 1], [0, 1, 0], [-1, 1, 1], [-1, -1, 0]]


def test_a_column_a_class_refuses_anything_else_with_its_row():
    with pytest.raises(InputError, match=r"column 'cat' must hold 1 .*'2' at b"):
        cells_from_columns({"cat": from_texts("cat", ["1", "2"])}, PLACE, "t")


def test_a_matrix_may_say_unknown_as_minus_one_or_nan():
    assert cells_from_matrix("y", np.array([[1, 0, -1]]), "t").tolist() == [[1, 0, -1]]
    assert cells_from_matrix("y", np.array([[1.0, np.nan]]), "t").tolist() == [[1, -1]]
    assert cells_from_matrix("y", np.array([[True, False]]), "t").tolist() == [[1, 0]]
    with pytest.raises(InputError, match="must be 1, 0 or -1"):
        cells_from_matrix("y", np.array([[2, 0]]), "t")


NAMES = ["cat", "dog"]
GIVEN = [[1, 0], [1, 1], [0, 0], [-1, -1]]
PIXELS = np.zeros((4, 8, 8), np.uint8)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(file, "PNG")
    return file.getvalue()


def parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table({"image": pa.array([png()] * 4), **columns}), path)
    return path


def test_a_parquet_column_of_lists_gives_an_image_several_classes(tmp_path):
    path = parquet(tmp_path / "t.parquet", label=pa.array([["cat"], ["dog", "cat"], [], None]))

    source = open_source(path)

    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == GIVEN
    assert source.is_multilabel
    assert source.unlabelled.tolist() == [False, False, False, True]


def test_a_column_unknown_label_beside_it_keeps_unknown_from_absent(tmp_path):
    path = parquet(
        tmp_path / "t.parquet",
        label=pa.array([["cat"], ["dog"], [], ["cat"]]),
        unknown_label=pa.array([["dog"], [], ["cat"], None], pa.list_(pa.string())),
    )

    assert open_source(path).noisy_labels.tolist() == [[1, -1], [0, 1], [-1, 0], [1, 0]]


def test_json_lines_hold_lists(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = ['"label": ["cat"]', '"label": ["dog", "cat"]', '"label": []', '"label": null']
    path.write_text("".join(f'{{"path": "{row}.png", {line}}}\n' for row, line in enumerate(lines)))

    assert open_source(path).noisy_labels.tolist() == GIVEN


def test_a_csv_names_several_classes_with_a_separator(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,label\na.png,cat\nb.png,dog;cat\nc.png,\n")

    assert open_source(path, label_separator=";").noisy_labels.tolist() == [[1, 0], [1, 1], [-1, -1]]
    assert open_source(path).class_names == ("cat", "dog;cat")


def test_an_empty_separator_is_refused_and_one_that_never_occurs_is_noted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,label\na.png,cat\nb.png,dog;cat\n")

    with pytest.raises(UsageError, match="--label-separator is empty"):
        open_source(path, label_separator="")
    assert open_source(path, label_separator="|").notes == (
        "--label-separator '|' occurs in no label: every image has one class at most.",
    )
    assert open_source(path, label_separator=";").notes == ()


def test_a_class_that_is_present_and_unknown_is_refused_with_its_row(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = ['"label": ["dog"], "unknown_label": ["cat"]', '"label": ["dog", "cat"], "unknown_label": ["cat"]']
    path.write_text("".join(f'{{"path": "{row}.png", {line}}}\n' for row, line in enumerate(lines)))

    with pytest.raises(InputError, match=r"'cat' at line 2 \(1.png\) stands in both 'label' and 'unknown_label'"):
        open_source(path)


def test_a_mistyped_class_among_the_columns_is_put_right(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,cat,dog,bird\na.png,1,0,0\n")

    with pytest.raises(InputError, match=r"no column 'dgo' .*did you mean --label-column cat,dog,bird\?"):
        open_source(path, label_column="cat,dgo,bird")


def test_a_csv_has_a_column_a_class(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,cat,dog\na.png,1,0\nb.png,1,1\nc.png,0,0\nd.png,,-1\n")

    source = open_source(path, label_column="cat,dog")

    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == GIVEN


def test_an_npz_holds_a_matrix_and_its_truth(tmp_path):
    path = tmp_path / "t.npz"
    truth = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    np.savez(path, x=PIXELS, y=np.array(GIVEN), true=truth, class_names=np.array(NAMES))

    source = open_source(path, clean_label_column="true")

    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == GIVEN
    assert source.clean_labels is not None
    assert source.clean_labels.wrong(source.noisy_labels).tolist() == [
        [False] * 2,
        [False] * 2,
        [False, True],
        [False] * 2,
    ]


def test_labels_of_lists_are_renamed_and_dropped(tmp_path):
    path = parquet(tmp_path / "t.parquet", label=pa.array([["cat"], ["dog", "owl"], [], ["kitten"]]))

    source = open_source(path, map_labels="kitten=cat,owl=")

    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]


def test_columns_of_classes_are_renamed_and_merged(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,cat,kitten,dog,owl\na,1,0,0,1\nb,0,0,1,1\nc,0,,1,1\nd,,1,0,1\n")

    source = open_source(path, label_column="cat,kitten,dog,owl", map_labels="kitten=cat,dog=hound,owl=,cow=")

    assert source.class_names == ("cat", "hound")
    assert source.noisy_labels.tolist() == [[1, 0], [0, 1], [-1, 1], [1, 0]]
    assert source.notes == ("--map-labels names labels that do not occur: cow.",)


def test_a_matrix_is_renamed_by_its_class_names_and_so_is_its_test_set(tmp_path):
    np.savez(tmp_path / "train.npz", x=PIXELS, y=np.array(GIVEN), class_names=np.array(NAMES))
    turned = np.array(GIVEN)[:, ::-1]
    np.savez(tmp_path / "test.npz", x=PIXELS, y=turned, class_names=np.array(NAMES[::-1]))

    train = open_source(tmp_path / "train.npz", map_labels="dog=hound")
    test = open_test(tmp_path / "test.npz", train, map_labels="dog=hound")

    assert train.class_names == test.class_names == ("cat", "hound")
    assert test.noisy_labels.tolist() == GIVEN
    with pytest.raises(InputError, match=r"its classes \(dog, cat\) are not the expected ones \(cat, hound\); .*map"):
        open_test(tmp_path / "test.npz", train)


def test_several_classes_and_a_truth_of_one_do_not_go_together(tmp_path):
    path = parquet(tmp_path / "t.parquet", label=pa.array([["cat"]] * 4), true=pa.array(["cat"] * 4))

    with pytest.raises(InputError, match="'label' gives an image several classes and 'true' one"):
        open_source(path, clean_label_column="true")
