"""Wrong labels where an image may have several classes: every class is a question of its own, present or absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from winnow.audit.findings import LabelBeliefs
from winnow.audit.wrong_labels import judge
from winnow.functional.neighbours import Neighbours

_SHOWN = 3


@dataclass(frozen=True)
class CellBeliefs:
    """What is believed of every cell (image, class); unknown cells are judged too, never flagged.

    Attributes:
        label_quality: probability that the cell is right, calibrated; NaN where it is unknown or not judged.
        suggested_label: 1 present, 0 absent.
        suggested_probability: of the suggestion.
        is_issue: whether the cell is flagged as wrong.
        reasons: for a person, by row; only for images with a flagged cell.
        noise_rate: estimated share of wrong cells among the known.
        noise_rate_interval: of 95 %, from those of the classes, as if they were independent.
        precision: estimated share of the flagged cells that are wrong; NaN if none is flagged.
        class_noise_rates: the share in each class.
    """

    label_quality: Float[np.ndarray, "n classes"]
    suggested_label: Int[np.ndarray, "n classes"]
    suggested_probability: Float[np.ndarray, "n classes"]
    is_issue: Bool[np.ndarray, "n classes"]
    reasons: Mapping[int, str]
    noise_rate: float
    noise_rate_interval: tuple[float, float]
    precision: float
    class_noise_rates: Float[np.ndarray, " classes"]


def judge_cells(
    features: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, "n classes"],
    class_names: Sequence[str],
    *,
    graph: Neighbours | None = None,
    verified: Bool[np.ndarray, " n"] | None = None,
    groups: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> CellBeliefs:
    """`judge`, class by class.

    Args:
        features: of each image.
        labels: 1 present, 0 absent, -1 unknown.
        class_names: (K,).
        graph, verified, groups, seed: see `judge`.
    """
    found = [
        judge(features, column.astype(np.int64), 2, graph=graph, verified=verified, groups=groups, seed=seed)
        for column in labels.T
    ]
    issue = _columns(found, "is_issue")
    suggested = _columns(found, "suggested_label").astype(np.int8)
    probability = _columns(found, "suggested_probability")
    known = (labels >= 0).sum(axis=0)
    share = known / max(1, known.sum())
    rates = np.array([each.noise_rate for each in found])
    rate = float(share @ np.nan_to_num(rates))
    sides = np.array([each.noise_rate_interval for each in found]) - rates[:, None]
    spread = np.sqrt((np.nan_to_num(share[:, None] * sides) ** 2).sum(axis=0))
    flagged = issue.sum(axis=0)
    precisions = np.array([each.precision for each in found])
    right = float(np.nansum(precisions * flagged))
    return CellBeliefs(
        label_quality=_columns(found, "label_quality"),
        suggested_label=suggested,
        suggested_probability=probability,
        is_issue=issue,
        reasons={
            int(row): _reason(issue[row], suggested[row], probability[row], class_names)
            for row in np.flatnonzero(issue.any(axis=1))
        },
        noise_rate=rate,
        noise_rate_interval=(max(0.0, rate - float(spread[0])), min(1.0, rate + float(spread[1]))),
        precision=right / int(flagged.sum()) if flagged.any() else float("nan"),
        class_noise_rates=rates,
    )


def _columns(found: Sequence[LabelBeliefs], name: str) -> np.ndarray:
    return np.stack([getattr(each, name) for each in found], axis=1)


def _reason(issue: np.ndarray, suggested: np.ndarray, probability: np.ndarray, class_names: Sequence[str]) -> str:
    classes = np.flatnonzero(issue)
    classes = classes[np.argsort(-probability[classes], kind="stable")]
    parts = [
        f"{class_names[k]} looks {'present' if suggested[k] == 1 else 'absent'} ({probability[k]:.0%})"
        for k in classes[:_SHOWN].tolist()
    ]
    more = f"; {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
    return "; ".join(parts) + more
