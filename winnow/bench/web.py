"""The web study: what a crawl is worth, before and after copies, ambiguous images and low ranks are taken out.

After Krause et al., ECCV 2016. The parts of the crawl that are compared share one learner, and in one repeat one
network and one choice of whatever is drawn: differences are paired. `web_data` decides the fate of every image,
`web_sets` which images a part has, `web_cell` trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from winnow.bench.cells import Cell, code_version, hashed
from winnow.bench.learner import Learner, Trainings
from winnow.bench.web_crawl import CRAWL
from winnow.bench.web_data import KEPT, TEST_COPY, Crawl
from winnow.bench.web_sets import FEWEST_NOISY, STRATEGIES, noise_counts
from winnow.errors import UsageError
from winnow.methods import find_method
from winnow.models import ModelSpec, default_model

FUNCTION = "winnow.bench.web_cell:run_cell"
_MODULES = tuple(
    f"winnow.bench.{name}"
    for name in (
        "web_cell",
        "web_sets",
        "web_crawl",
        "web_data",
        "web_columns",
        "web_copies",
        "mislabel_cell",
        "mislabel_data",
    )
)
_TINY = 16
_TINY_STEPS, _STEPS = 400, 1000
_ASKED_SHARES = (20, 5)
"""Of the kept images, one in so many is annotated, if no budgets are given."""
_CAP_SHARES = (0.25, 0.5, 0.75)
NOISES = ("none", "right", "cross-domain", "cross-category")

Part = Mapping[str, Any]


@dataclass(frozen=True)
class Design(Trainings):
    """The cells of a study.

    Attributes:
        opening: how the data is opened, see `winnow.bench.shared.prepare`.
        fingerprint: of the data and of the further columns.
        learner: what is trained on every part.
        parts: what is trained on.
        rank_column: of the crawl's table.
        foreign_column: of the crawl's table.
        likeness: what counts as a copy; None calibrates it.
        simulated: how the crawl was made, if no search made it.
    """

    opening: Mapping[str, Any]
    fingerprint: str
    learner: Learner
    parts: tuple[Part, ...]
    rank_column: str | None = None
    foreign_column: str | None = None
    likeness: float | None = None
    simulated: str | None = None

    def cell(self, part: Part, repeat: int) -> Cell:
        """The cell of a part and a repeat."""
        learner = self.learner
        config = {
            "study": "web",
            "data": dict(self.opening),
            "rank_column": self.rank_column,
            "foreign_column": self.foreign_column,
            "likeness": self.likeness,
            "simulated": self.simulated,
            "part": dict(part),
            **self.config(learner, repeat),
        }
        cost = 0.1 if part["name"] == CRAWL else 1.0
        return Cell(config, self.fingerprint, code_version(learner.method, *_MODULES), cost)

    def cells(self) -> list[Cell]:
        """The crawl itself, then the first repeat of all parts before the second of any."""
        trained = [self.cell(part, repeat) for repeat in range(self.repeats) for part in self.parts]
        return [self.cell({"name": CRAWL}, 0), *trained]


def parts(crawl: Crawl, budgets: Sequence[int], caps: Sequence[int]) -> tuple[Part, ...]:
    """What is compared, as far as the crawl allows.

    Args:
        crawl: with the fate of every image.
        budgets: numbers of images that annotators are asked about.
        caps: largest numbers of images of a class.
    """
    found: list[Part] = [{"name": "raw"}]
    if (crawl.fate == TEST_COPY).any():
        found += [{"name": "without as many"}, {"name": "decontaminated"}]
    found.append({"name": "filtered"})
    found += [{"name": "cap", "images": cap, "by": by} for cap in caps for by in ("rank", "random")]
    found += [{"name": "annotated only", "budget": budget} for budget in budgets]
    found += [{"name": "annotated", "budget": budget, "by": by} for budget in budgets for by in STRATEGIES]
    if noise_counts(crawl)[1] >= FEWEST_NOISY:
        found += [{"name": "noise", "kind": kind} for kind in NOISES]
    return tuple(found)


def design(crawl: Crawl, opening: Mapping[str, Any], fingerprints: Sequence[str], **chosen: Any) -> Design:
    """A study with whatever was not chosen filled in from the crawl, checked before anything runs.

    Args:
        crawl: with the fate of every image.
        opening: how it was opened.
        fingerprints: of the data and of the further columns.
        chosen: fields of `Design`, None where the choice is left; and `budgets`, `caps`, `method`, `model`, `steps`.

    Raises:
        UsageError: something of it is not possible.
    """
    kept = crawl.fate == KEPT
    if not kept.any():
        raise UsageError(f"{crawl.source.address}: no image is left once copies are out; see fates.csv")
    askable = int((kept & crawl.checked).sum())
    budgets = chosen.pop("budgets", None)
    if budgets is None:
        budgets = sorted({askable // share for share in _ASKED_SHARES} - {0})
    elif budgets and not askable:
        raise UsageError("--annotate needs images whose truth is known: name the column with --clean-label-column")
    for budget in budgets:
        if not 1 <= budget <= askable:
            raise UsageError(f"--annotate {budget}: must lie in 1 to {askable:,}, the kept images with a known truth")
    caps = chosen.pop("caps", None)
    largest = int(np.bincount(crawl.labels[kept]).max())
    ranked = bool(np.isfinite(crawl.rank[kept]).any())
    if caps and not ranked:
        raise UsageError("--caps keeps the first of each class by rank: name the column with --rank-column")
    for cap in caps or ():
        if cap < 1:
            raise UsageError(f"--caps {cap}: must be at least 1")
    if caps is None:
        caps = sorted({round(share * largest) for share in _CAP_SHARES} - {0, largest}) if ranked else []
    size = crawl.images.shape[1]
    model = chosen.pop("model", None) or default_model(size, str(chosen.get("device") or Design.device))
    steps = chosen.pop("steps", None)
    if steps is None:
        steps = _TINY_STEPS if size <= _TINY else _STEPS
    method = chosen.pop("method", None) or "cross-entropy"
    if steps < 1:
        raise UsageError(f"--steps must be at least 1, got {steps}")
    find_method(method)
    ModelSpec(model, size, crawl.images.shape[3], crawl.source.num_classes)
    given = {name: value for name, value in chosen.items() if value is not None}
    return Design(
        opening=opening,
        fingerprint=hashed(*(each.encode() for each in fingerprints)),
        learner=Learner(method, model, "steps", steps),
        parts=parts(crawl, sorted(set(budgets)), sorted(set(caps))),
        **given,
    )
