"""`winnow doctor`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import typer

from winnow.cli import options

_WIDTH = 80
_INDENT = " " * 9
_JOINED = "\u00a0"
"""A space at which no line ends."""


def doctor(
    context: typer.Context,
    json_output: options.Json = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """What is installed here, and whether it works."""
    import time

    from winnow.cli.config import commands_of, environment
    from winnow.cli.terminal import bold
    from winnow.doctor.check import run_checks
    from winnow.doctor.facts import facts
    from winnow.errors import MachineError

    started = time.monotonic()
    found = facts()
    found["settings"] = {
        "file": str(config) if config else None,
        "environment": environment(commands_of(context.find_root().command)),
    }
    if not json_output:
        for line in fact_lines(found):
            print(line, flush=True)
    checks = []
    for done in run_checks([entry["device"] for entry in found["devices"]]):
        checks.append(done)
        if not json_output:
            print(_check_line(done.name, done.detail if done.ok else "FAILED", done.seconds), flush=True)
    failed = [done for done in checks if not done.ok]
    if json_output:
        found["checks"] = [vars(done) for done in checks]
        found["ok"] = not failed
        found["seconds"] = round(time.monotonic() - started, 3)
        print(json.dumps(found))
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise MachineError(f"doctor: {failed[0].name} failed: {failed[0].detail}{more}")
    if not json_output:
        print(bold("Everything works."))


def fact_lines(found: Mapping[str, Any]) -> list[str]:
    """The facts for a terminal of 80 columns."""
    from winnow.doctor.facts import install_line

    versions = dict(found["versions"])
    own, python, system = (versions.pop(name) for name in ("winnow", "python", "system"))
    lines = _row("winnow", f"{own}, Python {python}, {system}")
    lines += _row("Parts", ", ".join(f"{name}{_JOINED}{version or 'MISSING'}" for name, version in versions.items()))
    there = [name for name, extra in found["extras"].items() if not extra["missing"]]
    lines += _row("Extras", ", ".join(there) or "none")
    if (install := install_line(found["extras"])) is not None:
        lines += _row("", f"for the others: {install}")
    for number, device in enumerate(found["devices"]):
        lines += _row("" if number else "Devices", _device(device, found["cores"]))
    lines += _row(
        "Memory", f"{_amount(found['memory'])}; {_size(found['disk_free_bytes'])} of disk free in this folder"
    )
    lines += _row("Data", _data(found["data"]))
    lines += _row("Pictures", _pictures(found["pictures"]))
    lines += _row("Settings", _settings(found["settings"]))
    return lines


def _row(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{label:<9}",
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_JOINED, " ") for line in lines]


def _check_line(name: str, result: str, seconds: float) -> str:
    return f"Check    {name:<17} {result:<42} {seconds:>6.1f} s"


def _device(device: Mapping[str, Any], cores: int) -> str:
    if "threads" in device:
        threads = device["threads"]
        more = f"{threads} thread{'s' * (threads != 1)} on {cores} core{'s' * (cores != 1)}"
    else:
        more = ", ".join(
            [device[key] if key == "name" else _size(device[key]) for key in ("name", "memory_bytes") if key in device]
        )
    return f"{device['device']} {device['precision']}{', ' if more else ''}{more}"


def _data(data: Mapping[str, Any]) -> str:
    there = ", ".join(name for name, found in data["collections"].items() if found)
    missing = ", ".join(name for name, found in data["collections"].items() if not found)
    where = f"WINNOW_DATA is {data['root']}" if data["root"] else "WINNOW_DATA is not set"
    return f"{there} can be used" + (f"; not here: {missing}" if missing else "") + f" ({where})"


def _pictures(pictures: Mapping[str, Any]) -> str:
    libraries = ", ".join(f"{name}{_JOINED}{version}" for name, version in pictures["libraries"].items() if version)
    return f"{' '.join(pictures['formats'])} by Pillow ({libraries})"


def _settings(settings: Mapping[str, Any]) -> str:
    names = [
        name if option else f"{name} (no option has this name)" for name, option in settings["environment"].items()
    ]
    file = f"file {settings['file']}" if settings["file"] else "no file (--config names one)"
    return f"{file}; {'environment ' + ', '.join(names) if names else 'no WINNOW_* variable'}"


def _amount(memory: Mapping[str, int | None]) -> str:
    free, total = memory["free_bytes"], memory["total_bytes"]
    if free is None or total is None:
        return "unknown"
    return f"{_size(free)} of {_size(total)} free"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
