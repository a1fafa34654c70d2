"""The five diagnostics against arithmetic done by hand and their exact properties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.audit.diagnosis.accuracy import clean_accuracy, expected_agreement, is_invertible
from winnow.audit.diagnosis.added_noise import inflation, lost_to_noise, remaining, with_added_noise
from winnow.audit.diagnosis.evidence import Evidence
from winnow.audit.diagnosis.frequencies import corrected_shares, frequencies, purity, total_variation
from winnow.audit.diagnosis.learner import PENALTIES, Learner
from winnow.audit.diagnosis.measure import bootstrap_interval, mean_interval, over_draws
from winnow.audit.diagnosis.relevance import explained_variance, f_statistics, overlap
from winnow.audit.diagnosis.samples import fitted_curve
from winnow.noise.intervals import clopper_pearson
from winnow.noise.matrices import pair_matrix, symmetric_matrix


def evidence(labels, believed, classes=3, **changes):
    labels, believed = np.asarray(labels), np.asarray(believed)
    every = np.ones(len(labels), dtype=bool)
    made = Evidence(
        features=np.eye(classes)[believed],
        labels=labels,
        class_names=tuple("abcdefgh"[:classes]),
        fold=np.arange(len(labels)) % 5,
        groups=np.arange(len(labels)),
        predicted=believed,
        believed=believed,
        trusted=every,
        surest=every,
        contradiction=0.0,
        checked=True,
        description="made for a test",
    )
    return replace(made, **changes)


class TestAccuracy:
    @given(accuracy=st.floats(0.0, 1.0), rate=st.floats(0.0, 0.6), classes=st.integers(2, 8))
    @settings(max_examples=50, deadline=None)
    def test_is_the_formula_for_symmetric_noise_and_the_way_back_is_the_identity(self, accuracy, rate, classes):
        if abs(1 - rate * classes / (classes - 1)) < 0.1:
            return
        confusion = symmetric_matrix(classes, 1 - accuracy) / classes
        matrix = symmetric_matrix(classes, rate)
        seen = expected_agreement(confusion, matrix)
        agreement = accuracy * (1 - rate) + (1 - accuracy) * rate / (classes - 1)

        assert np.trace(seen) == pytest.approx(agreement)
        assert clean_accuracy(seen, matrix) == pytest.approx(accuracy, abs=1e-9)

    def test_is_the_agreement_where_no_label_is_wrong(self):
        seen = np.array([[0.3, 0.1], [0.2, 0.4]])

        assert clean_accuracy(seen, np.eye(2)) == pytest.approx(0.7)

    def test_is_found_behind_noise_of_one_direction_whose_errors_are_not_even(self):
        confusion = np.array([[0.3, 0.1, 0.0], [0.0, 0.3, 0.0], [0.1, 0.0, 0.2]])
        matrix = pair_matrix(3, 0.2)

        assert clean_accuracy(expected_agreement(confusion, matrix), matrix) == pytest.approx(0.8)

    def test_agreement_is_counted_by_prediction_and_given_label(self):
        # All of class 0, half predicted 1; a fifth of it is given 1.
        confusion, matrix = np.array([[0.5, 0.5], [0.0, 0.0]]), np.array([[0.8, 0.2], [0.0, 1.0]])

        assert expected_agreement(confusion, matrix) == pytest.approx(np.array([[0.4, 0.1], [0.4, 0.1]]))

    def test_is_refused_where_less_than_a_tenth_of_the_signal_is_left(self):
        assert is_invertible(symmetric_matrix(10, 0.8))  # 1 - 0.8 * 10 / 9 = 0.11
        assert not is_invertible(symmetric_matrix(10, 0.82))


class TestAddedNoise:
    def test_of_zero_changes_nothing_and_a_larger_rate_holds_the_smaller_ones_changes(self):
        labels = np.arange(1000) % 4
        small, large = (with_added_noise(labels, delta, 4, seed=1, draw=0) for delta in (0.1, 0.2))

        assert (with_added_noise(labels, 0.0, 4, seed=1, draw=0) == labels).all()
        changed = small != labels
        assert (small[changed] == large[changed]).all()
        assert changed.mean() == pytest.approx(0.1, abs=0.03)
        assert set(((large - labels) % 4)[large != labels]) == {1, 2, 3}

    def test_multiplies_what_remains(self):
        # 0.1 on top of 0.2 of 5 classes: 0.2 + 0.1 - 0.02 * 5 / 4 = 0.275.
        assert remaining(0.2, 5) * remaining(0.1, 5) == pytest.approx(remaining(0.275, 5))
        assert inflation(0.2, 5) == pytest.approx(1 / 0.75**2)

    def test_is_followed_back_along_the_inflation_of_variance(self):
        # The value is 0.9 - 0.02 * inflation in all; the present noise of 0.3 has cost 0.02 * (inflation - 1).
        deltas = np.array([0.0, 0.05, 0.1, 0.2])
        values = 0.9 - 0.02 * inflation(0.3, 10) * inflation(deltas, 10)

        assert lost_to_noise(deltas, values, 0.3, 10) == pytest.approx(0.02 * (1 / (2 / 3) ** 2 - 1))
        assert lost_to_noise(deltas, values, 0.0, 10) == 0


class TestFrequencies:
    def test_are_those_before_the_noise(self):
        shares, matrix = np.array([0.6, 0.3, 0.1]), pair_matrix(3, 0.3)

        assert corrected_shares(matrix.T @ shares, matrix) == pytest.approx(shares)

    def test_are_the_given_ones_without_noise_and_stay_on_the_simplex_where_inversion_would_leave_it(self):
        given_shares = np.array([0.05, 0.95])
        found = corrected_shares(given_shares, symmetric_matrix(2, 0.2))

        assert corrected_shares(given_shares, np.eye(2)) == pytest.approx(given_shares, abs=1e-12)
        assert np.linalg.solve(symmetric_matrix(2, 0.2).T, given_shares)[0] < 0
        assert found == pytest.approx([0, 1], abs=1e-6)
        assert found.sum() == pytest.approx(1)

    def test_purity_is_the_share_that_a_label_is_right(self):
        # 40 of class 0, a quarter of them called 1; 60 of class 1.
        shares, matrix = np.array([0.4, 0.6]), np.array([[0.75, 0.25], [0.0, 1.0]])

        assert purity(shares, matrix.T @ shares, matrix) == pytest.approx([1, 60 / 70])
        assert total_variation(np.array([0.3, 0.7]), shares) == pytest.approx(0.1)

    def test_permuted_classes_permute_the_rows(self):
        truth = np.repeat([0, 1, 2], [60, 30, 30])
        labels = np.where(np.arange(120) % 10 == 0, 2, truth)
        move = np.array([2, 0, 1])
        first, second = (
            frequencies(evidence(a, b), seed=0).curves["classes"]
            for a, b in ((labels, truth), (move[labels], move[truth]))
        )

        for row in first:
            other = second[move[row["class"]]]
            assert other["overcount"].value == pytest.approx(row["overcount"].value)
            assert other["overcount"].interval == pytest.approx(row["overcount"].interval)
            assert 0 <= row["purity"].value <= 1
            assert 0 <= row["share"].interval[0] <= row["share"].interval[1] <= 1

    def test_flags_a_class_that_took_images_of_another(self):
        truth = np.repeat([0, 1, 2], 100)
        labels = np.where((truth == 0) & (np.arange(300) % 4 == 0), 2, truth)
        found = frequencies(evidence(labels, truth), seed=0)

        assert found.measures["flagged_classes"].value == 2
        assert found.measures["total_variation"].value == pytest.approx(25 / 300, abs=0.01)
        assert (
            found.curves["classes"][2]["overcount"].interval[0]
            > 0
            > found.curves["classes"][0]["overcount"].interval[1]
        )

    def test_are_withheld_where_the_matrix_tells_nothing(self):
        truth = np.repeat([0, 1], 50)
        found = frequencies(evidence(np.tile([0, 1], 50), truth, classes=2), seed=0)

        assert found.withheld
        assert found.measures["condition_number"].interval is None


class TestRelevance:
    def test_is_the_share_of_variance_between_the_classes(self):
        # Class means 1 and 3 around 2, each class with deviations of 1: between 4, within 4.
        values = np.array([[0.0, 5.0], [2.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
        found = explained_variance(values, np.array([0, 0, 1, 1]), 2)

        assert found == pytest.approx([0.5, 0.0])
        assert f_statistics(found, 4, 2) == pytest.approx([2.0, 0.0])  # (4 / 1) / (4 / 2)

    def test_overlap_is_jaccards(self):
        assert overlap(np.array([1, 2, 3]), np.array([2, 3, 4])) == 0.5


class TestSamples:
    def test_a_known_factor_is_found(self):
        sizes = np.array([100.0, 200.0, 400.0, 800.0])
        ratios = np.array([1.0, 1.5, 2.0])
        reached = 0.95 - 2 * (sizes[:, None] / ratios) ** -0.5

        curve = fitted_curve(sizes, reached)

        assert curve.ratios() == pytest.approx(ratios, rel=1e-6)
        assert (curve.limit, curve.exponent) == pytest.approx((0.95, 0.5))
        assert curve.gain(100.0, 4.0) == pytest.approx(2 * (0.1 - 0.05))


class TestLearner:
    def test_predicts_what_a_ridge_fit_of_the_other_folds_predicts(self):
        random = np.random.default_rng(0)
        features = random.normal(size=(60, 4))
        labels = (features @ random.normal(size=(4, 3))).argmax(axis=1)
        fold = np.arange(60) % 5
        fitted = Learner(features, fold, 3).fit(labels)
        z = (features - features.mean(axis=0)) / features.std(axis=0)
        for place in (0, 6):
            for number in range(5):
                train, held = fold != number, fold == number
                products = z[train].T @ z[train]
                penalty = PENALTIES[place] * np.trace(products) / 4
                shares = np.bincount(labels[train], minlength=3) / train.sum()
                weights = np.linalg.solve(
                    products + penalty * np.eye(4), z[train].T @ (np.eye(3)[labels[train]] - shares)
                )
                assert (fitted.predicted[place, held] == (z[held] @ weights + shares).argmax(axis=1)).all()
        assert fitted.agreement[0] == (fitted.predicted[0] == labels).mean()

    def test_degrees_of_freedom_lie_between_none_and_all(self):
        learner = Learner(np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 5, 2)

        assert 6 > learner.degrees_of_freedom(1e-4) > 5.9
        assert learner.degrees_of_freedom(1.0) == pytest.approx(
            (learner.spectrum / (learner.spectrum + learner.spectrum.mean())).sum()
        )


class TestEvidence:
    def test_counts_noise_among_the_trusted(self):
        truth = np.repeat([0, 1, 2], 40)
        labels = truth.copy()
        labels[:10] = 1
        known = evidence(labels, truth)
        matrix = known.transition_matrix()

        # One image a class is added: of the 120 trusted 10 are wrong.
        assert matrix[0, 1] == pytest.approx((10 + 1 / 24) / 41)
        assert known.noise_rate == pytest.approx(1 - matrix.diagonal().mean())
        assert known.noise_rate_interval == pytest.approx(clopper_pearson(10, 120))

    def test_without_wrong_labels_is_the_identity(self):
        truth = np.repeat([0, 1, 2], 40)

        assert (evidence(truth, truth).transition_matrix() == np.eye(3)).all()
        assert evidence(truth, truth).noise_rate_interval[0] == 0

    def test_draws_copies_together(self):
        known = evidence(np.repeat([0, 1, 2], 4), np.repeat([0, 1, 2], 4), groups=np.repeat(np.arange(6), 2))

        for weights in known.bootstrap_weights(0, 5):
            assert (weights[::2] == weights[1::2]).all()
            assert weights.sum() == 12

    def test_what_belief_may_err_is_taken_off_the_lower_end(self):
        truth = np.repeat([0, 1, 2], 40)
        labels = truth.copy()
        labels[:10] = 1
        low, high = evidence(labels, truth, contradiction=0.02).noise_rate_interval

        assert (low, high) == pytest.approx((clopper_pearson(10, 120)[0] - 0.02, clopper_pearson(10, 120)[1]))


class TestIntervals:
    def test_of_a_share_are_clopper_and_pearsons(self):
        assert clopper_pearson(0, 60) == pytest.approx((0, 1 - 0.025 ** (1 / 60)))
        assert clopper_pearson(80, 100) == pytest.approx((0.708, 0.873), abs=1e-3)
        assert clopper_pearson(0, 0) == (0, 1)

    def test_of_a_mean_are_students(self):
        # t(2, 0.975) = 4.303; the standard error of 1, 2, 3 is 1 / sqrt 3.
        assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)

    def test_draws_that_are_all_the_same_are_exact(self):
        assert over_draws("x", [0.5, 0.5], "of a test").interval is None
        assert over_draws("x", [0.5, 0.7], "of a test", (0, 1)).interval == (0.0, 1.0)

    def test_widen_where_several_must_hold(self):
        copies = np.random.default_rng(0).normal(size=1000)
        low, high = bootstrap_interval(0.0, copies)
        wide_low, wide_high = bootstrap_interval(0.0, copies, among=10)

        assert high == pytest.approx(1.96 * copies.std(ddof=1), rel=1e-3)
        assert wide_high == pytest.approx(2.807 * copies.std(ddof=1), rel=1e-3)
        assert wide_low < low
