"""Grids: what is refused before anything runs, what is added beside, in which order."""

from __future__ import annotations

import json

import pytest

from winnow.bench import shared
from winnow.bench.command import shipped, wanted_grid
from winnow.bench.grid import Entry, made_grid, parsed_method, parsed_noise, read_grid
from winnow.bench.shared import Data
from winnow.bench.verdicts import judged
from winnow.data.open import open_source
from winnow.errors import InputError, MachineError, UsageError
from winnow.methods import METHODS
from winnow.methods.base import Need

SMALL = {"data": ["digits"], "method": ["winnow"], "noise": [{"kind": "symmetric", "rate": 0.4}], "seeds": 2}
RELATION = {"better": "winnow", "than": "cross-entropy"}


@pytest.fixture(scope="module")
def digits():
    source = open_source("digits")
    return Data(source, source.test(), "digits-fingerprint")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (SMALL | {"methods": ["winnow"]}, "no entry 'methods'; did you mean method?"),
        (SMALL | {"method": ["winow"]}, "winow: no such method; did you mean winnow?"),
        (SMALL | {"method": [{"name": "winnow", "set": {"windw": 3}}]}, "no such hyperparameter; did you mean window?"),
        (SMALL | {"method": [{"name": "winnow", "set": {"window": "wide"}}]}, "must be a number"),
        (SMALL | {"noise": [{"kind": "symetric", "rate": 0.4}]}, "did you mean symmetric?"),
        (SMALL | {"noise": [{"kind": "symmetric", "rates": 0.4}]}, "no entry 'rates'; did you mean rate?"),
        (SMALL | {"noise": [{"kind": "symmetric", "rate": [0.2, 1.4]}]}, r"rate in \[0, 1\], got 1.4"),
        (SMALL | {"noise": [{"kind": "symmetric"}]}, r"rate in \[0, 1\]: symmetric:0.4, or rate = 0.4"),
        (SMALL | {"noise": [{"kind": "none", "rate": 0.2}]}, "takes no rate"),
        (SMALL | {"train": {"epoch": 3}}, "no entry 'epoch'; did you mean epochs?"),
        (SMALL | {"train": {"epochs": 0}}, "epochs must be at least 1"),
        (SMALL | {"seeds": 0}, "seeds must be"),
        (SMALL | {"seeds": [1, 1]}, "seeds must be"),
        (SMALL | {"data": []}, "no data"),
        (SMALL | {"data": [{"data": "digits", "limt": 3}]}, "no entry 'limt'; did you mean limit?"),
        (SMALL | {"relation": [{"beter": "winnow"}]}, "did you mean better?"),
        (SMALL | {"relation": [{"better": "winnow"}]}, "either another method"),
        (SMALL | {"relation": [RELATION | {"at_least": 0.9}]}, "either another method"),
        (SMALL | {"relation": [RELATION | {"at_most": 0.9}]}, "either another method"),
        (SMALL | {"relation": [{"better": "winnow", "at_least": 0.1, "at_most": 0.9}]}, "either another method"),
        (SMALL | {"relation": [{"than": "cross-entropy"}]}, "'better' and"),
        (SMALL | {"relation": [{"better": "winnow", "at_least": 0.9, "by": 0.1}]}, "'by' needs another method"),
        (SMALL | {"relation": [RELATION | {"better": "winow"}]}, "no method 'winow' in the grid; did you mean winnow?"),
        (SMALL | {"relation": [RELATION | {"than": "pair"}]}, r"than: no method 'pair' .*cross-entropy averaging=true"),
        (SMALL | {"relation": [RELATION | {"by": "x"}]}, "relation: by must be a number, got 'x'"),
        (SMALL | {"relation": [RELATION | {"each": 1}]}, "relation: each must be true or false, got 1"),
        (SMALL | {"relation": [RELATION | {"measure": "test_accuracy"}]}, "did you mean test_accuracy_last?"),
        (SMALL | {"relation": [RELATION | {"noise": "symetric"}]}, "did you mean symmetric?"),
        (SMALL | {"relation": [RELATION | {"noise": {"kind": "pair", "rate": [0.2, 0.4]}}]}, "one rate, got 2"),
        (SMALL | {"relation": 3}, "relation must be a list"),
        (SMALL | {"published": [{"method": "winnow", "accuracy": "high"}]}, "accuracy must be a number, got 'high'"),
        (SMALL | {"published": [{"method": "winnow", "accuracy": 98.2}]}, r"a fraction in \[0, 1\], got 98.2"),
        (SMALL | {"published": [{"method": "winnow", "noise": 0.4}]}, "noise must be a list of names or of tables"),
        (SMALL | {"train": {"model": "mpl"}}, "mpl: no such network; did you mean mlp?"),
        (SMALL | {"data": [{"data": "digits", "train": {"model": "mpl"}}]}, "did you mean mlp?"),
        (SMALL | {"train": {"epochs": "one"}}, "train: epochs must be a whole number, got 'one'"),
        (SMALL | {"train": {"epochs": True}}, "train: epochs must be a whole number, got True"),
        (SMALL | {"train": {"batch_size": "64"}}, "batch_size must be a whole number, got '64'"),
        (SMALL | {"train": {"learning_rate": "fast"}}, "learning_rate must be a number, got 'fast'"),
        (SMALL | {"data": [{"data": "digits", "limit": "many"}]}, "data: limit must be a whole number, got 'many'"),
        (SMALL | {"data": [{"data": 3}]}, "data: data must be a text, got 3"),
        (SMALL | {"method": [{"name": "winnow", "set": "window=3"}]}, "set must be a table, got 'window=3'"),
        (SMALL | {"noise": [{"kind": "annotators", "rate": 0.2, "annotators": "all"}]}, "annotators must be a whole"),
        (SMALL | {"seeds": 2.5}, "seeds must be"),
    ],
)
def test_what_is_unknown_is_refused_with_what_was_meant(content, told):
    with pytest.raises(UsageError, match=told) as error:
        made_grid(content, "trial")
    assert error.value.exit_code == 2


def test_an_entry_that_noise_does_not_have_is_told_with_each_entry_once():
    with pytest.raises(UsageError) as error:
        made_grid(SMALL | {"noise": [{"kind": "symmetric", "rate": 0.4, "zzz": 1}]}, "trial")
    assert str(error.value).count("kind") == 1


def test_relations_and_published_rows_may_name_noise_in_short():
    rows = {"relation": [RELATION | {"noise": "none"}], "published": [{"method": "winnow", "noise": "none"}]}
    grid = made_grid(SMALL | rows, "trial")
    assert grid.relations[0]["noise"] == grid.published[0]["noise"] == {"kind": "none"}


def test_methods_of_the_command_line_leave_the_relations_of_a_grid_unmeasured(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('data = ["digits"]\nmethod = ["winnow"]\n[[relation]]\nbetter = "winnow"\nthan = "cross-entropy"\n')
    chosen = {"data": [], "noise": [], "seeds": 1, "training": {}, "reading": {}}
    grid = wanted_grid(str(path), methods=["bootstrap-soft"], size="cpu", **chosen)
    assert [entry.label for entry in grid.entries] == ["cross-entropy", "bootstrap-soft"]
    assert grid.relations == [RELATION]
    with pytest.raises(UsageError, match="--size huge: sizes belong to a grid"):
        wanted_grid(None, methods=[], size="huge", **(chosen | {"data": ["digits"]}))


def test_a_class_map_that_does_not_fit_is_told_before_anything_runs(digits):
    grid = made_grid(SMALL | {"noise": [{"kind": "asymmetric", "rate": 0.4, "class_map": "cat:dog"}]}, "trial")
    with pytest.raises(UsageError, match="no class 'cat'"):
        grid.check([digits])


def test_an_option_out_of_its_range_is_told_before_anything_runs(digits):
    grid = made_grid(SMALL | {"method": [{"name": "bootstrap-soft", "set": {"beta": 3}}]}, "trial")
    with pytest.raises(UsageError, match=r"beta must lie in \[0, 1\], got 3"):
        grid.check([digits])


def test_a_method_without_what_it_needs_is_told_before_anything_runs(digits, monkeypatch):
    monkeypatch.setattr(METHODS["bootstrap-soft"], "needs", frozenset({Need.VERIFIED}))
    content = SMALL | {"method": ["bootstrap-soft"], "noise": [{"kind": "pair", "rate": 0.2}]}
    with pytest.raises(UsageError, match="--method bootstrap-soft needs verified labels; digits has none"):
        made_grid(content, "trial").check([digits])
    made_grid(content | {"noise": [{"kind": "pair", "rate": 0.2, "verified": 20}]}, "trial").check([digits])


def test_the_plain_control_and_each_methods_fair_control_stand_beside():
    grid = made_grid(SMALL | {"method": ["bootstrap-soft", "winnow"]}, "trial")
    assert [entry.label for entry in grid.entries] == [
        "cross-entropy",
        "bootstrap-soft",
        "cross-entropy averaging=true",
        "winnow",
    ]
    assert grid.controls == {
        "bootstrap-soft": "cross-entropy",
        "winnow": "cross-entropy averaging=true",
        "cross-entropy averaging=true": "cross-entropy",
    }


def test_the_control_averages_over_the_same_window_as_the_method():
    grid = made_grid(SMALL | {"method": [{"name": "winnow", "set": {"window": 4}}]}, "trial")
    assert grid.controls["winnow window=4.0"] == "cross-entropy averaging=true window=4.0"


def test_a_label_does_not_depend_on_the_order_in_which_options_are_written():
    labels = {
        made_grid(SMALL | {"method": [{"name": "bootstrap-sharp", "set": options}]}, "trial").entries[-1].label
        for options in ({"sharpness": 2.0, "beta": 0.9}, {"beta": 0.9, "sharpness": 2.0})
    }
    assert labels == {"bootstrap-sharp beta=0.9 sharpness=2.0"}


def test_a_default_value_written_out_is_the_same_entry():
    grid = made_grid(SMALL | {"method": [{"name": "cross-entropy", "set": {"averaging": False}}]}, "trial")
    assert list(grid.entries) == [Entry("cross-entropy")]


def test_cells_go_seed_by_seed_so_that_whole_comparisons_come_first(digits):
    grid = made_grid(SMALL | {"noise": [{"kind": "symmetric", "rate": [0, 0.4]}]}, "trial")
    cells = grid.cells([digits])
    told = [(cell.config["seed"], cell.config["noise"].get("rate", 0), cell.config["method"]) for cell in cells]
    methods = ["cross-entropy", "cross-entropy", "winnow"]
    assert told == [(seed, rate, name) for seed in (0, 1) for rate in (0, 0.4) for name in methods]
    assert all(cell.data == "digits-fingerprint" for cell in cells)


def test_clean_cells_are_shared_between_kinds_of_noise(digits):
    noise = [{"kind": "symmetric", "rate": [0, 0.4]}, {"kind": "pair", "rate": [0.0, 0.4]}, {"kind": "none"}]
    grid = made_grid(SMALL | {"noise": noise, "method": ["cross-entropy"], "seeds": 1}, "trial")
    cells = grid.cells([digits])
    assert [cell.config["noise"]["kind"] for cell in cells] == ["none", "symmetric", "pair"]


def test_noise_follows_the_seed_and_is_the_same_for_every_method(digits):
    grid = made_grid(SMALL, "trial")
    seeds = {(cell.config["seed"], cell.config["noise"]["seed"]) for cell in grid.cells([digits])}
    assert seeds == {(0, 0), (1, 1)}


def test_the_device_is_resolved_into_the_configuration():
    train = made_grid(SMALL | {"train": {"device": "cpu", "precision": "float32"}}, "trial").parts[0].train
    assert train == {"device": "cpu", "precision": "float32", "threads": 1}


def test_a_collection_may_have_its_own_noise_and_training():
    content = SMALL | {
        "data": ["digits", {"data": "cifar10n:worse", "limit": 100, "noise": ["none"], "train": {"epochs": 3}}],
        "train": {"epochs": 2, "model": "mlp"},
    }
    first, second = made_grid(content, "trial").parts
    assert first.noise == [{"kind": "symmetric", "rate": 0.4}]
    assert second.noise == [{"kind": "none"}]
    assert (first.train["epochs"], second.train["epochs"], second.train["model"]) == (2, 3, "mlp")
    assert second.opening == {"data": "cifar10n:worse", "limit": 100}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("none", {"kind": "none"}),
        ("symmetric:0.2,0.4", {"kind": "symmetric", "rate": [0.2, 0.4]}),
        ("asymmetric:0.4:3:5,5:3", {"kind": "asymmetric", "rate": [0.4], "class_map": "3:5,5:3"}),
    ],
)
def test_noise_on_the_command_line(text, meant):
    assert parsed_noise(text) == meant


def test_methods_on_the_command_line():
    assert parsed_method("bootstrap-soft beta=0.9") == {"name": "bootstrap-soft", "set": {"beta": "0.9"}}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parsed_method("winnow window")
    with pytest.raises(UsageError, match="KIND:RATE"):
        parsed_noise("symmetric:much")


def test_a_size_takes_the_place_of_what_stands_above(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('data = ["digits"]\nseeds = 1\n[size.gpu]\nseeds = 5\n')
    assert read_grid(path) == {"data": ["digits"], "seeds": 1}
    assert read_grid(path, size="gpu") == {"data": ["digits"], "seeds": 5}
    with pytest.raises(UsageError, match=r"no size 'big' \(cpu, gpu\)"):
        read_grid(path, size="big")
    path.write_text("size.gpu = 5")
    with pytest.raises(UsageError, match=r"size\.gpu must be a table"):
        read_grid(path, size="gpu")


def test_damaged_and_missing_files_are_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_grid(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("data = [")
    with pytest.raises(InputError, match="no TOML"):
        read_grid(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", shipped().values(), ids=shipped())
def test_every_shipped_grid_is_well_formed_in_every_size(path):
    import tomllib

    content = tomllib.loads(path.read_text())
    for size in ("cpu", *content.get("size", {})):
        grid = made_grid(read_grid(path, size=size), path.stem)
        assert grid.title != grid.name
        assert grid.about
        labels = {entry.label for entry in grid.entries}
        kinds = {json.dumps(noise, sort_keys=True) for part in grid.parts for noise in part.noise}
        for relation in grid.relations:
            assert {relation["better"], relation.get("than", relation["better"])} <= labels
            assert "noise" not in relation or json.dumps(relation["noise"], sort_keys=True) in kinds
        for row in grid.published:
            assert row["source"]
            assert row["differs"]
            assert 0 < row["accuracy"] <= 1
            assert row["method"] in labels
            assert json.dumps(row["noise"], sort_keys=True) in kinds
            assert row.get("data") in (None, *(part.opening["data"] for part in grid.parts))


def test_a_relation_without_its_methods_is_not_measured():
    verdict = judged([{"better": "winnow", "than": "cross-entropy"}], [])[0]
    assert (verdict.holds, verdict.word) == (None, "not measured")


def test_a_full_disk_while_decoding_is_told_with_its_folder_and_how_to_go_on(tmp_path, monkeypatch):
    def cut_short(file, array, **_):
        file.write(b"1234567")
        raise OSError("23040 requested and 20352 written")  # as NumPy says it, without an errno

    opening = {"data": "digits", "limit": 100}
    monkeypatch.setattr(shared.np, "save", cut_short)
    with pytest.raises(MachineError, match=r"the disk is full: 7 bytes or more .* the same command goes on") as error:
        shared.prepare(opening, tmp_path / "work")
    assert str(error.value).startswith(str(tmp_path / "work"))
    monkeypatch.undo()
    assert len(shared.prepare(opening, tmp_path / "work").train) == 100
