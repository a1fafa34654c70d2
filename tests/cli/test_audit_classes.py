"""Audits of sources whose classes stand in another order, or that were opened with options of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import winnow
from tests.cli.test_cli import run, shapes
from winnow.data.open import open_source
from winnow.data.rows import as_classes, subset
from winnow.errors import InputError
from winnow.labels.truth import CleanLabels

NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    digits = open_source("digits")
    return np.stack([digits.pictures.read(row) for row in range(90)])


@pytest.fixture
def old(tmp_path, pictures) -> Path:
    """The audit of a table whose classes are cat, dog and owl."""
    np.savez(tmp_path / "old.npz", x=pictures[:60], y=np.arange(60) % 3, class_names=np.array(NAMES))
    assert run("audit", tmp_path / "old.npz", "--out", tmp_path / "old", "--quiet") == 0
    return tmp_path / "old"


def given_names(audit: Path) -> list[str]:
    names = json.loads(pq.read_schema(audit / "labels.parquet").metadata[b"class_names"])
    return [names[label] for label in pq.read_table(audit / "labels.parquet")["given_label"].to_pylist()]


@pytest.mark.parametrize("names", [("owl", "cat", "dog"), ("owl", "cat"), ("dog",)])
def test_new_images_are_compared_by_the_names_of_their_classes(names, old, tmp_path, pictures):
    labels = np.arange(30) % len(names)
    np.savez(tmp_path / "new.npz", x=pictures[60:], y=labels, class_names=np.array(names))

    out = tmp_path / "new"
    assert run("audit", tmp_path / "new.npz", "--against", old, "--out", out, "--quiet") == 0

    assert given_names(out) == [names[label] for label in labels]
    assert json.loads((out / "summary.json").read_text())["num_classes"] == 3
    assert run("export", out, "--to", "csv", "--out", tmp_path / "kept.csv", "--quiet") == 0


@pytest.mark.parametrize("names", [("owl", "cat", "fox"), ("cat", "dog", "owl", "fox")])
def test_a_class_that_the_earlier_audit_did_not_have_is_refused_in_one_line(names, old, tmp_path, pictures, capsys):
    labels = np.arange(30) % len(names)
    np.savez(tmp_path / "new.npz", x=pictures[60:], y=labels, class_names=np.array(names))

    assert run("audit", tmp_path / "new.npz", "--against", old, "--out", tmp_path / "new", "--quiet") == 4

    assert "'fox'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_folders_are_compared_by_name_and_unknown_ones_refused(tmp_path, capsys):
    shapes(tmp_path / "old", ("disc", "square"))
    assert run("audit", tmp_path / "old", "--out", tmp_path / "a", "--quiet") == 0
    shapes(tmp_path / "new", ("square", "triangle"))

    assert run("audit", tmp_path / "new", "--against", tmp_path / "a", "--out", tmp_path / "b", "--quiet") == 4
    assert "1 folders name no known class: 'triangle'; known are disc, square" in capsys.readouterr().err
    mapped = ("--map-labels", "triangle=disc")
    assert run("audit", tmp_path / "new", "--against", tmp_path / "a", "--out", tmp_path / "b", "--quiet", *mapped) == 0
    assert sorted(set(given_names(tmp_path / "b"))) == ["disc", "square"]


def test_a_built_in_takes_the_places_of_the_classes_asked_for():
    digits = open_source("digits", limit=50)
    names = ("ten", *reversed(digits.class_names))

    found = open_source("digits", limit=50, class_names=names)

    assert found.class_names == names
    assert [names[k] for k in found.noisy_labels] == [digits.class_names[k] for k in digits.noisy_labels]
    assert found.test is not None
    assert found.test().class_names == names
    with pytest.raises(InputError, match=r"1 of its classes are unknown here: '9'; known are 0, 1, 2, 3, 4"):
        open_source("digits", class_names=digits.class_names[:9])


def test_truth_and_missing_labels_take_the_new_places_too():
    source = subset(open_source("digits"), np.arange(4))
    source = replace(source, noisy_labels=np.array([0, 1, -1, 1]))

    found = as_classes(source, ("1", "0"))

    assert found.noisy_labels.tolist() == [1, 0, -1, 0]
    # Of classes 0 to 9 only two are left; the truth of another one is foreign.
    truth = as_classes(replace(source, clean_labels=CleanLabels(np.array([1, 0, 5, -1]))), ("1", "0")).clean_labels
    assert truth is not None
    assert truth.wrong(np.array([0, 1, 0, 0])).tolist()[:2] == [False, False]


def test_a_test_set_of_python_with_its_classes_in_another_order_is_mapped(pictures, tmp_path):
    np.savez(tmp_path / "train.npz", x=pictures[:60], y=np.arange(60) % 3, class_names=np.array(NAMES))
    names = np.array(NAMES)[[2, 0, 1]]
    np.savez(tmp_path / "same.npz", x=pictures[:60], y=(np.arange(60) + 1) % 3, class_names=names)
    train, test = open_source(tmp_path / "train.npz"), open_source(tmp_path / "same.npz")
    assert test.class_names != train.class_names

    done = winnow.fit(train, "cross-entropy", test=test, epochs=1, out=tmp_path / "run")

    same = winnow.fit(train, "cross-entropy", test=train, epochs=1, out=tmp_path / "run2")
    assert done.summary["test_accuracy_last"] == same.summary["test_accuracy_last"]


@pytest.mark.parametrize(
    "options",
    [
        {"label_column": "kind"},
        {"label_column": "kind", "class_names": ("owl", "dog", "cat")},
        {"label_column": "kind", "map_labels": {"owl": "dog"}},
        {"label_column": "kind", "limit": 40},
    ],
)
def test_what_was_opened_with_options_is_opened_so_again(options, pictures, tmp_path):
    names = np.array(NAMES)[np.arange(60) % 3]
    np.savez(tmp_path / "t.npz", x=pictures[:60], y=np.zeros(60, np.int64), kind=names)
    source = open_source(tmp_path / "t.npz", **options)

    audit = winnow.audit(source, out=tmp_path / "a").folder

    assert run("export", audit, "--to", "parquet", "--out", tmp_path / "kept.parquet", "--keep-flagged", "--quiet") == 0
    kept = pq.read_table(tmp_path / "kept.parquet")
    assert kept.num_rows >= 30
    assert run("audit", tmp_path / "t.npz", "--label-column", "kind", "--against", audit, "--out", tmp_path / "b",
               *(["--map-labels", "owl=dog"] if "map_labels" in options else []), "--quiet") == 0  # fmt: skip


def test_what_no_address_gives_is_refused_at_export(tmp_path, capsys):
    made = subset(open_source("digits"), np.arange(0, 120, 2))
    assert made.opened is None

    audit = winnow.audit(made, out=tmp_path / "a").folder

    assert run("export", audit, "--to", "csv", "--out", tmp_path / "kept.csv", "--quiet") == 4
    assert "put together in Python: digits alone does not give its images; audit what" in capsys.readouterr().err
    assert run("audit", "digits", "--against", audit, "--out", tmp_path / "b", "--quiet") == 4
    assert not (tmp_path / "kept.csv").exists()
