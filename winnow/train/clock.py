"""Where in the plan a run stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from winnow.errors import UsageError
from winnow.methods.base import Moment, Phase


@dataclass
class Cursor:
    """A place in the plan; `epoch` and `step` count within the phase and within the epoch."""

    phase: int = 0
    begun: bool = False
    epoch: int = 0
    revised: bool = False
    step: int = 0
    total_steps: int = 0
    total_epochs: int = 0
    steps_per_epoch: int = 1


class Clock:
    """Reads times off a cursor.

    Args:
        plan: of the method.
        epoch_steps: batches that an epoch over all training images has; the unit of phases that are counted in steps.
    """

    def __init__(self, plan: Sequence[Phase], epoch_steps: int):
        self.plan = plan
        self.cursor = Cursor()
        self._epoch_steps = max(1, epoch_steps)

    @property
    def phase(self) -> Phase:
        """The one that runs."""
        return self.plan[self.cursor.phase]

    @property
    def is_over(self) -> bool:
        """Whether the whole plan is done."""
        return self.cursor.phase >= len(self.plan)

    @property
    def phase_is_over(self) -> bool:
        """Whether the present phase is done."""
        if self.phase.epochs:
            return self.cursor.epoch >= self.phase.epochs
        return self.cursor.epoch * self.cursor.steps_per_epoch >= self.phase.steps

    @property
    def is_last_phase(self) -> bool:
        """Whether no other phase follows."""
        return self.cursor.phase == len(self.plan) - 1

    @property
    def revision_is_due(self) -> bool:
        """Whether the phase wants a survey before the next step."""
        phase, cursor = self.phase, self.cursor
        if phase.revise is None or cursor.revised or cursor.step:
            return False
        return cursor.epoch == 0 if phase.revise_every == 0 else cursor.epoch % phase.revise_every == 0

    def steps_of_epoch(self, available: int) -> int:
        """Batches of the epoch that starts, given those that its first stream has; remembered for the fractions.

        Raises:
            UsageError: the phase is counted in steps and its stream has none.
        """
        if not available and self.phase.steps:
            raise UsageError(f"phase {self.phase.name!r} has no images to draw from")
        self.cursor.steps_per_epoch = max(1, available)
        if self.phase.epochs:
            return available
        return min(available, self.phase.steps - self.cursor.epoch * available)

    def moment(self) -> Moment:
        """The time as a method sees it."""
        cursor = self.cursor
        return Moment(
            cursor.total_steps, cursor.total_epochs, cursor.epoch, self.fraction(), max(1, cursor.steps_per_epoch)
        )

    def fraction(self) -> float:
        """Share of the whole run that is done."""
        if self.is_over:
            return 1.0
        done = sum(self._length(phase) for phase in self.plan[: self.cursor.phase])
        whole = sum(self._length(phase) for phase in self.plan)
        return min(1.0, (done + self.phase_fraction() * self._length(self.phase)) / whole)

    def phase_fraction(self) -> float:
        """Share of the phase that is done."""
        epochs = self.cursor.epoch + self.cursor.step / self.cursor.steps_per_epoch
        return min(1.0, epochs / self._length(self.phase))

    def next_step(self) -> None:
        """A batch is done."""
        self.cursor.step += 1
        self.cursor.total_steps += 1

    def next_epoch(self) -> None:
        """An epoch is done."""
        self.cursor.epoch += 1
        self.cursor.total_epochs += 1
        self.cursor.step = 0
        self.cursor.revised = False

    def next_phase(self) -> None:
        """A phase is done."""
        old = self.cursor
        self.cursor = Cursor(old.phase + 1, total_steps=old.total_steps, total_epochs=old.total_epochs)

    def _length(self, phase: Phase) -> float:
        """In epochs over all training images."""
        return float(phase.epochs) if phase.epochs else phase.steps / self._epoch_steps


def has_time(phase: Phase) -> bool:
    """Whether there is something to do in a phase."""
    return phase.epochs > 0 or phase.steps > 0


def checked_plan(plan: Sequence[Phase], epochs: int) -> list[Phase]:
    """The phases that have something to do.

    Raises:
        UsageError: none has, or together they are longer than the run.
    """
    phases = [phase for phase in plan if has_time(phase)]
    if not phases:
        raise UsageError("the method plans no training at all")
    if (total := sum(phase.epochs for phase in phases)) > epochs:
        raise UsageError(f"the method's phases take {total} epochs, more than --epochs {epochs}")
    return phases
