import numpy as np
import pytest

from winnow.functional.robust import deviations


def test_deviations_of_normal_numbers_are_standard():
    values = 3 + 2 * np.random.default_rng(0).normal(size=20_000)

    assert deviations(values, 0.01) == pytest.approx((values - 3) / 2, abs=0.15)


def test_each_side_has_its_own_spread():
    values = np.concatenate([-np.arange(1, 51) * 10.0, [0], np.arange(1, 51)])
    found = deviations(values, 0.01)

    # The quarter above is 25, the twentieth 45: 25 / .6745 = 37.1 is more than 45 / 1.6449 = 27.4.
    assert found[-1] == pytest.approx(50 / (25 / 0.6745))
    assert found[49] == pytest.approx(-50 / (25 / 0.6745))


def test_a_floor_keeps_equal_numbers_apart_from_nothing():
    assert deviations(np.array([1.0, 1.0, 1.0, 1.2]), 0.5)[-1] == pytest.approx(0.2 / 0.5, rel=0.2)
    assert deviations(np.ones(3), 0.5).tolist() == [0, 0, 0]


def test_what_a_twentieth_shares_is_no_exception():
    values = np.concatenate([np.zeros(90), np.ones(10)])

    assert deviations(values, 0.01)[-1] < 2
