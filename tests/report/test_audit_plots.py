import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.report.audit_cards import fair_shares
from winnow.report.audit_plots import with_mean, worth_looking
from winnow.report.matrix import Confusion, matrix_plot, shares_plot
from winnow.report.plots import cut, quality_plot


def test_the_share_of_truly_wrong_is_the_running_mean_of_the_doubt():
    # Worst first 0.9, 0.8, 0.1: one looked at 0.9; two 1.7 / 2; three 1.8 / 3.
    figure = worth_looking(np.array([0.2, np.nan, 0.9, 0.1]), num_flagged=2)

    assert [row[:3] for row in figure.rows] == [
        ["1", "0.9", "90.0\u00a0%"],
        ["2", "1.7", "85.0\u00a0%"],
        ["3", "1.8", "60.0\u00a0%"],
    ]
    assert figure.description == "Among the 2 flagged about 1.7 are truly wrong; the next 1 hold about 0.1."
    assert "flagged: 2" in figure.svg


def test_the_band_is_chance_alone_without_an_interval_of_the_rate():
    figure = worth_looking(np.full(100, 0.5), num_flagged=100)

    # 1.96 standard errors of 100 throws of a coin
    assert figure.rows[-1] == ["100", "50", "50.0\u00a0%", "40.2 to 59.8"]


def test_the_interval_of_the_rate_widens_the_band():
    quality = np.full(100, 0.5)
    figure = worth_looking(quality, num_flagged=100, rate=0.5, interval=(0.4, 0.6))

    # 0.4 and 0.6 with the chance of the line: 40 - 9.8 and 60 + 9.8
    assert figure.rows[-1][3] == "30.2 to 69.8"


def test_nothing_judged_is_nothing_drawn():
    assert worth_looking(np.array([np.nan, np.nan]), num_flagged=0) is None


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=50), st.floats(0.05, 0.95))
def test_a_moved_prior_keeps_the_order_and_has_the_mean(probability, mean):
    values = np.array(sorted(probability))

    moved = with_mean(values, mean)

    assert moved.mean() == pytest.approx(mean, abs=1e-6)
    assert (np.diff(moved) >= -1e-12).all()


def test_a_moved_prior_changes_odds_by_one_factor():
    values = np.array([0.1, 0.4])

    moved = with_mean(values, 0.5)

    before, after = values / (1 - values), moved / (1 - moved)
    assert after[0] / before[0] == pytest.approx(after[1] / before[1])


def test_the_line_parts_flagged_labels_from_the_others():
    assert cut(np.array([0.9, 0.1, 0.3]), np.array([False, True, True])) == (pytest.approx(0.6), 0)


def test_a_verified_label_of_low_quality_is_on_the_other_side_of_the_line():
    quality, flagged = np.array([0.05, 0.1, 0.2, 0.8]), np.array([True, False, True, False])

    assert cut(quality, flagged) == (pytest.approx(0.5), 1)


def test_the_histogram_shows_the_counts_on_both_sides_of_its_line():
    quality, flagged = np.array([0.1, 0.2, 0.8]), np.array([True, True, False])

    figure = quality_plot(quality, flagged, "flagged", threshold=True)

    assert figure.svg.count("threshold") == 1
    assert ">2</text>" in figure.svg
    assert "The line stands at 0.5." in figure.description
    assert "threshold" not in quality_plot(quality, np.zeros(3, bool), "flagged", threshold=True).svg


def test_shares_of_classes_begin_with_the_largest_difference():
    interval = np.array([[0.5, 0.7], [np.nan, np.nan]])
    figure = shares_plot(["cat", "dog"], np.array([0.4, 0.6]), np.array([0.6, 0.5]), interval)

    assert figure.rows == [
        ["cat", "40.0\u00a0%", "60.0\u00a0%", "50.0 to 70.0"],
        ["dog", "60.0\u00a0%", "50.0\u00a0%", "-"],
    ]
    assert "cat\u2069, 40.0\u00a0% given, 60.0\u00a0% estimated (interval 50.0 to 70.0)" in figure.description


def test_an_estimated_matrix_counts_parts_of_images():
    figure = matrix_plot(Confusion.from_matrix(["cat", "dog"], np.array([[99.7, 0.3], [4.2, 995.8]])))

    assert figure.rows == [["cat", "100", "0.3"], ["dog", "4.2", "996"]]
    assert "4.2 of the 1,000\u00a0images believed \u2068dog\u2069" in figure.description


@pytest.mark.parametrize(
    ("sizes", "most", "shares"),
    [([1, 4, 30, 30], 24, [1, 4, 10, 9]), ([2, 2], 24, [2, 2]), ([], 24, []), ([5, 5, 5], 2, [1, 1, 0])],
)
def test_room_is_shared_as_evenly_as_the_sizes_allow(sizes, most, shares):
    assert fair_shares(sizes, most) == shares
