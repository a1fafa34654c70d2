"""The true labels, where a collection knows them: for evaluation, never for training."""

from __future__ import annotations

import numpy as np

FOREIGN = -2
"""The truth of an image that is of none of the classes."""


class CleanLabels:
    """True class indices behind a wall: they answer questions about labels but never hand themselves out.

    No array, tensor or item can be taken from an instance, so no training code can read the truth by accident.

    Args:
        labels: class indices, (N,), -1 where the truth is unknown, `FOREIGN` for images of none of the classes, which
            only `outlier_auroc` counts; for several classes an image (N, K) of 1 present, 0 absent, -1 unknown: the
            questions are then answered cell by cell.
    """

    __slots__ = ("__labels",)

    def __init__(self, labels: np.ndarray):
        self.__labels = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.__labels)

    def __repr__(self) -> str:
        return f"CleanLabels({len(self)} labels)"

    def take(self, rows: np.ndarray) -> CleanLabels:
        """The truth of some rows, in their order."""
        return CleanLabels(self.__labels[rows])

    def among(self, classes: np.ndarray) -> CleanLabels:
        """The truth where only some classes are left, by their indices, in that order: others' images are foreign."""
        new = np.full(max(self.__labels.max(initial=-1), classes.max(initial=-1)) + 1, FOREIGN)
        new[classes] = np.arange(len(classes))
        return self.renumbered(new)

    def renumbered(self, new: np.ndarray) -> CleanLabels:
        """The truth where every class has a new index; one below 0 makes its images foreign."""
        new = np.where(new < 0, FOREIGN, new)
        return CleanLabels(np.where(self.__labels >= 0, new[self.__labels.clip(0)], self.__labels))

    def followed_by(self, more: CleanLabels) -> CleanLabels:
        """The same, and the truth of more images."""
        return CleanLabels(np.concatenate([self.__labels, more.__labels]))

    def checked(self, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`labels` as they are once a person has looked at `rows`: right there where the truth is known.

        The one way that truth reaches training: an experiment that plays the person, whose rows count as verified.
        """
        found = np.array(labels)
        found[rows] = np.where(self.__labels[rows] >= 0, self.__labels[rows], labels[rows])
        return found

    def accuracy(self, labels: np.ndarray) -> float:
        """Share of `labels` (N,) that are right, where label and truth are known; NaN if there are none."""
        known = (self.__labels >= 0) & (labels >= 0)
        return float((labels == self.__labels)[known].mean()) if known.any() else float("nan")

    def wrong(self, labels: np.ndarray) -> np.ndarray:
        """Which of `labels` (N,) are wrong: boolean, False where label or truth is unknown."""
        return (labels != self.__labels) & (self.__labels >= 0) & (labels >= 0)

    def wrong_label_auroc(self, labels: np.ndarray, quality: np.ndarray) -> float:
        """Area under the ROC of `quality` (N,) telling right from wrong `labels`; NaN if only one kind exists.

        1 means that every wrong label has a lower quality than every right one, 0.5 is chance.
        """
        from sklearn.metrics import roc_auc_score

        known = (self.__labels >= 0) & (labels >= 0)
        right = (labels == self.__labels)[known]
        if right.all() or not right.any():
            return float("nan")
        return float(roc_auc_score(right, quality[known]))

    def outlier_auroc(self, scores: np.ndarray) -> float:
        """Area under the ROC of `scores` (N,) telling foreign images from those of a known class; NaN without either.

        1 means that every foreign image scores higher than every other one, 0.5 is chance. Images without a score (NaN)
        are left out.
        """
        from sklearn.metrics import roc_auc_score

        foreign = self.__labels == FOREIGN
        known = (foreign | (self.__labels >= 0)) & ~np.isnan(scores)
        if not foreign[known].any() or foreign[known].all():
            return float("nan")
        return float(roc_auc_score(foreign[known], scores[known]))

    def confusion(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Counts (K, K): entry (i, j) = images of true class i carrying label j."""
        known = (self.__labels >= 0) & (labels >= 0)
        cells = self.__labels[known] * num_classes + labels[known]
        return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
