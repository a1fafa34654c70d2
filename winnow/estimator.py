"""A scikit-learn classifier that expects wrong labels, over features or over images."""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils import _safe_indexing as rows_of
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from winnow.audit.out_of_fold import class_scores, fitted, has_probabilities, weight_parameter
from winnow.audit.probabilities import missing
from winnow.audit.self_cleaning import self_cleaned
from winnow.errors import InputError, InvalidInput, WinnowError
from winnow.noise.confident_joint import joint_counts
from winnow.noise.estimate import joint_transition_matrix

if TYPE_CHECKING:
    from winnow.data.source import Source

_MODEL_FILES = ("model.safetensors", "model.json")
_LEAST_WEIGHT = 1e-3
"""No class may vanish, even if all its labels are doubted."""


class NoisyLabelClassifier(ClassifierMixin, BaseEstimator):
    """A classifier for labels that are partly wrong; it also says which.

    **Features**, (N, D): any classifier of scikit-learn's kind is made robust. It predicts held-out rows, confident
    learning doubts labels, and that is repeated, trained on the rows not doubted. The classifier is then fitted to all
    rows, each weighted by the probability that its label is right; one that takes no `sample_weight` is fitted to the
    rows not doubted.

    **Images**, uint8 (N, H, W) or (N, H, W, 3): a network is trained by `winnow.fit`, in a temporary folder.

    A label may be missing: None, NaN or a blank text; not -1, which may well be a class. Such a row is predicted; as
    features it is not learnt from.

    Args:
        estimator: for features; by default standardisation and logistic regression with C = 0.1.
        folds: for features; of the held-out predictions.
        rounds: for features; of doubting. 1 is plain confident learning.
        method: for images, like all that follow up to `threads`; a name of `winnow methods`.
        model: `mlp`, `convnet`, ...; None chooses from image size and device.
        epochs: passes over the images; None chooses from their number.
        batch_size: images a step.
        learning_rate: before the schedule.
        hyperparameters: of the method.
        device: `auto`, `cpu`, `cuda`, ...
        threads: of the CPU's arithmetic.
        random_state: of folds and training, and of an estimator whose own is None. The default gives the same result
            every time, None a new one.

    Attributes:
        classes_: sorted names, (K,).
        n_features_in_: columns of the features, or values an image.
        label_quality_: probability that the given label is right, (N,); NaN where it is missing, weighs nothing or is
            the only one of its class.
        suggested_label_: most probable class of each row, (N,).
        is_issue_: which labels are doubted, boolean (N,).
        transition_matrix_: entry (i, j) = P(noisy = j given clean = i), (K, K).
        noise_rate_: estimated share of wrong labels.
        estimator_: the fitted classifier of features.
        model_: the content of the trained network's files by name, for images.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        folds: int = 5,
        rounds: int = 4,
        method: str = "winnow",
        model: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        device: str = "auto",
        threads: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.estimator = estimator
        self.folds = folds
        self.rounds = rounds
        self.method = method
        self.model = model
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.hyperparameters = hyperparameters
        self.device = device
        self.threads = threads
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NoisyLabelClassifier:
        """Learns from features or images and their noisy labels.

        Args:
            X: features (N, D), or uint8 images (N, H, W) or (N, H, W, 3).
            y: class names or numbers, (N,); None, NaN or blank where one is missing.
            sample_weight: for features, (N,); a row that weighs 0 is treated as one without a label.

        Raises:
            ValueError: the arrays cannot be used.
            winnow.errors.WinnowError: the network cannot be trained as asked.
        """
        for name in ("estimator_", "model_", "temperature_"):
            self.__dict__.pop(name, None)
        if is_images(X):
            return self._fit_images(_images(X), y, sample_weight)
        for name, least in (("folds", 2), ("rounds", 1)):
            number = getattr(self, name)
            if not isinstance(number, Integral) or number < least:
                raise InvalidInput(f"{name}: a whole number, at least {least}, is needed, got {number!r}")
        return self._fit_features(self._features(X, reset=True), y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (N,)."""
        check_is_fitted(self)
        if hasattr(self, "model_"):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        return np.asarray(self.estimator_.predict(self._features(X, reset=False)))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (N, K), in the order of `classes_`."""
        check_is_fitted(self)
        if hasattr(self, "model_"):
            return self._image_probs(X)
        features = self._features(X, reset=False)
        if self.temperature_ is None:
            return class_scores(self.estimator_, features, self.classes_, 0.0)
        return np.asarray(
            softmax(class_scores(self.estimator_, features, self.classes_, -math.inf) / self.temperature_, axis=1)
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = get_tags(self._base())
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        if inner.classifier_tags is not None:
            tags.classifier_tags.multi_class = inner.classifier_tags.multi_class
        tags.input_tags.three_d_array = True
        return tags

    def _base(self) -> Any:
        """The classifier of features.

        Raises:
            InvalidInput: the estimator is none.
        """
        if self.estimator is not None:
            if isinstance(self.estimator, type) or not hasattr(self.estimator, "fit"):
                raise InvalidInput(f"estimator: {self.estimator!r}; a classifier is needed, as LogisticRegression()")
            kind = get_tags(self.estimator).estimator_type
            if kind not in ("classifier", None):
                name = type(self.estimator).__name__
                raise InvalidInput(f"estimator: {name} is of type {kind}; a classifier is needed")
            return self.estimator
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _features(self, X: Any, *, reset: bool) -> Any:
        if is_images(X):
            raise InvalidInput("X: images, but this classifier was fitted to features")
        if hasattr(X, "iloc"):
            # The estimator may address columns of a data frame by name, or hold text.
            return validate_data(self, X, reset=reset, skip_check_array=True)
        tags = get_tags(self._base()).input_tags
        finite: bool | str = "allow-nan" if tags.allow_nan else True
        sparse = "csr" if tags.sparse else False
        dtype = None if tags.string or tags.categorical else "numeric"
        return validate_data(self, X, reset=reset, accept_sparse=sparse, ensure_all_finite=finite, dtype=dtype)

    def _fit_features(self, X: Any, y: Any, sample_weight: Any) -> NoisyLabelClassifier:
        labels, known = self._encoded(y)
        check_consistent_length(X, labels)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            known &= weights > 0
        self.classes_, labels = self._used_classes(labels, known)
        seed = self._seed()
        base = _seeded(self._base(), seed)
        has_probabilities(base)
        rows = np.flatnonzero(known)
        taught, given = rows_of(X, rows), labels[rows]
        weights = None if weights is None else weights[rows]
        counts = np.bincount(given)
        if (counts == 1).any():
            alone = ", ".join(str(name) for name in self.classes_[counts == 1][:10])
            warnings.warn(f"classes with a single row, whose label cannot be judged: {alone}", stacklevel=3)
        found = self_cleaned(
            base,
            taught,
            given,
            self.classes_,
            sample_weight=weights,
            folds=self.folds,
            rounds=self.rounds,
            seed=seed,
        )
        if weight_parameter(base) is None:
            self.estimator_ = fitted(base, taught, self.classes_[given], np.flatnonzero(~found.issues.is_issue))
        else:
            trust = np.maximum(np.nan_to_num(found.issues.label_quality, nan=1.0), _LEAST_WEIGHT)
            trust = trust if weights is None else trust * weights
            self.estimator_ = fitted(base, taught, self.classes_[given], np.arange(len(rows)), trust)
        self.temperature_ = found.temperature
        self.transition_matrix_ = found.transition_matrix
        self.noise_rate_ = found.issues.noise_rate
        self.is_issue_ = np.zeros(len(known), dtype=bool)
        self.is_issue_[rows] = found.issues.is_issue
        self.label_quality_ = np.full(len(known), np.nan)
        self.label_quality_[rows] = found.issues.label_quality
        self.suggested_label_ = np.empty(len(known), dtype=self.classes_.dtype)
        self.suggested_label_[rows] = self.classes_[found.issues.suggested_label]
        if len(rows) < len(known):
            others = np.flatnonzero(~known)
            self.suggested_label_[others] = self.estimator_.predict(rows_of(X, others))
        return self

    def _fit_images(self, X: np.ndarray, y: Any, sample_weight: Any) -> NoisyLabelClassifier:
        from winnow.train.fit import Settings, fit

        if self.estimator is not None:
            raise InvalidInput("estimator: it is for features (N, D); for images leave it out and choose a model")
        if sample_weight is not None:
            raise InvalidInput("sample_weight: not possible with images")
        labels, known = self._encoded(y)
        check_consistent_length(X, labels)
        self.classes_, labels = self._used_classes(labels, known)
        with tempfile.TemporaryDirectory(prefix="winnow-estimator-") as folder, _errors_name_parameters():
            settings = Settings(
                method=self.method,
                model=self.model,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=self._seed(),
                device=self.device,
                threads=self.threads,
                hyperparameters=self.hyperparameters,
            )
            run = fit(self._source(X, labels), settings, Path(folder) / "run")
            table = run.labels
            model = {name: (run.folder / name).read_bytes() for name in _MODEL_FILES}
        self.model_ = model
        self.n_features_in_ = math.prod(X.shape[1:])
        self.label_quality_ = table["label_quality"].to_numpy().astype(np.float64)
        self.is_issue_ = table["is_issue"].to_numpy()
        suggested = table["suggested_label"].to_numpy()
        self.suggested_label_ = self.classes_[suggested]
        believed = np.where(self.is_issue_, suggested, labels)[known]
        self.transition_matrix_ = joint_transition_matrix(joint_counts(labels[known], believed, len(self.classes_)))
        self.noise_rate_ = float(self.is_issue_[known].mean())
        return self

    def _image_probs(self, X: Any) -> np.ndarray:
        from winnow.train.device import Device
        from winnow.train.predictor import Predictor

        if not is_images(X):
            raise InvalidInput("X: this classifier was fitted to images; uint8 (N, H, W) or (N, H, W, 3) is needed")
        images = _images(X)
        source = self._source(images, np.full(len(images), -1))
        with tempfile.TemporaryDirectory(prefix="winnow-estimator-") as folder, _errors_name_parameters():
            for name, content in self.model_.items():
                (Path(folder) / name).write_bytes(content)
            predictor = Predictor.load(Path(folder))
            return predictor.predict(source, Device.choose(self.device, "auto", self.threads)).probs

    def _source(self, images: np.ndarray, labels: np.ndarray) -> Source:
        from winnow.data.pictures import ArrayPictures
        from winnow.data.source import Source

        return Source(
            address="array",
            ids=[f"{row:06d}" for row in range(len(images))],
            class_names=tuple(str(name) for name in self.classes_),
            noisy_labels=labels,
            pictures=ArrayPictures(images),
            grey=images.ndim == 3,
        )

    def _encoded(self, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels (N,) and where they are there, boolean (N,)."""
        if y is None:
            raise InvalidInput("requires y to be passed, but the target y is None")
        # A list is not made an array at once: numpy would make numbers beside texts texts, and NaN the class "nan". So
        # with pandas' own types: large integers beside NA would lose their last digits.
        kept = isinstance(getattr(y, "dtype", None), np.dtype)
        labels = column_or_1d(np.asarray(y) if kept else np.asarray(y, dtype=object), warn=True)
        known = ~missing(labels)
        if not known.any():
            raise InvalidInput("y: no row has a label; all are missing")
        if labels.dtype.kind == "O":
            texts = {isinstance(label, str) for label in labels[known]}
            if len(texts) > 1:
                raise InvalidInput(
                    "y: texts and other labels are mixed; write all labels alike, or None for a missing one"
                )
        check_classification_targets(_typed(labels[known]))
        return labels, known

    def _used_classes(self, labels: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class names (K,), and labels as their indices (N,), -1 where there is none."""
        classes, codes = np.unique(_typed(labels[known]), return_inverse=True)
        if len(classes) < 2:
            raise InvalidInput(f"y: at least 2 classes are needed, got one class: {classes.tolist()}")
        indices = np.full(len(labels), -1)
        indices[known] = codes
        return classes, indices


def is_images(X: Any) -> bool:
    """Whether an array, or a list of arrays, has the three or four axes of images."""
    if isinstance(X, list | tuple):
        return len(X) > 0 and _axes(X[0]) in (2, 3)
    return getattr(X, "ndim", None) in (3, 4)


def _axes(values: Any) -> int | None:
    try:
        return np.ndim(values)
    except ValueError:  # ragged
        return None


def _images(X: Any) -> np.ndarray:
    """Images as (N, H, W) or (N, H, W, 3)."""
    from winnow.data.npz import checked_images

    if not isinstance(X, np.ndarray):
        raise InvalidInput(
            f"X is of type {type(X).__name__}; uint8 is needed, an array (N, H, W) or (N, H, W, 3): numpy.stack(X)"
        )
    try:
        return checked_images(X, "X")
    except InputError as error:
        raise InvalidInput(str(error)) from None


@contextmanager
def _errors_name_parameters() -> Iterator[None]:
    """Errors of training that speak of the command's options speak of parameters instead."""
    try:
        yield
    except WinnowError as error:
        text = re.sub(r"^--(method|model|device) (\S+?)(?=: )", r"\1='\2'", str(error))
        text = text.replace("--set ", "hyperparameter ")
        error.args = (re.sub(r"--([a-z][a-z-]*)", lambda option: option[1].replace("-", "_"), text),)
        raise


def _typed(labels: np.ndarray) -> np.ndarray:
    """Labels that stand in an array of objects as an array of their own type."""
    return np.array(list(labels)) if labels.dtype.kind == "O" else labels


def _seeded(estimator: Any, seed: int) -> Any:
    """A copy whose random states that are None are fixed."""
    copy = clone(estimator)
    free = [key for key, value in copy.get_params().items() if key.endswith("random_state") and value is None]
    return copy.set_params(**dict.fromkeys(free, seed))
