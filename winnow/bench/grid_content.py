"""What a grid file may say: names, types and short forms, refused or filled in before anything looks further."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from winnow.bench.comparison import MEASURES
from winnow.bench.shared import OPENING
from winnow.data.open import open_source
from winnow.errors import UsageError
from winnow.noise.kinds import KINDS, make_noise
from winnow.train.settings import Settings

Types = Mapping[str, Any]
"""By the name of an entry its type hint; `Any` where more than a type decides."""

_WORDS: Mapping[type, str] = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
TOP: Types = dict.fromkeys(
    ("title", "about", "data", "noise", "method", "seeds", "train", "size", "published", "relation"), Any
)
DATA: Types = {
    **dict.fromkeys(("data", "test", "test_label_column"), str),
    **{name: get_type_hints(open_source).get(name, Any) for name in OPENING},
    "noise": Any,
    "train": Any,
}
METHOD: Types = {"name": str, "set": Mapping}
TRAIN: Types = {
    name: hint for name, hint in get_type_hints(Settings).items() if name not in ("method", "seed", "hyperparameters")
}
_NOISE: Types = {
    **{name: hint for name, hint in get_type_hints(make_noise).items() if name not in ("source", "progress", "return")},
    "rate": Any,
    "verified": int,
}
_PUBLISHED: Types = {
    **dict.fromkeys(("method", "data", "source", "differs"), str),
    "noise": Any,
    "accuracy": float,
}
_RELATION: Types = {
    **dict.fromkeys(("claim", "better", "than", "data", "measure"), str),
    "noise": Any,
    "by": float,
    "at_least": float,
    "at_most": float,
    "each": bool,
}


def check(given: Any, known: Types, where: str) -> None:
    """Refuses what is no table, an entry that there is not, and a value of another type.

    Raises:
        UsageError: with what was meant, perhaps.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: must be a table")
    for key, value in given.items():
        if key not in known:
            raise UsageError(f"{where}: no entry '{key}'{hint(key, known)}")
        _check_type(value, known[key], f"{where}: {key}")


def tables(content: Mapping[str, Any], key: str, name: str, main: str) -> list[Mapping[str, Any]]:
    """A list of tables; a plain text stands for a table with its main entry alone."""
    given = content.get(key, [])
    items = given if isinstance(given, list) else [given]
    found = [{main: item} if isinstance(item, str) else item for item in items]
    if not all(isinstance(item, Mapping) for item in found):
        raise UsageError(f"{name}: {key} must be a list of names or of tables")
    return found


def conditions(given: Any, name: str) -> list[dict[str, Any]]:
    """The noises that an entry `noise` asks for, one a rate; without an entry the labels stay."""
    kinds = [{"kind": "none"}] if given is None else tables({"noise": given}, "noise", name, "kind")
    return [one for kind in kinds for one in _rates(kind, name)]


def relations(content: Mapping[str, Any], name: str, methods: Collection[str]) -> list[dict[str, Any]]:
    """The rows `relation`, with their noise written out.

    Args:
        content: of the grid.
        name: of the grid.
        methods: labels of the methods that a row may name.

    Raises:
        UsageError: a row could not be judged.
    """
    where = f"{name}: relation"
    found = []
    for row in tables(content, "relation", name, "claim"):
        check(row, _RELATION, where)
        if "better" not in row or len({"than", "at_least", "at_most"} & row.keys()) != 1:
            raise UsageError(
                f"{where}: 'better' and either another method (than, by) or a value (at_least, at_most) are needed"
            )
        if "by" in row and "than" not in row:
            raise UsageError(f"{where}: 'by' needs another method, 'than'")
        for key in ("better", "than"):
            if key in row and row[key] not in methods:
                raise UsageError(f"{where}: {key}: no method '{row[key]}' in the grid{hint(row[key], methods)}")
        if row.get("measure", MEASURES[0]) not in MEASURES:
            raise UsageError(f"{where}: no measure '{row['measure']}'{hint(row['measure'], MEASURES)}")
        found.append(_with_one_noise(row, where))
    return found


def published(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The rows `published`, with their noise written out.

    Raises:
        UsageError: a row could not be shown.
    """
    where = f"{name}: published"
    found = []
    for row in tables(content, "published", name, "method"):
        check(row, _PUBLISHED, where)
        if not 0 <= row.get("accuracy", 0) <= 1:
            raise UsageError(f"{where}: accuracy must be a fraction in [0, 1], got {row['accuracy']}")
        found.append(_with_one_noise(row, where))
    return found


def hint(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: what was meant, or what there is."""
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f" ({', '.join(known)})"


def _check_type(value: Any, wanted: Any, where: str) -> None:
    kinds = get_args(wanted) or (wanted,)
    if wanted is Any or (value is None and type(None) in kinds):
        return
    if wanted is Mapping:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} must be a table, got {value!r}")
        return
    allowed = [kind for kind in _WORDS if kind in kinds]
    if type(value) not in allowed and not (type(value) is int and float in allowed):
        raise UsageError(f"{where} must be {' or '.join(_WORDS[kind] for kind in allowed)}, got {value!r}")


def _with_one_noise(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "noise" not in row:
        return dict(row)
    noises = conditions(row["noise"], where)
    if len(noises) != 1:
        raise UsageError(f"{where}: noise must be one kind at one rate, got {len(noises)}")
    return {**row, "noise": noises[0]}


def _rates(noise: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    check(noise, _NOISE, f"{name}: noise")
    kind = noise.get("kind")
    if kind != "none" and kind not in KINDS:
        raise UsageError(f"{name}: no noise of the kind '{kind}'{hint(str(kind), (*KINDS, 'none'))}")
    checked = {"verified": noise["verified"]} if "verified" in noise else {}
    if checked and noise["verified"] < 1:
        raise UsageError(f"{name}: noise: verified must be a number of images, got {noise['verified']}")
    if kind == "none":
        if others := [key for key in noise if key not in ("kind", "verified")]:
            raise UsageError(f"{name}: noise of the kind none takes no {', '.join(others)}")
        yield {"kind": "none", **checked}
        return
    if "rate" not in noise:
        raise UsageError(f"{name}: {kind} noise needs a rate in [0, 1]: {kind}:0.4, or rate = 0.4 in a file")
    rates = noise["rate"]
    for rate in rates if isinstance(rates, list) else [rates]:
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate <= 1:
            raise UsageError(f"{name}: {kind} noise needs a rate in [0, 1], got {rate}")
        yield {"kind": "none", **checked} if rate == 0 else {**noise, "rate": float(rate)}
