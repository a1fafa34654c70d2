"""Open-set and web noise: which images are replaced, by which donors, and what becomes of the labels."""

import numpy as np
import pytest
from scipy.stats import binom

from winnow.errors import InputError, UsageError
from winnow.noise.hierarchy import sibling_map
from winnow.noise.open_set import open_set, web

from .checks import K, N, assert_fits, clean, counts, names

DONORS = [f"donor {row}" for row in range(12_000)]
MAPPING = sibling_map([[0, 3, 8], [1, 7], [2, 4, 5, 6, 9]], K)
both_draws = pytest.mark.parametrize("draw", ["exact", "expected"])


def test_labels_stay_and_every_class_loses_its_exact_share():
    noise = open_set(clean(), names(), K, 0.4, seed=0, donor_ids=DONORS)

    assert (noise.noisy_labels == clean()).all()
    assert not noise.flipped.any()
    assert noise.transition_matrix is None
    assert noise.taxonomy == "open-set"
    for label in range(K):
        mine = clean() == label
        assert noise.foreign[mine].sum() == round(0.4 * mine.sum())
    assert noise.realised_rate == noise.foreign.mean()


def test_expected_counts_lie_in_their_binomial_interval():
    foreign = open_set(clean(), names(), K, 0.4, seed=0, draw="expected").foreign

    for label in range(K):
        mine = clean() == label
        low, high = binom.interval(1 - 1e-7, mine.sum(), 0.4)
        assert low <= foreign[mine].sum() <= high


@both_draws
def test_donors_are_distinct_and_stand_only_where_images_are_foreign(draw):
    noise = open_set(clean(), names(), K, 0.4, seed=1, donor_ids=DONORS, draw=draw)
    used = noise.donor_rows[noise.foreign]

    assert len(set(used.tolist())) == len(used)
    assert used.min() >= 0
    assert used.max() < len(DONORS)
    assert (noise.donor_rows[~noise.foreign] == -1).all()


def test_too_few_donors_are_refused_with_both_counts():
    with pytest.raises(InputError, match=r"8,000 images are to be replaced, 100 donors"):
        open_set(np.arange(N) % K, names(), K, 0.4, seed=0, donor_ids=DONORS[:100])


@both_draws
def test_web_noise_has_both_shares_on_different_images(draw):
    noise = web(clean(), names(), K, 0.2, MAPPING, foreign_rate=0.3, seed=2, donor_ids=DONORS, draw=draw)
    target = np.array([MAPPING[label] for label in range(K)])

    assert not (noise.foreign & noise.flipped).any()
    assert (noise.noisy_labels[noise.flipped] == target[clean()][noise.flipped]).all()
    tolerance = 0.0005 if draw == "exact" else 5 * np.sqrt(0.3 * 0.7 / N)
    assert noise.realised_rates["foreign"] == pytest.approx(0.3, abs=tolerance)
    assert noise.realised_rates["wrong_class"] == pytest.approx(0.2, abs=tolerance)
    assert noise.realised_rate == pytest.approx(sum(noise.realised_rates.values()))
    own = ~noise.foreign
    # Of the images that are of some class, 0.2 / 0.7 have a wrong label.
    assert noise.transition_matrix[0, 3] == pytest.approx(2 / 7)
    assert_fits(counts(clean()[own], noise.noisy_labels[own]), noise.transition_matrix)


@pytest.mark.parametrize("make", [open_set, lambda y, ids, k, rate, **kw: web(y, ids, k, rate, MAPPING, **kw)])
@both_draws
def test_order_rate_zero_and_missing_labels(make, draw):
    more = {} if make is open_set else {"foreign_rate": 0.2}
    order = np.random.default_rng(0).permutation(N)
    labels, ids = clean(), names()
    labels[::8] = -1
    before = labels.copy()

    forward = make(labels, ids, K, 0.3, seed=3, donor_ids=DONORS, draw=draw, **more)
    shuffled = make(labels[order], [ids[row] for row in order], K, 0.3, seed=3, donor_ids=DONORS, draw=draw, **more)
    other = make(labels, ids, K, 0.3, seed=4, donor_ids=DONORS, draw=draw, **more)
    nothing = make(labels, ids, K, 0.0, seed=3, draw=draw, **dict.fromkeys(more, 0.0))

    assert (shuffled.noisy_labels == forward.noisy_labels[order]).all()
    assert (shuffled.donor_rows == forward.donor_rows[order]).all()
    assert (other.foreign != forward.foreign).any()
    assert not forward.foreign[::8].any()
    assert (forward.noisy_labels[::8] == -1).all()
    assert (labels == before).all()
    assert not nothing.foreign.any()
    assert (nothing.noisy_labels == labels).all()


def test_a_subset_has_the_foreign_images_of_the_whole():
    rows = np.arange(0, N, 7)
    ids = names()

    whole = web(clean(), ids, K, 0.2, MAPPING, foreign_rate=0.3, seed=5, draw="expected")
    part = web(clean()[rows], [ids[row] for row in rows], K, 0.2, MAPPING, foreign_rate=0.3, seed=5, draw="expected")

    assert (part.foreign == whole.foreign[rows]).all()
    assert (part.noisy_labels == whole.noisy_labels[rows]).all()


def test_two_shares_that_are_more_than_the_whole_are_refused():
    with pytest.raises(UsageError, match="so must their sum"):
        web(clean(), names(), K, 0.6, MAPPING, foreign_rate=0.5, seed=0)
    everything = web(clean(), names(), K, 0.0, MAPPING, foreign_rate=1.0, seed=0)
    assert everything.foreign.all()
