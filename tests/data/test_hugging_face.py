"""Hugging Face datasets on this machine: row 29 of the fault table. The hub is never asked; see `test_streamed.py`."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.pictures import message, png, value_of
from winnow.data.open import open_source, open_test

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.utils.logging.disable_progress_bar()


def dataset(labels, names=("red", "green", "blue"), **columns):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    content = {"image": [{"bytes": png(row), "path": None} for row in range(len(labels))], "label": labels, **columns}
    features |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def test_a_saved_dataset_has_its_class_names_and_undecoded_pictures(tmp_path):
    dataset([2, 0, 2]).save_to_disk(tmp_path / "saved")

    source = open_source(tmp_path / "saved")

    assert source.class_names == ("red", "green", "blue")
    assert source.noisy_labels.tolist() == [2, 0, 2]
    assert [value_of(source, row) for row in range(3)] == [0, 1, 2]
    assert source.pictures.encoded(1) == png(1)


def test_rows_that_were_chosen_before_saving_stay_chosen(tmp_path):
    dataset([0, 1, 2, 1]).select([3, 0]).save_to_disk(tmp_path / "saved")

    source = open_source(tmp_path / "saved")

    assert source.noisy_labels.tolist() == [1, 0]
    assert [value_of(source, row) for row in range(2)] == [3, 0]


def test_of_several_splits_the_one_for_training_is_read_and_the_others_named(tmp_path):
    splits = {"train": dataset([0, 1]), "test": dataset([2])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "both")

    source = open_source(tmp_path / "both")
    test = open_test(tmp_path / "both" / "test", source)

    assert source.noisy_labels.tolist() == [0, 1]
    assert source.notes == (f"The split train is read; DATA for the others: {tmp_path}/both/test.",)
    assert test.noisy_labels.tolist() == [2]

    datasets.DatasetDict({"a": dataset([0]), "b": dataset([1])}).save_to_disk(tmp_path / "odd")
    assert f"has the splits a, b; name one: {tmp_path}/odd/SPLIT" in message(tmp_path / "odd")


def test_the_only_class_label_is_the_label_whatever_its_name(tmp_path):
    dataset([1, 0]).rename_column("label", "colour").save_to_disk(tmp_path / "saved")

    source = open_source(tmp_path / "saved")

    assert source.label_column == "colour"
    assert source.noisy_labels.tolist() == [1, 0]


def test_two_class_labels_with_other_lists_are_compared_by_name(tmp_path):
    both = dataset([0, 1]).add_column("true", [0, 0]).cast_column("true", datasets.ClassLabel(names=["green", "red"]))
    both.save_to_disk(tmp_path / "saved")

    source = open_source(tmp_path / "saved", clean_label_column="true")

    assert source.class_names == ("red", "green", "blue")
    assert source.clean_labels.wrong(source.noisy_labels).tolist() == [True, False]


def tagged(lists, truth):
    """Lists of classes, and a truth that numbers the same classes the other way round."""
    names = ["red", "green", "blue", "grey"]
    features = {
        "image": datasets.Image(),
        "label": datasets.Sequence(datasets.ClassLabel(names=names)),
        "true": datasets.Sequence(datasets.ClassLabel(names=names[::-1])),
    }
    images = [{"bytes": png(row), "path": None} for row in range(len(lists))]
    content = {"image": images, "label": lists, "true": truth}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


@pytest.mark.parametrize("how", ["saved", "exported"])
def test_lists_of_class_labels_keep_their_names_and_empty_classes(tmp_path, how):
    found = tagged([[2, 0], [], [1]], [[3], [], [1, 2]])
    if how == "saved":
        found.save_to_disk(tmp_path / "data")
    else:
        found.to_parquet(tmp_path / "data.parquet")
    path = tmp_path / ("data" if how == "saved" else "data.parquet")

    source = open_source(path, clean_label_column="true")
    renamed = open_source(path, map_labels="green=red,grey=")

    assert source.class_names == ("red", "green", "blue", "grey")
    assert source.noisy_labels.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    # truth: red; nothing; blue and green
    assert source.clean_labels.wrong(source.noisy_labels).tolist() == [
        [False, False, True, False],
        [False] * 4,
        [False, False, True, False],
    ]
    assert renamed.class_names == ("red", "blue")
    assert renamed.noisy_labels.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_a_dataset_without_images_says_so(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(tmp_path / "saved")

    assert "no image column (text, label)" in message(tmp_path / "saved")


def test_a_damaged_dataset_is_refused_in_one_line(tmp_path):
    dataset([0]).save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"damaged")

    assert "cannot be read as a saved dataset" in message(tmp_path / "saved")


def test_a_folder_of_parquet_exports_is_one_table(tmp_path):
    for shard, labels in enumerate(([0, 1], [2])):
        dataset(labels).to_parquet(tmp_path / f"train-{shard:05d}-of-00002.parquet")
    (tmp_path / "README.md").write_text("A card.")

    source = open_source(tmp_path)

    assert source.class_names == ("red", "green", "blue")
    assert source.noisy_labels.tolist() == [0, 1, 2]
    assert [value_of(source, row) for row in range(3)] == [0, 1, 0]
    assert source.notes == ()


def test_a_clone_from_the_hub_gives_its_split_for_training(tmp_path):
    (tmp_path / "data").mkdir()
    dataset([0, 1]).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    dataset([2]).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")

    assert open_source(tmp_path).noisy_labels.tolist() == [0, 1]
    assert f"'{tmp_path}/data/test-*.parquet'" in open_source(tmp_path).notes[0]
    assert open_source(f"{tmp_path}/data/test-*.parquet").noisy_labels.tolist() == [2]


def test_parquet_files_that_do_not_belong_together_are_refused(tmp_path):
    pq.write_table(pa.table({"image": [png()], "label": [0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [png()], "label": ["x"]}), tmp_path / "b.parquet")

    text = message(tmp_path)

    assert "b.parquet: column 'label' is of type string, in" in text
    assert "of type int64" in text


def test_hf_reads_a_folder_and_one_of_its_splits(tmp_path):
    (tmp_path / "hub" / "data").mkdir(parents=True)
    dataset([0, 1]).to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    dataset([2]).to_parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")

    source = open_source(f"hf:{tmp_path}/hub")

    assert source.class_names == ("red", "green", "blue")
    assert value_of(source, 1) == 1
    assert open_source(f"hf:{tmp_path}/hub:test").noisy_labels.tolist() == [2]
    assert "no split 'dev' (test, train)" in message(f"hf:{tmp_path}/hub:dev")


def test_hf_reads_a_saved_dataset_and_one_of_its_splits(tmp_path):
    datasets.DatasetDict({"train": dataset([0, 1]), "test": dataset([2])}).save_to_disk(tmp_path / "saved")

    assert open_source(f"hf:{tmp_path}/saved").noisy_labels.tolist() == [0, 1]
    assert open_source(f"hf:{tmp_path}/saved:test").noisy_labels.tolist() == [2]
    assert "has no split 'dev'" in message(f"hf:{tmp_path}/saved:dev")


def test_a_dataset_with_code_of_its_own_is_refused_and_the_code_not_run(tmp_path):
    folder = tmp_path / "coded"
    folder.mkdir()
    (folder / "coded.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    (folder / "x.csv").write_text("a\n1\n")

    assert "needs code of its own to be read, which is not run" in message(f"hf:{folder}")
    assert "needs code of its own" in message(f"hf:{folder}", download=True)
    assert not (tmp_path / "canary").exists()


def test_without_the_extra_one_line_names_it(tmp_path, monkeypatch):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    monkeypatch.setitem(sys.modules, "datasets", None)

    extra = 'a Hugging Face dataset needs an extra: pip install "winnow-images[huggingface]"'
    assert message(tmp_path / "saved") == f"{tmp_path}/saved: {extra}"
    assert message("hf:x") == f"hf:x: {extra}"
