"""The blind check: a random sample that does not depend on the order, and exact bounds."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.audit.blind import drawn, read_check, share_interval, write_sample
from winnow.errors import InputError

IDS = [f"image-{number}" for number in range(500)]


def test_sixty_without_a_mistake_bound_the_rate_below_five_percent():
    """One-sided 95 %: (1 - p)^m = 0.05; 59 images are enough, 58 are not."""
    assert share_interval(0, 59)[1] < 0.05 < share_interval(0, 58)[1]
    assert share_interval(0, 60) == (0.0, pytest.approx(1 - 0.05 ** (1 / 60)))


def test_the_interval_is_that_of_the_pages():
    assert share_interval(80, 100) == (pytest.approx(0.708, abs=5e-4), pytest.approx(0.873, abs=5e-4))


def test_the_sample_follows_names_and_seed_alone():
    candidates = np.arange(100, 500)

    sample = drawn(candidates, IDS, 60, seed=0)

    assert len(sample) == 60
    assert sample.min() >= 100
    assert {IDS[row] for row in sample} == {IDS[row] for row in drawn(candidates[::-1], IDS, 60, seed=0)}
    assert set(sample) != set(drawn(candidates, IDS, 60, seed=1))
    assert drawn(candidates, IDS, 1000, seed=0).tolist() == candidates.tolist()


def test_what_a_person_fills_in_is_counted(tmp_path):
    path = tmp_path / "blind.csv"
    rows = np.arange(4)
    write_sample(path, rows, ['=1+1, "x"', "b", "c", "d"], ["cat", "cat", "dog", "dog"])
    with pytest.raises(InputError, match="no label is filled in"):
        read_check(path)
    lines = path.read_text().splitlines()
    filled = [lines[0], lines[1] + "cat", lines[2] + "dog", lines[3] + " dog ", lines[4]]
    path.write_text("\n".join(filled) + "\n")

    check = read_check(path)

    assert check is not None
    assert (check.checked, check.wrong) == (3, 1)
    assert (check.low, check.high) == share_interval(1, 3)


def test_another_table_is_no_sample(tmp_path):
    (tmp_path / "other.csv").write_text("id,label\na,cat\n")

    assert read_check(tmp_path / "other.csv") is None
