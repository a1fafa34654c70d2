"""The loop itself: phases in their order, the clock, what a checkpoint holds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.contract.harness import Script, build
from tests.contract.toys import Alternation, UnlabelledPool
from winnow.errors import UsageError
from winnow.methods.base import Draw, Phase
from winnow.methods.bootstrap import BootstrapHard
from winnow.methods.cross_entropy import CrossEntropy
from winnow.train.clock import Clock, checked_plan


def nothing(batch, moment):
    raise AssertionError


def test_fractions_count_epochs_over_the_whole_plan():
    clock = Clock([Phase("a", nothing, epochs=1), Phase("b", nothing, epochs=3)], epoch_steps=10)
    seen = []
    while not clock.is_over:
        while not clock.phase_is_over:
            for _ in range(clock.steps_of_epoch(10)):
                seen.append((clock.fraction(), clock.phase_fraction()))
                clock.next_step()
            clock.next_epoch()
        clock.next_phase()

    whole, within = zip(*seen, strict=True)
    assert whole == pytest.approx(np.arange(40) / 40)
    assert within == pytest.approx([*(np.arange(10) / 10), *(np.arange(30) / 30)])
    assert clock.fraction() == 1


def test_a_phase_in_steps_ends_in_mid_epoch():
    clock = Clock([Phase("a", nothing, steps=25)], epoch_steps=10)
    lengths = []
    while not clock.phase_is_over:
        lengths.append(clock.steps_of_epoch(10))
        for _ in range(lengths[-1]):
            clock.next_step()
        clock.next_epoch()

    assert lengths == [10, 10, 5]


def test_a_phase_in_steps_without_images_is_an_error_not_an_endless_loop(tmp_path):
    class Empty(UnlabelledPool):
        def plan(self, epochs):
            return [Phase("none", self.loss, steps=3, draws={"train": Draw(samples=lambda: np.empty(0, np.int64))})]

    with pytest.raises(UsageError, match="no images to draw from"):
        build(Empty, tmp_path).run()


def test_empty_phases_are_left_out_and_a_plan_must_fit_the_run():
    phases = [Phase("a", nothing, epochs=2), Phase("b", nothing)]

    assert [p.name for p in checked_plan(phases, 2)] == ["a"]
    with pytest.raises(UsageError, match="take 2 epochs, more than --epochs 1"):
        checked_plan(phases, 1)
    with pytest.raises(UsageError, match="no training at all"):
        checked_plan(phases[1:], 1)


def test_the_last_epoch_is_known_although_the_last_phase_is_empty(tmp_path):
    class Last(Script):
        lasts: tuple[bool, ...] = ()

        def epoch_ended(self, end, is_last):
            self.lasts += (is_last,)

    script = Last()
    build(BootstrapHard, tmp_path, script, epochs=1).run()  # the warm-up takes the one epoch

    assert script.lasts == (True,)


def test_revise_comes_before_the_samples_are_chosen_and_as_often_as_asked(tmp_path):
    calls: list[str] = []

    class Told(Alternation):
        def look(self, survey):
            calls.append("revise")
            super().look(survey)

        def near_rows(self):
            calls.append("samples")
            return super().near_rows()

    build(Told, tmp_path, epochs=4).run()

    assert calls == ["revise", "samples"] * 3


def test_the_sum_of_the_terms_is_what_is_told_as_loss(tmp_path):
    ends = []

    class Heard(Script):
        def epoch_ended(self, end, is_last):
            ends.append(end)

    build(UnlabelledPool, tmp_path, Heard(), epochs=2).run()

    assert all(end.loss == pytest.approx(sum(end.terms.values())) for end in ends)
    assert set(ends[0].terms) == {"labelled", "consistent"}
    assert [end.epoch for end in ends] == list(range(1, len(ends) + 1))
    assert all(0 <= end.given_label_agreement <= 1 for end in ends)


def test_held_out_and_unlabelled_rows_are_never_trained_on(tmp_path):
    trainer = build(CrossEntropy, tmp_path)
    trainer.run()

    visited = trainer.passes.visits.numpy() > 0
    labels = trainer.problem.noisy_labels

    assert not visited[labels < 0].any()
    assert not visited[trainer.problem.held_out_rows].any()
    assert visited[trainer.problem.train_rows].all()
