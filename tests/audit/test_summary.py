"""Numbers of summary.json, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from winnow.audit.findings import Found, LabelBeliefs
from winnow.audit.summary import class_shares, found_numbers, noise_numbers, truth_numbers
from winnow.data.open import open_source
from winnow.data.rows import subset
from winnow.labels.truth import CleanLabels

JOINT = np.array([[80.0, 20.0], [4.0, 96.0]])
"""Of 100 labels 0 are 20 really 1; of 100 labels 1 are 4 really 0."""


def beliefs(**changes):
    values = {
        "label_quality": np.array([0.9, 0.1, np.nan, 0.4]),
        "suggested_label": np.array([0, 1, 1, 0]),
        "suggested_probability": np.array([0.9, 0.9, 0.8, 0.6]),
        "is_issue": np.array([False, True, False, True]),
        "reasons": {1: "x", 3: "y"},
        "joint": JOINT,
        "transition_matrix": (JOINT / JOINT.sum(axis=0)).T,
        "noise_rate": 0.12,
        "noise_rate_interval": (0.1, 0.15),
        "precision": 0.75,
    }
    return LabelBeliefs(**values | changes)


def test_an_image_with_two_findings_is_one_image_and_facts_have_no_probability():
    found = [
        Found("wrong_label", np.array([1, 3]), np.array([0.9, 0.6]), ["", ""]),
        Found("unreadable", np.array([1]), np.array([np.nan]), [""]),
    ]

    numbers = found_numbers(found)

    assert numbers["num_issues"] == 2
    assert numbers["counts"] == {"wrong_label": 2, "unreadable": 1}
    assert numbers["likely_true"] == {"wrong_label": 0.75, "unreadable": None}
    assert numbers["similarity"] == {}


def test_the_likeness_of_near_copies_is_a_mean_without_those_that_are_a_fact():
    nothing, likeness = np.full(3, np.nan), np.array([np.nan, 0.9, 0.8])
    leaks = Found("test_leak", np.arange(3), nothing, [""] * 3, np.arange(3), likeness)
    exact = Found("near_duplicate", np.arange(3), nothing, [""] * 3, np.arange(3), nothing)

    numbers = found_numbers([leaks, exact])

    assert numbers["similarity"] == {"test_leak": pytest.approx(0.85)}
    assert numbers["likely_true"] == {"near_duplicate": None, "test_leak": None}


def test_shares_of_classes_follow_the_joint_with_poisson_intervals():
    first, second = class_shares(JOINT, np.array([100, 100]), np.ones(2, bool))

    assert (first["given"], first["estimated"]) == (0.5, 0.42)
    assert second["estimated"] == pytest.approx(0.58)
    assert first["high"] - 0.42 == pytest.approx(1.959964 * np.sqrt(24) / 200, abs=1e-6)


def test_confusions_are_told_from_believed_to_given():
    numbers = noise_numbers(beliefs(), np.array([0, 0, 1, 1]))

    assert numbers["num_flagged"] == 2
    assert numbers["confusions"][0] == {
        "believed": 1,
        "given": 0,
        "share": pytest.approx(20 / 116, abs=1e-6),
        "images": 20.0,
    }
    assert numbers["transition_matrix"][1][0] == pytest.approx(20 / 116, abs=1e-6)


def test_of_a_class_that_no_label_names_nothing_is_made_up():
    joint = np.pad(JOINT, (0, 1))
    joint[0, 2] = 0.03  # a trace of probability
    matrix = np.full((3, 3), np.nan)
    matrix[:2, :2] = (JOINT / JOINT.sum(axis=0)).T
    matrix[:2, 2] = 0

    numbers = noise_numbers(beliefs(joint=joint, transition_matrix=matrix), np.array([0, 0, 1, 1]))

    assert numbers["transition_matrix"][2] == [None, None, None]
    assert numbers["transition_matrix"][1][0] == pytest.approx(20 / 116, abs=1e-6)
    assert [pair["believed"] for pair in numbers["confusions"]] == [1, 0]
    assert numbers["class_shares"][2] == {
        "class": 2,
        "images": 0,
        "given": 0.0,
        "estimated": None,
        "low": None,
        "high": None,
    }
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def test_without_labels_nothing_is_estimated():
    numbers = noise_numbers(None, np.full(3, -1))

    assert numbers["estimated_noise_rate"] is None
    assert numbers["num_flagged"] == 0


def test_the_truth_judges_the_judged_labels_alone():
    from dataclasses import replace

    digits = subset(open_source("digits"), np.arange(4))
    labels = np.array([0, 0, 0, 1])
    source = replace(digits, noisy_labels=labels, clean_labels=CleanLabels(np.array([0, 1, 1, 1])))

    numbers = truth_numbers(source, np.arange(4), labels, beliefs())

    assert numbers["num_wrong"] == 1  # the third is wrong too, but was not judged
    assert numbers["wrong_label_precision"] == 0.5
    assert numbers["wrong_label_recall"] == 1.0
    assert numbers["wrong_label_f1"] == pytest.approx(2 / 3, abs=1e-6)
    assert numbers["wrong_label_auroc"] == 1.0
    assert truth_numbers(digits, np.arange(4), labels, beliefs()) == {}
