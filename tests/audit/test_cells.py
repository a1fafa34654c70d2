"""Several classes an image: each class is judged as a question of its own, and the numbers add up over them."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.audit.cells import judge_cells
from winnow.audit.wrong_labels import judge

NAMES = ("stripes", "dots", "rare")


@pytest.fixture(scope="module")
def example():
    """Features of four kinds of image; cells of three classes, a tenth of the first two wrong, some unknown."""
    random = np.random.default_rng(0)
    kind = random.integers(4, size=240)
    features = 4 * np.eye(4)[kind] + random.normal(scale=0.5, size=(240, 4))
    truth = np.stack([kind % 2 == 0, kind >= 2, kind == 3], axis=1)
    wrong = random.random((240, 3)) < [0.1, 0.1, 0.0]
    labels = np.where(wrong, ~truth, truth).astype(np.int8)
    labels[random.random(240) < 0.2, 2] = -1
    return features, labels, wrong, judge_cells(features, labels, NAMES)


def test_each_class_is_judged_as_if_it_stood_alone(example):
    features, labels, _, found = example

    for k in range(3):
        alone = judge(features, labels[:, k].astype(np.int64), 2)
        assert found.label_quality[:, k] == pytest.approx(alone.label_quality, nan_ok=True)
        assert (found.is_issue[:, k] == alone.is_issue).all()
        assert found.class_noise_rates[k] == pytest.approx(alone.noise_rate)


def test_wrong_cells_are_found_and_unknown_ones_never_flagged(example):
    _, labels, wrong, found = example

    assert wrong[found.is_issue].mean() > 0.9
    assert found.is_issue[wrong].mean() > 0.9
    assert not found.is_issue[labels < 0].any()
    assert np.isnan(found.label_quality[labels < 0]).all()
    assert set(np.unique(found.suggested_label)) <= {0, 1}


def test_the_numbers_are_means_over_known_and_flagged_cells(example):
    features, labels, _, found = example
    alone = [judge(features, column.astype(np.int64), 2) for column in labels.T]
    known, flagged = (labels >= 0).sum(axis=0), found.is_issue.sum(axis=0)

    assert found.noise_rate == pytest.approx((known * [each.noise_rate for each in alone]).sum() / known.sum())
    precision = sum(each.precision * count for each, count in zip(alone, flagged, strict=True) if count) / flagged.sum()
    assert found.precision == pytest.approx(precision)
    low, high = found.noise_rate_interval
    assert 0 <= low <= found.noise_rate <= high <= 1


def test_a_reason_names_the_doubted_classes_with_the_direction(example):
    _, labels, _, found = example

    assert set(found.reasons) == set(np.flatnonzero(found.is_issue.any(axis=1)).tolist())
    for row, text in found.reasons.items():
        for k in np.flatnonzero(found.is_issue[row]).tolist():
            looks = "absent" if labels[row, k] == 1 else "present"
            assert f"{NAMES[k]} looks {looks}" in text
