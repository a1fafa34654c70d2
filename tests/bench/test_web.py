import csv
import io
import json
import subprocess
import sys

import pytest

from tests.bench.test_mislabel_page import Page
from tests.bench.test_web_data import toy
from winnow.bench.phrases import signed
from winnow.bench.web import design
from winnow.bench.web_cell import run_cell
from winnow.bench.web_command import run_web
from winnow.bench.web_crawl import looked_at
from winnow.bench.web_data import crawl_of
from winnow.bench.web_page import web_page
from winnow.bench.web_simulated import write_simulated_crawl
from winnow.bench.web_summary import reference, summarised
from winnow.bench.web_words import csv_text, sentences, table_lines
from winnow.data.open import open_source
from winnow.errors import UsageError

PARTS = {
    "raw": ({"name": "raw"}, 0.90),
    "control": ({"name": "without as many"}, 0.89),
    "decontaminated": ({"name": "decontaminated"}, 0.86),
    "filtered": ({"name": "filtered"}, 0.87),
    "rank": ({"name": "cap", "images": 3, "by": "rank"}, 0.88),
    "chance": ({"name": "cap", "images": 3, "by": "random"}, 0.80),
    "alone": ({"name": "annotated only", "budget": 5}, 0.70),
    "random": ({"name": "annotated", "budget": 5, "by": "random"}, 0.88),
    "doubtful": ({"name": "annotated", "budget": 5, "by": "doubtful"}, 0.91),
    "none": ({"name": "noise", "kind": "none"}, 0.92),
    "foreign": ({"name": "noise", "kind": "cross-domain"}, 0.915),
    "wrong": ({"name": "noise", "kind": "cross-category"}, 0.80),
}
"""Parts and their mean accuracies; repeats lie 0.01 apart around it, alike in all parts."""


def config(part, repeat, **changes):
    learner = {"method": "cross-entropy", "model": "mlp", "schedule": "steps", "length": 100}
    columns = {"rank_column": "rank", "foreign_column": None, "likeness": None, "simulated": "<b>made</b>"}
    rest = {"seed": 0, "batch_size": 64, "learning_rate": 0.1, "weight_decay": 0.0, "device": "cpu"}
    return {
        "study": "web",
        "data": {"data": "toy"},
        **columns,
        "part": part,
        "repeat": repeat,
        **learner,
        **rest,
        "precision": "float32",
        **changes,
    }


def record(part, accuracy, repeat):
    value = accuracy + (repeat - 1) * 0.01
    result = {
        "images": 4 if part["name"] == "noise" and part["kind"] == "none" else 7,
        "asked": 5,
        "asked_wrong": 2,
        "noise_left": 0.25,
        "smallest_class": 1,
        "test_accuracy_last": value,
        "accuracy_copied": value + 0.05,
        "accuracy_others": value - 0.01,
        "num_test": 400,
        "num_classes": 3,
    }
    return {
        "key": json.dumps([part, repeat]),
        "config": config(part, repeat),
        "result": result,
        "times": {"seconds": 1.0},
        "machine": {"cpu": "toy"},
    }


@pytest.fixture(scope="module")
def crawl():
    return crawl_of(*toy(foreign=[6], rank=range(12)))


def lines(crawl, repeats=3, names=PARTS):
    looked = {"key": "crawl", "config": config({"name": "crawl"}, 0), "result": looked_at(crawl), "times": {}}
    return [looked, *(record(*PARTS[name], repeat) for repeat in range(repeats) for name in names)]


def test_changes_are_paired_and_against_what_differs_in_one_thing(crawl):
    rows = {row["name"]: row for row in summarised(lines(crawl))["rows"]}

    # All parts move together with the repeats: the difference has no spread at all.
    row = rows["without test copies"]
    assert (row["change"], row["change_low"], row["change_high"]) == (pytest.approx(-0.03),) * 3
    assert row["against"] == "raw, as many others out"
    # Values 0.85, 0.86, 0.87: s = 0.01, t(0.975, 2) = 4.302653.
    assert row["accuracy_high"] == pytest.approx(0.86 + 4.302653 * 0.01 / 3**0.5, abs=1e-6)
    assert rows["filtered"]["change"] == pytest.approx(0.01)
    assert rows["filtered, first 3 a class"]["change"] == pytest.approx(0.08)
    assert rows["and wrong-class ones"]["change"] == pytest.approx(-0.12)
    assert rows["raw"]["change"] is None


def test_the_sentences_say_what_was_measured(crawl):
    told = summarised(lines(crawl))["sentences"]

    assert told[:2] == [
        "Removing 1 near copy of test images changes test accuracy by \u22123.0 points (\u22123.0 to \u22123.0), "
        "against removing as many other images.",
        "On the test images that have a copy, accuracy goes from 94.0 to 91.0 %.",
    ]
    text = " ".join(told)
    assert "Annotating the 5 most doubtful images is worth +4.0 points (+4.0 to +4.0), a random 5 +1.0" in text
    assert "the difference is +3.0 points" in text
    assert "Added to 4 right images, 3 foreign ones (cross-domain) change accuracy by \u22120.5 points" in text
    assert "as many of a wrong class (cross-category) by \u221212.0 points" in text
    assert "Keeping the first 3 of each class by rank (7 images) is worth +8.0 points" in text
    assert "and +1.0 points (+1.0 to +1.0) against all filtered images" in text


def test_likeness_by_chance_is_told_where_it_matters(crawl):
    summary = summarised(lines(crawl))
    many = {**summary, "crawl": {**summary["crawl"], "chance": 0.1, "images": 1001}}

    # 10 % of the 1,000 images that are no copies.
    assert any("Up to some 100 of the 1 removed may be no copies" in sentence for sentence in sentences(many))
    none = {**summary, "crawl": {**summary["crawl"], "chance": 0.0}}
    assert not any("by chance" in sentence for sentence in sentences(none))


def test_a_difference_has_a_sign_but_nothing_has_none():
    assert [signed(value) for value in (0.012, -0.012, 0.0001, -0.0001)] == ["+1.2", "\u22121.2", "0.0", "0.0"]


def test_the_table_says_what_each_change_is_against(crawl):
    text = "\n".join(table_lines(summarised(lines(crawl))))
    ends = {line.split("  ")[1]: line.split()[-1] for line in text.splitlines() if line[:2] == "  " and "±" in line}
    told = text.replace("\n   ", "").split("  against ")[1].splitlines()[0]
    references = dict(part.split(": ") for part in told.split("; "))
    assert references[ends["without test copies"]] == "raw, as many others out"
    assert references[ends["filtered"]] == "without test copies"
    assert references[ends["filtered, first 3 a class"]] == "as many random ones"
    assert references[ends["filtered, random 3 a class"]] == references[ends["5 annotated alone"]] == "filtered"
    assert references[ends["and foreign ones"]] == "right images"
    assert ends["right images"].startswith("\u00b1")


@pytest.mark.parametrize(
    "names", [[], ["raw"], ["raw", "decontaminated"], ["filtered"], ["none"], ["doubtful"], ["rank"], list(PARTS)]
)
@pytest.mark.parametrize("repeats", [1, 3])
def test_an_unfinished_study_has_a_page_and_a_table(crawl, names, repeats):
    for records in (lines(crawl, repeats, names), lines(crawl, repeats, names)[1:]):
        summary = summarised(records)
        page = Page(web_page(summary))

        assert max(map(len, table_lines(summary)), default=0) <= 80
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
        assert "script" not in page.tags
        assert "nan" not in page.text.split()
        assert len(list(csv.DictReader(io.StringIO(csv_text(summary))))) == len(names)


def test_the_page_says_in_words_that_a_crawl_is_simulated(crawl):
    html = web_page(summarised(lines(crawl)))
    page = Page(html)

    assert "This crawl is simulated; no search made it: <b>made</b>" in page.text
    assert "<b>made" not in html
    # One thing at a time, annotation, caps; and the pair of the copy and its test image.
    assert page.tags.count("svg") >= 3
    assert page.tags.count("img") == 1


def test_failed_cells_are_told(crawl):
    failed = {"key": "x", "config": config({"name": "raw"}, 0), "error": "<i>bad</i>"}
    summary = summarised([*lines(crawl, 1, ["filtered"]), failed])

    assert "1 cell failed, such as raw: <i>bad</i>" in " ".join(table_lines(summary))
    assert "<i>bad" not in web_page(summary)


def test_every_part_has_a_fair_reference():
    assert reference({"name": "decontaminated"}) == {"name": "without as many"}
    assert reference({"name": "cap", "images": 9, "by": "rank"}) == {"name": "cap", "images": 9, "by": "random"}
    assert reference({"name": "annotated", "budget": 9, "by": "random"}) == {"name": "filtered"}
    assert reference({"name": "raw"}) is None


def made(crawl, **chosen):
    return design(crawl, {"data": "toy"}, ["f"], **chosen)


def test_a_design_has_what_the_crawl_allows(crawl):
    names = [part["name"] for part in made(crawl, budgets=[3], caps=[2]).parts]

    # Only one foreign image is there: types of noise are not compared.
    assert (
        names
        == ["raw", "without as many", "decontaminated", "filtered", *["cap"] * 2, "annotated only"] + ["annotated"] * 3
    )
    blind = crawl_of(*toy(truth=False))
    assert [part["name"] for part in made(blind).parts] == ["raw", "without as many", "decontaminated", "filtered"]


def test_a_cell_is_known_by_what_its_result_depends_on(crawl):
    grid = made(crawl, budgets=[3])
    other = design(crawl, {"data": "toy"}, ["other ranks"], budgets=[3])

    keys = [cell.key for cell in grid.cells()]
    assert len(set(keys)) == len(keys) == 1 + 5 * len(grid.parts)
    assert grid.cells()[1].config["repeat"] == 0
    assert grid.cell({"name": "raw"}, 0).key != other.cell({"name": "raw"}, 0).key


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"budgets": [0]}, "--annotate 0: must lie in 1 to"),
        ({"budgets": [99]}, "--annotate 99: must lie in 1 to 7"),
        ({"caps": [0]}, "--caps 0"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"steps": -1}, "--steps must be at least 1"),
        ({"repeats": 0}, "--repeats must be at least 1"),
        ({"model": "nonsense"}, "nonsense"),
        ({"method": "cross-entropie"}, "cross-entropy"),
    ],
)
def test_an_impossible_design_is_told(crawl, chosen, message):
    with pytest.raises(UsageError, match=message):
        made(crawl, **chosen)


def test_caps_need_ranks_and_budgets_a_truth():
    blind = crawl_of(*toy(truth=False))
    with pytest.raises(UsageError, match="--rank-column"):
        made(blind, caps=[3])
    with pytest.raises(UsageError, match="--clean-label-column"):
        made(blind, budgets=[3])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    digits = open_source("digits", limit=300)
    path = tmp_path_factory.mktemp("web") / "crawl.npz"
    write_simulated_crawl(
        digits, open_source("digits").test(), path, class_map="3|8,1|7,4|9,0|6", test_copies=20, several=10
    )
    return path


def test_a_cell_gives_the_same_numbers_whatever_ran_before(small):
    part = {"name": "annotated", "budget": 20, "by": "doubtful"}
    wanted = config(part, 0, data={"data": str(small), "test": "digits"}, length=8, foreign_column="foreign")

    first, again = run_cell(wanted), run_cell(wanted)
    other = run_cell({**wanted, "repeat": 1})
    for result in (first, again, other):
        result.pop("times")
    assert first == again
    assert first["asked"] == 20
    assert other["test_accuracy_last"] != first["test_accuracy_last"]


@pytest.mark.slow
def test_the_command_resumes_to_the_same_lines(small, tmp_path):
    command = [sys.executable, "-m", "winnow", "study", "web", str(small), "--test", "digits", "--rank-column", "rank"]
    command += ["--steps", "12", "--repeats", "1", "--annotate", "20", "--caps", "10", "--workers", "1"]
    out = tmp_path / "out"
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=True)
    whole = (out / "results.jsonl").read_bytes()
    summary = json.loads((out / "summary.json").read_text())

    assert done.stdout.startswith("Removing ")
    assert max(map(len, done.stdout.splitlines()[:30])) <= 80
    assert len((out / "fates.csv").read_text().splitlines()) == 1 + summary["crawl"]["images"]

    # A file that ends in the middle of a line, as a killed run leaves it.
    (out / "results.jsonl").write_bytes(whole[: -len(whole) // 20])
    opening = {"data": str(small), "test": "digits"}
    study = run_web(opening, out, rank_column="rank", workers=1, steps=12, repeats=1, budgets=[20], caps=[10])

    names = ("key", "config", "result")
    again = [json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]
    before = [json.loads(line) for line in whole.splitlines()]
    assert [[line[name] for name in names] for line in again] == [[line[name] for name in names] for line in before]
    assert study.summary["rows"] == summary["rows"]


def test_a_likeness_above_one_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--likeness must lie above 0 and at most at 1, got 95"):
        run_web({"data": "digits"}, tmp_path / "out", likeness=95)


def test_what_is_there_is_told_without_training(small, tmp_path):
    study = run_web({"data": str(small), "test": "digits"}, tmp_path / "out", budget_minutes=0)

    assert study.outcome.done == 0
    assert study.outcome.left > 0
    assert study.fates.exists()
    assert "No training is finished" in study.report.read_text()
