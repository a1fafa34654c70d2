"""Negative learning: the papers' sums, gradients on paper, the filter's memory and the five stages."""

from functools import partial
from math import exp, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.contract.harness import build, digits, fingerprint
from tests.plain import close, one_hot, softmax
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem, constant, cosine_in_phase
from winnow.methods.nlnl import NLNL, a_fifth, drawn_complements, log_complements, mean_of_selected, negative_losses
from winnow.models import ModelSpec
from winnow.survey import Survey

TIGHT = {"rtol": 0.0, "atol": 1e-12}
HALF = 2**-11  # relative rounding of float16
K = 5


def logits(rows=7, classes=K, seed=0):
    return 2 * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(rows=7, classes=K, seed=1):
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def gradient(loss, z):
    z = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(z).sum(), z)
    return found


# The loss


def test_the_loss_is_the_papers_sum():
    z, y, drawn = [2.0, 0.0, -1.0, 0.5], 1, [0, 3, 0]
    p = [exp(v) / sum(map(exp, z)) for v in z]
    given = torch.tensor([z], dtype=torch.float64), torch.tensor([y])

    sampled = negative_losses(*given, torch.tensor([drawn]))
    every = negative_losses(*given)

    assert sampled.item() == pytest.approx(-sum(log(1 - p[k]) for k in drawn), abs=1e-12)
    assert every.item() == pytest.approx(-sum(log(1 - p[k]) for k in (0, 2, 3)), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_gradient_of_one_complementary_label_is_the_papers(classes):
    z, k = logits(50, classes), labels(50, classes, seed=3)
    y = (k + 1) % classes
    p, rows = softmax(z), torch.arange(50)
    own = p[rows, k][:, None]
    expected = torch.where(one_hot(k, classes) == 1, own, -p * own / (1 - own))

    found = gradient(lambda z: negative_losses(z, y, k[:, None]), z)

    close(found, expected, **TIGHT)
    assert found.sum(dim=1).abs().max() < 1e-12
    assert (found[rows, k] > 0).all()
    assert (found[one_hot(k, classes) == 0] < 0).all()
    assert found.abs().max() <= 1


def test_gradients_agree_with_finite_differences():
    z, y, drawn = logits(3, 4), torch.tensor([0, 3, 1]), torch.tensor([[1, 2], [0, 0], [3, 2]])
    for loss in (lambda z: negative_losses(z, y), lambda z: negative_losses(z, y, drawn)):
        numeric = torch.zeros_like(z)
        for place in range(z.numel()):
            move = torch.zeros_like(z)
            move.view(-1)[place] = 1e-6
            numeric.view(-1)[place] = (loss(z + move).sum() - loss(z - move).sum()) / 2e-6
        close(gradient(loss, z), numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_at_a_uniform_prediction_the_pull_on_the_given_class_is_much_weaker_than_cross_entropys(classes):
    z, y = torch.zeros(1, classes, dtype=torch.float64), torch.tensor([1])
    positive = gradient(lambda z: F.cross_entropy(z, y), z)

    one = gradient(lambda z: negative_losses(z, y, torch.tensor([[0]])), z)
    every = gradient(lambda z: negative_losses(z, y), z)

    assert (positive[0, 1] / one[0, 1]).item() == pytest.approx((classes - 1) ** 2, rel=1e-12)
    # All at once: cross-entropy's own gradient, divided by K - 1.
    close(every * (classes - 1), positive, **TIGHT)


def test_of_two_classes_negative_learning_is_cross_entropy():
    z, y = logits(20, 2), labels(20, 2)
    positive = partial(F.cross_entropy, target=y, reduction="none")

    for drawn in (None, 1 - y[:, None], drawn_complements(y, 2, 1)):
        close(negative_losses(z, y, drawn), positive(z), **TIGHT)
        close(gradient(lambda z: negative_losses(z, y, drawn), z), gradient(positive, z), **TIGHT)  # noqa: B023


def test_the_closed_form_is_the_sum_over_every_other_class_and_the_mean_of_the_draws():
    z, y = logits(1), labels(1)
    others = [k for k in range(K) if k != y]
    each = [negative_losses(z, y, torch.tensor([[k]])) for k in others]

    close(negative_losses(z, y), sum(each), **TIGHT)
    draws = 20_000
    torch.manual_seed(0)
    sampled = negative_losses(z, y, drawn_complements(y, K, draws)).item() / draws
    spread = torch.cat(each).std(correction=0).item() / draws**0.5
    assert spread > 0
    assert abs(sampled - negative_losses(z, y).item() / (K - 1)) < 4 * spread


def test_no_draw_is_the_given_label_and_each_other_class_is_as_frequent():
    y = torch.arange(4).repeat(25_000)
    torch.manual_seed(1)

    drawn = drawn_complements(y, 4, 10)

    assert drawn.shape == (100_000, 10)
    assert not (drawn == y[:, None]).any()
    for label in range(4):
        counts = torch.bincount(drawn[y == label].flatten(), minlength=4)
        assert counts.sum() == 250_000
        expected, sigma = 250_000 / 3, (250_000 * (1 / 3) * (2 / 3)) ** 0.5
        assert all(abs(counts[k] - expected) < 4 * sigma for k in range(4) if k != label)


def test_log_complements_are_exact_where_the_probability_is_next_to_one():
    z = torch.tensor([[20.0, 0.0, 0.0, 0.0]], requires_grad=True)
    y = torch.tensor([1])

    loss = negative_losses(z, y, torch.tensor([[0]]))
    loss.sum().backward()

    assert loss.item() == pytest.approx(log(exp(20) + 3) - log(3), rel=1e-6)
    assert z.grad[0].tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3], abs=1e-6)
    tie = log_complements(torch.zeros(1, 2, dtype=torch.float64))
    assert tie[0].tolist() == pytest.approx([log(0.5)] * 2, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 3])
def test_huge_logits_give_finite_loss_and_gradient(dtype, classes):
    signs = torch.tensor([[1, -1, -1], [-1, 1, 1], [1, 1, 1], [-1, -1, -1], [-1, 0, 1]])[:, :classes]
    for drawn in (None, torch.tensor([[0], [0], [1], [0], [1]])):
        z = (1e4 * signs).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses = negative_losses(z, torch.tensor([1, 1, 0, 1, 0]), drawn)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert losses.max() > 9000
        assert z.grad.isfinite().all()


def test_an_empty_selection_has_no_loss_and_no_gradient():
    z, y = logits(), labels()

    def loss(z):
        return mean_of_selected(negative_losses(z, y), torch.zeros(7, dtype=torch.bool))

    assert loss(z).item() == 0
    assert (gradient(loss, z) == 0).all()
    selected = torch.tensor([True, False, True, False, False, False, True])
    by_hand = negative_losses(z, y)[[0, 2, 6]].sum() / 3
    close(mean_of_selected(negative_losses(z, y), selected), by_hand, **TIGHT)


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
    assert [phase.begin is None for phase in phases] == [True, True, True, False, False]
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
