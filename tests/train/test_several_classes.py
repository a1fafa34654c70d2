"""A run where an image may have several classes, from the source to labels, report and predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.contract.harness import pairs_of_digits
from winnow.data.pictures import ArrayPictures
from winnow.data.rows import with_unlabelled
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.labels.table import labels_table
from winnow.labels.truth import CleanLabels
from winnow.report.folder import read_labels
from winnow.report.run import write_run_report
from winnow.train.device import Device
from winnow.train.fit import Run, Settings, fit
from winnow.train.predictions import write_predictions
from winnow.train.predictor import Predictor

NUM = 600
NAMES = tuple("abcdefghij")


def pairs(wrong: int = 0) -> Source:
    """Two digits an image; the first `wrong` known cells are turned round, their truth is kept."""
    images, labels = pairs_of_digits(NUM)
    noisy = labels.copy()
    cells = np.flatnonzero(labels.reshape(-1) >= 0)[:: max(1, len(labels) // max(1, wrong))][:wrong]
    noisy.reshape(-1)[cells] = 1 - noisy.reshape(-1)[cells]
    return Source(
        "pairs",
        [f"{row:03d}" for row in range(NUM)],
        NAMES,
        noisy,
        ArrayPictures(images[..., 0]),
        clean_labels=CleanLabels(labels),
        grey=True,
        mirror=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    source = pairs(wrong=120)
    found = fit(
        source, Settings(model="mlp", epochs=20, threads=1), tmp_path_factory.mktemp("several") / "run", test=pairs()
    )
    write_run_report(found.folder, source.pictures.read)
    return found


def test_without_a_method_smoothing_is_taken(run: Run) -> None:
    assert run.summary["method"] == "label-smoothing"
    assert run.summary["task"] == "multi-label"


def test_the_table_of_labels_holds_lists_and_every_class(run: Run) -> None:
    rows = run.labels.to_pylist()
    labels = run.source.noisy_labels

    assert len(rows) == NUM
    for row, given in zip(rows, labels, strict=True):
        quality = np.array([np.nan if q is None else q for q in row["label_quality_by_class"]], float)
        if (given < 0).all():
            assert row["given_label"] is None
            assert row["label_quality"] is None
            assert not row["is_issue"]
            continue
        assert row["given_label"] == np.flatnonzero(given == 1).tolist()
        assert row["unknown_label"] == np.flatnonzero(given < 0).tolist()
        assert np.isnan(quality).tolist() == (given < 0).tolist()
        assert row["label_quality"] == np.nanmin(quality)
        suggested = np.isin(np.arange(10), row["suggested_label"])
        doubted = (given >= 0) & (quality < 0.5) & (suggested != (given == 1))
        assert row["doubted_label"] == np.flatnonzero(doubted).tolist()
        assert row["is_issue"] == doubted.any()
        for k in np.flatnonzero(doubted):
            assert f"{NAMES[k]} looks {'present' if suggested[k] else 'absent'}" in row["reason"]


def test_wrong_cells_are_ranked_first_and_repair_is_counted(run: Run) -> None:
    summary = run.summary
    known = int((run.source.noisy_labels >= 0).sum())

    assert summary["num_labels"] == known
    assert summary["num_wrong"] == 120
    assert summary["given_label_accuracy"] == pytest.approx(1 - 120 / known)
    assert summary["label_quality_auroc"] > 0.8
    doubted = [row["doubted_label"] for row in run.labels.to_pylist()]
    assert summary["num_doubted"] == sum(map(len, doubted)) > 0
    assert summary["num_doubted_images"] == sum(map(bool, doubted))
    repaired = run.source.noisy_labels.copy()
    for row, classes in enumerate(doubted):
        repaired[row, classes] = 1 - repaired[row, classes]
    truth = pairs().noisy_labels
    assert summary["corrected_label_accuracy"] == pytest.approx((repaired == truth)[repaired >= 0].mean())


def test_the_test_set_is_judged_by_cells_and_by_precision(run: Run) -> None:
    assert run.summary["test_accuracy_last"] > 0.9
    assert run.summary["test_mean_average_precision_last"] > 0.8
    rows = run.summary["per_class"]
    assert [row["name"] for row in rows] == list(NAMES)
    assert sum(row["images"] for row in rows) == int((run.source.noisy_labels == 1).sum())
    assert sum(row["known"] for row in rows) == run.summary["num_labels"]


def test_the_report_tells_presence_and_absence_and_has_no_matrix(run: Run) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")

    assert "decides" in page
    assert "of the test labels right" in page
    assert "mean average precision" in page
    assert "no a" in page or "no b" in page
    assert 'id="matrix"' not in page


def test_the_report_has_an_entry_for_each_known_class_of_each_image(run: Run) -> None:
    entries = read_labels(run.folder, [])
    given = run.source.noisy_labels

    assert len(entries) == int((given >= 0).sum())
    found: dict[int, set[tuple[str, str]]] = {}
    for entry in np.flatnonzero(entries.doubted):
        names = entries.name(int(entries.given[entry])), entries.name(int(entries.suggested[entry]))
        found.setdefault(int(entries.rows[entry]), set()).add(names)
        assert entries.text(int(entry), "id") == run.source.ids[entries.rows[entry]]
        assert entries.quality[entry] < 0.5
    expected = {
        row: {
            (NAMES[k], f"no {NAMES[k]}") if given[row, k] == 1 else (f"no {NAMES[k]}", NAMES[k])
            for k in found_row["doubted_label"]
        }
        for row, found_row in enumerate(run.labels.to_pylist())
        if found_row["doubted_label"]
    }
    assert found == expected


def test_every_stage_has_its_seconds(run: Run) -> None:
    assert {"reading", "training", "of that evaluation", "judging labels"} <= run.summary["stage_seconds"].keys()
    assert run.summary["stage_seconds"]["training"] > 0


def test_predictions_are_sets_of_classes(run: Run) -> None:
    source = pairs()
    predictor = Predictor.load(run.folder)
    found = predictor.predict(source, Device.choose("cpu", threads=1))
    write_predictions(run.folder / "p.parquet", source, found, predictor.class_names)

    for row in pq.read_table(run.folder / "p.parquet").to_pylist():
        present = [k for k, p in enumerate(row["probabilities"]) if p > 0.5]
        assert row["predicted_label"] == present
        assert row["predicted_class"] == [NAMES[k] for k in present]
    labels = source.noisy_labels
    right = ((found.probs > 0.5) == (labels == 1))[labels >= 0].mean()
    assert found.agreement(source, NAMES) == pytest.approx(right)


def test_a_method_for_one_class_an_image_is_refused_with_those_that_can(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"needs one class an image.*cross-entropy, label-smoothing, bootstrap-soft"):
        fit(pairs(), Settings(method="winnow"), tmp_path / "run")


def test_a_test_set_of_one_class_an_image_is_refused(tmp_path) -> None:
    one = replace(pairs(), noisy_labels=np.zeros(NUM, np.int64), clean_labels=None)

    with pytest.raises(InputError, match="the training set gives an image several classes, the test set one"):
        fit(pairs(), Settings(epochs=1), tmp_path / "run", test=one)


@pytest.mark.parametrize("several", [False, True])
def test_what_a_person_has_checked_is_right_and_never_doubted(several, tmp_path) -> None:
    source = pairs(wrong=120)
    if not several:
        labels = np.where(source.unlabelled, -1, np.arange(NUM) % 10)  # as good as random: many are doubted
        source = replace(source, noisy_labels=labels, clean_labels=None)
    verified = np.arange(NUM) % 2 == 0
    run = fit(
        replace(source, verified=verified & ~source.unlabelled),
        Settings("cross-entropy", model="mlp", epochs=10),
        tmp_path / "r",
    )

    table = run.labels.to_pylist()
    checked = [row for row, is_checked in zip(table, verified & ~source.unlabelled, strict=True) if is_checked]
    assert all(row["label_quality"] == 1 and not row["is_issue"] for row in checked)
    assert all(row["suggested_label"] is not None for row in checked)
    if not several:
        assert all(row["suggested_label"] == row["given_label"] for row in checked)
        assert any(row["is_issue"] for row in table)
    assert run.summary["verified"] == len(checked)


def test_unlabelled_images_follow_and_their_labels_are_left_behind() -> None:
    source = pairs()
    both = with_unlabelled(replace(source, verified=np.ones(NUM, bool)), pairs())

    assert both.ids[NUM:] == [f"unlabelled/{row:03d}" for row in range(NUM)]
    assert (both.noisy_labels[:NUM] == source.noisy_labels).all()
    assert (both.noisy_labels[NUM:] == -1).all()
    assert both.noisy_labels.dtype == source.noisy_labels.dtype
    assert both.verified is not None
    assert both.verified.tolist() == [True] * NUM + [False] * NUM
    assert (both.pictures.read(NUM + 3) == source.pictures.read(3)).all()
    assert both.clean_labels is not None
    assert not both.clean_labels.wrong(np.ones_like(both.noisy_labels))[NUM:].any()


def test_the_least_class_speaks_for_the_image() -> None:
    table = labels_table(
        ids=["x"],
        class_names=["a", "b", "c"],
        given_label=np.array([[1, 0, -1]], np.int8),
        label_quality=np.array([[0.9, 0.2, np.nan]]),
        suggested_label=np.array([[1, 1, 0]], np.int8),
        suggested_probability=np.array([[0.9, 0.8, 0.6]]),
        outlier_score=None,
        found={"wrong_label": np.array([0])},
        reasons={0: "b looks present"},
    )

    [row] = table.to_pylist()
    assert (row["given_label"], row["suggested_label"]) == ([0], [0, 1])
    assert (row["unknown_label"], row["doubted_label"]) == ([2], [1])
    assert row["label_quality"] == pytest.approx(0.2)
    assert row["suggested_probability"] == pytest.approx(0.6)
    assert row["label_quality_by_class"] == [pytest.approx(0.9), pytest.approx(0.2), None]
