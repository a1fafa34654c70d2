"""A class name with two senses."""

import numpy as np
import pytest

from winnow.errors import UsageError
from winnow.noise.ambiguity import ambiguity

from .checks import K, assert_fits, clean, counts, names


@pytest.mark.parametrize("draw", ["exact", "expected"])
def test_the_rate_is_the_share_of_the_name_that_has_the_other_sense(draw):
    noise = ambiguity(clean(), names(), K, 0.3, {3: 8}, seed=0, draw=draw)
    under = noise.noisy_labels == 8
    tolerance = 0.001 if draw == "exact" else 5 * np.sqrt(0.3 * 0.7 / under.sum())

    assert (clean()[under] == 3).mean() == pytest.approx(0.3, abs=tolerance)
    assert noise.realised_rates["ambiguous_classes"] == (clean()[under] == 3).mean()
    assert (clean()[noise.flipped] == 3).all()
    assert (noise.noisy_labels[noise.flipped] == 8).all()
    assert_fits(counts(clean(), noise.noisy_labels), noise.transition_matrix)


def test_at_one_half_all_images_of_an_equally_large_class_are_renamed():
    labels = np.repeat(np.arange(4), 50)

    noise = ambiguity(labels, names(200), 4, 0.5, {1: 2}, seed=0)

    assert (noise.noisy_labels == np.where(labels == 1, 2, labels)).all()
    assert noise.realised_rate == 0.25
    assert noise.taxonomy == "NAR"


def test_a_rate_of_zero_changes_nothing_even_with_empty_classes():
    labels = np.zeros(20, int)

    assert not ambiguity(labels, names(20), 4, 0.0, {1: 2, 0: 3}, seed=0).flipped.any()


@pytest.mark.parametrize(
    ("rate", "mapping", "expected"),
    [
        (0.6, {1: 2}, "needs more images than class 1 has; 0.5 is the most"),
        (1.0, {1: 2}, "needs more images"),
        (0.1, {1: 2, 2: 3}, "no class stands twice"),
        (0.1, {0: 2, 1: 2}, "no class stands twice"),
        (0.1, {0: 9}, "no class stands twice"),
        (0.1, {}, "needs a class map"),
    ],
)
def test_impossible_requests_are_refused(rate, mapping, expected):
    with pytest.raises(UsageError, match=expected):
        ambiguity(np.repeat(np.arange(4), 50), names(200), 4, rate, mapping, seed=0)
