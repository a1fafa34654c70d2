"""Remarks on a collection as a whole: class imbalance, an order with a pattern, slices with doubtful labels, classes
that look the same.

Every remark stands on a test that allows for how many were made, and names its count or interval; on clean, shuffled
data there is hardly ever one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom, chisquare

from winnow.audit.embedded import ByHeart
from winnow.audit.findings import LabelBeliefs, Remark
from winnow.data.randomness import stream_key
from winnow.functional.kmeans import kmeans
from winnow.functional.neighbours import Neighbours
from winnow.noise.intervals import Z, clopper_pearson

LEVEL = 0.001
"""Chance of each kind of remark where there is nothing to remark on."""
UNBALANCED = 3.0
LEAST_RUN, LEAST_DRIFT = 1.5, 0.9
WEAK_SLICE = 2.0
MERGED, MERGED_SHARE = 3.0, 0.1
FEWEST = 50
_IMAGES_A_SLICE = 50
_MOST_SLICES = 50
_PERMUTATIONS = 200
_NAMES_SHOWN = 10
_NO_ERROR = "This is no error, but a part of it must be drawn at random, not cut off."
WEAK_FEATURES = 0.6
"""Share of the labels of nearest images that agree, below which features are said to be weak."""
BY_HEART = 0.1
"""Share of the labels that a network must know by heart for it to be said."""


def remarks(
    features: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, " n"],
    beliefs: LabelBeliefs,
    graph: Neighbours,
    class_names: Sequence[str],
    *,
    seed: int = 0,
) -> tuple[Remark, ...]:
    """What is to be said of the collection, in a fixed order of kinds.

    Args:
        features: of every image, in the order of the collection.
        labels: as given, -1 where one is missing.
        beliefs: about every label.
        graph: nearest images of each.
        class_names: in index order.
        seed: of permutations and clusters.
    """
    known = labels >= 0
    if known.sum() < FEWEST:
        return ()
    found = [
        class_imbalance(labels[known], class_names),
        order_effect(labels, graph, seed=seed),
        *weak_slices(features, labels, beliefs, class_names, seed=seed),
        *merged_classes(labels, beliefs, class_names),
    ]
    return tuple(remark for remark in found if remark is not None)


def weak_features(graph: Neighbours, labels: np.ndarray) -> tuple[Remark, ...]:
    """A remark where images that look alike to the features seldom share a label: then all estimates are less sure."""
    asked = np.flatnonzero(labels >= 0)
    voters = labels[graph.indices[asked, :10]]
    if not (voters >= 0).any():
        return ()
    agreement = float((voters == labels[asked][:, None])[voters >= 0].mean())
    if agreement >= WEAK_FEATURES:
        return ()
    sentence = (
        f"Of the ten nearest images of an image {agreement:.0%} share its label (exact). Either most labels are wrong "
        "or the features tell the classes apart badly; then fewer of the flagged labels are wrong than is estimated. "
        "Give --weights of a good network, or, where a network was trained for it, more --budget."
    )
    return (Remark("weak_features", sentence, {"agreement": agreement}),)


def labels_by_heart(by_heart: ByHeart | None) -> tuple[Remark, ...]:
    """A remark where a network knows more labels by heart than chance explains: wrong ones among them go unseen."""
    if by_heart is None or by_heart.share < BY_HEART or by_heart.share < Z * by_heart.deviation:
        return ()
    learnt, held_back = (agree / number for agree, number in (by_heart.learnt, by_heart.held_back))
    sentence = (
        f"The network that the features are from names the given label of {learnt:.0%} of the images whose label it "
        f"learnt and of {held_back:.0%} of {by_heart.held_back[1]:,} others (exact). What is known by heart is not "
        "doubted: more labels may be wrong than is estimated. More images help, or --weights of a good network."
    )
    return (Remark("labels_by_heart", sentence, {"learnt": learnt, "held_back": held_back}),)


def unnamed_classes(labels: np.ndarray, class_names: Sequence[str]) -> tuple[Remark, ...]:
    """A remark on classes that no label names: nothing can be estimated of them.

    Args:
        labels: as given, -1 where one is missing.
        class_names: in index order.
    """
    absent = np.flatnonzero(np.bincount(labels[labels >= 0], minlength=len(class_names)) == 0).tolist()
    if not absent:
        return ()
    shown = ", ".join(f"'{class_names[k]}'" for k in absent[:_NAMES_SHOWN])
    shown += ", ..." if len(absent) > _NAMES_SHOWN else ""
    sentence = (
        f"No label names {len(absent):,} of the {len(class_names):,} classes ({shown}; exact): their share and what "
        "they are mistaken for are not estimated."
    )
    return (Remark("unnamed_classes", sentence, {"classes": absent}),)


def class_imbalance(labels: Int[np.ndarray, " n"], class_names: Sequence[str]) -> Remark | None:
    """A remark if the largest class has at least three times the images of the smallest, beyond chance."""
    counts = np.bincount(labels, minlength=len(class_names))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    if len(counts) < 2 or counts[largest] < UNBALANCED * counts[smallest] or chisquare(counts).pvalue >= LEVEL:
        return None
    empty = int((counts == 0).sum())
    sentence = (
        f"The classes are unbalanced: '{class_names[largest]}' has {counts[largest]:,} images, "
        f"'{class_names[smallest]}' {counts[smallest]:,} (exact)."
    )
    if empty:
        sentence = sentence[:-1] + f"; {empty:,} {'class has' if empty == 1 else 'classes have'} none."
    numbers = {
        "largest": largest,
        "largest_images": int(counts[largest]),
        "smallest": smallest,
        "smallest_images": int(counts[smallest]),
        "empty": empty,
    }
    return Remark("class_imbalance", sentence, numbers)


def order_effect(labels: Int[np.ndarray, " n"], graph: Neighbours, *, seed: int) -> Remark | None:
    """A remark if the images do not stand in a random order: by class, or drifting within the classes.

    Two statistics against permutations of the order: neighbours in order with equal labels, and the distance in order
    of images that look alike and have the same label, the order permuted within each class. Neither is an error.
    """
    known = np.flatnonzero(labels >= 0)
    given = labels[known]
    random = np.random.default_rng(stream_key(seed, "audit/order"))
    runs = float((given[1:] == given[:-1]).mean())
    chance = np.array([_equal_in_order(random.permutation(given)) for _ in range(_PERMUTATIONS)])
    if runs > LEAST_RUN * chance.mean() and _beyond(runs - chance.mean(), chance.std()):
        low, high = np.quantile(chance, [0.025, 0.975])
        sentence = (
            f"The collection is ordered by class: {100 * runs:.1f} % of images that follow each other share a label "
            f"({len(given) - 1:,} pairs, exact); in a random order {100 * low:.1f} to {100 * high:.1f} % would. "
            f"{_NO_ERROR}"
        )
        numbers = {"pattern": "class", "share": runs, "chance_low": float(low), "chance_high": float(high)}
        return Remark("order_effect", sentence, numbers)
    rows = np.repeat(np.arange(len(labels)), graph.indices.shape[1])
    others = graph.indices.ravel()
    alike = (labels[rows] >= 0) & (labels[rows] == labels[others])
    if alike.sum() < FEWEST:
        return None
    rows, others = rows[alike], others[alike]
    place = np.arange(len(labels), dtype=np.float64)
    apart = float(np.abs(place[rows] - place[others]).mean())
    by_class = np.argsort(labels, kind="stable")
    expected = np.empty(_PERMUTATIONS)
    for turn in range(_PERMUTATIONS):
        # A random order within each class: sorted by (class, lot), the classes' own places are dealt out.
        shuffled = np.empty(len(labels))
        shuffled[np.lexsort((random.random(len(labels)), labels))] = place[by_class]
        expected[turn] = np.abs(shuffled[rows] - shuffled[others]).mean()
    if apart < LEAST_DRIFT * expected.mean() and _beyond(expected.mean() - apart, expected.std()):
        low, high = np.quantile(expected, [0.025, 0.975])
        sentence = (
            f"Images drift along the collection: of a class, those that look alike stand {apart:,.0f} places apart in "
            f"the mean ({len(rows):,} pairs, exact); in a random order {low:,.0f} to {high:,.0f}. {_NO_ERROR}"
        )
        numbers = {"pattern": "drift", "apart": apart, "chance_low": float(low), "chance_high": float(high)}
        return Remark("order_effect", sentence, numbers)
    return None


def weak_slices(
    features: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, " n"],
    beliefs: LabelBeliefs,
    class_names: Sequence[str],
    *,
    seed: int,
    most: int = 3,
) -> list[Remark]:
    """Clusters of images whose labels are doubted at least twice as often as elsewhere, the worst first.

    Clusters follow from the features alone, so they are no selection of doubted images.
    """
    known = np.flatnonzero(labels >= 0)
    flagged = beliefs.is_issue[known]
    number = min(_MOST_SLICES, len(known) // _IMAGES_A_SLICE)
    if number < 2 or not flagged.any():
        return []
    members = kmeans(features[known], number, seed=seed).members
    sizes = np.bincount(members, minlength=number)
    doubted = np.bincount(members, weights=flagged, minlength=number).astype(np.int64)
    found = []
    for k in np.flatnonzero(sizes):
        outside = len(known) - int(sizes[k])
        elsewhere = (int(flagged.sum()) - int(doubted[k])) / max(1, outside)
        # Elsewhere is not known exactly either: its upper end must be surpassed.
        upper = clopper_pearson(int(flagged.sum()) - int(doubted[k]), outside, LEVEL / number)[1]
        if binom.sf(doubted[k] - 1, sizes[k], min(1.0, WEAK_SLICE * upper)) >= LEVEL / number:
            continue
        mine = known[members == k]
        name = int(np.bincount(labels[mine]).argmax())
        low, high = clopper_pearson(int(doubted[k]), int(sizes[k]))
        sentence = (
            f"A group of {sizes[k]:,} images that look alike, most of them named '{class_names[name]}', has "
            f"{100 * doubted[k] / sizes[k]:.0f} % of its labels doubted (interval {100 * low:.0f} to "
            f"{100 * high:.0f}), the others {100 * elsewhere:.1f} %."
        )
        numbers = {
            "images": int(sizes[k]),
            "doubted": int(doubted[k]),
            "share": float(doubted[k] / sizes[k]),
            "low": low,
            "high": high,
            "elsewhere": elsewhere,
            "class": name,
            "rows": mine[:20].tolist(),
        }
        found.append(Remark("weak_slice", sentence, numbers))
    return sorted(found, key=lambda remark: -remark.numbers["low"])[:most]


def merged_classes(
    labels: Int[np.ndarray, " n"], beliefs: LabelBeliefs, class_names: Sequence[str], *, most: int = 3
) -> list[Remark]:
    """Pairs of classes that are taken for each other, in both directions, far more than any others; the worst first."""
    classes = len(class_names)
    if classes < 3:
        return []
    known = labels >= 0
    sizes = np.bincount(labels[known], minlength=classes)
    doubted = np.flatnonzero(known & beliefs.is_issue & (beliefs.suggested_label != labels))
    cells = labels[doubted] * classes + beliefs.suggested_label[doubted]
    values, images = np.unique(cells, return_counts=True)
    directed = dict(zip(values.tolist(), images.tolist(), strict=True))
    pairs = {tuple(sorted(divmod(cell, classes))) for cell in directed}
    tested = classes * (classes - 1) // 2
    found = []
    for i, j in sorted(pairs):
        there, back = directed.get(i * classes + j, 0), directed.get(j * classes + i, 0)
        both, size = there + back, int(sizes[i] + sizes[j])
        # What these images would be doubted as if all other classes were as likely as this one.
        others = sum(n for cell, n in directed.items() if (cell // classes in (i, j)) != (cell % classes in (i, j)))
        rest = clopper_pearson(others, 2 * size * (classes - 2), LEVEL / tested)[1]
        low, high = clopper_pearson(both, size)
        mutual = min(there / max(1, sizes[i]), back / max(1, sizes[j]))
        if low < MERGED_SHARE or mutual < MERGED_SHARE / 2:
            continue
        if binom.sf(both - 1, size, min(1.0, MERGED * rest)) >= LEVEL / tested:
            continue
        sentence = (
            f"'{class_names[i]}' and '{class_names[j]}' are hard to tell apart here: {both:,} of their {size:,} images "
            f"look like the other one ({100 * both / size:.0f} %, interval {100 * low:.0f} to {100 * high:.0f})."
        )
        numbers = {"classes": [i, j], "images": both, "of": size, "share": both / size, "low": low, "high": high}
        found.append(Remark("merged_classes", sentence, numbers))
    return sorted(found, key=lambda remark: -remark.numbers["low"])[:most]


def _equal_in_order(labels: Int[np.ndarray, " n"]) -> float:
    return float((labels[1:] == labels[:-1]).mean())


def _beyond(difference: float, deviation: float) -> bool:
    """Whether a difference is further out than `LEVEL` of a normal distribution, on one side."""
    return difference > 3.09 * max(deviation, 1e-12)
