"""Held-out probabilities of any classifier."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from winnow.audit.out_of_fold import (
    out_of_fold_probabilities,
    weight_parameter,
)
from winnow.audit.self_cleaning import label_posterior, self_cleaned
from winnow.errors import InvalidInput


class Memory(ClassifierMixin, BaseEstimator):
    """Knows the rows it has seen by heart: certain of their class, of any other row's it is undecided."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        self.known_ = dict(zip(X[:, 0], y, strict=True))
        self.weights_ = None if sample_weight is None else dict(zip(X[:, 0], sample_weight, strict=True))
        if sample_weight is not None:
            assert self.weights_ == {x: x / 10 for x in X[:, 0]}
        return self

    def predict_proba(self, X):
        seen = [(self.classes_ == self.known_[x]) * 1.0 if x in self.known_ else None for x in X[:, 0]]
        return np.array([np.full(len(self.classes_), 1 / len(self.classes_)) if row is None else row for row in seen])


def blobs(sizes, spread=0.3, seed=0):
    """A cloud of points a class, far from the others."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    angle = 2 * np.pi * labels / len(sizes)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * 3 + random.normal(0, spread, (len(labels), 2)), labels


def test_no_row_is_predicted_by_a_model_that_saw_it():
    features, labels = np.arange(20.0)[:, None], np.arange(20) % 2
    found = out_of_fold_probabilities(Memory(), features, labels, np.array(["a", "b"]))
    assert (found.probs == 0.5).all()
    assert found.temperature is None


def test_weights_follow_their_rows():
    features = np.arange(20.0)[:, None]
    out_of_fold_probabilities(Memory(), features, np.arange(20) % 2, np.arange(2), sample_weight=features[:, 0] / 10)


def test_a_class_that_a_fold_has_not_seen_keeps_its_column():
    """The only row of class 1 is held out once; then classes 0 and 2 must not slip into its column."""
    features, labels = blobs([10, 1, 10])
    found = out_of_fold_probabilities(GaussianNB(), features, labels, np.array(["a", "b", "c"]))

    assert found.probs[10, 1] == 0
    np.testing.assert_allclose(found.probs.sum(axis=1), 1)
    assert (found.probs.argmax(axis=1) == labels)[labels != 1].all()


@pytest.mark.parametrize("estimator", [GaussianNB(), LinearSVC()])
def test_a_fold_that_knows_one_class_is_sure_of_it(estimator):
    features, labels = blobs([8, 1])
    found = out_of_fold_probabilities(estimator, features, labels, np.arange(2))
    np.testing.assert_allclose(found.probs[8], [1, 0], atol=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("estimator", [LinearSVC(), SVC(), RidgeClassifier()])
def test_scores_become_probabilities(estimator, classes):
    features, labels = blobs([30] * classes, spread=1.5)
    found = out_of_fold_probabilities(estimator, features, labels, np.arange(classes))

    right = found.probs.argmax(axis=1) == labels
    assert right.mean() > 0.8
    np.testing.assert_allclose(found.probs.sum(axis=1), 1)
    # Calibrated: as sure as it is right.
    assert found.probs.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.1)


def test_a_classifier_without_scores_or_with_other_scores_is_refused():
    class Silent(ClassifierMixin, BaseEstimator):
        pass

    with pytest.raises(InvalidInput, match="Silent has neither predict_proba nor decision_function"):
        out_of_fold_probabilities(Silent(), *blobs([5, 5]), np.arange(2))
    with pytest.raises(InvalidInput, match="SVC gives 6 scores for 4 classes"):
        out_of_fold_probabilities(SVC(decision_function_shape="ovo"), *blobs([8] * 4), np.arange(4))


def test_weights_reach_the_last_step_of_a_pipeline_or_are_refused():
    assert weight_parameter(make_pipeline(StandardScaler(), LogisticRegression())) == (
        "logisticregression__sample_weight"
    )
    assert weight_parameter(KNeighborsClassifier()) is None
    with pytest.raises(InvalidInput, match=r"KNeighborsClassifier.fit takes none"):
        out_of_fold_probabilities(KNeighborsClassifier(), *blobs([8, 8]), np.arange(2), sample_weight=np.ones(16))


def test_the_posterior_is_bayes_rule():
    """P(y = 1 | x, noisy 1) with p = (.6, .4), P(1 | 0) = .2 and P(1 | 1) = .9: .36 / (.12 + .36)."""
    matrix = np.array([[0.8, 0.2], [0.1, 0.9]])
    found = label_posterior(np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([1, 1]), matrix)
    np.testing.assert_allclose(found, [0.75, 0])


def test_rounds_of_cleaning_find_more_than_one():
    features, labels = blobs([40] * 4, spread=0.9)
    noisy = labels.copy()
    wrong = np.arange(len(labels)) % 10 < 3
    noisy[wrong] = (labels[wrong] + 1) % 4

    def f1(rounds):
        flagged = self_cleaned(LogisticRegression(), features, noisy, np.arange(4), rounds=rounds).issues.is_issue
        return 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum())

    assert f1(4) > max(f1(1), 0.9)


def test_cleaning_estimates_rate_and_matrix():
    features, labels = blobs([200] * 3)
    noisy = labels.copy()
    noisy[:40] = 2  # a fifth of class 0
    found = self_cleaned(LogisticRegression(), features, noisy, np.arange(3))

    # About half the rows of a class reach its mean, so some 20 of the 40 are counted: two deviations are .02 and .1.
    assert found.issues.noise_rate == pytest.approx(40 / 600, abs=0.02)
    np.testing.assert_allclose(found.transition_matrix, [[0.8, 0, 0.2], [0, 1, 0], [0, 0, 1]], atol=0.1)
    assert (found.issues.label_quality < 0.5).tolist() == [True] * 40 + [False] * 560
    assert found.issues.is_issue.tolist() == [True] * 40 + [False] * 560
