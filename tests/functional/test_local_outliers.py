"""Local outlier factors by their definition, by scikit-learn's, and where points coincide."""

import math

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor

from winnow.errors import InvalidInput
from winnow.functional.local_outliers import class_outlier_factors, local_outlier_factors, outlier_probabilities
from winnow.functional.neighbours import neighbours


def points(count=50, dim=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim))


def by_definition(features, k):
    """Breunig's sums, one point at a time, with the distance 1 - cosine."""
    n = len(features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = [[1 - float(unit[i] @ unit[j]) for j in range(n)] for i in range(n)]
    near = [sorted((j for j in range(n) if j != i), key=lambda j, i=i: distance[i][j])[:k] for i in range(n)]
    last = [distance[i][near[i][-1]] for i in range(n)]
    density = [1 / (sum(max(last[j], distance[i][j]) for j in near[i]) / k + 1e-10) for i in range(n)]
    return [sum(density[j] for j in near[i]) / k / density[i] for i in range(n)]


def test_factors_are_those_of_the_definition():
    features = points()

    found = local_outlier_factors(neighbours(features, 5, metric="cosine"))

    np.testing.assert_allclose(found, by_definition(features, 5), rtol=0, atol=1e-8)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_factors_are_those_of_scikit_learn(metric):
    features = points(count=80)
    theirs = LocalOutlierFactor(n_neighbors=9, metric=metric).fit(features)

    found = local_outlier_factors(neighbours(features, 9, metric=metric))

    np.testing.assert_allclose(found, -theirs.negative_outlier_factor_, rtol=0, atol=1e-6)


def test_factors_do_not_see_order_or_size():
    features, order = points(), np.random.default_rng(1).permutation(50)
    factors = local_outlier_factors(neighbours(features, 5, metric="cosine"))

    mixed = local_outlier_factors(neighbours(features[order] * 7, 5, metric="cosine"))

    np.testing.assert_allclose(mixed, factors[order], atol=1e-9)


def test_identical_points_have_1_and_a_stranger_among_them_is_finite():
    same = np.tile([[1.0, 2.0, 3.0]], (50, 1))
    assert local_outlier_factors(neighbours(same, 5, metric="cosine")).tolist() == [1.0] * 50

    same[7] = [3.0, -1.0, 0.0]
    factors = local_outlier_factors(neighbours(same, 5, metric="cosine"))

    assert np.isfinite(factors).all()
    assert factors.argmax() == 7
    assert factors[7] > 1e9
    assert 0 < 1 / factors[7] < 1e-9


def test_each_class_is_by_itself_and_k_follows_its_size():
    features, labels = points(count=60), np.repeat([0, 1, -1], [30, 20, 10])

    factors = class_outlier_factors(features, labels, share=0.25)

    np.testing.assert_allclose(factors[:30], by_definition(features[:30], 8), atol=1e-8)  # ceil(7.5)
    np.testing.assert_allclose(factors[30:50], by_definition(features[30:50], 5), atol=1e-8)
    assert factors[50:].tolist() == [1.0] * 10


def test_a_share_of_everything_is_all_the_others():
    features = points(count=12)

    factors = class_outlier_factors(features, np.zeros(12, dtype=np.int64), share=1.0)

    np.testing.assert_allclose(factors, by_definition(features, 11), atol=1e-8)


@pytest.mark.parametrize("size", [1, 2])
def test_a_class_of_two_has_no_outliers(size):
    labels = np.array([0] * size + [1] * 5)

    assert class_outlier_factors(points(count=size + 5), labels)[:size].tolist() == [1.0] * size


def test_a_sample_of_the_whole_class_is_the_class():
    features, labels = points(), np.zeros(50, dtype=np.int64)

    sampled = class_outlier_factors(features, labels, reference_size=50)

    np.testing.assert_allclose(sampled, by_definition(features, 20), atol=1e-8)


def test_a_sample_finds_the_outliers_of_the_class():
    random = np.random.default_rng(0)
    inside = np.array([5.0, 0.0, 0.0]) + random.standard_normal((360, 3)) * 0.3
    outside = random.standard_normal((40, 3)) * 3
    features, labels = np.concatenate([inside, outside]), np.zeros(400, dtype=np.int64)

    factors = class_outlier_factors(features, labels, reference_size=100, seed=1)

    assert np.median(factors[360:]) > 3 * np.median(factors[:360])
    assert np.array_equal(factors, class_outlier_factors(features, labels, reference_size=100, seed=1))
    assert not np.array_equal(factors, class_outlier_factors(features, labels, reference_size=100, seed=2))


def test_probabilities_are_the_error_function_of_the_standard_score():
    factors = np.array([1.0, 1.0, 1.2, 4.0])
    mean, std = 1.8, math.sqrt(sum((f - 1.8) ** 2 for f in factors) / 4)

    found = outlier_probabilities(factors)

    expected = [0.0, 0.0, 0.0, math.erf((4.0 - mean) / (math.sqrt(2) * std))]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_equal_factors_are_no_outliers_and_no_probability_is_1():
    assert outlier_probabilities(np.full(7, 1.3)).tolist() == [0.0] * 7
    assert outlier_probabilities(np.empty(0)).tolist() == []
    extreme = outlier_probabilities(np.array([1.0] * 500 + [1e9]))
    assert extreme[:500].tolist() == [0.0] * 500
    assert 0.99 < extreme[-1] < 1


def test_what_has_no_factor_is_refused():
    features, labels = points(count=5), np.zeros(5, dtype=np.int64)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got 0"):
        class_outlier_factors(features, labels, share=0.0)
    with pytest.raises(ValueError, match="reference_size must be at least 3, got 2"):
        class_outlier_factors(features, labels, reference_size=2)
    features[3] = np.nan
    with pytest.raises(InvalidInput, match="NaN or infinite in 1 of 5 rows"):
        class_outlier_factors(features, labels)
