"""What is installed, what the machine has, and where winnow looks for things."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

from winnow import __version__
from winnow.train.cores import cores

DISTRIBUTION = "winnow-images"
_PARTS = ("torch", "numpy", "pyarrow", "pillow", "scikit-learn", "accelerate", "safetensors", "pydantic", "typer")
_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def facts() -> dict[str, Any]:
    """Everything about installation and machine, as `winnow doctor --json` gives it."""
    return {
        "versions": versions(),
        "extras": extras(),
        "devices": devices(),
        "cores": cores(),
        "memory": memory(),
        "disk_free_bytes": shutil.disk_usage(Path.cwd()).free,
        "data": collections(),
        "pictures": pictures(),
    }


def versions() -> dict[str, str | None]:
    """Versions of winnow, Python, the system and the parts that winnow stands on; None for a missing part."""
    system = f"{platform.system()} {platform.machine()}"
    parts = {name: _version(name) for name in _PARTS}
    return {"winnow": __version__, "python": platform.python_version(), "system": system, **parts}


def extras() -> dict[str, dict[str, Any]]:
    """The optional parts by name: which distributions each needs, and which of them are missing."""
    needed: dict[str, list[str]] = defaultdict(list)
    for requirement in _requirements():
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w.-]+)['\"]", requirement)
        if name and extra and extra[1] != "dev":
            needed[extra[1]].append(name[0])
    return {
        extra: {"needs": names, "missing": [name for name in names if _version(name) is None]}
        for extra, names in sorted(needed.items())
    }


def install_line(found: dict[str, dict[str, Any]]) -> str | None:
    """The one command that adds the extras that are not there; None if all are."""
    missing = [name for name, extra in found.items() if extra["missing"]]
    return f'pip install "{DISTRIBUTION}[{",".join(missing)}]"' if missing else None


def devices() -> list[dict[str, Any]]:
    """The devices that winnow can train on, the CPU first; precision is read from the device, not timed."""
    import torch

    from winnow.train.device import Device

    names = ["cpu"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        count = torch.accelerator.device_count()
        names += [f"{kind.type}:{index}" if count > 1 else kind.type for index in range(count)]
    found = []
    for name in names:
        device = Device.choose(name)
        entry: dict[str, Any] = {"device": name, "precision": device.precision}
        if device.torch_device.type == "cpu":
            entry["threads"] = device.threads
        elif device.torch_device.type == "cuda":
            properties = torch.cuda.get_device_properties(device.torch_device)
            entry |= {"name": properties.name, "memory_bytes": properties.total_memory}
        found.append(entry)
    return found


def memory() -> dict[str, int | None]:
    """Bytes of memory in all and free, of the machine or of the container if that has less; None if unknown."""
    table = _meminfo()
    total, free = table.get("MemTotal"), table.get("MemAvailable")
    for limit, used in _container_limits():
        if total is None or limit < total:
            total = limit
        free = limit - used if free is None else min(free, limit - used)
    return {"total_bytes": total, "free_bytes": None if free is None else max(0, free)}


def collections() -> dict[str, Any]:
    """Where built-in collections are looked for, and which are there: each is opened, its pictures are not read."""
    from winnow.data.builtin import builtin_names
    from winnow.data.open import open_source
    from winnow.errors import WinnowError

    families: dict[str, str] = {}
    for name in builtin_names():
        families.setdefault(name.split(":")[0], name)
    there = {}
    for family, name in families.items():
        try:
            open_source(name)
        except WinnowError:
            there[family] = False
        else:
            there[family] = True
    return {"root": os.environ.get("WINNOW_DATA") or None, "collections": there}


def pictures() -> dict[str, Any]:
    """The formats that are read, the decoder, and the libraries below it."""
    from PIL import features

    from winnow.doctor.check import FORMATS

    libraries = {"jpeg": "libjpeg_turbo" if features.check("libjpeg_turbo") else "jpg", "webp": "webp", "avif": "avif"}
    # Pillow gives libjpeg-turbo's version under the feature, the others' under their codec or module.
    return {
        "decoder": "pillow",
        "formats": list(FORMATS),
        "libraries": {name: features.version(feature) for name, feature in libraries.items()},
    }


def _requirements() -> list[str]:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from a source tree
        return []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _meminfo() -> dict[str, int]:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return {}
    pairs = (line.split(":") for line in lines if line.endswith(" kB"))
    return {name: int(text.split()[0]) * 1024 for name, text in pairs}


def _container_limits() -> list[tuple[int, int]]:
    """(limit, used) in bytes of every control group above this process that has a limit; versions 2 and 1."""
    files = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    found = []
    for folder in _groups():
        for limit_name, used_name in files:
            try:
                limit, used = (folder / limit_name).read_text().strip(), (folder / used_name).read_text()
            except OSError:
                continue
            if limit.isdigit() and int(limit) < 2**60:  # else no limit: "max", or version 1's largest number
                found.append((int(limit), int(used)))
    return found


def _groups() -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = [_CGROUPS, _CGROUPS / "memory"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _CGROUPS / controllers
            inner = root / path.lstrip("/")
            found += [group for group in (inner, *inner.parents) if group.is_relative_to(root) and group != root]
    return found
