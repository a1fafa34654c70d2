"""labels.parquet is complete, exact and the same bytes every time."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from winnow.labels.table import labels_table, write_table

NAMES = ["a", '=cmd()|"<script>']


def table(**options):
    return labels_table(
        ids=["x", "y\n<b>", "z"],
        class_names=NAMES,
        given_label=np.array([0, -1, 1]),
        label_quality=np.array([0.25, np.nan, 1.0]),
        suggested_label=np.array([1, 1, -1]),
        suggested_probability=np.array([0.75, 0.5, np.nan]),
        outlier_score=None,
        found={"wrong_label": np.array([0]), "unreadable": np.array([2])},
        reasons={0: "looks like b", 2: "empty: the file has no bytes"},
        **options,
    )


def test_missing_labels_and_numbers_are_nulls(tmp_path):
    write_table(table(), tmp_path / "labels.parquet")

    read = pq.read_table(tmp_path / "labels.parquet")

    assert read["given_label"].to_pylist() == [0, None, 1]
    assert read["label_quality"].to_pylist() == [0.25, None, 1.0]
    assert read["suggested_label"].to_pylist() == [1, 1, None]
    assert read["outlier_score"].null_count == 3
    assert read["is_issue"].to_pylist() == [True, False, True]
    assert read["issues"].to_pylist() == [["wrong_label"], [], ["unreadable"]]


def test_an_image_with_several_findings_is_counted_under_the_most_important():
    found = {"wrong_label": np.array([1]), "near_duplicate": np.array([2, 1]), "outlier": np.array([2])}

    read = labels_table(
        ids=["x", "y", "z"],
        class_names=NAMES,
        given_label=np.zeros(3, np.int64),
        label_quality=np.ones(3),
        suggested_label=np.zeros(3, np.int64),
        suggested_probability=np.ones(3),
        outlier_score=np.zeros(3),
        found=found,
        reasons={},
        duplicate_group=np.array([-1, 4, 4]),
    )

    assert read["issues"].to_pylist() == [[], ["wrong_label", "near_duplicate"], ["near_duplicate", "outlier"]]
    assert read["issue"].to_pylist() == [None, "wrong_label", "near_duplicate"]
    assert read["is_issue"].to_pylist() == [False, True, True]
    assert read["duplicate_group"].to_pylist() == [None, 4, 4]


def test_hostile_names_come_back_exactly(tmp_path):
    write_table(table(), tmp_path / "labels.parquet")

    read = pq.read_table(tmp_path / "labels.parquet")

    assert json.loads(read.schema.metadata[b"class_names"]) == NAMES
    assert read["id"].to_pylist()[1] == "y\n<b>"


def test_the_same_table_gives_the_same_bytes(tmp_path):
    write_table(table(), tmp_path / "a")
    write_table(table(), tmp_path / "b")

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_methods_own_numbers_are_the_last_columns():
    further = table(further={"weight": np.array([0.5, np.nan, 2.0])})

    assert further.column_names == [*table().column_names, "weight"]
    assert further["weight"].to_pylist() == [0.5, None, 2.0]


def test_a_methods_numbers_never_take_the_place_of_a_column():
    with pytest.raises(ValueError, match="has a column 'label_quality' already"):
        table(further={"label_quality": np.zeros(3)})
