import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.errors import InputError, MachineError
from winnow.report.run import write_run_report


def grey(row):
    return np.full((8, 8, 1), row % 256, np.uint8)


def test_headline_and_tables_say_what_the_summary_says(digits_run, digit_images, read):
    path = write_run_report(digits_run, lambda row: digit_images[row])

    page = read(path)
    assert path == digits_run / "report.html"
    assert "winnow reaches 90.7 % on the test images and doubts 40 labels" in page.text
    assert "907 of 1,000 test images are classified right" in page.text
    assert "91.2 %epoch 3, chosen by agreement with held-out given labels" in page.text
    assert "0.953" in page.text
    assert "98.5 %80.0 % as given" in page.text
    assert "1 image could not be used and is listed in quarantine.parquet: empty 1." in page.text
    assert "winnow predict runs/a IMAGES" in page.text


def test_sections_stand_in_the_order_of_the_specification(digits_run, digit_images):
    html = write_run_report(digits_run, lambda row: digit_images[row]).read_text()

    places = [
        html.index(f'<h2 id="{name}"')
        for name in ("accuracy", "curves", "terms", "doubted", "matrix", "classes", "made")
    ]
    assert places == sorted(places)


def test_every_doubted_label_has_a_card_with_its_picture_when_they_are_few(digits_run, digit_images, read):
    page = read(write_run_report(digits_run, lambda row: digit_images[row]))

    pictures = page.of("img")
    assert len(pictures) == 40
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in pictures)
    assert {(picture["width"], picture["height"]) for picture in pictures} == {("96", "96")}
    assert "40 of 40 shown" in page.text


def test_the_same_run_gives_the_same_bytes(digits_run, digit_images):
    first = write_run_report(digits_run, lambda row: digit_images[row]).read_bytes()

    assert write_run_report(digits_run, lambda row: digit_images[row]).read_bytes() == first
    assert not list(digits_run.glob("*.tmp"))
    assert not list(digits_run.glob(".*"))


def test_hostile_names_are_literal_text(fake_run, read, hostile_names):
    given = np.arange(240) % len(hostile_names)
    suggested = np.where(np.arange(240) % 3 == 0, (given + 1) % len(hostile_names), given)
    run = fake_run.write(
        given,
        suggested,
        names=hostile_names,
        ids=[f"{hostile_names[row % len(hostile_names)]}/{row}" for row in range(240)],
        reasons=[hostile_names[-1 - row % len(hostile_names)] for row in range(240)],
        quarantine=[(name, name, name) for name in hostile_names],
        command=hostile_names[0],
        method_title=hostile_names[1],
        data=hostile_names[5],
        run=hostile_names[0],
        hyperparameters={hostile_names[0]: hostile_names[1]},
    )

    path = write_run_report(run, grey)

    page = read(path)
    for name in hostile_names[:7]:
        assert name in page.text
    assert "line\\nbreak" in page.text
    assert "\\u202egnp.exe" in page.text
    assert "\u202e" not in path.read_text()
    assert "49" not in [part.strip() for part in page.parts]
    assert page.of("bdi")


def test_fifty_thousand_doubted_labels_stay_under_five_megabytes(fake_run, read):
    rng = np.random.default_rng(0)
    given = rng.integers(0, 100, 60_000)
    suggested = np.where(np.arange(60_000) < 50_000, (given + rng.integers(1, 100, 60_000)) % 100, given)
    run = fake_run.write(given, suggested, names=[f"class {index}" for index in range(100)])
    asked = []

    def noise(row):
        asked.append(row)
        return rng.integers(0, 256, (224, 300, 3), dtype=np.uint8)

    path = write_run_report(run, noise)

    page = read(path)
    assert len(page.of("img")) == len(asked) <= 300
    assert f"{len(asked)} of 50,000 shown" in page.text
    assert all(picture["src"].startswith("data:image/webp") for picture in page.of("img"))
    assert {(picture["width"], picture["height"]) for picture in page.of("img")} == {("96", "72")}


def test_without_a_test_set_nothing_is_said_about_accuracy(fake_run, read):
    page = read(write_run_report(fake_run.write([0, 1, 1], [0, 1, 0], names=["cat", "dog"], test=None), grey))

    assert "winnow doubts 1 of 3 labels" in page.text
    assert "There was no test set" in page.text
    assert "test accuracy" not in page.text
    assert "held-out given labels" in page.text


def test_without_truth_no_auroc_or_repair_is_shown(fake_run, read):
    page = read(write_run_report(fake_run.write([0, 1, 1], [0, 1, 0], names=["cat", "dog"]), grey))

    assert "AUROC" not in page.text
    assert "after repair" not in page.text
    assert "Without checked labels these are estimates" in page.text


def test_nothing_doubted_is_a_sentence_and_keeps_the_histogram(fake_run, read):
    page = read(write_run_report(fake_run.write([0, 1, 1], [0, 1, 1], names=["cat", "dog"]), grey))

    assert "doubts no label" in page.text
    assert "No label stands out among 3 images." in page.text
    assert "How clear is the cut" in page.text
    assert not page.of("img")


def test_one_class_says_why_nothing_is_doubted(fake_run, read):
    page = read(write_run_report(fake_run.write([0, 0], [0, 0], names=["only"]), grey))

    assert "There is only one class." in page.text


def test_a_thousand_classes_show_twenty_pairs_and_twenty_rows(fake_run, read):
    given = np.arange(5000) % 1000
    suggested = np.where(np.arange(5000) % 4 == 0, (given + 1) % 1000, given)
    names = [f"class {index}" for index in range(1000)]

    page = read(write_run_report(fake_run.write(given, suggested, names=names), grey))

    assert "The 20 most confused pairs of 1,000 classes" in page.text
    assert "980 more classes" in page.text


def test_no_epochs_no_images_and_no_metrics_file_are_sentences(fake_run, read):
    run = fake_run.write([], np.zeros(0, int), names=["cat", "dog"], epochs=0)
    (run / "metrics.jsonl").unlink()

    page = read(write_run_report(run, grey))

    assert "No epoch has been finished" in page.text
    assert "No label stands out among 0 images." in page.text


def test_missing_labels_are_never_doubted(fake_run, read):
    page = read(write_run_report(fake_run.write([-1, -1, 1], [0, 1, 1], names=["cat", "dog"]), grey))

    assert "doubts no label" in page.text
    assert "without a label2" in page.text.replace(" 2", "2")


def test_a_picture_that_cannot_be_read_is_said_on_its_card(fake_run, read):
    def broken(row):
        raise OSError("<b>gone</b>")

    page = read(write_run_report(fake_run.write([0, 1, 1], [0, 1, 0], names=["cat", "dog"]), broken))

    assert "picture cannot be shown" in page.text
    assert "OSError: <b>gone</b>" in page.text


def test_the_page_shows_wrong_labels_only(fake_run, read):
    run = fake_run.write([0, 1, 1], [1, 1, 0], names=["cat", "dog"])
    table = pq.read_table(run / "labels.parquet")
    place = table.column_names.index("issue")
    changed = table.set_column(place, "issue", pa.array(["outlier", None, "wrong_label"], pa.string()))
    pq.write_table(changed, run / "labels.parquet")

    page = read(write_run_report(run, grey))

    assert "1 of 1 shown" in page.text


def test_a_last_metrics_line_cut_by_a_crash_is_left_out(digits_run, read):
    with open(digits_run / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 5, "ph')

    assert "doubts 40 labels" in read(write_run_report(digits_run, grey)).text


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no readable summary\.json") as refusal:
        write_run_report(tmp_path, grey)

    assert "\n" not in str(refusal.value)


def test_a_missing_or_damaged_label_table_is_refused(digits_run):
    (digits_run / "labels.parquet").write_bytes(b"PAR1 no table")

    with pytest.raises(InputError, match="no readable label table"):
        write_run_report(digits_run, grey)


def test_an_unfinished_report_never_replaces_the_old_one(digits_run, monkeypatch):
    path = write_run_report(digits_run, grey)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="the disk is full"):
        write_run_report(digits_run, grey)

    assert path.read_bytes() == before
    assert not list(digits_run.glob(".*"))


def test_memorising_is_named_when_given_labels_are_fitted_better_than_test_images(digits_run, read):
    lines = [json.loads(line) for line in (digits_run / "metrics.jsonl").read_text().splitlines()]
    lines[-1] |= {"given_label_agreement": 0.95, "test_accuracy": 0.7}
    (digits_run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    page = read(write_run_report(digits_run, grey))

    assert "25.0 points more often (orange) than it is right on images that it has not seen" in page.text


def test_two_pairs_use_the_room_of_the_page(fake_run, read):
    given = np.array([0] * 500 + [1] * 60)
    page = read(write_run_report(fake_run.write(given, 1 - given, names=["cat", "dog"]), grey))

    assert len(page.of("img")) == 300
    assert "240 of 500 shown" in page.text
    assert "60 of 60 shown" not in page.text
    assert "300 of 560 shown" in page.text
