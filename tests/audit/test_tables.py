"""findings.parquet: kinds by importance, the worst first, names and facts exact."""

from __future__ import annotations

import numpy as np

from winnow.audit.findings import Found
from winnow.audit.tables import findings_table, reasons_by_row, rows_by_kind

WRONG = Found("wrong_label", np.array([3, 1]), np.array([0.9, 0.6]), ["looks like b", "looks like c"])
LEAK = Found("test_leak", np.array([1]), np.array([0.99]), ["a copy of a test image"], np.array([0]))
BROKEN = Found("unreadable", np.array([2]), np.array([np.nan]), ["empty: the file has no bytes"])
COPY = Found("near_duplicate", np.array([0, 3]), np.full(2, np.nan), ["x", "y"], np.array([3, 0]), np.array([0.9, 0.5]))
NOTHING = Found("outlier", np.empty(0, np.int64), np.empty(0), [])
ALL = [BROKEN, LEAK, COPY, NOTHING, WRONG]


def table():
    return findings_table(
        ALL,
        ids=["a", "b\n<b>", "c", "d"],
        test_ids=["of the test"],
        given_label=np.array([0, 1, -1, 2]),
        suggested_label=np.array([0, 2, -1, 1]),
        duplicate_group=np.array([7, -1, -1, 7]),
    )


def test_kinds_stand_in_the_order_of_importance_and_the_worst_first_in_each():
    rows = table().to_pylist()

    assert [(row["kind"], row["row"]) for row in rows] == [
        ("wrong_label", 3),
        ("wrong_label", 1),
        ("near_duplicate", 0),
        ("near_duplicate", 3),
        ("test_leak", 1),
        ("unreadable", 2),
    ]
    assert rows[1]["id"] == "b\n<b>"


def test_facts_have_no_probability_and_only_wrong_labels_a_suggestion():
    by_kind = {row["kind"]: row for row in table().to_pylist()}

    assert by_kind["unreadable"]["probability"] is None
    assert by_kind["wrong_label"]["suggested_label"] == 2
    assert by_kind["test_leak"]["suggested_label"] is None
    assert by_kind["unreadable"]["given_label"] is None
    assert by_kind["near_duplicate"]["group"] == 7


def test_near_copies_have_a_similarity_in_place_of_a_probability():
    rows = [row for row in table().to_pylist() if row["kind"] == "near_duplicate"]

    assert [row["probability"] for row in rows] == [None, None]
    assert [row["similarity"] for row in rows] == [np.float32(0.9), 0.5]
    assert {row["similarity"] for row in table().to_pylist() if row["kind"] != "near_duplicate"} == {None}


def test_the_other_image_is_one_of_the_test_set_for_leaks_alone():
    rows = table().to_pylist()

    assert [row["other_id"] for row in rows] == [None, None, "d", "a", "of the test", None]
    assert [row["other_row"] for row in rows] == [None, None, 3, 0, 0, None]


def test_an_image_with_several_findings_is_told_the_most_important_reason():
    assert reasons_by_row(ALL) == {3: "looks like b", 1: "looks like c", 0: "x", 2: "empty: the file has no bytes"}
    assert list(rows_by_kind(ALL)) == ["wrong_label", "near_duplicate", "test_leak", "unreadable"]


def test_without_findings_the_table_is_empty_and_has_its_columns():
    read = findings_table(
        [NOTHING],
        ids=["a"],
        test_ids=[],
        given_label=np.zeros(1),
        suggested_label=np.zeros(1),
        duplicate_group=-np.ones(1),
    )

    assert read.num_rows == 0
    assert read.column_names == table().column_names
