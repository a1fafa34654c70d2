"""Folders for annotation and inspection tools: COCO, FiftyOne, Label Studio."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from winnow import __version__
from winnow.data.copying import stored_size
from winnow.data.source import Unreadable
from winnow.export.content import Content
from winnow.files import atomic_write


def write_coco(content: Content, stage: Path) -> None:
    """COCO's `images`, `categories` and `annotations`: one annotation a label, its box the whole picture.

    Category ids count from 1, `image_id` is the row in the source plus 1. A class that is unknown, not absent, is
    listed as LVIS does, in `not_exhaustive_category_ids`.
    """
    labels = content.fates.labels
    sizes: dict[int, tuple[int, int]] = {}
    for row, data in content.placed(stage, "images"):
        try:
            sizes[row] = stored_size(data)
        except Unreadable as fault:
            content.fates.set_aside(row, fault)
            (stage / content.files.pop(row)).unlink()

    def images() -> Iterator[dict[str, Any]]:
        for row, (width, height) in sizes.items():
            unknown = np.flatnonzero(labels[row] < 0).tolist() if content.several else []
            yield {
                "id": row + 1,
                "file_name": content.files[row],
                "width": width,
                "height": height,
                "not_exhaustive_category_ids": [k + 1 for k in unknown],
                "winnow": _about(content, row),
            }

    def annotations() -> Iterator[dict[str, Any]]:
        number = 0
        for row, (width, height) in sizes.items():
            for k in content.classes(labels, row):
                number += 1
                box = {"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0}
                yield {"id": number, "image_id": row + 1, "category_id": k + 1, **box}

    info = {"description": content.judged.source.address, "version": __version__}
    categories = [{"id": k + 1, "name": name, "supercategory": ""} for k, name in enumerate(content.class_names)]
    parts = {"info": info, "licenses": [], "categories": categories, "images": images(), "annotations": annotations()}
    _write_json(stage / "annotations.json", parts)


def write_fiftyone(content: Content, stage: Path) -> None:
    """FiftyOne's own format, `fiftyone.types.FiftyOneDataset`: `metadata.json` and `samples.json`.

    `ground_truth` is the given label, `suggested` the suggested one, the kinds of findings are tags. It is the form
    that names no version of FiftyOne's database, so that it fits every one.
    """
    judged = content.judged
    rows = [row for row, _ in content.placed(stage, "data")]

    def samples() -> Iterator[dict[str, Any]]:
        for row in rows:
            sample: dict[str, Any] = {
                "filepath": content.files[row],
                "tags": judged.issues[row].as_py() or [],
                "metadata": None,
                "ground_truth": _classification(content, judged.given_label, row),
                "suggested": _classification(content, judged.suggested_label, row, judged.suggested_probability[row]),
            }
            yield sample | {
                f"winnow_{name}" if name == "id" else name: value for name, value in _about(content, row).items()
            }

    info = {"classes": {"ground_truth": list(content.class_names)}, "default_classes": list(content.class_names)}
    metadata = {"name": content.out.name, "media_type": "image", "info": info}
    atomic_write(stage / "metadata.json", json.dumps(metadata).encode())
    _write_json(stage / "samples.json", {"samples": samples()})


def write_label_studio(content: Content, stage: Path) -> None:
    """Label Studio's tasks and the labelling configuration that belongs to them.

    The given label is the annotation, the suggested one a prediction with its probability as `score`. Pictures are
    named as Label Studio's local files, for a document root that is the folder around the export.
    """
    judged = content.judged
    rows = [row for row, _ in content.placed(stage, "images")]

    def tasks() -> Iterator[dict[str, Any]]:
        for row in rows:
            given, suggested = (content.classes(of, row) for of in (judged.given_label, judged.suggested_label))
            place = quote(f"{content.out.name}/{content.files[row]}")
            task: dict[str, Any] = {"data": {"image": f"/data/local-files/?d={place}", **_about(content, row)}}
            annotation = {"result": _choices(content, given), "was_cancelled": False, "ground_truth": False}
            task["annotations"] = [annotation] if given else []
            score = _number(judged.suggested_probability[row])
            prediction = {
                "model_version": f"winnow {__version__}",
                "score": score,
                "result": _choices(content, suggested),
            }
            task["predictions"] = [prediction] if suggested else []
            yield task

    choice = "multiple" if content.several else "single"
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in content.class_names)
    view = (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="label" toName="image" choice="{choice}">\n{choices}  </Choices>\n</View>\n'
    )
    atomic_write(stage / "labels.xml", view.encode())
    _write_json(stage / "tasks.json", tasks())
    content.notes.append(
        f"Label Studio finds the pictures with LOCAL_FILES_SERVING_ENABLED=true and "
        f"LOCAL_FILES_DOCUMENT_ROOT={content.out.absolute().parent}; labels.xml is the labelling configuration."
    )


def _about(content: Content, row: int) -> dict[str, Any]:
    """What winnow says of an image."""
    judged = content.judged
    return {
        "id": judged.source.ids[row],
        "row": row,
        "label_quality": _number(judged.label_quality[row]),
        "outlier_score": _number(judged.outlier_score[row]),
        "issues": judged.issues[row].as_py() or [],
        "reason": judged.reasons[row].as_py(),
    }


def _classification(
    content: Content, labels: np.ndarray, row: int, confidence: float = math.nan
) -> dict[str, Any] | None:
    found = [
        {"_cls": "Classification", "label": content.class_names[k], "confidence": _number(confidence)}
        for k in content.classes(labels, row)
    ]
    if not content.several:
        return found[0] if found else None
    known = bool((labels[row] >= 0).any())
    return {"_cls": "Classifications", "classifications": found} if known else None


def _choices(content: Content, classes: list[int]) -> list[dict[str, Any]]:
    if not classes:
        return []
    value = {"choices": [content.class_names[k] for k in classes]}
    return [{"from_name": "label", "to_name": "image", "type": "choices", "value": value}]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _write_json(path: Path, content: dict[str, Any] | Iterable[Any]) -> None:
    """Writes JSON whose lists may be iterators: an entry a line, never all of them in memory."""

    def pieces(value: Any) -> Iterator[str]:
        if isinstance(value, Iterator):
            yield "[\n"
            for number, entry in enumerate(value):
                yield (",\n" if number else "") + json.dumps(entry)
            yield "\n]"
        elif isinstance(value, dict):
            yield "{"
            for number, (key, entry) in enumerate(value.items()):
                yield (", " if number else "") + json.dumps(key) + ": "
                yield from pieces(entry)
            yield "}"
        else:
            yield json.dumps(value)

    def write(file: Any) -> None:
        for piece in pieces(content):
            file.write(piece.encode())

    atomic_write(path, write)
