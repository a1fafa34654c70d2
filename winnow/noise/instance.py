"""Instance-dependent noise: every image has its own flip rate, and its pixels choose the wrong class.

Xia et al., "Part-dependent Label Noise", arXiv:2006.07836, and the code that belongs to it. Part from it: a rate of 0
changes nothing, and the features may be other than raw pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from winnow.data.randomness import stream_key
from winnow.errors import UsageError
from winnow.noise.channel import (
    LabelNoise,
    check_request,
    class_members,
    draw_from_rows,
    noise_keys,
    normals,
    share_of_labels,
    uniform_of,
)

KEPT_CLASSES = 128
"""Up to here the probabilities (N, K) are kept: they are then no larger than the features."""
_CHUNK = 8192


def truncated_normal(uniform: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """Quantiles, at `uniform` in [0, 1), of a normal distribution cut to [0, 1]."""
    from scipy.stats import truncnorm  # takes a second to import

    low, high = -mean / deviation, (1 - mean) / deviation
    return np.clip(truncnorm.ppf(uniform, low, high, loc=mean, scale=deviation), 0, 1)


def calibrated_mean(rate: float, deviation: float) -> float:
    """The mean that a normal distribution must have for its cut to [0, 1] to have the mean `rate`.

    Raises:
        UsageError: the rate is too close to 0 or 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import truncnorm

    def excess(mean: float) -> float:
        cut = truncnorm.mean(-mean / deviation, (1 - mean) / deviation, loc=mean, scale=deviation)
        return float(cut) - rate

    low, high = 0.5 - 50 * deviation, 0.5 + 50 * deviation
    if not excess(low) < 0 < excess(high):
        raise UsageError(f"instance noise cannot be calibrated to a rate of {rate:.6g}")
    return float(brentq(excess, low, high, xtol=1e-12))


def instance_probabilities(
    features: np.ndarray,
    label: int,
    flip_rates: np.ndarray,
    weights: np.ndarray,
    *,
    temperature: float | None = None,
) -> np.ndarray:
    """Probabilities of each noisy label for images of one class, (n, K).

    Args:
        features: (n, S).
        label: the class.
        flip_rates: of each image, (n,).
        weights: the class's projection, (S, K).
        temperature: the scores are divided by this many times the length of the features; None leaves them as they
            are, and then nearly the whole of an image's flip rate goes to one class.
    """
    scores = features.astype(np.float64) @ weights
    if temperature is not None:
        length = np.linalg.norm(features, axis=1, keepdims=True)
        scores /= temperature * np.where(length > 0, length, 1)
    scores[:, label] = -np.inf
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    rows = flip_rates[:, None] * scores / scores.sum(axis=1, keepdims=True)
    rows[:, label] = 1 - flip_rates
    return rows


def instance(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    features: np.ndarray,
    *,
    seed: int,
    deviation: float = 0.1,
    calibrate: bool = False,
    temperature: float | None = None,
    described: str = "the features given",
) -> LabelNoise:
    """Each image is wrong with a rate of its own, in a class that its features choose.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: centre of the images' flip rates. Their mean is above it for small rates, because of the cut at 0: 0.1
            gives 0.129.
        features: (N, S): pixels, flattened and normalised, or any other.
        seed: of the randomness.
        deviation: standard deviation of the flip rates before the cut.
        calibrate: choose the centre so that `rate` is the mean.
        temperature: see `instance_probabilities`.
        described: what the features are, for the convention.
    """
    check_request(clean_labels, ids, num_classes, rate, features=features)
    if deviation <= 0 or (temperature is not None and temperature <= 0):
        raise UsageError("deviation and temperature of instance noise must be above 0")
    flip_rates = np.zeros(len(ids))
    if rate:
        centre = calibrated_mean(rate, deviation) if calibrate else rate
        flip_rates = truncated_normal(uniform_of(noise_keys(seed, "instance/rate", ids)), centre, deviation)
    uniform = uniform_of(noise_keys(seed, "instance", ids))
    noisy_labels = clean_labels.astype(np.int64, copy=True)
    kept = np.zeros((len(ids), num_classes), np.float32) if num_classes <= KEPT_CLASSES else None
    matrix = np.eye(num_classes)
    for label, members in class_members(clean_labels):
        weights = normals(stream_key(seed, "noise/instance/weights", label), features.shape[1], num_classes)
        total = np.zeros(num_classes)
        for start in range(0, len(members), _CHUNK):
            some = members[start : start + _CHUNK]
            rows = instance_probabilities(features[some], label, flip_rates[some], weights, temperature=temperature)
            noisy_labels[some] = draw_from_rows(rows, uniform[some])
            total += rows.sum(axis=0)
            if kept is not None:
                kept[some] = rows
        matrix[label] = total / len(members)
    flipped = noisy_labels != clean_labels
    centred = f"calibrated to the mean {rate:.6g}" if calibrate else f"around {rate:.6g}"
    spread = "" if temperature is None else f", temperature {temperature:.6g}"
    return LabelNoise(
        noisy_labels=noisy_labels,
        flipped=flipped,
        transition_matrix=matrix,
        realised_rate=share_of_labels(flipped, clean_labels),
        generator="instance",
        rate=rate,
        convention=(
            f"instance: each image has its own rate, normal {centred} (deviation {deviation:.6g}, cut to 0-1), "
            f"wrong class by random scores of {described}{spread}"
        ),
        draw="expected",
        seed=seed,
        probabilities=kept,
    )
