"""The scikit-learn estimator: over features, over images, and by scikit-learn's own checks."""

import json
import os
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from benchmarks import estimator
from winnow import NoisyLabelClassifier
from winnow.errors import UsageError

REASON = "folds are drawn over rows: a row of weight 2 lies in one fold, a row that is there twice in two"
EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": REASON,
    "check_sample_weight_equivalence_on_sparse_data": REASON,
}


def expected_to_fail(estimator):
    # The default base refuses sparse features, so there is nothing to weigh.
    dense = estimator.estimator is None
    return {name: reason for name, reason in EXPECTED_TO_FAIL.items() if not (dense and "sparse" in name)}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [NoisyLabelClassifier(), NoisyLabelClassifier(LinearSVC())],
    expected_failed_checks=expected_to_fail,
    xfail_strict=True,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def blobs(sizes=(40, 40, 40), spread=0.5, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    angle = 2 * np.pi * labels / len(sizes)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * 3 + random.normal(0, spread, (len(labels), 2)), labels


def some_wrong(labels, every=5):
    """Every fifth label is the next class instead."""
    wrong = np.arange(len(labels)) % every == 0
    return np.where(wrong, (labels + 1) % (labels.max() + 1), labels), wrong


class TestFeatures:
    def test_it_beats_the_same_classifier_fitted_to_the_noisy_labels(self):
        features, labels = load_digits(return_X_y=True)
        gains = []
        for seed in range(2):
            train, test, given, truth = train_test_split(features, labels, test_size=0.3, random_state=seed)
            random = np.random.default_rng(seed)
            rows = random.choice(len(given), len(given) // 5, replace=False)
            given[rows] = (given[rows] + random.integers(1, 10, len(rows))) % 10
            plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(train, given)
            gains.append(NoisyLabelClassifier().fit(train, given).score(test, truth) - plain.score(test, truth))
        assert np.mean(gains) > 0.01

    def test_wrong_labels_are_found_and_the_right_ones_suggested(self):
        features, labels = blobs()
        names = np.array(["ant", "bee", "cat"])
        noisy, wrong = some_wrong(labels)

        model = NoisyLabelClassifier().fit(features, names[noisy])

        assert model.is_issue_.tolist() == wrong.tolist()
        assert ((model.label_quality_ < 0.5) == wrong).all()
        assert (model.suggested_label_ == names[labels]).all()
        assert model.classes_.tolist() == ["ant", "bee", "cat"]
        assert model.noise_rate_ == pytest.approx(0.2, abs=0.06)
        assert model.transition_matrix_.diagonal() == pytest.approx([0.8] * 3, abs=0.15)
        np.testing.assert_allclose(model.transition_matrix_.sum(axis=1), 1)
        assert model.score(features, names[labels]) == 1
        np.testing.assert_allclose(model.predict_proba(features).sum(axis=1), 1)

    def test_rows_weigh_what_their_labels_are_trusted(self):
        class Recorder(LogisticRegression):
            def fit(self, X, y, sample_weight=None):
                self.seen_ = sample_weight
                return super().fit(X, y, sample_weight)

        features, labels = blobs()
        noisy, _ = some_wrong(labels)
        model = NoisyLabelClassifier(Recorder()).fit(features, noisy)
        np.testing.assert_allclose(model.estimator_.seen_, np.maximum(model.label_quality_, 1e-3))

        weights = np.linspace(1, 2, len(labels))
        model.fit(features, noisy, sample_weight=weights)
        np.testing.assert_allclose(model.estimator_.seen_, np.maximum(model.label_quality_, 1e-3) * weights)

    def test_a_classifier_without_weights_sees_the_kept_rows_only(self):
        features, labels = blobs()
        noisy, wrong = some_wrong(labels)
        model = NoisyLabelClassifier(KNeighborsClassifier()).fit(features, noisy)
        assert model.estimator_.n_samples_fit_ == (~wrong).sum()
        assert model.score(features, labels) == 1
        with pytest.raises(ValueError, match="sample_weight: KNeighborsClassifier"):
            model.fit(features, noisy, sample_weight=np.ones(len(noisy)))

    @pytest.mark.parametrize("gap", [None, float("nan"), np.float32("nan"), "", "  "])
    def test_rows_without_a_label_are_predicted(self, gap):
        features, labels = blobs()
        names = np.array(["ant", "bee", "cat"], dtype=object)[labels]
        given = names.copy()
        given[::4] = gap

        model = NoisyLabelClassifier().fit(features, given)

        assert (model.suggested_label_ == names).all()
        assert np.isnan(model.label_quality_).tolist() == [row % 4 == 0 for row in range(len(labels))]
        assert not model.is_issue_[::4].any()

    def test_numbers_with_gaps_stay_numbers_and_minus_one_is_a_class(self):
        features, labels = blobs()
        model = NoisyLabelClassifier().fit(features, [None, *(labels - 1)[1:].tolist()])
        assert model.classes_.tolist() == [-1, 0, 1]
        assert model.classes_.dtype.kind == "i"
        with pytest.raises(ValueError, match="all are missing"):
            model.fit(features, np.full(len(features), np.nan))

    def test_a_row_that_weighs_nothing_is_one_without_a_label(self):
        features, labels = blobs()
        weights = np.ones(len(labels))
        weights[:10] = 0
        given = labels.astype(float)
        weighed = NoisyLabelClassifier().fit(features, given, sample_weight=weights)
        given[:10] = np.nan
        missing = NoisyLabelClassifier().fit(features, given)
        np.testing.assert_allclose(weighed.predict_proba(features), missing.predict_proba(features))

    def test_the_only_row_of_a_class_is_kept_and_said_not_to_be_judged(self):
        features, labels = blobs((40, 40, 1))
        with pytest.warns(UserWarning, match="single row, whose label cannot be judged: 2"):
            model = NoisyLabelClassifier().fit(features, labels)
        assert np.isnan(model.label_quality_[-1])
        assert not model.is_issue_[-1]

    def test_scores_become_probabilities(self):
        features, labels = blobs()
        model = NoisyLabelClassifier(LinearSVC()).fit(features, some_wrong(labels)[0])
        probs = model.predict_proba(features)
        np.testing.assert_allclose(probs.sum(axis=1), 1)
        assert (model.classes_[probs.argmax(axis=1)] == model.predict(features)).all()

    def test_hard_decisions_do_not_lose_a_class(self):
        features, labels = blobs((60, 60, 3), spread=1.5)
        model = NoisyLabelClassifier(DecisionTreeClassifier()).fit(features, some_wrong(labels)[0])
        assert model.predict_proba(features).shape == (123, 3)

    def test_random_state_reaches_the_estimator(self):
        features, labels = blobs(spread=2)
        forest = NoisyLabelClassifier(RandomForestClassifier(5), rounds=1)
        first = forest.fit(features, labels).predict_proba(features)
        assert (clone(forest).fit(features, labels).predict_proba(features) == first).all()
        other = clone(forest).set_params(random_state=1).fit(features, labels).predict_proba(features)
        assert (other != first).any()

    def test_columns_of_a_data_frame_keep_their_names(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        features, labels = blobs()
        frame = pandas.DataFrame({"x": features[:, 0], "y": features[:, 1], "kind": np.array(["a", "b", "c"])[labels]})
        columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["x", "y"]))
        model = NoisyLabelClassifier(make_pipeline(columns, LogisticRegression())).fit(frame, some_wrong(labels)[0])
        assert model.feature_names_in_.tolist() == ["x", "y", "kind"]
        assert model.score(frame, labels) == 1

    def test_it_takes_its_place_among_scikit_learns_tools(self):
        features, labels = blobs()
        assert cross_val_score(NoisyLabelClassifier(rounds=1), features, labels, cv=3).mean() == 1

    @pytest.mark.parametrize(
        ("name", "value", "kind"),
        [("folds", 1, "2"), ("folds", "a", "2"), ("folds", 2.5, "2"), ("rounds", 0, "1"), ("rounds", None, "1")],
    )
    def test_impossible_settings_are_refused_by_name(self, name, value, kind):
        with pytest.raises(ValueError, match=f"^{name}: a whole number, at least {kind}, is needed, got {value!r}$"):
            NoisyLabelClassifier(**{name: value}).fit(*blobs())

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (LinearRegression(), "^estimator: LinearRegression is of type regressor; a classifier is needed$"),
            (IsolationForest(), "^estimator: IsolationForest is of type outlier_detector; a classifier is needed$"),
            ("lr", r"^estimator: 'lr'; a classifier is needed, as LogisticRegression\(\)$"),
            (LogisticRegression, "^estimator: <class .*>; a classifier is needed"),
        ],
    )
    def test_what_is_no_classifier_is_refused(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            NoisyLabelClassifier(wrong).fit(*blobs())

    @pytest.mark.parametrize("as_columns", [list, tuple])
    def test_gaps_in_a_plain_list_are_no_class(self, as_columns):
        features, labels = blobs()
        given = as_columns([float("nan")] * 20 + [str(label) for label in labels[20:]])
        model = NoisyLabelClassifier().fit(features, given)
        assert model.classes_.tolist() == ["0", "1", "2"]
        assert np.isnan(model.label_quality_).sum() == 20

    def test_texts_among_numbers_are_refused(self):
        features, labels = blobs()
        for given in (["0", *labels[1:].tolist()], np.array(["0", *labels[1:].tolist()], dtype=object)):
            with pytest.raises(ValueError, match=r"^y: texts and other labels are mixed; write all"):
                NoisyLabelClassifier().fit(features, given)

    def test_nullable_integers_stay_integers(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        features, labels = blobs()
        large = labels + 2**53 + 1
        given = pandas.Series(large, dtype="Int64")
        given[:10] = pandas.NA
        model = NoisyLabelClassifier().fit(features, given)
        assert model.classes_.tolist() == [2**53 + 1, 2**53 + 2, 2**53 + 3]
        assert np.isnan(model.label_quality_).sum() == 10

    def test_torch_is_not_imported(self):
        code = (
            "import sys, numpy, winnow; assert 'sklearn' not in sys.modules;"
            "X = numpy.arange(40.)[:, None]; winnow.NoisyLabelClassifier().fit(X, X[:, 0] > 19).predict(X);"
            "winnow.find_label_issues([0, 1], [[.9, .1], [.2, .8]]);"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def pictures():
    """Three kinds of bright corner, grey, 10 x 10 pixels."""
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = random.integers(0, 60, (90, 10, 10))
    for k, place in enumerate([np.s_[:4, :4], np.s_[6:, 6:], np.s_[:4, 6:]]):
        images[labels == k, *place] += 150
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained(pictures):
    """Fitted to the grey images, a label missing; nothing may be left in the temporary folder."""
    images, labels = pictures
    given = np.array(["ant", "bee", "cat"], dtype=object)[some_wrong(labels, every=9)[0]]
    given[0] = None
    with tempfile.TemporaryDirectory() as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            model = NoisyLabelClassifier(method="cross-entropy", model="mlp", epochs=8, batch_size=16, threads=1)
            model.fit(images, given).predict(images)
            left = os.listdir(folder)
        finally:
            tempfile.tempdir = before
    return model, left


class TestImages:
    def test_a_network_is_trained_and_leaves_no_folder(self, pictures, trained):
        images, labels = pictures
        model, left = trained
        assert left == []
        assert model.score(images, np.array(["ant", "bee", "cat"])[labels]) > 0.9
        assert model.classes_.tolist() == ["ant", "bee", "cat"]
        assert model.n_features_in_ == 100
        probs = model.predict_proba(images)
        assert probs.shape == (90, 3)
        np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-3)

    def test_it_says_which_labels_it_doubts(self, pictures, trained):
        _, labels = pictures
        model, _ = trained
        assert model.label_quality_.shape == model.suggested_label_.shape == model.is_issue_.shape == (90,)
        assert np.flatnonzero(np.isnan(model.label_quality_)).tolist() == [0]
        wrong = some_wrong(labels, every=9)[1][1:]
        assert model.label_quality_[1:][wrong].mean() < model.label_quality_[1:][~wrong].mean() - 0.2
        np.testing.assert_allclose(model.transition_matrix_.sum(axis=1), 1)
        assert 0 <= model.noise_rate_ < 0.4

    def test_it_can_be_pickled_and_cloned(self, pictures, trained):
        images, _ = pictures
        model, _ = trained
        again = pickle.loads(pickle.dumps(model))
        assert (again.predict_proba(images) == model.predict_proba(images)).all()
        assert not hasattr(clone(model), "model_")

    def test_colour_and_hyperparameters_are_passed_on(self, pictures):
        images, labels = pictures
        colour = np.repeat(images[..., None], 3, axis=3)
        model = NoisyLabelClassifier(
            method="bootstrap-soft", hyperparameters={"beta": 0.8}, model="mlp", epochs=1, threads=1
        )
        assert model.fit(colour, labels).predict(colour).shape == (90,)
        with pytest.raises(Exception, match="beta"):
            clone(model).set_params(hyperparameters={"beat": 0.8}).fit(images, labels)

    def test_the_seed_decides(self, pictures, trained):
        images, _ = pictures
        model, _ = trained
        short = clone(model).set_params(epochs=1)
        labels = pictures[1]
        first = short.fit(images, labels).predict_proba(images)
        assert (clone(short).fit(images, labels).predict_proba(images) == first).all()
        assert (clone(short).set_params(random_state=1).fit(images, labels).predict_proba(images) != first).any()

    def test_images_and_features_are_not_mixed(self, pictures, trained):
        images, labels = pictures
        model, _ = trained
        with pytest.raises(ValueError, match="fitted to images"):
            model.predict(images.reshape(90, -1).astype(float))
        with pytest.raises(ValueError, match="fitted to features"):
            NoisyLabelClassifier(rounds=1).fit(images.reshape(90, -1), labels).predict(images)
        with pytest.raises(ValueError, match="for images leave it out"):
            NoisyLabelClassifier(LogisticRegression()).fit(images, labels)
        with pytest.raises(ValueError, match="sample_weight: not possible"):
            NoisyLabelClassifier().fit(images, labels, sample_weight=np.ones(90))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: np.stack([x] * 3, axis=1), r"^X is 90x3x10x10; the channels belong last"),
            (lambda x: np.stack([x] * 4, axis=3), r"^X is 90x10x10x4; \(N, H, W\) or \(N, H, W, 3\) is needed"),
            (lambda x: x[:, :0], "^X is 90x0x10: no images"),
            (lambda x: x[:0], "^X is 0x10x10: no images"),
            (lambda x: x / 255, "^X is of type float64; uint8 from 0 to 255 is needed"),
            (lambda x: np.stack([x] * 3, axis=3).astype(int), "^X is of type int64; uint8"),
            (list, "^X is of type list; uint8 is needed"),
            (lambda x: x.tolist(), "^X is of type list; uint8 is needed"),
        ],
    )
    def test_other_arrays_are_answered_alike_by_fit_and_predict(self, pictures, trained, change, message):
        images, labels = pictures
        wrong = change(images)
        with pytest.raises(ValueError, match=message):
            NoisyLabelClassifier().fit(wrong, labels[: len(wrong)])
        with pytest.raises(ValueError, match=message):
            trained[0].predict(wrong)

    def test_a_single_channel_is_grey(self, pictures, trained):
        images, _ = pictures
        assert (trained[0].predict_proba(images[..., None]) == trained[0].predict_proba(images)).all()

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"method": "winow"}, r"^method='winow': no such method; did you mean winnow\?$"),
            ({"model": "convnett"}, r"^model='convnett': no such network; did you mean convnet\?$"),
            ({"method": "bootstrap-soft", "hyperparameters": {"bta": 1}}, "^hyperparameter bta: .* did you mean beta"),
            (
                {"method": "bootstrap-soft", "hyperparameters": {"beta": "x"}},
                "^hyperparameter beta=x: must be a number",
            ),
            ({"method": "bootstrap-soft", "hyperparameters": {"beta": 3}}, "^hyperparameter beta must lie in"),
            ({"hyperparameters": {"zzz": 1}}, r"\(method names another method\)"),
            ({"batch_size": 0}, "^batch_size must be at least 1, got 0$"),
            ({"threads": 0}, "^threads must be at least 1, got 0$"),
            ({"device": "tpu"}, r"^device='tpu': no such device \(auto, cpu, cuda, cuda:1, mps, \.\.\.\)$"),
            ({"device": "cuda:99"}, "^device='cuda:99': not available here"),
        ],
    )
    def test_errors_name_parameters_not_options(self, pictures, wrong, message):
        with pytest.raises(UsageError, match=message):
            NoisyLabelClassifier(**{"model": "mlp", "epochs": 1} | wrong).fit(*pictures)


class TestBenchmark:
    @pytest.mark.parametrize("case", ["symmetric 0.2", "pair 0.2", "by difficulty 0.2"])
    def test_the_share_of_wrong_labels_is_exact(self, case):
        features, labels = blobs()
        assert (estimator.noisy(features, labels, case, seed=0) != labels).sum() == 24

    def test_a_cell_is_measured_and_shown(self, monkeypatch, tmp_path):
        monkeypatch.setattr(estimator, "RESULTS", tmp_path / "estimator.jsonl")
        with estimator.RESULTS.open("w") as file:
            for method in (estimator.PLAIN, estimator.WINNOW):
                line = {"data": "wine", "case": "symmetric 0.2", "method": method, "seed": 0}
                file.write(json.dumps(line | estimator.cell("wine", "symmetric 0.2", method, 0)) + "\n")
        (row,) = estimator.table().splitlines()[2:]
        assert row.startswith("| wine | symmetric 0.2 | - | ")
