"""The default method: its equations by hand, its limits, its gates."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.harness import build, digits
from winnow.functional.correction import label_posterior
from winnow.methods.base import Batch, Moment
from winnow.methods.cross_entropy import CrossEntropy
from winnow.methods.winnow import (
    SHARPNESS_GRID,
    Winnow,
    fitted_sharpness,
    forward_loss,
    ramp,
    sharpened,
)

MATRIX = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]])


def moment(fraction: float) -> Moment:
    return Moment(step=5, epoch=1, phase_epoch=1, fraction=fraction, steps_per_epoch=4)


def prepared(folder: Path, **buffers: float) -> tuple[Winnow, Batch]:
    """A method with planted memory, and a batch of four digits of class 0 to 3 labelled 0, 1, 2, 0."""
    trainer = build(Winnow, folder)
    method = trainer.method
    assert isinstance(method, Winnow)
    rows = trainer.problem.train_rows[:4]
    indices = torch.from_numpy(rows)
    method.memory.write(indices, torch.full((4, 10), 0.02) + 0.8 * F.one_hot(torch.arange(4), 10))
    method.visits.write(indices, torch.full((4,), 3))
    for name, value in buffers.items():
        getattr(method, name).fill_(value)
    views = tuple(trainer.views.view("weak", rows, 0, str(i)) for i in range(2))
    return method, Batch(indices, torch.tensor([0, 1, 2, 0]), views)


# The posterior, eq. (6)


def test_the_posterior_is_bayes_rule_by_hand():
    beliefs, label = [0.5, 0.3, 0.2], 2
    joint = [0.5 * 0.1, 0.3 * 0.05, 0.2 * 0.6]
    expected = [value / sum(joint) for value in joint]

    posterior = label_posterior(torch.tensor([beliefs]), torch.tensor([label]), MATRIX)

    assert posterior[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_two_classes_give_the_closed_form():
    # Priors p and 1 - p, symmetric noise e: P(1 | label 1) = p (1 - e) / (p (1 - e) + (1 - p) e).
    p, e = 0.3, 0.2
    expected = p * (1 - e) / (p * (1 - e) + (1 - p) * e)
    matrix = torch.tensor([[1 - e, e], [e, 1 - e]], dtype=torch.float64)

    posterior = label_posterior(torch.tensor([[1 - p, p]], dtype=torch.float64), torch.tensor([1]), matrix)

    assert posterior[0, 1].item() == pytest.approx(expected, abs=1e-12)


probabilities = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda v: torch.tensor([v]) / sum(v))


@settings(max_examples=50, deadline=None)
@given(probabilities, st.integers(0, 2))
def test_rows_are_distributions_and_classes_may_be_renamed(beliefs, label):
    order = torch.tensor([2, 0, 1])
    posterior = label_posterior(beliefs, torch.tensor([label]), MATRIX)
    renamed = label_posterior(beliefs[:, order], torch.tensor([order.tolist().index(label)]), MATRIX[order][:, order])

    assert posterior.sum().item() == pytest.approx(1, abs=1e-5)
    assert (posterior >= 0).all()
    assert torch.allclose(renamed, posterior[:, order], atol=1e-6)


def test_trust_rises_with_the_belief_and_with_the_diagonal():
    label = torch.tensor([1])
    beliefs = [torch.tensor([[0.6 - x, 0.2 + x, 0.2]]) for x in (0.0, 0.1, 0.2)]
    matrices = [MATRIX + torch.tensor([[0.0, 0, 0], [-x / 2, x, -x / 2], [0, 0, 0]]) for x in (0.0, 0.04, 0.08)]

    by_belief = [label_posterior(b, label, MATRIX)[0, 1].item() for b in beliefs]
    by_matrix = [label_posterior(beliefs[0], label, m)[0, 1].item() for m in matrices]

    assert by_belief == sorted(by_belief)
    assert by_matrix == sorted(by_matrix)
    assert by_matrix[0] < by_matrix[2]


# Sharpness, eq. (3)


def test_sharpness_one_keeps_beliefs_and_two_squares_them():
    beliefs = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    squares = [0.7**2, 0.2**2, 0.1**2]

    assert sharpened(beliefs, 1.0)[0].tolist() == pytest.approx([0.7, 0.2, 0.1], abs=1e-3)
    assert sharpened(beliefs, 2.0)[0].tolist() == pytest.approx([v / sum(squares) for v in squares], abs=1e-3)


@pytest.mark.parametrize("planted", [1.0, 2.0, 3.0])
def test_a_planted_sharpness_is_found(planted):
    chance = torch.Generator().manual_seed(0)
    true = (3 * torch.randn(100_000, 5, generator=chance)).softmax(dim=1)
    matrix = 0.7 * torch.eye(5) + 0.06
    labels = torch.multinomial(true @ matrix, 1, generator=chance)[:, 0]
    flattened = true ** (1 / planted)

    found = fitted_sharpness(flattened / flattened.sum(dim=1, keepdim=True), labels, matrix)

    step = SHARPNESS_GRID[1] / SHARPNESS_GRID[0]
    assert planted / step**1.5 <= found <= planted * step**1.5


# The forward-corrected loss


def test_the_corrected_loss_is_the_sum_by_hand():
    logits, label, share = [2.0, 0.0, -1.0], 2, 0.4
    p = [exp(z) / sum(map(exp, logits)) for z in logits]
    through = sum(p[k] * MATRIX[k, label].item() for k in range(3))
    expected = -log((1 - share) * p[label] + share * through)

    log_probs = F.log_softmax(torch.tensor([logits]), dim=1)

    assert forward_loss(log_probs, torch.tensor([label]), MATRIX, share).item() == pytest.approx(expected, rel=1e-6)


def test_without_correction_it_is_cross_entropy_bit_for_bit():
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])

    loss = forward_loss(F.log_softmax(logits, dim=1), labels, MATRIX, 0.0)

    assert torch.equal(loss, F.cross_entropy(logits, labels, reduction="none"))


def test_its_gradient_is_that_of_finite_differences():
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    labels = torch.tensor([0, 1, 2, 2])

    assert torch.autograd.gradcheck(
        lambda z: forward_loss(F.log_softmax(z, dim=1), labels, MATRIX.double(), 0.7), (logits,)
    )


def test_confident_logits_give_finite_losses_and_gradients():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)

    forward_loss(F.log_softmax(logits, dim=1), torch.tensor([1]), MATRIX, 0.5).sum().backward()

    assert logits.grad is not None
    assert logits.grad.isfinite().all()


# The loss of a step, eq. (7)


def test_before_a_fifth_of_the_run_it_is_cross_entropy(tmp_path):
    method, batch = prepared(tmp_path / "a", fit=0.95)
    plain = build(CrossEntropy, tmp_path / "b").method
    plain.classifier.load_state_dict(method.classifier.state_dict())

    mine, theirs = method.loss(batch, moment(0.19)), plain.loss(batch, moment(0.19))
    mine["given"].backward()
    theirs["cross_entropy"].backward()

    assert mine["given"].item() == pytest.approx(theirs["cross_entropy"].item(), abs=1e-7)
    for a, b in zip(method.classifier.parameters(), plain.classifier.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-8)


def test_the_step_is_equation_7_by_hand(tmp_path):
    method, batch = prepared(tmp_path, sharpness=1.5, fit=0.85)
    method.transition_matrix.copy_(0.6 * torch.eye(10) + 0.04)
    with torch.no_grad():
        logits = method.classifier(batch.images).double()
        teacher = method.teacher.network.eval()(batch.views[1]).softmax(dim=1).double()
    q = 0.7 * (torch.full((4, 10), 0.02, dtype=torch.float64) + 0.8 * F.one_hot(torch.arange(4), 10)) + 0.3 * teacher
    b = (q + 1e-4) ** 1.5
    b = b / b.sum(dim=1, keepdim=True)
    matrix = (0.6 * torch.eye(10) + 0.04).double()
    a, share = (0.3 - 0.2) / 0.25, 0.5 * (0.3 - 0.2) / 0.2  # g = ramp(0.85, 0.80, 0.90) = 1/2, h = 1
    expected = 0.0
    for i, y in enumerate([0, 1, 2, 0]):
        joint = b[i] * matrix[:, y]
        trust = joint[y] / joint.sum()
        p = logits[i].softmax(dim=0)
        loss = -log((1 - share) * p[y] + share * (p * matrix[:, y]).sum())
        expected += ((1 - a) + a * trust.item()) * loss / 4

    assert method.loss(batch, moment(0.3))["given"].item() == pytest.approx(expected, rel=2e-3)  # float16 memory


def test_where_no_label_is_wrong_it_stays_cross_entropy(tmp_path):
    method, batch = prepared(tmp_path, fit=0.99)
    method.transition_matrix.copy_(0.99 * torch.eye(10) + 0.001)

    loss = method.loss(batch, moment(0.9))["given"]

    assert method.caution() == 0
    assert loss.item() == pytest.approx(F.cross_entropy(method.classifier(batch.images), batch.noisy_labels).item())


@pytest.mark.parametrize(("diagonal", "lift"), [(0.9, 1.0), (0.5, 1.0), (0.25, 2.0)])
def test_trust_is_lifted_where_over_half_of_the_labels_are_wrong(diagonal, lift, tmp_path):
    method, batch = prepared(tmp_path)
    off = (1 - diagonal) / 9
    method.transition_matrix.copy_((diagonal - off) * torch.eye(10) + off)
    posterior = method.posterior(method.memory.read(batch.indices).float(), batch.noisy_labels)

    assert method.lift() == pytest.approx(lift)
    # At the end of the run the weight of an image is its trust times the lift.
    method.memory_momentum = 1 - 1e-9
    method.visits.write(batch.indices, torch.full((4,), 60000))
    trust = posterior.gather(1, batch.noisy_labels[:, None])[:, 0]
    losses = F.cross_entropy(method.classifier(batch.images), batch.noisy_labels, reduction="none")
    expected = (lift * trust * losses).mean().item()
    assert method.loss(batch, moment(0.9))["given"].item() == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(("fit", "learnt"), [(0.0, 0), (0.8, 0), (0.85, 0.5), (0.9, 1), (1.0, 1)])
def test_the_gate_opens_between_80_and_90_percent(fit, learnt, tmp_path):
    method, _ = prepared(tmp_path, fit=fit)

    assert method.learnt() == pytest.approx(learnt, abs=1e-5)


def test_ramps_are_flat_outside_and_linear_between():
    assert [ramp(t, 0.2, 0.4) for t in (0.0, 0.2, 0.3, 0.4, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])


# The memory, eq. (1)


def test_the_first_visit_replaces_the_uniform_row_and_later_ones_blend(tmp_path):
    method, batch = prepared(tmp_path)
    fresh = torch.from_numpy(method.problem.train_rows[10:12])
    images = batch.images[:2]
    probs = method.teacher.network.eval()(images).softmax(dim=1)

    first = method.remember(fresh, images)
    second = method.remember(fresh, images.flip(0))

    assert torch.allclose(first, probs, atol=1e-6)
    assert torch.allclose(second, 0.5 * first + 0.5 * probs.flip(0), atol=1e-3)
    assert method.visits.read(fresh).tolist() == [2, 2]


def test_no_gradient_flows_through_the_weights(tmp_path):
    method, batch = prepared(tmp_path, fit=0.95)

    method.loss(batch, moment(0.9))["given"].backward()

    assert all(p.grad is None for p in method.teacher.parameters())


# What it measures


def test_the_matrix_is_counted_on_more_images_the_more_is_learnt(tmp_path):
    trainer = build(Winnow, tmp_path)
    method, rows = trainer.method, trainer.problem.train_rows
    assert isinstance(method, Winnow)
    labels = trainer.problem.noisy_labels[rows]
    # Everything is believed to be class 0; the images labelled 0 are the most confident ones (memorised).
    beliefs = np.zeros((trainer.problem.num_samples, 10), dtype=np.float32)
    beliefs[rows, 0] = np.where(labels == 0, 0.99, 0.9)
    beliefs[rows, 1] = 1 - beliefs[rows, 0]
    method.memory.replace(beliefs)
    method.visits.replace(np.ones(trainer.problem.num_samples))
    method.pseudo_counts = 1e-6
    share_of_zero = (labels == 0).mean()

    method.confident_share = float(share_of_zero)
    method.measure_noise()
    confident_only = method.transition_matrix[0, 0].item()
    method.fit.fill_(1.0)
    method.measure_noise()

    assert confident_only == pytest.approx(1.0, abs=1e-3)
    assert method.transition_matrix[0, 0].item() == pytest.approx(share_of_zero, abs=1e-3)


def test_clean_easy_labels_are_left_alone(tmp_path):
    images, labels = digits(1000)
    trainer = build(Winnow, tmp_path, images=images, labels=labels, epochs=30)
    trainer.run()

    beliefs = trainer.method.beliefs(trainer.survey())

    assert beliefs is not None
    assert (beliefs.suggested_label != labels).mean() <= 0.03
    assert np.median(beliefs.label_quality) > 0.95


def test_images_never_trained_on_are_judged_by_the_last_survey(tmp_path):
    trainer = build(Winnow, tmp_path)
    trainer.run()
    survey = trainer.survey()
    probs = survey.probs.copy()
    held_out = trainer.problem.held_out_rows
    wrong = (trainer.problem.noisy_labels[held_out] + 1) % 10
    probs[held_out] = 0.001
    probs[held_out, wrong] = 0.991

    beliefs = trainer.method.beliefs(replace(survey, values={"probs": probs}))

    assert beliefs is not None
    assert (beliefs.suggested_label[held_out] == wrong).all()
    assert (beliefs.label_quality[held_out] < 0.5).all()


@pytest.mark.parametrize(
    "options",
    [
        {"memory_momentum": 1.0},
        {"confident_share": 0.0},
        {"window": 0.0},
        {"window": float("nan")},
        {"pseudo_counts": 0.0},
        {"pseudo_counts": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(options, tmp_path):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(Winnow, tmp_path, options=options)
