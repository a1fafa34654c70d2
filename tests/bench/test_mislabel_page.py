import csv
import io
import json
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from winnow.bench.learner import Learner
from winnow.bench.mislabel import Condition, Design
from winnow.bench.mislabel_cell import packed_mistakes, run_cell
from winnow.bench.mislabel_command import run_mislabel
from winnow.bench.mislabel_page import study_page
from winnow.bench.mislabel_plots import difference_plot
from winnow.bench.mislabel_summary import summarised
from winnow.bench.mislabel_words import csv_text, sentence, shown_times, shown_worth, table_lines
from winnow.bench.results import Results
from winnow.bench.shared import prepare

SIZES, RATES = (100, 400, 1600), (0.0, 0.1, 0.2, 0.4)
LOSS = {"unbiased": 0.5, "biased": 1.0}


def accuracy(kind, rate, size, repeat):
    """0.9 - 2 / sqrt(n) without noise, less by a share of the rate; repeats lie 0.01 apart around it."""
    return 0.9 - 2 * size**-0.5 - LOSS.get(kind, 0) * rate + (repeat - 1) * 0.01


def record(kind, rate, size, repeat, model="mlp", classes=10, **changes):
    value = accuracy(kind, rate, size, repeat)
    labels = np.arange(100) % classes
    predicted = np.where(np.arange(100) < 100 * value, labels, (labels + 1) % classes)
    flipped = 0.6 if rate else None
    mark = {"given_flipped": flipped, "true_flipped": flipped and 0.3, "given_clean": 0.95, "validation": 0.5}
    config = {
        "study": "mislabel",
        "data": {"data": "toy"},
        "method": "cross-entropy",
        "model": model,
        "schedule": "steps",
        "length": 100,
        "kind": kind if rate else "clean",
        "map": None,
        "rate": rate,
        "size": size,
        "repeat": repeat,
        "seed": 0,
        "batch_size": 64,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "device": "cpu",
        "precision": "float32",
    }
    result = {
        "realised_rate": rate,
        "num_classes": classes,
        "num_test": 400,
        "batch_size": 64,
        "steps": 100,
        "test_accuracy_last": value,
        "test_accuracy_best": value + 0.02,
        "best_step": 50,
        **mark,
        "expected_calibration_error": 0.1,
        "curve": [{"step": step, **mark} for step in (10, 50, 100)],
        "mistakes": packed_mistakes(predicted, labels, classes),
    }
    made = {"key": f"{config}", "config": config, "result": result, "times": {"seconds": 0.5}}
    return {**made, "machine": {"cpu": "toy", "cores": 2}, **changes}


def records(repeats=3, kinds=("unbiased", "biased"), models=("mlp",), rates=RATES, sizes=SIZES, **changes):
    every = [
        record(kind, rate, size, repeat, model, **changes)
        for repeat in range(repeats)
        for rate in rates
        for size in sizes
        for kind in kinds
        for model in models
    ]
    return list({each["key"]: each for each in every}.values())


def row(summary, what, **wanted):
    found = [each for each in summary[what] if all(each[name] == value for name, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_accuracies_are_means_with_students_interval():
    found = row(summarised(records()), "rows", kind="biased", rate=0.2, size=400)

    # Values 0.59, 0.60, 0.61: mean 0.6, s = 0.01, t(0.975, 2) = 4.302653.
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["accuracy_high"] == pytest.approx(0.6 + 4.302653 * 0.01 / 3**0.5, abs=1e-6)
    assert found["test_error"] == pytest.approx((0.6 * 0.4 / 400) ** 0.5)
    assert found["best_accuracy"] == pytest.approx(0.62)


def test_clean_cells_stand_in_the_rows_of_both_kinds():
    summary = summarised(records())

    for kind in ("unbiased", "biased"):
        assert row(summary, "rows", kind=kind, rate=0.0, size=400)["accuracy"] == pytest.approx(0.8)


def test_an_effective_size_is_a_clean_size():
    summary = summarised(records())

    # Unbiased, 1,600 images, 10 % wrong: 0.85 - 0.05 = 0.8, which 400 clean images have.
    found = row(summary, "rows", kind="unbiased", rate=0.1, size=1600)
    assert found["effective_size"] == pytest.approx(400, rel=0.02)
    assert found["effective_is"] == "measured"
    low = row(summary, "rows", kind="unbiased", rate=0.4, size=100)
    assert (low["effective_is"], low["effective_floor"], shown_worth(low)) == ("below", 100, "< 100")
    # 10 classes: n (1 - 0.1 * 10 / 9)^2.
    assert found["first_order_size"] == pytest.approx(1600 * (8 / 9) ** 2)
    assert row(summary, "rows", kind="biased", rate=0.1, size=1600)["first_order_size"] is None


def test_halving_the_noise_is_paired_and_exchanged_for_data():
    summary = summarised(records())

    found = row(summary, "halving", kind="biased", rate=0.2, size=100)
    # Every repeat gains exactly 0.1; the row 0.5, 0.6, 0.65 of the same noise gains that from 100 to 400 images.
    assert (found["gain"], found["gain_low"], found["gain_high"]) == (pytest.approx(0.1),) * 3
    assert found["times"] == pytest.approx(4)
    assert found["times_is"] == "measured"
    assert not found["interpolated"]
    # Half of 10 % was not measured: it lies between 0 and 10 %.
    between = row(summary, "halving", kind="biased", rate=0.1, size=100)
    assert between["interpolated"]
    assert between["gain"] == pytest.approx(0.05)
    # At 1,600 the curve 0.7 - 2 / sqrt(n) stands at 0.65 and levels off at 0.7: 0.1 more is never there.
    never = row(summary, "halving", kind="biased", rate=0.2, size=1600)
    assert never["times_is"] == "unbounded"
    assert never["times"] is None


def test_biased_minus_unbiased_is_paired():
    found = row(summarised(records()), "differences", rate=0.4, size=100)

    assert (found["difference"], found["difference_low"]) == (pytest.approx(-0.2), pytest.approx(-0.2))


def test_the_answer_is_a_sentence_about_the_largest_size_that_is_sure():
    summary = summarised(records())

    assert (summary["answer"]["size"], summary["answer"]["rate"]) == (400, 0.2)
    # Unbiased at 400: 0.7 now; 0.05 more is what 1,600 images have: four times more.
    assert summary["answer"]["sentence"] == (
        "With 400 images and 20 % unbiased mistakes, halving the noise is worth 5.0 points (5.0 to 5.0), "
        "or 4.0 times more data (4.0 to 4.0)"
    )


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        (
            {"times_is": "unbounded", "times": None},
            "or more data than any: at this noise its accuracy levels off below",
        ),
        ({"times_is": "unknown", "times": None}, "or more data than was measured"),
        ({"times_is": "extrapolated"}, "or 2.0 times more data, as far as the curve can be trusted"),
        ({"times": 123.0}, "or over 100 times more data"),
        ({"gain_low": None, "gain_high": None, "repeats": 1}, "is worth 5.0 points (1 repeat), or 2.0 times more data"),
        ({"times_high_is": "measured"}, "or 2.0 times more data (1.5 to 3.1)"),
        (
            {"gain_low": -0.02},
            "halving the noise may be worth nothing: 5.0 points (\u22122.0 to 6.0), or 2.0 times more data",
        ),
        ({"gain": -0.01}, "halving the noise gains nothing that 3 repeats could show"),
    ],
)
def test_the_sentence_says_what_is_not_known(changes, end):
    base = {"size": 400, "rate": 0.2, "kind": "biased", "gain": 0.05, "gain_low": 0.04, "gain_high": 0.06}
    base |= {"times_low": 1.5, "times_high": 3.1, "times_high_is": "extrapolated"}

    assert end in sentence({**base, "repeats": 3, "times": 2.0, "times_is": "measured", **changes})


def test_a_gain_is_no_negative_cost():
    rows = [
        {"size": size, "rate": 0.4, "difference": value, "difference_low": None, "difference_high": None}
        for size, value in ((50, 0.019), (800, -0.212))
    ]
    told = difference_plot(rows, [50, 800], [0.4]).description.replace("\u00a0", " ")
    assert "cost 21.2 points more than unbiased ones with 800 images, and 1.9 points less with 50." in told


def test_what_lies_outside_the_measured_sizes_is_marked():
    assert shown_times({"times_is": "measured", "times": 1.62}) == "1.6 x"
    assert shown_times({"times_is": "extrapolated", "times": 3.42}) == "~3.4 x"
    assert shown_times({"times_is": "unbounded", "times": None}) == "never"
    assert shown_times({"times_is": "unknown", "times": None}) == "-"
    assert shown_worth({"effective_is": "measured", "effective_size": 1210.4}) == "1,210"
    assert shown_worth({"effective_is": "extrapolated", "effective_size": 1899.7}) == "~1,900"
    assert shown_worth({"effective_is": "unbounded", "effective_size": None}) == "as clean"
    assert shown_worth({"effective_is": "unknown", "effective_size": None}) == "-"


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_terminal_shows_80_columns(repeats):
    many = records(repeats, rates=tuple(step / 20 for step in range(11)), models=("mlp", "a-network-with-a-long-name"))
    lines = table_lines(summarised(many))

    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert ("±" in text.split("±")[0] or "80.0 ±2.5" in text) is (repeats == 3)
    assert "Fewer than 3 repeats" in text if repeats == 1 else "95 % t interval" in text


def test_the_csv_has_a_row_for_every_condition():
    summary = summarised(records())
    rows = list(csv.DictReader(io.StringIO(csv_text(summary))))

    assert len(rows) == 2 * len(SIZES) * len(RATES)
    found = next(r for r in rows if (r["kind"], r["rate"], r["size"]) == ("biased", "0.2", "100"))
    assert float(found["accuracy"]) == pytest.approx(0.5)
    assert float(found["gain_of_halving"]) == pytest.approx(0.1)
    assert csv_text(summarised([])).count("\n") == 1


class Page(HTMLParser):
    """Elements and text; every element is closed by its own end."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        assert "style" not in dict(attributes)
        self.tags.append(tag)
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def test_the_page_is_a_function_of_the_lines():
    lines = records(models=("mlp", "shallow-mlp"))
    html = study_page(summarised(lines))
    page = Page(html)

    assert html == study_page(summarised(json.loads(json.dumps(lines))))
    assert "script" not in page.tags
    # Accuracy, exchange map and memorising for each kind, and one difference: seven plots a learner.
    assert page.tags.count("svg") == 14
    assert "With 400 images and 20 % unbiased mistakes, halving the noise is worth 5.0 points" in page.text
    assert "chance 10.0" in page.text


@pytest.mark.parametrize(
    "lines",
    [
        [],
        records(1)[:1],
        records(1)[:5],
        records(2)[:17],
        records(3, kinds=("biased",)),
        records(3, sizes=(100,)),
        records(3, sizes=(100, 400)),
        records(3, rates=(0.0,)),
        records(3, rates=(0.3,)),
        records(3, classes=2),
        records(3, kinds=("asymmetric",)),
    ],
)
def test_an_unfinished_or_small_study_has_a_page_and_a_table(lines):
    summary = summarised(lines)
    page = Page(study_page(summary))

    assert max(map(len, table_lines(summary)), default=0) <= 80
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert "nan" not in page.text.split()


def test_failed_cells_are_told_and_not_counted():
    failed = record("biased", 0.2, 100, 0)
    del failed["result"]
    failed["error"] = "<b>the loss is not finite</b>"
    summary = summarised([*records(3)[:10], failed])

    assert summary["cells"] == 10
    assert "<b>the loss" not in study_page(summary)
    assert "the loss is not finite" in Page(study_page(summary)).text
    assert "1 cell failed, such as cross-entropy, mlp, 100 steps, 100 images" in " ".join(table_lines(summary))


def test_a_partly_finished_file_is_told_without_running_anything(tmp_path):
    opening = {"data": "digits"}
    learner = Learner("cross-entropy", "shallow-mlp", "steps", 12)
    fingerprint = prepare(opening, tmp_path / "work").fingerprint
    grid = Design(opening, fingerprint, (learner,), (40, 80), rates=(0.0, 0.2), kinds=("biased",), repeats=1)
    place = Condition(learner, "biased", 0.2, 80)
    with Results(tmp_path / "results.jsonl") as results:
        cell = grid.cell(place, 0)
        config = json.loads(json.dumps(dict(cell.config)))
        results.append({"key": cell.key, "config": config, "result": {**run_cell(config), "times": {}}})

    study = run_mislabel(
        opening,
        tmp_path,
        budget_minutes=0,
        sizes=[40, 80],
        rates=[0.0, 0.2],
        kinds=["biased"],
        models=["shallow-mlp"],
        schedules=[("steps", 12)],
        repeats=1,
    )

    assert (study.outcome.done, study.outcome.left) == (1, 3)
    assert study.summary["cells"] == 1
    assert "Too few trainings are finished" in study.report.read_text()
    assert len(study.csv.read_text().splitlines()) == 2
    assert json.loads((tmp_path / "summary.json").read_text())["cells"] == 1


@pytest.mark.slow
def test_the_command_resumes_to_the_same_lines(tmp_path):
    command = [sys.executable, "-m", "winnow", "study", "mislabel", "--data", "digits", "--sizes", "40,80"]
    command += ["--rates", "0,0.2", "--model", "shallow-mlp", "--steps", "12", "--repeats", "2", "--json"]

    def run(out):
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=True)
        lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        return json.loads(done.stdout), [{name: line[name] for name in ("key", "config", "result")} for line in lines]

    summary, whole = run(tmp_path / "a")
    # A file that ends in the middle of a line, as a killed run leaves it.
    content = (tmp_path / "a" / "results.jsonl").read_bytes()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.jsonl").write_bytes(content[: len(content) // 3])
    again, resumed = run(tmp_path / "b")

    assert resumed == whole
    assert summary["cells"] == again["cells"] == 12
    assert summary["rows"] == again["rows"]
    assert (tmp_path / "b" / "report.html").exists()
