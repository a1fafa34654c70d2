"""Who is mistaken for whom: counts of (believed class, given label), drawn for up to twenty classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from winnow.report import words
from winnow.report.figures import LETTER, WIDTH, Figure, Scale, circle, drawing, line, rect, text

MOST_DRAWN = 20
# Percent of a row from which each of the five blues begins.
STEPS = (0.5, 2.0, 5.0, 10.0, 25.0)


@dataclass(frozen=True)
class Confusion:
    """Counts of believed class and given label, kept sparse: of the million pairs of 1,000 classes few occur.

    Args:
        names: the classes in index order.
        totals: images believed of each class, (K,).
        counts: (believed, given) -> images.
        estimated: the numbers of images are estimates and no whole numbers.
    """

    names: Sequence[str]
    totals: np.ndarray
    counts: dict[tuple[int, int], int | float]
    estimated: bool = False

    @classmethod
    def from_matrix(cls, names: Sequence[str], matrix: np.ndarray) -> Confusion:
        """From a full matrix (K, K), rows believed, columns given."""
        believed, given = np.nonzero(matrix)
        counts = {(int(i), int(j)): matrix[i, j].item() for i, j in zip(believed, given, strict=True)}
        return cls(names, matrix.sum(axis=1), counts, estimated=matrix.dtype.kind == "f")

    @classmethod
    def from_labels(cls, names: Sequence[str], believed: np.ndarray, given: np.ndarray) -> Confusion:
        """From two class indices per image; images with a negative one are left out."""
        both = (believed >= 0) & (given >= 0)
        believed, given, classes = believed[both].astype(np.int64), given[both].astype(np.int64), len(names)
        cells, images = np.unique(believed * classes + given, return_counts=True)
        counts: dict[tuple[int, int], int | float] = {
            (int(c) // classes, int(c) % classes): int(n) for c, n in zip(cells, images, strict=True)
        }
        return cls(names, np.bincount(believed, minlength=classes), counts)

    def shown(self, images: float) -> str:
        """A number of images, with one decimal where small estimates need it."""
        return words.count(images) if not self.estimated else words.estimate(images)

    def top_pairs(self, most: int = MOST_DRAWN) -> list[tuple[int, int, int | float]]:
        """The most frequent mistakes as (believed, given, images), largest first."""
        pairs = [(i, j, n) for (i, j), n in self.counts.items() if i != j and n > 0]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]

    def drawn_classes(self) -> list[int]:
        """All classes if they fit in a drawing, else those of the most frequent mistakes, in index order."""
        if len(self.names) <= MOST_DRAWN:
            return list(range(len(self.names)))
        chosen: list[int] = []
        for believed, given, _ in self.top_pairs():
            new = [index for index in (believed, given) if index not in chosen]
            if len(chosen) + len(new) <= MOST_DRAWN:
                chosen += new
        return sorted(chosen)


def whole_percent(share: float) -> str:
    """A share of a row in whole percent, as a cell has room for; 100 only when exact."""
    if share < 0.005:
        return ""
    return "100" if share == 1 else f"{min(99, int(100 * share + 0.5))}"


def matrix_plot(confusion: Confusion) -> Figure:
    """Rows believed, columns given, percent of the row; the diagonal is grey, outside the colours."""
    classes = confusion.drawn_classes()
    size = len(classes)
    letters = 11 if size <= 12 else 10
    names = [words.short(confusion.names[index], letters) for index in classes]
    longest = max(map(len, names), default=1)
    left = top_names = 12 + 1.13 * LETTER * longest
    cell = min((WIDTH - left - 2) / max(size, 1), 44.0)
    top = 20 + top_names
    font = "cell" if cell >= 22 else "cell small"
    marks: list[Markup] = [text(0, 12, "rows: believed · columns: given · % of the row", "axis")]
    for column, column_name in enumerate(names):
        middle = left + cell * (column + 0.5)
        if longest <= 2 and cell >= 16:
            marks += [text(middle, top - 6, column_name, "axis given", "middle")]
        else:
            marks += [text(middle + 4, top - 6, column_name, "axis given small", "start", -90)]
    for row, believed in enumerate(classes):
        marks += [text(left - 6, top + cell * (row + 0.5) + 4, names[row], "axis suggested small", "end")]
        total = confusion.totals[believed].item()
        for column, given in enumerate(classes):
            images = confusion.counts.get((believed, given), 0)
            share = images / total if total else 0.0
            step = sum(100 * share >= limit for limit in STEPS)
            css = "diagonal" if believed == given else f"blue{step}"
            tip = f"believed {names[row]}, given {names[column]}: {confusion.shown(images)} of {confusion.shown(total)}"
            x, y = left + cell * column, top + cell * row
            marks += [rect(x + 0.5, y + 0.5, cell - 1, cell - 1, css, tip)]
            if cell >= 19 and whole_percent(share):
                place = (x + cell / 2, y + cell / 2 + 4.5)
                marks += [text(*place, whole_percent(share), f"{font} on-{css}", "middle")]
    bottom = top + cell * size
    for index, label in enumerate(("0.5", "2", "5", "10", "25\u00a0% and more"), start=1):
        x = 50 * (index - 1)
        marks += [
            rect(x, bottom + 12, 14, 14, f"blue{index}"),
            text(x + 18, bottom + 24, label, "axis small"),
        ]
    title = "Believed class against given label"
    description = main_mistake(confusion)
    rows = [
        [names[row], *(confusion.shown(confusion.counts.get((believed, given), 0)) for given in classes)]
        for row, believed in enumerate(classes)
    ]
    columns = ["believed / given", *names]
    return Figure(title, description, drawing(title, description, bottom + 32, marks), columns, rows)


def main_mistake(confusion: Confusion) -> str:
    """The most frequent mistake in a sentence."""
    pairs = confusion.top_pairs(1)
    if not pairs:
        return "Every image carries the label that it is believed to deserve."
    believed, given, images = pairs[0]
    total = confusion.totals[believed].item()
    of = f"{confusion.shown(total)}{words.NO_BREAK}{'image' if total == 1 else 'images'}"
    return (
        f"Most frequent: {confusion.shown(images)} of the {of} believed "
        f"{words.inline(confusion.names[believed])} carry the label {words.inline(confusion.names[given])} "
        f"({words.percent(images / total)})."
    )


def classes_plot(names: Sequence[str], given: np.ndarray, suggested: np.ndarray, most: int = 15) -> Figure:
    """A row a class: its images by given and by suggested label, joined; the largest differences first."""
    order = sorted(range(len(names)), key=lambda index: (-abs(int(given[index]) - int(suggested[index])), index))
    chosen = order[:most]
    title = "Images by given and by suggested label"
    first = chosen[0] if chosen else 0
    description = "No class changes its number of images."
    if chosen and given[first] != suggested[first]:
        description = (
            f"Largest difference: {words.inline(names[first])}, {words.count(given[first])} images given, "
            f"{words.count(suggested[first])} look like it."
        )
    numbers = [f"{words.count(given[i])} given, looks like {words.count(suggested[i])}" for i in chosen]
    rows = [[words.short(names[i]), words.count(given[i]), words.count(suggested[i])] for i in chosen]
    pairs = np.stack([given[chosen], suggested[chosen]], axis=1)
    svg = _joined_dots(title, description, [row[0] for row in rows], numbers, pairs, "looks like")
    return Figure(title, description, svg, ["class", "given", "looks like"], rows)


def shares_plot(
    names: Sequence[str], given: np.ndarray, estimated: np.ndarray, interval: np.ndarray, most: int = 15
) -> Figure:
    """A row a class: its share of the images as given and as estimated, joined; the largest differences first.

    Args:
        names: the classes; where they are many, shares get a second decimal.
        given, estimated: shares in [0, 1], one a class.
        interval: of the estimated share, (K, 2); NaN where it is unknown.
        most: rows drawn.
    """
    order = np.argsort(-np.abs(given - estimated), kind="stable")
    chosen = order[:most]
    rows = []
    decimals = share_decimals(len(names))
    for index in map(int, chosen):
        known = bool(np.isfinite(interval[index]).all())
        within = words.percent_range(interval[index].tolist(), decimals) if known else words.NONE
        values = (words.percent(float(share[index]), decimals) for share in (given, estimated))
        rows.append([words.short(names[index]), *values, within])
    numbers = [f"{given_share}, estimated {estimate}" for _, given_share, estimate, _ in rows]
    title = "Share of each class, given and estimated"
    description = "No class changes its share."
    if rows and rows[0][1] != rows[0][2]:
        name, given_share, estimate, within = rows[0]
        description = f"Largest difference: {words.inline(name)}, {given_share} given, {estimate} estimated"
        description += f" (interval {within})." if within != words.NONE else "."
    pairs = np.stack([given[chosen], estimated[chosen]], axis=1)
    svg = _joined_dots(title, description, [row[0] for row in rows], numbers, pairs, "estimated", interval[chosen])
    return Figure(title, description, svg, ["class", "given", "estimated", "interval, %"], rows)


def share_decimals(num_classes: int) -> int:
    """Decimals of a class's percentage: of a thousand classes each has a tenth."""
    return 1 if num_classes <= 100 else 2


def _joined_dots(
    title: str,
    description: str,
    names: Sequence[str],
    numbers: Sequence[str],
    pairs: np.ndarray,
    second: str,
    interval: np.ndarray | None = None,
) -> Markup:
    """A row a name: a dot for the given value, a square for the `second` one, a stroke for the interval of that."""
    values = pairs if interval is None else np.concatenate([pairs, interval], axis=1)
    largest = float(np.nanmax(values, initial=0.0)) or 1.0
    place = Scale(0, largest, 8, WIDTH - 12)
    row_height, top = 34, 26
    bottom = top + row_height * len(names)
    marks: list[Markup] = [circle(7, 9, 5, "given-dot"), text(17, 13, "given", "axis")]
    marks += [rect(65, 4, 10, 10, "suggested-dot"), text(81, 13, second, "axis")]
    if interval is not None:
        end = 95 + LETTER * len(second)
        marks += [line(end, 9, end + 16, 9, "interval"), text(end + 22, 13, "interval", "axis")]
    for row, (name, shown) in enumerate(zip(names, numbers, strict=True)):
        level = top + row_height * row + 24
        a, b = (place(float(value)) for value in pairs[row])
        marks += [
            text(0, level - 9, words.short(name, 20), "small"),
            text(WIDTH, level - 9, shown, "axis small", "end"),
        ]
        marks += [Markup('<path class="join" d="M{:.1f} {} H{:.1f}"/>').format(a, level, b)]
        if interval is not None and np.isfinite(interval[row]).all():
            low, high = (place(float(value)) for value in interval[row])
            marks += [line(low, level, high, level, "interval"), line(low, level - 4, low, level + 4, "interval")]
            marks += [line(high, level - 4, high, level + 4, "interval")]
        marks += [circle(a, level, 5, "given-dot"), rect(b - 4.5, level - 4.5, 9, 9, "suggested-dot")]
    return drawing(title, description, bottom + 8, marks)
