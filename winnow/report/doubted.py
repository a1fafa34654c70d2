"""Which doubted labels a page shows, and in which grids."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from winnow.report import words
from winnow.report.cards import Budget, Card, Grid, Picture, encoded_row
from winnow.report.folder import Labels

OPEN_GROUPS = 12
CARDS_A_GROUP = 8
OPEN_WORST = 24
LONGEST_REASON = 300


@dataclass
class DoubtedLabels:
    """The doubted labels of a page.

    Args:
        total: how many there are; `shown` of them have a card.
        grouped: by pair of given and suggested label, or one grid.
        open: grids that are seen at once; `folded` those behind a click.
    """

    total: int
    grouped: bool
    open: list[Grid] = field(default_factory=list)
    folded: list[Grid] = field(default_factory=list)

    @property
    def shown(self) -> int:
        """Cards on the page."""
        return sum(grid.shown for grid in [*self.open, *self.folded])


def worth_grouping(pair_sizes: np.ndarray) -> bool:
    """Whether the ten largest pairs hold a third of the findings; random noise makes many pairs of few."""
    largest = np.sort(pair_sizes)[::-1][:10]
    return bool(pair_sizes.sum() > 0 and 3 * largest.sum() >= pair_sizes.sum())


def doubted_labels(
    labels: Labels, picture: Picture, budget: Budget | None = None, heading: str = "Most doubted first"
) -> DoubtedLabels:
    """Cards of the doubted labels, most doubted first, as many as the budget allows.

    Args:
        labels: the table of the run.
        picture: gives the picture of a row.
        budget: of the page; by default a fresh one.
        heading: of the one grid in which many small pairs stand.
    """
    budget = budget or Budget()
    rows = np.flatnonzero(labels.doubted)
    # An unknown quality sorts last; ties keep source order, so that the same run gives the same page.
    rows = rows[np.argsort(np.nan_to_num(labels.quality[rows], nan=2.0), kind="stable")]
    highest = max(int(labels.given.max(initial=0)), int(labels.suggested.max(initial=0)))
    classes = max(len(labels.class_names), highest + 1)
    pairs = labels.given[rows] * classes + labels.suggested[rows]
    kinds, sizes = np.unique(pairs, return_counts=True)
    found = DoubtedLabels(total=len(rows), grouped=worth_grouping(sizes))
    if not found.grouped:
        cards = _cards(labels, picture, budget, rows, named=True)
        if cards:
            grid = Grid(heading, len(rows), cards[:OPEN_WORST], more=cards[OPEN_WORST:])
            found.open.append(grid)
        return found
    groups: list[tuple[Grid, np.ndarray]] = []
    for kind in kinds[np.argsort(-sizes, kind="stable")]:
        members = rows[pairs == kind]
        cards = _cards(labels, picture, budget, members[:CARDS_A_GROUP], named=False)
        if not cards:
            break
        given, suggested = (labels.name(int(index)) for index in divmod(int(kind), classes))
        groups.append((Grid("", len(members), cards, pair=(given, suggested)), members[CARDS_A_GROUP:]))
    found.open = [grid for grid, _ in groups[:OPEN_GROUPS]]
    found.folded = [grid for grid, _ in groups[OPEN_GROUPS:]]
    # Few pairs leave room: a fair share for the rest of each, the smallest first so that none is wasted.
    waiting = sorted(groups, key=lambda group: len(group[1]))
    for place, (grid, rest) in enumerate(waiting):
        share = budget.images // (len(waiting) - place)
        grid.more = _cards(labels, picture, budget, rest[:share], named=False)
    return found


def _cards(labels: Labels, picture: Picture, budget: Budget, rows: np.ndarray, *, named: bool) -> list[Card]:
    cards = []
    for row in map(int, rows):
        if budget.images < 1 or budget.spent:
            break
        encoded, problem = encoded_row(picture, int(labels.rows[row]))
        if not budget.take(encoded):
            break
        given, suggested = labels.name(int(labels.given[row])), labels.name(int(labels.suggested[row]))
        reason = labels.text(row, "reason")
        facts = [
            ("id", labels.text(row, "id")),
            ("given", given),
            ("looks like", suggested),
            ("suggested_probability", words.percent(float(labels.probability[row]), 0)),
            *([("reason", words.short(reason, LONGEST_REASON))] if reason else []),
            *([("picture", problem)] if problem else []),
        ]
        names = f"given {words.inline(given)}, looks like {words.inline(suggested)}"
        cards.append(
            Card(
                picture=encoded,
                alternative="picture cannot be shown" if problem else names,
                caption=f"right: {words.percent(float(labels.quality[row]), 0)}",
                facts=facts,
                pair=(given, suggested) if named else None,
            )
        )
    return cards
