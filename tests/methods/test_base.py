"""The contract's own pieces: schedules, turns, the table of methods and its hyperparameters."""

from dataclasses import replace
from itertools import pairwise
from math import cos, nan, pi

import numpy as np
import pytest
import torch

from tests.plain import close
from winnow.errors import UsageError
from winnow.labels.memory import Memory
from winnow.methods import METHODS, build, find_method, hyperparameters, parsed_hyperparameters
from winnow.methods.base import (
    Batch,
    Method,
    Moment,
    Phase,
    Problem,
    Turn,
    constant,
    cosine,
    cosine_in_phase,
    warmup_length,
)
from winnow.models import ModelSpec

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)


def problem(classes=3):
    noisy = np.arange(6) % classes
    names = tuple(f"class {k}" for k in range(classes))
    return Problem(names, noisy, np.arange(2, 6), np.arange(2), ModelSpec("mlp", 2, 1, classes), 0, Memory(6))


# Schedules


def test_a_warm_up_leaves_an_epoch_where_there_are_two():
    assert [warmup_length(epochs, 0.25 * epochs) for epochs in (1, 2, 10, 12)] == [1, 1, 2, 3]
    assert [warmup_length(epochs, 0.999 * epochs) for epochs in (1, 2, 20)] == [1, 1, 19]


SHARES = {"estimate_share": 0.99, "estimation_share": 0.99, "warmup_share": 0.99, "full_share": 1.0}


# Two tell by themselves what they need: verified images, and stages.
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("distillation", "nlnl")])
def test_a_methods_own_phase_has_an_epoch_in_a_run_of_two(name):
    method = METHODS[name]
    options = {option: SHARES[option] for option in hyperparameters(method) if option in SHARES}
    checked = replace(problem(), verified=problem().train_rows)
    plan = method(checked, **options).plan(2)
    assert plan[-1].epochs >= 1
    assert sum(phase.epochs for phase in plan) == 2


def test_cosine_rises_for_a_tenth_of_the_run_and_falls_to_zero():
    assert cosine(0.0, 0.5) == 0.0
    assert cosine(0.05, 0.5) == pytest.approx(0.5)
    assert cosine(0.1, 0.5) == 1.0
    assert cosine(0.325, 0.5) == pytest.approx(0.5 * (1 + cos(pi / 4)))
    assert cosine(0.55, 0.5) == pytest.approx(0.5)
    assert cosine(1.0, 0.5) == pytest.approx(0.0, abs=1e-12)


def test_cosine_grows_before_its_peak_and_shrinks_after_it():
    factors = [cosine(share / 1000, 0.0) for share in range(1001)]
    peak = factors.index(max(factors))

    assert peak == 100
    assert factors[peak] == 1.0
    assert all(before < after for before, after in pairwise(factors[: peak + 1]))
    assert all(before > after for before, after in pairwise(factors[peak:]))
    assert min(factors) >= 0


def test_cosine_in_phase_looks_at_the_phase_alone():
    for share in (0.0, 0.04, 0.1, 0.6, 0.99):
        assert cosine_in_phase(0.7, share) == cosine_in_phase(0.0, share)
    assert cosine_in_phase(0.9, 0.0) == 0.0
    assert cosine_in_phase(0.9, 0.1) == 1.0
    assert cosine_in_phase(0.9, 0.55) == pytest.approx(0.5)
    assert cosine_in_phase(0.9, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_constant_is_always_the_full_rate():
    assert {constant(run, phase) for run in (0.0, 0.3, 1.0) for phase in (0.0, 0.7)} == {1.0}


# Phases and methods


def test_a_bare_loss_is_one_turn():
    def loss(batch, moment):
        return {}

    (turn,) = Phase("train", loss).turn_list

    assert (turn.loss, turn.parameters, turn.optimizer, turn.repeat) == (loss, None, "main", 1)


def test_listed_turns_stay_as_they_are():
    turns = [Turn(lambda batch, moment: {}), Turn(lambda batch, moment: {}, optimizer="second", repeat=3)]

    assert Phase("train", turns).turn_list == turns


class TwoHeads(Method):
    name = "two-heads"
    title = "Two networks"

    def __init__(self, problem):
        super().__init__(problem)
        self.second = problem.network("second")

    def deployed(self):
        return [self.classifier, self.second]


def test_a_method_without_a_loss_says_so():
    with pytest.raises(NotImplementedError, match="TwoHeads gives neither `loss` nor a `plan`"):
        TwoHeads(problem()).loss(Batch(torch.arange(1), torch.arange(1), ()), MOMENT)


def test_predictions_are_the_mean_of_the_deployed_networks_probabilities():
    method, images = TwoHeads(problem()), torch.randn(4, 1, 2, 2)
    odds = [network(images).double().exp() for network in method.deployed()]
    expected = sum(o / o.sum(dim=1, keepdim=True) for o in odds) / 2

    found = method.predict(images)

    assert not found.requires_grad
    close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_survey_keeps_features_and_probabilities():
    method, images = TwoHeads(problem()), torch.randn(4, 1, 2, 2)
    odds = method.classifier(images).double().exp()

    found = method.observe(images)

    assert torch.equal(found["features"], method.classifier.features(images))
    expected = odds / odds.sum(dim=1, keepdim=True)
    close(found["probs"].double(), expected, rtol=1e-5, atol=1e-6)
    assert not found["features"].requires_grad


def test_the_plan_is_one_phase_unless_the_method_says_otherwise():
    method = TwoHeads(problem())
    (phase,) = method.plan(5)

    assert (phase.epochs, phase.turns, phase.schedule) == (5, method.loss, cosine)


# The table


def test_every_method_of_the_table_is_found_under_its_name():
    for name, method in METHODS.items():
        assert find_method(name) is method
        assert method.name == name
        assert method.title


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("bootstrap-sof", "bootstrap-soft"), ("cross_entropy", "cross-entropy"), ("labelsmoothing", "label-smoothing")],
)
def test_a_misspelt_method_is_answered_with_what_was_meant(typed, meant):
    with pytest.raises(UsageError, match=f"^--method {typed}: no such method; did you mean {meant}\\?$"):
        find_method(typed)


def test_a_name_that_resembles_nothing_is_answered_with_the_list():
    with pytest.raises(UsageError) as error:
        find_method("zzz")

    assert all(name in str(error.value) for name in METHODS)
    assert "did you mean" not in str(error.value)


OWN = """
from __future__ import annotations

import torch.nn.functional as F

from winnow.methods.base import Method, Problem


class Mine(Method):
    def __init__(self, problem: Problem, *, strength: float = 0.5, rounds: int = 2):
        super().__init__(problem)
        self.strength = strength

    def loss(self, batch, moment):
        return {"mine": self.strength * F.cross_entropy(self.classifier(batch.images), batch.noisy_labels)}


class Named(Mine):
    name = "given-name"
    title = "Given title"


class NoMethod:
    pass


not_a_class = 3
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own methods.v2.py"
    file.write_text(OWN)
    return file


def test_a_method_comes_from_a_file(own):
    method = find_method(f"{own}:Mine")

    assert (method.name, method.title) == ("Mine", "Mine")
    assert parsed_hyperparameters(method, {"strength": "0.25", "rounds": "7"}) == {"strength": 0.25, "rounds": 7}
    assert build(method, problem(), {"strength": 0.25}).strength == 0.25
    assert {name: p.default for name, p in hyperparameters(method).items()} == {"strength": 0.5, "rounds": 2}


def test_a_methods_own_name_is_kept(own):
    method = find_method(f"{own}:Named")

    assert (method.name, method.title) == ("given-name", "Given title")


@pytest.mark.parametrize("name", ["Missing", "NoMethod", "not_a_class", "F"])
def test_a_file_without_that_method_is_told(own, name):
    with pytest.raises(UsageError, match=f"{name}: the file has no Method of that name"):
        find_method(f"{own}:{name}")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.py: no such file"):
        find_method(f"{tmp_path}/nowhere.py:Mine")


# Hyperparameters


class Typed(Method):
    name = "typed"
    title = "One of each type"

    def __init__(
        self,
        problem: Problem,
        *,
        share: float = 0.5,
        rounds: int = 1,
        shuffle: bool = False,
        kind: str = "plain",
    ):
        super().__init__(problem)
        if share > 1:
            raise ValueError(f"share must be at most 1, got {share}")


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("share", "0.25", 0.25),
        ("share", "1e-3", 0.001),
        ("share", "-2", -2.0),
        ("share", 1, 1.0),
        ("share", "inf", float("inf")),
        ("rounds", "12", 12),
        ("rounds", "-1", -1),
        ("rounds", 3, 3),
        ("rounds", 3.0, 3),
        ("shuffle", "true", True),
        ("shuffle", "Yes", True),
        ("shuffle", "on", True),
        ("shuffle", "1", True),
        ("shuffle", True, True),
        ("shuffle", "FALSE", False),
        ("shuffle", "no", False),
        ("shuffle", "off", False),
        ("shuffle", "0", False),
        ("shuffle", False, False),
        ("kind", "weak", "weak"),
    ],
)
def test_values_are_read_as_the_type_of_the_signature(name, given, expected):
    found = parsed_hyperparameters(Typed, {name: given})

    assert found == {name: expected}
    assert type(found[name]) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("share", "half", "--set share=half: must be a number"),
        ("share", "", "--set share=: must be a number"),
        ("share", None, "--set share=None: must be a number"),
        ("share", "nan", "--set share=nan: must be a number"),
        ("share", nan, "--set share=nan: must be a number"),
        ("rounds", "2.5", "--set rounds=2.5: must be a whole number"),
        ("rounds", 2.5, "--set rounds=2.5: must be a whole number"),
        ("rounds", float("inf"), "--set rounds=inf: must be a whole number"),
        ("rounds", "two", "--set rounds=two: must be a whole number"),
        ("shuffle", "maybe", "--set shuffle=maybe: must be true or false"),
        ("shuffle", "", "--set shuffle=: must be true or false"),
        ("shares", "1", "--set shares: typed has no such hyperparameter; did you mean share?"),
        (
            "zzz",
            "1",
            "--set zzz: typed has no such hyperparameter; it takes share, rounds, shuffle, kind "
            "(--method names another method)",
        ),
    ],
)
def test_wrong_values_are_told_in_one_line(name, given, message):
    with pytest.raises(UsageError) as error:
        parsed_hyperparameters(Typed, {name: given})
    assert str(error.value) == message


def test_a_method_without_hyperparameters_takes_none():
    assert parsed_hyperparameters(TwoHeads, {}) == {}
    with pytest.raises(UsageError, match="two-heads has no such hyperparameter; it takes none"):
        parsed_hyperparameters(TwoHeads, {"beta": 1})


def test_every_hyperparameter_of_the_table_has_a_plain_type_and_a_default():
    for method in METHODS.values():
        for parameter in hyperparameters(method).values():
            assert parameter.annotation in (int, float, bool, str)
            assert type(parameter.default) is parameter.annotation


def test_a_value_out_of_range_is_a_mistake_of_usage():
    with pytest.raises(UsageError, match=r"^--set share must be at most 1, got 2\.0$"):
        build(Typed, problem(), {"share": 2.0})
