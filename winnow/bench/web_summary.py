"""What the web study found: a pure function of its result lines, however many of them are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from winnow.bench.cells import canonical
from winnow.bench.learner import Learner
from winnow.bench.mislabel_numbers import ByRepeat, binomial_error, estimate, interval, paired
from winnow.bench.mislabel_summary import machine_line
from winnow.bench.web_crawl import CRAWL
from winnow.bench.web_sets import STRATEGIES
from winnow.bench.web_words import part_name, sentences

Record = Mapping[str, Any]
Part = Mapping[str, Any]
_SETTINGS = (
    "data",
    "rank_column",
    "foreign_column",
    "likeness",
    "simulated",
    "seed",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "device",
    "precision",
)


def summarised(records: Sequence[Record]) -> dict[str, Any]:
    """Everything that tables, CSV and page show; JSON can hold it.

    Args:
        records: result lines of one study. Unfinished and failed cells are simply not there.
    """
    finished = [record for record in records if "result" in record]
    crawl = next((record["result"] for record in finished if record["config"]["part"]["name"] == CRAWL), None)
    trainings = [record for record in finished if record["config"]["part"]["name"] != CRAWL]
    found = _by_part(trainings)
    first = trainings[0]["config"] if trainings else None
    summary: dict[str, Any] = {
        "schema_version": 1,
        "command": "winnow study web",
        "settings": {name: first[name] for name in _SETTINGS} if first else {},
        "learner": Learner.of(first).name if first else None,
        "cells": len(trainings),
        "repeats": max((len(results) for _, results in found.values()), default=0),
        "failed": [
            {"part": part_name(record["config"]["part"]), "error": record["error"]}
            for record in records
            if "error" in record
        ],
        "seconds": round(sum(record.get("times", {}).get("seconds", 0.0) for record in finished), 1),
        "machines": sorted({machine_line(record) for record in finished}),
        "crawl": crawl,
        "rows": [_row(part, results, found) for part, results in found.values()],
        "copies": _copies(found),
        "caps": _caps(found),
        "annotation": _annotation(found),
        "noise": _noise(found),
    }
    return {**summary, "sentences": sentences(summary)}


Found = Mapping[str, tuple[Part, Mapping[int, Record]]]


def _by_part(trainings: Iterable[Record]) -> dict[str, tuple[Part, dict[int, Record]]]:
    found: dict[str, tuple[Part, dict[int, Record]]] = {}
    for record in trainings:
        part = record["config"]["part"]
        found.setdefault(canonical(part), (part, {}))[1][record["config"]["repeat"]] = record["result"]
    return found


def _accuracies(found: Found, part: Part, name: str = "test_accuracy_last") -> ByRepeat:
    _, results = found.get(canonical(part), (part, {}))
    return {repeat: result[name] for repeat, result in results.items() if result[name] is not None}


def reference(part: Part) -> Part | None:
    """What a part is measured against: the step before it, or the control that differs in one thing alone."""
    match part["name"]:
        case "without as many":
            return {"name": "raw"}
        case "decontaminated":
            return {"name": "without as many"}
        case "filtered":
            return {"name": "decontaminated"}
        case "cap" if part["by"] == "rank":
            return {**part, "by": "random"}
        case "noise" if part["kind"] != "none":
            return {"name": "noise", "kind": "none"}
        case "raw" | "noise":
            return None
    return {"name": "filtered"}


def _row(part: Part, results: Mapping[int, Record], found: Found) -> dict[str, Any]:
    accuracy = estimate([result["test_accuracy_last"] for result in results.values()])
    some = next(iter(results.values()))
    against = reference(part)
    if against is not None and canonical(against) not in found:
        against = {"name": "raw"} if part["name"] == "filtered" else None
    return {
        "part": dict(part),
        "name": part_name(part),
        "images": some["images"],
        "repeats": accuracy.repeats,
        **interval("accuracy", accuracy),
        "test_error": binomial_error(accuracy.mean, some["num_test"]),
        "against": part_name(against) if against else None,
        **_difference("change", found, part, against),
        "noise_left": some["noise_left"],
        "asked": some["asked"],
        "asked_wrong": sum(result["asked_wrong"] for result in results.values()) / len(results),
    }


def _difference(
    name: str, found: Found, part: Part, against: Part | None, measure: str = "test_accuracy_last"
) -> dict[str, Any]:
    """Part minus reference, paired by repeat."""
    values = paired(_accuracies(found, part, measure), _accuracies(found, against, measure)) if against else []
    return interval(name, estimate(values) if values else None)


def _copies(found: Found) -> dict[str, Any] | None:
    """What copies of test images do: against taking as many others away, and on the test images themselves."""
    part, control = {"name": "decontaminated"}, {"name": "without as many"}
    if not (_accuracies(found, part) and _accuracies(found, control)):
        return None
    result: dict[str, Any] = {"repeats": len(paired(_accuracies(found, part), _accuracies(found, control)))}
    measures = {"all": "test_accuracy_last", "copied": "accuracy_copied", "others": "accuracy_others"}
    for name, measure in measures.items():
        result |= _difference(f"change_{name}", found, part, control, measure)
        for which, each in (("with", control), ("without", part)):
            values = _accuracies(found, each, measure)
            result[f"{name}_{which}"] = estimate(list(values.values())).mean if values else None
    return result


def _caps(found: Found) -> list[dict[str, Any]]:
    rows = []
    for cap in sorted({part["images"] for part, _ in found.values() if part["name"] == "cap"}):
        by = {name: {"name": "cap", "images": cap, "by": name} for name in ("rank", "random")}
        values = {name: list(_accuracies(found, part).values()) for name, part in by.items()}
        if all(values.values()):
            rows.append(
                {
                    "cap": cap,
                    "images": next(iter(found[canonical(by["rank"])][1].values()))["images"],
                    **{
                        f"{name}_{key}": value
                        for name in by
                        for key, value in interval("accuracy", estimate(values[name])).items()
                    },
                    **_difference("gain", found, by["rank"], by["random"]),
                    **_difference("against_all", found, by["rank"], {"name": "filtered"}),
                    "noise_by_rank": next(iter(found[canonical(by["rank"])][1].values()))["noise_left"],
                }
            )
    return rows


def _annotation(found: Found) -> list[dict[str, Any]]:
    """Each budget and strategy: the gain over asking nobody, and over asking about random images."""
    rows = []
    budgets = sorted({part["budget"] for part, _ in found.values() if part["name"] == "annotated"})
    for budget in budgets:
        for by in STRATEGIES:
            part = {"name": "annotated", "budget": budget, "by": by}
            if values := list(_accuracies(found, part).values()):
                results = found[canonical(part)][1].values()
                rows.append(
                    {
                        "budget": budget,
                        "by": by,
                        "repeats": len(values),
                        **interval("accuracy", estimate(values)),
                        **_difference("gain", found, part, {"name": "filtered"}),
                        **_difference("over_random", found, part, {**part, "by": "random"} if by != "random" else None),
                        "wrong_found": sum(result["asked_wrong"] for result in results) / len(values),
                    }
                )
    return rows


def _noise(found: Found) -> list[dict[str, Any]]:
    base = {"name": "noise", "kind": "none"}
    if not _accuracies(found, base):
        return []
    start = next(iter(found[canonical(base)][1].values()))["images"]
    rows = []
    for part, results in found.values():
        if part["name"] == "noise" and part["kind"] != "none":
            rows.append(
                {
                    "kind": part["kind"],
                    "to": start,
                    "added": next(iter(results.values()))["images"] - start,
                    "repeats": len(results),
                    **interval("accuracy", estimate(list(_accuracies(found, part).values()))),
                    **_difference("change", found, part, base),
                }
            )
    return rows
