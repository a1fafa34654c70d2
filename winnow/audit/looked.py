"""What an audit has seen, and what of it is written down: tables, a blind sample, the summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from winnow import __version__
from winnow.audit.annotators import Consensus
from winnow.audit.blind import drawn
from winnow.audit.cells import CellBeliefs
from winnow.audit.findings import Found, LabelBeliefs, Remark
from winnow.audit.folder import FINDINGS, LABELS, AuditFolder
from winnow.audit.settings import AuditSettings
from winnow.audit.summary import found_numbers, noise_numbers, truth_numbers
from winnow.audit.tables import findings_table, reasons_by_row, rows_by_kind
from winnow.data.collection import Collection
from winnow.data.source import Source
from winnow.labels.table import labels_table, write_table
from winnow.noise.describe import NoiseKind
from winnow.train.record import Stages


@dataclass(frozen=True)
class Looked:
    """What is known of the readable images; rows count in the collection.

    Attributes:
        collection: their pixels.
        labels: their labels, (n,) or (n, K); the consensus where several people labelled.
        features: where their features come from, in a sentence.
        group: of copies that each belongs to, -1 = none.
        outlier_score: how unlike all others each is, in [0, 1].
        beliefs: about their labels; None where there are none to judge.
        found: everything found on single images, in rows of the source.
        remarks: about the whole.
        kind: what kind of noise it is; None where labels were not judged, or an image may have several classes.
        people: where several people labelled.
    """

    collection: Collection
    labels: np.ndarray
    features: str
    group: np.ndarray
    outlier_score: np.ndarray
    beliefs: LabelBeliefs | CellBeliefs | None
    found: tuple[Found, ...]
    remarks: tuple[Remark, ...]
    kind: NoiseKind | None
    people: Consensus | None


def write_tables(source: Source, test: Source | None, looked: Looked, folder: AuditFolder) -> None:
    """Writes `labels.parquet` and `findings.parquet`."""
    num, labels = len(source), looked.labels
    beliefs, collection = looked.beliefs, looked.collection
    nothing = np.full(labels.shape, np.nan)
    quality = nothing if beliefs is None else beliefs.label_quality
    suggested = np.full_like(labels, -1) if beliefs is None else beliefs.suggested_label.astype(labels.dtype)
    probability = nothing if beliefs is None else beliefs.suggested_probability
    suggested = spread(suggested, collection, num, -1)
    group = spread(looked.group, collection, num, -1)
    table = labels_table(
        ids=source.ids,
        class_names=source.class_names,
        given_label=source.noisy_labels,
        label_quality=spread(quality, collection, num, np.nan),
        suggested_label=suggested,
        suggested_probability=spread(probability, collection, num, np.nan),
        outlier_score=spread(looked.outlier_score, collection, num, np.nan),
        found=rows_by_kind(looked.found),
        reasons=reasons_by_row(looked.found),
        duplicate_group=group,
    )
    write_table(table, folder.path / LABELS)
    one_class = np.full(num, -1)
    findings = findings_table(
        looked.found,
        ids=source.ids,
        test_ids=test.ids if test is not None else (),
        given_label=one_class if source.is_multilabel else source.noisy_labels,
        suggested_label=one_class if source.is_multilabel else suggested,
        duplicate_group=group,
    )
    write_table(findings, folder.path / FINDINGS)


def blind_sample(source: Source, looked: Looked, settings: AuditSettings) -> np.ndarray:
    """Rows drawn among the readable, labelled, unverified images that are not flagged."""
    if not settings.blind or looked.beliefs is None or source.is_multilabel:
        return np.empty(0, np.int64)
    candidate = (looked.labels >= 0) & ~looked.beliefs.is_issue
    if source.verified is not None:
        candidate &= ~source.verified[looked.collection.rows]
    return drawn(looked.collection.rows[candidate], source.ids, settings.blind, settings.seed)


def people_record(votes: Mapping[str, np.ndarray], people: Consensus | None) -> list[dict[str, Any]]:
    """How often each person is right."""
    if people is None:
        return []
    return [
        {
            "name": name,
            "labels": int(people.counts[a]),
            "quality": round(float(people.quality[a]), 6),
            "low": round(float(people.quality_interval[a, 0]), 6),
            "high": round(float(people.quality_interval[a, 1]), 6),
        }
        for a, name in enumerate(votes)
    ]


def summary_of(source: Source, looked: Looked, settings: AuditSettings, stages: Stages, command: str) -> dict[str, Any]:
    """The content of `summary.json`, but for what is not of the images: blind sample, people, earlier audit."""
    collection = looked.collection
    return {
        "schema_version": 1,
        "command": command,
        "version": __version__,
        "data": source.address,
        "num_images": len(source),
        "num_classes": source.num_classes,
        "quarantined": len(collection.quarantined),
        **found_numbers(looked.found),
        **noise_numbers(looked.beliefs, looked.labels),
        **truth_numbers(source, collection.rows, looked.labels, looked.beliefs),
        "noise_kind": None if looked.kind is None else asdict(looked.kind),
        "remarks": [asdict(remark) for remark in looked.remarks],
        "features": looked.features,
        "unlabelled": int(source.unlabelled.sum()),
        "verified": 0 if source.verified is None else int(source.verified.sum()),
        "multilabel": source.is_multilabel,
        "seed": settings.seed,
        "seconds": round(sum(stages.seconds.values()), 3),
        "stage_seconds": {name: round(seconds, 3) for name, seconds in stages.seconds.items()},
        "notes": [*source.notes, *collection.notes],
        "settings": asdict(settings),
    }


def spread(values: np.ndarray, collection: Collection, num: int, fill: float) -> np.ndarray:
    """A number for each image of the source, `fill` for those that cannot be read."""
    whole = np.full((num, *values.shape[1:]), fill, dtype=values.dtype)
    whole[collection.rows] = values
    return whole
