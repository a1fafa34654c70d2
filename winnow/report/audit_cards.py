"""Cards of an audit: pairs of the same picture side by side, outliers and odd files one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from winnow.report import words
from winnow.report.audit_words import DUPLICATE_KINDS, MEANINGS, ODD_KINDS
from winnow.report.cards import Budget, Card, Grid, Picture, encoded_row
from winnow.report.folder import KindFindings, Labels

DUPLICATE_PAIRS = 24
OUTLIERS = 24
ODD_FILES = 12
LONGEST_REASON = 300


@dataclass(frozen=True)
class Pair:
    """Two pictures side by side.

    Args:
        cards: both; their captions are the labels they carry.
        caption: how sure it is that they are a pair.
        differ: whether those labels differ.
        facts: pairs (what, text) about the two together.
    """

    cards: tuple[Card, Card]
    caption: str
    differ: bool
    facts: list[tuple[str, str]]


@dataclass(frozen=True)
class Pairs:
    """Pairs of one kind of finding, of `total` in the collection."""

    kind: str
    meaning: str
    images: int
    total: int
    pairs: list[Pair]


def fair_shares(sizes: Sequence[int], most: int) -> list[int]:
    """How many of each kind have room among `most`: as even as the sizes allow, the first kinds favoured."""
    shares = [0] * len(sizes)
    while most > 0 and any(share < size for share, size in zip(shares, sizes, strict=True)):
        for place, size in enumerate(sizes):
            if shares[place] < size and most > 0:
                shares[place] += 1
                most -= 1
    return shares


def duplicate_pairs(
    findings: Mapping[str, KindFindings],
    labels: Labels,
    picture: Picture,
    test_picture: Picture | None,
    budget: Budget,
) -> list[Pairs]:
    """Duplicates and leaks, every pair once, under the first of its kinds.

    Args:
        findings: of the audit, by kind.
        labels: the table of the audit.
        picture: gives the picture of a row.
        test_picture: the same for a row of the test set.
        budget: of the page.
    """
    kinds = [kind for kind in DUPLICATE_KINDS if kind in findings and len(findings[kind])]
    seen = np.zeros(0, dtype=np.int64)
    chosen: list[np.ndarray] = []
    for kind in kinds:
        names = _names(findings[kind], len(labels.texts), leak=kind == "test_leak")
        _, first = np.unique(names, return_index=True)
        first = np.sort(first)  # the worst first again
        chosen.append(first[~np.isin(names[first], seen)])
        seen = np.concatenate([seen, names])
    shares = fair_shares([len(places) for places in chosen], DUPLICATE_PAIRS)
    shown = []
    for kind, places, share in zip(kinds, chosen, shares, strict=True):
        other_picture = test_picture if kind == "test_leak" else picture
        pairs = []
        for place in map(int, places[:share]):
            if budget.images < 2 or budget.spent:
                break
            pairs.append(_pair(findings[kind], place, labels, (picture, other_picture), kind, budget))
        if len(places):
            shown.append(Pairs(kind, MEANINGS[kind], len(findings[kind]), len(places), pairs))
    return shown


def _names(found: KindFindings, num_rows: int, *, leak: bool) -> np.ndarray:
    """A number for each pair, whichever way round; a test image is another one than the row of its number."""
    if leak:
        return -(found.rows * (1 + found.others.max(initial=0)) + found.others) - 1
    both = np.sort(np.stack([found.rows, found.others]), axis=0)
    return (both[0] + 1) * (num_rows + 1) + both[1]


def _pair(
    found: KindFindings,
    place: int,
    labels: Labels,
    pictures: tuple[Picture, Picture | None],
    kind: str,
    budget: Budget,
) -> Pair:
    row, other = int(found.rows[place]), int(found.others[place])
    given = labels.given_names(row)
    first = _side(pictures[0], row, found.text(place, "id"), given, budget)
    if kind == "test_leak":
        second = _side(pictures[1], other, found.text(place, "other_id"), None, budget)
        return Pair((first, second), _caption(found, place), differ=False, facts=_facts(found, place))
    others = labels.given_names(other) if other >= 0 else []
    second = _side(pictures[1], other, found.text(place, "other_id"), others, budget)
    differ = other >= 0 and given != others
    return Pair((first, second), _caption(found, place), differ=differ, facts=_facts(found, place))


def _side(picture: Picture | None, row: int, name: str, given: list[str] | None, budget: Budget) -> Card:
    """One picture of a pair; `given` is None for a test image."""
    encoded, problem = encoded_row(picture, row) if picture and row >= 0 else (None, "not at hand")
    if not budget.take(encoded):
        encoded, problem = None, "no room left on this page"
    label = "test image" if given is None else f"given {', '.join(given)}" if given else "no label"
    facts = [("id", name), *([("picture", problem)] if problem else [])]
    alternative = "picture cannot be shown" if problem else f"{label}, {words.inline(name)}"
    return Card(picture=encoded, alternative=alternative, caption=label, facts=facts)


def _facts(found: KindFindings, place: int) -> list[tuple[str, str]]:
    probability, reason = float(found.probability[place]), found.text(place, "reason")
    similarity = float(found.similarity[place])
    return [
        ("similarity", words.percent(similarity))
        if words.known(similarity)
        else ("likely true", words.percent(probability, 0) if words.known(probability) else "exact"),
        *([("reason", words.short(reason, LONGEST_REASON))] if reason else []),
    ]


def _caption(found: KindFindings, place: int) -> str:
    probability, similarity = float(found.probability[place]), float(found.similarity[place])
    if words.known(similarity):
        return f"{words.percent(similarity, 0)} alike"
    return f"likely: {words.percent(probability, 0)}" if words.known(probability) else "exact"


def outlier_grid(findings: Mapping[str, KindFindings], labels: Labels, picture: Picture, budget: Budget) -> Grid | None:
    """The images that look like none of the classes, the strangest first."""
    found = findings.get("outlier")
    if not found or not len(found):
        return None
    return _grid(found, "outlier", labels, picture, budget, OUTLIERS)


def odd_grids(findings: Mapping[str, KindFindings], labels: Labels, picture: Picture, budget: Budget) -> list[Grid]:
    """Blank, dark, blurred and otherwise odd images, a grid a kind."""
    kinds = [kind for kind in ODD_KINDS if kind in findings and len(findings[kind])]
    shares = fair_shares([len(findings[kind]) for kind in kinds], ODD_FILES)
    return [
        _grid(findings[kind], kind, labels, picture, budget, share) for kind, share in zip(kinds, shares, strict=True)
    ]


def _grid(found: KindFindings, kind: str, labels: Labels, picture: Picture, budget: Budget, most: int) -> Grid:
    cards: list[Card] = []
    for place in range(min(most, len(found))):
        encoded, problem = encoded_row(picture, int(found.rows[place]))
        if not budget.take(encoded):
            break
        given = ", ".join(labels.given_names(int(found.rows[place]))) or "none"
        name = found.text(place, "id")
        facts = [("id", name), ("given", given), *_facts(found, place)]
        cards.append(
            Card(
                picture=encoded,
                alternative="picture cannot be shown" if problem else words.inline(name),
                caption=_caption(found, place),
                facts=[*facts, *([("picture", problem)] if problem else [])],
            )
        )
    return Grid(kind, len(found), cards)
