"""Deep self-learning: densities and separations by their definitions, prototypes, corrections and the loss."""

from math import exp, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.contract.harness import build
from tests.plain import close, one_hot
from winnow.labels.memory import Memory
from winnow.methods import self_learning as module
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.cross_entropy import CrossEntropy
from winnow.methods.self_learning import (
    SelfLearning,
    chosen_prototypes,
    cosine_similarities,
    densities,
    mixed_label_losses,
    nearest_classes,
    separations,
)
from winnow.models import ModelSpec
from winnow.survey import Survey

TIGHT = {"rtol": 0.0, "atol": 1e-12}
NOW = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)


def points(count=20, dim=5, seed=0):
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient(loss, z):
    z = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(z), z)
    return found


# Densities and separations


def test_densities_and_separations_are_those_of_brute_force():
    features, m = points(), 20
    rows = features.tolist()
    size = [sum(v * v for v in row) ** 0.5 for row in rows]
    products = [[sum(a * b for a, b in zip(one, two, strict=True)) for two in rows] for one in rows]
    s = [[products[i][j] / size[i] / size[j] for j in range(m)] for i in range(m)]
    pairs = sorted(s[i][j] for i in range(m) for j in range(i))
    threshold = pairs[76 - 1]  # 40 % of 190 pairs
    rho = [
        sum(0 if abs(s[i][j] - threshold) < 1e-9 else 1 if s[i][j] > threshold else -1 for j in range(m))
        for i in range(m)
    ]
    eta = []
    for i in range(m):
        denser = [j for j in range(m) if rho[j] > rho[i] or (rho[j] == rho[i] and j < i)]
        eta.append(max(s[i][j] for j in denser) if denser else min(s[i]))

    similarities = cosine_similarities(features)
    density = densities(similarities, 0.4)

    close(similarities, torch.tensor(s, dtype=torch.float64), rtol=0, atol=1e-11)
    assert density.tolist() == rho
    close(separations(similarities, density), torch.tensor(eta, dtype=torch.float64), rtol=0, atol=1e-11)


def test_only_the_peak_has_the_lowest_similarity_and_ties_are_compared_with_the_first():
    similarities = torch.tensor(
        [[1.0, 0.9, 0.1, 0.3], [0.9, 1.0, 0.2, 0.4], [0.1, 0.2, 1.0, 0.5], [0.3, 0.4, 0.5, 1.0]]
    )

    distinct = separations(similarities, torch.tensor([3, 2, 4, 1]))
    tied = separations(similarities, torch.tensor([4, 4, 1, 1]))

    close(distinct, torch.tensor([0.1, 0.9, 0.1, 0.5]))
    close(tied, torch.tensor([0.1, 0.9, 0.2, 0.5]))


def test_densities_lie_between_their_bounds_and_see_no_scale():
    similarities = cosine_similarities(points(count=40))
    density = densities(similarities, 0.4)

    assert density.min() >= -39
    assert density.max() <= 40
    for scale in (1e-6, 0.3, 7.0, 1e8):
        assert densities(cosine_similarities(points(count=40) * scale), 0.4).equal(density)


@pytest.mark.parametrize("rank", [0.01, 0.4, 0.99])
def test_the_rank_is_the_share_of_pairs_below(rank):
    density = densities(cosine_similarities(points(count=40)), rank)

    # Of the 780 pairs one is the threshold itself; each counts for both of its images, and each image for itself.
    below = round(rank * 780) - 1
    assert density.sum() == 40 + 2 * (780 - 1 - 2 * below)


def test_a_mixed_order_mixes_densities_and_separations():
    features, order = points(count=30), torch.randperm(30, generator=torch.Generator().manual_seed(1))
    density = densities(cosine_similarities(features), 0.4)
    # Ties go to the first, so only images of a density of their own keep their separation in any order.
    alone = torch.bincount(density + 30)[density + 30] == 1
    separation = separations(cosine_similarities(features), density)

    mixed = cosine_similarities(features[order])
    density_mixed = densities(mixed, 0.4)

    assert density_mixed.equal(density[order])
    assert 5 < alone.sum() < 30
    close(separations(mixed, density_mixed)[alone[order]], separation[order][alone[order]], **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_images_have_density_0_and_no_nan(dtype):
    similarities = cosine_similarities(torch.full((37, 3), 0.1, dtype=dtype))
    density = densities(similarities, 0.4)
    separation = separations(similarities, density)

    assert similarities.eq(1).all()
    assert density.eq(0).all()
    assert separation.eq(1).all()
    assert chosen_prototypes(density, separation, 8).tolist() == list(range(8))


def test_one_image_and_images_without_features_are_no_trouble():
    assert densities(cosine_similarities(points(count=1)), 0.4).tolist() == [0]
    assert separations(torch.ones(1, 1), torch.tensor([0])).tolist() == [1]
    assert cosine_similarities(torch.zeros(3, 2)).eq(0).all()


# Prototypes


def blobs():
    """Twelve images around one direction, five around another."""
    directions = torch.tensor([[5.0, 0.0, 1.0]] * 12 + [[0.0, 5.0, 1.0]] * 5, dtype=torch.float64)
    return directions + 0.3 * points(count=17, dim=3)


def test_two_prototypes_of_two_modes_stand_in_one_each():
    similarities = cosine_similarities(blobs())
    density = densities(similarities, 0.4)
    assert (density == density.max()).sum() == 1

    peak = chosen_prototypes(density, separations(similarities, density), 2)
    nearest = chosen_prototypes(density, separations(similarities, density), 2, "eta_desc")

    assert peak[0] == density.argmax()
    assert sorted((row >= 12).item() for row in peak) == [False, True]
    assert separations(similarities, density)[nearest].min() > 0.95


def test_the_densest_without_near_copies_come_first_and_then_the_least_near_copies():
    density = torch.tensor([5, 9, 7, 7, 3, 8])
    separation = torch.tensor([0.1, 0.94, 0.5, 0.6, 0.99, 0.96])

    assert chosen_prototypes(density, separation, 3).tolist() == [1, 2, 3]
    assert chosen_prototypes(density, separation, 5).tolist() == [1, 2, 3, 0, 5]
    assert chosen_prototypes(density, separation, 9).tolist() == [1, 2, 3, 0, 5, 4]
    assert chosen_prototypes(density, separation, 3, "eta_desc").tolist() == [4, 5, 1]


# Corrections


def test_the_corrected_label_is_the_class_of_the_highest_mean_cosine():
    features, prototypes = points(count=50), points(count=12, seed=1).view(3, 4, 5)
    units = F.normalize(prototypes, dim=2)
    expected = []
    for x in features:
        sigma = [sum(float(F.cosine_similarity(x, v, dim=0)) for v in of_class) / 4 for of_class in prototypes]
        expected.append(sigma.index(max(sigma)))
        mean = units.mean(dim=1) @ F.normalize(x, dim=0)
        assert mean.tolist() == pytest.approx(sigma, abs=1e-12)

    found = nearest_classes(features, units.mean(dim=1), torch.full((50,), -1))

    assert set(expected) == {0, 1, 2}
    assert found.tolist() == expected


def test_where_the_given_class_is_as_similar_as_any_it_stays():
    means = torch.tensor([[1.0, 0.0], [1.0, 0.0], [torch.nan, torch.nan], [0.0, 1.0]])
    features = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, -1.0]])
    labels = torch.tensor([1, 0, 3, 2, 2, -1])

    assert nearest_classes(features, means, labels).tolist() == [1, 0, 3, 3, 0, 0]


# The loss


def test_the_loss_is_the_papers_mixture():
    z, y, corrected, alpha = [2.0, 0.0, -1.0], 1, 0, 0.3
    p = [exp(v) / sum(map(exp, z)) for v in z]

    parts = mixed_label_losses(
        torch.tensor([z], dtype=torch.float64), torch.tensor([y]), torch.tensor([corrected]), alpha
    )

    assert parts[0].item() == pytest.approx(-0.7 * log(p[1]), abs=1e-12)
    assert parts[1].item() == pytest.approx(-0.3 * log(p[0]), abs=1e-12)


def test_the_gradient_agrees_with_finite_differences_and_with_a_soft_label():
    z, y, corrected = points(count=4), torch.tensor([0, 3, 1, 4]), torch.tensor([2, 3, 0, 1])
    found = gradient(lambda z: sum(mixed_label_losses(z, y, corrected, 0.3)), z)
    numeric = torch.zeros_like(z)
    for place in range(z.numel()):
        move = torch.zeros_like(z)
        move.view(-1)[place] = 1e-6
        up, down = (sum(mixed_label_losses(z + way * move, y, corrected, 0.3)) for way in (1, -1))
        numeric.view(-1)[place] = (up - down) / 2e-6

    close(found, numeric, rtol=1e-7, atol=1e-9)
    soft = 0.7 * one_hot(y) + 0.3 * one_hot(corrected)
    close(found, (z.softmax(dim=1) - soft) / 4, **TIGHT)


def test_an_unchanged_label_gives_cross_entropy():
    z, y = points(count=30), torch.arange(30) % 5

    close(sum(mixed_label_losses(z, y, y, 0.5)), F.cross_entropy(z, y), **TIGHT)


def test_without_corrected_labels_it_trains_like_cross_entropy_bit_for_bit(tmp_path):
    weights = []
    for method, options in ((SelfLearning, {"alpha": 0.0}), (CrossEntropy, {}), (SelfLearning, {"alpha": 0.5})):
        trainer = build(method, tmp_path / str(len(weights)), epochs=2, options=options)
        trainer.run()
        weights.append(trainer.method.classifier.state_dict())

    ours, plain, mixed = weights
    assert all(torch.equal(ours[name], plain[name]) for name in plain)
    assert not all(torch.equal(mixed[name], plain[name]) for name in plain)


# The method


def problem(noisy_labels, classes=3, held_out=(), verified=()):
    noisy = np.asarray(noisy_labels, dtype=np.int64)
    train = np.setdiff1d(np.flatnonzero(noisy >= 0), held_out)
    spec = ModelSpec("mlp", 2, 1, classes)
    names = tuple(f"class {k}" for k in range(classes))
    held_out, verified = (np.array(rows, dtype=np.int64) for rows in (held_out, verified))
    return Problem(names, noisy, train, held_out, spec, 0, Memory(len(noisy)), verified)


def seen(features):
    features = np.asarray(features, dtype=np.float32)
    return Survey({"features": features, "probs": np.full((len(features), 3), 1 / 3, dtype=np.float32)})


def three_classes(per_class=20, seed=0):
    """(features around three directions, true labels)."""
    truth = np.repeat(np.arange(3), per_class)
    noise = np.random.default_rng(seed).standard_normal((len(truth), 3))
    return (5 * np.eye(3)[truth] + 0.5 * noise).astype(np.float32), truth


def test_wrong_labels_are_corrected_by_the_features():
    features, truth = three_classes()
    noisy = truth.copy()
    noisy[::4] = (noisy[::4] + 1) % 3
    noisy[[2, 30]] = -1  # unlabelled; and one held out
    method = SelfLearning(problem(noisy, held_out=[1]), prototypes=1)

    method.correct_labels(seen(features))

    assert method.corrected_labels.values.tolist() == truth.tolist()
    changed = np.mean(noisy[method.problem.train_rows] != truth[method.problem.train_rows])
    found = method.log_values()
    assert found["changed"] == pytest.approx(changed)
    assert 0.2 < changed < 0.3
    assert found["prototypes"] == 1


def test_a_checked_label_is_not_corrected():
    features, truth = three_classes()
    noisy = truth.copy()
    noisy[[0, 5]] = 1
    method = SelfLearning(problem(noisy, verified=[0]))

    method.correct_labels(seen(features))

    assert method.corrected_labels.values[[0, 5]].tolist() == [1, 0]


def test_a_prototype_among_another_classs_images_is_a_stray():
    features, truth = three_classes(per_class=10)
    noisy = truth.copy()
    noisy[10:13] = 0
    method = SelfLearning(problem(noisy), prototypes=10)

    method.correct_labels(seen(features))

    # All images of a class are its prototypes: 10 of the 13 of class 0, and 7 and 10 of the others.
    rows, _ = method.chosen_rows(features)
    strays = sum(truth[row] != noisy[row] for row in rows)
    found = method.log_values()
    assert strays > 0
    assert found["stray_prototypes"] == pytest.approx(strays / 27)
    assert found["prototypes"] == pytest.approx(9)


def test_neither_unlabelled_nor_held_out_images_are_prototypes():
    features, truth = three_classes(per_class=8)
    noisy = truth.copy()
    noisy[[0, 9]] = -1
    method = SelfLearning(problem(noisy, held_out=[1, 10]))

    rows, _ = method.chosen_rows(features)

    assert sorted(rows) == sorted(set(range(24)) - {0, 1, 9, 10})


def test_nobody_is_corrected_to_an_empty_class_and_one_image_is_a_prototype():
    features, truth = three_classes(per_class=10)
    noisy = np.where(truth == 2, 0, truth)
    noisy[10:19] = 0
    method = SelfLearning(problem(noisy))

    method.correct_labels(seen(features))

    assert 2 not in method.corrected_labels.values
    rows, _ = method.chosen_rows(features)
    assert rows.tolist().count(19) == 1
    assert method.corrected_labels.values[19] == 1


def test_identical_images_keep_their_labels():
    noisy = np.arange(30) % 3
    method = SelfLearning(problem(noisy), prototypes=7)

    method.correct_labels(seen(np.full((30, 4), 0.1)))

    assert method.corrected_labels.values.tolist() == noisy.tolist()
    assert method.log_values() == {
        "changed": 0.0, "prototypes": 7.0, "near_copies": 1.0, "stray_prototypes": 0.0
    }  # fmt: skip


def test_corrections_depend_neither_on_blocks_nor_on_other_classes(monkeypatch):
    features, truth = three_classes(per_class=40)
    noisy = np.random.default_rng(1).integers(0, 3, len(truth))
    method = SelfLearning(problem(noisy), samples=10, prototypes=4)
    rows, _ = method.chosen_rows(features)
    method.correct_labels(seen(features))
    whole = method.corrected_labels.values.copy()

    monkeypatch.setattr(module, "_BLOCK", 7)
    blocks = SelfLearning(problem(noisy), samples=10, prototypes=4)
    blocks.correct_labels(seen(features))
    fewer = SelfLearning(problem(np.where(noisy == 0, -1, noisy)), samples=10, prototypes=4)

    assert np.array_equal(blocks.corrected_labels.values, whole)
    assert np.array_equal(fewer.chosen_rows(features)[0], rows[4:])


def test_every_correction_draws_another_sample():
    features, truth = three_classes(per_class=40)
    method = SelfLearning(problem(truth), samples=10)
    first, _ = method.chosen_rows(features)
    assert np.array_equal(method.chosen_rows(features)[0], first)

    method.correct_labels(seen(features))

    assert not np.array_equal(method.chosen_rows(features)[0], first)


def test_labels_are_corrected_before_every_epoch_after_the_warm_up():
    warm, learn = SelfLearning(problem([0, 1, 2]), warmup_epochs=3, correct_every=2, views="plain").plan(10)

    assert (warm.epochs, learn.epochs, learn.revise_every) == (3, 7, 2)
    assert warm.revise is None
    assert [phase.draws["train"].views for phase in (warm, learn)] == [("plain",)] * 2
    assert [phase.epochs for phase in SelfLearning(problem([0, 1, 2]), warmup_epochs=9).plan(4)] == [3, 1]


def test_a_step_learns_from_both_labels():
    method = SelfLearning(problem([0, 1, 2]), alpha=0.25)
    method.corrected_labels.replace(np.array([0, 2, 1]))
    images = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    z = method.classifier(images).detach()

    losses = method.loss(Batch(torch.tensor([1, 0]), torch.tensor([1, 0]), (images,)), NOW)

    p = z.softmax(dim=1)
    assert losses["given"].item() == pytest.approx(-0.75 * (p[0, 1].log() + p[1, 0].log()).item() / 2, rel=1e-6)
    assert losses["corrected"].item() == pytest.approx(-0.25 * (p[0, 2].log() + p[1, 0].log()).item() / 2, rel=1e-6)


def test_a_label_is_doubted_where_it_was_corrected():
    method = SelfLearning(problem([0, 1, 2, -1, 0]))
    probs = np.array([[0.6, 0.3, 0.1]] * 5, dtype=np.float32)
    survey = Survey({"features": np.ones((5, 2), np.float32), "probs": probs})

    before = method.beliefs(survey)
    method.corrected_labels.replace(np.array([0, 2, 2, 1, 1]))
    after = method.beliefs(survey)

    assert before.label_quality[[0, 1, 2, 4]].tolist() == pytest.approx([0.6, 0.3, 0.1, 0.6])
    assert before.suggested_label.tolist() == [0] * 5
    assert after.label_quality[[0, 1, 2, 4]].tolist() == pytest.approx([0.8, 0.15, 0.55, 0.3])
    assert after.suggested_label.tolist() == [0, 2, 2, 1, 1]
    assert after.suggested_probability.tolist() == pytest.approx([0.8, 0.55, 0.55, 0.65, 0.65])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototypes": 0}, "prototypes must be at least 1, got 0"),
        ({"alpha": 1.5}, "alpha must lie in [0, 1], got 1.5"),
        ({"alpha": float("nan")}, "alpha must lie in [0, 1], got nan"),
        ({"samples": 7}, "samples must be at least the number of prototypes, 8, got 7"),
        ({"density_rank": 0.0}, "density_rank must lie in (0, 1), got 0.0"),
        ({"density_rank": 1.0}, "density_rank must lie in (0, 1), got 1.0"),
        ({"prototype_rule": "eta"}, "prototype_rule must be density_peak or eta_desc, got 'eta'"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0, got -1"),
        ({"correct_every": 0}, "correct_every must be at least 1, got 0"),
        ({"views": "strong"}, "views must be plain or weak, got 'strong'"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        SelfLearning(problem([0, 1, 2]), **options)
    assert message in str(error.value)
