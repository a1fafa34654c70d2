"""The leaderboard says what the records say, best first, and links to them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.test_scripts import build_docs, script

leaderboard = script("leaderboard")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    results = tmp_path / "benchmarks" / "results"
    (results / "bench").mkdir(parents=True)
    (results / "relations").mkdir()
    runs = [("cross-entropy", 0, 0.5), ("cross-entropy", 1, 0.6), ("winnow", 0, 0.8), ("winnow", 1, 0.7)]
    lines = [
        {"case": "symmetric 0.5", "method": method, "seed": seed, "test_accuracy_last": value, "commit": "abc1234"}
        for method, seed, value in runs
    ]
    (results / "accuracy-mnist.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cell = {
        "config": {
            "data": {"data": "digits", "limit": 1000},
            "noise": {"kind": "pair", "rate": 0.3, "seed": 0},
            "method": "cross-entropy",
            "options": {"averaging": True},
            "seed": 0,
        },
        "machine": {"commit": "def5678"},
        "finished": "2026-01-02T03:04:05+00:00",
    }
    done = cell | {"key": "a", "result": {"test_accuracy_last": 0.9, "model": "mlp", "epochs": 5}}
    failed = cell | {"key": "b", "error": "RuntimeError: too bad"}
    (results / "bench" / "few.jsonl").write_text(json.dumps(done) + "\n" + json.dumps(failed) + "\n")
    row = {"data": "mnist, 10 images", "noise": "labels as given", "method": "winnow", "control": None}
    record = {
        "date": "2026-01-03T00:00:00+00:00",
        "commit": None,
        "training": [{"data": "mnist, 10 images", "model": "mlp"}],
        "rows": [row | {"seeds": [0, 1], "test_accuracy_last": [0.25, 0.5]}],
    }
    (results / "relations" / "toy.json").write_text(json.dumps(record))
    return tmp_path


def test_methods_stand_best_first_with_mean_range_and_number_of_seeds(root):
    rows = [line for line in leaderboard.page(root).splitlines() if "| symmetric 0.5 |" in line]
    link = "(../benchmarks/results/accuracy-mnist.jsonl)"
    assert rows == [
        f"| symmetric 0.5 | winnow | [75.0]{link} | 70.0 to 80.0 (2) |",
        f"| symmetric 0.5 | cross-entropy | [55.0]{link} | 50.0 to 60.0 (2) |",
    ]


def test_results_of_bench_and_relations_stand_there_too_and_failed_cells_do_not(root):
    text = leaderboard.page(root)
    assert "## digits, 1,000 images: mlp, 5 epochs" in text
    assert (
        "| pair 0.3 | cross-entropy averaging=true | [90.0](../benchmarks/results/bench/few.jsonl) | 90.0 to 90.0 (1) |"
    ) in text
    assert "few.jsonl), def5678, 2026-01-02." in text
    assert "## mnist, 10 images: mlp, the default number of epochs" in text
    assert "| labels as given | winnow | [37.5](../benchmarks/results/relations/toy.json) | 25.0 to 50.0 (2) |" in text
    assert "toy.json), no commit, 2026-01-03." in text


def test_a_new_record_makes_the_page_out_of_date(root):
    pages = {build_docs.LEADERBOARD: leaderboard.page(root)}
    build_docs.write_pages(root, pages)
    assert build_docs.outdated(root, pages) == []
    (root / "benchmarks" / "results" / "bench" / "few.jsonl").unlink()
    told = build_docs.outdated(root, {build_docs.LEADERBOARD: leaderboard.page(root)})
    assert told == ["docs/leaderboard.md: out of date; run scripts/build_docs.py --write"]


def test_the_page_of_the_repository_is_what_its_records_say_and_every_number_has_a_record():
    text = (build_docs.ROOT / build_docs.LEADERBOARD).read_text(encoding="utf-8")
    assert text == leaderboard.page()
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| (.+) \| .+ \|$", text, flags=re.MULTILINE)[1:]
    assert len(rows) > 10
    for cell in rows:
        found = re.fullmatch(r"last epoch|\[\d+\.\d\]\(\.\./(benchmarks/results/\S+)\)", cell)
        assert found, cell
        assert found[1] is None or (build_docs.ROOT / found[1]).is_file()
