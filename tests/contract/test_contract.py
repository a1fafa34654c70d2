"""What every method promises, proven on every entry of the table and on the toy methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.contract.harness import Crash, Script, build, digits, fingerprint, pairs_of_digits
from tests.contract.toys import TOYS, TwoNetworks, UnlabelledPool
from winnow.methods import METHODS
from winnow.methods.base import Batch, Method, Moment
from winnow.train.outcome import beliefs_from_passes
from winnow.train.trainer import Trainer

EVERY = [*METHODS.values(), *TOYS]
VARIANTS: list[tuple[type[Method], dict]] = [
    (METHODS["cross-entropy"], {"views": "strong", "mixup": 1.0, "averaging": True}),
    (METHODS["label-smoothing"], {"rate": -0.2, "warmup_epochs": 1, "prior": "marginals"}),
    (METHODS["bootstrap-sharp"], {"sharpness": 0.0}),
    (METHODS["forward"], {"estimator": "verified", "restart": False}),
    (METHODS["forward"], {"estimator": "anchor"}),
    (METHODS["label-refinery"], {"labels": "static"}),
    (METHODS["noise-layer"], {"parametrisation": "softmax", "penalty": "trace", "layer_rate": 10.0}),
    (METHODS["noise-layer"], {"layer": "estimated", "direction": "top-down"}),
    (METHODS["quality-embedding"], {"additive": "scalar", "quality_dim": 1, "warmup_epochs": 1}),
    (METHODS["distillation"], {"stored": True, "graph": "visual", "teacher_views": "weak"}),
    (METHODS["importance-reweighting"], {"mode": "dynamic"}),
    (METHODS["cleannet"], {"weighting": "hard", "rounds": 2, "references": 3, "warmup_epochs": 1, "views": "plain"}),
    (METHODS["cleannet"], {"similarity": "centroid"}),
    (METHODS["nlnl"], {"stages": "3:0:3:2:2", "complements": 12, "threshold": 0.2, "relabel": "filtered"}),
    (METHODS["self-learning"], {"prototype_rule": "eta_desc", "samples": 9, "correct_every": 2, "warmup_epochs": 2}),
    (METHODS["open-set"], {"every": 1, "score": "erf", "normalised": False, "warmup_epochs": 1, "reference_size": 5}),
    (METHODS["mlnt"], {"rounds": 2, "update": "sequential", "label_sets": 2, "meta_every": 2}),
    (METHODS["mlnt"], {"rounds": 2, "order": "second", "label_sets": 2}),
    (METHODS["mlnt"], {"order": "head"}),
]
CASES = [*((method, {}) for method in EVERY), *VARIANTS]
LONGER = {"nlnl": 39}
"""Epochs for those that a few hundred steps are too short for, by their own account."""
NAMES = [method.name + ("+" if options else "") for method, options in CASES]


def trained(method: type[Method], folder: Path, **kwargs: object) -> Trainer:
    trainer = build(method, folder, **kwargs)  # type: ignore[arg-type]
    trainer.run()
    return trainer


def boundaries(trainer: Trainer) -> list[int]:
    """The first step of each phase, in steps of the run."""
    reference = Script()
    starts, seen = [], None
    trainer.listener = reference
    reference.trainer = trainer
    step_ended = reference.step_ended

    def watch(phase: str, fraction: float, images_per_second: float) -> None:
        nonlocal seen
        step_ended(phase, fraction, images_per_second)
        if phase != seen:
            starts.append(reference.steps)
            seen = phase

    reference.step_ended = watch  # type: ignore[method-assign]
    trainer.run()
    return starts


@pytest.mark.parametrize(("method", "options"), CASES, ids=NAMES)
def test_a_killed_run_resumes_to_the_same_bits_in_every_phase(method, options, tmp_path):
    reference = build(method, tmp_path / "reference", options=options)
    starts = boundaries(reference)
    expected = fingerprint(reference)
    assert len(starts) == sum(1 for phase in reference.plan if phase.epochs or phase.steps)

    for number, start in enumerate(starts):
        # Killed twice in the phase: once past a checkpoint in mid-epoch, once before the phase has saved anything.
        for save_at, die_at in ((start + 1, start + 2), (None, start)):
            folder = tmp_path / f"killed-{number}-{save_at}"
            with pytest.raises(Crash):
                build(method, folder, Script(save_at, die_at), options=options).run()
            torch.rand(7)  # randomness used up elsewhere must not matter
            resumed = build(method, folder, options=options)
            resumed.run(resume=True)
            assert fingerprint(resumed) == expected


@pytest.mark.parametrize(("method", "options"), CASES, ids=NAMES)
def test_predictions_are_distributions_and_the_beliefs_cover_every_image(method, options, tmp_path):
    trainer = trained(method, tmp_path, options=options)
    trainer.method.eval()
    images = trainer.views.view("plain", np.arange(trainer.problem.num_samples), 0, "test")

    probs = trainer.method.predict(images)

    assert torch.allclose(probs.sum(dim=1), torch.ones(len(probs)), atol=1e-5)
    assert (probs >= 0).all()
    survey = trainer.survey()
    beliefs = trainer.method.beliefs(survey) or beliefs_from_passes(
        trainer.passes, survey, trainer.problem.noisy_labels
    )
    labelled = trainer.problem.noisy_labels >= 0
    assert beliefs.label_quality.shape == (trainer.problem.num_samples,)
    assert np.isfinite(beliefs.label_quality[labelled]).all()
    assert beliefs.label_quality[labelled].min() >= 0
    assert beliefs.label_quality[labelled].max() <= 1 + 1e-6
    assert set(np.unique(beliefs.suggested_label)) <= set(range(10))


@pytest.mark.parametrize(("method", "options"), CASES, ids=NAMES)
def test_clean_digits_are_learnt(method, options, tmp_path):
    images, labels = digits(600)
    given = labels.copy()
    given[::10] = -1

    trainer = trained(
        method, tmp_path, images=images, labels=given, epochs=LONGER.get(method.name, 12), options=options
    )

    trainer.method.eval()
    predicted = trainer.method.predict(trainer.views.view("plain", np.arange(600), 0, "test")).argmax(dim=1).numpy()
    assert (predicted == labels).mean() > 0.7


@pytest.mark.parametrize("method", [m for m in EVERY if m is not UnlabelledPool], ids=lambda m: m.name)
@pytest.mark.parametrize("case", ["two classes", "empty class", "all images equal"])
def test_degenerate_collections_give_finite_numbers(method, case, tmp_path):
    classes = 2 if case == "two classes" else 10
    images, labels = digits(120, num_classes=classes)
    if case == "empty class":
        labels[labels == 3] = 4
    if case == "all images equal":
        images[:] = images[0]

    trainer = trained(method, tmp_path, images=images, labels=labels, num_classes=classes, epochs=2)

    for name, value in trainer.method.state_dict().items():
        assert value.isfinite().all(), name
    for rows in trainer.checkpoints.memory._rows.values():
        assert np.isfinite(rows.values).all(), rows.name


@pytest.mark.parametrize("method", EVERY, ids=lambda m: m.name)
def test_the_seed_decides_everything(method, tmp_path):
    first = fingerprint(trained(method, tmp_path / "a", epochs=2))
    again = fingerprint(trained(method, tmp_path / "b", epochs=2))
    other = fingerprint(trained(method, tmp_path / "c", epochs=2, seed=1))

    assert first == again
    assert first != other


def test_a_survey_changes_nothing(tmp_path):
    images, labels = digits()
    # A network with batch normalisation: its running statistics must not move.
    large = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)
    trainer = trained(TwoNetworks, tmp_path, images=large, labels=labels, model="convnet", epochs=1)
    before = fingerprint(trainer)
    random_state = torch.get_rng_state()
    modes = [module.training for module in trainer.method.modules()]

    trainer.survey()

    assert fingerprint(trainer) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in trainer.method.modules()] == modes


SEVERAL = [method for method in METHODS.values() if method.multilabel]


@pytest.mark.parametrize("method", SEVERAL, ids=[method.name for method in SEVERAL])
def test_where_an_image_has_several_classes_a_killed_run_resumes_to_the_same_bits(method, tmp_path):
    reference = build(method, tmp_path / "reference", several=True)
    reference.run()

    with pytest.raises(Crash):
        build(method, tmp_path / "killed", Script(save_at=6, die_at=7), several=True).run()
    resumed = build(method, tmp_path / "killed", several=True)
    resumed.run(resume=True)

    assert fingerprint(resumed) == fingerprint(reference)


@pytest.mark.parametrize("method", SEVERAL, ids=[method.name for method in SEVERAL])
def test_where_an_image_has_several_classes_each_is_believed_by_itself(method, tmp_path):
    trainer = build(method, tmp_path, several=True, epochs=30)
    trainer.run()

    view = trainer.survey()
    labels = trainer.problem.noisy_labels
    beliefs = beliefs_from_passes(trainer.passes, view, labels)
    known = labels >= 0
    # Rows of a softmax would sum to one; two digits stand in each picture.
    assert view.probs[known.any(axis=1)].sum(axis=1).mean() > 1.5
    assert (beliefs.suggested_label == labels)[known].mean() > 0.9
    assert beliefs.label_quality.shape == labels.shape


@pytest.mark.parametrize("method", SEVERAL, ids=[method.name for method in SEVERAL])
def test_an_unknown_class_teaches_nothing(method, tmp_path):
    _, labels = pairs_of_digits()
    trainer = build(method, tmp_path, several=True)
    indices = torch.arange(1, 9)
    view = trainer.views.view("plain", indices.numpy(), 0, "test")

    def gradient_of_class_three(given: np.ndarray) -> float:
        batch = Batch(indices, torch.from_numpy(given[1:9]), (view,))
        trainer.method.zero_grad()
        sum(trainer.method.loss(batch, Moment(100, 3, 3, 0.5, 4)).values()).backward()
        return trainer.method.classifier.head.weight.grad[3].abs().max().item()

    assert gradient_of_class_three(labels) > 0
    labels[:, 3] = -1
    assert gradient_of_class_three(labels) == 0
