"""The answer of a grid in a sentence, no surer than its cells."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from winnow.bench.comparison import Condition, Row
from winnow.bench.phrases import joined, several, signed
from winnow.bench.table import difference
from winnow.report import words

_MOST_NAMES = 3


def sentence(conditions: Sequence[Condition], cells: int | None = None) -> str:
    """Who is ahead at the last epoch, and by how much; what is unsettled or not finished is said to be.

    Args:
        conditions: ranked over the seeds that all methods with an accuracy have.
        cells: of the whole grid; by default those of `conditions`.
    """
    rows = [row for condition in conditions for row in condition.rows]
    there, asked = sum(len(row.records) for row in rows), cells or sum(row.cells for row in rows)
    if not there:
        return "No cell is finished yet."
    able = _able(conditions)
    if not able:
        text = _alone(rows)
    elif len(able) == 1:
        text = _in_one(able[0])
    else:
        text = _in_several(able)
    return f"{text}." if there >= asked else f"{text}. {_unfinished(conditions, there, asked)}."


def leader(conditions: Sequence[Condition]) -> Row | None:
    """A row of the method that is ahead, or one of several that are; without a comparison any row with a result."""
    able = _able(conditions)
    ahead, _ = _ahead(able)
    rows = [row for condition in able or conditions for row in condition.ranked]
    return next((row for row in rows if row.method in ahead), rows[0] if rows else None)


def _able(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions with something to compare, cut to what may be compared."""
    return [fair for condition in conditions if len((fair := condition.fair).ranked) > 1]


def _best(condition: Condition) -> list[Row]:
    """The best row, or several that are level."""
    ranked = condition.ranked
    return [row for row in ranked if row.mean() == ranked[0].mean()]


def _ahead(able: Sequence[Condition]) -> tuple[list[str], int]:
    """The methods that are alone ahead in the most conditions, and in how many."""
    wins = Counter(best[0].method for condition in able if len(best := _best(condition)) == 1)
    most = max(wins.values(), default=0)
    return [method for method, number in wins.items() if number == most], most


def _in_one(condition: Condition) -> str:
    best, *level = _best(condition)
    if level:
        names = joined([row.method for row in (best, *level)])
        return f"Unsettled: {names} are level at the last epoch with {words.percent(best.mean())}"
    text = f"{best.method} is best at the last epoch: {words.percent(best.mean())}"
    if gains := condition.differences(best):
        return f"{text}, {difference(gains)} points against {best.control}"
    second = condition.ranked[1]
    return f"{text}; next is {second.method} with {words.percent(second.mean())}"


def _in_several(able: Sequence[Condition]) -> str:
    methods, number = _ahead(able)
    of = several(len(able), "condition")
    if not methods:
        return f"Unsettled: in none of {of} one method alone is best at the last epoch"
    if len(methods) > 1:
        names = joined(methods) if len(methods) <= _MOST_NAMES else several(len(methods), "method")
        return f"Unsettled: {names} are each best at the last epoch in {number} of {of}"
    means = []
    for condition in able:
        row = condition.row(methods[0])
        if gains := condition.differences(row) if row else []:
            means.append(statistics.fmean(gains))
    text = f"{methods[0]} is best at the last epoch in {number} of {of}"
    return f"{text}, {signed(min(means))} to {signed(max(means))} points against its control" if means else text


def _alone(rows: Sequence[Row]) -> str:
    """Where nothing can be compared."""
    means: dict[str, list[float]] = {}
    for row in rows:
        if (mean := row.mean()) is not None:
            means.setdefault(row.method, []).append(mean)
    if not means:
        return "Without test images there is nothing to compare"
    if len(means) > 1:
        return "No two methods have a result of the same condition and seed yet"
    ((method, found),) = means.items()
    reached = words.percent(found[0])
    if len(found) > 1:
        reached = f"{words.percent_range(found)}{words.NO_BREAK}% in {len(found)} conditions"
    if {row.method for row in rows} == {method}:
        return f"{method} reaches {reached} at the last epoch; nothing else ran to compare it with"
    return f"Only {method} has a result: {reached} at the last epoch"


def _unfinished(conditions: Sequence[Condition], there: int, asked: int) -> str:
    rows = [row for condition in conditions for row in condition.rows]
    begun = {row.method for row in rows if row.records}
    without = list(dict.fromkeys(row.method for row in rows if row.method not in begun))
    text = f"Not finished: {there:,} of {several(asked, 'cell')} have a result"
    if without:
        text += f", none of {joined(without) if len(without) <= _MOST_NAMES else several(len(without), 'method')}"
    if any(condition.fair != condition for condition in conditions):
        text += "; ranked over the seeds in common"
    return text
