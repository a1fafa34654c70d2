import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.audit_folder import write_audit
from winnow.audit.findings import KINDS
from winnow.report import words
from winnow.report.audit_words import MEANINGS, Example, answer, examples, terminal_lines, width
from winnow.report.folder import read_findings

PHOTOS = {
    "num_images": 48_169,
    "num_classes": 12,
    "quarantined": 41,
    "unlabelled": 0,
    "num_flagged": 3412,
    "num_issues": 3600,
    "counts": {"near_duplicate": 210, "wrong_label": 3412, "unreadable": 41},
    "likely_true": {"wrong_label": 0.87, "near_duplicate": None, "unreadable": None},
    "similarity": {"near_duplicate": 0.94},
    "estimated_noise_rate": 0.081,
    "estimated_noise_rate_interval": [0.074, 0.089],
}


def test_every_kind_has_a_meaning():
    assert tuple(MEANINGS) == KINDS


def test_the_terminal_says_answer_table_and_what_cannot_be_seen():
    told = {
        "wrong_label": Example("cat/00412.jpg", told=" looks like dog", wanted=15),
        "unreadable": Example("car/zero.jpg", told=": empty"),
    }

    # 0.081 of the 48,128 readable labels are 3,898
    assert terminal_lines(PHOTOS, told) == [
        "About 3,900 of 48,128 labels look wrong: 8.1 % (interval 7.4 to 8.9).",
        "  finding            images   likely true   for example",
        "  wrong_label         3,412          87 %   cat/00412.jpg looks like dog",
        "  near_duplicate        210    94 % alike",
        "  unreadable             41         exact   car/zero.jpg: empty",
        "Mistakes that everyone makes alike cannot be seen here: --blind 60 checks.",
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_flagged": 0, "num_issues": 0}, "No label stands out among 48,128 images"),
        ({"num_flagged": 0, "num_issues": 1}, "No label stands out among 48,128 images; 1 image has other findings"),
        ({"quarantined": 48_169}, "None of 48,169 images can be read"),
        ({"num_classes": 1, "num_flagged": 0}, "With one class no label can look like another one; 3,600 images"),
        ({"unlabelled": 48_128, "num_flagged": 0}, "There is no label to judge among 48,128 images"),
        ({"estimated_noise_rate": None}, "3,412 of 48,128 labels look wrong"),
        ({"estimated_noise_rate_interval": None}, "About 3,900 of 48,128 labels look wrong: 8.1 %"),
        ({"estimated_noise_rate": 1e-6}, "Fewer than 1 of 48,128 labels look wrong: <0.1 %"),
    ],
)
def test_every_state_has_its_answer(changes, sentence):
    assert answer(PHOTOS | changes).replace("\u00a0", " ").startswith(sentence)


@given(
    st.dictionaries(st.sampled_from(KINDS), st.integers(1, 10**9)),
    st.text(max_size=300),
    st.integers(1, 10**9),
    st.floats(0, 1),
)
def test_no_line_is_wider_than_a_terminal(counts, example, images, rate):
    summary = PHOTOS | {"counts": counts, "num_images": images, "quarantined": 0, "estimated_noise_rate": rate}

    whole = Example(words.visible(example), told=f" looks like {words.visible(example)}", wanted=18)
    lines = terminal_lines(summary, dict.fromkeys(KINDS, whole))

    assert max(map(width, lines)) <= 80
    assert not any(set("\n\u00a0\u2068") & set(line) for line in lines)


@pytest.mark.parametrize(("letter", "columns"), [("x", 1), ("\u6f22", 2)])
def test_a_long_example_is_cut_at_the_edge_of_the_terminal(letter, columns):
    told = {"conflicting_duplicate": Example("a.png", told=letter * 300)}
    row = terminal_lines(PHOTOS | {"counts": {"conflicting_duplicate": 1}}, told)[2]

    assert row.endswith(f"{letter}\u2026")
    assert width(row) == len(row) + (columns - 1) * row.count(letter)
    assert 76 <= width(row) <= 80


@pytest.mark.parametrize("letter", ["x", "\u6f22"])
@pytest.mark.parametrize("other", ["near_duplicate", "conflicting_duplicate"])
def test_a_long_name_is_cut_in_its_middle_so_that_the_suggestion_shows(letter, other, tmp_path):
    suggested = np.zeros(20, dtype=np.int64)
    suggested[7] = 1
    folder = write_audit(
        tmp_path / "audit",
        np.zeros(20),
        suggested,
        names=["cat", "hovercraft"],
        quality=np.where(suggested == 1, 0.1, 0.9),
        ids=[f"{letter * 60}/{row:05d}.png" for row in range(20)],
    )
    told = examples(read_findings(folder), ["cat", "hovercraft"])

    row = terminal_lines(PHOTOS | {"counts": {"wrong_label": 1, other: 1}}, told)[2]

    assert row.endswith(" looks like hovercraft")
    name = row.split("87 %   ")[1].split(" looks like")[0]
    start, end = name.split("\u2026")
    assert set(start) == {letter}
    assert "00007.png".endswith(end)
    assert end
    assert width(row) <= 80


def test_examples_are_the_worst_of_each_kind(tmp_path):
    found = {
        "near_duplicate": [(3, 4, 0.9, ""), (4, 3, 0.9, ""), (5, 6, 0.8, "")],
        "outlier": [(7, -1, 0.9, "far away"), (8, -1, 0.8, "")],
    }
    suggested = np.zeros(10, dtype=np.int64)
    suggested[[1, 2]] = 1
    quality = np.where(suggested == 1, [0.2, 0.3, 0.1, 0, 0, 0, 0, 0, 0, 0], 0.9)
    folder = write_audit(
        tmp_path / "audit", np.zeros(10), suggested, names=["cat", "dog"], quality=quality, found=found
    )

    told = examples(read_findings(folder), ["cat", "dog"])
    assert {kind: example.line(80) for kind, example in told.items()} == {
        "wrong_label": "00002.png looks like dog",
        "near_duplicate": "2\u00a0groups, such as 00003.png",
        "outlier": "00007.png: far away",
    }
