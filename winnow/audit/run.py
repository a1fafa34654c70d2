"""The audit: from a source to what is found in it, and to a folder that holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow import __version__
from winnow.audit.against import beliefs_about, collection_since, found_since
from winnow.audit.annotators import Consensus, consensus
from winnow.audit.blind import BlindCheck, drawn, write_sample
from winnow.audit.cells import CellBeliefs, judge_cells
from winnow.audit.copies import find_copies, find_leaks
from winnow.audit.embedding import Embedding, embed
from winnow.audit.findings import Found, LabelBeliefs, Remark
from winnow.audit.folder import BLIND, FINDINGS, LABELS, QUARANTINE, SUMMARY, AuditFolder, Findings
from winnow.audit.odd_files import find_odd
from winnow.audit.outliers import find_outliers
from winnow.audit.settings import AuditSettings
from winnow.audit.summary import found_numbers, noise_numbers, truth_numbers
from winnow.audit.tables import findings_table, reasons_by_row, rows_by_kind
from winnow.audit.whole import remarks
from winnow.audit.wrong_labels import judge
from winnow.data.collection import Collection, Quarantined, load, write_quarantine
from winnow.data.rows import followed_by
from winnow.data.source import Source, without_label
from winnow.functional.neighbours import Neighbours, neighbours
from winnow.labels.table import labels_table, write_table
from winnow.noise.describe import NoiseKind, describe
from winnow.train.device import Device
from winnow.train.progress import Progress
from winnow.train.record import Stages

WEAK = 0.6
"""Share of the labels of nearest images that agree, below which features are said to be weak."""
NEIGHBOURS = 20
"""Of each image in the graph that labels, outliers and remarks share."""


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


def audit(
    source: Source,
    settings: AuditSettings,
    folder: AuditFolder,
    *,
    test: Source | None = None,
    known: Source | None = None,
    features: Callable[[Collection], Embedding] | None = None,
    cache: Path | None = None,
    votes: Mapping[str, np.ndarray] | None = None,
    check: BlindCheck | None = None,
    progress: Progress | None = None,
    command: str = "winnow.audit",
    data_settings: Mapping[str, Any] | None = None,
) -> Findings:
    """Looks at every image and every label, and leaves the folder of an audit.

    Args:
        source: the collection; its clean labels are read by evaluation alone.
        settings: how to audit.
        folder: opened for this audit.
        test: images that must not be among those of the source.
        known: images of an earlier audit, with the same classes: they are looked at too, but not told of.
        features: gives those of the readable images, where a run can; by default they are made here.
        cache: folder that keeps features by content; None keeps none.
        votes: labels of several people, by name, (N,) each: their consensus then stands for the given labels.
        check: what a person found in an earlier blind sample.
        progress: hears of the work.
        command: for the record.
        data_settings: how the source was opened, for the record.

    Raises:
        UsageError, InputError, MachineError: see `winnow.errors`.
    """
    progress, stages = progress or Progress(), Stages()
    torch.set_num_threads(Device.choose(settings.device, threads=settings.threads).threads)
    whole = source if known is None else followed_by(known, source, "new/")

    def made(collection: Collection) -> Embedding:
        if features is not None:
            return features(collection)
        return embed(
            whole,
            collection,
            weights=Path(settings.weights) if settings.weights else None,
            model=settings.model,
            budget_minutes=settings.budget_minutes,
            seed=settings.seed,
            device=settings.device,
            cache=cache,
            progress=progress,
        )

    looked = _looked_at(whole, test, settings, made, votes or {}, stages, progress)
    for remark in looked.remarks:
        if remark.kind == "weak_features":
            progress.warning(remark.sentence)
    if known is not None:
        looked = _since(looked, known)
    with stages("writing"):
        folder.begin(source, data_settings or {})
        write_quarantine(folder.path / QUARANTINE, looked.collection.quarantined)
        if looked.people is not None:
            source = replace(source, noisy_labels=_spread(looked.labels, looked.collection, len(source), -1))
        _write_tables(source, test, looked, folder)
        rows = _blind_sample(source, looked, settings)
        if len(rows) < settings.blind:
            progress.warning(
                f"--blind {settings.blind}: only {len(rows):,} images are not flagged, so that many are drawn"
            )
        if len(rows):
            names = [source.class_names[label] for label in source.noisy_labels[rows].tolist()]
            write_sample(folder.path / BLIND, rows, source.ids, names)
    summary = _summary(source, looked, settings, stages, command)
    summary["blind"] = {"drawn": len(rows), "file": BLIND if len(rows) else None, **(asdict(check) if check else {})}
    summary["annotators"] = _people(votes or {}, looked.people)
    summary["against"] = None if known is None else {"data": known.address, "num_images": len(known)}
    folder.write_json(SUMMARY, summary)
    return Findings(folder.path, summary, source)


def _since(looked: Looked, known: Source) -> Looked:
    """What concerns the images that follow those of an earlier audit."""
    first = len(known)
    kept = looked.collection.rows >= first
    beliefs = looked.beliefs
    return replace(
        looked,
        collection=collection_since(looked.collection, first),
        labels=looked.labels[kept],
        group=looked.group[kept],
        outlier_score=looked.outlier_score[kept],
        beliefs=None if beliefs is None else beliefs_about(beliefs, kept),
        found=tuple(found_since(part, first, known.ids) for part in looked.found),
    )


def _looked_at(
    source: Source,
    test: Source | None,
    settings: AuditSettings,
    features: Callable[[Collection], Embedding],
    votes: Mapping[str, np.ndarray],
    stages: Stages,
    progress: Progress,
) -> Looked:
    with stages("pictures"):
        collection = load(source, progress=lambda done, total: progress.stage("[1/4] pictures", done, total))
        _tell(source, collection, progress)
    people = None
    if votes:
        people = consensus(np.stack(list(votes.values()), axis=1)[collection.rows], source.num_classes)
    labels = source.noisy_labels[collection.rows] if people is None else people.labels
    verified = None if source.verified is None else source.verified[collection.rows]
    with stages("copies"):
        mirrored = source.may_mirror(collection.pixels.shape[3])
        copies = find_copies(collection.pixels, labels, facts=collection.facts, mirrored=mirrored)
        leaks = None if test is None else _leaks(test, collection, mirrored)
    with stages("features"):
        embedding = features(collection)
    with stages("neighbours"):
        graph = neighbours(embedding.features, NEIGHBOURS, metric="cosine")
    with stages("labels"):
        beliefs = _judged(source, labels, embedding, graph, verified, copies.group, settings.seed)
    with stages("files"):
        outliers = find_outliers(graph, collection.pixels)
        found = [_wrong_labels(beliefs), *copies.found, outliers.found, *find_odd(collection)]
        in_source = [_in_source(part, collection) for part in found if part is not None]
        if leaks is not None:
            in_source.append(replace(leaks, rows=collection.rows[leaks.rows]))
        in_source.append(_unreadable(collection.quarantined))
        about: tuple[Remark, ...] = ()
        kind = None
        if isinstance(beliefs, LabelBeliefs):
            about = _weak_features(graph, labels) + remarks(
                embedding.features, labels, beliefs, graph, source.class_names, seed=settings.seed
            )
            kind = describe(
                labels,
                beliefs.suggested_label,
                beliefs.is_issue,
                graph.indices,
                source.num_classes,
                outlier_score=outliers.score,
                seed=settings.seed,
            )
    return Looked(
        collection,
        labels,
        embedding.description,
        copies.group,
        outliers.score,
        beliefs,
        tuple(in_source),
        about,
        kind,
        people,
    )


def _weak_features(graph: Neighbours, labels: np.ndarray) -> tuple[Remark, ...]:
    """A remark where images that look alike to the features seldom share a label: then all estimates are less sure."""
    nearest = graph.indices[:, :10]
    asked = np.flatnonzero(labels >= 0)
    if len(asked) < 2 or not nearest.shape[1]:
        return ()
    agreement = float((labels[nearest[asked]] == labels[asked][:, None]).mean())
    if agreement >= WEAK:
        return ()
    sentence = (
        f"Of the ten nearest images of an image {agreement:.0%} share its label (exact). Either most labels are wrong "
        "or the features tell the classes apart badly; then fewer of the flagged labels are wrong than is estimated. "
        "Give --weights of a good network, or more --budget."
    )
    return (Remark("weak_features", sentence, {"agreement": agreement}),)


def _leaks(test: Source, collection: Collection, mirrored: bool) -> Found:
    """Copies of test images; `others` are rows of the test source."""
    held_out = load(test, size=collection.size, channels=collection.pixels.shape[3])
    found = find_leaks(
        collection.pixels,
        held_out.pixels,
        facts=collection.facts,
        test_facts=held_out.facts,
        mirrored=mirrored,
    )
    return replace(found, others=held_out.rows[found.others])


def _judged(
    source: Source,
    labels: np.ndarray,
    embedding: Embedding,
    graph: Neighbours,
    verified: np.ndarray | None,
    groups: np.ndarray,
    seed: int,
) -> LabelBeliefs | CellBeliefs | None:
    if without_label(labels).all():
        return None
    if labels.ndim == 2:
        return judge_cells(
            embedding.features, labels, source.class_names, graph=graph, verified=verified, groups=groups, seed=seed
        )
    return judge(
        embedding.features,
        labels,
        source.num_classes,
        graph=graph,
        probs=embedding.probs,
        memory=embedding.memory,
        verified=verified,
        groups=groups,
        seed=seed,
        class_names=source.class_names,
    )


def _wrong_labels(beliefs: LabelBeliefs | CellBeliefs | None) -> Found | None:
    """The flagged labels, the least likely one first; of an image with several classes its worst cell counts."""
    if beliefs is None:
        return None
    quality = np.where(beliefs.is_issue, beliefs.label_quality, np.inf)
    worst = quality.min(axis=1) if quality.ndim == 2 else quality
    rows = np.flatnonzero(np.isfinite(worst))
    rows = rows[np.argsort(worst[rows], kind="stable")]
    return Found("wrong_label", rows, 1 - worst[rows], [beliefs.reasons[row] for row in rows.tolist()])


def _unreadable(quarantined: Sequence[Quarantined]) -> Found:
    rows = np.array([item.row for item in quarantined], dtype=np.int64)
    return Found(
        "unreadable", rows, np.full(len(rows), np.nan), [f"{item.code}: {item.reason}" for item in quarantined]
    )


def _in_source(found: Found, collection: Collection) -> Found:
    """The same finding with the rows of the source."""
    others = found.others
    if others is not None:
        others = np.where(others >= 0, collection.rows[others.clip(0)], -1)
    return replace(found, rows=collection.rows[found.rows], others=others)


def _spread(values: np.ndarray, collection: Collection, num: int, fill: float) -> np.ndarray:
    """A number for each image of the source, `fill` for those that cannot be read."""
    whole = np.full((num, *values.shape[1:]), fill, dtype=values.dtype)
    whole[collection.rows] = values
    return whole


def _tell(source: Source, collection: Collection, progress: Progress) -> None:
    set_aside = len(collection.quarantined)
    images, classes = len(source), source.num_classes
    text = f"{images:,} image{'s' * (images != 1)}, {classes:,} class{'es' * (classes != 1)}"
    if set_aside:
        text += f"; {set_aside:,} unreadable set aside"
    if missing := int(source.unlabelled.sum()):
        text += f"; {missing:,} without a label"
    progress.understood("Data", text)
    for note in (*source.notes, *collection.notes):
        progress.understood("", note)


def _write_tables(source: Source, test: Source | None, looked: Looked, folder: AuditFolder) -> None:
    num, labels = len(source), looked.labels
    beliefs, collection = looked.beliefs, looked.collection
    nothing = np.full(labels.shape, np.nan)
    quality = nothing if beliefs is None else beliefs.label_quality
    suggested = np.full_like(labels, -1) if beliefs is None else beliefs.suggested_label.astype(labels.dtype)
    probability = nothing if beliefs is None else beliefs.suggested_probability
    suggested = _spread(suggested, collection, num, -1)
    group = _spread(looked.group, collection, num, -1)
    table = labels_table(
        ids=source.ids,
        class_names=source.class_names,
        given_label=source.noisy_labels,
        label_quality=_spread(quality, collection, num, np.nan),
        suggested_label=suggested,
        suggested_probability=_spread(probability, collection, num, np.nan),
        outlier_score=_spread(looked.outlier_score, collection, num, np.nan),
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


def _blind_sample(source: Source, looked: Looked, settings: AuditSettings) -> np.ndarray:
    """Rows drawn among the readable, labelled, unverified images that are not flagged."""
    if not settings.blind or looked.beliefs is None or source.is_multilabel:
        return np.empty(0, np.int64)
    candidate = (looked.labels >= 0) & ~looked.beliefs.is_issue
    if source.verified is not None:
        candidate &= ~source.verified[looked.collection.rows]
    return drawn(looked.collection.rows[candidate], source.ids, settings.blind, settings.seed)


def _people(votes: Mapping[str, np.ndarray], people: Consensus | None) -> list[dict[str, Any]]:
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


def _summary(source: Source, looked: Looked, settings: AuditSettings, stages: Stages, command: str) -> dict[str, Any]:
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
