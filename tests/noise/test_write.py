"""Noisy collections as files, and the command that makes them."""

import errno
import json
import os
from dataclasses import replace
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from winnow.cli.noise import noise as noise_command
from winnow.data.open import open_source
from winnow.errors import InputError, MachineError, UsageError
from winnow.noise.kinds import make_noise
from winnow.noise.summary import rounding, sentence
from winnow.noise.write import labels_hash, write_noisy


def png(value):
    buffer = BytesIO()
    Image.fromarray(np.full((10, 10, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path):
    for index in range(20):
        path = tmp_path / "photos" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(index))
    return tmp_path / "photos"


def noisy_file(data, out, **options):
    source = open_source(data)
    made = make_noise(source, "symmetric", 0.4, seed=1, **options)
    write_noisy(source, made, out)
    return source, made, open_source(out)


def assert_same_pictures(first, second):
    assert len(first) == len(second)
    for row in range(0, len(first), 7):
        assert (first.pictures.read(row) == second.pictures.read(row)).all()


@pytest.mark.parametrize("ending", [".parquet", ".npz"])
def test_an_array_source_trains_from_its_copy_without_options(tmp_path, ending):
    source, made, copy = noisy_file("digits", tmp_path / f"noisy{ending}")

    assert list(copy.ids) == list(source.ids)
    assert copy.class_names == source.class_names
    assert (copy.noisy_labels == made.noisy_labels).all()
    assert (copy.clean_labels.wrong(copy.noisy_labels) == made.flipped).all()
    assert (copy.grey, copy.mirror) == (True, False)
    assert copy.test_address == "digits:test"
    assert len(copy.test()) == 360
    assert_same_pictures(source, copy)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_folder_trains_from_a_table_of_paths(photos, tmp_path, ending):
    source, made, copy = noisy_file(photos, tmp_path / "elsewhere" / f"noisy{ending}")

    assert copy.class_names == ("cat", "dog")
    assert (copy.noisy_labels == made.noisy_labels).all()
    assert copy.clean_labels.accuracy(copy.noisy_labels) == pytest.approx(0.6)
    assert_same_pictures(source, copy)


def test_encoded_images_are_copied_byte_for_byte_with_further_label_columns(tmp_path):
    images = [png(value) for value in range(12)] + [b"broken"]
    labels, second = [0, 1, 2] * 4 + [None], [2, 1, 0] * 4 + [1]
    path = tmp_path / "photos.parquet"
    pq.write_table(pa.table({"image": images, "label": labels, "second": second, "number": range(100, 113)}), path)

    _, made, copy = noisy_file(path, tmp_path / "noisy.parquet")
    table = pq.read_table(tmp_path / "noisy.parquet")

    assert table.column_names == ["id", "image", "label", "noisy_label", "second"]
    assert table["image"].to_pylist() == images
    assert table["label"].to_pylist() == labels
    assert table["noisy_label"].to_pylist()[-1] is None
    assert table["second"].to_pylist() == second
    assert (copy.noisy_labels == made.noisy_labels).all()


def test_the_file_says_how_its_noise_was_made(tmp_path):
    source, made, _ = noisy_file("digits", tmp_path / "noisy.parquet", draw="expected")

    record = json.loads(pq.read_schema(tmp_path / "noisy.parquet").metadata[b"winnow"])

    assert record["schema_version"] == 1
    assert record["label_column"] == "noisy_label"
    assert record["clean_label_column"] == "label"
    assert record["noise"]["convention"] == made.convention
    assert record["noise"]["realised_rate"] == made.realised_rate
    assert record["noise"]["seed"] == 1
    table = pq.read_table(tmp_path / "noisy.parquet")
    assert record["noise"]["clean_labels_sha256"] == labels_hash(table["label"].to_numpy())
    assert record["noise"]["noisy_labels_sha256"] == labels_hash(table["noisy_label"].to_numpy())
    assert labels_hash(source.noisy_labels) == record["noise"]["clean_labels_sha256"]


def test_an_empty_class_survives_in_the_copy(photos, tmp_path):
    (photos / "eel").mkdir()

    _, _, copy = noisy_file(photos, tmp_path / "noisy.parquet")

    assert copy.class_names == ("cat", "dog", "eel")


def test_a_file_of_a_newer_version_is_refused(tmp_path):
    table = pa.table({"image": [png(0)], "label": [0]})
    pq.write_table(table.replace_schema_metadata({"winnow": '{"schema_version": 9}'}), tmp_path / "new.parquet")

    with pytest.raises(InputError, match="newer winnow"):
        open_source(tmp_path / "new.parquet")


def test_noise_starts_from_the_truth(tmp_path):
    noisy_file("digits", tmp_path / "noisy.parquet")

    with pytest.raises(InputError, match=r"noisy already.*--label-column label"):
        make_noise(open_source(tmp_path / "noisy.parquet"), "pair", 0.2)
    again = make_noise(open_source(tmp_path / "noisy.parquet", label_column="label"), "pair", 0.2)
    assert again.realised_rate == pytest.approx(0.2, abs=0.01)


def test_formats_that_cannot_hold_a_source_are_refused(photos, tmp_path):
    for data, name in (("digits", "x.csv"), (photos, "x.npz"), (photos, "x.txt")):
        source = open_source(data)
        with pytest.raises(InputError):
            write_noisy(source, make_noise(source, "pair", 0.2), tmp_path / name)


def test_an_image_whose_name_is_no_text_brings_its_bytes(photos, tmp_path):
    odd = os.fsencode(photos / "cat") + b"/\xff.png"
    with open(odd, "wb") as file:
        file.write(png(77))
    noisy_file(photos, tmp_path / "noisy.parquet")

    source = open_source(tmp_path / "noisy.parquet")
    row = list(source.ids).index("cat/\\xff.png")
    assert source.pictures.read(row)[0, 0].tolist() == [77, 77, 77]
    assert source.pictures.read(0).shape == (10, 10, 3)
    assert len(source) == 21

    with pytest.raises(InputError, match=r"not UTF-8; rename it, or write \.parquet"):
        noisy_file(photos, tmp_path / "noisy.csv")


def test_a_csv_does_not_lose_a_class_whose_name_reads_as_missing(photos, tmp_path):
    (photos / "cat").rename(photos / "none")
    source = open_source(photos)
    made = make_noise(source, "pair", 0.2)

    with pytest.raises(InputError, match="cannot hold the class name 'none' safely"):
        write_noisy(source, made, tmp_path / "noisy.csv")
    write_noisy(source, made, tmp_path / "noisy.parquet")
    assert (open_source(tmp_path / "noisy.parquet").noisy_labels == made.noisy_labels).all()


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    source = open_source("digits", limit=50)
    made = make_noise(source, "pair", 0.2)
    out = tmp_path / "noisy.parquet"
    out.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="the disk is full"):
        write_noisy(source, made, out)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_class_map_may_name_classes(photos):
    source = open_source(photos)

    made = make_noise(source, "asymmetric", 0.5, class_map="cat:dog")

    assert made.mapping == {0: 1}
    assert sentence(source, made) == (
        "50 % of the labels in 1 of 2 classes: 25.0 % of all labels are now wrong (5 of 20)."
    )
    with pytest.raises(UsageError, match="no class 'cta'; did you mean cat"):
        make_noise(source, "asymmetric", 0.5, class_map="cta:dog")
    with pytest.raises(UsageError, match="needs --map"):
        make_noise(source, "asymmetric", 0.5)
    with pytest.raises(UsageError, match="is for 10 classes"):
        make_noise(source, "asymmetric", 0.5, class_map="mnist")
    with pytest.raises(UsageError, match="did you mean mnist"):
        make_noise(source, "asymmetric", 0.5, class_map="mnits")


def test_options_of_other_kinds_are_refused():
    source = open_source("digits", limit=50)

    with pytest.raises(UsageError, match="belongs to symmetric"):
        make_noise(source, "pair", 0.2, inclusive=True)
    with pytest.raises(UsageError, match="belongs to asymmetric"):
        make_noise(source, "pair", 0.2, class_map="mnist")
    assert make_noise(source, "permutation", 0.2, class_map="mnist").mapping[0] == 7
    assert make_noise(source, "asymmetric", 0.2).mapping[7] == 1


def test_groups_and_other_names_are_checked_in_the_users_words(photos):
    source = open_source(photos)

    assert make_noise(source, "superclass", 0.5, class_map="cat|dog").mapping == {0: 1, 1: 0}
    assert make_noise(source, "asymmetric", 0.5, class_map="confusable").mapping == {0: 1, 1: 0}
    for call, expected in (
        (lambda: make_noise(source, "superclass", 0.5), "superclass noise needs --map: groups"),
        (lambda: make_noise(source, "superclass", 0.5, class_map="cat|dog,cat"), "'cat' stands in two groups"),
        (lambda: make_noise(source, "superclass", 0.5, class_map="cifar100"), "is for 100 classes"),
        (lambda: make_noise(source, "ambiguity", 0.5), "'cat:dog' puts images of cat under the name dog"),
        (lambda: make_noise(source, "pair", 0.5, donor="uniform"), "--donor belongs to open-set and web noise"),
        (lambda: make_noise(source, "instance", 0.5, draw="exact"), "always expected"),
        (lambda: make_noise(source, "cluster", 0.5, draw="expected"), "always exact"),
        (lambda: make_noise(source, "symetric", 0.5), "did you mean symmetric"),
        (lambda: make_noise(source, "instance", 1.5), "rate must lie in"),
    ):
        with pytest.raises(UsageError, match=expected):
            call()


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_every_annotator_has_a_column(tmp_path, ending):
    source = open_source("digits", limit=100)
    made = make_noise(source, "annotators", 0.4, annotators=2)
    write_noisy(source, made, tmp_path / f"noisy{ending}")
    copy = open_source(tmp_path / f"noisy{ending}")

    found = copy.other_labels()

    assert set(found) == {"annotator_1", "annotator_2"}
    assert all((found[name] == labels).all() for name, labels in made.label_columns.items())


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(noise_command)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def test_the_command_tells_both_numbers_and_what_comes_next(run, tmp_path):
    out = tmp_path / "noisy.parquet"

    result = run("digits", "--kind", "asymmetric", "--rate", "0.4", "--out", out)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "Data     1,437 images, 10 classes from digits"
    assert lines[2].startswith("40 % of the labels in 5 of 10 classes: ")
    assert "% of all labels are now wrong" in lines[2]
    assert lines[-1] == f"Next     winnow train {out}"


def test_json_is_one_object_and_nothing_else(run, tmp_path):
    result = run("digits", "--rate", "0.4", "--limit", "200", "--out", tmp_path / "a.npz", "--json")

    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert record["num_images"] == 200
    assert record["rate"] == 0.4
    assert record["num_flipped"] == round(record["realised_rate"] * 200)
    assert record["file"] == str(tmp_path / "a.npz")


def test_an_existing_file_is_replaced_only_by_force(run, tmp_path):
    out = tmp_path / "noisy.parquet"
    out.write_bytes(b"precious")

    refused = run("digits", "--rate", "0.4", "--out", out)
    assert isinstance(refused.exception, InputError)
    assert "--force" in str(refused.exception)
    assert out.read_bytes() == b"precious"

    assert run("digits", "--rate", "0.4", "--out", out, "--force").exit_code == 0
    assert len(open_source(out)) == 1437


@pytest.mark.parametrize(
    ("options", "taxonomy", "has_matrix"),
    [
        (("--kind", "pair"), "NAR", True),
        (("--kind", "cluster"), "NNAR", True),
        (("--kind", "open-set", "--donor", "blurred"), "open-set", False),
        (("--kind", "annotators"), "NAR", False),
    ],
)
def test_json_tells_tag_convention_and_both_rates(run, tmp_path, options, taxonomy, has_matrix):
    result = run("digits", *options, "--rate", "0.3", "--limit", "200", "--out", tmp_path / "a.npz", "--json")

    record = json.loads(result.stdout)
    copy = open_source(tmp_path / "a.npz")
    assert record["taxonomy"] == taxonomy
    assert record["convention"].startswith(options[1])
    assert (record["transition_matrix"] is not None) == has_matrix
    assert 200 * record["realised_rate"] == pytest.approx(record["num_flipped"] + record["num_foreign"])
    assert record["noisy_labels_sha256"] == labels_hash(copy.noisy_labels)
    assert record["num_flipped"] == copy.clean_labels.wrong(copy.noisy_labels).sum()


def test_the_command_takes_donors_from_another_collection(run, photos, tmp_path):
    out = tmp_path / "noisy.parquet"

    result = run("digits", "--kind", "open-set", "--donor", photos, "--rate", "0.1", "--limit", "100", "--out", out)

    assert result.exit_code == 0, result.output
    assert f"replaced by images of {photos}" in result.stdout
    assert "of the images are now foreign" in result.stdout
    assert sum(pq.read_table(out)["foreign"].to_pylist()) > 0


def test_a_source_is_never_overwritten(run, photos, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"photos/{n}.png,{'ab'[n % 2]}\n" for n in range(6)))
    before = table.read_bytes()

    done = run(table, "--rate", "0.5", "--out", table, "--force")

    assert isinstance(done.exception, InputError)
    assert "is read as well, and a source is never changed" in str(done.exception)

    assert table.read_bytes() == before


def test_a_rate_that_small_classes_cannot_give_is_told():
    labels = np.arange(50)
    source = replace(open_source("digits", limit=50), noisy_labels=labels, class_names=tuple(map(str, labels)))

    none = make_noise(source, "symmetric", 0.4)
    drawn = make_noise(source, "symmetric", 0.4, draw="expected")

    # One image a class: 0.4 of an image is none.
    assert none.flipped.sum() == 0
    assert str(rounding(source, none)).startswith("40.0 % of the labels should be wrong, 0.0 % are")
    assert rounding(source, drawn) is None
    assert rounding(open_source("digits"), make_noise(open_source("digits"), "symmetric", 0.4)) is None
