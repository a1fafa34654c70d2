"""The leaderboard page: made from recorded results and nothing else, every number a link to its record.

`scripts/build_docs.py --write` writes it, and its check fails where the page is behind the records. Records are, under
`benchmarks/results/`: `accuracy-*.jsonl` (`python -m benchmarks.accuracy`), `relations/*.json` (`make relations`) and
`bench/*.jsonl`, results files of `winnow bench` as it leaves them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.bench.comparison import data_label, labelled, noise_label
from winnow.bench.results import read_records

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("benchmarks/results")
_AS_GIVEN = "labels as given"
# What `benchmarks.accuracy` trains, which its lines do not repeat.
_ACCURACY = {
    "cifar10": ("cifar10, 10,000 images", "the default network, 20 epochs"),
    "mnist": ("mnist, 5,000 images", "mlp, 20 epochs"),
}
_CASES = {"clean": _AS_GIVEN, "worse": f"{_AS_GIVEN} (cifar10n:worse)"}


@dataclass(frozen=True)
class Line:
    """One recorded training.

    Attributes:
        data: the collection.
        training: network and epochs, for people.
        labels: the noise.
        method: with its options.
        seed: of the training.
        accuracy: on the test images at the last epoch, a fraction.
        made: the commit, perhaps with a date.
    """

    data: str
    training: str
    labels: str
    method: str
    seed: int
    accuracy: float
    made: str


def page(root: Path = ROOT) -> str:
    """The content of the page."""
    lines = [
        "<!-- Made by scripts/leaderboard.py from benchmarks/results: record more, then build_docs.py --write. -->",
        "",
        "# Leaderboard",
        "",
        "Test accuracy in % at the **last** epoch, on true labels: the mean over the seeds, their range and how many",
        "there are. Every number leads to the file that records it. Within a section all were made in one way and can",
        "be compared; from section to section they cannot. Cross-entropy, plain and averaged, is the control.",
        "What is recorded under `benchmarks/results/` comes to stand here; [winnow bench](bench.md) makes more.",
        "",
    ]
    for path, recorded in records(root):
        for (data, training), chosen in _grouped(recorded, lambda line: (line.data, line.training)).items():
            lines += [f"## {data}: {training}", "", *_table(path, chosen), ""]
    return "\n".join(lines)


def records(root: Path) -> Iterator[tuple[Path, list[Line]]]:
    """The record files, relative to the repository, and the trainings that they tell of."""
    folder = root / RESULTS
    for path in sorted(folder.glob("accuracy-*.jsonl")):
        yield path.relative_to(root), list(_accuracy(path))
    for path in sorted((folder / "bench").glob("*.jsonl")):
        yield path.relative_to(root), list(_bench(path))
    for path in sorted((folder / "relations").glob("*.json")):
        yield path.relative_to(root), list(_relations(path))


def _accuracy(path: Path) -> Iterator[Line]:
    data, training = _ACCURACY[path.stem.removeprefix("accuracy-")]
    for text in path.read_text(encoding="utf-8").splitlines():
        run = json.loads(text)
        labels = _CASES.get(run["case"], run["case"])
        yield Line(data, training, labels, run["method"], run["seed"], run["test_accuracy_last"], run["commit"])


def _bench(path: Path) -> Iterator[Line]:
    for record in read_records(path):
        if "result" not in record or record["result"].get("test_accuracy_last") is None:
            continue
        config, result = record["config"], record["result"]
        yield Line(
            data_label(config["data"]),
            _training(result),
            noise_label(config["noise"]),
            labelled(config["method"], config["options"]),
            config["seed"],
            result["test_accuracy_last"],
            _made(record["machine"].get("commit"), record["finished"]),
        )


def _relations(path: Path) -> Iterator[Line]:
    record = json.loads(path.read_text(encoding="utf-8"))
    training = {part["data"]: _training(part) for part in record["training"]}
    for row in record["rows"]:
        for seed, accuracy in zip(row["seeds"], row["test_accuracy_last"], strict=True):
            made = _made(record["commit"], record["date"])
            yield Line(row["data"], training[row["data"]], row["noise"], row["method"], seed, accuracy, made)


def _training(settings: Mapping[str, Any]) -> str:
    epochs = f"{settings['epochs']} epochs" if settings.get("epochs") else "the default number of epochs"
    return f"{settings.get('model') or 'the default network'}, {epochs}"


def _made(commit: str | None, when: str) -> str:
    return f"{commit or 'no commit'}, {when[:10]}"


def _table(path: Path, chosen: Sequence[Line]) -> Iterator[str]:
    """The methods under each noise, the best first; among equals in the order of the record."""
    link = f"../{path.as_posix()}"
    yield f"Record: [{path.name}]({link}), {'; '.join(sorted({line.made for line in chosen}))}."
    yield ""
    yield "| labels | method | last epoch | over seeds |"
    yield "|---|---|---|---|"
    for labels, under in _grouped(chosen, lambda line: line.labels).items():
        methods = {
            method: [line.accuracy for line in lines] for method, lines in _grouped(under, lambda x: x.method).items()
        }
        for method, values in sorted(methods.items(), key=lambda item: -statistics.fmean(item[1])):
            spread = f"{100 * min(values):.1f} to {100 * max(values):.1f} ({len(values)})"
            yield f"| {labels} | {method} | [{100 * statistics.fmean(values):.1f}]({link}) | {spread} |"


def _grouped(lines: Sequence[Line], key: Any) -> dict[Any, list[Line]]:
    groups: dict[Any, list[Line]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups
