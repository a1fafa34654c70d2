"""Ranges of hyperparameters: their ends, NaN and the wording."""

from __future__ import annotations

import math

import pytest

from winnow.methods.ranges import at_least, finite_at_least, in_interval, one_of


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", (0.0, 0.5, 1.0), (-0.001, 1.001, math.nan)),
        ("(0, 1)", (0.001, 0.999), (0.0, 1.0, math.nan)),
        ("[0, 0.5)", (0.0, 0.499), (-0.001, 0.5, math.nan)),
        ("(0, 1000]", (0.001, 1000.0), (0.0, 1000.5, math.inf)),
    ],
)
def test_an_interval_has_its_ends_or_not(interval, inside, outside):
    for value in inside:
        in_interval(interval, share=value)
    for value in outside:
        with pytest.raises(ValueError, match=r"^share must lie in [\[(]0, [\d.]+[\])], got ") as error:
            in_interval(interval, share=value)
        assert str(error.value) == f"share must lie in {interval}, got {value}"


def test_counts_and_numbers_have_a_least_value():
    at_least(1, rounds=1, every=2)
    finite_at_least(0, weight=0.0)
    with pytest.raises(ValueError, match=r"^every must be at least 1, got 0$"):
        at_least(1, rounds=1, every=0)
    for value in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"^weight must be at least 0 and finite, got {value}$"):
            finite_at_least(0, weight=value)


def test_choices_are_listed():
    one_of(("plain", "weak"), views="weak")
    with pytest.raises(ValueError, match=r"^views must be plain or weak, got 'strong'$"):
        one_of(("plain", "weak"), views="strong")
    with pytest.raises(ValueError, match=r"^order must be second, first or head, got 'third'$"):
        one_of(("second", "first", "head"), order="third")
