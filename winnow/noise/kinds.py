"""Noise by the name a person types."""

from __future__ import annotations

from difflib import get_close_matches

from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.noise.inject import LabelNoise, asymmetric, pair, permutation, symmetric
from winnow.noise.matrices import CLASS_MAPS, PERMUTATIONS

KINDS = ("symmetric", "pair", "asymmetric", "permutation")


def make_noise(
    source: Source,
    kind: str,
    rate: float,
    *,
    class_map: str | None = None,
    inclusive: bool = False,
    draw: str = "exact",
    seed: int = 0,
) -> LabelNoise:
    """Noise on the labels of a source.

    Args:
        source: its labels are taken for the truth.
        kind: one of `KINDS`.
        rate: in [0, 1]; see the generators in `inject` for what it is a share of.
        class_map: for `asymmetric` the name of a known map, or pairs like `truck:automobile,cat:dog`; for
            `permutation` the name of a known one, or all targets in order like `1,2,0`.
        inclusive: for `symmetric`, whether the new label may be the old one.
        draw: `exact` or `expected`.
        seed: of the randomness.

    Raises:
        UsageError: kind, rate or map are not possible.
        InputError: the labels are known to be wrong already.
    """
    if source.clean_labels is not None and source.clean_labels.wrong(source.noisy_labels).any():
        truth = source.clean_label_column or "label"
        raise InputError(
            f"{source.address}: its labels are noisy already, with their truth in '{truth}'; "
            f"start from the truth: --label-column {truth}"
        )
    if inclusive and kind != "symmetric":
        raise UsageError(f"--convention inclusive belongs to symmetric noise, not to {kind}")
    if class_map is not None and kind not in ("asymmetric", "permutation"):
        raise UsageError(f"--map belongs to asymmetric and permutation noise, not to {kind}")
    labels, ids, num_classes = source.noisy_labels, source.ids, source.num_classes
    if kind == "symmetric":
        return symmetric(labels, ids, num_classes, rate, seed=seed, inclusive=inclusive, draw=draw)
    if kind == "pair":
        return pair(labels, ids, num_classes, rate, seed=seed, draw=draw)
    if kind == "asymmetric":
        return asymmetric(labels, ids, num_classes, rate, _class_map(source, class_map), seed=seed, draw=draw)
    if kind == "permutation":
        targets = _targets(source, class_map)
        return permutation(labels, ids, num_classes, rate, seed=seed, targets=targets, draw=draw)
    raise UsageError(f"no noise of the kind '{kind}' ({', '.join(KINDS)})")


def _class_map(source: Source, text: str | None) -> dict[int, int]:
    if text is None:
        known = source.address.split(":")[0].replace("digits", "mnist")
        if known not in CLASS_MAPS:
            raise UsageError(f"asymmetric noise needs --map: {', '.join(CLASS_MAPS)} or 'cat:dog,dog:cat'")
        text = known
    if text in CLASS_MAPS:
        if source.num_classes != 10:
            raise UsageError(f"--map {text} is for 10 classes, {source.address} has {source.num_classes}")
        return CLASS_MAPS[text]
    mapping: dict[int, int] = {}
    for pair_text in text.split(","):
        first, separator, second = pair_text.partition(":")
        if not separator:
            near = get_close_matches(text, CLASS_MAPS, n=1)
            advice = f"did you mean {near[0]}?" if near else "write pairs like 'truck:car,cat:dog'"
            raise UsageError(f"--map: '{pair_text}' is no known map and no pair; {advice}")
        if (start := _class(source, first)) in mapping:
            raise UsageError(f"--map: '{first}' is mapped twice")
        mapping[start] = _class(source, second)
    return mapping


def _targets(source: Source, text: str | None) -> list[int] | None:
    if text is None:
        return None
    if text in PERMUTATIONS:
        return list(PERMUTATIONS[text])
    return [_class(source, name) for name in text.split(",")]


def _class(source: Source, text: str) -> int:
    """A class by its name, else by its index."""
    text = text.strip()
    if text in source.class_names:
        return source.class_names.index(text)
    if text.isdecimal() and int(text) < source.num_classes:
        return int(text)
    near = get_close_matches(text, source.class_names, n=1)
    shown = ", ".join(source.class_names[:10])
    advice = f"did you mean {near[0]}?" if near else f"the classes are {shown}"
    raise UsageError(f"--map: no class '{text}'; {advice}")
