"""Every image has one fate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.data.source import Unreadable
from winnow.errors import UsageError
from winnow.export.fates import EVERYTHING, FATES, Rule, decide
from winnow.export.judged import read_judged


def told(fates, judged):
    return [fate for fate, _ in fates.told(judged)]


def test_by_default_nothing_doubtful_is_exported_and_nothing_invented(audited):
    judged = read_judged(audited)
    fates = decide(judged, Rule())

    assert told(fates, judged) == [
        "kept", "wrong_label", "outlier", "unreadable",
        "kept", "exact_duplicate", "conflicting_duplicate", "kept",
        "kept", "conflicting_duplicate", "kept", "kept",
    ]  # fmt: skip
    assert fates.labels.tolist() == judged.given_label.tolist()
    assert fates.exported.tolist() == [0, 4, 7, 8, 10, 11]
    assert fates.counts() == {
        "kept": 6, "unreadable": 1, "outlier": 1, "wrong_label": 1, "conflicting_duplicate": 2, "exact_duplicate": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "row", "fate", "label"),
    [
        (Rule(apply_suggestions=True), 1, "relabelled", 2),
        (Rule(keep_flagged=True), 1, "kept", 0),
        (Rule(keep_outliers=True), 2, "kept", 0),
        (Rule(keep_duplicates=True), 5, "kept", 1),
        (Rule(keep_duplicates=True), 9, "kept", 2),
        (EVERYTHING, 3, "unreadable", 0),
    ],
)
def test_what_a_person_asks_for(audited, rule, row, fate, label):
    judged = read_judged(audited)
    fates = decide(judged, rule)

    assert told(fates, judged)[row] == fate
    assert fates.labels[row] == label
    assert len(fates.exported) == 7 + (rule.keep_duplicates and not rule.keep_outliers) * 2 + (rule is EVERYTHING) * 4


def test_reasons_say_what_the_audit_said(audited):
    judged = read_judged(audited)
    reasons = [reason for _, reason in decide(judged, Rule()).told(judged)]

    assert reasons[1].endswith(": looks like fox")
    assert reasons[3].endswith(": truncated: cut off")
    assert reasons[5].endswith(": equal to dog/1.png")


def test_the_first_labelled_one_of_equal_pictures_is_kept_even_if_an_earlier_one_was_flagged(audited):
    judged = read_judged(audited)
    judged.copy_of[[7, 10]] = 1  # the flagged one is the first of three
    judged.given_label[7] = -1  # and the second one has no label
    fates = decide(judged, Rule())

    assert told(fates, judged)[1] == "wrong_label"
    assert told(fates, judged)[7] == "exact_duplicate"
    assert told(fates, judged)[10] == "kept"


def test_an_image_without_a_label_stays_out_only_where_the_format_needs_one(audited):
    judged = read_judged(audited)
    judged.given_label[0] = -1

    assert told(decide(judged, Rule()), judged)[0] == "kept"
    assert told(decide(judged, Rule(), labels_needed=True), judged)[0] == "unlabelled"


def test_a_suggestion_changes_only_the_doubted_classes(several):
    judged = read_judged(several)
    judged.suggested_label[4] = 1  # not doubted
    fates = decide(judged, Rule(apply_suggestions=True))

    assert fates.labels[1].tolist() == [1, 0, 0]
    assert fates.labels[4].tolist() == [0, 1, -1]
    assert fates.labels[3].tolist() == [-1, -1, -1]
    assert told(fates, judged) == ["kept", "relabelled", "kept", "kept", "kept", "kept"]


def test_a_picture_that_cannot_be_read_any_more_changes_its_fate(audited):
    judged = read_judged(audited)
    fates = decide(judged, Rule())
    fates.set_aside(4, Unreadable("changed", "another file"))

    assert list(fates.told(judged))[4] == ("unreadable", "left out: it cannot be read: changed: another file")
    assert 4 not in fates.exported
    assert sum(fates.counts().values()) == 12


def test_a_label_cannot_stay_and_give_way():
    with pytest.raises(UsageError, match="exclude each other"):
        Rule(apply_suggestions=True, keep_flagged=True)


@given(st.data())
def test_counts_add_up_and_copies_never_stay_together(data):
    num = data.draw(st.integers(1, 12))
    rows = st.integers(0, num - 1)
    sets = st.sets(rows, max_size=num)
    found = {kind: data.draw(sets) for kind in ("wrong_label", "outlier", "unreadable")}
    copy_of = np.full(num, -1)
    for row, first in data.draw(st.dictionaries(rows, rows)).items():
        if first < row and copy_of[first] < 0:
            copy_of[row] = first
    labels = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=num, max_size=num)))
    rule = data.draw(
        st.builds(Rule, st.booleans(), st.just(False), st.booleans(), st.booleans())
        | st.builds(Rule, keep_flagged=st.booleans())
    )
    judged = _Told(labels, found, copy_of)
    fates = decide(judged, rule, labels_needed=data.draw(st.booleans()))

    assert sum(fates.counts().values()) == num
    assert set(fates.counts()) <= set(FATES)
    assert set(fates.exported).isdisjoint(found["unreadable"])
    if not rule.keep_duplicates:
        groups = np.where(copy_of >= 0, copy_of, np.arange(num))[fates.exported]
        assert len(set(groups.tolist())) == len(groups)


class _Told:
    """The part of a judged collection that decides."""

    def __init__(self, labels, found, copy_of):
        self.given_label, self._found, self.copy_of = labels, found, copy_of
        self.suggested_label = (labels + 1) % 3
        self.doubted = self.found("wrong_label")

    def __len__(self):
        return len(self.given_label)

    def found(self, kind):
        return np.isin(np.arange(len(self)), list(self._found[kind]))
