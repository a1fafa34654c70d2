"""Wrong labels among feature rows: predict held-out rows, doubt, and predict again from the rows not doubted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from winnow.audit.confident import LabelIssues, confident_learning
from winnow.audit.out_of_fold import out_of_fold_probabilities
from winnow.audit.probabilities import CheckedProbabilities
from winnow.noise.confident_joint import Reading
from winnow.noise.estimate import joint_transition_matrix


@dataclass(frozen=True)
class Cleaning:
    """What self-cleaning found.

    Attributes:
        issues: of confident learning in the last round, with `label_quality` now the posterior probability of the label
            and labels that are more probably wrong than right doubted too. The only row of a class is not judged: no
            model that did not see it can know it; its quality is NaN.
        transition_matrix: entry (i, j) = P(noisy = j given clean = i).
        temperature: see `OutOfFold`.
    """

    issues: LabelIssues
    transition_matrix: np.ndarray
    temperature: float | None


def self_cleaned(
    estimator: Any,
    features: Any,
    labels: np.ndarray,
    classes: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    folds: int = 5,
    rounds: int = 4,
    seed: int = 0,
) -> Cleaning:
    """Rounds of out-of-fold probabilities and confident learning, each trained on the rows that the last one kept.

    The doubted rows are always predicted again, so a label that was doubted wrongly comes back.

    Args:
        estimator, features, labels, classes, sample_weight, folds: see `out_of_fold_probabilities`.
        rounds: at least 1.
        seed: of the splits, which differ from round to round.
    """
    kept: np.ndarray | None = None
    for number in range(rounds):
        found = out_of_fold_probabilities(
            estimator,
            features,
            labels,
            classes,
            trained_on=kept,
            sample_weight=sample_weight,
            folds=folds,
            seed=seed + number,
        )
        issues = confident_learning(CheckedProbabilities(labels, found.probs, Reading.of(labels, found.probs)))
        kept = ~issues.is_issue
    transition_matrix = joint_transition_matrix(issues.joint)
    quality = label_posterior(found.probs, labels, transition_matrix)
    doubted = issues.is_issue | ((quality < 0.5) & (issues.suggested_label != labels))
    alone = np.bincount(labels, minlength=len(classes))[labels] == 1
    issues = replace(issues, label_quality=np.where(alone, np.nan, quality), is_issue=doubted & ~alone)
    return Cleaning(issues, transition_matrix, found.temperature)


def label_posterior(probs: np.ndarray, labels: np.ndarray, transition_matrix: np.ndarray) -> np.ndarray:
    """P(clean = y given features and noisy label y), (N,), by Bayes' rule.

    Args:
        probs: clean-class probabilities given the features alone, (N, K).
        labels: noisy labels y, (N,).
        transition_matrix: entry (i, j) = P(noisy = j given clean = i).
    """
    joint = probs * transition_matrix[:, labels].T
    right = joint[np.arange(len(labels)), labels]
    total = joint.sum(axis=1)
    return np.divide(right, total, out=np.zeros_like(right), where=total > 0)
