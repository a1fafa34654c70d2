"""Checks the licence of everything that winnow and its extras bring along, as it is installed here.

The tree is walked from winnow's own requirements, without the tools of development. Allowed are permissive licences,
and weak copyleft (LGPL, MPL) for libraries that are used as they are. Anything else, and anything that does not say,
is named and fails, unless it stands in `NAMED` with the reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "winnow-images"
DEVELOPMENT = {"dev"}
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-0",
    "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
    "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MPL-2.0",
}  # fmt: skip
MEANT = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.1-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zlib/libpng license": "Zlib",
}
_RUNTIME = "NVIDIA's runtime for PyTorch on its devices: free to use and pass on, not open; a CPU build is without it"
NAMED = {
    **dict.fromkeys(
        (
            "cuda-toolkit", "nvidia-cublas", "nvidia-cuda-cccl", "nvidia-cuda-cupti", "nvidia-cuda-nvrtc",
            "nvidia-cuda-runtime", "nvidia-cudnn-cu13", "nvidia-cufft", "nvidia-cufile", "nvidia-curand",
            "nvidia-cusolver", "nvidia-cusparse", "nvidia-cusparselt-cu13", "nvidia-nccl-cu13", "nvidia-nvjitlink",
            "nvidia-nvshmem-cu13", "nvidia-nvtx",
        ),
        _RUNTIME,
    ),
}  # fmt: skip
Find = Callable[[str], metadata.Distribution]


def resolved(root: str = ROOT, find: Find = metadata.distribution) -> tuple[dict[str, metadata.Distribution], set[str]]:
    """Everything that `root` requires with all of its extras, by name; and the names that are not installed."""
    found: dict[str, metadata.Distribution] = {}
    missing: set[str] = set()
    done: set[tuple[str, str]] = set()
    extras = set(find(root).metadata.get_all("Provides-Extra") or []) - DEVELOPMENT
    waiting = [(root, extra) for extra in sorted({"", *extras})]
    while waiting:
        name, extra = waiting.pop()
        name = canonicalize_name(name)
        if (name, extra) in done:
            continue
        done.add((name, extra))
        try:
            found[name] = find(name)
        except metadata.PackageNotFoundError:
            missing.add(name)
            continue
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, each) for each in {"", *requirement.extras}]
    del found[canonicalize_name(root)]
    return found, missing


def licences(about: metadata.PackageMetadata) -> list[str]:
    """What a distribution says of its licence, the most exact statement only."""
    classifiers = [
        line.rsplit("::", 1)[1].strip() for line in about.get_all("Classifier") or [] if "License ::" in line
    ]
    [text, *_] = about.get_all("License") or [""]
    if expressions := about.get_all("License-Expression"):
        return list(expressions)
    if classifiers := [name for name in classifiers if name != "OSI Approved"]:
        return classifiers
    return [text.strip().splitlines()[0]] if text.strip() else []


def is_allowed(licence: str) -> bool:
    """Whether a name or an SPDX expression comes to licences that are allowed.

    Of `A OR B` one must be allowed, of `A AND B` both.
    """
    words = re.findall(r"\(|\)|[^\s()]+", MEANT.get(licence.lower(), licence))
    truth, position = _any(words, 0)
    return truth and position == len(words)


def _any(words: list[str], position: int) -> tuple[bool, int]:
    truth, position = _all(words, position)
    while words[position : position + 1] == ["OR"]:
        other, position = _all(words, position + 1)
        truth = truth or other
    return truth, position


def _all(words: list[str], position: int) -> tuple[bool, int]:
    truth, position = _one(words, position)
    while words[position : position + 1] == ["AND"]:
        other, position = _one(words, position + 1)
        truth = truth and other
    return truth, position


def _one(words: list[str], position: int) -> tuple[bool, int]:
    word = words[position] if position < len(words) else ""
    if word == "(":
        truth, position = _any(words, position + 1)
        return truth and words[position : position + 1] == [")"], position + 1
    if words[position + 1 : position + 2] == ["WITH"]:  # an exception only adds rights
        return word in ALLOWED, position + 3
    return word in ALLOWED, position + 1


def problems(found: dict[str, metadata.Distribution]) -> Iterator[str]:
    """A sentence for every distribution whose licence is not allowed."""
    for name, distribution in sorted(found.items()):
        if name in NAMED:
            continue
        stated = licences(distribution.metadata)
        if not stated:
            yield f"{name}: says nothing of its licence"
        elif not all(map(is_allowed, stated)):
            yield f"{name}: {'; '.join(stated)} is not among the licences allowed"


def main() -> int:
    """Prints every problem; 1 if there is one."""
    found, missing = resolved()
    wrong = list(problems(found))
    named = sum(name in NAMED for name in found)
    print("\n".join(wrong) or f"licences are as allowed ({len(found)} distributions, {named} of them named one by one)")
    if missing:
        print(f"not installed, not checked: {', '.join(sorted(missing))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
