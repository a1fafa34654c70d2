"""How far given labels and a teacher's beliefs lie from the truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from winnow.noise.channel import class_members

_PSEUDO_COUNTS = 3.0


class Risks(NamedTuple):
    """Mean squared distances to the true label, summed over the classes, each in [0, 2].

    Attributes:
        label: Ry, of the given label; twice the share of wrong ones where an image has one class.
        teacher: Rs, of the teacher's belief.
        covariance: C, mean product of the two errors. It is not 0 for real noise: both errors hold the true label.
    """

    label: float
    teacher: float
    covariance: float


def estimated_risks(
    clean_probs: Float[np.ndarray, "clean classes"],
    clean_labels: Int[np.ndarray, " clean"],
    probs: Float[np.ndarray, "noisy classes"],
    noisy_labels: Int[np.ndarray, " noisy"],
) -> Risks:
    """Risks of given labels and of a teacher, where no image has both a noisy label and the true one.

    What the teacher believes of the images of each true class, C[i] = E(s | true i), is seen on the clean ones. Given
    labels that depend on the true class alone meet it as E(1[given k] s) = sum_i P(given k, true i) C[i], which is
    solved for the joint distribution: its trace is the share of right labels, its other margin the classes' shares
    among the noisy images. The covariance then follows from the distance of label and belief, which is observed:
    E||y - s||^2 = Ry + Rs - 2 C. Noise that falls where the teacher errs, too, makes labels look better than they are.

    C is pulled towards a teacher that errs evenly by three images a class. One that knows nothing of the true class
    cannot judge labels: they are then taken to be right.

    Args:
        clean_probs: of images that the teacher did not learn from.
        clean_labels: their true classes.
        probs: of other images, which it did not learn from either.
        noisy_labels: their given classes.
    """
    classes = clean_probs.shape[1]
    right = float(clean_probs[np.arange(len(clean_labels)), clean_labels].mean())
    wrong = (1 - right) / (classes - 1) if classes > 1 else 0.0
    counts = np.bincount(clean_labels, minlength=classes)[:, None]
    seen, distances = np.zeros((classes, classes)), np.zeros(classes)
    for index, mine in class_members(clean_labels):
        seen[index] = clean_probs[mine].sum(axis=0)
        distances[index] = np.square(clean_probs[mine] - np.eye(classes)[index]).sum(axis=1).mean()
    even = wrong + (right - wrong) * np.eye(classes)
    response = (seen + _PSEUDO_COUNTS * even) / (counts + _PSEUDO_COUNTS)
    joint = np.zeros((classes, classes))
    for index, mine in class_members(noisy_labels):
        joint[index] = probs[mine].sum(axis=0) / len(noisy_labels)
    accuracy, shares = 1.0, counts[:, 0].astype(np.float64)
    if right - wrong > 0.02 and np.linalg.cond(response) < 1e6:
        solved = joint @ np.linalg.inv(response)
        accuracy = float(np.clip(np.trace(solved), 0, 1))
        present = solved.sum(axis=0).clip(min=0) * (counts[:, 0] > 0)
        shares = present if present.any() else shares
    label = 2 * (1 - accuracy)
    teacher = float(np.average(distances, weights=shares))
    apart = float(1 + np.square(probs).sum(axis=1).mean() - 2 * np.trace(joint))
    return Risks(label, teacher, (label + teacher - apart) / 2)


def estimated_cell_risks(
    clean_probs: Float[np.ndarray, "clean classes"],
    clean_labels: Int[np.ndarray, "clean classes"],
    probs: Float[np.ndarray, "noisy classes"],
    noisy_labels: Int[np.ndarray, "noisy classes"],
) -> Risks:
    """The mean over classes of `estimated_risks`, each of which is present or absent by itself; -1 is unknown.

    Classes that are not known to be both present and absent among the clean images are left out; where none is left
    the labels are taken to be right.
    """
    found = []
    for k in range(clean_labels.shape[1]):
        clean, noisy = clean_labels[:, k] >= 0, noisy_labels[:, k] >= 0
        if len(np.unique(clean_labels[clean, k])) == 2 and noisy.any():
            pairs = [np.stack([1 - p, p], axis=1) for p in (clean_probs[clean, k], probs[noisy, k])]
            found.append(estimated_risks(pairs[0], clean_labels[clean, k], pairs[1], noisy_labels[noisy, k]))
    return Risks(*np.mean(found, axis=0).tolist()) if found else Risks(0.0, 0.0, 0.0)
