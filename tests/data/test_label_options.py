"""What a person may say about labels: new names, duplicates, checked labels, more images. Rows 24 and 25."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.pictures import message, png, value_of
from winnow.data.open import open_source, open_test
from winnow.errors import UsageError


@pytest.fixture
def write_parquet(tmp_path):
    def write(**columns):
        columns["image"] = [png(value) for value in range(len(columns["label"]))]
        pq.write_table(pa.table(columns), tmp_path / "photos.parquet")
        return tmp_path / "photos.parquet"

    return write


# New names


def test_labels_are_renamed_merged_and_taken_away(write):
    table = write("path,label\na,cat\nb,kitten\nc,dog\nd,blurred\n")

    source = open_source(table, map_labels="kitten=cat,blurred=,dog=hound")

    assert source.class_names == ("cat", "hound")
    assert source.noisy_labels.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("labels", "mapping"),
    [
        (["3 ", "1", "3"], "3=3"),
        (["3.0", "1", "3"], "3.0=3"),
        (["-1", "1", "3"], "-1="),
    ],
)
def test_doubtful_texts_are_accepted_once_a_person_says_what_they_mean(write, labels, mapping):
    table = write("path,label\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels)))

    assert "cannot be used" in message(table)
    source = open_source(table, map_labels=mapping)

    assert source.class_names == ("1", "3")
    assert source.noisy_labels.tolist() == [-1 if mapping == "-1=" else 1, 0, 1]


def test_counting_from_one_and_floats_are_mapped_to_indices_or_names(write_parquet):
    assert "--map-labels" in message(write_parquet(label=[1, 2, 3]))
    assert open_source(write_parquet(label=[1, 2, 3]), map_labels="1=0,2=1,3=2").noisy_labels.tolist() == [0, 1, 2]
    named = open_source(write_parquet(label=[1, 2, 3]), map_labels={"1": "cat", "2": "dog", "3": None})
    assert (named.class_names, named.noisy_labels.tolist()) == (("cat", "dog"), [0, 1, -1])
    floats = open_source(write_parquet(label=[0.0, 1.0, float("nan")]), map_labels="0.0=cat,1.0=dog")
    assert (floats.class_names, floats.noisy_labels.tolist()) == (("cat", "dog"), [0, 1, -1])


def test_a_text_that_means_missing_can_be_given_a_name(write):
    source = open_source(write("path,label\na,NA\nb,EU\nc,\n"), map_labels="NA=America")

    assert source.class_names == ("America", "EU")
    assert source.noisy_labels.tolist() == [0, 1, -1]


def test_a_map_may_stand_in_a_file(write):
    mapping = write('old,new\nkitten,cat\n"a,b",dog\nblurred,\n', name="map.csv")
    table = write('path,label\na,kitten\nb,"a,b"\nc,blurred\n')

    source = open_source(table, map_labels=mapping)

    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == [0, 1, -1]


def test_a_map_that_cannot_be_understood_says_how_it_is_written(write, tmp_path):
    table = write("path,label\na,x\n")

    assert "'dog' is not old=new" in message(table, map_labels="cat=x,dog", error=UsageError)
    assert "'cat' has two new names, 'x' and 'y'" in message(table, map_labels="cat=x,cat=y")
    assert "no such file" in message(table, map_labels=tmp_path / "none.csv")
    wrong = write("from,to\na,b\n", name="map.csv")
    assert "line 1: needs the columns old and new, has from, to" in message(table, map_labels=wrong)


def test_a_name_that_does_not_occur_is_noted(write):
    source = open_source(write("path,label\na,cat\n"), map_labels="cta=dog")

    assert source.notes == ("--map-labels names labels that do not occur: cta.",)


def test_sub_folders_and_built_in_collections_are_renamed_too(tmp_path):
    for name in ("cat", "kitten", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(png())

    folder = open_source(tmp_path / "photos", map_labels="kitten=cat,dog=")
    assert folder.class_names == ("cat",)
    assert dict(zip(folder.ids, folder.noisy_labels.tolist(), strict=True)) == {
        "cat/1.png": 0,
        "dog/1.png": -1,
        "kitten/1.png": 0,
    }

    odd = open_source("digits", map_labels={str(n): "odd" if n % 2 else "even" for n in range(10)})
    plain = open_source("digits")
    assert odd.class_names == ("even", "odd")
    assert (odd.noisy_labels == plain.noisy_labels % 2).all()
    assert odd.test().class_names == ("even", "odd")


def test_a_test_set_is_mapped_as_the_training_set_is(write):
    train = open_source(write("path,label\na,kitten\nb,dog\n"), map_labels="kitten=cat")

    test = open_test(write("path,label\na,dog\nb,kitten\n", name="test.csv"), train, map_labels="kitten=cat")

    assert test.noisy_labels.tolist() == [1, 0]


def test_a_new_name_that_is_no_valid_text_is_refused(write):
    assert "no valid text" in message(write("path,label\na,x\n"), map_labels={"x": "\ud800"}, error=UsageError)


# Duplicates


def test_the_first_row_of_an_image_named_twice_is_kept_if_asked(write):
    table = write("path,label\na.png,cat\nb.png,cat\n./a.png,dog\nb.png,cat\n")

    assert "images with two labels: 'a.png' is cat and dog at line 2 and line 4" in message(table)
    source = open_source(table, on_duplicate="first")

    assert list(source.ids) == ["a.png", "b.png"]
    assert [source.class_names[label] for label in source.noisy_labels] == ["cat", "cat"]
    assert source.notes == ("Images named twice (--on-duplicate first): later rows left out: 2.",)


def test_an_image_with_conflicting_labels_is_unlabelled_if_asked(write):
    table = write("path,label\na.png,cat\nb.png,\na.png,dog\nb.png,dog\nc.png,cat\n")

    source = open_source(table, on_duplicate="conflict")

    assert list(source.ids) == ["a.png", "b.png", "c.png"]
    # b has one label in all, which nothing contradicts.
    assert source.noisy_labels.tolist() == [-1, 1, 0]
    assert "unlabelled because their labels differ: 1" in source.notes[0]


def test_a_row_may_share_its_id_with_one_and_its_path_with_another(write):
    table = write("id,path,label\nx,a,0\ny,b,0\nz,b,1\nz,c,1\n")

    source = open_source(table, on_duplicate="first")

    assert list(source.ids) == ["x", "y"]


def test_a_row_without_a_label_contradicts_nothing(write):
    source = open_source(write("path,label\na.png,cat\nb.png,dog\na.png,\n"))

    assert source.noisy_labels.tolist() == [0, 1, -1]


def test_of_an_image_named_twice_the_row_with_a_label_is_kept(write):
    table = write("id,path,label\n1,a.png,\n2,b.png,dog\n3,a.png,cat\n4,a.png,dog\n5,c.png,\n6,c.png,\n")

    source = open_source(table, on_duplicate="first")

    assert list(source.ids) == ["2", "3", "5"]
    assert source.noisy_labels.tolist() == [1, 0, -1]
    assert source.notes == (
        "Images named twice (--on-duplicate first): rows left out: 3, 1 of them first but without a label.",
    )


def test_a_file_by_its_absolute_and_its_relative_path_is_one(write, tmp_path, monkeypatch):
    table = write(f"path,label\na.png,cat\n{tmp_path}/a.png,dog\n")

    assert "'a.png' is cat and dog at line 2 and line 3" in message(table)
    monkeypatch.chdir(tmp_path)
    assert "'a.png' is cat and dog at line 2 and line 3" in message("photos.csv")
    assert len(open_source(table, on_duplicate="first")) == 1


def test_an_empty_id_is_refused(write):
    text = message(write("id,path,label\n1,a,x\n,b,x\n,c,y\n"))

    assert "'id' is empty at line 3, line 4; give every image its own, or leave the column away" in text


def test_a_table_without_duplicates_is_left_alone(write):
    source = open_source(write("path,label\na,0\nb,1\n"), on_duplicate="conflict")

    assert (list(source.ids), source.notes) == (["a", "b"], ())
    assert "must be first or conflict, got last" in message("digits", on_duplicate="last", error=UsageError)


# Checked labels


def test_a_column_of_answers_says_which_labels_were_checked(write):
    source = open_source(write("path,label,ok\na,x,true\nb,y,no\nc,,yes\nd,y,\n"), verified="ok")

    assert source.verified.tolist() == [True, False, False, False]
    assert source.noisy_labels.tolist() == [0, 1, -1, 1]


def test_a_column_of_labels_takes_the_place_of_the_given_ones(write):
    source = open_source(write("path,label,checked\na,x,\nb,y,x\nc,x,z\n"), verified="checked")

    assert source.class_names == ("x", "y", "z")
    assert source.verified.tolist() == [False, True, True]
    assert source.noisy_labels.tolist() == [0, 0, 2]


def test_zero_and_one_are_answers_unless_they_could_be_labels(write, write_parquet):
    named = open_source(write("path,label,ok\na,x,1\nb,y,0\n"), verified="ok")
    assert named.verified.tolist() == [True, False]

    booleans = write_parquet(label=[0, 1], ok=[True, False])
    assert open_source(booleans, verified="ok").verified.tolist() == [True, False]

    numbers = write_parquet(label=[0, 1], ok=[1, 0])
    assert "0 and 1 may be labels or answers" in message(numbers, verified="ok", error=UsageError)


def test_a_table_beside_the_data_gives_checked_labels_by_id_or_path(write, tmp_path):
    table = write("path,label\na.png,x\nb.png,y\nc.png,x\n")

    by_path = open_source(table, verified=write("path,label\n./b.png,x\nc.png,\n", name="checked.csv"))
    assert by_path.verified.tolist() == [False, True, False]
    assert by_path.noisy_labels.tolist() == [0, 0, 0]

    by_id = open_source(table, verified=write('{"id": "a.png"}\n{"id": "b.png"}', name="checked.jsonl"))
    assert by_id.verified.tolist() == [True, True, False]
    assert by_id.noisy_labels.tolist() == [0, 1, 0]


def test_checked_labels_come_before_the_subset(write):
    names = [f"{number}.png" for number in range(50)]
    table = write("path,label\n" + "".join(f"{name},x\n" for name in names))
    checked = write("path\n" + "".join(f"{name}\n" for name in names), name="checked.csv")

    assert open_source(table, verified=checked, limit=5).verified.tolist() == [True] * 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\nz.png,x\n", "not among the images of"),
        ("path,label\na.png,cow\n", "'cow' (not among the 2 classes) at line 2"),
        ("path,label\na.png,x\n./a.png,y\n", "checked.csv line 3: './a.png' stands there twice"),
        ("name,label\na,x\n", "needs a column id or path beside label (name, label)"),
    ],
)
def test_checked_labels_that_do_not_fit_are_refused(write, text, expected):
    table = write("path,label\na.png,x\nb.png,y\n")

    assert expected in message(table, verified=write(text, name="checked.csv"))


def test_a_column_or_file_that_is_not_there_says_so(write):
    text = message(write("path,label\na.png,x\n"), verified="chekced")

    assert "--verified chekced" in text
    assert "no such column, and there is no such file" in text


# More images


def test_unlabelled_images_follow_and_their_labels_are_not_read(write, tmp_path):
    for name in ("cow", "train"):
        (tmp_path / "more" / name).mkdir(parents=True)
        (tmp_path / "more" / name / "1.png").write_bytes(png(9))
    (tmp_path / "more" / "2.png").write_bytes(png(8))
    table = write("path,label\na.png,x\nb.png,y\n")

    source = open_source(table, unlabelled=tmp_path / "more", limit=1)

    assert source.class_names == ("x", "y")
    assert source.noisy_labels[1:].tolist() == [-1, -1, -1]
    assert [value_of(source, row) for row in (1, 2, 3)] == [9, 9, 8]
    assert "3 images of" in source.notes[-1]


def test_of_unlabelled_images_no_truth_is_known_and_none_is_verified(write):
    more = write("path,label\nc.png,x\nd.png,y\n", name="more.csv")
    table = write("path,label,truth,checked\na.png,x,x,true\nb.png,x,y,false\n")

    source = open_source(table, clean_label_column="truth", verified="checked", unlabelled=more)

    assert len(source.clean_labels) == len(source) == 4
    assert source.clean_labels.wrong(np.zeros(4, int)).tolist() == [False, True, False, False]
    assert source.verified.tolist() == [True, False, False, False]


def test_unlabelled_images_may_have_labels_that_could_not_be_used(write):
    more = write("path,label\na,3.0\nb,x \n", name="more.csv")

    source = open_source(write("path,label\na.png,x\n"), unlabelled=more)

    assert source.noisy_labels.tolist() == [0, -1, -1]


def test_a_built_in_collection_can_be_the_unlabelled_one(write):
    source = open_source(write("path,label\na.png,x\n"), unlabelled="digits:test")

    assert len(source) == 361
    assert np.unique(source.noisy_labels[1:]).tolist() == [-1]
