"""CleanNet: losses and weights by hand, what the encoders may not depend on, who is judged by what."""

from __future__ import annotations

from dataclasses import replace
from math import log, log1p, sqrt, tanh

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.plain import close, softmax
from winnow.errors import UsageError
from winnow.labels.memory import Memory
from winnow.methods import cleannet
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.cleannet import (
    CleanNet,
    QueryEncoder,
    ReferenceEncoder,
    drawn_mistakes,
    log_scaled,
    pseudo_losses,
    relevance_weights,
    verification_losses,
    weighted_cross_entropy,
)
from winnow.models import ModelSpec
from winnow.survey import Survey

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)
COSINES = torch.linspace(-1, 1, 41, dtype=torch.float64)
OPTIONS = {"width": 3, "references": 4}


@pytest.fixture(autouse=True)
def randomness():
    torch.manual_seed(0)


def problem(labels=None, classes=5, verified=None, num=40):
    labels = np.arange(num, dtype=np.int64) % classes if labels is None else labels
    rows = np.arange(len(labels))
    verified = rows[::2] if verified is None else np.asarray(verified, dtype=np.int64)
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("shallow-mlp", 2, 1, classes)
    return Problem(names, labels, rows, rows[:0], spec, 0, Memory(len(labels)), verified)


def built(given=None, **options):
    """In float64, with representatives."""
    method = CleanNet(given or problem(), **{**OPTIONS, **options}).double()
    method.class_references.copy_(torch.randn(method.class_references.shape))
    return method


def surveyed(method, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)
    num = method.problem.num_samples
    features = random.exponential(size=(num, method.classifier.num_features)).astype(dtype)
    return Survey({"features": features, "probs": np.full((num, method.problem.num_classes), 0.2)})


def features_of(labels, seed=0, width=8):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(len(labels), width, generator=generator, dtype=torch.float64)
    labels = torch.tensor(labels, dtype=torch.int64)
    return Batch(torch.arange(len(labels)), labels, (features,))


def verifying(method, true=(0, 1, 2), unverified=(3, 4)):
    width = method.classifier.num_features
    streams = {
        "verified": features_of(true, 1, width),
        "unverified": features_of(unverified, 2, width),
    }
    return Batch(streams["verified"].indices, streams["verified"].noisy_labels, (), streams)


def gradients(method, loss):
    method.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


# Similarity, losses, weights


def test_the_input_is_the_log_of_one_plus_the_feature_and_odd():
    v = torch.tensor([0.0, 0.5, 3.0, -3.0], dtype=torch.float64)

    close(log_scaled(v), torch.tensor([0.0, log1p(0.5), log(4), -log(4)], dtype=torch.float64), rtol=1e-12)


def test_a_right_pair_costs_its_distance_from_one_and_a_wrong_one_what_exceeds_the_margin():
    right = verification_losses(COSINES, torch.ones(41, dtype=torch.bool), 0.1, 5.0)
    wrong = verification_losses(COSINES, torch.zeros(41, dtype=torch.bool), 0.1, 5.0)

    close(right, torch.tensor([1 - s for s in COSINES.tolist()], dtype=torch.float64), rtol=1e-12, atol=1e-15)
    expected = [5 * (s - 0.1) if s > 0.1 else 0.0 for s in COSINES.tolist()]
    close(wrong, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-15)
    assert ((right == 0) == (COSINES == 1)).all()


def test_the_slopes_of_verification_are_minus_one_the_weight_and_zero():
    s = torch.tensor([-0.5, 0.0, 0.3, 0.9, -0.5, 0.05, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    is_right = torch.arange(8) < 4

    verification_losses(s, is_right, 0.1, 5.0).sum().backward()

    assert s.grad.tolist() == [-1, -1, -1, -1, 0, 0, 5, 5]
    with torch.no_grad():
        above, below = (verification_losses(s + step, is_right, 0.1, 5.0) for step in (1e-6, -1e-6))
    close(s.grad, (above - below) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_pseudo_label_pulls_from_the_margin_on_and_nowhere_else():
    s = torch.tensor([-0.9, 0.0999, 0.1, 0.5, 1.0], dtype=torch.float64, requires_grad=True)

    losses = pseudo_losses(s, 0.1)
    losses.sum().backward()

    assert losses.tolist() == [0.0, 0.0, 0.9, 0.5, 0.0]
    assert s.grad.tolist() == [0, 0, -1, -1, -1]
    confident = s.detach() >= 0.1
    close(losses, verification_losses(s, confident, 0.1, 5.0), rtol=0, atol=0)


def test_soft_weights_are_the_positive_part_and_hard_ones_say_whether_the_margin_is_reached():
    soft, hard = (relevance_weights(COSINES, weighting, 0.1) for weighting in ("soft", "hard"))

    assert soft.tolist() == [max(0.0, s) for s in COSINES.tolist()]
    assert hard.tolist() == [float(s >= 0.1) for s in COSINES.tolist()]
    assert (soft[hard == 1] >= 0.1).all()


def test_similarity_is_the_cosine_whatever_the_lengths_and_zero_for_a_zero_vector():
    q, c = torch.tensor([[1.0, 2.0, -1.0]]).double(), torch.tensor([[0.5, 1.0, 3.0]]).double()
    expected = (0.5 + 2 - 3) / (sqrt(6) * sqrt(0.25 + 1 + 9))

    assert CleanNet.similarity_to(q, c).item() == pytest.approx(expected, rel=1e-12)
    assert CleanNet.similarity_to(1e3 * q, c).item() == pytest.approx(expected, rel=1e-12)
    assert CleanNet.similarity_to(0 * q, c).item() == 0
    many = torch.randn(1000, 3)
    assert CleanNet.similarity_to(many, many).abs().max() <= 1


def test_weights_of_one_give_cross_entropy_to_the_bit_and_weights_of_zero_no_gradient():
    logits, labels = torch.randn(64, 5, requires_grad=True), torch.arange(64) % 5
    plain = F.cross_entropy(logits, labels, reduction="none")

    assert weighted_cross_entropy(logits, labels, torch.ones(64)).item() == plain.mean().item()
    weights = (torch.arange(64) % 2).float()
    weighted_cross_entropy(logits, labels, weights).backward()
    assert (logits.grad[::2] == 0).all()
    expected = (softmax(logits.detach()) - F.one_hot(labels, 5)) / 64
    close(logits.grad[1::2], expected[1::2])


# Mistakes


def test_a_mistake_is_drawn_as_it_is_predicted_among_other_verified_classes():
    logits = torch.tensor([[3.0, 1.0, 0.0, 9.0, -1.0]]).expand(40_000, 5)
    among = torch.tensor([True, True, True, False, True])

    drawn = drawn_mistakes(logits, torch.zeros(40_000, dtype=torch.int64), among)

    shares = torch.bincount(drawn, minlength=5) / 40_000
    p = torch.tensor([1.0, 0.0, -1.0]).exp()
    assert shares[0] == shares[3] == 0
    close(shares[[1, 2, 4]], p / p.sum(), rtol=0, atol=0.01)  # four standard deviations


def test_a_mistake_is_drawn_even_where_its_probability_has_vanished():
    logits = torch.tensor([[1e4, 0.0, 0.0]])

    drawn = drawn_mistakes(logits.expand(50, 3), torch.zeros(50, dtype=torch.int64), torch.ones(3, dtype=torch.bool))

    assert set(drawn.tolist()) == {1, 2}


# Encoders


def test_the_query_encoder_is_two_tanh_layers_and_its_decoder_ends_linear():
    encoder = QueryEncoder(2, 1).double()
    with torch.no_grad():
        for number, parameter in enumerate(encoder.parameters()):
            parameter.copy_(torch.linspace(-1, 1 + number, parameter.numel()).view_as(parameter))
    v = [0.3, 2.0]

    def layer(linear, inputs):
        rows = zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
        return [sum(w * x for w, x in zip(row, inputs, strict=True)) + b for row, b in rows]

    first, second = encoder.encode[0], encoder.encode[2]
    embedded = [tanh(x) for x in layer(second, [tanh(x) for x in layer(first, v)])]
    third, last = encoder.decode[0][0], encoder.decode[1]
    decoded = layer(last, [tanh(x) for x in layer(third, embedded)])

    query = encoder(torch.tensor([v], dtype=torch.float64))
    assert query[0].tolist() == pytest.approx(embedded, rel=1e-12)
    assert encoder.decode(query)[0].tolist() == pytest.approx(decoded, rel=1e-12)


def test_attention_is_a_distribution_over_the_representatives():
    encoder = ReferenceEncoder(8, 3).double()
    references = torch.randn(5, 7, 8, dtype=torch.float64)
    shares = encoder.attention(encoder.embed(references))

    assert (shares >= 0).all()
    close(shares.sum(dim=1), torch.ones(5, dtype=torch.float64), rtol=1e-12)
    assert (encoder.attention(encoder.embed(references[:, :1])) == 1).all()
    assert shares.std() > 1e-3  # unequal: what is below would hold for a mere mean as well


def test_a_class_is_its_representatives_in_any_order_and_however_often_all_are_repeated():
    encoder = ReferenceEncoder(8, 3).double()
    references = torch.randn(5, 7, 8, dtype=torch.float64)
    embedded = encoder(references)

    close(encoder(references[:, torch.randperm(7)]), embedded, rtol=1e-10)
    close(encoder(references.repeat(1, 2, 1)), embedded, rtol=1e-10)
    hidden = encoder.embed(references)
    scores = encoder.score(hidden)[..., 0]
    pooled = torch.stack([(softmax(scores)[k][:, None] * hidden[k]).sum(dim=0) for k in range(5)])
    close(embedded, encoder.pool(pooled), rtol=1e-10)


def test_the_objective_is_the_papers_summed_pair_by_pair():
    method = built(margin=0.0, negative_weight=3.0, reconstruction_weight=0.2, pseudo_weight=0.4)
    features = torch.rand(6, 8, dtype=torch.float64)
    labels = torch.tensor([0, 3, 3, 1, 0, 4])
    query, reference = method.encoders["query"], method.encoders["reference"]
    verification = reconstruction = pseudo = 0.0
    for i in range(6):  # each pair encodes its class by itself
        q = query(features[i : i + 1])
        c = reference(method.class_references[labels[i]][None])
        s = ((q @ c.T) / (q.norm() * c.norm())).item()
        reconstruction += 0.2 * (query.decode(q) - features[i]).square().sum().item() / 6
        if i < 4:
            verification += (1 - s if i < 2 else 3.0 * max(0.0, s)) / 6
        else:
            pseudo += 0.4 * ((1 - s) if s >= 0 else 0.0) / 6

    found = method.pair_losses(features, labels, torch.tensor([True, True, False, False]))

    assert found["verification"].item() == pytest.approx(verification, rel=1e-10)
    assert found["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-10)
    assert found["pseudo"].item() == pytest.approx(pseudo, rel=1e-10)
    assert min(verification, pseudo) > 0


def test_the_objectives_gradient_is_that_of_finite_differences():
    method = built(margin=0.0)
    features, labels = torch.rand(6, 8, dtype=torch.float64), torch.tensor([0, 3, 3, 1, 0, 4])
    is_right = torch.tensor([True, True, False, False])

    def value():
        return sum(method.pair_losses(features, labels, is_right).values())

    found = gradients(method, value())
    assert set(found) == {name for name, _ in method.named_parameters() if name.startswith("encoders")}
    for name, parameter in method.encoders.named_parameters(prefix="encoders"):
        flat = parameter.data.view(-1)
        kept = flat[0].item()
        flat[0] = kept + 1e-6
        above = value().item()
        flat[0] = kept - 1e-6
        below = value().item()
        flat[0] = kept
        assert found[name].view(-1)[0].item() == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-8), name


def test_verification_takes_each_image_with_its_class_and_with_a_mistake(monkeypatch):
    method = built()
    monkeypatch.setattr(cleannet, "drawn_mistakes", lambda logits, true, among: (true + 1) % 5)
    seen = verifying(method)
    images = log_scaled(torch.cat([seen.streams[name].images for name in ("verified", "verified", "unverified")]))
    is_right = torch.tensor([True] * 3 + [False] * 3)
    expected = method.pair_losses(images, torch.tensor([0, 1, 2, 1, 2, 3, 3, 4]), is_right)

    found = method.verification_loss(seen, MOMENT)

    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-12
    )


def test_what_is_verified_teaches_the_same_whatever_the_unverified_labels():
    method = built()

    def learnt(unverified):
        torch.manual_seed(3)
        loss = method.verification_loss(verifying(method, unverified=unverified), MOMENT)["verification"]
        return gradients(method, loss)

    first, other = learnt((3, 4)), learnt((0, 0))
    assert all(torch.allclose(first[name], other[name], rtol=1e-10, atol=1e-14) for name in first)
    assert any(gradient.abs().max() > 1e-3 for gradient in first.values())


def test_without_unverified_images_and_reconstruction_only_verification_is_left():
    method = built(reconstruction_weight=0.0, pseudo_weight=0.0)
    alone = method.verification_loss(verifying(method, unverified=()), MOMENT)

    assert alone["reconstruction"].item() == alone["pseudo"].item() == 0
    torch.manual_seed(3)
    alone = gradients(method, sum(method.verification_loss(verifying(method, unverified=()), MOMENT).values()))
    torch.manual_seed(3)
    beside = gradients(method, sum(method.verification_loss(verifying(method), MOMENT).values()))
    for name in alone:  # six pairs of eight
        close(beside[name], alone[name] * 6 / 8, rtol=1e-10, atol=1e-14)


def test_the_classifier_learns_nothing_while_the_encoders_do():
    method = built()
    learnt = gradients(method, sum(method.verification_loss(verifying(method), MOMENT).values()))

    assert all(name.startswith("encoders") for name in learnt)


def test_a_single_pair_gives_finite_gradients():
    method = built()
    method.class_references.zero_()
    seen = verifying(method, true=(2,), unverified=())
    seen.streams["verified"].views[0].zero_()

    learnt = gradients(method, sum(method.verification_loss(seen, MOMENT).values()))

    assert all(gradient.isfinite().all() for gradient in learnt.values())


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
