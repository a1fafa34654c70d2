"""JSON lines: one object a line; row 27 of the fault table for this format."""

import json

import pytest

from tests.data.pictures import message, png, value_of
from winnow.data.open import open_source


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="photos.jsonl", encoding="utf-8"):
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path.write_bytes("\n".join(texts).encode(encoding))
        return path

    return write


@pytest.mark.parametrize("name", ["photos.jsonl", "photos.ndjson"])
def test_each_line_is_an_image_with_a_path_beside_the_table(write, tmp_path, name):
    (tmp_path / "a.png").write_bytes(png(7))
    source = open_source(write({"path": "a.png", "label": "dog"}, "", {"path": "b.png", "label": "cat"}, name=name))

    assert list(source.ids) == ["a.png", "b.png"]
    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == [1, 0]
    assert value_of(source, 0) == 7


def test_numbers_are_class_indices_and_texts_class_names(write):
    numbers = open_source(write({"path": "a", "label": 2}, {"path": "b", "label": 0}))
    texts = open_source(write({"path": "a", "label": "2"}, {"path": "b", "label": "0"}))

    assert numbers.class_names == ("0", "1", "2")
    assert numbers.noisy_labels.tolist() == [2, 0]
    assert texts.class_names == ("0", "2")


@pytest.mark.parametrize(
    ("key", "bad"),
    [("label", '"\\ud800"'), ("label", '["x", "\\uDFFF"]'), ("id", '"a\\ud83d"'), ("path", '"\\udcff.png"')],
)
def test_a_lone_surrogate_is_refused_with_its_line(write, key, bad):
    good = '{"id": "1", "path": "a", "label": "x"}'

    text = message(write(good, f'{{"{key}": {bad}}}'))

    assert f"line 2: '{key}' holds a lone surrogate, half of a character" in text
    text.encode()


def test_a_pair_of_surrogates_is_a_character(write):
    assert open_source(write('{"path": "a", "label": "\\ud83d\\ude00"}')).class_names == ("\U0001f600",)


def test_true_and_false_are_classes_of_that_name(write):
    source = open_source(
        write({"path": "a", "label": True}, {"path": "b", "label": None}, {"path": "c", "label": False})
    )

    assert source.class_names == ("false", "true")
    assert source.noisy_labels.tolist() == [1, -1, 0]
    mixed = write({"path": "a", "label": True}, {"path": "b", "label": 0})
    assert "true or false at line 1 and a number at line 2" in message(mixed)


def test_a_missing_key_and_null_are_missing_labels(write):
    source = open_source(write({"path": "a", "label": "x"}, {"path": "b"}, {"label": None, "path": "c"}))

    assert source.noisy_labels.tolist() == [0, -1, -1]


def test_a_key_that_appears_late_is_missing_before(write):
    source = open_source(write({"path": "a", "label": "x"}, {"path": "b", "label": "x", "true": "y"}),
                         clean_label_column="true")  # fmt: skip

    assert source.class_names == ("x", "y")
    assert source.clean_labels.wrong(source.noisy_labels).tolist() == [False, True]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['{"path": "a"}', '{"path": '], "photos.jsonl line 2: no JSON object: Expecting value at column 10"),
        (["", "[1, 2]"], "photos.jsonl line 2: one JSON object a line is needed, this is a list"),
        (['{"path": "a", "label": {"x": 1}}'], "photos.jsonl line 1: 'label' is an object; plain values"),
        (['{"path": "a", "path": "b"}'], "photos.jsonl line 1: the key 'path' stands there twice"),
        (['{"path": 3, "label": "x"}'], "photos.jsonl line 1: 'path' is 3, no path"),
        (['{"path": "a", "label": 1}', '{"path": "b", "label": "x"}'], "a text at line 2 and a number at line 1"),
        (['{"path": "a", "label": 3.0}', '{"path": "b", "label": 1}'], "'3.0' (no whole number) at line 1 (a)"),
        (['{"path": "a", "label": -1}'], "-1 (negative) at line 1 (a)"),
        (['{"path": "a", "label": 1e999}'], "'inf' (no whole number) at line 1 (a)"),
        (["[" * 100_000], "photos.jsonl line 1: no JSON object: nested too deep"),
        ([""], "the table has no rows"),
    ],
)
def test_a_damaged_line_is_named_by_its_number(write, lines, expected):
    assert expected in message(write(*lines))


def test_byte_order_marks_are_accepted_and_other_encodings_named(write, tmp_path):
    line = {"path": "a", "label": "Käse"}

    assert open_source(write(line, encoding="utf-8-sig")).class_names == ("Käse",)
    assert open_source(write(line, encoding="utf-16")).class_names == ("Käse",)
    assert "line 1: not UTF-8" in message(write(line, encoding="latin-1"))
