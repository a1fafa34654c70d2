"""The frame of every page: templates that escape what they are given, files that are whole or not there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from winnow.files import atomic_write
from winnow.report import words

CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
LARGEST_PAGE = 5_000_000


class PageTooLarge(RuntimeError):
    """A page has more bytes than we promise."""


@dataclass(frozen=True)
class Next:
    """The one command a reader should type now, and what it does."""

    command: str
    does: str


@cache
def environment() -> Environment:
    """Templates with autoescape on for every file and no silent gaps: a missing value is an error."""
    templates = Environment(
        loader=PackageLoader("winnow.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "count": words.count,
        "counted": words.counted,
        "percent": words.percent,
        "duration": words.duration,
        "decimal": words.decimal,
        "area": words.area,
        "short": words.short,
        "name": words.name,
    }
    templates.globals["content_security_policy"] = CONTENT_SECURITY_POLICY
    return templates


def render(template: str, **values: object) -> str:
    """One page as text.

    Raises:
        PageTooLarge: the page is larger than we promise, whatever the size of the collection.
    """
    text = environment().get_template(template).render(values)
    if len(text.encode("utf-8")) >= LARGEST_PAGE:
        raise PageTooLarge(f"{template}: the page has {len(text):,} characters, at most {LARGEST_PAGE:,} allowed")
    return text


def write_page(path: Path, text: str) -> Path:
    """Write a page so that a reader sees the old file or the whole new one, even after a crash.

    Raises:
        MachineError: the disk is full or the place cannot be written.
    """
    atomic_write(path, text.encode("utf-8"))
    return path
