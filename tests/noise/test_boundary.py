"""Boundary noise: runner-up classes, in proportion to their probability."""

import numpy as np
import pytest
from scipy.stats import chi2

from winnow.errors import UsageError
from winnow.noise.boundary import boundary, scaled_to_sum, systematic_sample

from .checks import K, N, clean, names

PROBABILITIES = np.random.default_rng(3).dirichlet(np.full(K, 0.5), N).astype(np.float32)
both_draws = pytest.mark.parametrize("draw", ["exact", "expected"])


def made(rate=0.3, **options):
    return boundary(clean(), names(), K, rate, PROBABILITIES, seed=options.pop("seed", 0), **options)


def runner_up():
    others = PROBABILITIES.copy()
    others[np.arange(N), clean()] = -1
    return others.argmax(axis=1), others.max(axis=1)


def test_scaling_by_hand():
    assert scaled_to_sum(np.array([1.0, 2.0, 3.0]), 1.2) == pytest.approx([0.2, 0.4, 0.6])
    # Twice the weights would pass one at the last: it gets one, the others share the remaining 0.6.
    assert scaled_to_sum(np.array([0.1, 0.2, 5.0]), 1.6) == pytest.approx([0.2, 0.4, 1.0])
    assert scaled_to_sum(np.array([0.1, 5.0]), 2.0).tolist() == [1, 1]


def test_a_systematic_sample_has_its_size_and_its_probabilities():
    chances = scaled_to_sum(np.linspace(0.1, 2, 40), 12.0)
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [systematic_sample(chances, rng.integers(0, 2**63, 40).astype(np.uint64), rng.random()) for _ in range(4000)]
    )

    assert (drawn.sum(axis=1) == 12).all()
    error = np.abs(drawn.mean(axis=0) - chances)
    assert (error <= 5.5 * np.sqrt(chances * (1 - chances) / 4000) + 1e-12).all()


@both_draws
def test_every_wrong_label_is_the_runner_up(draw):
    noise = made(draw=draw)

    assert (noise.noisy_labels[noise.flipped] == runner_up()[0][noise.flipped]).all()


def test_the_exact_rate_is_exact_and_the_expected_one_close():
    assert made().realised_rate == 0.3
    assert made(rate=1.0).realised_rate == 1
    assert made(rate=0.0).realised_rate == made(rate=0.0, draw="expected").realised_rate == 0
    assert abs(made(draw="expected").realised_rate - 0.3) < 5 * np.sqrt(0.3 * 0.7 / N)


@both_draws
def test_flips_are_in_proportion_to_the_runner_ups_probability(draw):
    weights = runner_up()[1].astype(np.float64)
    noise = made(rate=0.1, draw=draw)
    chances = 0.1 * weights / weights.mean()
    assert chances.max() <= 1
    groups = np.array_split(np.argsort(weights), 10)

    expected = np.array([chances[rows].sum() for rows in groups])
    found = np.array([noise.flipped[rows].sum() for rows in groups])

    assert ((found - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-6, 10)


@both_draws
def test_rows_and_their_average_agree(draw):
    noise = made(draw=draw)
    average = np.stack([noise.probabilities[clean() == label].mean(axis=0) for label in range(K)])

    assert noise.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert noise.transition_matrix == pytest.approx(average, abs=1e-6)
    assert np.abs(noise.transition_matrix.sum(axis=1) - 1).max() < 1e-12


@both_draws
def test_order_plays_no_part_and_missing_labels_stay(draw):
    order = np.random.default_rng(1).permutation(N)
    labels, ids = clean(), names()
    labels[::9] = -1

    forward = boundary(labels, ids, K, 0.3, PROBABILITIES, seed=4, draw=draw).noisy_labels
    shuffled = boundary(
        labels[order], [ids[row] for row in order], K, 0.3, PROBABILITIES[order], seed=4, draw=draw
    ).noisy_labels

    assert (shuffled == forward[order]).all()
    assert (forward[::9] == -1).all()
    assert (forward != boundary(labels, ids, K, 0.3, PROBABILITIES, seed=5, draw=draw).noisy_labels).any()


def test_a_certain_model_makes_no_rate_impossible():
    certain = np.eye(K, dtype=np.float32)[clean(1000)]

    assert boundary(clean(1000), names(1000), K, 0.4, certain, seed=0).realised_rate == 0.4


def test_probabilities_of_the_wrong_shape_are_refused():
    with pytest.raises(UsageError, match="needs probabilities"):
        boundary(clean(5), names(5), K, 0.1, PROBABILITIES, seed=0)
