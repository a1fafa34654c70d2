"""The audit: from a source to what is found in it, and to a folder that holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow.audit.against import beliefs_about, collection_since, found_since
from winnow.audit.annotators import consensus
from winnow.audit.blind import BlindCheck, write_sample
from winnow.audit.cells import CellBeliefs, judge_cells
from winnow.audit.copies import find_copies, find_leaks
from winnow.audit.embedding import Embedding, embed
from winnow.audit.findings import Found, LabelBeliefs, Remark
from winnow.audit.folder import BLIND, QUARANTINE, SUMMARY, AuditFolder, Findings
from winnow.audit.looked import Looked, blind_sample, people_record, spread, summary_of, write_tables
from winnow.audit.memory import up_to_by_heart
from winnow.audit.odd_files import find_odd
from winnow.audit.outliers import find_outliers
from winnow.audit.settings import AuditSettings
from winnow.audit.whole import labels_by_heart, remarks, unnamed_classes, weak_features
from winnow.audit.wrong_labels import judge
from winnow.data.collection import Collection, Quarantined, load, write_quarantine
from winnow.data.rows import followed_by
from winnow.data.source import Source, without_label
from winnow.functional.neighbours import Neighbours, neighbours
from winnow.noise.describe import describe
from winnow.train.device import Device
from winnow.train.progress import Progress
from winnow.train.record import Stages

NEIGHBOURS = 20
"""Of each image in the graph that labels, outliers and remarks share."""


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
        if remark.kind in ("weak_features", "labels_by_heart"):
            progress.warning(remark.sentence)
    if known is not None:
        looked = _since(looked, known)
    with stages("writing"):
        folder.begin(source, data_settings or {})
        write_quarantine(folder.path / QUARANTINE, looked.collection.quarantined)
        if looked.people is not None:
            source = replace(source, noisy_labels=spread(looked.labels, looked.collection, len(source), -1))
        write_tables(source, test, looked, folder)
        rows = blind_sample(source, looked, settings)
        if len(rows) < settings.blind:
            progress.warning(
                f"--blind {settings.blind}: only {len(rows):,} images are not flagged, so that many are drawn"
            )
        if len(rows):
            names = [source.class_names[label] for label in source.noisy_labels[rows].tolist()]
            write_sample(folder.path / BLIND, rows, source.ids, names)
    summary = summary_of(source, looked, settings, stages, command)
    summary["blind"] = {"drawn": len(rows), "file": BLIND if len(rows) else None, **(asdict(check) if check else {})}
    summary["annotators"] = people_record(votes or {}, looked.people)
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
            about = (
                *weak_features(graph, labels),
                *labels_by_heart(embedding.by_heart),
                *unnamed_classes(labels, source.class_names),
                *remarks(embedding.features, labels, beliefs, graph, source.class_names, seed=settings.seed),
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
    beliefs = judge(
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
    return up_to_by_heart(beliefs, embedding.by_heart)


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
