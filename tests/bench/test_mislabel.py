import json

import numpy as np
import pytest

from winnow.bench import mislabel
from winnow.bench.learner import Learner
from winnow.bench.mislabel import Condition, Design, coarse_first, default_sizes, design, widest_first
from winnow.bench.results import Results
from winnow.bench.shared import Data
from winnow.data.open import open_source
from winnow.errors import UsageError

LEARNERS = (Learner("cross-entropy", "shallow-mlp", "steps", 400), Learner("cross-entropy", "mlp", "steps", 400))
GRID = Design({"data": "digits"}, "f", LEARNERS, (80, 300, 1200))


@pytest.fixture(scope="module")
def digits() -> Data:
    source = open_source("digits")
    return Data(source, source.test(), "f")


def test_clean_cells_are_shared_between_the_kinds_of_noise():
    # 6 rates x 3 sizes x 2 kinds x 2 networks x 5 repeats are 360; 3 sizes x 2 x 5 clean ones would be there twice.
    keys = [cell.key for cell in GRID.cells()]

    assert len(keys) == len(set(keys)) == 330
    alone = {cell.key for cell in Design({"data": "digits"}, "f", LEARNERS, (80, 300, 1200), kinds=("biased",)).cells()}
    assert alone < set(keys)
    assert len(alone) == 180


def test_a_cell_is_known_by_what_its_result_depends_on():
    condition = Condition(LEARNERS[0], "biased", 0.2, 80)
    cell = GRID.cell(condition, 0)
    other_data = Design({"data": "digits"}, "g", LEARNERS, (80,)).cell(condition, 0)
    other_grid = Design({"data": "digits"}, "f", LEARNERS, (80, 90), rates=(0.0, 0.2), repeats=9).cell(condition, 0)
    mapped = Design({"data": "digits"}, "f", LEARNERS, (80,), class_map="1:7")

    assert other_grid.key == cell.key
    assert other_data.key != cell.key
    assert GRID.cell(condition, 1).key != cell.key
    assert mapped.cell(condition, 0).key != cell.key
    # The map plays no part where no label is wrong, or wrong by it.
    for kind, rate in (("clean", 0.0), ("unbiased", 0.2)):
        same = Condition(LEARNERS[0], kind, rate, 80)
        assert mapped.cell(same, 0).key == GRID.cell(same, 0).key


def test_the_first_repeat_of_everything_comes_before_the_second_of_anything():
    repeats = [cell.config["repeat"] for cell in GRID.cells()]

    assert repeats == sorted(repeats)
    first = [cell.config for cell in GRID.cells()[:4]]
    assert {(c["rate"], c["size"]) for c in first} == {(0.0, 80), (0.0, 1200)}


def test_the_ends_come_before_the_middle():
    assert coarse_first([0, 1, 2, 3, 4, 5]) == [0, 5, 2, 1, 3, 4]
    assert coarse_first([1, 2, 3]) == [1, 3, 2]
    assert coarse_first([7]) == [7]
    assert coarse_first([]) == []


def test_further_repeats_go_where_the_band_is_widest(tmp_path):
    grid = Design({"data": "digits"}, "f", LEARNERS[:1], (80,), rates=(0.0, 0.2), kinds=("biased",), repeats=5)
    clean, noisy = grid.conditions()
    with Results(tmp_path / "results.jsonl") as results:
        for condition, spread in ((clean, 0.01), (noisy, 0.1)):
            for repeat, step in enumerate((-1, 0, 1)):
                result = {"test_accuracy_last": 0.8 + step * spread}
                results.append({"key": grid.cell(condition, repeat).key, "result": result})

        order = [(cell.config["kind"], cell.config["repeat"]) for cell in widest_first(grid, results)]

    assert order == [("biased", 3), ("biased", 4), ("clean", 3), ("clean", 4)]


def test_three_repeats_of_everything_then_the_rest_within_one_budget(tmp_path, monkeypatch):
    grid = Design({"data": "digits"}, "f", LEARNERS[:1], (80,), rates=(0.0, 0.2), kinds=("biased",), repeats=4)
    calls = []

    def run_cells(cells, function, results, *, folder, workers, budget_minutes, progress):
        keys = []
        for cell in cells:
            accuracy = 0.8 - cell.config["rate"] * cell.config["repeat"] / 10
            results.append({"key": cell.key, "config": cell.config, "result": {"test_accuracy_last": accuracy}})
            keys.append((cell.config["kind"], cell.config["repeat"]))
        calls.append((keys, budget_minutes))
        return mislabel.Outcome(len(keys), [], 0)

    monkeypatch.setattr(mislabel, "run_cells", run_cells)
    with Results(tmp_path / "results.jsonl") as results:
        outcome = mislabel.run_study(grid, results, folder=tmp_path, budget_minutes=10)
        written = [json.loads(line)["key"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]

    assert [keys for keys, _ in calls] == [
        [(kind, repeat) for repeat in range(3) for kind in ("clean", "biased")],
        [("biased", 3), ("clean", 3)],
    ]
    assert 9 < calls[1][1] <= 10
    assert (outcome.done, outcome.left) == (8, 0)
    assert written == [cell.key for cell in grid.cells()]


def test_the_grid_of_the_digits_is_a_small_copy_of_the_papers(digits):
    found = design(digits, {"data": "digits"})

    assert found.sizes == (80, 300, 1200)
    assert found.rates == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert found.kinds == ("unbiased", "biased")
    assert [learner.name for learner in found.learners] == [learner.name for learner in LEARNERS]
    assert (found.batch_size, found.learning_rate, found.weight_decay) == (64, 0.1, 0)
    assert len(found.cells()) == 330


def test_mnist_leaves_55_000_images_beside_its_validation_set(research_data):
    source = open_source("mnist", root=research_data)
    found = design(Data(source, source.test(), "f"), {"data": "mnist"})

    assert found.sizes == (500, 8000, 55_000)
    assert [learner.model for learner in found.learners] == ["shallow-mlp", "convnet"]


def test_both_schedules_are_two_learners(digits):
    found = design(digits, {"data": "digits"}, models=["mlp"], schedules=[("steps", None), ("epochs", 7)])

    assert [(learner.schedule, learner.length) for learner in found.learners] == [("steps", 400), ("epochs", 7)]


def test_other_data_gets_a_sixteenth_a_quarter_and_all_of_it():
    assert default_sizes(1318) == (82, 320, 1300)
    assert default_sizes(48_169) == (3000, 12_000, 48_000)
    assert default_sizes(20) == (1, 5, 20)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"sizes": [5]}, r"--sizes 5: must lie in 10 \(one image a class\) to 1,318"),
        ({"sizes": [5000]}, "--sizes 5000: must lie"),
        ({"rates": [0, 20]}, r"--rates 20: must lie in \[0, 1\]"),
        ({"kinds": ["bias"]}, "did you mean biased"),
        ({"methods": ["cros-entropy"]}, "did you mean cross-entropy"),
        ({"models": ["convnet"]}, "--model convnet needs images of 16 px or more"),
        ({"schedules": [("minutes", 3)]}, "--schedule minutes: must be steps or epochs"),
        ({"schedules": [("steps", 0)]}, "--steps must be at least 1"),
        ({"repeats": 0}, "--repeats must be at least 1"),
        ({"class_map": "3:3"}, "3:3 is not possible"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(digits, chosen, words):
    with pytest.raises(UsageError, match=words):
        design(digits, {"data": "digits"}, **chosen)


def test_the_design_is_plain_json(digits):
    found = design(digits, {"data": "digits"}, rates=[np.float64(0.0), 0.5])

    assert json.loads(json.dumps(dict(found.cells()[0].config)))["study"] == "mislabel"
