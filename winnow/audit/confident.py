"""Confident learning: which given labels are wrong, from out-of-sample class probabilities.

Northcutt, Jiang & Chuang, JAIR 2021. The confident joint tells how many labels of each kind are wrong: by default those
with the largest margins (pruning by noise rate). The probabilities are read once; after that only the rows are looked
at whose most probable class is not their label, for no other can be an issue.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from winnow.audit.probabilities import CheckedProbabilities, checked_probabilities
from winnow.audit.pruning import prune_counts, pruned_by_class, pruned_by_noise_rate
from winnow.errors import InvalidInput
from winnow.noise.confident_joint import calibrated_joint, confident_classes, joint_of

RANKINGS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given")

_WITHOUT_EFFECT = ("n_jobs", "verbose")
_LEAST = 1e-6
"""What scores are divided by at least."""


@dataclass(frozen=True)
class LabelIssues:
    """What confident learning says of every label.

    Attributes:
        is_issue: boolean (N,); never where the label is missing.
        label_quality: probability of the given label, (N,), NaN where it is missing.
        suggested_label: most probable class, (N,).
        joint: estimated number of labelled rows, (K, K): entry (i, j) = given label i, true label j.
    """

    is_issue: np.ndarray
    label_quality: np.ndarray
    suggested_label: np.ndarray
    joint: np.ndarray

    @property
    def noise_rate(self) -> float:
        """Estimated share of wrong labels."""
        return float(1 - np.trace(self.joint) / self.joint.sum())


def find_label_issues(
    labels: ArrayLike,
    pred_probs: ArrayLike,
    *,
    return_indices_ranked_by: str | None = None,
    filter_by: str = "prune_by_noise_rate",
    frac_noise: float = 1.0,
    min_examples_per_class: int = 1,
    chunk_rows: int | None = None,
    **others: object,
) -> np.ndarray:
    """Labels that are probably wrong, by confident learning, as cleanlab's function of this name finds them.

    Args:
        labels: given class indices 0 to K-1, (N,); None, NaN or masked (`numpy.ma`) where a label is missing.
        pred_probs: class probabilities, (N, K), of a model that did not see the row when it was trained. It is read in
            chunks and may be memory-mapped. Masked probabilities are refused: there is nothing to put in their place.
        return_indices_ranked_by: `self_confidence` (probability of the given label), `normalized_margin` (that minus
            the largest other one) or `confidence_weighted_entropy`: return row numbers, worst first, instead of a mask.
        filter_by: which labels are issues, among those that are not the most probable class. `prune_by_noise_rate`: as
            many of each kind (given i, truly j) as the confident joint says, of the largest margins p_j - p_i;
            `prune_by_class`: as many of each class, of the least probable; `both` of these; `confident_learning`: those
            that are confidently of another class; `predicted_neq_given`: all.
        frac_noise: share of the estimated number that is pruned, in [0, 1]; the first three filters have one.
        min_examples_per_class: so many labels of each class are left, by the first three filters.
        chunk_rows: rows looked at together; the result does not depend on it.
        others: cleanlab's `n_jobs` and `verbose`, which change nothing here. Its other arguments are refused unless
            they are None or False.

    Returns:
        Boolean (N,), or row numbers.

    Raises:
        InvalidInput: the arrays cannot be used, or an argument is unknown or out of its range; a ValueError. Small
            faults of the arrays are put right with a warning.
    """
    _refuse_unknown(return_indices_ranked_by, filter_by, frac_noise, min_examples_per_class, others)
    checked = checked_probabilities(labels, pred_probs, chunk_rows=chunk_rows)
    for note in checked.notes:
        warnings.warn(note, stacklevel=2)
    found = confident_learning(
        checked,
        filter_by=filter_by,
        frac_noise=frac_noise,
        min_examples_per_class=min_examples_per_class,
        chunk_rows=chunk_rows,
    )
    if return_indices_ranked_by is None:
        return found.is_issue
    rows = np.flatnonzero(found.is_issue)
    scores = found.label_quality[rows]
    if return_indices_ranked_by == "normalized_margin":
        # An issue's given label is not its most probable class, so this is the largest other one.
        scores = scores - checked.reading.top[rows]
    elif return_indices_ranked_by == "confidence_weighted_entropy":
        scores = _weighted_by_entropy(checked, rows)
    return rows[np.argsort(scores, kind="stable")]


def confident_learning(
    checked: CheckedProbabilities,
    *,
    filter_by: str = "prune_by_noise_rate",
    frac_noise: float = 1.0,
    min_examples_per_class: int = 1,
    chunk_rows: int | None = None,
) -> LabelIssues:
    """Confident joint, and the rows whose label it says is wrong; for the arguments see `find_label_issues`.

    Raises:
        InvalidInput: no row has a label.
    """
    labels, reading = checked.labels, checked.reading
    classes = checked.probs.shape[1]
    label_counts = np.bincount(labels[labels >= 0], minlength=classes)
    if not label_counts.any():
        raise InvalidInput("labels: all are missing")
    believed = confident_classes(labels, reading, checked.rows, classes, chunk_rows=chunk_rows)
    joint = calibrated_joint(joint_of(labels, believed, classes), label_counts)
    is_issue = (labels >= 0) & (reading.predicted != labels)
    if filter_by == "confident_learning":
        is_issue &= (believed >= 0) & (believed != labels)
    del believed  # as large as the labels
    counts = prune_counts(joint, frac_noise, min_examples_per_class)
    if filter_by in ("prune_by_class", "both"):
        by_class = pruned_by_class(labels, reading.own, label_counts - counts.diagonal())
    if filter_by in ("prune_by_noise_rate", "both"):
        is_issue = pruned_by_noise_rate(labels, is_issue, checked.rows, counts)
    if filter_by in ("prune_by_class", "both"):
        is_issue &= by_class
    return LabelIssues(is_issue, reading.own, reading.predicted, joint)


def _weighted_by_entropy(checked: CheckedProbabilities, rows: np.ndarray) -> np.ndarray:
    """cleanlab's score: with s the normalised entropy over the probability of the given label, log(1 + s) / s."""
    probs = checked.rows(rows)
    # A probability of zero adds nothing.
    entropy = -(probs * np.log(np.where(probs > 0, probs, 1))).sum(axis=1) / np.log(probs.shape[1])
    ratio = entropy / np.maximum(checked.reading.own[rows], _LEAST)
    return np.log1p(ratio) / np.maximum(ratio, _LEAST)


def _refuse_unknown(
    ranking: str | None, filter_by: str, frac_noise: float, min_examples: int, others: dict[str, object]
) -> None:
    if ranking not in (None, *RANKINGS):
        raise InvalidInput(f"return_indices_ranked_by: {ranking!r}; {', '.join(RANKINGS)} or None is needed")
    if filter_by not in FILTERS:
        raise InvalidInput(f"filter_by: {filter_by!r}; {', '.join(FILTERS)} are possible")
    if not 0 <= frac_noise <= 1:
        raise InvalidInput(f"frac_noise: {frac_noise}; a share from 0 to 1 is needed")
    if min_examples < 0:
        raise InvalidInput(f"min_examples_per_class: {min_examples}; 0 or more is needed")
    for name, value in others.items():
        if name not in _WITHOUT_EFFECT and value is not None and value is not False:
            raise InvalidInput(
                f"find_label_issues does not take {name}; possible are return_indices_ranked_by, filter_by, "
                "frac_noise, min_examples_per_class and chunk_rows"
            )
