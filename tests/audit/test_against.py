"""New images against an earlier audit: rows count anew, earlier copies are named, numbers are of the new alone."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.audit.against import beliefs_about, found_since
from winnow.audit.findings import Found, LabelBeliefs


def test_findings_on_new_rows_count_from_zero_and_name_earlier_copies():
    found = Found(
        "near_duplicate",
        np.array([5, 1, 4, 6]),
        np.full(4, np.nan),
        ["like another", "like another", "like another", "like another"],
        np.array([1, 5, 6, 4]),
        np.array([0.9, 0.9, 0.8, 0.7]),
    )

    new = found_since(found, 4, ["a", "b", "c", "d"])

    assert new.rows.tolist() == [1, 0, 2]
    assert new.others is not None
    assert new.others.tolist() == [-1, 2, 0]
    assert new.reasons == ["like another (with b of the earlier audit)", "like another", "like another"]
    assert new.similarity is not None
    assert new.similarity.tolist() == [0.9, 0.8, 0.7]
    assert np.isnan(new.probability).all()


def test_leaks_keep_the_rows_of_the_test_set():
    found = Found("test_leak", np.array([4]), np.array([0.9]), ["a copy"], np.array([1]))

    new = found_since(found, 4, ["a", "b", "c", "d"])

    assert (new.rows.tolist(), new.others.tolist() if new.others is not None else None) == ([0], [1])
    assert new.reasons == ["a copy"]


def test_the_noise_rate_is_that_of_the_images_kept():
    quality = np.array([0.1, 0.9, 0.2, np.nan, 0.9])
    beliefs = LabelBeliefs(
        label_quality=quality,
        suggested_label=np.array([0, 1, 0, 1, 0]),
        suggested_probability=np.full(5, 0.9),
        is_issue=np.array([True, False, True, False, False]),
        reasons={0: "x", 2: "y"},
        joint=np.eye(2),
        transition_matrix=np.eye(2),
        noise_rate=0.5,
        noise_rate_interval=(0.4, 0.6),
        precision=0.5,
    )

    kept = beliefs_about(beliefs, np.array([False, True, True, True, True]))

    assert kept.noise_rate == pytest.approx((0.1 + 0.8 + 0.1) / 3)
    spread = 1.959964 * np.sqrt(0.09 + 0.16 + 0.09) / 3
    assert kept.noise_rate_interval == (0.0, pytest.approx(min(1.0, 1 / 3 + spread)))
    assert kept.reasons == {1: "y"}
    assert kept.precision == pytest.approx(0.8)
