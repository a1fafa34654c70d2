"""What every drawing has in common: its frame, its scales and the table of its numbers.

A drawing is 340 units wide and is shown at 300 to 480 px, so that its letters stay readable on a phone.
Colours come from classes of the style sheet, which knows light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 340
LETTER = 7.2  # mean width of a letter of the 13-unit text, for leaving room


@dataclass(frozen=True)
class Figure:
    """A drawing with its words and numbers.

    Args:
        title: what it shows, a short line above.
        description: its main number in a sentence, read out in place of the drawing and shown below it.
        svg: the drawing.
        columns, rows: its numbers as a table, whose first `names` columns hold words.
    """

    title: str
    description: str
    svg: Markup
    columns: list[str]
    rows: list[list[str]]
    names: int = 1


@dataclass(frozen=True)
class Scale:
    """A straight scale from values to places: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def number(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start", turn: int = 0) -> Markup:
    """A line of text; `words` are escaped."""
    attributes = Markup(' transform="rotate({} {} {})"').format(turn, number(x), number(y)) if turn else Markup()
    return Markup('<text class="t {}" x="{}" y="{}" text-anchor="{}"{}>{}</text>').format(
        css, number(x), number(y), anchor, attributes, words
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight stroke."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(css, *map(number, (x1, y1, x2, y2)))


def rect(x: float, y: float, width: float, height: float, css: str, tip: str = "") -> Markup:
    """A filled box, with a tooltip if there is something to say."""
    inside = Markup("<title>{}</title>").format(tip) if tip else Markup()
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>').format(
        css, *map(number, (x, y, width, height)), inside
    )


def circle(x: float, y: float, radius: float, css: str, tip: str = "") -> Markup:
    """A dot, with a tooltip if there is something to say."""
    inside = Markup("<title>{}</title>").format(tip) if tip else Markup()
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}">{}</circle>').format(
        css, *map(number, (x, y, radius)), inside
    )


def path(points: Sequence[tuple[float, float]], css: str, closed: bool = False) -> Markup:
    """A line through points, or the area inside them."""
    steps = " L".join(f"{number(x)} {number(y)}" for x, y in points)
    return Markup('<path class="{}" d="M{}{}"/>').format(css, steps, " Z" if closed else "")


def drawing(title: str, description: str, height: float, marks: Sequence[Markup]) -> Markup:
    """The whole SVG element around its marks."""
    return Markup(
        '<svg class="plot" role="img" viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg">'
        "<title>{}</title><desc>{}</desc>{}</svg>"
    ).format(WIDTH, number(height), title, description, Markup("").join(marks))


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round values from `low` to `high`, at most `most + 1` of them; whole numbers where asked."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor * most >= span * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    return [(first + index) * step for index in range(math.floor(high / step + 1e-9) - first + 1)]


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved apart to keep `gap` between neighbours, inside [low, high] if there is room."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    previous = low - gap
    for index in order:
        previous = moved[index] = max(places[index], previous + gap)
    limit = high + gap
    for index in reversed(order):
        limit = moved[index] = min(moved[index], limit - gap)
    return moved
