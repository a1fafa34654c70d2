"""Names that every system accepts: the strange ones by hand, the rules for any text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.export.names import MOST_BYTES, Names, safe_name, split_extension

RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"COM{n}" for n in range(1, 10)), *(f"LPT{n}" for n in range(1, 10))}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("Füchse 狐 🦊", "Füchse 狐 🦊"),
        ("..", "___"),
        (".", "__"),
        ("", "_"),
        (".hidden", "_.hidden"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("CON", "_CON"),
        ("con.png", "_con.png"),
        ("com1", "_com1"),
        ("COM\u00b9", "_COM\u00b9"),
        ("CONSOLE", "CONSOLE"),
        ("trailing ", "trailing_"),
        ("dots...", "dots___"),
        (" lead", "_ lead"),
        ("new\nline\ttab", "new_line_tab"),
        ("a<b>c:d|e?f*g\\h", "a_b_c_d_e_f_g_h"),
        ("right\u202eleft", "right_left"),
        ("half \udc80", "half _"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_strange_names_by_hand(text, name):
    assert safe_name(text) == name


def test_a_name_of_255_bytes_stays_and_a_longer_one_is_cut_between_characters():
    assert safe_name("x" * 255) == "x" * 255
    assert safe_name("x" * 256) == "x" * 255
    assert safe_name("é" * 200) == "é" * 127  # 254 bytes: half a letter has no room
    assert safe_name("x" * 300, ".png") == "x" * 251 + ".png"


def test_a_name_that_is_taken_gets_a_number_in_front_of_its_ending():
    names = Names(["taken"])

    given_names = [
        names.give(*name) for name in (("a", ".png"), ("A", ".png"), ("a", ".PNG"), ("Taken",), ("a-2", ".png"))
    ]

    assert given_names == ["a.png", "A-2.png", "a-3.PNG", "Taken-2", "a-2-2.png"]


@given(st.text(st.characters(), max_size=300))
def test_any_text_gives_one_part_of_a_path_on_every_system(text):
    name = safe_name(text)

    assert 1 <= len(name.encode()) <= MOST_BYTES
    assert not set(name) & set('<>:"/\\|?*\0')
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs") for character in name)
    assert name not in (".", "..")
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert name.partition(".")[0].rstrip().upper() not in RESERVED
    assert safe_name(name) == name


@given(st.lists(st.text(st.sampled_from("aAeE\u0301é./ß"), max_size=3), max_size=20))
def test_no_two_names_are_alike_in_any_spelling(texts):
    names = Names()
    found = [names.give(text, ".png") for text in texts]

    assert len({unicodedata.normalize("NFC", name.casefold()) for name in found}) == len(texts)


JPEG, PNG = b"\xff\xd8\xff....", b"\x89PNG\r\n\x1a\n...."


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("a.jpg", JPEG, ("a", ".jpg")),
        ("a.JPEG", JPEG, ("a", ".JPEG")),
        ("a.png", JPEG, ("a", ".jpg")),
        ("000001", PNG, ("000001", ".png")),
        ("v1.2", PNG, ("v1.2", ".png")),
        ("a.png", None, ("a", ".png")),
        ("a.png", b"?", ("a", ".png")),
    ],
)
def test_the_extension_tells_the_format(name, data, parts):
    assert split_extension(name, data) == parts
