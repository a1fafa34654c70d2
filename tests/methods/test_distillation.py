"""Distillation: what the method does with its teachers, see `test_distillation_losses.py`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.contract.harness import Script, build, digits
from tests.plain import close, one_hot, softmax
from winnow.data.open import open_source
from winnow.errors import InputError, UsageError
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Need, Problem
from winnow.methods.distillation import FOLDS, STORED_CLASSES, Distillation, optimal_given_weight
from winnow.models import ModelSpec
from winnow.survey.passes import survey
from winnow.train.fit import Settings, fit

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)
CHECKED = np.arange(0, 40, 2)


def problem(labels=None, classes=5, verified=CHECKED, model="mlp", size=2, num=40):
    labels = np.arange(num, dtype=np.int64) % classes if labels is None else labels
    rows = np.arange(len(labels))
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec(model, size, 1, classes)
    return Problem(names, labels, rows, rows[:0], spec, 0, Memory(len(labels)), verified)


def batch(method, indices, size=2, seed=0):
    images = torch.randn(len(indices), 1, size, size, generator=torch.Generator().manual_seed(seed))
    labels = torch.from_numpy(method.problem.noisy_labels[indices])
    return Batch(torch.tensor(indices), labels, (images,))


def value(method, seen):
    return sum(method.loss(seen, MOMENT).values())


def trained(method_options, folder, **kwargs):
    trainer = build(Distillation, folder, options={"teacher_steps": 30, **method_options}, **kwargs)
    trainer.run()
    return trainer


# The target


def by_hand(method, seen, w_given):
    """Cross-entropy to the mixture, one weight a sample."""
    s = softmax(method.teacher(seen.images).detach().double() / method.used_temperature.item())
    w = torch.tensor(w_given, dtype=torch.float64)[:, None]
    targets = w * one_hot(seen.noisy_labels) + (1 - w) * s
    return -(targets * softmax(method.classifier(seen.images).double()).log()).sum(dim=1).mean().item()


def test_the_loss_is_the_papers_and_a_verified_label_stands_alone():
    method = Distillation(problem(), w_given=0.3, temperature=2.0)
    seen = batch(method, [1, 2, 3, 5])  # 2 is verified

    assert value(method, seen).item() == pytest.approx(by_hand(method, seen, [0.3, 1.0, 0.3, 0.3]), rel=1e-5)


def test_a_class_without_verified_images_is_learnt_from_its_labels():
    method = Distillation(problem(verified=np.array([0, 2, 4, 10, 12, 14])), w_given=0.3, temperature=1.0)
    seen = batch(method, [1, 3, 5, 7])  # classes 1, 3, 0, 2: verified are 0, 2, 4

    assert method.taught.tolist() == [True, False, True, False, True]
    assert value(method, seen).item() == pytest.approx(by_hand(method, seen, [1.0, 1.0, 0.3, 0.3]), rel=1e-5)


def test_with_all_weight_on_labels_it_is_cross_entropy_and_no_teacher_is_trained():
    method = Distillation(problem(), w_given=1.0)
    seen = batch(method, [1, 2, 3])
    expected = -softmax(method.classifier(seen.images).double()).log()[range(3), seen.noisy_labels].mean()

    assert method.teacher is None
    assert [phase.name for phase in method.plan(5)] == ["student"]
    assert value(method, seen).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_belief_is_spread_over_siblings(tmp_path):
    path = tmp_path / "graph.csv"
    path.write_text("class,class\nclass 0,class 3\n")
    method = Distillation(problem(), w_given=0.0, temperature=1.0, graph=str(path), beta=0.2)
    plain = Distillation(problem(), w_given=0.0, temperature=1.0)
    images = batch(method, [1, 3]).images
    s = plain.opinion(images)
    spread = s.clone()
    spread[:, 0], spread[:, 3] = 0.8 * s[:, 0] + 0.2 * s[:, 3], 0.8 * s[:, 3] + 0.2 * s[:, 0]

    close(method.opinion(images), spread)


def test_no_gradient_reaches_the_teacher_and_nothing_of_it_changes():
    method = Distillation(problem(model="convnet", size=16), w_given=0.3, temperature=1.0)
    method.train()
    before = {name: tensor.clone() for name, tensor in method.teacher.state_dict().items()}
    assert any("running" in name for name in before)

    value(method, batch(method, [1, 3, 5, 7], size=16)).backward()

    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.teacher.state_dict().items())
    assert any(parameter.grad is not None for parameter in method.classifier.parameters())


def test_beliefs_stay_in_float32_under_autocast():
    method = Distillation(problem(), w_given=0.3, temperature=1.0, graph="visual")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        s = method.opinion(batch(method, [1, 3]).images)

    assert s.dtype == torch.float32
    close(s.sum(dim=1), torch.ones(2))


# Several classes an image


def cells(num=40, classes=5):
    labels = (np.random.default_rng(0).random((num, classes)) < 0.5).astype(np.int8)
    labels[1, 2] = -1
    labels[CHECKED, 4] = 1
    return labels


def test_with_several_classes_each_cell_is_mixed_and_unknown_ones_have_no_part():
    method = Distillation(problem(cells()), w_given=0.3, temperature=2.0)
    seen = batch(method, [1, 2, 3])
    z, zt = method.classifier(seen.images).double(), method.teacher(seen.images).double()
    y, s = seen.noisy_labels.double(), (zt / 2).sigmoid()
    w = torch.full((3, 5), 0.3, dtype=torch.float64)
    w[1] = 1  # verified
    w[:, 4] = 1  # present in every verified image: what its absence looks like, nobody has shown
    t = w * y + (1 - w) * s
    loss = -(t * z.sigmoid().log() + (1 - t) * (1 - z.sigmoid()).log())
    expected = loss[seen.noisy_labels >= 0].mean() * 5

    assert value(method, seen).item() == pytest.approx(expected.item(), rel=1e-5)


def test_with_several_classes_temperature_and_weight_are_estimated(tmp_path):
    trainer = trained({"graph": "visual"}, tmp_path, several=True)
    found = trainer.method.log_values()

    assert 0 <= found["w_given"] <= 1
    assert found["temperature"] != 1
    assert found["teacher_risk"] > 0
    assert (trainer.method.spreading.sum(dim=0) - 1).abs().max() < 1e-6
    assert (trainer.method.spreading.diagonal() < 1).any()


# Training


def test_the_plan_trains_a_teacher_for_each_fold_only_where_something_is_estimated():
    def names(**options):
        return [phase.name for phase in Distillation(problem(), **options).plan(5)]

    folds = [f"cross-fit {fold + 1}" for fold in range(FOLDS)]
    assert names() == names(w_given=0.3) == names(temperature=1.0) == [*folds, "teacher", "student"]
    assert names(w_given=0.3, temperature=1.0, graph="visual") == [*folds, "teacher", "student"]
    assert names(w_given=0.3, temperature=1.0) == ["teacher", "student"]
    assert [phase.epochs for phase in Distillation(problem()).plan(5)] == [0, 0, 0, 0, 5]


def test_each_fold_is_judged_by_a_teacher_that_did_not_learn_from_it():
    method = Distillation(problem())
    *folds, teacher, _ = method.plan(5)
    held_out = [set(phase.draws["held out"].samples()) for phase in folds]

    assert sorted(row for rows in held_out for row in rows) == CHECKED.tolist()
    for phase, rows in zip(folds, held_out, strict=True):
        assert set(phase.draws["verified"].samples()) == set(CHECKED) - rows
    assert set(teacher.draws["verified"].samples()) == set(CHECKED)


def test_held_out_images_are_kept_from_the_teacher():
    given = problem()
    rows = np.arange(40)
    given = Problem(
        given.class_names, given.noisy_labels, rows[10:], rows[:10], given.model, 0, given.memory, given.verified
    )

    assert Distillation(given).verified.tolist() == list(range(10, 40, 2))


def test_out_of_fold_logits_are_those_of_the_folds_own_last_teacher(tmp_path):
    """The rate has fallen to almost zero, so that the last steps hardly move a teacher."""
    script = Script()
    trainer = build(Distillation, tmp_path, script, options={"teacher_steps": 30, "w_given": 0.3})
    asked = {}

    def watch(phase, fraction, images_per_second):
        method = trainer.method
        if phase.startswith("cross-fit"):
            rows = method.folds[int(phase[-1]) - 1]
            method.teacher.eval()
            logits = method.teacher(trainer.views.view("plain", rows, 0, "test")).detach()
            asked[phase] = (
                method.out_of_fold[torch.searchsorted(method.verified, torch.from_numpy(rows))].clone(),
                logits,
            )

    script.step_ended = watch
    trainer.run()

    assert len(asked) == FOLDS
    for kept, logits in asked.values():
        assert kept.abs().max() > 0
        close(kept, logits, rtol=0.2, atol=0.2)


def test_the_temperature_makes_labels_of_held_out_folds_most_likely(tmp_path):
    method = trained({"w_given": 0.3}, tmp_path).method
    labels = torch.from_numpy(method.problem.noisy_labels)[method.verified]

    def likelihood(temperature):
        return softmax(method.out_of_fold.double() / temperature)[range(len(labels)), labels].log().mean().item()

    best = method.used_temperature.item()
    assert best != 1
    assert likelihood(best) > max(likelihood(0.9 * best), likelihood(1.1 * best), likelihood(1.0))


def test_the_weight_follows_the_noise(tmp_path):
    """Half of the labels that nobody checked are wrong, or none: the estimate tells the two apart."""
    images, labels = digits(600)
    noisy = labels.copy()
    rng = np.random.default_rng(0)
    wrong = np.arange(48, 600)[rng.random(552) < 0.5]
    noisy[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    share = len(wrong) / 552
    found = []
    for given in (labels, noisy):
        method = trained(
            {"teacher_steps": 100}, tmp_path / str(len(found)), images=images, labels=given, epochs=1
        ).method
        found.append(method.log_values())
        risks = (found[-1][name] for name in ("label_risk", "teacher_risk", "error_covariance"))
        assert found[-1]["w_given"] == pytest.approx(optimal_given_weight(*risks), abs=1e-5)

    assert found[0]["label_risk"] < 0.3
    assert found[1]["label_risk"] == pytest.approx(2 * share, abs=0.35)
    assert found[0]["w_given"] > found[1]["w_given"] + 0.3


def test_stored_beliefs_are_those_about_plain_views(tmp_path):
    trainer = trained({"stored": True, "w_given": 0.3}, tmp_path)
    method = trainer.method
    seen = survey(lambda images: {"s": method.opinion(images)}, method, trainer.views, 160, trainer.device.autocast)
    s = torch.from_numpy(seen.values["s"])
    method.teacher.load_state_dict(trainer.problem.network("another").state_dict())  # is not asked any more

    found = method.beliefs_of(Batch(torch.arange(160), torch.from_numpy(trainer.problem.noisy_labels), ()))

    close(found.gather(1, s.topk(STORED_CLASSES).indices), s.topk(STORED_CLASSES).values, rtol=1e-3, atol=1e-3)
    close(found.sum(dim=1), torch.ones(160), rtol=0, atol=3e-3)


# A given teacher


def told(folder, probs):
    path = folder / "teacher.npy"
    np.save(path, probs)
    return str(path)


@pytest.mark.parametrize(("temperature", "used"), [(0.0, 1.0), (2.0, 2.0)])
def test_a_given_teachers_probabilities_are_the_beliefs(tmp_path, temperature, used):
    s = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    path = told(tmp_path, s)
    method = Distillation(problem(verified=CHECKED[:0]), w_given=0.3, teacher=path, temperature=temperature)
    (phase,) = method.plan(5)
    phase.begin()
    seen = batch(method, [1, 3, 8])
    powers = torch.from_numpy(s) ** (1 / used)

    close(method.beliefs_of(seen), (powers / powers.sum(dim=1, keepdim=True))[[1, 3, 8]].float(), rtol=0, atol=1e-3)
    assert method.needs == frozenset()
    assert Distillation(problem()).needs == {Need.VERIFIED}
    assert method.teacher is None


def test_a_privileged_teacher_teaches_what_the_labels_hide(tmp_path):
    """Labels are pure chance; a teacher that was told the truth, from whatever it saw, is learnt all the same."""
    images, labels = digits(400)
    given = np.random.default_rng(0).integers(0, 10, 400)
    path = told(tmp_path, 0.9 * np.eye(10)[labels] + 0.01)
    options = {"teacher": path, "w_given": 0.1}

    trainer = trained(options, tmp_path / "run", images=images, labels=given, epochs=12)

    trainer.method.eval()
    predicted = trainer.method.predict(trainer.views.view("plain", np.arange(400), 0, "test")).argmax(dim=1).numpy()
    assert (predicted == labels)[48:].mean() > 0.7


def test_a_given_teacher_of_several_classes_has_a_probability_for_each(tmp_path):
    s = np.random.default_rng(0).random((40, 5))
    method = Distillation(problem(cells()), w_given=0.3, teacher=told(tmp_path, s))
    method.plan(5)[0].begin()

    close(method.beliefs_of(batch(method, [0, 7])), torch.from_numpy(s)[[0, 7]].float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (
            np.full((39, 5), 0.2),
            "a teacher's probabilities must be floats (40, 5), images and classes, got float64 (39, 5)",
        ),
        (np.ones((40, 5), int), "got int64 (40, 5)"),
        (np.where(np.arange(40)[:, None] == 7, 0.3, np.full((40, 5), 0.2)), "row 7 holds no class probabilities"),
        (np.where(np.arange(40)[:, None] == 3, np.nan, np.full((40, 5), 0.2)), "row 3 holds no class probabilities"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, probs, message):
    with pytest.raises(InputError) as error:
        Distillation(problem(), w_given=0.3, teacher=told(tmp_path, probs))
    assert message in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"1,2,3\n"])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "teacher.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"teacher\.npy: no \.npy file of a teacher's probabilities"):
        Distillation(problem(), w_given=0.3, teacher=str(path))


# Options


def test_too_few_verified_images_are_told():
    with pytest.raises(UsageError) as error:
        Distillation(problem(verified=CHECKED[:5])).plan(5)
    assert str(error.value) == "--method distillation needs at least 6 verified images to train on, got 5"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"w_given": -0.5}, "w_given must lie in [0, 1], or be -1 to estimate it, got -0.5"),
        ({"w_given": 1.1}, "w_given must lie in [0, 1], or be -1 to estimate it, got 1.1"),
        ({"w_given": float("nan")}, "w_given must lie in [0, 1], or be -1 to estimate it, got nan"),
        ({"beta": -0.1}, "beta must lie in [0, 1], got -0.1"),
        ({"beta": 1.1}, "beta must lie in [0, 1], got 1.1"),
        ({"temperature": -1.0}, "temperature must be above 0 and finite, or 0 to calibrate it, got -1.0"),
        ({"temperature": float("inf")}, "temperature must be above 0 and finite, or 0 to calibrate it, got inf"),
        ({"teacher_steps": 0}, "teacher_steps must be at least 1, got 0"),
        ({"teacher_views": "plain"}, "teacher_views must be weak or strong, got 'plain'"),
        ({"graph": "visal"}, "graph must be none, visual, cifar100 or the path of a class graph, got 'visal'"),
        ({"graph": "cifar100"}, "graph=cifar100 is for 100 classes, these are 5"),
        ({"teacher": "x.npy"}, "w_given must be told where the teacher is given"),
        ({"teacher": "x.npy", "w_given": 0.3, "graph": "visual"}, "graph=visual needs a teacher that is trained here"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Distillation(problem(), **options)
    assert message in str(error.value)


def test_the_superclasses_of_cifar100_are_a_graph():
    labels = np.arange(200, dtype=np.int64) % 100
    matrix = Distillation(problem(labels, classes=100), graph="cifar100", beta=0.2).spreading

    # Beaver, dolphin, otter, seal and whale.
    close(matrix[[30, 55, 72, 95], 4], torch.full((4,), 0.05))
    assert matrix[4, 4] == pytest.approx(0.8)


def test_a_given_teacher_spares_the_verified_labels(tmp_path):
    source = open_source("digits", limit=60)
    np.save(tmp_path / "teacher.npy", np.full((60, 10), 0.1))
    settings = Settings(method="distillation", epochs=1)
    with pytest.raises(UsageError, match="needs verified labels; digits has none"):
        fit(source, settings, tmp_path / "refused")

    options = {"teacher": str(tmp_path / "teacher.npy"), "w_given": 0.5}
    run = fit(source, replace(settings, hyperparameters=options), tmp_path / "run")

    assert run.summary["verified"] == 0
