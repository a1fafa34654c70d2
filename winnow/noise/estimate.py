"""Measuring label noise: transition matrices T, entry (i, j) = P(noisy = j given clean = i), rows summing to one.

From the probabilities of a network that was trained on the noisy labels: by anchor points (Patrini et al. 2017,
arXiv:1609.03683), by confident counting (Northcutt et al. 2021, arXiv:1911.00068), by soft counting. From images whose
true class is known: by counting, or by the network's mean (Hendrycks et al. 2018, arXiv:1802.05300). No function
changes what it is given; probabilities may be memory-mapped and are read block by block.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from winnow.errors import InvalidInput
from winnow.noise.confident_joint import CHUNK_VALUES, chunks, confident_joint, joint_counts, scaled_joint
from winnow.noise.matrices import symmetric_matrix


def confident_transition_matrix(
    beliefs: Float[np.ndarray, "n classes"],
    noisy_labels: Int[np.ndarray, " n"],
    *,
    share: float = 0.20,
    pseudo_counts: float = 100.0,
) -> Float[np.ndarray, "classes classes"]:
    """Counts given labels among the most confident images of each predicted class, shrunk towards symmetric noise.

    Counting all predictions would take the network's own mistakes for label noise (methods/winnow, eq. 2).

    Args:
        beliefs: class probabilities.
        noisy_labels: as annotated, none missing.
        share: of each predicted class that is counted, at least one image.
        pseudo_counts: weight of the symmetric matrix in each row, in images.
    """
    classes = beliefs.shape[1]
    if classes == 1:
        return np.ones((1, 1))
    counts = np.zeros((classes, classes))
    predicted = beliefs.argmax(axis=1)
    confidence = beliefs[np.arange(len(beliefs)), predicted]
    for k in range(classes):
        members = np.flatnonzero(predicted == k)
        if len(members):
            kept = max(1, round(share * len(members)))
            # A stable order by confidence: ties are broken by row, so that the count is a function of the data.
            chosen = members[np.argsort(-confidence[members], kind="stable")[:kept]]
            counts[k] = np.bincount(noisy_labels[chosen], minlength=classes)
    keep = min(0.98, (np.trace(counts) + 1) / (counts.sum() + 1 + 1 / classes))
    prior = symmetric_matrix(classes, 1 - keep)
    return (counts + pseudo_counts * prior) / (counts.sum(axis=1, keepdims=True) + pseudo_counts)


def joint_transition_matrix(
    joint: Int[np.ndarray, "classes classes"] | Float[np.ndarray, "classes classes"],
) -> Float[np.ndarray, "classes classes"]:
    """The transition matrix of a joint count, whose entry (i, j) = images of given label i and true label j.

    A class that no image truly has keeps its labels.
    """
    counts = joint.T.astype(np.float64)
    empty = counts.sum(axis=1) == 0
    counts[empty, empty] = 1
    return counts / counts.sum(axis=1, keepdims=True)


def confident_joint_transition_matrix(
    probs: Float[np.ndarray, "n classes"], noisy_labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "classes classes"]:
    """T of the calibrated confident joint, not rounded.

    Args:
        probs: class probabilities, of a network that did not train on the images: on memorised labels T is the
            identity.
        noisy_labels: as annotated, -1 where one is missing.

    Raises:
        InvalidInput: no image has a label.
    """
    labelled = noisy_labels[noisy_labels >= 0]
    if not len(labelled):
        raise InvalidInput("noisy_labels: all are missing; a transition matrix cannot be estimated")
    return joint_transition_matrix(scaled_joint(confident_joint(noisy_labels, probs), np.bincount(labelled)))


def anchor_transition_matrix(
    probs: Float[np.ndarray, "n classes"],
    *,
    lower: float | None = None,
    upper: float | None = None,
    single: bool = False,
) -> Float[np.ndarray, "classes classes"]:
    """T read off images that are most certainly of a class: row i is what the network says of those of class i.

    The most certain images of all may be outliers, so those at or above the percentile `upper` of p(i) are left out.
    What is left down to `lower` is averaged; or, as the paper has it, the `single` most certain one is taken.
    Percentiles are over all images, so they have to fit the share of a class: by default they reach from 1 / K of the
    images down to the surest 0.3 / K, which is from the 90th to the 97th percentile for the ten classes of the paper.

    Args:
        probs: probabilities of the noisy label.
        lower: percentile, in [0, 100].
        upper: percentile above `lower`; 100 leaves nobody out, as the authors do with a hundred classes.
        single: take one image a class.

    Raises:
        InvalidInput: no images, or percentiles out of order.
    """
    num, classes = probs.shape
    lower = 100 - 100 / classes if lower is None else lower
    upper = 100 - 30 / classes if upper is None else upper
    if not 0 <= lower < upper <= 100:
        raise InvalidInput(f"percentiles must be in order, 0 <= lower < upper <= 100, got {lower} and {upper}")
    if not num:
        raise InvalidInput(f"probs: shape {probs.shape}; a transition matrix cannot be estimated of no images")
    floor, ceiling = _thresholds(probs, lower, upper)
    if single:
        anchors = np.zeros(classes, dtype=np.int64)
        best = np.full(classes, -np.inf)
        for part in chunks(num, classes):
            allowed = np.where(probs[part] < ceiling, probs[part], -np.inf)
            rows = allowed.argmax(axis=0)
            found = allowed[rows, np.arange(classes)]
            anchors = np.where(found > best, rows + part.start, anchors)
            best = np.maximum(best, found)
        return _normalised(probs[anchors].astype(np.float64))
    sums, number = np.zeros((classes, classes)), np.zeros(classes, dtype=np.int64)
    # Where many are equally certain, none may lie below the ceiling and above the floor: then all that reach it count.
    ceiling = np.where(floor == ceiling, np.inf, ceiling)
    for part in chunks(num, classes):
        chosen, rows = np.nonzero(((probs[part] >= floor) & (probs[part] < ceiling)).T)
        _add_by_group(sums, chosen, probs[part][rows])
        number += np.bincount(chosen, minlength=classes)
    return _normalised(sums / number[:, None])


def soft_transition_matrix(
    probs: Float[np.ndarray, "n classes"], noisy_labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "classes classes"]:
    """Given labels counted with beliefs as weights: T[i, j] = sum of p(i) over images labelled j / sum of p(i).

    A class that nothing is believed of keeps its labels.

    Args:
        probs: class probabilities.
        noisy_labels: as annotated, -1 where one is missing.
    """
    classes = probs.shape[1]
    sums = np.zeros((classes, classes))
    for part in chunks(len(probs), classes):
        labelled = np.flatnonzero(noisy_labels[part] >= 0)
        order = labelled[np.argsort(noisy_labels[part][labelled], kind="stable")]
        _add_by_group(sums, noisy_labels[part][order], probs[part][order])
    return joint_transition_matrix(sums)


def counted_transition_matrix(
    noisy_labels: Int[np.ndarray, " n"],
    clean_labels: Int[np.ndarray, " n"],
    num_classes: int,
    *,
    least: int = 1,
    fallback: Float[np.ndarray, "classes classes"] | None = None,
) -> Float[np.ndarray, "classes classes"]:
    """T counted among images whose true class is known.

    Args:
        noisy_labels: as annotated before the images were checked.
        clean_labels: the truth.
        num_classes: K.
        least: images of a true class that are enough to count on.
        fallback: whose rows stand for the classes with fewer; by default that of symmetric noise with as many wrong
            labels as there are among all the images.

    Raises:
        InvalidInput: no images, or labels that are none of the classes.
    """
    for name, labels in (("noisy_labels", noisy_labels), ("clean_labels", clean_labels)):
        if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
            raise InvalidInput(f"{name}: {labels.min()} to {labels.max()}; 0 to {num_classes - 1} are possible")
    return _with_fallback(joint_counts(clean_labels, noisy_labels, num_classes).astype(float), least, fallback)


def gold_transition_matrix(
    probs: Float[np.ndarray, "n classes"],
    clean_labels: Int[np.ndarray, " n"],
    *,
    least: int = 1,
    fallback: Float[np.ndarray, "classes classes"] | None = None,
) -> Float[np.ndarray, "classes classes"]:
    """T[i] = what a network trained on noisy labels says, in the mean, of images that are truly of class i.

    Args:
        probs: probabilities of the noisy label, of images that the network did not train on.
        clean_labels: their true classes.
        least: images of a class that are enough to count on.
        fallback: see `counted_transition_matrix`.

    Raises:
        InvalidInput: no images.
    """
    classes = probs.shape[1]
    order = np.argsort(clean_labels, kind="stable")
    sums = np.zeros((classes, classes))
    for part in chunks(len(order), classes):
        _add_by_group(sums, clean_labels[order[part]], probs[order[part]])
    return _with_fallback(sums, least, fallback)


def transition_matrix_of_joints(
    clean_joint: Float[np.ndarray, "classes classes"],
    noisy_joint: Float[np.ndarray, "classes classes"],
    *,
    ridge: float = 0.0,
) -> Float[np.ndarray, "classes classes"]:
    """The transition matrix that turns one table of (label, prediction) into another (Sukhbaatar et al. 2014).

    Of one network and one distribution of images, C_c[i, k] = P(clean = i, predicted = k) and C_n[j, k] = P(noisy = j,
    predicted = k). Labels that depend on the true class alone make C_n = T^T C_c, whatever the network's own mistakes;
    rows that were normalised by label would not. Solved, cut off at zero, rows made to sum to one.

    Args:
        clean_joint: counts or shares of some images, rows the true labels, columns the predictions.
        noisy_joint: the same of other images by their noisy labels; the two totals need not agree.
        ridge: pull towards labels that are kept, in units of the mean squared row of C_c; classes / images is the
            sampling noise of C_c. 1e-6 at least where C_c is close to singular: a class that is not in it keeps its
            labels.

    Raises:
        ValueError: a table is empty, or `ridge` is negative.
    """
    if not (clean_joint.sum() > 0 and noisy_joint.sum() > 0):
        raise ValueError("both tables of labels and predictions need at least one image")
    if ridge < 0:
        raise ValueError(f"ridge must be at least 0, got {ridge}")
    clean, noisy = clean_joint / clean_joint.sum(), noisy_joint / noisy_joint.sum()
    if np.linalg.cond(clean) > 1e6:
        ridge = max(ridge, 1e-6)
    if ridge == 0:
        transition = np.linalg.solve(clean.T, noisy.T)
    else:
        # Least squares of C_n - T^T C_c, and of T - I by the ridge.
        pull = ridge * np.square(clean).sum(axis=1).mean() * np.eye(len(clean))
        transition = np.linalg.solve(clean @ clean.T + pull, clean @ noisy.T + pull)
    transition = transition.clip(min=0)
    lost = transition.sum(axis=1) == 0
    transition[lost, lost] = 1
    return transition / transition.sum(axis=1, keepdims=True)


def _add_by_group(
    sums: Float[np.ndarray, "classes classes"], groups: Int[np.ndarray, " n"], rows: Float[np.ndarray, "n classes"]
) -> None:
    """Adds each row to the sum of its group; groups are ascending."""
    if len(groups):
        present, starts = np.unique(groups, return_index=True)
        sums[present] += np.add.reduceat(rows, starts, axis=0, dtype=np.float64)


def _with_fallback(
    weights: Float[np.ndarray, "classes classes"], least: int, fallback: Float[np.ndarray, "classes classes"] | None
) -> Float[np.ndarray, "classes classes"]:
    """Rows of weights, each the sum of so many distributions, normalised; rows of fewer than `least` replaced."""
    images = weights.sum(axis=1)
    if not images.any():
        raise InvalidInput("no image's true class is known; a transition matrix cannot be counted")
    few = np.rint(images) < least
    if fallback is None:
        classes = len(weights)
        wrong = 1 - np.trace(weights) / images.sum()
        fallback = symmetric_matrix(classes, wrong) if classes > 1 else np.ones((1, 1))
    return np.where(few[:, None], fallback, weights / np.where(few, 1, images)[:, None])


def _normalised(rows: Float[np.ndarray, "classes classes"]) -> Float[np.ndarray, "classes classes"]:
    return rows / rows.sum(axis=1, keepdims=True)


def _thresholds(
    probs: Float[np.ndarray, "n classes"], lower: float, upper: float
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """The two percentiles of every column, each the next larger value that occurs; infinite for 100.

    Only the largest values of each column are held, so that a file larger than memory can be read.
    """
    num, classes = probs.shape
    ranks = [int(np.ceil((num - 1) * percentile / 100)) for percentile in (lower, upper)]
    held = num - ranks[0]
    top = np.empty((classes, 0), dtype=probs.dtype)
    # Blocks no shorter than what is held: each value is then sorted a few times at most.
    for part in chunks(num, classes, max(held, CHUNK_VALUES // classes, 1)):
        top = np.concatenate([top, probs[part].T], axis=1)
        if top.shape[1] > held:
            top = np.partition(top, top.shape[1] - held, axis=1)[:, -held:]
    top.sort(axis=1)
    return top[:, 0], top[:, ranks[1] - ranks[0]] if upper < 100 else np.full(classes, np.inf)
