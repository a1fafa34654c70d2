"""Checked labels in a file beside data whose images may have several classes; one class: `test_label_options`."""

import numpy as np

from tests.data.pictures import message
from winnow.data.open import open_source

GIVEN = "path,label\na.png,cat\nb.png,dog;cat\nc.png,\n"


def test_a_file_of_checked_lists_takes_the_place_of_the_given_ones(write):
    checked = write("path,label\na.png,\nb.png,dog\nc.png,cat;dog\n", name="checked.csv")

    source = open_source(write(GIVEN), label_separator=";", verified=checked)

    assert source.noisy_labels.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert source.verified.tolist() == [False, True, True]


def test_a_file_of_paths_alone_checks_the_lists_that_are_given(write):
    checked = write("path\nb.png\nc.png\n", name="checked.csv")

    source = open_source(write(GIVEN), label_separator=";", verified=checked)

    assert source.noisy_labels.tolist() == [[1, 0], [1, 1], [-1, -1]]
    assert source.verified.tolist() == [False, True, False]


def test_a_file_may_have_json_lists_or_a_column_a_class(write):
    table = write("id,path,cat,dog\n1,a,1,0\n2,b,0,1\n3,c,1,1\n")
    lists = write('{"id": "2", "label": []}\n{"id": "3", "label": ["dog"]}\n', name="checked.jsonl")
    cells = write("id,dog,cat\n2,,1\n", name="checked.csv")

    by_lists = open_source(table, label_column="cat,dog", verified=lists)
    by_cells = open_source(table, label_column="cat,dog", verified=cells)

    assert by_lists.noisy_labels.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert by_lists.verified.tolist() == [False, True, True]
    assert by_cells.noisy_labels.tolist() == [[1, 0], [1, -1], [1, 1]]
    assert by_cells.verified.tolist() == [False, True, False]


def test_checked_lists_are_mapped_as_the_given_ones(write):
    checked = write("path,label\na.png,dog;kitten\n", name="checked.csv")

    source = open_source(write(GIVEN), label_separator=";", verified=checked, map_labels="kitten=cat")

    assert source.noisy_labels[0].tolist() == [1, 1]
    assert np.flatnonzero(source.verified).tolist() == [0]


def test_one_class_beside_several_and_the_reverse_are_refused(write):
    lists = write('{"path": "a.png", "label": ["cat"]}\n', name="lists.jsonl")
    single = write("path,label\na.png,cat\n", name="single.csv")

    assert "names one class an image" in message(lists, verified=single)
    assert "gives an image several classes" in message(single, verified=lists)
