"""What a study leaves in its folder where it cannot begin."""

from __future__ import annotations

import pytest

from winnow.bench.folder import default_workers, failure
from winnow.bench.mislabel_command import run_mislabel
from winnow.bench.phrases import several
from winnow.bench.web_command import run_web
from winnow.errors import InputError, UsageError

STUDIES = pytest.mark.parametrize("study", [run_mislabel, run_web])


@STUDIES
@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"repeats": 0}, "--repeats must be at least 1, got 0"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"budget_minutes": -1.0}, "--budget must be above 0 minutes, got -1"),
    ],
)
def test_a_study_that_cannot_begin_leaves_nothing(tmp_path, study, chosen, told):
    with pytest.raises(UsageError, match=told):
        study({"data": "digits", "limit": 200}, tmp_path / "out", **chosen)
    assert list(tmp_path.iterdir()) == []


@STUDIES
def test_results_inside_the_data_are_refused(tmp_path, study):
    with pytest.raises(InputError, match="would become a class"):
        study({"data": str(tmp_path)}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_accelerator_has_one_worker_unless_more_are_asked_for():
    assert [default_workers(None, on_cpu=on_cpu) for on_cpu in (True, False)] == [None, 1]
    assert [default_workers(3, on_cpu=on_cpu) for on_cpu in (True, False)] == [3, 3]


def test_failures_are_counted_in_words(tmp_path):
    failed = [{"error": "no memory"}, {"error": "no time"}]

    assert failure(failed, tmp_path, of=7).startswith("2 cells of 7 failed, the first with: no memory; all are in ")
    assert failure(failed[1:], tmp_path).startswith("1 cell failed, the first with: no time; ")
    assert several(0, "repeat") == "0 repeats"
