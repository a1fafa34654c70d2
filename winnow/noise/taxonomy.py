"""Every kind of noise that can be made: what it may look at, and of what its rate is a share.

The tags are those of Frénay & Verleysen 2014: NCAR, wrong labels come completely at random; NAR, they depend on the
class; NNAR, they depend on the image too. Outside that survey, `open-set`: the image is of none of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

NCAR = "NCAR"
NAR = "NAR"
NNAR = "NNAR"
OPEN_SET = "open-set"
WEB = "open-set + NAR"
DRAWS = ("exact", "expected")


@dataclass(frozen=True)
class Kind:
    """One kind of noise.

    Attributes:
        taxonomy: its tag.
        what: what happens to the labels.
        options: options that belong to it, as the command line spells them.
        draws: how it can be drawn, the default first.
    """

    taxonomy: str
    what: str
    options: frozenset[str] = frozenset()
    draws: tuple[str, ...] = DRAWS


KINDS = {
    "symmetric": Kind(NCAR, "each other class is equally likely", frozenset({"convention"})),
    "pair": Kind(NAR, "each class is taken for the next"),
    "tridiagonal": Kind(NAR, "each class is taken for one of its two neighbours"),
    "asymmetric": Kind(NAR, "some classes are taken for a look-alike", frozenset({"map"})),
    "permutation": Kind(NAR, "each class is always taken for the same other one", frozenset({"map"})),
    "superclass": Kind(NAR, "each class is taken for the next of its group", frozenset({"map"})),
    "block5": Kind(NAR, "each class is taken for the next of its block of five indices"),
    "ambiguity": Kind(NAR, "a class name has a second sense", frozenset({"map"})),
    "annotators": Kind(NAR, "several people with habits of their own", frozenset({"annotators"})),
    "instance": Kind(
        NNAR, "the image decides how likely and which", frozenset({"calibrate", "temperature"}), ("expected",)
    ),
    "boundary": Kind(NNAR, "images close to another class go there"),
    "cluster": Kind(NNAR, "whole groups of look-alike images go to one class", draws=("exact",)),
    "open-set": Kind(OPEN_SET, "images are replaced by foreign ones", frozenset({"donor"})),
    "web": Kind(WEB, "foreign images, and classes within a group", frozenset({"map", "donor", "foreign-rate"})),
}


def listed() -> str:
    """The kinds in one sentence, grouped by tag."""
    tags = dict.fromkeys(kind.taxonomy for kind in KINDS.values())
    groups = (f"{tag}: {', '.join(name for name, kind in KINDS.items() if kind.taxonomy == tag)}" for tag in tags)
    return "; ".join(groups)
