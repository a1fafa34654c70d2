"""CleanNet: representatives, judging, classifier and run, see `test_cleannet_parts.py`."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.methods.cleannet_setting import MOMENT, OPTIONS, built, problem
from tests.plain import close, softmax
from winnow.errors import UsageError
from winnow.methods import cleannet
from winnow.methods.base import Batch
from winnow.methods.cleannet import (
    CleanNet,
    log_scaled,
)
from winnow.survey import Survey


@pytest.fixture(autouse=True)
def randomness():
    torch.manual_seed(0)


def surveyed(method, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)
    num = method.problem.num_samples
    features = random.exponential(size=(num, method.classifier.num_features)).astype(dtype)
    return Survey({"features": features, "probs": np.full((num, method.problem.num_classes), 0.2)})


# Representatives


def test_representatives_are_centroids_of_scaled_features_and_few_images_are_repeated():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    method = built(problem(labels, classes=4, verified=[0, 6]))
    survey = surveyed(method)
    survey.features[:6] = 0
    survey.features[[0, 1, 2], 0] = np.e - 1  # two points in class 0

    method.represent(survey)

    found = method.class_references
    assert sorted({round(x, 9) for x in found[0, :, 0].tolist()}) == [0, 1]
    assert (found[0, :, 1:] == 0).all()
    of_second = log_scaled(torch.from_numpy(survey.features[6:9]))
    nearest = torch.cdist(found[1], of_second)
    assert (nearest.min(dim=1).values < 1e-9).all()
    assert (nearest.min(dim=0).values < 1e-9).all()
    close(found[2], log_scaled(torch.from_numpy(survey.features[9:])).expand(4, -1), rtol=1e-10)


def test_held_out_images_represent_no_class():
    method = built(replace(problem(), train_rows=np.arange(30), held_out_rows=np.arange(30, 40)))
    survey = surveyed(method)
    survey.features[30:] = 1e6

    method.represent(survey)

    assert method.class_references.max() < 10


# Judging


def by_centroid(survey, labels, row):
    features = log_scaled(torch.from_numpy(survey.features))
    mean = features[labels >= 0].mean(dim=0)
    q, c = features[row] - mean, features[labels == labels[row]].mean(dim=0) - mean
    return ((q @ c) / (q.norm() * c.norm())).item()


def test_the_centroid_control_sees_image_and_class_from_the_mean_and_has_nothing_to_train():
    method = CleanNet(problem(), similarity="centroid").double()
    survey = surveyed(method)

    method.judge(survey)

    for row in (0, 7, 39):
        expected = by_centroid(survey, method.problem.noisy_labels, row)
        assert method.similarities.values[row] == pytest.approx(expected, rel=1e-5)
    assert [phase.name for phase in method.plan(9)] == ["warm up", "classify"]
    assert not list(method.encoders.parameters())


@pytest.mark.parametrize(("fewest", "transfers"), [(5, False), (4, True)])
def test_a_class_without_verified_images_is_judged_by_others_only_if_those_are_many(monkeypatch, fewest, transfers):
    monkeypatch.setattr(cleannet, "FEWEST_TO_TRANSFER", fewest)
    verified = [row for row in range(0, 40, 2) if row % 5 != 3]
    method = built(problem(verified=verified))
    survey = surveyed(method)
    method.represent(survey)

    method.judge(survey)

    embedded = method.encoders["reference"](method.class_references)
    features = log_scaled(torch.from_numpy(survey.features))
    for row in (1, 3):  # classes 1 and 3; of the latter nothing was verified
        q, c = method.encoders["query"](features[row : row + 1])[0], embedded[row]
        learned = ((q @ c) / (q.norm() * c.norm())).item()
        rival = by_centroid(survey, method.problem.noisy_labels, row)
        expected = learned if row == 1 or transfers else rival
        assert method.similarities.values[row] == pytest.approx(expected, rel=1e-5)
        assert learned != pytest.approx(rival, rel=1e-2)


def test_identical_images_and_empty_classes_are_judged_with_numbers():
    labels = np.arange(40) % 4  # the fifth class has no image
    method = built(problem(labels))
    survey = surveyed(method)
    survey.features[:] = survey.features[0]

    method.represent(survey)
    method.judge(survey)

    assert np.isfinite(method.similarities.values).all()
    assert method.class_references.isfinite().all()


def test_a_mistake_is_never_a_class_of_which_nothing_was_verified():
    method = built(problem(verified=[0, 1, 5, 6]))  # classes 0 and 1

    assert method.exemplified.tolist() == [True, True, False, False, False]


# The classifier


def test_the_classifiers_loss_is_weighted_by_hand_and_verified_images_count_in_full():
    method = CleanNet(problem(), **OPTIONS)
    method.similarities.replace(np.linspace(-1, 1, 40))
    indices = torch.tensor([2, 3, 37, 39])  # 2 is verified, 3 has a negative similarity
    images = torch.randn(4, 1, 2, 2)
    labels = torch.from_numpy(method.problem.noisy_labels)[indices]
    p = softmax(method.classifier(images).detach().double())
    weights = [1.0, 0.0, -1 + 2 * 37 / 39, 1.0]
    expected = -sum(w * log(p[i, labels[i]].item()) for i, w in enumerate(weights)) / 4

    assert method.loss(Batch(indices, labels, (images,)), MOMENT)["relevant"].item() == pytest.approx(
        expected, rel=1e-5
    )


def test_before_images_are_judged_the_loss_is_cross_entropy():
    method = CleanNet(problem(), **OPTIONS)
    images, labels = torch.randn(40, 1, 2, 2), torch.from_numpy(method.problem.noisy_labels)

    found = method.loss(Batch(torch.arange(40), labels, (images,)), MOMENT)["relevant"]

    assert found.item() == F.cross_entropy(method.classifier(images), labels, reduction="none").mean().item()


def test_the_quality_is_one_half_at_the_margin_and_the_column_tells_the_weight():
    labels = np.arange(40) % 5
    labels[39] = -1
    method = CleanNet(problem(labels, verified=[0, 1]), margin=0.2, **OPTIONS)
    similarities = np.zeros(40)
    similarities[:5] = [-1, -1, 0.2, 1, -0.4]
    method.similarities.replace(similarities)
    view = surveyed(method)

    found = method.beliefs(view)

    assert found.label_quality[[0, 2, 3, 4]].tolist() == pytest.approx([0, 0.5, 1, 0.25], abs=1e-6)
    relevance = method.columns(view)["relevance"]
    assert relevance[:5].tolist() == pytest.approx([1, 1, 0.2, 1, 0])
    assert np.isnan(relevance).tolist() == [False] * 39 + [True]
    method.weighting = "hard"
    assert method.columns(view)["relevance"][:6].tolist() == [1, 1, 1, 1, 0, 0]


# The run


def test_the_rounds_share_the_epochs_and_short_runs_have_fewer():
    method = CleanNet(problem(), rounds=3, encoder_steps=7, **OPTIONS)

    def lengths(epochs):
        return [(phase.name, phase.epochs or phase.steps) for phase in method.plan(epochs)]

    rounds = [("verify", 7), ("classify", 3), ("verify", 7), ("classify", 2), ("verify", 7), ("classify", 2)]
    assert lengths(10) == [("warm up", 3), *rounds]
    assert lengths(3) == [("warm up", 1), ("verify", 7), ("classify", 1), ("verify", 7), ("classify", 1)]
    assert lengths(1) == [("warm up", 0), ("verify", 7), ("classify", 1)]


def told_by(given, **options):
    method = CleanNet(given, **OPTIONS, **options)
    warnings = []
    method.warn = warnings.append
    method.plan(4)
    return warnings


def test_few_verified_images_and_classes_judged_by_their_centroid_are_told(monkeypatch):
    labels = np.arange(100) % 4
    of_two = np.flatnonzero(labels < 2)

    assert told_by(problem(labels, classes=5, verified=np.arange(40))) == []  # an empty class needs no judge
    (few,) = told_by(problem(labels, classes=5, verified=np.arange(39)))
    assert few.startswith("cleannet: only 39 verified images of 4 classes")
    (others,) = told_by(problem(labels, classes=5, verified=of_two))
    assert "2 of 4 classes have no verified images" in others
    assert "judged by their centroid" in others
    assert told_by(problem(labels, classes=5, verified=of_two[:2]), similarity="centroid") == []
    monkeypatch.setattr(cleannet, "FEWEST_TO_TRANSFER", 2)
    assert told_by(problem(labels, classes=5, verified=of_two)) == []


def test_identical_images_are_neither_like_their_centroid_nor_unlike_it():
    method = CleanNet(problem(), similarity="centroid")
    survey = surveyed(method, dtype=np.float32)
    survey.features[:] = survey.features[0]

    method.judge(survey)

    assert np.abs(method.similarities.values).max() < 0.01


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_encoders_of_identical_features_do_not_diverge_at_a_rate_far_too_high(scale):
    method = CleanNet(problem(verified=np.arange(40)), width=16, references=2)
    survey = surveyed(method, dtype=np.float32)
    survey.features[:] = scale
    method.represent(survey)
    features = torch.from_numpy(survey.features)
    halves = {
        name: Batch(torch.arange(20), torch.arange(20) % 5, (features[:20],)) for name in ("verified", "unverified")
    }
    batch = Batch(torch.arange(20), torch.arange(20) % 5, (), halves)
    optimizer = torch.optim.SGD(method.encoders.parameters(), lr=2.0, momentum=0.9, nesterov=True)

    for _ in range(100):
        optimizer.zero_grad()
        loss = sum(method.verification_loss(batch, MOMENT).values())
        loss.backward()
        optimizer.step()

    assert loss.isfinite()
    assert all(p.isfinite().all() for p in method.encoders.parameters())


def test_one_verified_class_has_no_counterexamples():
    method = CleanNet(problem(verified=[0, 5]), **OPTIONS)

    with pytest.raises(UsageError, match="verified images of at least 2 classes to train on, got 1"):
        method.plan(5)
    CleanNet(problem(verified=[0, 5]), similarity="centroid").plan(5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"similarity": "euclidean"}, "similarity must be learned or centroid, got 'euclidean'"),
        ({"weighting": "none"}, "weighting must be soft or hard, got 'none'"),
        ({"margin": 1.0}, r"margin must lie in \[0, 1\), got 1.0"),
        ({"margin": -0.1}, r"margin must lie in \[0, 1\), got -0.1"),
        ({"negative_weight": -1.0}, "negative_weight must be at least 0 and finite, got -1.0"),
        ({"reconstruction_weight": float("inf")}, "reconstruction_weight must be at least 0 and finite, got inf"),
        ({"pseudo_weight": -1.0}, "pseudo_weight must be at least 0 and finite, got -1.0"),
        ({"references": 0}, "references must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"encoder_steps": 0}, "encoder_steps must be at least 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"warmup_epochs": 0}, "warmup_epochs must be at least 1, got 0"),
        ({"views": "strong"}, "views must be plain or weak, got 'strong'"),
    ],
)
def test_options_outside_their_range_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        CleanNet(problem(), **options)
