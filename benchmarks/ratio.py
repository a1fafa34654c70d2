"""The only stopwatch of the speed goals: two things run alternately, on the CPU clock.

A ratio of two neighbours in time survives a shared machine far better than two absolute times; the CPU clock leaves out
the time in which others ran, though not their effect on caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

ROUNDS = 11


@dataclass(frozen=True)
class Ratio:
    """CPU seconds of two things, round by round.

    Attributes:
        first: the one whose cost is asked for.
        second: what it is compared with.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def each(self) -> tuple[float, ...]:
        """first / second, a round each."""
        return tuple(a / b for a, b in zip(self.first, self.second, strict=True))

    @property
    def median(self) -> float:
        """The middle one of the rounds' ratios."""
        return median(self.each)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles: half of the rounds lie between."""
        if len(self.each) < 2:
            return self.each[0], self.each[0]
        low, _, high = quantiles(self.each, n=4, method="inclusive")
        return low, high


def alternated(
    first: Callable[[], object],
    second: Callable[[], object],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> Ratio:
    """Runs both once without the clock, then in turn; who begins changes from round to round."""
    first()
    second()
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            started = clock()
            (first, second)[which]()
            seconds[which].append(clock() - started)
    return Ratio(tuple(seconds[0]), tuple(seconds[1]))
