"""Numbers and names as people read them: the same words on every page.

Counts are exact with commas, percentages have one decimal and never break before the sign, an estimate says
"about", nothing is called 100 % or 0 % unless it is, and what is unknown is "-".
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from winnow.noise.intervals import Z

NO_BREAK = "\u00a0"
NONE = "-"
MINUS = "\u2212"
ELLIPSIS = "\u2026"

# Invisible characters that reorder their neighbours: shown as escapes, or a name could disguise itself.
DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def known(value: float | None) -> bool:
    """Whether there is a number: neither None nor NaN."""
    return value is not None and not math.isnan(value)


def count(number: float | None) -> str:
    """An exact count with commas: 48,169."""
    return NONE if number is None or math.isnan(number) else f"{int(number):,}"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """A count with its noun, which do not part at a line break: 1 image, 2,000 images."""
    noun = singular if number == 1 else plural or singular + "s"
    return f"{count(number)}{NO_BREAK}{noun}"


def about(number: float) -> str:
    """An estimated count, at most three digits of it: about 3,910."""
    if number < 1:
        return "fewer than 1"
    digits = 3 - len(str(int(number)))
    rounded = round(number, min(digits, 0))
    return f"about {int(rounded):,}"


def estimate(number: float) -> str:
    """An estimated count for a table: three digits at most, one decimal below ten: 3,910, 4.2, <0.1."""
    if number >= 9.95:
        return about(number).removeprefix("about ")
    return "0" if number == 0 else f"{number:.1f}" if number >= 0.05 else "<0.1"


def percent_number(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as a percentage without its sign, for ranges: 88.7; `>99.9` rather than a rounded 100."""
    if fraction is None or math.isnan(fraction):
        return NONE
    if fraction in (0, 1):
        return f"{100 * fraction:.0f}"
    smallest = 10.0**-decimals
    text = f"{100 * fraction:.{decimals}f}"
    if 0 < fraction < 1 and float(text) <= 0:
        return f"<{smallest:.{decimals}f}"
    if 0 < fraction < 1 and float(text) >= 100:
        return f">{100 - smallest:.{decimals}f}"
    return text.replace("-", MINUS)


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as a percentage: 90.7 %, >99.9 %, <0.1 %; 100 % and 0 % only when exact."""
    text = percent_number(fraction, decimals)
    return text if text == NONE else f"{text}{NO_BREAK}%"


def percent_range(fractions: Sequence[float], decimals: int = 1) -> str:
    """The smallest to the largest of some fractions, as percentages without sign: 69.8 to 72.4."""
    return f"{percent_number(min(fractions), decimals)} to {percent_number(max(fractions), decimals)}"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, without sign: 22.4."""
    return f"{abs(100 * difference):.1f}"


def signed_points(difference: float) -> str:
    """A difference of two fractions in percentage points, a true minus sign before a loss: −0.5."""
    text = points(difference)
    return f"{MINUS}{text}" if difference < 0 and float(text) != 0 else text


def decimal(value: float | None, digits: int = 3) -> str:
    """A plain number of a few digits: 0.812."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}g}".replace("e-", f"e{MINUS}")


def stage_times(seconds: Mapping[str, float]) -> str:
    """The stages of a run that took a second or more: reading 3 s, training 51 s, of that evaluation 4 s."""
    told = [f"{name} {duration(took)}" for name, took in seconds.items() if took >= 1]
    return ", ".join(told) or "under a second a stage"


def area(value: float | None) -> str:
    """An area under a curve, three decimals, 1 only when exact: 0.953, >0.999."""
    if value is None or math.isnan(value):
        return NONE
    if value == 1:
        return "1"
    return ">0.999" if value >= 0.9995 else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """A time span: 4.2 s, 1 min 12 s, 2 h 05 min."""
    if seconds is None or math.isnan(seconds):
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f}{NO_BREAK}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{NO_BREAK}min {whole % 60:02d}{NO_BREAK}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{NO_BREAK}h {minutes % 60:02d}{NO_BREAK}min"


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """The 95 % interval of Wilson for a share seen in `number` independent cases.

    It stays inside [0, 1] and is never empty, unlike the one from the normal curve.
    """
    z = Z
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return max(0.0, centre - half), min(1.0, centre + half)


def visible(text: object) -> str:
    r"""A name or message as text that cannot hide anything: `\n`, `\u202e` and the like are spelt out."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if character in DIRECTION_MARKS or unicodedata.category(character) in ("Cc", "Cs")
        else character
        for character in str(text)
    )


def short(text: object, limit: int = 40) -> str:
    """A visible name cut in its middle, so that beginnings and ends (file numbers) stay readable."""
    whole = visible(text)
    if len(whole) <= limit:
        return whole
    tail = limit // 3
    return f"{whole[: limit - tail - 1]}{ELLIPSIS}{whole[len(whole) - tail :]}"


def setting(value: object) -> str:
    """The value of a setting, in words where it is none, true or false."""
    text = short(value, 300)
    return {"None": "none", "True": "yes", "False": "no"}.get(text, text)


def settings(values: Mapping[str, object], most: int = 200) -> list[tuple[str, str]]:
    """Rows (name, value) of a table of settings."""
    return [(short(name, 80), setting(value)) for name, value in list(values.items())[:most]]


def inline(text: object, limit: int = 40) -> str:
    """A foreign name inside a sentence of plain text, kept from reordering the words around it."""
    return f"\u2068{short(text, limit)}\u2069"


def name(text: object, limit: int = 200) -> Markup:
    """A foreign name for HTML: escaped, visible, and alone in its writing direction."""
    return Markup("<bdi>{}</bdi>").format(short(text, limit))
