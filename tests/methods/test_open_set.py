"""Open-set iterative learning: the pairs and their loss by hand, rounds of detection, and what outliers teach."""

from math import erf, exp, log, sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.contract.harness import build, digits
from tests.plain import close
from winnow.functional.local_outliers import class_outlier_factors
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.open_set import (
    LARGEST_FACTOR,
    OpenSet,
    contrastive_loss,
    contrastive_losses,
    pairs,
    squared_distances,
    weighted_cross_entropy,
)
from winnow.models import ModelSpec
from winnow.survey import Survey

TIGHT = {"rtol": 0.0, "atol": 1e-12}
MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)
FLOAT32 = 2e-6


def points(rows=8, dim=3, seed=0):
    return torch.randn(rows, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient(loss, x):
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(x).sum(), x)
    return found


# Pairs and their loss

LABELS = torch.tensor([0, 0, 1, 0, 1, 1, 2])
OUTLIERS = torch.tensor([False, True, False, False, True, False, True])


def test_each_pair_stands_once_and_nothing_is_its_own_partner():
    similar, apart_within, apart_across = (kind.nonzero().tolist() for kind in pairs(LABELS, OUTLIERS))

    assert similar == [[0, 3], [2, 5]]
    assert apart_within == [[0, 1], [1, 3], [2, 4], [4, 5]]
    assert apart_across == [[0, 2], [0, 5], [2, 3], [3, 5]]


def test_without_outliers_pairs_are_those_of_the_given_labels():
    similar, apart_within, apart_across = pairs(LABELS, torch.zeros(7, dtype=torch.bool))

    assert not apart_within.any()
    assert similar.sum() == 3 + 3
    assert (similar ^ apart_across).sum() == 7 * 6 // 2
    assert not (similar & apart_across).any()


def test_the_loss_is_the_papers_sum_over_pairs_of_three_kinds():
    z, margin = points(7), 1.7

    def distance(a, b):
        return sqrt(sum((x - y) ** 2 for x, y in zip(z[a].tolist(), z[b].tolist(), strict=True)))

    def push(a, b):
        return max(0.0, margin - distance(a, b)) ** 2

    similar = (distance(0, 3) ** 2 + distance(2, 5) ** 2) / 2
    within = (push(0, 1) + push(1, 3) + push(2, 4) + push(4, 5)) / 4
    across = (push(0, 2) + push(0, 5) + push(2, 3) + push(3, 5)) / 4

    found = contrastive_loss(z, LABELS, OUTLIERS, margin).item()

    assert found == pytest.approx((similar + within + across) / 3, abs=1e-12)
    assert min(within, across) > 0
    # A kind without pairs is left out, it counts as no zero.
    no_outliers = torch.zeros(2, dtype=torch.bool)
    alone = contrastive_loss(z[[0, 3]], torch.tensor([0, 0]), no_outliers, margin).item()
    assert alone == pytest.approx(distance(0, 3) ** 2, abs=1e-12)


def test_without_any_pair_there_is_neither_loss_nor_gradient():
    z, one_label = points(3), torch.zeros(3, dtype=torch.int64)

    def loss(z):
        return contrastive_loss(z, one_label, torch.ones(3, dtype=torch.bool), 1.0)

    assert loss(z).item() == 0
    assert (gradient(loss, z) == 0).all()


def test_identical_similar_pairs_and_dissimilar_ones_beyond_the_margin_are_left_alone():
    def loss(z, similar, margin):
        return contrastive_losses(squared_distances(z)[:1, 1:], similar=similar, margin=margin)

    same = points(1).repeat(2, 1)
    assert loss(same, True, 1.0).item() == 0
    assert (gradient(lambda z: loss(z, True, 1.0), same) == 0).all()
    apart = torch.tensor([[0.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    for margin in (1.0, 0.7):
        assert loss(apart, False, margin).item() == pytest.approx(0, abs=1e-30)
        assert gradient(lambda z: loss(z, False, margin), apart).abs().max() < 1e-14  # noqa: B023
    # At a distance of zero the root has no slope to follow: the loss is the greatest, the gradient zero.
    assert loss(same, False, 1.0).item() == pytest.approx(1, abs=1e-3)
    assert (gradient(lambda z: loss(z, False, 1.0), same) == 0).all()


def test_the_loss_is_symmetric_in_its_two_samples():
    z = points(7)
    back = torch.arange(6, -1, -1)

    there = contrastive_loss(z, LABELS, OUTLIERS, 1.5)
    close(contrastive_loss(z[back], LABELS[back], OUTLIERS[back], 1.5), there, **TIGHT)


def test_gradients_agree_with_finite_differences():
    z = points(7)

    def loss(z):
        return contrastive_loss(z, LABELS, OUTLIERS, 1.7)

    numeric = torch.zeros_like(z)
    for place in range(z.numel()):
        move = torch.zeros_like(z)
        move.view(-1)[place] = 1e-6
        numeric.view(-1)[place] = (loss(z + move) - loss(z - move)) / 2e-6
    close(gradient(loss, z), numeric, rtol=1e-6, atol=1e-8)


def test_weighted_cross_entropy_is_the_sum_over_the_batch_and_a_weight_of_zero_teaches_nothing():
    z, y, w = points(3, 4), torch.tensor([2, 0, 3]), torch.tensor([1.0, 0.0, 0.25], dtype=torch.float64)
    rows = z.tolist()
    by_hand = sum(w[b].item() * (log(sum(map(exp, rows[b]))) - rows[b][y[b]]) for b in range(3)) / 3

    assert weighted_cross_entropy(z, y, w).item() == pytest.approx(by_hand, abs=1e-12)
    found = gradient(lambda z: weighted_cross_entropy(z, y, w), z)
    assert (found[1] == 0).all()
    assert found[[0, 2]].abs().max(dim=1).values.min() > 0.01


# Rounds of detection


def problem(noisy_labels, classes=2, memory=None):
    noisy = np.asarray(noisy_labels, dtype=np.int64)
    rows = np.flatnonzero(noisy >= 0)
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("mlp", 2, 1, classes)
    return Problem(names, noisy, rows, rows[:0], spec, 0, memory or Memory(len(noisy)))


def view(features, classes=2):
    features = np.asarray(features, dtype=np.float32)
    return Survey({"features": features, "probs": np.full((len(features), classes), 1 / classes, dtype=np.float32)})


def clouds(seed=0, outliers=4):
    """Two classes of 20 points about a direction of their own; the last ones of each point somewhere else."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 20)
    features = np.eye(6)[labels] + 0.1 * random.normal(size=(40, 6))
    strange = np.arange(40) % 20 >= 20 - outliers
    features[strange] = random.normal(size=(strange.sum(), 6))
    return features, labels, strange


def batch(indices, noisy_labels):
    images = torch.randn(len(indices), 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return Batch(torch.tensor(indices), torch.tensor(noisy_labels), (images,))


def test_after_one_round_the_cumulative_score_is_the_single_one():
    features, labels, strange = clouds()
    method = OpenSet(problem(labels), outlier_quantile=0.2)

    method.detect(view(features))

    factors = class_outlier_factors(features.astype(np.float32), labels, share=0.4)
    assert method.scores.values == pytest.approx(1 / factors, rel=FLOAT32)
    outliers, weights = method.judged(torch.arange(40), torch.from_numpy(labels))
    assert outliers.numpy().tolist() == strange.tolist()
    assert weights.numpy() == pytest.approx(np.where(strange, 1 / factors, 1), rel=FLOAT32)
    assert method.log_values() == pytest.approx(
        {"outliers": 0.2, "outlier_weight": (1 / factors[strange]).mean()}, rel=FLOAT32
    )


@pytest.mark.parametrize("score", ["reciprocal", "erf"])
def test_the_order_of_rounds_does_not_matter(score):
    features, labels, _ = clouds()
    views = [view(clouds(seed)[0]) for seed in (1, 2)] + [view(features)]
    there, back = (OpenSet(problem(labels), score=score) for _ in range(2))
    for seen in views:
        there.detect(seen)
    for seen in reversed(views):
        back.detect(seen)

    assert there.scores.values == pytest.approx(back.scores.values, rel=FLOAT32, abs=FLOAT32)
    each = [class_outlier_factors(seen.features, labels, share=0.4) for seen in views]
    if score == "reciprocal":
        assert there.scores.values == pytest.approx(sum(1 / f for f in each) / 3, rel=FLOAT32)
    assert there.rounds == 3


def test_the_erf_form_is_the_probability_of_the_mean_factor_in_its_class():
    features, labels, _ = clouds()
    method = OpenSet(problem(labels), score="erf")
    views = [view(features), view(clouds(1)[0])]
    for seen in views:
        method.detect(seen)

    mean = sum(class_outlier_factors(seen.features, labels, share=0.4) for seen in views) / 2
    own = mean[:20]
    by_hand = [max(0.0, erf((m - own.mean()) / (sqrt(2) * own.std()))) for m in own]
    assert max(by_hand) > 0.5
    assert 1 - method.scores.values[:20] == pytest.approx(by_hand, abs=1e-5)
    assert method.beliefs(views[0]).outlier_score[:20] == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("score", ["reciprocal", "erf"])
def test_identical_points_are_inliers_and_one_beside_copies_gives_finite_numbers(score):
    method = OpenSet(problem(np.zeros(50), classes=2), score=score)
    copies = np.tile([1.0, 2.0, 3.0], (50, 1))
    method.detect(view(copies))
    assert method.scores.values.tolist() == [1.0] * 50
    assert not method.judged(torch.arange(50), torch.zeros(50, dtype=torch.int64))[0].any()

    copies[7] = [3.0, -1.0, 0.0]
    method.detect(view(copies))
    method.detect(view(copies))

    assert np.isfinite(method.scores.values).all()
    assert np.isfinite(method.cumulated.values).all()
    assert method.cumulated.values.max() <= 3 * LARGEST_FACTOR
    outliers, weights = method.judged(torch.arange(50), torch.zeros(50, dtype=torch.int64))
    assert outliers.nonzero().tolist() == [[7]]
    # One round of three called it an inlier.
    assert weights[7].item() == pytest.approx(1 / 3 if score == "reciprocal" else 0, abs=1e-5)


def test_of_a_class_with_fewer_images_than_neighbours_all_others_are_neighbours():
    random = np.random.default_rng(0)
    # Eleven of class 0, three of class 1, two of class 2, one of class 3, none of class 4, two without a label.
    labels = np.repeat([0, 1, 2, 3, -1], [11, 3, 2, 1, 2])
    features = random.normal(size=(19, 5)).astype(np.float32)
    method = OpenSet(problem(labels, classes=5), neighbour_share=1.0)
    method.detect(view(features, classes=5))

    scores = method.scores.values
    assert np.isfinite(scores).all()
    assert (scores > 0).all()
    assert (scores[labels != 0][3:] == 1).all()
    # With all others as neighbours, by hand.
    unit = features[:11] / np.linalg.norm(features[:11], axis=1, keepdims=True)
    apart = 1 - unit.astype(np.float64) @ unit.T
    others = ~np.eye(11, dtype=bool)
    reach = np.maximum(apart.max(axis=1)[None, :], apart)
    density = 1 / np.array([reach[i, others[i]].mean() for i in range(11)])
    by_hand = [density[others[i]].mean() / density[i] for i in range(11)]
    assert 1 / scores[:11] == pytest.approx(by_hand, rel=1e-4)
    found = method.beliefs(view(features, classes=5))
    assert np.isnan(found.outlier_score).tolist() == (labels < 0).tolist()
    assert np.isnan(method.columns(view(features, classes=5))["weight"]).tolist() == (labels < 0).tolist()


def test_a_sample_as_large_as_the_class_gives_the_exact_factors_and_a_smaller_one_much_the_same():
    features, labels, strange = clouds(outliers=2)
    exact, sampled = (OpenSet(problem(labels), reference_size=size) for size in (20, 12))
    for method in (exact, sampled):
        method.detect(view(features))

    factors = class_outlier_factors(features.astype(np.float32), labels, share=0.4, reference_size=10**6)
    assert exact.scores.values == pytest.approx(1 / factors, rel=FLOAT32)
    assert sampled.scores.values[strange].max() < np.quantile(sampled.scores.values, 0.2)


def test_no_outliers_are_taken_at_a_quantile_of_zero():
    features, labels, _ = clouds()
    method = OpenSet(problem(labels), outlier_quantile=0.0)
    method.detect(view(features))

    outliers, weights = method.judged(torch.arange(40), torch.from_numpy(labels))

    assert not outliers.any()
    assert (weights == 1).all()
    assert method.log_values() == {"outliers": 0.0, "outlier_weight": 1.0}


# The method


@pytest.mark.parametrize("normalised", [True, False])
def test_outliers_are_pushed_away_and_teach_less(normalised):
    features, labels, strange = clouds()
    method = OpenSet(problem(labels), outlier_quantile=0.2, contrastive_weight=0.7, margin=1.3, normalised=normalised)
    indices = [0, 1, 17, 18, 20, 38]
    seen = batch(indices, labels[indices].tolist())

    def expected(outliers, weights):
        z = method.classifier.features(seen.images)
        logits = method.classifier.head(z)
        z = z / z.norm(dim=1, keepdim=True) if normalised else z
        losses = F.cross_entropy(logits, seen.noisy_labels, reduction="none")
        return (weights * losses).sum() / 6, 0.7 * contrastive_loss(z, seen.noisy_labels, outliers, 1.3)

    before = method.loss(seen, MOMENT)
    for found, value in zip(before.values(), expected(torch.zeros(6, dtype=torch.bool), torch.ones(6)), strict=True):
        close(found, value)
    method.detect(view(features))
    after = method.loss(seen, MOMENT)
    factors = class_outlier_factors(features.astype(np.float32), labels, share=0.4)[indices]
    weights = torch.from_numpy(np.where(strange[indices], 1 / factors, 1)).float()
    by_hand = expected(torch.from_numpy(strange[indices]), weights)
    first_layer = next(method.classifier.parameters())
    for found, value in zip(after.values(), by_hand, strict=True):
        close(found, value)
        slopes = [torch.autograd.grad(term, first_layer, retain_graph=True)[0] for term in (found, value)]
        close(*slopes)
        assert slopes[1].abs().max() > 1e-3
    assert list(after) == ["cross_entropy", "contrastive"]
    assert after["cross_entropy"] < before["cross_entropy"]
    assert after["contrastive"] != before["contrastive"]


def test_without_weights_and_pairs_it_trains_like_cross_entropy_bit_for_bit(tmp_path):
    from winnow.methods.cross_entropy import CrossEntropy

    images, labels = digits()
    kwargs = {"images": images, "labels": labels, "epochs": 4}
    plain = build(CrossEntropy, tmp_path / "plain", **kwargs)
    same = build(OpenSet, tmp_path / "same", options={"outlier_quantile": 0.0, "contrastive_weight": 0.0}, **kwargs)
    weighted = build(OpenSet, tmp_path / "weighted", options={"contrastive_weight": 0.0}, **kwargs)
    for trainer in (plain, same, weighted):
        trainer.run()

    def weights(trainer):
        return trainer.method.classifier.state_dict()

    assert same.method.rounds == 1
    assert all(torch.equal(value, weights(same)[name]) for name, value in weights(plain).items())
    assert not all(torch.equal(value, weights(weighted)[name]) for name, value in weights(plain).items())


@pytest.mark.parametrize(("epochs", "lengths"), [(105, [5, 100]), (20, [5, 15]), (6, [3, 3]), (2, [1, 1]), (1, [1, 0])])
def test_the_warm_up_is_at_most_half_of_the_run(epochs, lengths):
    warm, iterate = OpenSet(problem([0, 1]), every=7, views="plain").plan(epochs)

    assert [warm.epochs, iterate.epochs] == lengths
    assert warm.revise is None
    assert iterate.revise_every == 7
    assert warm.draws["train"].views == iterate.draws["train"].views == ("plain",)


def test_beliefs_follow_the_prediction_and_the_score():
    features, labels, strange = clouds()
    method = OpenSet(problem(labels))
    method.detect(view(features))
    probs = np.tile([0.9, 0.1], (40, 1)).astype(np.float32)

    beliefs = method.beliefs(Survey({"features": view(features).features, "probs": probs}))

    inverse = method.scores.values.astype(np.float64)
    given = np.where(labels == 0, 0.9, 0.1)
    assert beliefs.label_quality == pytest.approx(given * np.minimum(inverse, 1), rel=1e-6)
    assert beliefs.outlier_score == pytest.approx(1 / (1 + inverse), rel=1e-6)
    assert beliefs.outlier_score[strange].min() > np.quantile(beliefs.outlier_score[~strange], 0.9)
    assert set(beliefs.suggested_label) == {0}
    # Before any round there is no opinion: all are alike.
    assert set(OpenSet(problem(labels)).beliefs(view(features)).outlier_score) == {0.5}


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("neighbour_share", 0.0, r"neighbour_share must lie in \(0, 1\], got 0.0"),
        ("neighbour_share", 1.1, r"neighbour_share must lie in \(0, 1\], got 1.1"),
        ("outlier_quantile", 1.0, r"outlier_quantile must lie in \[0, 1\), got 1.0"),
        ("score", "lof", "score must be reciprocal or erf, got 'lof'"),
        ("contrastive_weight", -1.0, "contrastive_weight must be at least 0 and finite, got -1.0"),
        ("margin", 0.0, "margin must be above 0 and finite, got 0.0"),
        ("warmup_epochs", 0, "warmup_epochs must be at least 1, got 0"),
        ("every", 0, "every must be at least 1, got 0"),
        ("views", "strong", "views must be plain or weak, got 'strong'"),
        ("reference_size", 2, "reference_size must be at least 3, got 2"),
    ],
)
def test_options_outside_their_range_are_refused(option, value, allowed):
    with pytest.raises(ValueError, match=allowed):
        OpenSet(problem([0, 1]), **{option: value})
