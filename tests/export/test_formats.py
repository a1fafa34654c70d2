"""What each format holds, read back by winnow and by the library it is for."""

import csv
import json
import os
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.export.audits import fates, jpeg, png, write_audit
from winnow.data.open import open_source
from winnow.errors import InputError, UsageError
from winnow.export.fates import Rule
from winnow.export.judged import read_judged
from winnow.export.run import FORMATS, export
from winnow.export.spreadsheet import restored

ENDING = {name: form.endings[0] if form.endings else "" for name, form in FORMATS.items()}
KEPT = ["cat/0.png", "dog/1.png", "dog/7.png", "fox/11.png", "fox/5.png", "fox/8.png"]


def labels_by_id(source, ids=None):
    """Class name, or cells, of each image."""
    names = source.class_names
    if source.is_multilabel:
        return dict(zip(ids or source.ids, source.noisy_labels.tolist(), strict=True))
    return {
        name: names[label] if label >= 0 else None
        for name, label in zip(ids or source.ids, source.noisy_labels, strict=True)
    }


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_tells_the_fate_of_every_image_and_leaves_the_source_alone(audited, photos, tmp_path, to):
    before = {path: path.read_bytes() for path in sorted(photos.rglob("*.png"))}
    summary = export(audited, to, tmp_path / f"out{ENDING[to]}")

    rows = fates(summary["fates_file"])
    assert [row["row"] for row in rows] == list(range(12))
    assert Counter(row["fate"] for row in rows) == summary["fates"]
    assert summary["exported"] + summary["left_out"] == summary["num_images"] == 12
    assert summary["exported"] == (11 if FORMATS[to].everything else 6)
    assert all(row["reason"] for row in rows)
    assert {path: path.read_bytes() for path in sorted(photos.rglob("*.png"))} == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_folder_holds_the_original_bytes_by_class(audited, photos, tmp_path):
    export(audited, "folder", tmp_path / "out")

    again = open_source(tmp_path / "out")
    assert list(again.ids) == KEPT
    assert again.class_names == ("cat", "dog", "fox")
    assert all((tmp_path / "out" / name).read_bytes() == (photos / name).read_bytes() for name in KEPT)


def test_relabelled_pictures_go_to_their_new_folder_with_the_extension_of_their_format(audited, photos, tmp_path):
    export(audited, "folder", tmp_path / "out", Rule(apply_suggestions=True))

    assert (tmp_path / "out/fox/3.jpg").read_bytes() == (photos / "cat/3.png").read_bytes() == jpeg(60)
    row = fates(tmp_path / "out/fates.parquet")[1]
    assert (row["id"], row["fate"], row["given_label"], row["label"], row["file"]) == (
        "cat/3.png", "relabelled", "cat", "fox", "fox/3.jpg",
    )  # fmt: skip


def test_links_lead_to_the_source(audited, photos, tmp_path):
    export(audited, "folder", tmp_path / "out", link=True)

    assert os.readlink(tmp_path / "out/cat/0.png") == str(photos / "cat/0.png")
    assert list(open_source(tmp_path / "out", follow_links=True).ids) == KEPT


def test_a_class_without_an_image_keeps_its_folder(audited, tmp_path):
    judged_rows = {"unreadable": [0, 1, 2, 3]}
    write_audit(tmp_path / "other", tmp_path / "photos", found=judged_rows)
    export(tmp_path / "other", "folder", tmp_path / "out")

    assert open_source(tmp_path / "out").class_names == ("cat", "dog", "fox")


@pytest.mark.parametrize("to", ["parquet", "hugging-face"])
def test_parquet_opens_again_with_its_classes_and_bytes(audited, photos, tmp_path, to):
    out = tmp_path / f"out{ENDING[to]}"
    export(audited, to, out, Rule(apply_suggestions=True))

    again = open_source(out)
    assert labels_by_id(again) == {
        **{name: name[:3] for name in KEPT},
        "cat/3.png": "fox",
    }
    assert [again.pictures.encoded(row) for row in range(7)] == [(photos / name).read_bytes() for name in again.ids]


@pytest.mark.parametrize("to", ["parquet", "hugging-face"])
def test_several_classes_come_back_with_what_is_unknown(several, tmp_path, to):
    out = tmp_path / f"out{ENDING[to]}"
    export(several, to, out, Rule(keep_flagged=True))

    assert open_source(out).noisy_labels.tolist() == [
        [1, 0, 0], [1, 0, 1], [0, 0, 0], [-1, -1, -1], [0, 1, -1], [0, 0, 1],
    ]  # fmt: skip


@pytest.mark.slow  # its import alone takes seconds
def test_hugging_faces_library_reads_the_folder(audited, several, tmp_path):
    datasets = pytest.importorskip("datasets")
    export(audited, "hugging-face", tmp_path / "one")
    export(several, "hugging-face", tmp_path / "lists", Rule(keep_flagged=True))
    cache = str(tmp_path / "cache")

    one = datasets.load_dataset(str(tmp_path / "one"), cache_dir=cache)["train"]
    assert one.features["label"].names == ["cat", "dog", "fox"]
    assert one["label"] == [0, 1, 1, 2, 2, 2]
    assert one[0]["image"].size == (10, 8)
    lists = datasets.load_dataset(str(tmp_path / "lists"), cache_dir=cache)["train"]
    assert lists["label"] == [[0], [0, 2], [], None, [1], [2]]
    assert lists.features["label"].feature.names == ["cat", "dog", "fox"]


def test_a_csv_opens_again_and_finds_the_pictures(audited, tmp_path):
    (tmp_path / "sub").mkdir()
    export(audited, "csv", tmp_path / "sub/out.csv")

    again = open_source(tmp_path / "sub/out.csv")
    assert labels_by_id(again) == {name: name[:3] for name in KEPT}
    assert again.pictures.read(0).shape == (8, 10, 3)


def test_a_csv_of_several_classes_uses_a_separator_that_no_name_holds(several, tmp_path):
    summary = export(several, "csv", tmp_path / "out.csv")

    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["cat", "", "", "dog", "fox"]
    assert "path" not in rows[0]  # the pictures have no files
    assert any("Images without a class or with unknown ones: 3" in note for note in summary["notes"])


def test_cleanlabs_columns(audited, tmp_path):
    export(audited, "cleanlab", tmp_path / "out.csv")
    export(audited, "cleanlab", tmp_path / "out.npz")

    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "row", "is_label_issue", "label_quality", "given_label", "predicted_label"]
    assert rows[1]["is_label_issue"] == "True"
    assert (rows[1]["given_label"], rows[1]["predicted_label"]) == ("0", "2")
    assert float(rows[1]["label_quality"]) == pytest.approx(0.05)
    arrays = np.load(tmp_path / "out.npz", allow_pickle=False)
    assert arrays["is_label_issue"].tolist() == [row["is_label_issue"] == "True" for row in rows]
    assert arrays["labels"].tolist() == arrays["given_label"].tolist() == [int(row["given_label"]) for row in rows]
    assert arrays["row"].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]


def test_cocos_ids_agree(audited, tmp_path):
    export(audited, "coco", tmp_path / "out", Rule(apply_suggestions=True))

    content = json.loads((tmp_path / "out/annotations.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    assert {files[a["image_id"]]: names[a["category_id"]] for a in content["annotations"]} == {
        **{f"images/{name.replace('/', '_')}": name[:3] for name in KEPT},
        "images/cat_3.jpg": "fox",
    }
    assert all((tmp_path / "out" / file).is_file() for file in files.values())
    assert [(image["width"], image["height"]) for image in content["images"]] == [(10, 8)] * 7
    assert content["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 8], "area": 80, "iscrowd": 0,
    }  # fmt: skip


def test_coco_tells_unknown_classes_from_absent_ones(several, tmp_path):
    export(several, "coco", tmp_path / "out", Rule(keep_flagged=True))

    content = json.loads((tmp_path / "out/annotations.json").read_text())
    found = [(a["image_id"], a["category_id"]) for a in content["annotations"]]
    assert found == [(1, 1), (2, 1), (2, 3), (5, 2), (6, 3)]
    assert [image["not_exhaustive_category_ids"] for image in content["images"]] == [[], [], [], [1, 2, 3], [3], []]


def test_fiftyones_samples(audited, several, tmp_path):
    export(audited, "fiftyone", tmp_path / "out")
    export(several, "fiftyone", tmp_path / "lists")

    samples = json.loads((tmp_path / "out/samples.json").read_text())["samples"]
    metadata = json.loads((tmp_path / "out/metadata.json").read_text())
    assert metadata["media_type"] == "image"
    assert "version" not in metadata  # the form that fits every version
    assert len(samples) == 11
    assert samples[1]["filepath"] == "data/cat_3.jpg"
    assert samples[1]["tags"] == ["wrong_label"]
    assert samples[1]["ground_truth"] == {"_cls": "Classification", "label": "cat", "confidence": None}
    assert samples[1]["suggested"]["label"] == "fox"
    assert samples[1]["suggested"]["confidence"] == pytest.approx(0.8)
    assert all((tmp_path / "out" / sample["filepath"]).is_file() for sample in samples)
    lists = json.loads((tmp_path / "lists/samples.json").read_text())["samples"]
    assert [each["label"] for each in lists[1]["ground_truth"]["classifications"]] == ["cat", "fox"]
    assert lists[3]["ground_truth"] is None


def test_label_studios_tasks_agree_with_their_configuration(audited, several, tmp_path):
    export(audited, "label-studio", tmp_path / "out folder")
    export(several, "label-studio", tmp_path / "lists")

    tasks = json.loads((tmp_path / "out folder/tasks.json").read_text())
    view = ElementTree.parse(tmp_path / "out folder/labels.xml").getroot()
    choices = view.find("Choices")
    assert [choice.get("value") for choice in choices] == ["cat", "dog", "fox"]
    assert choices.get("choice") == "single"
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=out%20folder/images/cat_3.jpg"
    result = tasks[1]["predictions"][0]["result"][0]
    assert result == {
        "from_name": choices.get("name"),
        "to_name": view.find("Image").get("name"),
        "type": "choices",
        "value": {"choices": ["fox"]},
    }
    assert tasks[1]["predictions"][0]["score"] == pytest.approx(0.8)
    assert tasks[1]["annotations"][0]["result"][0]["value"] == {"choices": ["cat"]}
    lists = json.loads((tmp_path / "lists/tasks.json").read_text())
    assert ElementTree.parse(tmp_path / "lists/labels.xml").getroot().find("Choices").get("choice") == "multiple"
    assert lists[1]["annotations"][0]["result"][0]["value"] == {"choices": ["cat", "fox"]}
    assert lists[3]["annotations"] == []


def test_arrays_become_grey_png(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(6) % 2)
    write_audit(tmp_path / "audit", tmp_path / "a.npz")
    export(tmp_path / "audit", "parquet", tmp_path / "out.parquet")
    export(tmp_path / "audit", "folder", tmp_path / "out")

    again = open_source(tmp_path / "out.parquet")
    assert again.grey
    assert [again.pictures.read(row)[..., 0].tolist() for row in range(6)] == x.tolist()
    assert list(open_source(tmp_path / "out").ids) == [f"{row % 2}/{row:06d}.png" for row in (0, 2, 4, 1, 3, 5)]


def test_several_classes_have_no_folder(several, tmp_path):
    with pytest.raises(UsageError, match="choose --to parquet"):
        export(several, "folder", tmp_path / "out")


@pytest.mark.parametrize("name", [" cat", "nan", ""])
def test_a_csv_refuses_class_names_that_would_read_back_otherwise(tmp_path, name):
    _table(tmp_path / "t.parquet", ["a", "b"], [name, "dog"], [0, 1])
    write_audit(tmp_path / "audit", tmp_path / "t.parquet")

    with pytest.raises(InputError, match="cannot hold the class name"):
        export(tmp_path / "audit", "csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def _table(path, ids, names, labels):
    pictures = [png(label % 256, (2, 2)) for label in range(len(ids))]
    table = pa.table({"id": ids, "image": pa.array(pictures, pa.binary()), "label": pa.array(labels, pa.int64())})
    record = json.dumps({"class_names": names, "label_column": "label"})
    pq.write_table(table.replace_schema_metadata({"winnow": record}), path)


TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "..",
        ".",
        "CON",
        "a/b",
        "../../x",
        "=cmd()",
        "@x",
        "\t",
        "cat ",
        "Cat",
        "cat",
        "x" * 255,
        "🦊",
        "fates.parquet",
        "a\nb",
    ]
)
ROUND_TRIP = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@ROUND_TRIP
@given(
    ids=st.lists(TEXT.filter(bool), min_size=1, max_size=6, unique=True),
    names=st.lists(TEXT, min_size=1, max_size=5, unique=True),
    data=st.data(),
)
def test_import_of_an_export_gives_equal_labels_whatever_the_names(tmp_path_factory, ids, names, data):
    folder = tmp_path_factory.mktemp("round")
    labels = data.draw(st.lists(st.integers(0, len(names) - 1) | st.none(), min_size=len(ids), max_size=len(ids)))
    _table(folder / "t.parquet", ids, names, labels)
    source = write_audit(folder / "audit", folder / "t.parquet")
    expected = {name: None if label is None else names[label] for name, label in zip(ids, labels, strict=True)}
    assert labels_by_id(source) == expected

    for to in ("parquet", "hugging-face"):
        out = folder / f"out{ENDING[to]}" if ENDING[to] else folder / to
        export(folder / "audit", to, out)
        again = open_source(out)
        assert labels_by_id(again) == expected
        assert again.class_names == tuple(names)

    summary = export(folder / "audit", "folder", folder / "by-class")
    known = [name for name in ids if expected[name] is not None]
    assert summary["fates"].get("kept", 0) == len(known)
    _assert_folder_maps_back(folder / "by-class", known, expected)


def _assert_folder_maps_back(out, known, expected):
    """By `fates.parquet`, every file is one image, in the folder of its class, inside the export."""
    table = pq.read_table(out / "fates.parquet")
    metadata = table.schema.metadata
    folders = json.loads(metadata[b"class_folders"])
    class_of = dict(zip(folders, json.loads(metadata[b"class_names"]), strict=True))
    files = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    rows = [row for row in table.to_pylist() if row["file"] is not None]
    assert {row["file"] for row in rows} == files
    assert {row["id"]: class_of[row["file"].split("/")[0]] for row in rows} == {name: expected[name] for name in known}
    if known:
        again = open_source(out)
        back = {row["file"]: row["id"] for row in rows}
        found = labels_by_id(again, [back[path] for path in _paths(again, out)])
        assert {name: class_of[label] for name, label in found.items()} == {name: expected[name] for name in known}


def _paths(source, out):
    return [os.path.relpath(path, out) for path in source.pictures.paths]


CELL = TEXT.filter(lambda text: text == text.strip() and "\r" not in text and "\0" not in text)


@ROUND_TRIP
@given(names=st.lists(CELL.filter(lambda text: text not in ("", "nan", "NA")), min_size=1, max_size=5, unique=True))
def test_a_csv_comes_back_by_its_apostrophes(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("csv")
    ids = [f"{name}|{number}" for number, name in enumerate(names)]
    _table(folder / "t.parquet", ids, names, list(range(len(names))))
    write_audit(folder / "audit", folder / "t.parquet")
    try:
        export(folder / "audit", "csv", folder / "out.csv")
    except InputError:
        return  # a name that would read back as missing

    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [restored(row["label"]) for row in rows] == names
    assert [restored(row["id"]) for row in rows] == ids
    assert not any(cell.startswith(("=", "@", "\t")) for row in rows for cell in row.values())


def test_what_is_read_is_what_was_audited(audited):
    judged = read_judged(audited)

    assert judged.copy_of.tolist() == [-1, -1, -1, -1, -1, 4, -1, -1, -1, 6, -1, -1]
    assert judged.found("outlier").tolist() == [row == 2 for row in range(12)]
    assert judged.label_quality[1] == pytest.approx(0.05)
