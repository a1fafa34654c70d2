"""A diagnosis in sentences: every number with its interval, counts and other facts without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from winnow.report import words

Record = Mapping[str, Any]
TITLES = {
    "accuracy": "Accuracy",
    "relevance": "Features",
    "complexity": "Complexity",
    "samples": "Samples",
    "frequencies": "Frequencies",
}
LIMITS = (
    "Mistakes that everyone makes alike cannot be seen here. The smallest check: 60 random images that nothing stands "
    "out in (--blind 60); without an error among them the rate is below 5 % (at 95 %).",
    "Hard images look like wrong labels: an interval begins where only the surest images speak.",
    "What noise costs is measured with random noise added, and holds as far as the present one resembles it.",
)
_MOST_NAMED = 3


def headline(record: Record) -> str:
    """The share of wrong labels, as far as it can be told."""
    rate, interval = record["estimated_noise_rate"], record["estimated_noise_rate_interval"]
    how = "counted" if record["checked"] else "model-based"
    return f"About {words.percent(rate)} of the labels look wrong (interval {words.percent_range(interval)}, {how})"


def lead(record: Record) -> str:
    """What the present noise costs, in one breath; empty where nothing can be told."""
    parts = []
    lost = _measure(record, "accuracy", "accuracy_lost")
    if lost is not None:
        parts.append(f"cost a linear model {_spanned(lost, _points)} of accuracy")
    ratio = _measure(record, "samples", "images_ratio_present")
    if ratio is not None:
        parts.append(f"removing them equals {_spanned(ratio, _times)} as many images")
    return f"They {'; '.join(parts)}." if parts else ""


def sentences(record: Record) -> dict[str, list[str]]:
    """What each diagnostic says, by its name, in order."""
    telling: dict[str, Callable[[Record], list[str]]] = {
        "accuracy": _accuracy,
        "relevance": _relevance,
        "complexity": _complexity,
        "samples": _samples,
        "frequencies": _frequencies,
    }
    return {
        name: [*tell(record), *record["diagnostics"][name]["withheld"]]
        for name, tell in telling.items()
        if name in record["diagnostics"]
    }


def _accuracy(record: Record) -> list[str]:
    told = []
    agreement = _measure(record, "accuracy", "agreement")
    if agreement is not None:
        told.append(f"Predictions agree with {_spanned(agreement, words.percent)} of the given labels, out of fold.")
    accuracy = _measure(record, "accuracy", "accuracy")
    if accuracy is not None:
        told.append(f"Of the true labels they meet about {_spanned(accuracy, words.percent)}.")
    ceiling = _measure(record, "accuracy", "ceiling")
    if ceiling is not None:
        told.append(f"No model can agree with more than {_spanned(ceiling, words.percent)}.")
    return told


def _relevance(record: Record) -> list[str]:
    told = []
    explained = _measure(record, "relevance", "explained_variance")
    left = _measure(record, "relevance", "explained_left")
    if explained is not None and left is not None:
        told.append(
            f"The classes explain {_spanned(explained, words.percent)} of a feature's variance; by theory the present "
            f"noise has left {_spanned(left, words.percent)} of what they would."
        )
    halves, shifted = (_measure(record, "relevance", name) for name in ("overlap_halves", "overlap_noise"))
    if halves is not None and shifted is not None:
        told.append(
            f"The best features of two halves overlap by {_spanned(halves, words.decimal)}; after 10 % more noise by "
            f"{_spanned(shifted, words.decimal)} with those of now."
        )
    return told


def _complexity(record: Record) -> list[str]:
    told = []
    vectors, leaves, freedom = (
        _measure(record, "complexity", f"{name}_ratio") for name in ("support_vectors", "leaves", "degrees_of_freedom")
    )
    if vectors is not None and leaves is not None and freedom is not None:
        told.append(
            f"With 10 % more wrong labels a linear machine keeps {_spanned(vectors, _times)} the support vectors, a "
            f"tree {_spanned(leaves, _times)} the leaves; the best linear model has {_spanned(freedom, _times)} the "
            "degrees of freedom."
        )
    memorised = _measure(record, "complexity", "memorised")
    if memorised is not None:
        told.append(
            f"A linear model memorises {_spanned(memorised, words.percent)} of the labels it contradicts unseen."
        )
    return told


def _samples(record: Record) -> list[str]:
    told = []
    ratio = _measure(record, "samples", "images_ratio_0.1")
    if ratio is not None:
        told.append(f"10 % more wrong labels would need {_spanned(ratio, _times)} the images for the same accuracy.")
    more, relabelled = (_measure(record, "samples", f"gain_of_{what}") for what in ("more_data", "relabelling"))
    if more is not None and relabelled is not None:
        told.append(
            f"10 % more images would gain {_spanned(more, _points)}; relabelling the 100 most suspicious "
            f"{_spanned(relabelled, _points)}. {_advice(more, relabelled)}"
        )
    return told


def _advice(more: Record, relabelled: Record) -> str:
    if relabelled["low"] > more["high"]:
        return "Relabel first."
    if more["low"] > relabelled["high"]:
        return "Collect first."
    return "Which is worth more is not settled."


def _frequencies(record: Record) -> list[str]:
    distance = _measure(record, "frequencies", "total_variation")
    if distance is None:
        return []
    told = [f"The shares of the classes are {_spanned(distance, _points)} off in all (total variation)."]
    rows = record["diagnostics"]["frequencies"]["curves"]["classes"]
    flagged = sorted(
        (row for row in rows if row["overcount"]["low"] > 0 or row["overcount"]["high"] < 0),
        key=lambda row: (-abs(row["overcount"]["value"]), row["class"]),
    )
    for row in flagged[:_MOST_NAMED]:
        over = row["overcount"]["value"] > 0
        told.append(
            f"{words.inline(row['name'])} is {'over' if over else 'under'}-counted by "
            f"{_spanned(row['overcount'], words.points if over else _mirrored)} points of all images."
        )
    if len(flagged) > _MOST_NAMED:
        more = len(flagged) - _MOST_NAMED
        told.append(
            f"{words.counted(more, 'more class', 'more classes')} {'is' if more == 1 else 'are'} counted wrongly."
        )
    if not flagged:
        told.append("No class stands out.")
    least = min(rows, key=lambda row: (row["purity"]["value"], row["class"]))
    pure = _spanned(least["purity"], words.percent)
    told.append(f"Least pure: of the images named {words.inline(least['name'])}, {pure} are.")
    return told


def measure_rows(diagnostic: Record) -> list[list[str]]:
    """A row a measure: name, value, interval or "exact", and what it rests on."""
    return [
        [
            measure["name"].replace("_", " "),
            words.decimal(measure["value"], 3),
            "exact" if measure.get("exact") else f"{words.decimal(measure['low'])} to {words.decimal(measure['high'])}",
            measure["assumption"],
        ]
        for measure in diagnostic["measures"]
    ]


def _measure(record: Record, diagnostic: str, name: str) -> Record | None:
    measures: Sequence[Record] = record["diagnostics"].get(diagnostic, {"measures": []})["measures"]
    return next((measure for measure in measures if measure["name"] == name), None)


def _spanned(measure: Record, show: Callable[[float], str]) -> str:
    """A value with its interval in the same unit, which stands once: 1.3 points (0.7 to 1.9)."""
    value = show(measure["value"])
    if measure.get("exact"):
        return f"{value} (exact)"
    low, high = (show(measure[end]).split(words.NO_BREAK)[0] for end in ("low", "high"))
    if show is _mirrored:
        low, high = high, low
    return f"{value} ({low} to {high})"


def _points(value: float) -> str:
    return f"{words.signed_points(value)}{words.NO_BREAK}points"


def _mirrored(value: float) -> str:
    return words.signed_points(-value)


def _times(value: float) -> str:
    return f"{value:.2f}{words.NO_BREAK}times"
