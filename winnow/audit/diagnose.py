"""Five consequences of label noise, measured on a collection: what `winnow diagnose` finds.

Frénay & Verleysen 2014 name them: lower accuracy, harder choice of features, more complex models, more samples needed,
distorted class frequencies. Each is measured at the present noise and with more of it added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from winnow.audit.diagnosis.accuracy import accuracy
from winnow.audit.diagnosis.complexity import complexity
from winnow.audit.diagnosis.evidence import Evidence, Progress, gathered
from winnow.audit.diagnosis.frequencies import frequencies
from winnow.audit.diagnosis.learner import Learner
from winnow.audit.diagnosis.measure import Diagnostic
from winnow.audit.diagnosis.relevance import relevance
from winnow.audit.diagnosis.samples import samples
from winnow.data.source import Source

MOST_REFITTED = 100_000
"""Images that models are refitted on again and again, at most: a random part of a larger collection."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        evidence: what it rests on.
        diagnostics: `accuracy`, `relevance`, `complexity`, `samples`, `frequencies`.
        seed: of every draw.
    """

    evidence: Evidence
    diagnostics: Mapping[str, Diagnostic]
    seed: int

    def record(self) -> dict[str, Any]:
        """Numbers for programs; a function of data and seed."""
        low, high = self.evidence.noise_rate_interval
        return {
            "num_images": len(self.evidence),
            "num_classes": self.evidence.num_classes,
            "features": self.evidence.description,
            "estimated_noise_rate": self.evidence.noise_rate,
            "estimated_noise_rate_interval": [low, high],
            "checked": int(self.evidence.trusted.sum()) if self.evidence.checked else 0,
            "assumption": self.evidence.assumption,
            "diagnostics": {name: diagnostic.record() for name, diagnostic in self.diagnostics.items()},
            "seed": self.seed,
        }


def diagnose(
    source: Source,
    *,
    groups: Int[np.ndarray, " n"] | None = None,
    count_truth: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    """Measures the five consequences of wrong labels.

    Args:
        source: images with one label each.
        groups: of copies, -1 = alone: they are never held out apart, and are drawn together.
        count_truth: count noise on the images whose truth the source knows, instead of estimating it.
        seed: of every draw.
        progress: hears of the stages: name, done, total.

    Raises:
        InputError: fewer than 50 labelled images, a single class, several labels an image, or too few known truths.
    """
    evidence = gathered(source, groups=groups, count_truth=count_truth, progress=progress)
    part = evidence.part(MOST_REFITTED, seed)
    learner = Learner(part.features, part.fold, part.num_classes)
    stages = {
        "accuracy": lambda: accuracy(evidence, part, learner, seed=seed),
        "relevance": lambda: relevance(part, seed=seed),
        "complexity": lambda: complexity(part, learner, seed=seed),
        "samples": lambda: samples(part, learner, seed=seed),
        "frequencies": lambda: frequencies(evidence, seed=seed),
    }
    found = {}
    for number, (name, measure) in enumerate(stages.items()):
        if progress is not None:
            progress("measuring", number, len(stages))
        found[name] = measure()
    return Diagnosis(evidence, found, seed)
