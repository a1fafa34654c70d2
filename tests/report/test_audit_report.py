"""The report of an audit: what it says in every state, and that it stays small, quiet and literal."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.report.audit_folder import write_audit
from winnow.errors import InputError
from winnow.report.audit import write_audit_report

NAN = float("nan")


def grey(row):
    return np.full((8, 8, 1), row % 256, np.uint8)


@pytest.fixture
def audited(tmp_path, read):
    """The page of an audit folder with whatever a test wants in it."""

    def page(given, suggested, *, picture=grey, test_picture=None, **contents):
        folder = write_audit(tmp_path / "audit", given, suggested, **contents)
        return read(write_audit_report(folder, picture, test_picture))

    return page


@pytest.fixture
def digits_page(audited, digit_images):
    """200 digits, every fifth label wrong, one finding of almost every other kind."""
    from sklearn.datasets import load_digits

    truth = load_digits().target[:200]
    given = np.where(np.arange(200) % 5 == 0, (truth + 1) % 10, truth)
    found = {
        "conflicting_duplicate": [(11, 12, NAN, "equal pixels"), (12, 11, NAN, "equal pixels")],
        "near_duplicate": [(20, 21, 0.98, "correlation .999"), (21, 20, 0.98, ""), (11, 12, 0.9, "")],
        "outlier": [(30, -1, 0.9, "far from every class")],
        "test_leak": [(40, 7, 0.99, "equal pixels")],
        "blank": [(50, -1, NAN, "one grey value")],
        "odd_size": [(51, -1, NAN, "8 x 800 px")],
    }
    return audited(
        given,
        truth,
        names=list("0123456789"),
        found=found,
        unreadable=[(0, "empty", "0 bytes"), (1, "empty", "0 bytes"), (2, "truncated", "half a file")],
        picture=lambda row: digit_images[row],
        test_picture=lambda row: digit_images[-row],
        wrong_label_f1=0.952,
        wrong_label_ap=0.991,
        wrong_label_auroc=0.998,
        remarks=[{"kind": "order_effect", "sentence": "Rows are in order (31\u00a0%, 29 to 33).", "numbers": {}}],
        noise_kind={
            "name": "class-conditional",
            "evidence": [{"name": "spread", "value": 0.62, "low": 0.55, "high": 0.7, "sentence": "Most go one way."}],
            "limits": ["Biased mistakes cannot be excluded."],
        },
    )


def test_the_first_screen_answers(digits_page):
    # 39 flagged at 0.05 and 158 others at 0.95: (39 * 0.95 + 158 * 0.05) / 197 = 22.8 % of 197 = 44.95
    assert "About 45 of 197 labels look wrong: 22.8 % (interval 20.5 to 25.1)" in digits_page.text
    assert "39 labels are flagged; about 95 % of them are truly wrong. The estimate differs" in digits_page.text
    assert "winnow export" in digits_page.text


def test_the_findings_are_the_summarys(digits_page):
    rows = [
        "wrong_labellooks like another class than the given one 3995 %",
        "conflicting_duplicatethe same picture as another one that has another label 2exact",
        "near_duplicatenearly the same picture as another one 395 %",
        "test_leakalso in the test set, where it makes the accuracy look better 199 %",
        "unreadablecannot be read as a picture; left out of everything else 3exact",
    ]
    text = digits_page.text.replace("wrong_label looks", "wrong_labellooks")
    for row in rows:
        assert row.replace(" 39", "39").replace(" ", "") in text.replace(" ", "").replace("\u00a0", "")


def test_sections_stand_in_the_order_of_the_specification(digits_page):
    headings = [attributes["id"] for tag, attributes in digits_page.elements if tag == "h2"]

    assert headings == ["findings", "wrong", "duplicates", "outliers", "classes", "noise", "made"]


def test_every_plot_has_words_and_its_numbers(digits_page):
    tags = [tag for tag, _ in digits_page.elements]

    assert tags.count("svg") == 4  # quality, worth looking, classes, matrix
    assert tags.count("desc") == 4
    assert digits_page.text.count("Numbers of this plot") == 4


def test_a_pair_is_shown_once_and_two_labels_are_marked(digits_page):
    # 11 and 12 stand in both orders and under two kinds.
    assert "1 of 1 pair shown" in digits_page.text
    assert digits_page.text.count("two labels") == 1  # 20, a zero made a one, and 21, a one, agree
    assert digits_page.text.count("test image") == 1
    assert "near_duplicate, 3 images" in digits_page.text


def test_outliers_odd_and_unreadable_files_have_their_reasons(digits_page):
    assert "far from every class" in digits_page.text
    assert "one grey value" in digits_page.text
    assert "8 x 800 px" in digits_page.text
    assert "3 images could not be used" in digits_page.text
    assert "empty 2, truncated 1." in digits_page.text


def test_noise_is_told_with_evidence_limits_and_remarks(digits_page):
    assert "Kind of noise: class-conditional." in digits_page.text
    assert "Most go one way. (spread: 0.62, interval 0.55 to 0.7)" in digits_page.text
    assert "Biased mistakes cannot be excluded." in digits_page.text
    assert "Rows are in order (31 %, 29 to 33)." in digits_page.text


def test_the_truth_is_told_where_it_is_known(digits_page):
    assert "0.952" in digits_page.text
    assert "0.998" in digits_page.text
    assert "Without checked labels" not in digits_page.text


def test_without_truth_nothing_is_measured(audited):
    page = audited([0, 1, 1], [0, 1, 0], names=["cat", "dog"])

    assert "AUROC" not in page.text
    assert "Without checked labels these are estimates" in page.text


def test_the_matrix_is_the_estimated_one_in_images_believed_of_a_class(audited):
    shares = [
        {"class": index, "images": 20, "given": 0.5, "estimated": e, "low": e, "high": e}
        for index, e in ((0, 0.75), (1, 0.25))
    ]
    page = audited(
        np.arange(40) % 2,
        np.arange(40) % 2,
        names=["cat", "dog"],
        transition_matrix=[[0.9, 0.1], [0.0, 1.0]],
        class_shares=shares,
    )

    # three quarters of 40 are 30, a tenth of those 3
    assert "Most frequent: 3.0 of the 30 images believed cat carry the label dog (10.0 %)." in page.text


def test_nothing_found_is_a_sentence_and_keeps_the_histogram(audited):
    page = audited([0, 1, 1], [0, 1, 1], names=["cat", "dog"])

    assert "No label stands out among 3 images" in page.text
    assert "60 clean blind checks would bound the rate of wrong labels below 5 %." in page.text
    assert "winnow audit photos --blind 60" in page.text
    assert "How clear is the cut" in page.text
    assert not page.of("img")


def test_one_class_still_has_outliers_and_says_why_no_label_is_wrong(audited):
    found = {"outlier": [(1, -1, 0.9, "far away")]}
    page = audited([0, 0], [0, 0], names=["only"], quality=[NAN, NAN], found=found)

    assert "With one class no label can look like another one; 1 image has other findings" in page.text
    assert "There is only one class." in page.text
    assert "Not judged" not in page.text
    assert len(page.of("img")) == 1


def test_no_label_at_all_is_said(audited):
    page = audited([-1, -1], [-1, -1], names=["cat", "dog"])

    assert "There is no label to judge among 2 images" in page.text
    assert "No image has a label to judge." in page.text


def test_all_unreadable_counts_reasons_and_names_ten(audited):
    broken = [(row, "empty" if row % 3 else "truncated", "why") for row in range(12)]
    page = audited(np.zeros(12), np.zeros(12), names=["cat", "dog"], unreadable=broken)

    assert "None of 12 images can be read" in page.text
    assert "nothing else could be judged" in page.text
    assert "Nothing was counted by class." in page.text
    assert "empty 8, truncated 4." in page.text
    assert "00009.png: truncated: why" in page.text
    assert "00010.png" not in page.text
    assert "and 2 more" in page.text


def test_a_class_of_three_is_named_as_not_judged(audited):
    given = np.array([0, 0, 0, 0, 1, 1, 1])
    page = audited(given, given, names=["cat", "wolf"], quality=np.where(given == 1, np.nan, 0.9))

    assert "Not judged, too few images to compare: wolf (3 images)." in page.text


def test_a_thousand_classes_show_twenty_pairs_and_twenty_rows(audited):
    given = np.arange(5000) % 1000
    suggested = np.where(np.arange(5000) % 4 == 0, (given + 1) % 1000, given)
    page = audited(given, suggested, names=[f"class {index}" for index in range(1000)])

    assert "The 20 most confused pairs of 1,000 classes" in page.text
    assert "980 more classes" in page.text
    assert "Counted: the flagged labels" in page.text
    assert "0.10 %" in page.text


def test_hostile_names_are_literal_text(audited, hostile_names):
    given = np.arange(240) % len(hostile_names)
    suggested = np.where(np.arange(240) % 3 == 0, (given + 1) % len(hostile_names), given)
    ids = [f"{hostile_names[row % len(hostile_names)]}/{row}" for row in range(240)]
    bad = hostile_names[0]
    page = audited(
        given,
        suggested,
        names=hostile_names,
        ids=ids,
        reasons={row: hostile_names[-1 - row % len(hostile_names)] for row in range(240)},
        found={"near_duplicate": [(1, 2, 0.9, bad)], "outlier": [(3, -1, 0.9, bad)], "dark": [(4, -1, NAN, bad)]},
        unreadable=[(row, hostile_names[row], hostile_names[row]) for row in range(120, 120)],
        command=bad,
        data=bad,
        features=bad,
        notes=[bad],
        remarks=[{"kind": bad, "sentence": bad, "numbers": {}}],
        settings={bad: bad},
        counts={"wrong_label": 80, bad: 3},
        noise_kind={"name": bad, "evidence": [{"name": bad, "value": 1.0, "sentence": bad}], "limits": [bad]},
    )

    for name in hostile_names[:7]:
        assert name in page.text
    assert "\\u202egnp.exe" in page.text
    assert "\u202e" not in page.text


def test_a_test_picture_that_is_not_at_hand_is_said(audited):
    page = audited([0, 1], [0, 1], names=["cat", "dog"], found={"test_leak": [(0, 9, 0.99, "the same")]})

    assert "not at hand" in page.text
    assert "test/9" in page.text


def test_a_picture_that_cannot_be_read_is_said_on_its_card(audited):
    def broken(row):
        raise OSError("<b>gone</b>")

    page = audited([0, 1, 1], [0, 1, 0], names=["cat", "dog"], picture=broken)

    assert "OSError: <b>gone</b>" in page.text


def test_several_classes_an_image_are_judged_one_by_one(audited):
    given, suggested = np.array([[1, 0], [1, 1], [0, 1]]), np.array([[1, 1], [1, 1], [0, 1]])
    page = audited(given, suggested, names=["cat", "dog"], found={"near_duplicate": [(0, 1, 0.9, "")]})

    assert (
        "1 of 3 images hold a label that looks wrong: about 20.0 % (interval 18.0 to 22.0) of all labels" in page.text
    )
    assert "given no dog, looks like dog" in page.text
    assert "given cat, dog" in page.text  # of the second image, in the pair


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    folder = write_audit(tmp_path / "audit", [0, 1, 1], [0, 1, 0], names=["cat", "dog"])
    first = write_audit_report(folder, grey).read_bytes()

    assert write_audit_report(folder, grey).read_bytes() == first


def test_the_page_takes_at_most_three_hundred_pictures_and_gives_each_part_its_share(audited):
    given = np.arange(2000) % 2
    suggested = np.where(np.arange(2000) < 1000, 1 - given, given)
    found = {
        "near_duplicate": [(row, row + 1, 0.9, "") for row in range(0, 200, 2)],
        "outlier": [(row, -1, 0.9, "") for row in range(100)],
        "dark": [(row, -1, 0.9, "") for row in range(100)],
        "blank": [(row, -1, NAN, "") for row in range(3)],
    }
    page = audited(given, suggested, names=["cat", "dog"], found=found)

    assert len(page.of("img")) == 300
    assert "24 of 100 pairs shown" in page.text
    assert "24 of 100 shown, the strangest first" in page.text
    assert "3 of 3 shown" in page.text
    assert "9 of 100 shown" in page.text
    assert "216 of 1,000 shown" in page.text


def test_a_page_that_grows_too_large_gives_up_pictures_and_keeps_its_words(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    given = np.arange(300) % 2
    folder = write_audit(tmp_path / "audit", given, 1 - given, names=["cat", "dog"])
    monkeypatch.setattr("winnow.report.page.LARGEST_PAGE", 500_000)

    page = write_audit_report(folder, lambda row: rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).read_text()

    assert "<img" not in page
    assert "No picture fitted into this page." in page


def test_a_folder_without_findings_is_refused_in_one_line(tmp_path):
    folder = write_audit(tmp_path / "audit", [0, 1], [0, 1], names=["cat", "dog"])
    (folder / "findings.parquet").write_bytes(b"PAR1 no table")

    with pytest.raises(InputError, match="no readable table of findings") as refusal:
        write_audit_report(folder, grey)

    assert "\n" not in str(refusal.value)


def test_a_table_of_findings_without_a_column_is_refused(tmp_path):
    folder = write_audit(tmp_path / "audit", [0, 1], [0, 1], names=["cat", "dog"])
    path = folder / "findings.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["other_row"]), path)

    with pytest.raises(InputError, match="other_row"):
        write_audit_report(folder, grey)


@pytest.mark.slow
def test_a_million_rows_stay_under_five_megabytes(tmp_path, read):
    number, classes = 1_000_000, 1000
    folder = write_audit(tmp_path / "audit", [0, 1], [0, 1], names=[f"class {index}" for index in range(classes)])
    rng = np.random.default_rng(0)
    given = rng.integers(0, classes, number)
    quality = rng.beta(8, 1, number).astype(np.float32)
    flagged = quality < 0.5
    ids = pa.array(np.char.add("train/a_rather_long_name_", np.arange(number).astype(str)))
    kind = pa.array(np.where(flagged, "wrong_label", None), pa.string())
    columns = {
        "id": ids,
        "given_label": given,
        "label_quality": quality,
        "suggested_label": np.where(flagged, (given + 1) % classes, given),
        "suggested_probability": 1 - quality,
        "is_issue": flagged,
        "issue": kind,
        "reason": pa.array(np.where(flagged, "8 of 10 nearest pictures are another class", None), pa.string()),
    }
    metadata = {"class_names": json.dumps([f"class {index}" for index in range(classes)])}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), folder / "labels.parquet")
    rows = pa.array(np.arange(number))
    findings = {
        "kind": pa.array(np.where(np.arange(number) % 2, "near_duplicate", "outlier")),
        "row": rows,
        "id": ids,
        "probability": quality,
        "similarity": quality,
        "reason": ids,
        "suggested_label": given,
        "other_row": pa.array(np.arange(number)[::-1]),
        "other_id": ids,
        "group": rows,
    }
    pq.write_table(pa.table(findings), folder / "findings.parquet")
    summary = json.loads((folder / "summary.json").read_text())
    counts = {"wrong_label": int(flagged.sum()), "near_duplicate": number // 2, "outlier": number // 2}
    summary |= {"num_images": number, "num_flagged": int(flagged.sum()), "counts": counts}
    (folder / "summary.json").write_text(json.dumps(summary))

    page = read(write_audit_report(folder, lambda row: rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)))

    assert len(page.of("img")) == 300
