import base64
import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from winnow.report.cards import Budget, encode
from winnow.report.doubted import worth_grouping
from winnow.report.figures import spread, ticks
from winnow.report.matrix import Confusion, matrix_plot, whole_percent
from winnow.report.page import environment
from winnow.report.plots import gap_areas, quality_plot


def decoded(encoded):
    return Image.open(io.BytesIO(base64.b64decode(encoded.address.partition(",")[2])))


def test_a_small_picture_is_kept_to_the_bit_and_shown_at_a_whole_multiple():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)

    encoded = encode(pixels)

    assert np.array_equal(np.asarray(decoded(encoded)), pixels)
    assert encoded.crisp
    assert (encoded.width, encoded.height) == (84, 60)


def test_a_large_picture_keeps_its_proportions():
    encoded = encode(np.zeros((100, 400, 3), np.uint8))

    assert decoded(encoded).size == (128, 32)
    assert (encoded.width, encoded.height) == (96, 24)
    assert not encoded.crisp


@pytest.mark.parametrize("shape", [(1, 5000, 1), (5000, 1, 3), (1, 1, 1)])
def test_degenerate_pictures_are_encoded(shape):
    encoded = encode(np.zeros(shape, np.uint8))

    assert min(encoded.width, encoded.height) >= 1


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(pixels):
    with pytest.raises(ValueError, match="expected uint8"):
        encode(pixels)


def test_the_budget_ends_by_count_and_by_size():
    picture = encode(np.zeros((4, 4, 1), np.uint8))
    few, small = Budget(images=2), Budget(characters=len(picture.address))

    assert [few.take(picture) for _ in range(3)] == [True, True, False]
    assert [small.take(picture) for _ in range(2)] == [True, False]


def test_pairs_are_grouped_when_ten_hold_a_third():
    assert worth_grouping(np.array([1] * 30))
    assert not worth_grouping(np.array([1] * 31))
    assert not worth_grouping(np.array([], int))


def test_the_gap_is_cut_where_the_lines_cross():
    # Lines y = x and y = 1 - x over [0, 1] cross at 0.5; from there on the first is above.
    (area,) = gap_areas([0, 1], [0.0, 1.0], [1.0, 0.0])

    assert area == [(0.5, 0.5), (1, 1.0), (1, 0.0), (0.5, 0.5)]


def test_a_gap_without_measurements_is_not_shaded():
    assert list(gap_areas([0, 1, 2], [1.0, None, 1.0], [0.0, 0.0, 0.0])) == []


def test_line_names_keep_apart():
    assert spread([50, 52, 10], 20, 0, 60) == [40, 60, 10]


def test_epoch_ticks_are_whole_numbers():
    assert ticks(1, 3, 5, whole=True) == [1, 2, 3]
    assert ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1]


def test_both_ways_of_counting_mistakes_agree():
    believed, given = np.array([0, 0, 1, 2, -1]), np.array([0, 1, 1, 1, 0])
    matrix = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0]])

    counted, stored = Confusion.from_labels("abc", believed, given), Confusion.from_matrix("abc", matrix)

    assert counted.counts == stored.counts
    assert counted.totals.tolist() == stored.totals.tolist() == [2, 1, 1]
    assert counted.top_pairs() == [(0, 1, 1), (2, 1, 1)]


def test_matrix_cells_are_percent_of_the_believed_class():
    figure = matrix_plot(Confusion.from_matrix(["cat", "dog"], np.array([[90, 10], [0, 50]])))

    assert "10 of the 100\u00a0images believed \u2068cat\u2069 carry the label \u2068dog\u2069" in figure.description
    assert figure.rows == [["cat", "90", "10"], ["dog", "0", "50"]]


def test_a_cell_says_100_only_when_exact():
    assert [whole_percent(share) for share in (1.0, 0.998, 0.125, 0.005, 0.0049)] == [
        "100",
        "99",
        "13",
        "1",
        "",
    ]


def test_quality_bars_count_every_label_once():
    quality, flagged = np.array([0.0, 0.01, 0.99, 1.0, np.nan]), np.array([True, True, False, False, False])

    figure = quality_plot(quality, flagged)

    assert figure.rows == [["0.000 to 0.025", "2", "0"], ["0.975 to 1.000", "0", "2"]]


def test_templates_escape_and_refuse_gaps():
    environment_of_pages = environment()

    assert environment_of_pages.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    with pytest.raises(UndefinedError):
        environment_of_pages.from_string("{{ missing }}").render()
