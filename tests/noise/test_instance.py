"""Instance-dependent noise: the flip rates' distribution, the formula, and what follows from them."""

from math import exp

import numpy as np
import pytest
from scipy.stats import kstest, norm

from winnow.errors import UsageError
from winnow.noise.instance import calibrated_mean, instance, instance_probabilities, truncated_normal

from .checks import K, N, assert_fits, clean, counts, names

FEATURES = np.random.default_rng(5).normal(size=(N, 16)).astype(np.float32)


def made(rate=0.3, **options):
    return instance(clean(), names(), K, rate, FEATURES, seed=options.pop("seed", 0), **options)


def flip_rates(noise):
    return 1 - noise.probabilities[np.arange(N), clean()].astype(np.float64)


def test_flip_rates_follow_the_truncated_normal():
    low, high = norm.cdf(-3), norm.cdf(7)

    def distribution(q):
        return (norm.cdf((q - 0.3) / 0.1) - low) / (high - low)

    found = flip_rates(made())

    assert kstest(found, distribution).pvalue > 1e-6
    assert found.min() >= 0


@pytest.mark.parametrize(("rate", "mean"), [(0.1, 0.1288), (0.2, 0.2055), (0.3, 0.3004), (0.4, 0.4), (0.5, 0.5)])
def test_the_cut_moves_the_mean_as_published_and_calibration_brings_it_back(rate, mean):
    grid = (np.arange(100_000) + 0.5) / 100_000

    assert truncated_normal(grid, rate, 0.1).mean() == pytest.approx(mean, abs=5e-5)
    assert truncated_normal(grid, calibrated_mean(rate, 0.1), 0.1).mean() == pytest.approx(rate, abs=1e-5)


def test_the_realised_rate_is_the_mean_flip_rate():
    for options in ({"rate": 0.1}, {"rate": 0.3}, {"rate": 0.1, "calibrate": True}):
        noise = made(**options)
        q = flip_rates(noise)

        assert abs(noise.realised_rate - q.mean()) < 5 * np.sqrt((q * (1 - q)).sum()) / N
    assert q.mean() == pytest.approx(0.1, abs=5 * 0.1 / np.sqrt(N))


def test_probabilities_are_the_papers_formula():
    x, weights = np.array([[1.0, 2.0]]), np.array([[0.5, -1.0, 0.25], [0.0, 1.0, 0.5]])
    scores = [0.5, 1.0, 1.25]

    plain = instance_probabilities(x, 1, np.array([0.3]), weights)
    cooled = instance_probabilities(x, 1, np.array([0.3]), weights, temperature=2.0)

    for found, by in ((plain, 1), (cooled, 2 * 5**0.5)):
        first, third = exp(scores[0] / by), exp(scores[2] / by)
        expected = [0.3 * first / (first + third), 0.7, 0.3 * third / (first + third)]
        assert found[0] == pytest.approx(expected, rel=1e-12)


def test_rows_are_distributions_and_counts_fit_them():
    noise = made()

    assert (noise.probabilities >= 0).all()
    assert noise.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(noise.transition_matrix.sum(axis=1) - 1).max() < 1e-12
    assert (noise.probabilities[np.arange(N), noise.noisy_labels] > 0).all()
    assert_fits(counts(clean(), noise.noisy_labels), noise.transition_matrix)


def test_raw_scores_are_nearly_one_hot_and_temperature_spreads_them():
    def sharpness(noise):
        wrong = noise.probabilities.copy()
        wrong[np.arange(N), clean()] = 0
        return (wrong.max(axis=1) / wrong.sum(axis=1)).mean()

    # As long as a standardised image of 784 pixels: 28.
    assert sharpness(instance(clean(), names(), K, 0.3, 7 * FEATURES, seed=0)) > 0.9
    # Scores of standard deviation one: the largest of nine takes roughly a third.
    assert 0.2 < sharpness(made(temperature=1.0)) < 0.45


def test_a_rate_of_zero_changes_nothing():
    assert not made(rate=0.0).flipped.any()


def test_order_and_subset_play_no_part():
    rows = np.random.default_rng(1).permutation(N)[:3000]
    ids = names()

    part = instance(clean()[rows], [ids[row] for row in rows], K, 0.3, FEATURES[rows], seed=0)

    assert (part.noisy_labels == made().noisy_labels[rows]).all()


def test_seeds_differ_missing_labels_stay_and_the_input_is_kept():
    labels = clean()
    labels[::5] = -1
    before = labels.copy()

    noise = instance(labels, names(), K, 0.3, FEATURES, seed=0)

    assert (labels == before).all()
    assert (noise.noisy_labels[::5] == -1).all()
    assert not noise.flipped[::5].any()
    assert (made(seed=0).noisy_labels == made(seed=0).noisy_labels).all()
    assert (made(seed=0).noisy_labels != made(seed=1).noisy_labels).any()


def test_probabilities_of_many_classes_are_not_kept():
    noise = instance(clean(500, 200), names(500), 200, 0.3, FEATURES[:500], seed=0)

    assert noise.probabilities is None
    assert noise.transition_matrix.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rate": 1.2}, "rate must lie in"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"rate": 1e-6, "calibrate": True}, "cannot be calibrated"),
    ],
)
def test_impossible_requests_are_refused(options, expected):
    with pytest.raises(UsageError, match=expected):
        made(**options)
    with pytest.raises(UsageError, match="rows of features"):
        instance(clean(), names(), K, 0.2, FEATURES[:5], seed=0)
