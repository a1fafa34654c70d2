"""Label refinery: the loss, who labels what, and how generations follow each other."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.contract.harness import build
from tests.plain import close, one_hot, softmax
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem, cosine_in_phase
from winnow.methods.cross_entropy import CrossEntropy
from winnow.methods.label_refinery import LabelRefinery, refinery_loss
from winnow.models import ModelSpec
from winnow.survey import Survey

TIGHT = {"rtol": 0.0, "atol": 1e-12}
MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)
HALF = 2**-11  # relative rounding of float16


def logits(seed, rows=6, classes=5):
    return 2 * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def problem(model="mlp", size=2, classes=5):
    noisy = np.arange(40) % classes
    names = tuple(f"class {k}" for k in range(classes))
    return Problem(names, noisy, np.arange(40), np.arange(0), ModelSpec(model, size, 1, classes), 0, Memory(len(noisy)))


def batch(labels=(0, 4, 2, 1), size=2, seed=0):
    images = torch.randn(len(labels), 1, size, size, generator=torch.Generator().manual_seed(seed))
    return Batch(torch.arange(len(labels)), torch.tensor(labels), (images,))


def same_state(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The loss


def test_the_loss_is_the_divergence_summed_by_hand():
    z, q = logits(0), softmax(logits(1))
    p = softmax(z)
    by_hand = sum(q[b, j] * (q[b, j].log() - p[b, j].log()) for b in range(6) for j in range(5)) / 6

    close(refinery_loss(z, q), by_hand, **TIGHT)
    assert by_hand > 0.1


def test_cross_entropy_is_larger_by_the_entropy_of_the_soft_labels_and_has_the_same_gradient():
    z, q = logits(0).requires_grad_(), softmax(logits(1))
    divergence, cross_entropy = refinery_loss(z, q), F.cross_entropy(z, q)
    entropy = -(q * q.log()).sum(dim=1).mean()

    close(cross_entropy, divergence + entropy, **TIGHT)
    (found,) = torch.autograd.grad(divergence, z)
    close(found, torch.autograd.grad(cross_entropy, z)[0], **TIGHT)
    close(found, (softmax(z) - q) / 6, **TIGHT)


def test_a_student_that_is_the_refinery_has_neither_loss_nor_gradient():
    z = logits(0).requires_grad_()
    loss = refinery_loss(z, z.softmax(dim=1))
    loss.backward()

    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert z.grad.abs().max() < 1e-15


def test_a_refinery_without_doubt_gives_cross_entropy_on_its_decision():
    z, sure = logits(0), (1e4 * logits(1)).softmax(dim=1)
    assert ((sure == 0) | (sure == 1)).all()  # zeros whose logarithm must not be taken

    close(refinery_loss(z, sure), F.cross_entropy(z, sure.argmax(dim=1)), **TIGHT)


def test_the_gradient_is_that_of_finite_differences_and_stops_at_the_soft_labels():
    q = softmax(logits(1))
    assert torch.autograd.gradcheck(lambda z: refinery_loss(z, q), logits(0).requires_grad_())
    assert not refinery_loss(logits(0), q.requires_grad_()).requires_grad


def test_relabelling_the_classes_changes_nothing():
    z, q, order = logits(0), softmax(logits(1)), torch.tensor([3, 0, 4, 1, 2])
    close(refinery_loss(z[:, order], q[:, order]), refinery_loss(z, q), **TIGHT)
    assert abs(refinery_loss(z[:, order], q) - refinery_loss(z, q)) > 0.01


# Who labels what


def test_refinery_and_student_see_the_same_tensor():
    method, seen = LabelRefinery(problem()), []
    for network in (method.refinery, method.classifier):
        network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    given = batch()
    method.loss(given, MOMENT)

    assert [images is given.images for images in seen] == [True, True]


def test_the_loss_is_that_of_the_two_networks():
    method, seen = LabelRefinery(problem()), batch()
    q, z = softmax(method.refinery(seen.images)), method.classifier(seen.images)

    losses = method.loss(seen, MOMENT)

    assert list(losses) == ["refinery"]
    expected = (q * (q.log() - softmax(z).log())).sum(dim=1).mean().item()
    assert losses["refinery"].item() == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3


def test_no_gradient_reaches_the_refinery_and_no_buffer_of_it_moves():
    method = LabelRefinery(problem("convnet", size=16)).train()
    before = {name: value.clone() for name, value in method.refinery.state_dict().items()}
    student = {name: value.clone() for name, value in method.classifier.named_buffers()}

    method.loss(batch(size=16), MOMENT)["refinery"].backward()

    assert all(torch.equal(before[name], value) for name, value in method.refinery.state_dict().items())
    assert all(parameter.grad is None for parameter in method.refinery.parameters())
    assert all(parameter.grad is not None for parameter in method.classifier.parameters() if parameter.requires_grad)
    assert any(not torch.equal(student[name], value) for name, value in method.classifier.named_buffers())


def test_the_label_of_a_view_does_not_depend_on_the_rest_of_the_batch():
    method, every = LabelRefinery(problem("convnet", size=16)).train(), batch(size=16)
    alone = Batch(every.indices[:1], every.noisy_labels[:1], (every.images[:1],))

    close(method.soft_labels(every)[:1], method.soft_labels(alone), rtol=1e-5, atol=1e-6)


class LabelsTakenAway(LabelRefinery):
    """Once there is a refinery, no label is given any more."""

    name = "labels-taken-away"

    def hand_over(self, generation):
        super().hand_over(generation)
        self.trainer.noisy_labels.zero_()


def test_given_labels_are_not_looked_at_once_there_is_a_refinery(tmp_path):
    trainers = [build(kind, tmp_path / kind.name, epochs=2) for kind in (LabelRefinery, LabelsTakenAway)]
    for trainer in trainers:
        trainer.method.trainer = trainer
        trainer.run()

    assert (trainers[1].noisy_labels == 0).all()
    assert same_state(trainers[0].method, trainers[1].method)


def test_stored_labels_are_the_online_ones_where_the_view_is_plain():
    online, static = LabelRefinery(problem()), LabelRefinery(problem(), labels="static")
    seen = batch(labels=tuple(range(5)) * 8)
    static.store_labels("generation 2", Survey({"probs": static.observe(seen.images)["probs"].numpy()}))
    online.hand_over("generation 2")

    assert same_state(online.classifier, static.classifier)
    close(static.soft_labels(seen), online.soft_labels(seen), rtol=2 * HALF, atol=0)
    found, expected = (method.loss(seen, MOMENT)["refinery"].item() for method in (static, online))
    assert found == pytest.approx(expected, abs=4 * HALF)
    assert expected > 1e-3


# Generations


@pytest.mark.parametrize(
    ("epochs", "options", "expected"),
    [
        (40, {}, [20, 20]),
        (10, {"generations": 3}, [3, 4, 3]),
        (40, {"generations": 3, "first_share": 0.1}, [4, 18, 18]),
        (10, {"first_share": 0.99}, [9, 1]),
        (10, {"first_share": 0.001}, [1, 9]),
        (2, {"generations": 4}, [1, 1, 0]),
        (1, {}, [1, 0]),
        (7, {"generations": 1, "first_share": 0.3}, [7]),
    ],
)
def test_the_epochs_are_divided_among_the_generations(epochs, options, expected):
    phases = LabelRefinery(problem(), **options).plan(epochs)

    assert [phase.epochs for phase in phases] == expected
    assert [phase.name for phase in phases] == [f"generation {k + 1}" for k in range(len(expected))]
    assert all(phase.schedule is cosine_in_phase for phase in phases)
    # Each generation's momenta start anew.
    assert len({phase.turn_list[0].optimizer for phase in phases}) == len(phases)


def test_one_generation_is_cross_entropy(tmp_path):
    plain = build(CrossEntropy, tmp_path / "plain", epochs=2)
    single = build(LabelRefinery, tmp_path / "single", epochs=2, options={"generations": 1})
    plain.run()
    single.run()

    assert same_state(single.method.classifier, plain.method.classifier)


@pytest.mark.parametrize("labels", ["online", "static"])
def test_each_generation_is_labelled_by_the_one_before(labels, tmp_path):
    """Runs that are a generation shorter are the same up to there."""
    runs = {}
    for count in (1, 2, 3):
        options = {"generations": count, "labels": labels}
        runs[count] = build(LabelRefinery, tmp_path / str(count), epochs=count, options=options)
        runs[count].run()

    for count in (2, 3):
        before, method = runs[count - 1], runs[count].method
        if labels == "online":
            assert same_state(method.refinery, before.method.classifier)
        else:
            rows = torch.arange(before.problem.num_samples)
            probs = torch.from_numpy(before.survey().probs)
            stored = method.stored.read(rows)
            largest = probs.topk(8, dim=1).indices
            close(stored.gather(1, largest), probs.gather(1, largest), rtol=0, atol=HALF)
        assert not same_state(method.classifier, before.method.classifier)


def test_every_generation_starts_from_weights_of_its_own():
    given = problem()
    method, starts = LabelRefinery(given), [given.network()]
    for generation in ("generation 2", "generation 3"):
        method.hand_over(generation)
        assert same_state(method.classifier, given.network(generation))
        assert same_state(method.refinery, starts[-1])
        starts.append(given.network(generation))
    weights = [start.head.weight for start in starts]
    assert all((weights[a] - weights[b]).abs().max() > 0.01 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_the_entropy_of_the_soft_labels_is_told_for_each_epoch():
    method = LabelRefinery(problem(), labels="static")
    labels = np.tile(one_hot(torch.arange(5)).numpy(), (8, 1))
    labels[0] = 0.2
    method.store_labels("generation 2", Survey({"probs": labels}))
    for _ in range(2):  # a second epoch is not averaged with the first
        method.loss(batch(), MOMENT)
        method.measure_entropy()
        assert method.log_values() == {"label_entropy": pytest.approx(np.log(5) / 4, rel=1e-5)}


def test_the_survey_of_static_labels_is_taken_once_and_online_ones_need_none():
    static = LabelRefinery(problem(), labels="static", generations=3).plan(9)
    assert [phase.begin for phase in static] == [None] * 3
    assert [phase.revise is None for phase in static] == [True, False, False]
    assert [phase.revise_every for phase in static[1:]] == [0, 0]
    assert all(phase.revise is None for phase in LabelRefinery(problem()).plan(9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generations": 0}, "generations must be at least 1, got 0"),
        ({"first_share": 1.0}, r"first_share must lie in \[0, 1\), got 1.0"),
        ({"first_share": -0.1}, r"first_share must lie in \[0, 1\), got -0.1"),
        ({"first_share": float("nan")}, "first_share must lie"),
        ({"labels": "cached"}, "labels must be online or static, got 'cached'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LabelRefinery(problem(), **options)
