"""Loss correction: which matrix is used, where it comes from, and what is minimised with it."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.contract.harness import Crash, Script, build, digits, fingerprint
from winnow.errors import UsageError
from winnow.labels.memory import Memory
from winnow.methods import build as build_method
from winnow.methods import transition
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.transition import Backward, Forward
from winnow.models import ModelSpec
from winnow.noise.estimate import (
    anchor_transition_matrix,
    confident_joint_transition_matrix,
    gold_transition_matrix,
    soft_transition_matrix,
)
from winnow.survey import Survey

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)
MATRIX = [[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]]


def problem(classes=3, count=120, held_out=0, verified=()):
    noisy = np.random.default_rng(0).integers(0, classes, count)
    rows, spec = np.arange(count), ModelSpec("mlp", 2, 1, classes)
    names = tuple(f"class {k}" for k in range(classes))
    return Problem(
        names, noisy, rows[held_out:], rows[:held_out], spec, 0, Memory(count), np.array(verified, dtype=np.int64)
    )


def seen(indices, labels):
    images = torch.randn(len(labels), 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return Batch(torch.tensor(indices), torch.tensor(labels), (images,))


def survey(count=120, classes=3, seed=0):
    return Survey({"probs": np.random.default_rng(seed).dirichlet(np.ones(classes), count).astype(np.float32)})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "matrix.csv"
    np.savetxt(path, MATRIX, delimiter=",")
    return str(path)


def test_a_given_matrix_is_used_from_the_first_step(file):
    method = Forward(problem(), transition_matrix=file)
    [phase] = method.plan(10)
    batch = seen([0, 1, 2], [0, 1, 2])
    p = method.classifier(batch.images).softmax(dim=1)
    expected = -sum(torch.log(p[b] @ torch.tensor(MATRIX)[:, b]) for b in range(3)) / 3

    [turn] = phase.turn_list
    losses = turn.loss(batch, MOMENT)

    assert (phase.name, phase.epochs, phase.revise) == ("correct", 10, None)
    assert list(losses) == ["corrected"]
    assert losses["corrected"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_backward_minimises_the_losses_through_the_inverse(file):
    method = Backward(problem(), transition_matrix=file)
    batch = seen([0, 1, 2], [0, 1, 2])
    losses = -method.classifier(batch.images).log_softmax(dim=1)
    inverse = torch.linalg.inv(torch.tensor(MATRIX))
    expected = (inverse * losses).sum() / 3 / inverse.abs().sum(dim=1).max()

    assert method.loss(batch, MOMENT)["corrected"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_without_noise_both_are_cross_entropy(tmp_path):
    np.save(tmp_path / "eye.npy", np.eye(3))
    batch = seen([0, 1, 2], [2, 1, 0])
    for kind in (Forward, Backward):
        method = kind(problem(), transition_matrix=str(tmp_path / "eye.npy"))
        expected = F.cross_entropy(method.classifier(batch.images), batch.noisy_labels).item()
        assert method.loss(batch, MOMENT)["corrected"].item() == pytest.approx(expected, rel=1e-6)


def test_backward_lowers_no_probability_without_end(file):
    """Label 0 has a negative weight on class 1; at a probability of 1e-8 its logit is left alone."""
    method = Backward(problem(), transition_matrix=file)
    assert method.inverse_matrix[0, 1] < 0
    found = []
    for probability in (1e-6, 1e-8):
        log_probs = torch.tensor([[1 - 2 * probability, probability, probability]]).log().requires_grad_()
        method.corrected_losses(log_probs, torch.tensor([0])).backward()
        found.append(log_probs.grad[0, 1].item())
    assert found[0] > 0
    assert found[1] == 0


@pytest.mark.parametrize("kind", [Forward, Backward])
def test_verified_labels_are_learnt_plainly(kind, file):
    method = kind(problem(verified=[1, 2]), transition_matrix=file)
    batch = seen([0, 1, 2], [0, 0, 1])
    log_probs = method.classifier(batch.images).log_softmax(dim=1)
    own = method.corrected_losses(log_probs, batch.noisy_labels)[0]
    plain = F.nll_loss(log_probs[1:], batch.noisy_labels[1:], reduction="sum")

    assert method.loss(batch, MOMENT)["corrected"].item() == pytest.approx((own + plain).item() / 3, rel=1e-5)
    assert "is_verified" not in method.state_dict()


def test_in_backward_a_checked_label_weighs_more_by_the_divisor_of_the_others(file):
    method = Backward(problem(verified=[0]), transition_matrix=file)
    log_probs = torch.tensor([[0.2, 0.3, 0.5]]).log()
    undivided = -(method.inverse_matrix[0] * log_probs[0]).sum()
    divisor = method.inverse_matrix.abs().sum(dim=1).max().item()
    method.classifier.forward = lambda images: log_probs.expand(len(images), 3)
    checked, other = (method.loss(seen([row], [0]), MOMENT)["corrected"].item() for row in (0, 1))

    assert divisor > 1
    assert checked == pytest.approx(-np.log(0.2), rel=1e-5)
    assert other == pytest.approx(undivided.item() / divisor, rel=1e-5)


def test_the_plan_is_cross_entropy_then_correction():
    method = Forward(problem(), estimate_share=0.25)
    estimate, correct = method.plan(12)
    batch = seen([0, 1], [2, 1])
    expected = F.cross_entropy(method.classifier(batch.images), batch.noisy_labels).item()

    assert (estimate.epochs, correct.epochs) == (3, 9)
    assert estimate.turns(batch, MOMENT)["cross_entropy"].item() == pytest.approx(expected, rel=1e-6)
    assert correct.revise == method.conclude_estimate
    assert correct.revise_every == 0
    assert [phase.epochs for phase in method.plan(1)] == [1, 0]
    assert [phase.epochs for phase in method.plan(2)] == [1, 1]


ESTIMATES = {
    "confident": lambda probs, labels, verified: confident_joint_transition_matrix(probs, labels),
    "anchor": lambda probs, labels, verified: anchor_transition_matrix(probs),
    "soft": lambda probs, labels, verified: soft_transition_matrix(probs, labels),
}


@pytest.mark.parametrize(("held_out", "rows"), [(60, slice(0, 60)), (59, slice(59, 120))])
@pytest.mark.parametrize("name", ESTIMATES)
def test_the_matrix_is_estimated_on_held_out_images_where_there_are_twenty_a_class(name, held_out, rows):
    method, view = Forward(problem(held_out=held_out), estimator=name), survey()
    method.estimate(view)
    expected = ESTIMATES[name](view.probs[rows], method.problem.noisy_labels[rows], None)

    np.testing.assert_allclose(method.transition_matrix.numpy(), expected, atol=1e-6)
    assert method.log_values()["estimated_on_held_out"] == float(held_out == 60)
    assert method.plan(4)[0].revise == (method.estimate if held_out == 60 else None)


def test_checked_images_tell_the_matrix_and_take_no_part_in_the_network_that_it_is_read_from():
    verified = np.arange(0, 120, 4)
    method, view = Forward(problem(verified=verified), estimator="verified"), survey()
    method.estimate(view)
    expected = gold_transition_matrix(view.probs[verified], method.problem.noisy_labels[verified])

    np.testing.assert_allclose(method.transition_matrix.numpy(), expected, atol=1e-6)
    drawn = method.plan(4)[0].draws["train"].samples()
    assert drawn.tolist() == np.setdiff1d(np.arange(120), verified).tolist()
    assert "train" in method.plan(4)[1].draws
    assert method.plan(4)[1].draws["train"].samples is None


def test_a_class_with_fewer_than_five_checked_images_is_estimated_from_the_others():
    labels = problem().noisy_labels
    verified = np.concatenate([np.flatnonzero(labels == 0)[:5], np.flatnonzero(labels == 1)[:4]])
    method, view = Forward(problem(verified=verified), estimator="verified"), survey()
    method.estimate(view)
    others = np.setdiff1d(np.arange(120), verified)
    expected = confident_joint_transition_matrix(view.probs[others], labels[others])
    expected[0] = view.probs[verified[:5]].mean(axis=0)

    np.testing.assert_allclose(method.transition_matrix.numpy(), expected, atol=1e-6)


def test_checked_images_are_left_out_of_the_other_estimates():
    verified = np.arange(0, 120, 4)
    method, view = Forward(problem(verified=verified, held_out=100)), survey()
    method.estimate(view)
    rows = np.setdiff1d(np.arange(100), verified)
    expected = confident_joint_transition_matrix(view.probs[rows], method.problem.noisy_labels[rows])
    np.testing.assert_allclose(method.transition_matrix.numpy(), expected, atol=1e-6)


def agreeing(method, share):
    """A view that names the given label in a share of the images, and the next class in the rest."""
    labels = method.problem.noisy_labels
    said = np.where(np.arange(120) % 10 < 10 * share, labels, (labels + 1) % 3)
    return Survey({"probs": (0.8 * np.eye(3)[said] + 0.2 / 3).astype(np.float32)})


def test_the_epoch_that_agrees_with_most_held_out_labels_is_the_one_that_counts():
    method = Forward(problem(held_out=60))
    found = []
    for share in (0.1, 0.5, 0.3, 0.4):
        method.estimate(agreeing(method, share))
        found.append(method.transition_matrix.clone())

    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[1], found[3])
    assert method.log_values()["estimate_agreement"] == pytest.approx(0.5, abs=0.01)


def test_on_training_images_the_last_estimate_counts_however_little_it_agrees():
    method = Forward(problem())
    method.estimate(agreeing(method, 0.5))
    before = method.transition_matrix.clone()
    method.estimate(agreeing(method, 0.3))
    assert not torch.equal(before, method.transition_matrix)


@pytest.mark.parametrize("restart", [True, False])
def test_the_corrected_training_starts_afresh_or_goes_on(restart):
    method = Forward(problem(), restart=restart)
    before = {name: value.clone() for name, value in method.classifier.state_dict().items()}
    method.conclude_estimate(survey())

    same = all(torch.equal(value, before[name]) for name, value in method.classifier.state_dict().items())
    assert same != restart
    # With fresh weights, the momentum of the old ones must not go on.
    assert method.plan(4)[1].turn_list[0].optimizer == ("corrected" if restart else "main")


def test_a_training_killed_while_held_out_labels_choose_the_epoch_resumes_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(transition, "_ENOUGH", 0.8)
    options = {"estimate_share": 0.6}
    reference = build(Backward, tmp_path / "reference", epochs=5, options=options)
    assert reference.method.holds_out
    reference.run()
    for save_at, die_at in ((2, 3), (None, 6), (None, 13), (14, 15)):
        folder = tmp_path / f"killed-{die_at}"
        with pytest.raises(Crash):
            build(Backward, folder, Script(save_at, die_at), epochs=5, options=options).run()
        resumed = build(Backward, folder, epochs=5, options=options)
        resumed.run(resume=True)
        assert fingerprint(resumed) == fingerprint(reference)


def test_no_given_label_is_impossible():
    method = Forward(problem())
    method.use(np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]]))
    assert method.transition_matrix.min() > 0
    assert method.loss(seen([0], [2]), MOMENT)["corrected"].isfinite()
    assert method.log_values()["condition_number"] > 1e6


def test_the_log_tells_the_matrix_in_short(file):
    values = Forward(problem(), transition_matrix=file).log_values()
    assert values == {
        "mean_diagonal": pytest.approx(2.5 / 3),
        "condition_number": pytest.approx(np.linalg.cond(MATRIX), rel=1e-5),
    }


def test_beliefs_are_the_posterior_of_the_true_class(file):
    method, view = Forward(problem(), transition_matrix=file), survey()
    labels = method.problem.noisy_labels
    labels[5] = -1
    joint = view.probs * np.maximum(np.array(MATRIX), 1e-8).T[labels]
    posterior = joint / joint.sum(axis=1, keepdims=True)
    posterior[5] = view.probs[5]

    beliefs = method.beliefs(view)

    known = np.flatnonzero(labels >= 0)
    np.testing.assert_allclose(beliefs.label_quality[known], posterior[known, labels[known]], atol=1e-5)
    assert beliefs.suggested_label.tolist() == posterior.argmax(axis=1).tolist()
    np.testing.assert_allclose(beliefs.suggested_probability, posterior.max(axis=1), atol=1e-5)


def test_backward_blends_an_estimate_that_cannot_be_inverted_with_the_identity():
    method = Backward(problem(), max_condition=8.0)
    equal = np.full((3, 3), 1 / 3)  # (1 - a) J / 3 + a I has condition number 1 / a
    method.use(equal)

    assert method.log_values()["condition_number"] == pytest.approx(1 / 0.15, rel=1e-4)
    np.testing.assert_allclose(method.transition_matrix.numpy(), 0.85 * equal + 0.15 * np.eye(3), atol=1e-6)
    np.testing.assert_allclose((method.inverse_matrix @ method.transition_matrix).numpy(), np.eye(3), atol=1e-5)
    near = np.array(MATRIX)
    method.use(near)
    np.testing.assert_allclose(method.transition_matrix.numpy(), near, atol=1e-6)


def test_backward_refuses_a_given_matrix_that_it_cannot_invert(tmp_path):
    path = tmp_path / "nearly-equal.npy"
    np.save(path, 0.98 * np.full((3, 3), 1 / 3) + 0.02 * np.eye(3))
    with pytest.raises(ValueError, match=r"condition number 50, above max_condition=20; .* use forward"):
        Backward(problem(), transition_matrix=str(path))
    assert Forward(problem(), transition_matrix=str(path)).given is not None


@pytest.mark.parametrize("kind", [Forward, Backward])
@pytest.mark.parametrize("rows", [[[1 / 3] * 3] * 3, [[0.8, 0.2, 0], [0.8, 0.2, 0], [0, 0, 1]]])
def test_a_given_matrix_that_is_singular_is_refused_and_a_permutation_is_not(kind, rows, tmp_path):
    path = tmp_path / "matrix.npy"
    np.save(path, np.array(rows))
    with pytest.raises(ValueError, match=r"^transition_matrix=.*: singular; .* tell the classes apart"):
        kind(problem(), transition_matrix=str(path))
    np.save(path, np.eye(3)[[1, 2, 0]])
    assert kind(problem(), transition_matrix=str(path)).given is not None


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (Forward, {"estimator": "ankor"}, "estimator must be one of confident, anchor, soft, verified, got 'ankor'"),
        (Forward, {"estimator": "verified"}, "needs verified labels"),
        (Forward, {"estimate_share": 0.0}, r"estimate_share must lie in \(0, 1\), got 0.0"),
        (Forward, {"estimate_share": float("nan")}, "estimate_share"),
        (Backward, {"max_condition": 0.5}, "max_condition must be at least 1 and finite, got 0.5"),
        (Backward, {"max_condition": float("nan")}, "max_condition"),
    ],
)
def test_options_out_of_range_are_refused(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(problem(), **options)


def test_a_matrix_that_cannot_be_used_ends_in_one_line(tmp_path):
    path = tmp_path / "matrix.json"
    path.write_text(json.dumps(np.array(MATRIX).T.tolist()))
    with pytest.raises(UsageError) as caught:
        build_method(Forward, problem(), {"transition_matrix": str(path)})
    assert str(caught.value) == (
        f"--set transition_matrix={path}: row 0 sums to 0.8, not 1, but every column does: transpose it, rows are true "
        "classes, columns given labels"
    )


@pytest.mark.slow
def test_a_known_channel_is_undone_and_an_estimated_one_found(tmp_path):
    """Digits, 40 % of each class taken for the next: the network learns the true classes, and T is nearly right."""
    images, clean = digits(1500)
    random = np.random.default_rng(0)
    noisy = np.where(random.random(len(clean)) < 0.4, (clean + 1) % 10, clean)
    truth = 0.6 * np.eye(10) + 0.4 * np.roll(np.eye(10), 1, axis=1)
    trainer = build(Forward, tmp_path, images=images, labels=noisy, epochs=16)
    trainer.run()
    trainer.method.eval()
    view = trainer.views.view("plain", np.arange(len(clean)), 0, "test")
    right = (trainer.method.predict(view).argmax(dim=1).numpy() == clean).mean()

    found = trainer.method.transition_matrix.numpy()
    assert np.abs(found - truth).sum() < 0.6 * np.abs(np.eye(10) - truth).sum()
    assert right > 0.85
