"""Copies inside a collection, copies with different labels, and copies of test images.

Exact copies have the same bytes, or the same size and pixels. Near copies are found by how much more alike they are
than unrelated images of the same collection (see `functional.near_copies`), so digits and photographs need no
thresholds of their own; colours must agree besides. A near copy has a similarity and no probability: chance makes
hardly any, but pictures of one scene may lie as near, and how many of those there are no collection tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from winnow.audit.findings import Found
from winnow.data.facts import Facts
from winnow.data.pixels import Pixels, blocks
from winnow.data.source import without_label
from winnow.functional.hashing import (
    THUMBNAIL_SIDE,
    WHOLE,
    Window,
    both_ways,
    components,
    content_hash,
    crops,
    first_rows,
    middle,
    resampling,
    thumbnails,
)
from winnow.functional.near_copies import Nearest, chance, nearest, scales

FALSE_PAIRS = 0.05
"""Unrelated pairs that are expected among all near copies."""
FALSE_LEAKS = 0.01
"""The same for leaks, a test image: a copy that is missed costs more there than one too many."""
LARGEST_GROUP = 200
_COLOUR_LIKENESS = 0.8
"""Least correlation of colour thumbnails: red and blue cars of one shape are no copies."""
_COLOUR_FIELDS = 4
_TEST_CROPS = (0.95, 0.9, 0.8)
_STEP = 0.1
"""Between windows, which small shifts are not needed for: tangent distances allow them."""
_PAIRS_AT_ONCE = 4096


@dataclass(frozen=True)
class Copies:
    """The copies among n images.

    Attributes:
        group: the smallest row of the group that an image belongs to, -1 where it has no copy.
        found: `exact_duplicate` and `near_duplicate`: all but the first of a group, `others` the first;
            `conflicting_duplicate`: all of a group with two labels, `others` one with another label.
        false_pairs: unrelated pairs expected among the near ones.
        bound: the ratio to the distance of unrelated neighbours below which a pair counts as near; 0 if there are too
            few images to tell.
    """

    group: Int[np.ndarray, " n"]
    found: tuple[Found, ...]
    false_pairs: float
    bound: float


def find_copies(
    images: Pixels, noisy_labels: Int[np.ndarray, " n *classes"], *, facts: Facts, mirrored: bool = False
) -> Copies:
    """Groups of copies, by content and by likeness.

    A group of near copies with more than 200 members is a chain of likenesses and is left apart. An image of one
    colour has exact copies only.

    Args:
        images: all of one size.
        noisy_labels: (n,), -1 = none; or (n, K) for several classes an image.
        facts: sizes and contents of their files.
        mirrored: whether a mirrored image is a copy.
    """
    same, is_same_file = _exact(images, facts)
    distinct = np.flatnonzero(same == np.arange(len(images)))
    near, bound = _near_pairs(images, distinct, mirrored)
    first = _joined(same, distinct, near)
    group = np.where(np.bincount(first, minlength=len(first))[first] > 1, first, -1)
    found = (
        _conflicting(group, noisy_labels),
        _exact_found(group, same, is_same_file),
        _near_found(group, same, near, bound),
    )
    return Copies(group, found, FALSE_PAIRS, bound)


def find_leaks(
    images: Pixels, test_images: Pixels, *, facts: Facts, test_facts: Facts, mirrored: bool = False
) -> Found:
    """Images that are copies of test images: also cut to 80 %, with a border around, compressed or recoloured.

    Recall counts here: one false alarm in a hundred test images is accepted.

    Args:
        images: of the collection.
        test_images: scaled to the same size.
        facts: sizes and contents of the collection's files.
        test_facts: of the test set's.
        mirrored: whether a mirrored image is a copy.

    Returns:
        Found of kind `test_leak`: `others` are rows of the test set.
    """
    test_row = np.full(len(images), -1, dtype=np.int64)
    ratio = np.full(len(images), np.inf)
    tests, ours = _thumbnails(test_images), _thumbnails(images)
    if len(tests) and len(ours):
        whole = nearest(ours, tests)
        scale = scales(whole)
        windows, frames = _looks(mirrored)
        by_chance = chance(whole, scale, looks=1 + len(windows) + len(frames))
        bound = by_chance.bound(FALSE_LEAKS * len(tests))
        for rows, columns, ratios in chain(
            [_ratios(whole, scale)],
            (_ratios(nearest(ours, _thumbnails(test_images, window), k=2), scale) for window in windows),
            (_ratios(nearest(tests, _thumbnails(images, frame), k=2), scale, turned=True) for frame in frames),
        ):
            close = ratios < bound
            for row, column, value in zip(rows[close], columns[close], ratios[close], strict=True):
                if (value, column) < (ratio[row], test_row[row]):
                    ratio[row], test_row[row] = value, column
    for row, column in _same_contents(images, test_images, facts, test_facts):
        ratio[row], test_row[row] = -1, column
    rows = np.flatnonzero(test_row >= 0)
    rows = rows[np.argsort(ratio[rows], kind="stable")]
    is_exact = ratio[rows] < 0
    reasons = [
        "The same picture is in the test set."
        if exact
        else f"Nearly the same picture is in the test set: {_distance_sentence(ratio[row], bound)}"
        for row, exact in zip(rows, is_exact, strict=True)
    ]
    similarity = np.where(is_exact, np.nan, 1 - ratio[rows])
    return Found("test_leak", rows, np.full(len(rows), np.nan), reasons, test_row[rows], similarity)


@dataclass(frozen=True)
class _Near:
    """Pairs of near copies.

    Attributes:
        left, right: rows, left < right.
        ratio: their distance over that of unrelated neighbours.
        mirrored: whether one is the other's mirrored image.
    """

    left: Int[np.ndarray, " pairs"]
    right: Int[np.ndarray, " pairs"]
    ratio: Float[np.ndarray, " pairs"]
    mirrored: Bool[np.ndarray, " pairs"]


def _exact(images: Pixels, facts: Facts) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """For each image the first row with the same content, and whether it is the same file to the byte."""
    by_pixels = first_rows(_keys(images, facts))
    return by_pixels, facts.contents.astype(bool) & (facts.contents == facts.contents[by_pixels])


def _keys(images: Pixels, facts: Facts) -> Iterator[tuple[bytes, int, int]]:
    """Same pixels and same size in the file: scaled down, two pictures may become equal that were not."""
    sizes = facts.sizes
    row = 0
    for block in blocks(images):
        for image in block:
            yield content_hash(image), int(sizes[row, 0]), int(sizes[row, 1])
            row += 1


def _near_pairs(images: Pixels, distinct: Int[np.ndarray, " m"], mirrored: bool) -> tuple[_Near, float]:
    thumbs = _thumbnails(images)[distinct]
    straight = nearest(thumbs)
    scale = scales(straight)
    by_chance = chance(straight, scale, looks=1 + mirrored)
    bound = by_chance.bound(FALSE_PAIRS)
    parts = [_within(straight, scale, bound)]
    if mirrored:
        parts.append(_within(nearest(thumbs, _mirrored(thumbs)), scale, bound))
    left, right, ratio = (np.concatenate(each) for each in zip(*parts, strict=True))
    is_mirrored = np.repeat(np.arange(len(parts)) == 1, [len(part[0]) for part in parts])
    left, right = distinct[left], distinct[right]
    agree = _same_colours(images, left, right, is_mirrored)
    # The straight pair, where a picture is its own mirror image, and the smaller of the distances seen from both ends.
    order = np.lexsort((ratio, is_mirrored, right, left))
    order = order[agree[order]]
    _, place = np.unique(np.stack([left[order], right[order]]), axis=1, return_index=True)
    kept = order[place]
    return _Near(left[kept], right[kept], ratio[kept], is_mirrored[kept]), bound


def _within(
    found: Nearest, scale: Float[np.ndarray, " n"], bound: float
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Pairs nearer than the bound, measured by the smaller of both scales."""
    with np.errstate(invalid="ignore"):  # nothing times infinite, where there are too few images for a bound
        rows, places = np.nonzero((found.distances < bound * scale[:, None]) & (found.indices >= 0))
    columns = found.indices[rows, places]
    ratio = _over(found.distances[rows, places], np.minimum(scale[rows], scale[columns]))
    kept = (ratio < bound) & (rows != columns)
    rows, columns = rows[kept], columns[kept]
    return np.minimum(rows, columns), np.maximum(rows, columns), ratio[kept]


def _joined(same: Int[np.ndarray, " n"], distinct: Int[np.ndarray, " m"], near: _Near) -> Int[np.ndarray, " n"]:
    """The first row of each image's group."""
    number = len(same)
    first = components(number, [(near.left, near.right)])
    distinct_members = np.bincount(first[distinct], minlength=number)
    first = np.where(distinct_members[first] > LARGEST_GROUP, np.arange(number), first)
    return components(number, [(np.arange(number), same), (np.arange(number), first)])


def _conflicting(group: Int[np.ndarray, " n"], noisy_labels: Int[np.ndarray, " n *classes"]) -> Found:
    codes = np.unique(noisy_labels, axis=0, return_inverse=True)[1].reshape(len(noisy_labels))
    labelled = (group >= 0) & ~without_label(noisy_labels)
    rows, others, reasons = [], [], []
    for members in _grouped(np.flatnonzero(labelled), group):
        labels = codes[members]
        if (labels == labels[0]).all():
            continue
        different = len(np.unique(labels))
        for member, label in zip(members, labels, strict=True):
            rows.append(member)
            others.append(members[labels != label][0])
            reasons.append(
                f"Of {len(members)} copies of one picture, {int((labels == label).sum())} have this label; "
                f"there are {different} labels."
            )
    return Found(
        "conflicting_duplicate",
        np.array(rows, dtype=np.int64),
        np.full(len(rows), np.nan),
        reasons,
        np.array(others, dtype=np.int64),
    )


def _exact_found(
    group: Int[np.ndarray, " n"], same: Int[np.ndarray, " n"], is_same_file: Bool[np.ndarray, " n"]
) -> Found:
    rows = np.flatnonzero(same != np.arange(len(same)))
    reasons = ["The same file, byte for byte." if is_same_file[row] else "The same pixels." for row in rows]
    return Found("exact_duplicate", rows, np.full(len(rows), np.nan), reasons, same[rows])


def _near_found(group: Int[np.ndarray, " n"], same: Int[np.ndarray, " n"], near: _Near, bound: float) -> Found:
    """Every image but the first of its group, with its nearest copy of a lower row as evidence."""
    best: dict[int, int] = {}
    for pair in np.lexsort((near.left, near.ratio)).tolist():
        best.setdefault(int(near.right[pair]), pair)
        best.setdefault(int(near.left[pair]), pair)
    rows = [row for row in best if 0 <= group[row] != same[row]]
    rows.sort(key=lambda row: (near.ratio[best[row]], row))
    pairs = [best[row] for row in rows]
    reasons = [
        ("Nearly a mirrored picture: " if near.mirrored[pair] else "Nearly the same picture: ")
        + _distance_sentence(near.ratio[pair], bound)
        for pair in pairs
    ]
    return Found(
        "near_duplicate",
        np.array(rows, dtype=np.int64),
        np.full(len(rows), np.nan),
        reasons,
        group[np.array(rows, dtype=np.int64)],
        1 - near.ratio[np.array(pairs, dtype=np.int64)],
    )


def _distance_sentence(ratio: float, bound: float) -> str:
    return f"it differs {ratio:.1%} as much as unrelated neighbours do (copies: below {bound:.1%})."


def _looks(mirrored: bool) -> tuple[list[Window], list[Window]]:
    """Parts of test images that may be copied, and parts of the collection's that may be copies inside a border."""
    cut = [window for side in _TEST_CROPS for window in crops(side, _STEP)]
    framed = [middle(side) for side in _TEST_CROPS[1:]]
    return both_ways([WHOLE, *cut], mirrored)[1:], both_ways(framed, mirrored)


def _ratios(
    found: Nearest, scale: Float[np.ndarray, " t"], turned: bool = False
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """(rows, test rows, ratios) where test images were the queries, or, turned, what was searched."""
    queries, places = np.nonzero(found.indices >= 0)
    rows, columns = found.indices[queries, places], queries
    if turned:
        rows, columns = columns, rows
    return rows, columns, _over(found.distances[queries, places], scale[columns])


def _over(distances: Float[np.ndarray, " m"], scale: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Ratios, infinite where there is no scale to tell by."""
    known = np.isfinite(scale) & (scale > 0)
    return np.where(known, distances / np.where(known, scale, 1), np.inf).astype(np.float64)


def _same_contents(images: Pixels, test_images: Pixels, facts: Facts, test_facts: Facts) -> Iterator[tuple[int, int]]:
    """(row, the first test row with the same pixels or the same file)."""
    seen: dict[object, int] = {}
    for column, key in enumerate(_keys(test_images, test_facts)):
        seen.setdefault(key, column)
        if test_facts.contents[column]:
            seen.setdefault(int(test_facts.contents[column]), column)
    for row, key in enumerate(_keys(images, facts)):
        content = int(facts.contents[row])  # 0: there was no file
        twin = seen.get(key, seen.get(content) if content else None)
        if twin is not None:
            yield row, twin


def _same_colours(
    images: Pixels,
    left: Int[np.ndarray, " pairs"],
    right: Int[np.ndarray, " pairs"],
    mirrored: Bool[np.ndarray, " pairs"],
) -> Bool[np.ndarray, " pairs"]:
    """Whether colours go together over the pictures, up to one brightness and one contrast for all of them."""
    agree = np.ones(len(left), dtype=bool)
    if images.shape[3] == 1:
        return agree
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        ours, theirs = _coloured(images.take(left[part])), _coloured(images.take(right[part]))
        theirs = np.where(mirrored[part, None, None, None], theirs[:, :, ::-1], theirs)
        agree[part] = (ours * theirs).sum(axis=(1, 2, 3)) >= _COLOUR_LIKENESS
    return agree


def _coloured(pictures: UInt8[np.ndarray, "m height width channels"]) -> Float[np.ndarray, "m side side channels"]:
    """Average colours over a few fields, of mean zero and length one."""
    down, across = (resampling(size, _COLOUR_FIELDS) for size in pictures.shape[1:3])
    values = np.einsum("ah,nhwc,bw->nabc", down, pictures.astype(np.float32), across, optimize=True)
    values -= values.mean(axis=(1, 2, 3), keepdims=True)
    lengths = np.sqrt(np.square(values).sum(axis=(1, 2, 3), keepdims=True))
    return np.asarray(values / np.maximum(lengths, 1e-6))


def _mirrored(thumbs: Float[np.ndarray, "n pixels"]) -> Float[np.ndarray, "n pixels"]:
    square = thumbs.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.ascontiguousarray(square[:, :, ::-1]).reshape(thumbs.shape)


def _thumbnails(images: Pixels, window: Window = WHOLE) -> Float[np.ndarray, "n pixels"]:
    found = [thumbnails(block, window) for block in blocks(images)]
    return np.concatenate(found) if found else np.empty((0, THUMBNAIL_SIDE**2), dtype=np.float32)


def _grouped(rows: Int[np.ndarray, " m"], group: Int[np.ndarray, " n"]) -> Sequence[Int[np.ndarray, " members"]]:
    """Some rows by their group, ascending in each."""
    order = rows[np.argsort(group[rows], kind="stable")]
    return [part for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(part)]
