"""A diagnosis as a whole: made images, the same seed twice, an interval for every number."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from winnow.audit.diagnose import diagnose
from winnow.audit.diagnosis.evidence import gathered
from winnow.data.builtin import digits
from winnow.data.rows import subset
from winnow.errors import InputError
from winnow.labels.truth import CleanLabels
from winnow.noise.inject import symmetric
from winnow.report.diagnose import page_values, write_diagnose_report
from winnow.report.diagnose_words import headline, lead, sentences


@pytest.fixture(scope="module")
def noisy():
    source = subset(digits(), np.arange(330))
    labels = symmetric(source.noisy_labels, source.ids, 10, 0.2, seed=3).noisy_labels
    return replace(source, noisy_labels=labels, clean_labels=CleanLabels(source.noisy_labels))


@pytest.fixture(scope="module")
def record(noisy):
    return diagnose(noisy, seed=1).record()


def numbers_of(value, path=()):
    """Every mapping that holds a `value`."""
    if isinstance(value, dict):
        if "value" in value:
            yield path, value
        for key, item in value.items():
            yield from numbers_of(item, (*path, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from numbers_of(item, (*path, place))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_one_others(noisy, record):
    assert json.dumps(diagnose(noisy, seed=1).record()) == json.dumps(record)
    assert json.dumps(diagnose(noisy, seed=2).record()) != json.dumps(record)


def test_every_number_has_an_interval_around_it_or_is_exact(record):
    found = list(numbers_of(record["diagnostics"]))

    assert len(found) > 50
    for path, number in found:
        assert number.get("exact") or number["low"] <= number["value"] <= number["high"], path


def test_the_planted_noise_is_met(record):
    low, high = record["estimated_noise_rate_interval"]
    measures = {m["name"]: m for m in record["diagnostics"]["accuracy"]["measures"]}

    assert low <= 0.2 <= high
    assert measures["agreement"]["value"] < measures["accuracy"]["low"]
    assert measures["ceiling"]["low"] <= 0.8 <= measures["ceiling"]["high"]


def test_known_truth_is_counted_where_that_is_asked_for(noisy):
    found = gathered(noisy, count_truth=True)
    wrong = noisy.clean_labels.wrong(noisy.noisy_labels).mean()

    assert found.noise_rate == pytest.approx(wrong, abs=0.01)
    assert "truth is known" in found.assumption
    with pytest.raises(InputError, match="truth of 0"):
        diagnose(replace(noisy, clean_labels=None), count_truth=True)


def test_copies_are_predicted_together(noisy):
    groups = np.full(len(noisy), -1)
    groups[[3, 50, 120]] = 0
    found = gathered(noisy, groups=groups)

    assert len(set(found.fold[[3, 50, 120]])) == 1
    assert len(np.unique(found.groups)) == len(noisy) - 2


def test_too_little_is_refused_in_one_line(noisy):
    with pytest.raises(InputError, match="49 labelled images"):
        diagnose(subset(noisy, np.arange(49)))
    with pytest.raises(InputError, match="of 1 classes"):
        diagnose(replace(noisy, noisy_labels=np.zeros(len(noisy), dtype=np.int64)))


def test_the_sentences_and_the_page_tell_the_numbers(record, tmp_path):
    summary = record | {"data": "digits", "unlabelled": 0, "version": "0", "next": "winnow audit digits"}
    page = write_diagnose_report(tmp_path, summary).read_text()

    rate = f"{100 * record['estimated_noise_rate']:.1f}\u00a0%"
    assert rate in headline(record)
    assert "points (" in lead(record)
    assert set(sentences(record)) == {"accuracy", "relevance", "complexity", "samples", "frequencies"}
    assert rate in page
    assert "--blind 60" in page
    assert "<script" not in page
    assert [section.plots != [] for section in page_values(summary)["sections"]] == [False, False, False, True, True]
