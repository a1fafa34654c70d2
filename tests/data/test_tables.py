"""csv and Parquet: rows 21, 23-25, 27 and 28 of the fault table."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.pictures import message, png
from winnow.data.open import open_source, open_test
from winnow.data.source import Unreadable


@pytest.fixture
def write_csv(tmp_path):
    def write(text, name="photos.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


@pytest.fixture
def write_parquet(tmp_path):
    def write(*, metadata=None, **columns):
        count = len(next(iter(columns.values())))
        if not {"image", "path", "picture"} & set(columns):
            columns["image"] = [png(value) for value in range(count)]
        path = tmp_path / "photos.parquet"
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
        return path

    return write


def test_a_csv_names_paths_relative_to_itself(write_csv, tmp_path):
    (tmp_path / "a.png").write_bytes(png(7))
    source = open_source(write_csv("path,label\na.png,dog\nb.png,cat\n"))

    assert list(source.ids) == ["a.png", "b.png"]
    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == [1, 0]
    assert (source.pictures.read(0) == 7).all()
    with pytest.raises(Unreadable, match="unreadable"):
        source.pictures.read(1)


def test_a_missing_column_is_named_with_the_nearest_one(write_csv):
    path = write_csv("path,label,split\na.png,dog,x\n")

    assert message(path, label_column="lable") == (
        f"{path} line 1: no column 'lable' (path, label, split); did you mean --label-column label?"
    )
    assert "did you mean --clean-label-column label?" in message(path, clean_label_column="labels")
    assert "did you mean --image-column path?" in message(path, image_column="paths")


def test_a_table_without_an_image_column_says_so(write_csv):
    assert "no image column (a, label)" in message(write_csv("a,label\n1,2\n"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_byte_order_marks_and_utf16_are_accepted(write_csv, encoding):
    text = "path,label\na.png,Käse\n"
    mark = "\ufeff" if encoding == "utf-16-le" else ""

    assert open_source(write_csv(mark + text, encoding=encoding)).class_names == ("Käse",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\na,b\nc\n", "line 3: 1 fields where the header has 2"),
        ('path,label\n"a\nb",x\nc,d,e\n', "line 4: 3 fields where the header has 2"),
        ("path,label\na,b\nc,\x00\n", "line 3: a NUL byte"),
        ('path,label\na,b\n"c,d\n', "line 3: unexpected end of data"),
        (b"path,label\na,b\nc,\xff\n", "line 3: not UTF-8"),
        ("path;label\na;b\n", "line 1: one column 'path;label'; it seems to be separated by semicolons"),
        ("path,path\na,b\n", "line 1: two columns are named 'path'"),
        ("path,label\n" + "a" * 200_000 + ",b\n", "line 2: field larger than field limit"),
        ("", "the file is empty"),
        ("path,label\n", "the table has no rows"),
    ],
)
def test_a_damaged_csv_is_refused_with_its_line(write_csv, text, expected):
    assert expected in message(write_csv(text))


def test_quotes_may_hold_commas_and_lines(write_csv):
    source = open_source(write_csv('path,label\n"a\n,b.png",x\n'))

    assert list(source.ids) == ["a\n,b.png"]


def test_tabs_separate_a_tsv(write_csv):
    assert open_source(write_csv("path\tlabel\na.png\tx\n", name="t.tsv")).class_names == ("x",)


def test_integer_texts_are_classes_in_the_order_of_their_numbers(write_csv):
    source = open_source(write_csv("path,label\na,10\nb,9\nc,0\n"))

    assert source.class_names == ("0", "9", "10")
    assert source.noisy_labels.tolist() == [2, 1, 0]


def test_missing_labels_are_unlabelled_never_a_class(write_csv, write_parquet):
    texts = open_source(write_csv("path,label\na,dog\nb,\nc,NaN\nd,None\ne, \n"))
    assert texts.class_names == ("dog",)
    assert texts.noisy_labels.tolist() == [0, -1, -1, -1, -1]

    integers = open_source(write_parquet(label=pa.array([1, None, 0], pa.int64())))
    assert integers.class_names == ("0", "1")
    assert integers.noisy_labels.tolist() == [1, -1, 0]

    names = open_source(write_parquet(label=pa.array(["b", None, ""])))
    assert names.noisy_labels.tolist() == [0, -1, -1]

    floats = open_source(write_parquet(label=pa.array([float("nan"), None])), class_names=("a",))
    assert floats.noisy_labels.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("labels", "flaw"),
    [
        (["3.0", "1"], "'3.0' (no whole number) at line 2 (0.png)"),
        (["3 ", "1"], "'3 ' (blanks around it) at line 2 (0.png)"),
        (["-1", "1"], "'-1' (negative) at line 2 (0.png)"),
    ],
)
def test_doubtful_label_texts_are_refused_with_their_ids(write_csv, labels, flaw):
    rows = "".join(f"{row}.png,{label}\n" for row, label in enumerate(labels))

    assert flaw in message(write_csv(f"path,label\n{rows}"))


def test_doubtful_label_numbers_are_refused(write_parquet):
    assert "-2 (negative) at row 2" in message(write_parquet(label=[0, -2]))
    assert "'3.0' (no whole number) at row 2; correct them" in message(write_parquet(label=[0.0, 3.0]))
    assert "run from 1 to 3; class indices count from 0" in message(write_parquet(label=[1, 2, 3]))
    assert "5 (not among the 3 classes) at row 2" in message(write_parquet(label=[0, 5]), class_names=list("abc"))
    assert "something else than classes" in message(write_parquet(label=[0, 10**9]))
    assert "label column 'label' is of type struct" in message(write_parquet(label=[{"x": 1}, {"x": 2}]))


def test_at_most_ten_offenders_are_listed(write_parquet):
    text = message(write_parquet(label=[7] * 30 + [0]), class_names=("a", "b"))

    assert text.count("not among") == 10
    assert "30 labels" in text
    assert "and 20 more" in text


def test_a_name_outside_the_class_list_is_refused(write_csv):
    assert "'cow' (not among the 2 classes) at line 3 (b)" in message(
        write_csv("path,label\na,dog\nb,cow\n"), class_names=("cat", "dog")
    )


def test_a_listed_class_called_none_is_not_missing(write_csv):
    source = open_source(write_csv("path,label\na,none\nb,cat\nc,\n"), class_names=("cat", "none"))

    assert source.noisy_labels.tolist() == [1, 0, -1]


def test_a_test_set_with_fewer_integer_classes_maps_the_same_way(write_parquet, write_csv):
    names = tuple(str(index) for index in range(10))

    assert open_source(write_parquet(label=[9, 3]), class_names=names).noisy_labels.tolist() == [9, 3]
    assert open_source(write_csv("path,label\na,9\nb,3\n"), class_names=names).noisy_labels.tolist() == [9, 3]
    assert open_source(write_parquet(label=[9, 3]), class_names=("1", "3", "9")).noisy_labels.tolist() == [
        2,
        1,
    ]


def test_twice_the_same_id_is_refused_with_the_pairs(write_csv):
    text = message(write_csv("id,path,label\nx,a,0\ny,b,0\nx,c,1\n"))

    assert "'id' names 1 images twice: 'x' at line 2 and line 4" in text


def test_the_same_path_with_two_labels_is_refused_with_both(write_csv):
    text = message(write_csv("path,label\na.png,cat\nb.png,cat\n./a.png,dog\n"))

    assert "images with two labels: 'a.png' is cat and dog at line 2 and line 4" in text


def test_the_same_path_with_the_same_label_is_two_rows(write_csv):
    source = open_source(write_csv("path,label\na.png,cat\na.png,cat\n"))

    assert list(source.ids) == ["000000", "000001"]


def test_ids_come_from_id_then_name_then_the_row(write_parquet):
    assert list(open_source(write_parquet(label=[0, 1], id=[7, 9], name=["p", "q"])).ids) == ["7", "9"]
    assert list(open_source(write_parquet(label=[0, 1], name=["p", "q"])).ids) == ["p", "q"]
    assert list(open_source(write_parquet(label=[0, 1], name=["p", "p"])).ids) == ["000000", "000001"]


def test_parquet_bytes_paths_and_structs_are_read(write_parquet, tmp_path):
    (tmp_path / "a.png").write_bytes(png(5))
    structs = pa.array([{"bytes": png(3), "path": "x.png"}, {"bytes": None, "path": "a.png"}])

    assert (open_source(write_parquet(label=[0, 1])).pictures.read(1) == 1).all()
    assert (open_source(write_parquet(label=[0], path=["a.png"])).pictures.read(0) == 5).all()
    mixed = open_source(write_parquet(label=[0, 1], picture=structs))
    assert [int(mixed.pictures.read(row)[0, 0, 0]) for row in (0, 1)] == [3, 5]


def test_dictionary_encoded_labels_and_hugging_face_names_are_understood(write_parquet):
    names = open_source(write_parquet(label=pa.array(["b", "a", "b"]).dictionary_encode()))
    assert names.noisy_labels.tolist() == [1, 0, 1]

    features = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    named = open_source(write_parquet(label=[1, 1], metadata={"huggingface": json.dumps(features)}))
    assert named.class_names == ("no", "yes")


def test_the_truth_is_kept_behind_its_wall_and_shares_the_classes(write_csv):
    source = open_source(write_csv("path,given,true\na,x,x\nb,y,z\n"), label_column="given", clean_label_column="true")

    assert source.class_names == ("x", "y", "z")
    assert source.clean_labels.accuracy(source.noisy_labels) == 0.5


def test_a_column_named_noisy_label_is_trained_on_and_label_is_its_truth(write_csv):
    source = open_source(write_csv("path,label,noisy_label\na,x,x\nb,y,x\n"))

    assert source.noisy_labels.tolist() == [0, 0]
    assert source.clean_labels.accuracy(source.noisy_labels) == 0.5
    assert "noisy_label" in source.notes[0]


def test_other_label_columns_are_found_for_copies(write_parquet):
    source = open_source(write_parquet(label=[0, 1, 2], second=[2, 1, 0], number=[100, 200, 300]))

    assert {name: labels.tolist() for name, labels in source.other_labels().items()} == {"second": [2, 1, 0]}


def test_a_damaged_parquet_is_refused_in_one_line(write_parquet, tmp_path):
    path = write_parquet(label=[0, 1])
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-20])

    assert "cannot be read as Parquet" in message(tmp_path / "cut.parquet")
    assert "image column 'label' is of type int64" in message(path, image_column="label")
    assert "no rows" in message(write_parquet(label=pa.array([], pa.int64()), path=pa.array([], pa.string())))


def test_predictions_need_no_label_column(write_csv):
    path = write_csv("path\na\nb\n")

    assert "no column 'label'" in message(path, class_names=("x",))
    source = open_source(path, class_names=("x",), unlabelled_ok=True)
    assert source.noisy_labels.tolist() == [-1, -1]


def test_a_test_set_is_scored_against_the_truth_where_it_has_one(write_csv):
    train = open_source(write_csv("path,worse,label\na,y,x\nb,y,y\n"), label_column="worse", clean_label_column="label")

    plain = open_test(write_csv("path,label\na,x\n", name="plain.csv"), train)
    noisy = open_test(write_csv("path,label,noisy_label\na,x,y\n", name="noisy.csv"), train)
    only_worse = open_test(write_csv("path,worse\na,y\n", name="worse.csv"), train)
    chosen = open_test(write_csv("path,other\na,y\n", name="other.csv"), train, label_column="other")

    assert [source.noisy_labels.tolist() for source in (plain, noisy, only_worse, chosen)] == [
        [0],
        [0],
        [1],
        [1],
    ]


def test_class_names_starting_with_formula_signs_are_exact(write_csv):
    names = ["=1+1", "+x", "-y", "@z"]
    rows = "".join(f"{row}.png,{name}\n" for row, name in enumerate(names))

    assert set(open_source(write_csv(f"path,label\n{rows}")).class_names) == set(names)


def test_unknown_data_is_answered_with_the_nearest_name(write_csv, tmp_path):
    write_csv("path,label\na,b\n")

    assert message("mnits").endswith("did you mean mnist?")
    assert "DATA is a folder with one sub-folder a class" in message("zzzzzz")
    assert re.search(r"no such file or folder; did you mean .*photos\.csv\?", message(tmp_path / "photo.csv"))
    (tmp_path / "x.txt").write_text("x")
    assert "not a folder, .csv" in message(tmp_path / "x.txt")


def test_many_classes_a_class_without_images_and_a_single_class_are_taken_as_they_are(write_csv, write_parquet):
    # Row 26: whether a method can work with them is for the training to say.
    many = open_source(write_csv("path,label\n" + "".join(f"{row}.png,{row}\n" for row in range(10_000))))
    assert many.num_classes == len(many) == 10_000
    assert many.noisy_labels.tolist() == list(range(10_000))

    names = tuple(f"class {index}" for index in range(10_000))
    assert open_source(write_parquet(label=[9_999, 3]), class_names=names).noisy_labels.tolist() == [9_999, 3]
    assert open_source(write_csv("path,label\na,x\n")).class_names == ("x",)


def test_the_test_set_that_a_file_names_has_the_same_limits(write_parquet, tmp_path):
    (tmp_path / "test.csv").write_text("path,label\nbig.png,a\n")
    (tmp_path / "big.png").write_bytes(png())
    record = json.dumps({"class_names": ["a"], "test": str(tmp_path / "test.csv")})
    train = write_parquet(label=["a"], metadata={"winnow": record})

    assert open_source(train).test().pictures.read(0).shape == (10, 10, 3)
    with pytest.raises(Unreadable, match="too-many-pixels"):
        open_source(train, max_pixels=99).test().pictures.read(0)
