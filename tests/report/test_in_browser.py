"""The report in a real browser: the checks that no parser can make."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.report.audit_folder import write_audit
from winnow.report.audit import write_audit_report
from winnow.report.run import write_run_report

SCRIPT = Path(__file__).parents[2] / "scripts" / "screenshot_report.py"


def screenshots():
    specification = importlib.util.spec_from_file_location("screenshot_report", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["screenshot_report"] = module
    specification.loader.exec_module(module)
    return module


def assert_quiet(module, page):
    """Asserts that a page fits into every window, closed and unfolded, and neither asks nor complains."""
    with module.Browser() as browser:
        looks = [
            browser.look(page, width=width, dark=dark, unfold=unfold)
            for width, dark, unfold in (
                (360, False, False),
                (360, True, True),
                (820, False, True),
                (1280, False, True),
            )
        ]

    assert [look.problems for look in looks] == [[], [], [], []]
    assert [look.scroll_width for look in looks] == [360, 360, 820, 1280]
    assert min(look.smallest_text for look in looks) >= 11


@pytest.mark.slow
def test_hostile_page_is_quiet_and_never_scrolls_sideways(fake_run, hostile_names):
    module = screenshots()
    if module.chromium() is None:
        pytest.skip("no chromium on PATH")
    given = np.arange(480) % len(hostile_names)
    suggested = np.where(np.arange(480) % 2 == 0, (given + 1 + np.arange(480) // 12) % len(hostile_names), given)
    run = fake_run.write(
        given,
        suggested,
        names=hostile_names,
        ids=[f"{hostile_names[row % len(hostile_names)]}/{row}" for row in range(480)],
        reasons=[hostile_names[row % len(hostile_names)] for row in range(480)],
        quarantine=[(name, name, name) for name in hostile_names],
    )
    page = write_run_report(run, lambda row: np.full((40, 60, 3), row % 256, np.uint8))

    assert_quiet(module, page)


@pytest.mark.slow
def test_hostile_audit_is_quiet_and_never_scrolls_sideways(tmp_path, hostile_names):
    module = screenshots()
    if module.chromium() is None:
        pytest.skip("no chromium on PATH")
    number, classes = 480, len(hostile_names)
    given = np.arange(number) % classes
    suggested = np.where(np.arange(number) % 2 == 0, (given + 1 + np.arange(number) // 12) % classes, given)
    texts = [f"{hostile_names[row % classes]}/{row}" for row in range(number)]
    folder = write_audit(
        tmp_path / "audit",
        given,
        suggested,
        names=hostile_names,
        ids=texts,
        reasons=dict(enumerate(texts)),
        found={
            "conflicting_duplicate": [(row, row + 1, 0.9, texts[row]) for row in range(classes)],
            "test_leak": [(row, row, 0.9, texts[row]) for row in range(classes)],
            "outlier": [(row, -1, 0.9, texts[row]) for row in range(classes)],
            "odd_file": [(row, -1, float("nan"), texts[row]) for row in range(classes)],
        },
        unreadable=[(row, texts[row], texts[row]) for row in range(number - classes, number)],
        remarks=[{"kind": name, "sentence": name * 3, "numbers": {}} for name in hostile_names],
        noise_kind={
            "name": hostile_names[6],
            "evidence": [{"name": name, "value": 1e-7, "sentence": name} for name in hostile_names],
            "limits": hostile_names,
        },
        command=hostile_names[6],
        data=hostile_names[6],
        settings={name: name for name in hostile_names},
        stage_seconds=dict.fromkeys(hostile_names, 2.0),
    )

    assert_quiet(module, write_audit_report(folder, lambda row: np.full((40, 60, 3), row % 256, np.uint8)))
