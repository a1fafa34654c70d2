"""How to audit."""

from __future__ import annotations

from dataclasses import dataclass

from winnow.errors import UsageError


@dataclass(frozen=True)
class AuditSettings:
    """What a person may choose; the defaults need no thought.

    Attributes:
        weights: a file of weights whose network gives the features; None trains one here where pixels are not enough.
        model: the network of `weights`, or to train.
        budget_minutes: how long a network may be trained for features, in minutes of wall time.
        seed: of every random decision.
        device: `auto`, `cpu`, `cuda`, ...
        threads: of the CPU's arithmetic; None takes half of the cores.
        blind: number of images to draw at random among those whose label is not flagged, to be checked by a person.
    """

    weights: str | None = None
    model: str | None = None
    budget_minutes: float = 5.0
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    blind: int = 0

    def __post_init__(self) -> None:
        if not self.budget_minutes >= 0:
            raise UsageError(f"--budget must be 0 minutes or more, got {self.budget_minutes:g}")
        if self.blind < 0:
            raise UsageError(f"--blind must not be negative, got {self.blind}")
        if self.model is not None and self.weights is None and self.model.startswith("timm:"):
            raise UsageError(
                f"--model {self.model} needs --weights: a network of that size is not trained for an audit"
            )
