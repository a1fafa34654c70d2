import math

import numpy as np
import pytest

from winnow.bench.mislabel_numbers import (
    PowerLaw,
    at_rate,
    bias_and_variance,
    binomial_error,
    contours,
    estimate,
    first_order_size,
    paired,
    power_law,
    rising,
    times_more,
    tipping_rate,
)


def test_the_interval_is_students():
    # Mean 0.8, deviations -0.02, 0, 0.02: s = 0.02; t(0.975, 2) = 4.302653.
    found = estimate([0.78, 0.80, 0.82])

    half = 4.302653 * 0.02 / math.sqrt(3)
    assert found.mean == pytest.approx(0.80)
    assert (found.low, found.high) == (pytest.approx(0.80 - half, abs=1e-7), pytest.approx(0.80 + half, abs=1e-7))


def test_five_repeats_use_four_degrees_of_freedom():
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = estimate(values)

    # s^2 = (0.04 + 0.01 + 0 + 0.01 + 0.04) / 4 = 0.025; t(0.975, 4) = 2.776445.
    assert found.high == pytest.approx(0.3 + 2.776445 * math.sqrt(0.025 / 5), abs=1e-6)


@pytest.mark.parametrize("values", [[0.5], [0.4, 0.6]])
def test_below_three_repeats_there_is_no_interval(values):
    assert (estimate(values).mean, estimate(values).low, estimate(values).high) == (0.5, None, None)


def test_differences_are_taken_repeat_by_repeat():
    assert paired({0: 0.9, 1: 0.8, 2: 0.7}, {1: 0.5, 2: 0.6, 3: 0.1}) == [pytest.approx(0.3), pytest.approx(0.1)]


def test_the_error_of_the_test_set_is_binomial():
    assert binomial_error(0.9, 400) == pytest.approx(0.015)  # sqrt(0.9 * 0.1 / 400)
    assert binomial_error(1.0, 400) == 0


def test_a_power_law_is_found_again():
    sizes = (100, 200, 400, 1600)
    law = power_law(sizes, [0.9 - 2.0 * n**-0.5 for n in sizes])

    assert law.a == pytest.approx(0.9, abs=2e-3)
    assert law(800) == pytest.approx(0.9 - 2.0 / math.sqrt(800), abs=1e-3)


def test_the_effective_size_is_where_the_clean_curve_has_that_accuracy():
    # 0.9 - 2 n^-0.5 = 0.8  <=>  n^0.5 = 20  <=>  n = 400.
    assert PowerLaw(0.9, 2.0, 0.5).size(0.8) == pytest.approx(400)


def test_above_the_limit_of_the_curve_the_effective_size_is_unbounded():
    law = PowerLaw(0.9, 2.0, 0.5)

    assert law.size(0.9) == law.size(0.95) == math.inf
    assert PowerLaw(0.9, 0.0, 0.5).size(0.5) == math.inf
    assert PowerLaw(0.9, 1e-9, 0.001).size(0.89999999) >= 0  # no overflow


def test_a_curve_never_falls_and_never_exceeds_one():
    fallen = power_law((100, 200, 400), [0.8, 0.7, 0.75])
    steep = power_law((100, 200, 400), [0.5, 0.7, 0.99])

    assert fallen.b == pytest.approx(0, abs=1e-9)
    assert fallen.a == pytest.approx(0.75)
    assert steep.a <= 1
    assert steep(100) < steep(400) <= 1


def test_two_sizes_tell_no_exponent():
    assert power_law((100, 200), [0.5, 0.6]) is None


def test_falling_neighbours_are_replaced_by_their_mean():
    assert rising([1, 3, 2, 4]).tolist() == [1, 2.5, 2.5, 4]
    assert rising([3, 2, 1]).tolist() == [2, 2, 2]
    assert rising([]).tolist() == []


def test_the_first_order_guide():
    # 10 classes, 45 % wrong: 1 - 0.45 * 10 / 9 = 0.5, squared a quarter.
    assert first_order_size(1000, 0.45, 10) == pytest.approx(250)
    assert first_order_size(1000, 0.9, 10) == pytest.approx(0)
    assert first_order_size(1000, 0.25, 2) == pytest.approx(250)
    assert first_order_size(1000, 0.95, 10) == 0  # beyond the tipping rate nothing is left


def test_where_the_most_frequent_label_tips():
    assert tipping_rate("unbiased", 10) == pytest.approx(0.9)
    assert tipping_rate("unbiased", 2) == tipping_rate("biased", 2) == tipping_rate("biased", 10) == 0.5
    assert tipping_rate("asymmetric", 10) is None


def test_between_two_rates_lies_a_straight_line_in_every_repeat():
    row = {0.1: {0: 0.9, 1: 0.8}, 0.2: {0: 0.7, 1: 0.8, 2: 0.5}}

    assert at_rate(row, 0.15) == {0: pytest.approx(0.8), 1: pytest.approx(0.8)}
    assert at_rate(row, 0.2) == row[0.2]
    assert at_rate(row, 0.05) == {}


def test_more_data_is_read_off_the_measured_sizes():
    # 100 -> 400 images give 0.6 -> 0.8; half of that gain lies at 200 on the logarithmic scale.
    found = times_more((100, 400, 1600), [0.6, 0.8, 0.85], 100, gain=0.1)

    assert found.measured
    assert found.value == pytest.approx(2.0)
    across = times_more((100, 400, 1600), [0.6, 0.8, 0.9], 100, gain=0.25)
    assert across.value == pytest.approx(8.0)  # half-way from 400 to 1,600


def test_beyond_the_largest_size_more_data_follows_the_curve():
    sizes = (100, 400, 1600)
    found = times_more(sizes, [0.9 - 2 * n**-0.5 for n in sizes], 1600, gain=0.025)

    # 0.85 at 1,600; 0.875 where n^0.5 = 80, at 6,400.
    assert not found.measured
    assert found.value == pytest.approx(4.0, rel=0.02)


def test_what_no_data_can_reach_is_unbounded_and_nothing_is_worth_nothing():
    sizes = (100, 400, 1600)

    assert times_more(sizes, [0.9 - 2 * n**-0.5 for n in sizes], 1600, gain=0.06).value == math.inf
    assert times_more(sizes, [0.5, 0.5, 0.5], 1600, gain=0.01).value == math.inf
    assert times_more(sizes, [0.6, 0.7, 0.8], 100, gain=-0.01).value == 1
    assert times_more((100, 400), [0.6, 0.7], 400, gain=0.05) is None


def test_bias_is_what_most_repeats_get_wrong_and_variance_what_they_disagree_on():
    # Four images: always right; always wrong alike; right in two of three; wrong in two of three, alike.
    repeats = [np.array([0, 3, 0, 2]), np.array([0, 3, 0, 2]), np.array([0, 3, 5, 0])]

    bias, variance = bias_and_variance(repeats)

    assert bias == pytest.approx(2 / 4)
    assert variance == pytest.approx(2 / 12)
    assert bias_and_variance(repeats[:2]) is None


def test_a_line_of_equal_accuracy_passes_where_the_straight_lines_do():
    accuracies = {(100, 0.0): 0.6, (400, 0.0): 0.8, (100, 0.5): 0.5, (400, 0.5): 0.7}

    lines = contours((100, 400), (0.0, 0.5), accuracies, [0.65, 0.95])

    found = {round(rate, 3): size for size, rate in lines[0.65]}
    assert found[0.0] == pytest.approx(100 * 4**0.25)  # a quarter of the way, on the logarithmic scale
    assert found[0.5] == pytest.approx(100 * 4**0.75)
    assert lines[0.95] == []
