"""Class maps and groups of classes as a person writes them."""

from __future__ import annotations

from difflib import get_close_matches

from winnow.data.classes import class_advice
from winnow.data.source import Source
from winnow.errors import UsageError
from winnow.noise.hierarchy import CIFAR100_SUPERCLASSES
from winnow.noise.matrices import CLASS_MAPS, PERMUTATIONS

CONFUSABLE = "confusable"
"""Stands for the map that a linear model's confusions give."""
_HIERARCHY = "cifar100"


def class_map(source: Source, text: str) -> dict[int, int]:
    """A known map, or pairs like `truck:automobile,cat:dog`, as class indices.

    Raises:
        UsageError: it is no map of the source's classes.
    """
    if text in CLASS_MAPS:
        _check_classes(source, text, 10)
        return CLASS_MAPS[text]
    mapping: dict[int, int] = {}
    for pair_text in text.split(","):
        first, separator, second = pair_text.partition(":")
        if not separator:
            near = get_close_matches(text, [*CLASS_MAPS, CONFUSABLE], n=1)
            advice = f"did you mean {near[0]}?" if near else "write pairs like 'truck:car,cat:dog'"
            raise UsageError(f"--map: '{pair_text}' is no known map and no pair; {advice}")
        if (start := class_index(source, first)) in mapping:
            raise UsageError(f"--map: '{first}' is mapped twice")
        mapping[start] = class_index(source, second)
    return mapping


def own_map(source: Source) -> dict[int, int]:
    """The published map of a built-in collection.

    Raises:
        UsageError: there is none.
    """
    known = source.address.split(":")[0].replace("digits", "mnist")
    if known not in CLASS_MAPS:
        names = ", ".join([*CLASS_MAPS, CONFUSABLE])
        raise UsageError(f"asymmetric noise needs --map: {names} or 'cat:dog,dog:cat'")
    return class_map(source, known)


def targets(source: Source, text: str | None) -> list[int] | None:
    """A known permutation, or all targets in order; None for None."""
    if text is None:
        return None
    if text in PERMUTATIONS:
        return list(PERMUTATIONS[text])
    return [class_index(source, name) for name in text.split(",")]


def class_groups(source: Source, text: str | None, kind: str) -> list[list[int]]:
    """Groups of classes like `cat|dog,car|truck`, or CIFAR-100's superclasses, which are its default.

    Raises:
        UsageError: they are no groups of the source's classes.
    """
    if text is None and source.address.split(":")[0].startswith(_HIERARCHY):
        text = _HIERARCHY
    if text is None:
        raise UsageError(f"{kind} noise needs --map: groups like 'cat|dog,car|truck', or {_HIERARCHY}")
    if text == _HIERARCHY:
        _check_classes(source, text, 100)
        return [list(group) for group in CIFAR100_SUPERCLASSES]
    groups = [[class_index(source, name) for name in group.split("|")] for group in text.split(",")]
    classes = [index for group in groups for index in group]
    for index in classes:
        if classes.count(index) > 1:
            raise UsageError(f"--map: '{source.class_names[index]}' stands in two groups, or twice in one")
    return groups


def class_index(source: Source, text: str) -> int:
    """A class by its name, else by its index."""
    text = text.strip()
    if text in source.class_names:
        return source.class_names.index(text)
    if text.isdecimal() and int(text) < source.num_classes:
        return int(text)
    raise UsageError(f"--map: no class '{text}'; {class_advice(text, source.class_names)}")


def _check_classes(source: Source, text: str, count: int) -> None:
    if source.num_classes != count:
        raise UsageError(f"--map {text} is for {count} classes, {source.address} has {source.num_classes}")
