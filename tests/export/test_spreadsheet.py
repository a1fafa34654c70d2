"""Cells that no spreadsheet runs, and the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.export.spreadsheet import restored, safe_cell, safe_path

TEXTS = st.text(st.sampled_from("=+-@\t\r'a1. ") | st.characters(codec="utf-8"), max_size=8)


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\tx", "\rx", "=", "'=x"])
def test_a_text_that_begins_like_a_formula_gets_an_apostrophe(text):
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["cat", "-5", "+1.5", "a=b", "", "'tis"])
def test_other_texts_and_numbers_stay(text):
    assert safe_cell(text) == text


@given(TEXTS)
def test_every_text_comes_back_and_no_cell_runs(text):
    cell = safe_cell(text)

    assert restored(cell) == text
    assert not cell.startswith(("=", "@", "\t", "\r"))
    if cell.startswith(("+", "-")):
        float(cell)  # a number


def test_a_path_stays_a_path():
    assert safe_path("=photos/1.png") == "./=photos/1.png"
    assert safe_path("photos/1.png") == "photos/1.png"
