"""What the studies train, and what is the same in every training of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from winnow.errors import UsageError


@dataclass(frozen=True)
class Learner:
    """What is trained.

    Attributes:
        method: a name of the table, or `file.py:Class`.
        model: a network's name.
        schedule: `steps` or `epochs`; with epochs a larger size also gets more computing.
        length: how many of them.
    """

    method: str
    model: str
    schedule: str
    length: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Learner:
        """The learner of a cell."""
        return cls(config["method"], config["model"], config["schedule"], config["length"])

    @property
    def name(self) -> str:
        """For people: `cross-entropy, mlp, 400 steps`."""
        return f"{self.method}, {self.model}, {self.length:,} {self.schedule}"


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """How the learners of a design are trained.

    Attributes:
        repeats: how often, with another network and another choice of whatever is drawn.
        seed: everything random is a function of (seed, repeat).
        batch_size: images a step.
        learning_rate: of SGD with momentum 0.9, before the schedule.
        weight_decay: of every weight.
        device: where to train.
        precision: `float32`, `bf16` or `auto`.

    Raises:
        UsageError: there is no repeat.
    """

    repeats: int = 5
    seed: int = 0
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise UsageError(f"--repeats must be at least 1, got {self.repeats}")

    def config(self, learner: Learner, repeat: int) -> dict[str, Any]:
        """What a cell's configuration says of its training."""
        return {
            **asdict(learner),
            "repeat": repeat,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "device": self.device,
            "precision": self.precision,
        }
