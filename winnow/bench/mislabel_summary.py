"""What the mislabelling study found: a pure function of its result lines, however many of them are there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from winnow.bench.learner import Learner
from winnow.bench.mislabel_cell import unpacked_mistakes
from winnow.bench.mislabel_data import BIASED, CLEAN, UNBIASED
from winnow.bench.mislabel_numbers import (
    ByRepeat,
    Estimate,
    PowerLaw,
    at_rate,
    bias_and_variance,
    binomial_error,
    contours,
    estimate,
    first_order_size,
    interval,
    paired,
    power_law,
    times_more,
    tipping_rate,
)
from winnow.bench.mislabel_words import sentence

Record = Mapping[str, Any]
_USUAL_RATE = 0.2
_SETTINGS = ("data", "seed", "batch_size", "learning_rate", "weight_decay", "device", "precision")
_MEANS = ("given_flipped", "true_flipped", "given_clean", "expected_calibration_error", "realised_rate")


@dataclass(frozen=True)
class Found:
    """Finished cells: (learner, kind, rate, size) -> repeat -> result. Clean labels are of kind `clean`."""

    results: Mapping[tuple[Learner, str, float, int], Mapping[int, Record]]

    @classmethod
    def of(cls, records: Iterable[Record]) -> Found:
        """From result lines, failed ones left out."""
        results: dict[tuple[Learner, str, float, int], dict[int, Record]] = {}
        for record in records:
            if "result" in record:
                config = record["config"]
                place = (Learner.of(config), config["kind"], config["rate"], config["size"])
                results.setdefault(place, {})[config["repeat"]] = record["result"]
        return cls({place: dict(sorted(results[place].items())) for place in results})

    @property
    def learners(self) -> list[Learner]:
        """In the order in which they first ran."""
        return list(dict.fromkeys(learner for learner, *_ in self.results))

    @property
    def kinds(self) -> list[str]:
        """Kinds of noise, unbiased and biased first; `clean` alone if there is no other."""
        kinds = sorted({kind for _, kind, *_ in self.results}, key=lambda k: (k != UNBIASED, k != BIASED, k))
        return [kind for kind in kinds if kind != CLEAN] or kinds

    @property
    def sizes(self) -> list[int]:
        """Ascending."""
        return sorted({size for *_, size in self.results})

    @property
    def rates(self) -> list[float]:
        """Ascending."""
        return sorted({rate for _, _, rate, _ in self.results})

    def cell(self, learner: Learner, kind: str, rate: float, size: int) -> Mapping[int, Record]:
        """Results of a condition by repeat; none if it has not run."""
        return self.results.get((learner, kind if rate else CLEAN, rate, size), {})

    def accuracies(self, learner: Learner, kind: str, rate: float, size: int) -> dict[int, float]:
        """Test accuracy at the last step by repeat."""
        return {r: result["test_accuracy_last"] for r, result in self.cell(learner, kind, rate, size).items()}

    def row(self, learner: Learner, kind: str, size: int) -> dict[float, ByRepeat]:
        """Accuracies of one size by rate."""
        every = {rate: self.accuracies(learner, kind, rate, size) for rate in self.rates}
        return {rate: values for rate, values in every.items() if values}

    def column(self, learner: Learner, kind: str, rate: float) -> tuple[list[int], list[float]]:
        """Sizes at which a rate was measured, and the mean accuracies there."""
        every = {size: self.accuracies(learner, kind, rate, size) for size in self.sizes}
        measured = {size: estimate(list(values.values())).mean for size, values in every.items() if values}
        return list(measured), list(measured.values())


def summarised(records: Sequence[Record]) -> dict[str, Any]:
    """Everything that tables, CSV and page show; JSON can hold it.

    Args:
        records: result lines of one study. Unfinished and failed cells are simply not there.
    """
    found = Found.of(records)
    finished = [record for record in records if "result" in record]
    first = finished[0] if finished else None
    classes: int = first["result"]["num_classes"] if first else 0
    halving = [row for learner in found.learners for kind in found.kinds for row in _halving(found, learner, kind)]
    answers = _answers(halving, found)
    kinds = [kind for kind in found.kinds if kind != CLEAN]
    return {
        "schema_version": 1,
        "command": "winnow study mislabel",
        "settings": {name: first["config"][name] for name in _SETTINGS} if first else {},
        "map": next((record["config"]["map"] for record in finished if record["config"]["map"]), None),
        "num_classes": classes or None,
        "num_test": first["result"]["num_test"] if first else None,
        "learners": [
            {**asdict(learner), "name": learner.name, "short": short}
            for learner, short in zip(found.learners, _short_names(found.learners), strict=True)
        ],
        "kinds": kinds,
        "sizes": found.sizes,
        "rates": found.rates,
        "tipping_rates": {kind: tipping_rate(kind, classes) for kind in kinds} if classes else {},
        "cells": len(finished),
        "failed": [
            {"condition": _named(record["config"]), "error": record["error"]} for record in records if "error" in record
        ],
        "repeats": max((len(cell) for cell in found.results.values()), default=0),
        "seconds": round(sum(record.get("times", {}).get("seconds", 0.0) for record in finished), 1),
        "machines": sorted({machine_line(record) for record in finished}),
        "answer": answers[0] if answers else None,
        "answers": answers,
        "rows": [row for learner in found.learners for row in _conditions(found, learner, classes)],
        "halving": halving,
        "differences": [row for learner in found.learners for row in _differences(found, learner)],
        "contours": [row for learner in found.learners for kind in kinds for row in _contours(found, learner, kind)],
        "curves": [row for learner in found.learners for kind in kinds for row in _curves(found, learner, kind)],
    }


def _short_names(learners: Sequence[Learner]) -> list[str]:
    """What tells the learners apart, such as their networks alone."""
    parts = [learner.name.split(", ") for learner in learners]
    telling = [place for place, values in enumerate(zip(*parts, strict=True)) if len(set(values)) > 1]
    return [", ".join(each[place] for place in telling) or each[0] for each in parts]


def _named(config: Mapping[str, Any]) -> str:
    place = f"{config['size']:,} images, {100 * config['rate']:g} % {config['kind']}, repeat {config['repeat']}"
    return f"{Learner.of(config).name}, {place}"


def machine_line(record: Record) -> str:
    """Where a cell ran, in a line."""
    machine = record.get("machine", {})
    names = ("cpu", "cores", "python", "torch", "commit")
    return ", ".join(f"{name} {machine[name]}" for name in names if machine.get(name))


def _mean(results: Iterable[Record], name: str) -> float | None:
    values = [result[name] for result in results if result[name] is not None]
    return sum(values) / len(values) if values else None


def _conditions(found: Found, learner: Learner, num_classes: int) -> list[dict[str, Any]]:
    rows = []
    law = power_law(*found.column(learner, CLEAN, 0.0))
    for kind in found.kinds:
        for size in found.sizes:
            for rate in found.rates:
                cell = found.cell(learner, kind, rate, size)
                if not cell:
                    continue
                last = estimate([result["test_accuracy_last"] for result in cell.values()])
                best = estimate([result["test_accuracy_best"] for result in cell.values()])
                num_test = next(iter(cell.values()))["num_test"]
                errors = bias_and_variance([unpacked_mistakes(result["mistakes"]) for result in cell.values()])
                guide = first_order_size(size, rate, num_classes) if kind == UNBIASED else None
                rows.append(
                    {
                        "learner": learner.name,
                        "kind": kind,
                        "size": size,
                        "rate": rate,
                        "repeats": last.repeats,
                        **interval("accuracy", last),
                        "test_error": binomial_error(last.mean, num_test),
                        "best_accuracy": best.mean,
                        "bias": errors[0] if errors else None,
                        "variance": errors[1] if errors else None,
                        **(_effective(law, last, found.sizes) if rate else _own_size(size)),
                        "first_order_size": guide,
                        **{name: _mean(cell.values(), name) for name in _MEANS},
                    }
                )
    return rows


def _own_size(size: int) -> dict[str, Any]:
    return {
        "effective_size": size,
        "effective_low": None,
        "effective_high": None,
        "effective_is": "itself",
        "effective_floor": None,
    }


def _effective(law: PowerLaw | None, accuracy: Estimate, sizes: Sequence[int]) -> dict[str, Any]:
    """The number of clean labels that are worth as much, and how far that is to be trusted.

    `effective_is`: `measured` within the sizes of the clean row, `below` its smallest (`effective_floor`), where the
    curve is a guess, `extrapolated` above, `unbounded` where it never comes so high, `unknown` without a curve.
    """

    def size(value: float | None) -> float | None:
        found = law.size(value) if law and value is not None else math.inf
        return found if math.isfinite(found) else None

    worth = size(accuracy.mean)
    if law is None:
        trust = "unknown"
    elif worth is None:
        trust = "unbounded"
    elif worth < sizes[0]:
        trust = "below"
    else:
        trust = "measured" if worth <= sizes[-1] else "extrapolated"
    return {
        "effective_size": worth,
        "effective_low": size(accuracy.low),
        "effective_high": size(accuracy.high),
        "effective_is": trust,
        "effective_floor": sizes[0],
    }


def _halving(found: Found, learner: Learner, kind: str) -> list[dict[str, Any]]:
    """From every measured point: what half of the wrong labels would be worth, in accuracy and in images."""
    rows = []
    for rate in found.rates:
        if not rate:
            continue
        sizes, means = found.column(learner, kind, rate)
        for size in sizes:
            row = found.row(learner, kind, size)
            gains = paired(at_rate(row, rate / 2), row[rate])
            if not gains:
                continue
            gain = estimate(gains)
            times = times_more(sizes, means, size, gain.mean)
            ends = [times_more(sizes, means, size, end) if end is not None else None for end in (gain.low, gain.high)]
            rows.append(
                {
                    "learner": learner.name,
                    "kind": kind,
                    "size": size,
                    "rate": rate,
                    "repeats": gain.repeats,
                    "interpolated": rate / 2 not in row,
                    **interval("gain", gain),
                    "times": times.value if times and math.isfinite(times.value) else None,
                    **{
                        f"times_{name}": end.value if end and math.isfinite(end.value) else None
                        for name, end in zip(("low", "high"), ends, strict=True)
                    },
                    "times_is": _trust(times),
                    "times_high_is": _trust(ends[1]),
                }
            )
    return rows


def _trust(times: Any) -> str:
    if times is None:
        return "unknown"
    if not math.isfinite(times.value):
        return "unbounded"
    return "measured" if times.measured else "extrapolated"


def _differences(found: Found, learner: Learner) -> list[dict[str, Any]]:
    """Biased minus unbiased, paired by repeat."""
    rows = []
    for size in found.sizes:
        for rate in found.rates:
            if not rate:
                continue
            biased, unbiased = (found.accuracies(learner, kind, rate, size) for kind in (BIASED, UNBIASED))
            if values := paired(biased, unbiased):
                found_difference = estimate(values)
                rows.append(
                    {
                        "learner": learner.name,
                        "size": size,
                        "rate": rate,
                        "repeats": found_difference.repeats,
                        **interval("difference", found_difference),
                    }
                )
    return rows


def _contours(found: Found, learner: Learner, kind: str) -> list[dict[str, Any]]:
    """Lines of equal accuracy, where the grid of a learner and kind is complete."""
    every = {(size, rate): found.accuracies(learner, kind, rate, size) for size in found.sizes for rate in found.rates}
    if len(found.sizes) < 2 or len(found.rates) < 2 or not all(every.values()):
        return []
    means = {place: estimate(list(values.values())).mean for place, values in every.items()}
    lines = contours(found.sizes, found.rates, means, [percent / 100 for percent in range(10, 100, 10)])
    return [
        {"learner": learner.name, "kind": kind, "level": level, "points": points}
        for level, points in lines.items()
        if len(points) > 1
    ]


def _curves(found: Found, learner: Learner, kind: str) -> list[dict[str, Any]]:
    """Memorising on the way of the training, means over the repeats, at the usual rate."""
    rate = min((rate for rate in found.rates if rate), key=lambda each: abs(each - 2 * _USUAL_RATE), default=0.0)
    rows = []
    for size in found.sizes:
        cell = found.cell(learner, kind, rate, size)
        steps = sorted({mark["step"] for result in cell.values() for mark in result["curve"]})
        for step in steps:
            marks = [mark for result in cell.values() for mark in result["curve"] if mark["step"] == step]
            rows.append(
                {
                    "learner": learner.name,
                    "kind": kind,
                    "size": size,
                    "rate": rate,
                    "step": step,
                    **{name: _mean(marks, name) for name in ("given_flipped", "true_flipped", "given_clean")},
                }
            )
    return rows


def _answers(halving: Sequence[Mapping[str, Any]], found: Found) -> list[dict[str, Any]]:
    """One exchange rate a learner and kind: at the usual rate, and at the largest size that can be told for sure."""
    chosen = []
    for learner in found.learners:
        for kind in found.kinds:
            rows = [row for row in halving if (row["learner"], row["kind"]) == (learner.name, kind)]
            if not rows:
                continue
            rate = min((abs(row["rate"] - _USUAL_RATE), row["rate"]) for row in rows)[1]
            rows = [row for row in rows if row["rate"] == rate]
            sure = [row for row in rows if row["times_is"] == "measured"]
            row = max(sure or rows, key=lambda each: each["size"])
            chosen.append({**row, "sentence": sentence(row)})
    return chosen
