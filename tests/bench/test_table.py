"""Comparisons, tables and the page: functions of the records alone."""

from __future__ import annotations

import csv
import io
import re
import statistics
from itertools import pairwise

import numpy as np
import pytest

from tests.report.conftest import checked_page
from winnow.bench.comparison import compared
from winnow.bench.grid import made_grid
from winnow.bench.headline import sentence
from winnow.bench.page import page_values, write_bench_page
from winnow.bench.plots import cost_plot
from winnow.bench.table import csv_text, summary, table_lines
from winnow.bench.verdicts import judged

CONTROLS = {"winnow": "cross-entropy"}
TRAIN = {"epochs": 3, "device": "cpu", "precision": "float32", "threads": 1}
HOSTILE = '=<script>alert("1")</script>'


def record(method, seed, accuracy, *, rate=0.4, kind="symmetric", data="digits", seconds=2.0, options=None):
    noise = {"kind": "none"} if kind == "none" else {"kind": kind, "rate": rate, "seed": seed}
    return {
        "key": f"{method}-{seed}-{rate}-{kind}-{data}",
        "config": {
            "data": {"data": data},
            "noise": noise,
            "method": method,
            "options": options or {},
            "train": TRAIN,
            "seed": seed,
        },
        "data": "d",
        "code": "0.1.0+abc",
        "result": {
            "test_accuracy_last": accuracy,
            "test_accuracy_best": accuracy + 0.01,
            "best_epoch": 2,
            "given_label_agreement": 0.6,
            "given_label_accuracy": 0.6,
            "label_quality_auroc": 0.9,
            "corrected_label_accuracy": 0.8,
            "model": "mlp",
            "image_size": 8,
            "epochs": 3,
            "batch_size": 64,
            "learning_rate": 0.1,
            "noise": {"realised_rate": 0.399, "convention": "symmetric exclusive: 0.4 of the labels changed"},
            "curves": {
                "epoch": [1, 2, 3],
                "given_label_agreement": [0.4, 0.5, 0.6],
                "validation_agreement": [0.4, 0.5, 0.5],
                "test_accuracy": [0.5, None, accuracy],
            },
        },
        "times": {"training_seconds": seconds, "seconds": seconds + 1, "images_per_second": 1000.0,
                  "peak_memory_bytes": 500 * 2**20},
        "machine": {"cpu": "AMD", "cores": 2, "python": "3.11", "torch": "2.15", "winnow": "0.1.0", "commit": "abc"},
        "finished": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


def failed(method, seed, error):
    found = record(method, seed, 0.5)
    del found["result"]
    return found | {"error": error, "times": {}}


PLAIN, OURS = (0.60, 0.70, 0.65), (0.80, 0.85, 0.84)


@pytest.fixture
def records():
    return [record("cross-entropy", seed, value) for seed, value in enumerate(PLAIN)] + [
        record("winnow", seed, value, seconds=3.0) for seed, value in enumerate(OURS)
    ]


def test_means_spread_and_differences_are_those_of_the_seeds(records):
    (condition,) = compared(records, CONTROLS)
    plain, ours = condition.rows
    assert plain.mean() == pytest.approx(sum(PLAIN) / 3)
    assert ours.deviation() == pytest.approx(statistics.stdev(OURS))
    assert condition.differences(ours) == pytest.approx([0.20, 0.15, 0.19])
    assert condition.differences(plain) == []
    assert ours.time("training_seconds") == 3.0


def test_differences_pair_the_same_seeds_only(records):
    (condition,) = compared([records[0], records[2], records[4], records[5]], CONTROLS)  # plain 0, 2; ours 1, 2
    assert condition.differences(condition.rows[1]) == pytest.approx([0.84 - 0.65])


def test_the_table_says_the_numbers_in_80_columns(records):
    lines = list(table_lines(compared(records, CONTROLS)))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "digits: symmetric 0.4"
    text = "\n".join(lines).replace("\u00a0", " ")
    assert "cross-entropy                    65.0 %  60.0 to 70.0  -" in text
    assert "winnow                           83.0 %  80.0 to 85.0  +18.0 (+15.0 to +20.0)" in text
    assert "39.9 % of all labels wrong" in text


def test_a_long_name_gets_a_line_of_its_own(records):
    long = record("cross-entropy", 0, 0.7, options={"views": "strong", "mixup": 1.0, "averaging": True})
    lines = list(table_lines(compared([*records, long], CONTROLS)))
    assert "  cross-entropy averaging=true mixup=1.0 views=strong" in lines
    assert max(map(len, lines)) <= 80


def told(records, methods=(), seeds=0, cells=None):
    return sentence(compared(records, CONTROLS, methods=methods, seeds=seeds), cells).replace("\u00a0", " ")


def test_the_sentence_names_who_is_ahead_and_by_how_much(records):
    assert told(records) == (
        "winnow is best at the last epoch: 83.0 %, +18.0 (+15.0 to +20.0) points against cross-entropy."
    )
    clean = [record("cross-entropy", 0, 0.95, kind="none"), record("winnow", 0, 0.94, kind="none")]
    more = [record("cross-entropy", 0, 0.5, rate=0.6), record("winnow", 0, 0.6, rate=0.6)]
    assert told([*records, *clean, *more]) == (
        "winnow is best at the last epoch in 2 of 3 conditions, \u22121.0 to +18.0 points against its control."
    )
    assert told([]) == "No cell is finished yet."


def test_a_tie_over_conditions_is_unsettled(records):
    clean = [record("cross-entropy", 0, 0.95, kind="none"), record("winnow", 0, 0.94, kind="none")]
    assert told([*records, *clean]) == (
        "Unsettled: winnow and cross-entropy are each best at the last epoch in 1 of 2 conditions."
    )
    level = [record("cross-entropy", 0, 0.9, kind="none"), record("winnow", 0, 0.9, kind="none")]
    assert told(level) == "Unsettled: cross-entropy and winnow are level at the last epoch with 90.0 %."
    assert told([*records, *level]).startswith("winnow is best at the last epoch in 1 of 2 conditions")


def test_without_a_comparison_there_is_no_winner(records):
    ours = records[3:]
    assert told(ours) == "winnow reaches 83.0 % at the last epoch; nothing else ran to compare it with."
    clean = record("winnow", 0, 0.94, kind="none")
    assert told([*ours, clean]).startswith("winnow reaches 83.0 to 94.0 % in 2 conditions at the last epoch")
    assert told(ours, ["cross-entropy", "winnow"], 3, 6) == (
        "Only winnow has a result: 83.0 % at the last epoch. "
        "Not finished: 3 of 6 cells have a result, none of cross-entropy."
    )
    assert told([records[0], records[4]], ["cross-entropy", "winnow"], 3).startswith(
        "No two methods have a result of the same condition and seed yet. Not finished: 2 of 6 cells"
    )


def test_methods_are_ranked_over_the_seeds_that_all_have(records):
    # Over its own three seeds cross-entropy would be ahead of what ran on the hardest one alone.
    found = [record("cross-entropy", seed, value) for seed, value in enumerate((0.6, 0.9, 0.9))]
    assert told([*found, record("winnow", 0, 0.7)], ["cross-entropy", "winnow"], 3, 6) == (
        "winnow is best at the last epoch: 70.0 %, +10.0 points against cross-entropy. "
        "Not finished: 4 of 6 cells have a result; ranked over the seeds in common."
    )


def test_a_method_that_has_not_run_has_a_row_without_numbers(records):
    lines = list(table_lines(compared(records[:3], CONTROLS, methods=["cross-entropy", "winnow"], seeds=3)))
    assert lines[3].split() == ["winnow", "-", "-", "0", "of", "3", "seeds"]


def test_failed_cells_leave_a_gap_that_is_told(records):
    records[5] = failed("winnow", 2, "out of memory")
    (condition,) = compared(records, CONTROLS)
    assert len(condition.differences(condition.rows[1])) == 2
    assert any(line.endswith("2 of 3 seeds") for line in table_lines([condition]))


def test_the_csv_has_a_line_a_cell_and_no_formula(records):
    records.append(record("winnow", 0, 0.5, data=HOSTILE))
    rows = list(csv.DictReader(io.StringIO(csv_text(compared(records, CONTROLS)))))
    assert len(rows) == 7
    assert float(rows[4]["difference_to_control"]) == pytest.approx(0.15)
    assert float(rows[3]["test_accuracy_last"]) == 0.80
    assert rows[6]["data"] == f"'{HOSTILE}"


def test_the_summary_for_programs_has_one_number_a_seed(records):
    plain, ours = summary(compared(records, CONTROLS))
    assert ours["test_accuracy_last"] == list(OURS)
    assert plain["control"] is None
    assert ours["control"] == "cross-entropy"


def test_relations_are_judged_by_the_mean_difference(records):
    conditions = compared(records, CONTROLS)
    noise = {"kind": "symmetric", "rate": 0.4}
    relations = [
        {"better": "winnow", "than": "cross-entropy", "noise": noise, "by": 0.17},
        {"better": "winnow", "than": "cross-entropy", "noise": noise, "by": 0.19},
        {"better": "cross-entropy", "than": "winnow", "noise": noise, "by": -0.2, "claim": "not far behind"},
        {"better": "winnow", "than": "cross-entropy", "noise": {"kind": "pair", "rate": 0.4}},
    ]
    verdicts = judged(relations, conditions)
    assert [verdict.word for verdict in verdicts] == ["holds", "does not hold", "holds", "not measured"]
    assert verdicts[2].claim == "not far behind"


def test_a_relation_to_no_other_method_is_judged_by_the_mean_value(records):
    noise = {"kind": "symmetric", "rate": 0.4}
    bars = (np.mean(OURS) - 0.001, np.mean(OURS) + 0.001)
    relations = [{"better": "winnow", "noise": noise, "at_least": bar} for bar in bars]
    verdicts = judged(relations, compared(records, CONTROLS))
    assert [verdict.word for verdict in verdicts] == ["holds", "does not hold"]
    assert verdicts[0].differences == list(OURS)
    assert verdicts[0].claim == "winnow, symmetric 0.4"
    most = [{"better": "winnow", "noise": noise, "at_most": bar} for bar in (*bars, max(OURS) - 1e-9)]
    most[2]["each"] = True
    words = [verdict.word for verdict in judged(most, compared(records, CONTROLS))]
    assert words == ["does not hold", "holds", "does not hold"]


def test_a_relation_may_have_to_hold_in_each_seed(records):
    conditions = compared(records, CONTROLS)
    relation = {"better": "winnow", "than": "cross-entropy", "noise": {"kind": "symmetric", "rate": 0.4}, "each": True}
    least = min(judged([relation], conditions)[0].differences)
    verdicts = judged([relation | {"by": least - 1e-9}, relation | {"by": least + 1e-9}], conditions)
    assert [verdict.word for verdict in verdicts] == ["holds", "does not hold"]
    assert verdicts[1].measured > least + 1e-9  # the mean alone would have passed


@pytest.fixture
def grid():
    content = {
        "title": "Trial of 40 %",
        "data": ["digits"],
        "method": ["winnow"],
        "noise": [{"kind": "symmetric", "rate": [0, 0.4]}],
        "published": [
            {"method": "winnow", "noise": {"kind": "symmetric", "rate": 0.4}, "accuracy": 0.9, "source": "A 2020",
             "differs": "a network of 3 % more"},
        ],
        "relation": [{"better": "winnow", "than": "cross-entropy", "noise": {"kind": "symmetric", "rate": 0.4}}],
    }  # fmt: skip
    from dataclasses import replace

    return replace(made_grid(content, "trial"), controls=CONTROLS)


def test_the_page_is_sound_and_a_function_of_the_records(tmp_path, grid, records):
    records += [record("cross-entropy", 0, 0.95, kind="none"), record("winnow", 0, 0.94, kind="none")]
    records += [failed("winnow", 3, "no <b>memory</b>")]
    pages = [write_bench_page(tmp_path / f"{name}.html", grid, records).read_text() for name in "ab"]
    assert pages[0] == pages[1]
    page = checked_page(pages[0])
    for words in ("83.0 %", "+18.0 (+15.0 to +20.0)", "90.0 %", "A 2020", "holds", "no <b>memory</b>", "500 MB"):
        assert words in page.text.replace("\u00a0", " "), words
    assert len(page.of("svg")) == 1 + 2 + 4  # against noise; cost of two conditions; memorising of two methods each


def test_a_published_number_finds_ours_where_only_some_images_were_used(tmp_path, grid):
    ours = record("winnow", 0, 0.777)
    ours["config"]["data"] = {"data": "digits", "limit": 1000}
    page = checked_page(write_bench_page(tmp_path / "p.html", grid, [ours]).read_text())
    before_source = page.text.replace("\u00a0", " ").split("A 2020")[0]
    assert before_source.rstrip().endswith("77.7 %")


def test_the_next_command_trains_as_the_best_row_did(grid, records):
    ours = [record("winnow", seed, 0.9, options={"window": 4.0, "averaging": True}) for seed in range(3)]
    assert page_values(grid, [*records, *ours])["next"].command == (
        "winnow train FOLDER --method winnow --set averaging=true --set window=4.0"
    )
    odd = [record("my file.py:Mine", 0, 0.9, options={"matrix": "a b.npy"})]
    assert page_values(grid, odd)["next"].command == (
        "winnow train FOLDER --method 'my file.py:Mine' --set 'matrix=a b.npy'"
    )


def test_a_grid_of_flags_has_no_lead(tmp_path, grid, records):
    from dataclasses import replace

    assert page_values(grid, records)["lead"].startswith("Trial of 40")
    assert page_values(replace(grid, title=grid.name, about=""), records)["lead"] == ""


def test_options_are_whole_in_the_legends_of_the_plots(records):
    control = [record("cross-entropy", seed, 0.7, options={"averaging": True}) for seed in range(3)]
    plot = cost_plot(compared([*records, *control], CONTROLS)[0])
    parts = re.findall(r'<text class="t name [a-z]+" x="[0-9.]+" y="([0-9.]+)"[^>]*>([^<]*)<', str(plot.svg))
    assert [words for _, words in parts] == ["cross-entropy", "winnow", "cross-entropy", "averaging=true"]
    levels = sorted(float(level) for level, _ in parts)
    assert min(high - low for low, high in pairwise(levels)) >= 16
    first, second = (float(level) for level, _ in parts[2:])
    assert second - first == 16


def test_hostile_names_stay_text(tmp_path, grid, records):
    records += [record(HOSTILE, 0, 0.5, data=HOSTILE), record("{{7*7}}", 1, 0.6, data=HOSTILE)]
    page = checked_page(write_bench_page(tmp_path / "p.html", grid, records).read_text())
    assert HOSTILE in page.text
    assert "{{7*7}}" in page.text


def test_a_page_without_a_finished_cell_says_so(tmp_path, grid):
    page = checked_page(write_bench_page(tmp_path / "p.html", grid, [failed("winnow", 0, "x")]).read_text())
    assert "No cell is finished yet." in page.text
