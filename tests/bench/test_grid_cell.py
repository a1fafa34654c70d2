"""Cells of a grid: their noise, checked labels, foreign images and classes, and what a cell tells."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from winnow.bench import grid_cell, shared
from winnow.bench.command import run_grid
from winnow.bench.grid import made_grid
from winnow.bench.grid_cell import with_noise
from winnow.bench.shared import Data
from winnow.data.open import open_source
from winnow.errors import InputError, UsageError
from winnow.noise.kinds import make_noise

SMALL = {"data": ["digits"], "method": ["winnow"], "noise": [{"kind": "symmetric", "rate": 0.4}], "seeds": 2}


@pytest.fixture(scope="module")
def digits():
    source = open_source("digits")
    return Data(source, source.test(), "digits-fingerprint")


def test_the_noise_of_a_cell_keeps_the_truth_for_evaluation(digits):
    noisy, told = with_noise(digits.train, {"kind": "symmetric", "rate": 0.4, "seed": 1})
    wrong = noisy.clean_labels.wrong(noisy.noisy_labels)
    assert (wrong == (noisy.noisy_labels != digits.train.noisy_labels)).all()
    assert told["realised_rate"] == wrong.mean()
    assert "0.4 of the labels" in told["convention"]


def test_without_noise_labels_stay_and_a_known_rate_is_told(digits):
    same, told = with_noise(digits.train, {"kind": "none"})
    assert (same.noisy_labels == digits.train.noisy_labels).all()
    assert told == {"convention": "labels as given"}
    noisy, _ = with_noise(digits.train, {"kind": "pair", "rate": 0.2, "seed": 0})
    _, told = with_noise(noisy, {"kind": "none"})
    assert told["realised_rate"] == pytest.approx(0.2, abs=0.01)


def test_checked_labels_are_right_verified_and_about_as_many_of_each_class(digits):
    noise = {"kind": "symmetric", "rate": 0.5, "seed": 3}
    noisy, _ = with_noise(digits.train, noise)
    found, told = with_noise(digits.train, {**noise, "verified": 100})
    more, _ = with_noise(digits.train, {**noise, "verified": 120})

    wrong = found.clean_labels.wrong(found.noisy_labels)
    assert found.verified.sum() == 100
    assert not wrong[found.verified].any()
    assert (found.noisy_labels == noisy.noisy_labels)[~found.verified].all()
    assert np.bincount(found.noisy_labels[found.verified]).tolist() == [10] * 10
    assert more.verified[found.verified].all()
    assert told["realised_rate"] == pytest.approx(wrong.mean())
    assert told["convention"].endswith("; 100 labels checked")


def test_labels_can_be_checked_where_they_stand_as_given(digits):
    noisy, _ = with_noise(digits.train, {"kind": "pair", "rate": 0.2, "seed": 0})
    found, told = with_noise(noisy, {"kind": "none", "verified": 50, "seed": 1})
    assert not found.clean_labels.wrong(found.noisy_labels)[found.verified].any()
    assert told["convention"] == "labels as given; 50 labels checked"
    with pytest.raises(InputError, match="90000 labels cannot be checked, the truth is known of 1"):
        with_noise(noisy, {"kind": "none", "verified": 90_000})


@pytest.mark.parametrize("number", [0, 0.5, True, "10"])
def test_the_number_of_checked_labels_must_be_one(number):
    with pytest.raises(UsageError, match=r"verified must be a (whole number|number of images)"):
        made_grid(SMALL | {"noise": {"kind": "none", "verified": number}}, "trial")


def test_a_cell_trains_and_tells_everything_twice_the_same(monkeypatch, digits):
    few = np.arange(0, len(digits.train), 6)
    from winnow.data.rows import subset

    data = replace(digits, train=subset(digits.train, few))
    monkeypatch.setattr(shared, "opened", lambda opening: data)
    config = {
        "data": {"data": "digits"},
        "noise": {"kind": "pair", "rate": 0.3, "seed": 5},
        "method": "cross-entropy",
        "options": {},
        "train": {"epochs": 2, "device": "cpu", "precision": "float32", "threads": 1},
        "seed": 5,
    }
    grid_cell._noisy.cache_clear()
    results = [grid_cell.run(config) for _ in range(2)]
    grid_cell._noisy.cache_clear()
    for result in results:
        assert set(result.pop("times")) == {"training_seconds", "images_per_second"}
    assert json.dumps(results[0]) == json.dumps(results[1])
    first = results[0]
    assert first["curves"]["epoch"] == [1, 2]
    assert first["curves"]["test_accuracy"][-1] == pytest.approx(first["test_accuracy_last"], abs=1e-5)
    assert first["noise"]["realised_rate"] == pytest.approx(0.3, abs=0.03)
    assert 0 <= first["label_quality_auroc"] <= 1
    assert first["given_label_accuracy"] == pytest.approx(1 - first["noise"]["realised_rate"])


@pytest.fixture
def donors(tmp_path):
    """Pictures of one bright colour each, without labels."""
    from PIL import Image

    (tmp_path / "foreign").mkdir()
    for number in range(60):
        Image.new("L", (8, 8), 190 + number).save(tmp_path / "foreign" / f"{number}.png")
    return str(tmp_path / "foreign")


def open_set_grid(donor):
    noise = [{"kind": "open-set", "donor": donor, "rate": 0.4}, {"kind": "open-set", "donor": "uniform", "rate": 0.4}]
    return made_grid(SMALL | {"noise": [*noise, {"kind": "none"}], "data": [{"data": "digits", "limit": 100}]}, "trial")


def test_foreign_images_come_from_the_collection_that_the_noise_names(tmp_path, donors):
    grid = open_set_grid(donors)
    assert grid.donors == [donors]
    foreign = shared.prepare(shared.donor_opening(donors), tmp_path / "work")
    source = open_source("digits", limit=100)
    # The record names it as the grid does, wherever it lies.
    noise = {"kind": "open-set", "donor": "foreign.d", "rate": 0.4, "seed": 0}
    noisy, told = with_noise(source, noise, foreign.train)
    replaced = np.flatnonzero([np.ptp(noisy.pictures.read(row)) == 0 for row in range(100)])
    values = [int(noisy.pictures.read(row)[0, 0, 0]) for row in replaced]
    assert len(replaced) == pytest.approx(40, abs=5)
    assert len(set(values)) == len(values)
    assert min(values) >= 190
    assert (noisy.noisy_labels == source.noisy_labels).all()
    assert "images of foreign.d," in told["convention"]


def test_a_cell_tells_how_well_foreign_images_are_found():
    config = {
        "data": {"data": "digits", "classes": ["3", "8"], "limit": 60},
        "noise": {"kind": "open-set", "donor": "uniform", "rate": 0.5, "seed": 0},
        "options": {},
        "train": {"epochs": 2, "model": "mlp", "device": "cpu", "precision": "float32", "threads": 1},
        "seed": 0,
    }
    with_scores, without, clean = (
        grid_cell.run(config | {"method": method, "noise": noise})
        for method, noise in (
            ("open-set", config["noise"]),
            ("cross-entropy", config["noise"]),
            ("open-set", {"kind": "none"}),
        )
    )

    assert 0 < with_scores["outlier_auroc"] <= 1
    assert without["outlier_auroc"] is None
    assert clean["outlier_auroc"] is None
    assert (with_scores["num_images"], with_scores["num_classes"]) == (60, 2)
    assert 200 > with_scores["num_test"] > 0


def test_nobody_who_checks_gives_a_foreign_image_a_label():
    source = open_source("digits", limit=200)
    noise = {"kind": "open-set", "donor": "uniform", "rate": 0.5, "seed": 0}
    foreign = make_noise(source, **noise).foreign

    checked, _ = with_noise(source, noise | {"verified": 90})

    assert foreign.sum() == pytest.approx(100, abs=5)
    assert checked.verified.sum() == 90
    assert not (checked.verified & foreign).any()
    with pytest.raises(InputError, match="cannot be checked, the truth is known of"):
        with_noise(source, noise | {"verified": 110})


def test_classes_are_kept_in_the_order_given_before_the_limit_counts(tmp_path):
    whole = shared.prepare({"data": "digits"}, tmp_path)
    part = shared.prepare({"data": "digits", "classes": ["8", "3"]}, tmp_path)
    some = shared.prepare({"data": "digits", "classes": ["8", "3"], "limit": 50}, tmp_path)

    assert part.train.class_names == some.train.class_names == ("8", "3")
    for opened, original in ((part.train, whole.train), (part.test, whole.test)):
        rows = np.flatnonzero(np.isin(original.noisy_labels, (3, 8)))
        assert list(opened.ids) == [original.ids[row] for row in rows]
        assert (opened.noisy_labels == (original.noisy_labels[rows] == 3)).all()
    assert len(some.train) == 50
    assert set(some.train.ids) < set(part.train.ids)
    assert some.test.ids == part.test.ids
    with pytest.raises(InputError, match=r"digits: no class is called 'cat' \(0, 1, 2"):
        shared.prepare({"data": "digits", "classes": ["8", "cat"]}, tmp_path)
    grid = made_grid(SMALL | {"data": [{"data": "digits", "classes": ["8", "3"]}]}, "trial")
    # Those of other classes stand in for them.
    replaced, _ = with_noise(part.train, {"kind": "open-set", "donor": "digits", "rate": 1.0, "seed": 0}, whole.train)
    assert grid.parts[0].opening["classes"] == ["8", "3"]
    own = {part.train.pictures.read(row).tobytes() for row in range(len(part.train))}
    assert not any(replaced.pictures.read(row).tobytes() in own for row in range(20))


def test_a_cell_is_known_by_its_donors_too_and_a_cell_without_them_is_not(tmp_path, donors):
    from PIL import Image

    grid = open_set_grid(donors)
    data = [shared.prepare(grid.parts[0].opening, tmp_path / "work")]

    def keys():
        opened = {donors: shared.prepare(shared.donor_opening(donors), tmp_path / "work")}
        grid.check(data, opened)
        return [cell.key for cell in grid.cells(data, opened) if cell.config["seed"] == 0]

    before = keys()
    Image.new("L", (8, 8), 3).save(f"{donors}/7.png")
    changed = [one != other for one, other in zip(before, keys(), strict=True)]
    with_donor = [cell.config["noise"].get("donor") == donors for cell in grid.cells(data, {donors: data[0]})]
    assert changed == with_donor[: len(changed)]


@pytest.mark.slow
def test_workers_find_the_donors(tmp_path, donors):
    content = SMALL | {
        "noise": [{"kind": "open-set", "donor": donors, "rate": 0.4}],
        "data": [{"data": "digits", "limit": 100}],
        "method": ["cross-entropy"],
        "seeds": 1,
        "train": {"epochs": 1, "model": "mlp", "device": "cpu", "precision": "float32"},
    }
    found = run_grid(made_grid(content, "trial"), tmp_path / "out", workers=1)
    assert found.outcome.done == 1
    assert found.records[0]["result"]["noise"]["realised_rate"] == pytest.approx(0.4, abs=0.05)


def test_a_file_is_found_among_the_built_in_collections_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "files" / "few.npz", x=images, y=np.array([0, 1, 0, 1, 0, 1]))
    opening = {"data": "few.npz", "test": "few.npz"}
    found = shared.prepare(opening, tmp_path / "work", root=tmp_path / "files")
    assert (found.train.pictures.array == images).all()
    assert found.test is not None
    monkeypatch.setenv("WINNOW_DATA", str(tmp_path / "files"))
    assert shared.opened(opening).fingerprint == found.fingerprint
    monkeypatch.delenv("WINNOW_DATA")
    shared.shared.cache_clear()
    with pytest.raises(InputError, match=r"few\.npz"):
        shared.opened(opening)
