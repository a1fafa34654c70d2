"""The page of a grid: a function of its records and of what the grid says of itself."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from winnow.bench.comparison import Condition, Row, labelled, noise_label, option_text
from winnow.bench.grid import Grid
from winnow.bench.headline import leader, sentence
from winnow.bench.phrases import signed, unbreakable
from winnow.bench.plots import cost_plot, noise_plot
from winnow.bench.results import Record
from winnow.bench.table import difference, missing
from winnow.bench.verdicts import Verdict, judged
from winnow.report import words
from winnow.report.figures import Figure
from winnow.report.page import Next, render, write_page
from winnow.report.plots import seeds_plot
from winnow.report.progress import curves

_COLUMNS = (
    "method",
    "last epoch",
    "over seeds",
    "against its control",
    "best",
    "AUROC",
    "labels right",
    "training",
    "peak memory",
)
_MOST_FAILURES = 50


@dataclass(frozen=True)
class Memorising:
    """Curves of one condition: those shown at once, and the others."""

    title: str
    first: list[Figure]
    more: list[Figure]


def write_bench_page(path: Path, grid: Grid, records: Sequence[Record]) -> Path:
    """Writes the page.

    Args:
        path: the file.
        grid: what was asked for.
        records: of its cells, finished and failed ones, in the order of the grid.

    Raises:
        MachineError: it cannot be written.
    """
    return write_page(path, render("bench.html", **page_values(grid, records)))


def page_values(grid: Grid, records: Sequence[Record]) -> dict[str, Any]:
    """What the template shows."""
    conditions = [condition for condition in grid.compared(records) if condition.ranked]
    done = sum("result" in record for record in records)
    seeds = " ".join(map(str, grid.seeds))
    return {
        "title": unbreakable(f"winnow bench: {grid.title}"),
        "small_line": f"winnow bench {grid.name} · {words.counted(done, 'cell')} · seeds {seeds}",
        "headline": unbreakable(sentence(conditions, grid.num_cells)),
        "lead": unbreakable(grid.about if grid.title == grid.name else f"{grid.title}. {grid.about}".strip()),
        "next": Next(_training(leader(conditions)), "the same on your own images"),
        "columns": list(_COLUMNS),
        "conditions": [
            {
                "title": condition.title,
                "realised": unbreakable(condition.realised),
                "rows": [_row(condition, row) for row in condition.rows],
            }
            for condition in conditions
        ],
        "relations": [_relation(verdict) for verdict in judged(grid.relations, conditions)],
        "published": [_published(item, conditions) for item in grid.published],
        "noise_plots": _noise_plots(conditions),
        "cost_plots": [plot for condition in conditions if (plot := cost_plot(condition)) is not None],
        "memorising": [group for condition in conditions if (group := _memorising(condition)) is not None],
        "failures": _failures(records),
        "made": _made(grid, records),
    }


def _training(row: Row | None) -> str:
    """The command that trains as a row's cells did, its options included."""
    config: Mapping[str, Any] = {"method": "winnow", "options": {}}
    if row:
        config = next(iter(row.records.values()))["config"]
    options = [f"--set {shlex.quote(option_text(name, value))}" for name, value in sorted(config["options"].items())]
    return " ".join(["winnow train FOLDER --method", shlex.quote(config["method"]), *options])


def _row(condition: Condition, row: Row) -> list[str]:
    values = list(row.values().values())
    gains = condition.differences(row)
    memory = row.time("peak_memory_bytes")
    return [
        row.method + missing(row),
        words.percent(row.mean()),
        words.percent_range(values) if len(values) > 1 else words.NONE,
        difference(gains) if gains else words.NONE,
        words.percent(row.mean("test_accuracy_best")),
        words.area(row.mean("label_quality_auroc")),
        words.percent(row.mean("corrected_label_accuracy")),
        words.duration(row.time("training_seconds")),
        words.NONE if memory is None else f"{memory / 2**20:,.0f}{words.NO_BREAK}MB",
    ]


def _relation(verdict: Verdict) -> list[str]:
    return [
        unbreakable(verdict.claim),
        verdict.word,
        words.NONE if verdict.measured is None else signed(verdict.measured),
        _bound(verdict),
        " ".join(map(signed, verdict.differences)) or words.NONE,
    ]


def _bound(verdict: Verdict) -> str:
    least, most = verdict.at_least, verdict.at_most
    asked = f"at most {signed(most)}" if most is not None else signed(least or 0.0)
    return asked + (" each" if verdict.each else "")


def _published(item: Mapping[str, Any], conditions: Sequence[Condition]) -> list[str]:
    noise = noise_label(item["noise"]) if isinstance(item.get("noise"), Mapping) else str(item.get("noise", ""))
    ours = next(
        (
            row.mean()
            for condition in conditions
            if condition.noise == noise and item.get("data") in (None, condition.data.split(",")[0])
            for row in condition.rows
            if row.method == item.get("method")
        ),
        None,
    )
    return [
        str(item.get("method", "")),
        noise,
        words.percent(item.get("accuracy")),
        words.percent(ours),
        unbreakable(str(item.get("source", ""))),
        unbreakable(str(item.get("differs", ""))),
    ]


def _noise_plots(conditions: Sequence[Condition]) -> list[Figure]:
    """One plot a collection and kind of noise; clean labels belong to every kind. A single rate shows its seeds."""
    groups: dict[tuple[str, str], list[Condition]] = {}
    for condition in conditions:
        if condition.kind != "none":
            groups.setdefault((condition.data, condition.noise.replace(f" {condition.rate:g}", "", 1)), []).append(
                condition
            )
    figures = []
    covered: set[int] = set()
    for (data, _), group in groups.items():
        clean = [c for c in conditions if c.kind == "none" and c.data == data]
        together = [*clean[:1], *group]
        if len({condition.rate for condition in together}) > 1:
            figures.append(noise_plot(together))
            covered |= {id(condition) for condition in together}
    for condition in conditions:
        if id(condition) not in covered:
            figures += [figure] if (figure := _seeds(condition)) is not None else []
    return figures


def _seeds(condition: Condition) -> Figure | None:
    seeds = sorted({seed for row in condition.rows for seed in row.values()})
    whole = {row.method: row.values() for row in condition.ranked if set(row.values()) == set(seeds)}
    if not whole:
        return None
    lines: dict[str, Sequence[float]] = {method: [values[seed] for seed in seeds] for method, values in whole.items()}
    best = max(lines, key=lambda method: statistics.fmean(lines[method]))
    leads = "leads with" if len(lines) > 1 else "reaches"
    description = f"{words.short(best)} {leads} {words.percent(statistics.fmean(lines[best]))}."
    return seeds_plot(words.short(condition.title, 60), description, lines, seeds)


def _memorising(condition: Condition) -> Memorising | None:
    figures = {}
    for row in condition.rows:
        seed = min(row.records, default=None)
        if seed is None:
            continue
        found = row.records[seed]["result"]["curves"]
        names = [name for name in found if name != "epoch"]
        epochs = [
            {"epoch": epoch, **{name: found[name][place] for name in names}}
            for place, epoch in enumerate(found["epoch"])
        ]
        if len(epochs) > 1 and (figure := curves(epochs)) is not None:
            figures[row.method] = replace(figure, title=f"{words.short(row.method)}, seed {seed}")
    if not figures:
        return None
    best = condition.ranked[0]
    rival = best.control or next((row.method for row in condition.ranked[1:]), None)
    at_once = [method for method in (rival, best.method) if method in figures]
    return Memorising(
        condition.title,
        [figures[method] for method in at_once if method],
        [figure for method, figure in figures.items() if method not in at_once],
    )


def _failures(records: Sequence[Record]) -> list[list[str]]:
    failed = [record for record in records if "error" in record]
    rows = [
        [
            f"{labelled(record['config']['method'], record['config']['options'])}, "
            f"{record['config']['data']['data']}, {noise_label(record['config']['noise'])}",
            str(record["config"]["seed"]),
            words.visible(record["error"]),
        ]
        for record in failed[:_MOST_FAILURES]
    ]
    return rows + ([[f"{len(failed) - _MOST_FAILURES} more", "", ""]] if len(failed) > _MOST_FAILURES else [])


def _made(grid: Grid, records: Sequence[Record]) -> list[list[str]]:
    done = [record for record in records if "result" in record]

    def each(name: str) -> str:
        return ", ".join(dict.fromkeys(str(record["machine"].get(name)) for record in records)) or words.NONE

    rows = [
        ["cells", f"{len(done)} finished, {sum('error' in record for record in records)} failed"],
        ["seeds", " ".join(map(str, grid.seeds))],
        ["machine", f"{each('cpu')}; {each('cores')} cores, one thread a training"],
        ["versions", f"winnow {each('winnow')}, torch {each('torch')}, Python {each('python')}"],
        ["commit", each("commit")],
        ["code of the cells", ", ".join(dict.fromkeys(record["code"] for record in records)) or words.NONE],
    ]
    for part in grid.parts:
        chosen = ", ".join(f"{name} {value}" for name, value in part.train.items())
        rows.append([f"training on {part.opening['data']}", chosen])
    models = dict.fromkeys(
        f"{r['result']['model']} {r['result']['image_size']} px, {r['result']['epochs']} epochs, "
        f"batches of {r['result']['batch_size']}, learning rate {r['result']['learning_rate']:g}"
        for r in done
    )
    rows.append(["networks", "; ".join(models) or words.NONE])
    total = sum(record["times"].get("seconds", 0.0) for record in done)
    rows.append(["time of all cells", words.duration(total)])
    return rows
