"""The licence check finds what is planted for it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from tests.test_scripts import script

check_licences = script("check_licences")


def installed(folder: Path, name: str, *lines: str) -> None:
    """A distribution in a folder, with these lines of metadata."""
    place = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines]) + "\n"
    )


def finder(folder: Path):
    def find(name: str) -> metadata.Distribution:
        for found in metadata.distributions(name=name, path=[str(folder)]):
            return found
        raise metadata.PackageNotFoundError(name)

    return find


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root that needs `a`, with an extra `b` and a development extra `c`."""
    installed(
        tmp_path, "root", "License-Expression: GPL-3.0-only", "Provides-Extra: more", "Provides-Extra: dev",
        "Requires-Dist: a", 'Requires-Dist: b[fast]; extra == "more"', 'Requires-Dist: c; extra == "dev"',
        'Requires-Dist: d; python_version < "3"',
    )  # fmt: skip
    installed(tmp_path, "a", "License: MIT")
    installed(tmp_path, "b", "License-Expression: Apache-2.0", "Provides-Extra: fast", "Requires-Dist: a",
              'Requires-Dist: e; extra == "fast"', 'Requires-Dist: gone; extra == "fast"')  # fmt: skip
    installed(tmp_path, "c", "License: GPL")
    installed(tmp_path, "d", "License: GPL")
    installed(tmp_path, "e", "Classifier: License :: OSI Approved :: BSD License")
    return tmp_path


def test_the_tree_is_what_the_root_and_its_extras_need(tree):
    found, missing = check_licences.resolved("root", finder(tree))

    assert sorted(found) == ["a", "b", "e"]
    assert missing == {"gone"}
    assert list(check_licences.problems(found)) == []


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["License-Expression: GPL-3.0-or-later"], "b: GPL-3.0-or-later is not among the licences allowed"),
        (["Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"], "GPLv3"),
        (["Classifier: License :: Other/Proprietary License"], "Other/Proprietary License is not"),
        (["License-Expression: MIT AND AGPL-3.0-only"], "MIT AND AGPL-3.0-only is not"),
        (["License: free for research"], "free for research is not"),
        (["Classifier: License :: OSI Approved"], "b: says nothing of its licence"),
        ([], "b: says nothing of its licence"),
    ],
)
def test_what_is_not_allowed_is_named(lines, says, tmp_path):
    installed(tmp_path, "root", "Requires-Dist: b")
    installed(tmp_path, "b", *lines)

    [problem] = check_licences.problems(check_licences.resolved("root", finder(tmp_path))[0])
    assert says in problem


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-2.0-only AND MIT", False),
        ("Apache-2.0 WITH LLVM-exception AND BSD-2-Clause", True),
        ("GPL-3.0-only WITH GCC-exception-3.1", False),
        ("(GPL-2.0-only OR MIT) AND (ISC OR Zlib)", True),
        ("MIT AND (GPL-2.0-only AND ISC)", False),
        ("MIT AND GPL-2.0-only OR ISC", True),
        ("ISC OR MIT AND GPL-2.0-only", True),
        ("(MIT", False),
        ("MIT MIT", False),
        ("", False),
        ("Apache Software License", True),
        ("LicenseRef-NVIDIA-Proprietary", False),
    ],
)
def test_expressions_are_read_as_spdx_says(licence, allowed):
    assert check_licences.is_allowed(licence) is allowed


def test_what_is_allowed_by_name_has_a_reason_and_nothing_else_of_its_kind(tmp_path):
    assert all(len(reason) > 20 for reason in check_licences.NAMED.values())
    installed(tmp_path, "root", "Requires-Dist: nvidia-something-new")
    installed(tmp_path, "nvidia-something-new", "License-Expression: LicenseRef-NVIDIA-Proprietary")

    [problem] = check_licences.problems(check_licences.resolved("root", finder(tmp_path))[0])
    assert problem.startswith("nvidia-something-new: ")


def test_the_licences_installed_here_are_allowed():
    assert check_licences.main() == 0
