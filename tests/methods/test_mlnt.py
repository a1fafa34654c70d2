"""MLNT: what the method does in its rounds, see `test_mlnt_steps.py`."""

from __future__ import annotations

import re
from math import exp

import numpy as np
import pytest
import torch

from tests.contract.harness import build
from tests.methods.test_mlnt_steps import divergence, vector
from tests.plain import close, one_hot, softmax
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem, cosine
from winnow.methods.cross_entropy import CrossEntropy
from winnow.methods.mlnt import MLNT, Stage, moved_logits, synthetic_labels
from winnow.models import ModelSpec
from winnow.survey import Survey

FULL = Stage(0.1, 0.3, mentored=False)
LATE = Moment(step=6, epoch=2, phase_epoch=1, fraction=0.5, steps_per_epoch=3)


def problem(classes=4, model="mlp", size=2, count=24, seed=0):
    noisy = np.arange(count) % classes
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec(model, size, 1, classes)
    return Problem(names, noisy, np.arange(count), np.arange(0), spec, seed, Memory(count))


def batch(labels=(0, 3, 2, 1, 1, 0), size=2, seed=0):
    images = torch.randn(len(labels), 1, size, size, generator=torch.Generator().manual_seed(seed))
    return Batch(torch.arange(len(labels)), torch.tensor(labels), (images,))


def ready(**options):
    """A method whose teacher and neighbours are something, and a batch."""
    given = problem(model=options.pop("model", "mlp"), size=options.get("size", 2))
    size = options.pop("size", 2)
    method, seen = MLNT(given, **options), batch(size=size)
    if method.label_sets:
        random = np.random.default_rng(0)
        method.neighbour_labels.replace(random.integers(0, 4, method.neighbour_labels.values.shape))
    method.teacher.network.load_state_dict(given.network("other").state_dict())
    return method, seen


def run_turns(method, losses):
    """Gradients, and the terms by name, of a loss that is back-propagated item by item."""
    method.zero_grad()
    terms: dict[str, float] = {}
    torch.manual_seed(3)
    for item in losses:
        sum(item.values()).backward()
        for name, value in item.items():
            terms[name] = terms.get(name, 0.0) + value.item()
    return vector([torch.zeros_like(p) if p.grad is None else p.grad for p in method.classifier.parameters()]), terms


# The method


def head_by_hand(method, seen, labels, rate, target):
    """The consistency in float64 when the head alone moves, with the gradients for its weights."""
    first, _, second, _ = method.classifier.body
    x = seen.images.flatten(1).double()
    x = (x @ first.weight.double().T + first.bias.double()).clamp_min(0)
    x = (x @ second.weight.double().T + second.bias.double()).clamp_min(0)
    weight, bias = method.classifier.head.weight.double(), method.classifier.head.bias.double()
    residual = (softmax(x @ weight.T + bias) - one_hot(labels, 4)).detach() / len(labels)
    moved = x @ (weight - rate * residual.T @ x.detach()).T + bias - rate * residual.sum(dim=0)
    return divergence(moved, target)


@pytest.mark.parametrize("update", ["joint", "sequential"])
def test_the_head_moves_by_its_closed_form(update):
    method, seen = ready(label_sets=3, order="head", inner_rate=2.0, meta_weight=0.7, update=update)
    torch.manual_seed(3)
    sets = synthetic_labels(seen.noisy_labels, method.neighbour_labels.read(seen.indices).long(), 3, 0.5)
    target = method.teacher(seen.images).softmax(dim=1).double()
    by_hand = 0.7 / 3 * sum(head_by_hand(method, seen, labels, 2.0, target) for labels in sets)
    expected = torch.autograd.grad(by_hand, list(method.classifier.parameters()))

    found, terms = run_turns(method, method.meta_loss(seen, LATE, FULL))

    assert terms["consistency"] == pytest.approx(by_hand.item(), rel=1e-5)
    close(found.double(), vector(expected).double(), rtol=1e-3, atol=1e-6)
    assert found.abs().max() > 1e-3


@pytest.mark.parametrize("order", ["second", "first"])
def test_the_loss_is_cross_entropy_and_the_mean_over_the_sets(order):
    method, seen = ready(label_sets=4, order=order, inner_rate=0.5, meta_weight=0.7)
    network, weights = method.classifier, list(method.classifier.parameters())
    torch.manual_seed(3)
    sets = synthetic_labels(seen.noisy_labels, method.neighbour_labels.read(seen.indices).long(), 4, 0.5)
    target = method.teacher(seen.images).softmax(dim=1)
    second = order == "second"

    def consistency():
        moved = (moved_logits(network, seen.images, network(seen.images), s, 0.5, second_order=second) for s in sets)
        return 0.7 / 4 * sum(divergence(logits, target) for logits in moved)

    given = -softmax(network(seen.images)).log()[torch.arange(6), seen.noisy_labels].mean()
    expected = vector(torch.autograd.grad(given + consistency(), weights))

    found, named = run_turns(method, method.joint_loss(seen, LATE, FULL))

    assert named["consistency"] == pytest.approx(consistency().item(), rel=1e-5)
    assert named["cross_entropy"] == pytest.approx(given.item(), rel=1e-5)
    close(found, expected, rtol=1e-4, atol=1e-6)
    alone, _ = run_turns(method, method.meta_loss(seen, LATE, FULL))
    close(alone, vector(torch.autograd.grad(consistency(), weights)), rtol=1e-4, atol=1e-6)


def test_without_resampling_every_set_says_the_same():
    method, seen = ready(label_sets=3, resampled_share=0.0)
    features, logits = method.seen(seen)
    one, two, three = (t.item() for t in method.consistency(seen, LATE, FULL, features, logits))
    assert one == two == three > 0


@pytest.mark.parametrize("options", [{}, {"order": "second"}, {"order": "head"}, {"update": "sequential"}])
def test_no_gradient_reaches_the_teacher_and_only_the_student_is_trained(options):
    method, seen = ready(label_sets=2, **options)
    run_turns(method, method.joint_loss(seen, LATE, FULL))

    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.classifier.parameters())
    wanted = [name for name, p in method.named_parameters() if p.requires_grad]
    assert all(name.startswith("classifier.") for name in wanted)


@pytest.mark.parametrize("order", ["second", "first", "head"])
def test_moved_networks_do_not_write_to_running_statistics(order):
    found = []
    for sets in (0, 3):
        method, seen = ready(label_sets=sets, order=order, model="convnet", size=16)
        before = {name: b.clone() for name, b in method.classifier.named_buffers()}
        losses = method.joint_loss(seen, LATE, FULL) if sets else [method.given_loss(seen, LATE, FULL)]
        run_turns(method, losses)
        after = dict(method.classifier.named_buffers())
        assert any(not torch.equal(before[name], after[name]) for name in before)
        found.append(after)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("options", [{"label_sets": 0}, {"meta_weight": 0.0}])
def test_without_label_sets_it_is_averaged_cross_entropy_to_the_bit(options, tmp_path):
    trained = []
    for kind, chosen in ((MLNT, options), (CrossEntropy, {"averaging": True})):
        trainer = build(kind, tmp_path / kind.name, options=chosen, epochs=3)
        trainer.run()
        trained.append(trainer.method)
    assert same(trained[0].classifier, trained[1].classifier)
    assert same(trained[0].teacher, trained[1].average)
    assert not same(trained[0].teacher.network, trained[0].classifier)


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_before_and_between_meta_steps_it_is_cross_entropy():
    method, seen = ready(label_sets=2, meta_every=3)
    plain, _ = run_turns(method, [method.given_loss(seen, LATE, FULL)])
    for step, fraction, acts in ((6, 0.1, False), (6, 0.5, True), (7, 0.5, False), (8, 0.5, False), (9, 0.5, True)):
        moment = Moment(step, 2, 1, fraction, 3)
        gradient, terms = run_turns(method, method.joint_loss(seen, moment, FULL))
        assert torch.equal(gradient, plain) != acts
        assert ("consistency" in terms) == acts
        assert (run_turns(method, method.meta_loss(seen, moment, FULL))[1] != {}) == acts


def test_the_weight_follows_the_ramp():
    method, _ = ready(label_sets=1, meta_weight=0.5)
    weights = [method.weight(Moment(0, 0, 0, fraction, 3), FULL) for fraction in (0.05, 0.1, 0.2, 0.3, 0.9)]
    assert weights == pytest.approx([0, 0, 0.5 * exp(-5 / 4), 0.5, 0.5])


def test_flips_are_counted():
    method, seen = ready(label_sets=2)
    method.neighbour_labels.replace(np.full(method.neighbour_labels.values.shape, 3))
    run_turns(method, method.joint_loss(seen, LATE, FULL))
    torch.manual_seed(3)
    sets = synthetic_labels(seen.noisy_labels, torch.full((6, 10), 3), 2, 0.5)

    method.measure_flips()

    assert method.log_values()["flip_rate"] == pytest.approx((sets != seen.noisy_labels).double().mean().item())
    assert method.drawn == method.flipped == 0


def test_neighbours_are_training_images_other_than_the_image_itself():
    noisy = np.array([0, 1, 2, 3, 0, 1])
    names = tuple("abcd")
    rows = np.array([0, 2, 3, 5])  # 1 is held out, 4 has no part
    noisy[4] = -1
    method = MLNT(Problem(names, noisy, rows, np.array([1]), ModelSpec("mlp", 2, 1, 4), 0, Memory(6)), num_neighbours=2)
    features = np.array([[0.0], [0.1], [1.0], [2.5], [0.2], [10.0]], dtype=np.float32)

    method.find_neighbours(Survey({"features": features}))

    found = method.neighbour_labels.values
    assert found[0].tolist() == [2, 3]
    assert found[2].tolist() == [0, 3]
    assert found[3].tolist() == [2, 0]
    assert found[5].tolist() == [3, 2]


def test_one_image_is_its_own_neighbour():
    method = MLNT(
        Problem(("a", "b"), np.array([1]), np.array([0]), np.arange(0), ModelSpec("mlp", 2, 1, 2), 0, Memory(1))
    )
    method.find_neighbours(Survey({"features": np.zeros((1, 3), np.float32)}))
    assert method.neighbour_labels.values.tolist() == [[1]]


# Rounds


def test_rounds_divide_the_run_and_start_with_a_warm_up():
    method = MLNT(problem(), rounds=2, label_sets=1)
    plan = method.plan(21)

    assert [phase.name for phase in plan] == ["warm up 1", "meta 1", "warm up 2", "meta 2"]
    assert [phase.epochs for phase in plan] == [1, 9, 1, 10]
    assert [phase.revise is not None for phase in plan] == [False, True, True, False]
    assert [phase.begin is not None for phase in plan] == [False, False, True, False]
    # A whole schedule in each round.
    assert plan[1].schedule(0.25, 0.0) == pytest.approx(cosine(0.25 * 21 / 10, 0.0))
    assert plan[3].schedule(1 - 1e-9, 1.0) == pytest.approx(0, abs=1e-6)
    assert plan[2].schedule(10 / 21, 0.0) == 0
    stage = plan[3].turn_list[0].loss.keywords["stage"]
    assert (stage.start, stage.full, stage.mentored) == (11 / 21, pytest.approx((10 + 3.3) / 21), True)


def test_short_runs_have_fewer_rounds_and_one_epoch_is_a_warm_up():
    assert [phase.epochs for phase in MLNT(problem(), rounds=3).plan(4)] == [1, 1, 1, 1]
    assert [phase.epochs for phase in MLNT(problem(), rounds=3).plan(1)] == [1, 0]


def test_sequential_takes_the_meta_step_first_with_a_momentum_of_its_own():
    method = MLNT(problem(), update="sequential")
    warm, meta = method.plan(10)
    assert [turn.optimizer for turn in warm.turn_list] == ["given 1"]
    assert [turn.optimizer for turn in meta.turn_list] == ["meta 1", "given 1"]
    assert meta.turn_list[0].loss.func == method.meta_loss
    assert [turn.optimizer for turn in MLNT(problem()).plan(10)[1].turn_list] == ["given 1"]


def consulted():
    method = MLNT(problem(), rounds=2, label_sets=1, keep_above=0.2, teacher_share=0.4)
    random = np.random.default_rng(5)
    probs = random.dirichlet(np.ones(4), 24).astype(np.float32)
    method.teacher.network.load_state_dict(problem(seed=1).network("teacher").state_dict())
    method.round_step.fill_(9)
    method.consult("round 2", Survey({"probs": probs, "features": random.normal(size=(24, 3)).astype(np.float32)}))
    return method, torch.from_numpy(probs)


def test_the_teacher_becomes_the_mentor_and_a_fresh_student_begins():
    method, _ = consulted()
    assert same(method.classifier, problem().network("round 2"))
    assert method.round_step == 0
    method.take_up_teacher()
    assert same(method.classifier, method.teacher.network)


def test_the_mentor_filters_cross_entropy():
    method, probs = consulted()
    seen = batch()
    kept = probs[seen.indices, torch.arange(24)[:6] % 4] > 0.2
    assert 0 < kept.sum() < 6
    losses = -softmax(method.classifier(seen.images)).log()[torch.arange(6), seen.noisy_labels]

    found = method.given_loss(seen, LATE, Stage(0.1, 0.3, mentored=True))["cross_entropy"]

    assert found.item() == pytest.approx(losses[kept].mean().item(), rel=1e-5)
    unfiltered = method.given_loss(seen, LATE, FULL)["cross_entropy"]
    assert unfiltered.item() == pytest.approx(losses.mean().item(), rel=1e-5)
    assert method.log_values()["kept"] == pytest.approx((probs[range(24), np.arange(24) % 4] > 0.2).double().mean())


def test_the_mentor_has_its_share_in_the_target_which_the_teachers_ramp_limits():
    method, probs = consulted()
    seen = batch()
    teacher, mentor = method.teacher(seen.images).softmax(dim=1), probs[seen.indices]
    stage = Stage(0.1, 0.3, mentored=True)
    for fraction, share in ((0.5, 0.4), (0.2, 0.4 * exp(-5 / 4)), (0.1, 0.0)):
        found = method.target(seen, Moment(6, 2, 1, fraction, 3), stage)
        close(found, share * teacher + (1 - share) * mentor, rtol=1e-3, atol=1e-3)
    close(method.target(seen, LATE, FULL), teacher)


# Options


def test_defaults_are_the_papers():
    method = MLNT(problem())
    assert (method.label_sets, method.inner_rate, method.resampled_share) == (10, 0.02, 0.5)
    assert method.neighbour_labels.values.shape == (24, 10)
    assert (method.order, method.update, method.rounds) == ("first", "joint", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_sets": -1}, "label_sets must be at least 0, got -1"),
        ({"order": "third"}, "order must be second, first or head, got 'third'"),
        ({"update": "both"}, "update must be joint or sequential, got 'both'"),
        ({"inner_rate": -0.1}, "inner_rate must be at least 0 and finite, got -0.1"),
        ({"meta_weight": float("nan")}, "meta_weight must be at least 0 and finite, got nan"),
        ({"num_neighbours": 0}, "num_neighbours must be at least 1, got 0"),
        ({"meta_every": 0}, "meta_every must be at least 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"resampled_share": 1.1}, "resampled_share must lie in [0, 1], got 1.1"),
        ({"teacher_share": -0.1}, "teacher_share must lie in [0, 1], got -0.1"),
        ({"warmup_share": 1.0}, "warmup_share must lie in [0, 1), got 1.0"),
        ({"keep_above": 1.0}, "keep_above must lie in [0, 1), got 1.0"),
        ({"full_share": 0.05}, "full_share must lie in [warmup_share, 1], got 0.05"),
        ({"window": 0.0}, "window must be above 0, got 0.0"),
        ({"views": "strong"}, "views must be plain or weak, got 'strong'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MLNT(problem(), **options)
