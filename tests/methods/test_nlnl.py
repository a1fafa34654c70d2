"""NLNL: filter, stages and beliefs, see `test_nlnl_losses.py`."""

import numpy as np
import pytest
import torch

from tests.contract.harness import build, digits, fingerprint
from tests.plain import close, softmax
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem, constant, cosine_in_phase
from winnow.methods.nlnl import NLNL, a_fifth, drawn_complements
from winnow.models import ModelSpec
from winnow.survey import Survey

HALF = 2**-11  # relative rounding of float16


# The method


def problem(noisy_labels=None, classes=4, size=2, memory=None, held_out=0):
    noisy = np.arange(12) % classes if noisy_labels is None else np.asarray(noisy_labels)
    rows = np.flatnonzero(noisy >= 0)
    spec = ModelSpec("mlp", size, 1, classes)
    names = tuple(f"class {k}" for k in range(classes))
    memory = memory or Memory(len(noisy))
    return Problem(names, noisy.astype(np.int64), rows[held_out:], rows[:held_out], spec, 0, memory)


def batch(y, indices=None, seed=0):
    images = torch.randn(len(y), 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(torch.arange(len(y)) if indices is None else torch.tensor(indices), torch.tensor(y), (images,))


def moment(epoch=0, phase_epoch=0):
    return Moment(step=0, epoch=epoch, phase_epoch=phase_epoch, fraction=0.0, steps_per_epoch=1)


def probs_of(method, seen):
    return softmax(method.classifier(seen.images).detach().double())


def remember(method, confidences):
    """Gives the first images a confidence of the last epoch."""
    rows = torch.full((len(confidences), method.history), -1.0)
    rows[:, -1] = torch.tensor(confidences)
    method.confidences.write(torch.arange(len(confidences)), rows)


def test_confidence_is_the_mean_over_the_filled_epochs_and_then_over_the_last_ones():
    method, seen = NLNL(problem(), history=3), batch([0, 3])
    given = []
    for epoch in range(5):
        with torch.no_grad():
            method.classifier.head.bias.add_(torch.tensor([1.0, 0.0, 0.0, -0.5]))
        given.append(probs_of(method, seen)[[0, 1], [0, 3]])

        _, confidence = method.judged(seen, moment(epoch))

        last = given[-3:]
        close(confidence.double(), sum(last) / len(last), rtol=2 * HALF, atol=1e-6)
    kept = method.confidences.values[:2].astype(np.float64)
    assert sorted(kept[0]) == pytest.approx(sorted(value[0].item() for value in given[-3:]), rel=2 * HALF)
    assert (method.confidences.values[2:] == -1).all()


def test_an_image_that_missed_an_epoch_is_judged_by_the_others():
    method, seen = NLNL(problem(), history=4), batch([0, 3])
    method.judged(seen, moment(0))
    given = probs_of(method, seen)[1, 3]

    _, confidence = method.judged(batch([3], [1]), moment(2))

    later = probs_of(method, batch([3], [1]))[0, 3]
    assert confidence.item() == pytest.approx((given + later).item() / 2, rel=2 * HALF)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_million_images_of_a_thousand_classes_need_twenty_bytes_each(classes):
    memory = Memory(12)
    NLNL(problem(classes=classes, memory=memory), stages="3:3:3:0:0")
    assert sum(rows.values[0].nbytes for rows in memory._rows.values()) == 20

    memory = Memory(12)
    NLNL(problem(classes=1000, memory=memory))
    # Eight class probabilities of the teacher, and how often it was asked.
    assert sum(rows.values[0].nbytes for rows in memory._rows.values()) == 20 + 8 * (2 + 2) + 2


def test_nl_learns_from_every_image_and_sel_nl_from_those_above_chance():
    method, seen = NLNL(problem(), class_weights=False, history=1), batch([0, 3, 1, 2, 2, 1])
    p = probs_of(method, seen)
    y = seen.noisy_labels
    losses = torch.stack([-sum((1 - p[b, k]).log() for k in range(4) if k != y[b]) for b in range(6)])
    above = p[range(6), y] >= 0.25
    assert 0 < above.sum() < 6

    nl, sel_nl, *_ = method.plan(15)
    every, selected = (phase.turns(seen, moment())["negative"] for phase in (nl, sel_nl))

    assert every.item() == pytest.approx(losses.mean().item(), rel=1e-5)
    assert selected.item() == pytest.approx(losses[above].mean().item(), rel=1e-5)


def test_drawn_labels_are_a_function_of_the_step_alone():
    method, seen = NLNL(problem(), complements=2), batch([0, 3, 1, 2])
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(method.negative_loss(seen, moment(), at_least=0.0)["negative"].item())
    torch.manual_seed(5)
    drawn = drawn_complements(seen.noisy_labels, 4, 2)
    p = probs_of(method, seen)

    assert found[0] == found[1] != found[2]
    by_hand = -sum((1 - p[b, k]).log().item() for b in range(4) for k in drawn[b]) / 4
    assert found[0] == pytest.approx(by_hand, rel=1e-5)


def test_sel_pl_without_threshold_is_weighted_cross_entropy():
    # Two labels of class 0, four of class 1, one of class 2, none of class 3; the first row is held out.
    method, seen = NLNL(problem([0, 0, 1, 1, 1, 1, 0, 2], held_out=1), threshold=0.0), batch([0, 1, 2])
    weights = [2.0, 1.0, 4.0]
    p = probs_of(method, seen)

    losses = method.positive_loss(seen, moment())

    assert method.class_weights.tolist() == [2.0, 1.0, 4.0, 4.0]
    by_hand = -sum(weights[k] * p[k, k].log().item() for k in range(3)) / 3
    assert losses["positive"].item() == pytest.approx(by_hand, rel=1e-5)
    # The same weights multiply the negative loss.
    negative = -sum(weights[y] * (1 - p[y, k]).log().item() for y in range(3) for k in range(4) if k != y) / 3
    found = method.negative_loss(seen, moment(), at_least=0.0)["negative"]
    assert found.item() == pytest.approx(negative, rel=1e-5)


def test_sel_pl_keeps_what_passes_the_threshold():
    method, seen = NLNL(problem(), threshold=0.5, history=2, class_weights=False), batch([0, 3, 1])
    remember(method, [0.99, 0.01, 0.99])
    p = probs_of(method, seen)[[0, 1, 2], [0, 3, 1]]

    found = method.positive_loss(seen, moment())["positive"].item()

    assert ((0.99 + p[[0, 2]]) / 2 > 0.5).all()
    assert found == pytest.approx(-p[[0, 2]].log().mean().item(), rel=1e-5)
    assert NLNL(problem(), threshold=1.0).positive_loss(seen, moment())["positive"].item() == 0


def test_without_a_threshold_sel_nl_trains_like_nl_step_for_step(tmp_path):
    class Unselective(NLNL):
        def plan(self, epochs):
            nl, sel_nl, *_ = super().plan(epochs)
            return [nl, type(nl)(**(vars(sel_nl) | {"turns": nl.turns}))]

    images, given = digits()
    kwargs = {"images": images, "labels": given, "epochs": 2}
    one = build(NLNL, tmp_path / "one", options={"stages": "1:0:0:0:0", "complements": 2}, **kwargs)
    two = build(Unselective, tmp_path / "two", options={"stages": "1:1:0:0:0", "complements": 2}, **kwargs)
    other = build(NLNL, tmp_path / "other", options={"stages": "1:1:0:0:0", "complements": 2}, **kwargs)
    for trainer in (one, two, other):
        trainer.run()

    assert fingerprint(one) == fingerprint(two) != fingerprint(other)


@pytest.mark.parametrize("stage", ["SelPL", "teacher"])
def test_an_empty_selection_moves_the_weights_by_decay_alone(stage, tmp_path):
    # Nothing is ever as confident as this.
    shares = {"SelPL": "0:0:1:0:0", "teacher": "1:0:0:1:0"}[stage]
    trainer = build(NLNL, tmp_path, epochs=2, options={"stages": shares, "threshold": 1.0})
    trainer.run()

    assert trainer.listener.phases[-1] == stage
    fresh = trainer.problem.network("teacher" if stage == "teacher" else "classifier").head.weight
    ratio = trainer.method.classifier.head.weight / fresh
    assert 0.99 < ratio.min().item() <= ratio.max().item() < 1
    close(ratio, ratio.mean().expand_as(ratio), rtol=1e-5)


# The stages


@pytest.mark.parametrize(
    ("epochs", "stages", "lengths"),
    [
        (3120, "3:3:3:2:2", [720, 720, 720, 480, 480]),
        (13, "3:3:3:2:2", [3, 3, 3, 2, 2]),
        (35, "3:2:2:0:0", [15, 10, 10]),
        (7, "0:0:2.5:1:0", [5, 2]),
        (5, "99:1:1:1:1", [1, 1, 1, 1, 1]),
        (3, "3:3:3:2:2", [1, 1, 1, 0, 0]),
        (1, "3:3:3:2:2", [1, 0, 0, 0, 0]),
    ],
)
def test_epochs_are_divided_by_share_and_each_stage_has_one_where_there_are_enough(epochs, stages, lengths):
    phases = NLNL(problem(), stages=stages).plan(epochs)

    assert [phase.epochs for phase in phases] == lengths
    # A stage that an option leaves out is no phase, one that the run is too short for is an empty one.
    names = ["NL", "SelNL", "SelPL", "teacher", "pseudo-labels"]
    present = [name for name, share in zip(names, stages.split(":"), strict=True) if share != "0"]
    assert [phase.name for phase in phases] == present


def test_the_first_three_stages_share_a_momentum_and_the_fresh_networks_start_with_none():
    phases = NLNL(problem(), views="plain").plan(20)

    assert [phase.turn_list[0].optimizer for phase in phases] == ["main", "main", "main", "teacher", "student"]
    assert [phase.schedule for phase in phases] == [constant] * 2 + [a_fifth] + [cosine_in_phase] * 2
    assert [phase.begin is None for phase in phases] == [True, True, False, False, False]
    assert {phase.draws["train"].views for phase in phases} == {("plain",)}
    assert NLNL(problem()).plan(20)[0].draws["train"].views == ("weak",)


def test_the_late_stages_start_with_fresh_weights_of_their_own():
    method = NLNL(problem())
    seen = [method.classifier.head.weight.clone()]
    for phase in method.plan(20)[3:]:
        phase.begin()
        seen.append(method.classifier.head.weight.clone())

    assert torch.equal(seen[1], problem().network("teacher").head.weight)
    assert torch.equal(seen[2], problem().network("student").head.weight)
    assert all((a - b).abs().max() > 0.01 for a, b in [(seen[0], seen[1]), (seen[1], seen[2])])


def test_the_teacher_learns_from_what_was_kept_and_is_averaged_late():
    method, seen = NLNL(problem(), class_weights=False), batch([0, 3, 1])
    remember(method, [0.9, 0.2])
    p = probs_of(method, seen)
    before = method.confidences.values.copy()
    # Six of 39 epochs, averaged in the last three.
    loss = method.plan(39)[3].turn_list[0].loss
    assert method.plan(39)[3].epochs == 6

    assert loss(seen, moment(phase_epoch=2))["positive"].item() == pytest.approx(-p[0, 0].log().item(), rel=1e-5)
    assert (method.teacher_passes.values == 0).all()
    loss(seen, moment(phase_epoch=3))
    with torch.no_grad():
        method.classifier.head.bias.add_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    later = probs_of(method, seen)
    loss(seen, moment(phase_epoch=4))

    close(method.teacher_probs.read(seen.indices).double(), (p + later) / 2, rtol=4 * HALF, atol=1e-6)
    assert method.teacher_passes.values.tolist() == [2] * 3 + [0] * 9
    assert (method.confidences.values == before).all()  # the filter is finished
    long = method.plan(3120)[3].turn_list[0].loss.keywords["since"]
    assert long == 480 - 10


@pytest.mark.parametrize("relabel", ["all", "filtered"])
def test_pseudo_labels_are_the_teachers_probabilities(relabel):
    method, seen = NLNL(problem([0, 0, 1, 2, 3]), relabel=relabel), batch([0, 3, 1])
    remember(method, [0.9, 0.2])
    taught = torch.tensor([[0.125, 0.75, 0.125, 0.0], [0.5, 0.25, 0.25, 0.0]])
    method.teach(torch.tensor([0, 1]), taught)
    log_p = probs_of(method, seen).log()
    weights = [1.0, 2.0, 2.0, 2.0]

    found = method.pseudo_label_loss(seen, moment())["pseudo_labels"].item()

    # The third image was never seen by the teacher and has no part; the first one was kept.
    first, second = (-(taught[b].double() * log_p[b]).sum().item() for b in range(2))
    first = weights[1] * first if relabel == "all" else -weights[0] * log_p[0, 0].item()
    assert found == pytest.approx((first + weights[0] * second) / 2, rel=2 * HALF)


def test_beliefs_are_the_filters_and_the_survey_judges_what_was_never_seen():
    method = NLNL(problem([0, 1, 2, -1]))
    remember(method, [0.75, 0.25])
    probs = np.array(
        [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.2], [0.1, 0.6, 0.2, 0.1]], "float32"
    )

    beliefs = method.beliefs(Survey({"probs": probs}))

    assert beliefs.label_quality[:3].tolist() == pytest.approx([0.75, 0.25, 0.6])
    assert beliefs.suggested_label.tolist() == [3, 0, 2, 1]
    assert beliefs.suggested_probability.tolist() == pytest.approx([0.4, 0.7, 0.6, 0.6])


def test_the_log_tells_the_shares_above_chance_and_above_the_threshold():
    method = NLNL(problem([0, 1, 2, 3, -1]))
    remember(method, [0.75, 0.25, 0.5, 0.125, 1.0])

    assert method.log_values() == {"above_chance": 0.75, "kept": 0.5}


@pytest.mark.parametrize(
    ("above", "told"),
    [
        (0, "0.0% of the labels reach 1/K: they do not separate"),
        (1, "2.5% of the labels reach 1/K: they do not separate"),
        (2, None),
        (38, None),
        (39, "97.5% of the labels reach 1/K: nearly all labels are right, or"),
    ],
)
def test_a_filter_that_nearly_all_labels_pass_or_next_to_none_is_told(above, told):
    method = NLNL(problem(np.arange(40) % 4))
    warnings = []
    method.warn = warnings.append
    phases = {phase.name: phase for phase in method.plan(5)}

    phases["SelPL"].begin()
    assert not warnings  # nothing was judged yet

    remember(method, [0.25] * above + [0.1] * (40 - above))
    phases["SelPL"].begin()

    assert [told in text for text in warnings] == ([True] if told else [])
    phases["teacher"].begin()
    assert "0.0% of the labels reach the threshold 0.5" in warnings[-1]


def test_a_batch_of_one_is_enough():
    method = NLNL(problem())
    for phase in method.plan(20):
        for turn in phase.turn_list:
            (value,) = turn.loss(batch([2]), moment()).values()
            assert value.isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"complements": -1}, "complements must be at least 0, got -1"),
        ({"threshold": -0.1}, "threshold must lie in [0, 1], got -0.1"),
        ({"threshold": 1.1}, "threshold must lie in [0, 1], got 1.1"),
        ({"threshold": float("nan")}, "threshold must lie in [0, 1], got nan"),
        ({"history": 0}, "history must be at least 1, got 0"),
        ({"relabel": "none"}, "relabel must be all or filtered, got 'none'"),
        ({"views": "strong"}, "views must be plain or weak, got 'strong'"),
        ({"stages": "1:1:1"}, "stages must be five lengths of at least 0, such as 3:3:3:2:2, got '1:1:1'"),
        ({"stages": "1:1:1:1:x"}, "stages must be five lengths of at least 0, such as 3:3:3:2:2, got '1:1:1:1:x'"),
        ({"stages": "1:1:1:1:-1"}, "stages must be five lengths"),
        ({"stages": "1:1:1:nan:1"}, "stages must be five lengths"),
        ({"stages": "inf:1:1:1:1"}, "stages must be five lengths"),
        ({"stages": "0:0:0:1:1"}, "stages must have one of the first three"),
        ({"stages": "1:1:1:0:1"}, "stages must have the fourth, the teacher, where they have the fifth"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        NLNL(problem(), **options)
    assert message in str(error.value)
