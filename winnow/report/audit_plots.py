"""How far to go through the images of an audit, worst first: the share of them that is truly wrong."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from winnow.noise.intervals import Z
from winnow.report import words
from winnow.report.figures import LETTER, WIDTH, Figure, Scale, circle, drawing, line, path, text, ticks

FEWEST_LOOKED_AT = 50
POINTS = 60


def worth_looking(
    label_quality: Float[np.ndarray, " n"],
    num_flagged: int,
    rate: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Figure | None:
    """Images looked at, worst first, against the share of them that is truly wrong.

    The line is the running mean of 1 - `label_quality`. The band adds what the interval of the noise rate allows, all
    log odds moved by one constant, to the chance of that many draws.

    Args:
        label_quality: probability that the given label is right; NaN where it was not judged.
        num_flagged: labels flagged, the mark.
        rate: estimated noise rate, with its `interval` of 95 %; without them the band is chance alone.

    Returns:
        The drawing, or None where no label was judged.
    """
    wrong = np.sort(1 - np.clip(label_quality[np.isfinite(label_quality)], 0, 1))[::-1]
    if not len(wrong):
        return None
    shown = min(len(wrong), max(FEWEST_LOOKED_AT, round(2.5 * num_flagged)))
    looked_at = np.unique(np.append(np.linspace(1, shown, POINTS).round().astype(int), num_flagged or 1))
    looked_at = looked_at[looked_at <= shown]
    share = _running_mean(wrong, looked_at)
    low, high = (_running_mean(bound, looked_at) for bound in _bounds(wrong, rate, interval))
    chance = np.sqrt(_running_mean(wrong * (1 - wrong), looked_at) / looked_at)
    low, high = np.clip(low - Z * chance, 0, 1), np.clip(high + Z * chance, 0, 1)
    title = "How many are worth looking at"
    description = _sentence(wrong, num_flagged, shown)
    rows = [
        [
            words.count(int(looked_at[place])),
            words.estimate(float(share[place] * looked_at[place])),
            words.percent(float(share[place])),
            words.percent_range([float(low[place]), float(high[place])]),
        ]
        for place in _told(looked_at, num_flagged)
    ]
    columns = ["images looked at", "truly wrong, about", "share", "interval, %"]
    svg = _draw(title, description, looked_at, np.stack([share, low, high]), num_flagged)
    return Figure(title, description, svg, columns, rows)


def with_mean(probability: Float[np.ndarray, " n"], mean: float) -> Float[np.ndarray, " n"]:
    """Probabilities moved by one constant in log odds, so that their mean is `mean`: a change of the prior."""
    inside = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    odds = inside / (1 - inside)
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        raised = odds * np.exp(middle)
        if (raised / (1 + raised)).mean() < mean:
            low = middle
        else:
            high = middle
    raised = odds * np.exp((low + high) / 2)
    return raised / (1 + raised)


def _bounds(
    wrong: np.ndarray, rate: float | None, interval: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities as they would be at both ends of the rate's interval."""
    if not rate or interval is None or not all(map(words.known, (rate, *interval))):
        return wrong, wrong
    mean = float(wrong.mean())
    low, high = (with_mean(wrong, mean * end / rate) for end in interval)
    return np.minimum(low, wrong), np.maximum(high, wrong)


def _running_mean(values: np.ndarray, looked_at: np.ndarray) -> np.ndarray:
    return np.cumsum(values, dtype=np.float64)[looked_at - 1] / looked_at


def _told(looked_at: np.ndarray, num_flagged: int) -> list[int]:
    """Which points stand in the table: a tenth of them and the mark."""
    places = set(range(0, len(looked_at), max(1, len(looked_at) // 10))) | {len(looked_at) - 1}
    return sorted(places | set(np.flatnonzero(looked_at == num_flagged).tolist()))


def _sentence(wrong: np.ndarray, num_flagged: int, shown: int) -> str:
    first = num_flagged or shown
    which = "flagged" if num_flagged else "least believed"
    found = words.estimate(float(wrong[:first].sum()))
    after = wrong[first : 2 * first]
    text = f"Among the {words.count(first)} {which} about {found} are truly wrong"
    if not len(after) or not num_flagged:
        return text + "."
    return f"{text}; the next {words.count(len(after))} hold about {words.estimate(float(after.sum()))}."


def _draw(title: str, description: str, looked_at: np.ndarray, shares: np.ndarray, num_flagged: int) -> Markup:
    left, height, top = 12 + LETTER * 5, 250, 46
    bottom = height - 38
    x = Scale(0, int(looked_at[-1]), left, WIDTH - 14)
    y = Scale(0, 1, bottom, top)
    marks = [text(0, 13, "of the images looked at truly wrong", "axis")]
    for value in ticks(0, 1, 4):
        marks += [line(left, y(value), WIDTH - 8, y(value), "grid")]
        marks += [text(left - 5, y(value) + 4.5, words.percent(value, 0), "axis", "end")]
    for value in ticks(0, int(looked_at[-1]), 4, whole=True):
        marks += [text(x(value), bottom + 17, words.count(round(value)), "axis", "middle")]
    marks += [text((left + WIDTH) / 2, height - 4, "images looked at, worst first", "axis", "middle")]
    share, low, high = ([(x(n), y(v)) for n, v in zip(looked_at, row, strict=True)] for row in shares)
    marks += [path([*high, *reversed(low)], "band", closed=True), path(share, "line plain")]
    if num_flagged and num_flagged <= looked_at[-1]:
        place = x(num_flagged)
        anchor = "end" if place > WIDTH * 0.7 else "start" if place < WIDTH * 0.3 else "middle"
        marks += [line(place, top - 8, place, bottom, "threshold")]
        marks += [text(place, top - 13, f"flagged: {words.count(num_flagged)}", "strong", anchor)]
        marks += [circle(*share[int(np.flatnonzero(looked_at == num_flagged)[0])], 4, "dot plain")]
    return drawing(title, description, height, marks)
