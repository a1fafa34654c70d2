"""From the lines of a results file to comparisons: means over seeds, their spread, differences seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from winnow.bench.cells import canonical
from winnow.bench.results import Record
from winnow.report import words

LEADS = "test_accuracy_last"
MEASURES = (
    LEADS,
    "test_accuracy_best",
    "given_label_agreement",
    "given_label_accuracy",
    "label_quality_auroc",
    "corrected_label_accuracy",
    "outlier_auroc",
)
"""What a table may show; the first one leads."""


@dataclass(frozen=True)
class Row:
    """One method under one condition.

    Attributes:
        method: with its options.
        records: the finished ones, by seed.
        control: the method that it is measured against; None for the plain control.
        cells: how many seeds were asked for.
    """

    method: str
    records: Mapping[int, Record]
    control: str | None
    cells: int

    def values(self, measure: str = LEADS) -> dict[int, float]:
        """What was measured, by seed; seeds without it are left out."""
        found = {seed: record["result"].get(measure) for seed, record in self.records.items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}

    def mean(self, measure: str = LEADS) -> float | None:
        """Mean over the seeds."""
        values = self.values(measure)
        return statistics.fmean(values.values()) if values else None

    def deviation(self, measure: str = LEADS) -> float | None:
        """Standard deviation over the seeds, of which at least two are needed."""
        values = self.values(measure)
        return statistics.stdev(values.values()) if len(values) > 1 else None

    def over(self, seeds: Collection[int]) -> Row:
        """The same method over some seeds alone."""
        return replace(self, records={seed: record for seed, record in self.records.items() if seed in seeds})

    def time(self, name: str) -> float | None:
        """Mean of something under `times`."""
        found = [record["times"][name] for record in self.records.values() if record["times"].get(name) is not None]
        return statistics.fmean(found) if found else None


@dataclass(frozen=True)
class Condition:
    """One collection with one noise, trained on in one way.

    Attributes:
        data: the collection's name.
        noise: such as `symmetric 0.4`, or `labels as given`.
        kind: of the noise; `none` without.
        rate: of the noise as it was asked for; 0 without.
        rows: the methods, in the order of the grid.
    """

    data: str
    noise: str
    kind: str
    rate: float
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        """Such as `mnist, 5,000 images: symmetric 0.5`."""
        return f"{self.data}: {self.noise}"

    def row(self, method: str) -> Row | None:
        """The row of a method."""
        return next((row for row in self.rows if row.method == method), None)

    def differences(self, row: Row, measure: str = LEADS) -> list[float]:
        """A method minus its control, seed by seed: both saw the same labels and the same batches of seeds."""
        control = self.row(row.control) if row.control else None
        if control is None:
            return []
        ours, theirs = row.values(measure), control.values(measure)
        return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]

    @property
    def ranked(self) -> list[Row]:
        """The rows with an accuracy, the best over the seeds of `fair` first; equals stay in their order."""
        means = {row.method: row.mean() or 0.0 for row in self.fair.rows}
        return sorted((row for row in self.rows if row.values()), key=lambda row: -means[row.method])

    @property
    def fair(self) -> Condition:
        """The same over the seeds that every method with an accuracy has: one that is further on is not better."""
        seeds = [set(row.values()) for row in self.rows if row.values()]
        common = set.intersection(*seeds) if seeds else set()
        return replace(self, rows=[row.over(common) for row in self.rows])

    @property
    def realised(self) -> str:
        """How the noise came out and what its rate is a share of."""
        noises = [record["result"]["noise"] for row in self.rows for record in row.records.values()]
        if not noises:
            return ""
        rates = sorted({noise["realised_rate"] for noise in noises if noise.get("realised_rate") is not None})
        conventions = list(dict.fromkeys(noise["convention"] for noise in noises))
        convention: str = conventions[0] + (" (one of the seeds)" if len(conventions) > 1 else "")
        if not rates:
            return "" if convention == self.noise else convention
        share = words.percent(rates[0])
        if rates[-1] - rates[0] > 0.0005:
            share = f"{words.percent_number(rates[0])} to {words.percent(rates[-1])}"
        return f"{share} of all labels wrong; {convention}"


def compared(
    records: Sequence[Record], controls: Mapping[str, str], *, methods: Sequence[str] = (), seeds: int = 0
) -> list[Condition]:
    """The comparisons in some records, in their order; a function of its arguments alone.

    Args:
        records: of a grid, finished and failed ones.
        controls: by the label of a method that of its control.
        methods: labels of those that were asked for; they have a row in every condition, whether they ran or not.
        seeds: how many were asked for; by default as many as there are records.
    """
    groups: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        config = record["config"]
        noise = {name: value for name, value in config["noise"].items() if name != "seed"}
        group = groups.setdefault(canonical([config["data"], noise, config["train"]]), {})
        group.setdefault(labelled(config["method"], config["options"]), []).append(record)
    conditions = []
    for group in groups.values():
        first = next(iter(group.values()))[0]["config"]
        rows = [
            Row(
                method,
                {record["config"]["seed"]: record for record in found if "result" in record},
                controls.get(method),
                max(seeds, len(found)),
            )
            for method, found in {**{each: [] for each in methods}, **group}.items()
        ]
        noise = first["noise"]
        conditions.append(
            Condition(data_label(first["data"]), noise_label(noise), noise["kind"], noise.get("rate", 0.0), rows)
        )
    return conditions


def labelled(method: str, options: Mapping[str, Any]) -> str:
    """A method and its options, by name, in one line, such as `cross-entropy averaging=true`."""
    return " ".join([method, *(option_text(name, value) for name, value in sorted(options.items()))])


def option_text(name: str, value: Any) -> str:
    """An option as it is typed, such as `averaging=true`."""
    return f"{name}={_shown(value)}"


def data_label(opening: Mapping[str, Any]) -> str:
    """A collection in words."""
    images = f", {opening['limit']:,} images" if opening.get("limit") else ""
    column = f", labels {opening['label_column']}" if opening.get("label_column") else ""
    classes = f", classes {' '.join(opening['classes'])}" if opening.get("classes") else ""
    return f"{opening['data']}{images}{column}{classes}"


def noise_label(noise: Mapping[str, Any]) -> str:
    """A noise in words."""
    if noise["kind"] == "none":
        return "labels as given" + (f", {noise['verified']} verified" if "verified" in noise else "")
    others = [
        option_text(name.replace("class_map", "map"), value)
        for name, value in noise.items()
        if name not in ("kind", "rate", "seed")
    ]
    return " ".join([noise["kind"], f"{noise['rate']:g}", *others])


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
