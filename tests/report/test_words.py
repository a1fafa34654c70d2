import pytest

from winnow.report import words


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [
        (0.907, "90.7\u00a0%"),
        (1, "100\u00a0%"),
        (0, "0\u00a0%"),
        (0.99996, ">99.9\u00a0%"),
        (0.00001, "<0.1\u00a0%"),
        (None, "-"),
        (float("nan"), "-"),
    ],
)
def test_a_percentage_is_whole_only_when_exact(fraction, shown):
    assert words.percent(fraction) == shown


def test_percentages_on_cards_have_no_decimals():
    assert [words.percent(value, 0) for value in (0.004, 0.5, 0.999)] == [
        "<1\u00a0%",
        "50\u00a0%",
        ">99\u00a0%",
    ]


def test_counts_are_exact_and_estimates_have_three_digits():
    assert words.count(48169) == "48,169"
    assert words.about(3912.4) == "about 3,910"
    assert words.about(39) == "about 39"
    assert words.counted(1, "class", "classes") == "1\u00a0class"


def test_time_spans_read_naturally():
    assert [words.duration(value) for value in (4.21, 72.3, 59.97, 7530)] == [
        "4.2\u00a0s",
        "1\u00a0min 12\u00a0s",
        "1\u00a0min 00\u00a0s",
        "2\u00a0h 06\u00a0min",
    ]


def test_wilson_interval_equals_its_formula():
    # 0 of 60: upper end z^2 / (n + z^2) = 3.8415 / 63.8415
    low, high = words.wilson_interval(0.0, 60)
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(3.8415 / 63.8415, abs=1e-4)


def test_names_cannot_hide_characters():
    assert words.visible("a\u202eb\nc\x00\udcff") == "a\\u202eb\\nc\\x00\\udcff"
    assert words.short("a" * 30 + "007", 12) == "aaaaaaa\u2026a007"
    assert words.name("<b>") == "<bdi>&lt;b&gt;</bdi>"
