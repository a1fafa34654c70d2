"""CleanNet's parts: similarity, losses, weights, mistakes, encoders."""

from __future__ import annotations

from math import log, log1p, sqrt, tanh

import pytest
import torch
import torch.nn.functional as F

from tests.methods.cleannet_setting import MOMENT, built
from tests.plain import close, softmax
from winnow.methods import cleannet
from winnow.methods.base import Batch
from winnow.methods.cleannet import (
    CleanNet,
    QueryEncoder,
    ReferenceEncoder,
    drawn_mistakes,
    log_scaled,
    pseudo_losses,
    reconstruction_losses,
    relevance_weights,
    verification_losses,
    weighted_cross_entropy,
)

COSINES = torch.linspace(-1, 1, 41, dtype=torch.float64)


@pytest.fixture(autouse=True)
def randomness():
    torch.manual_seed(0)


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


def test_near_the_zero_vector_the_similarity_falls_with_the_length_and_its_gradient_has_a_bound():
    classes = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)
    queries = torch.tensor([[0.0, 0.0], [0.001, 0.0], [0.01, 0.0]], dtype=torch.float64, requires_grad=True)

    similarity = CleanNet.similarity_to(queries, classes)
    similarity.sum().backward()

    close(similarity, torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64), rtol=1e-9)
    assert queries.grad.abs().max().item() == pytest.approx(100)  # one over the length that counts


def test_reconstruction_is_the_squared_error_and_grows_linearly_far_from_the_features():
    features = torch.tensor([[3.0, 4.0]] * 3 + [[0.0, 0.0]] * 2, dtype=torch.float64)  # twice the length: 10, and 2
    off = torch.tensor([1.0, 10.0, 30.0, 1.0, 1e9], dtype=torch.float64, requires_grad=True)
    decoded = features + torch.stack([off, torch.zeros_like(off)], dim=1)

    losses = reconstruction_losses(features, decoded)
    losses.sum().backward()

    expected = [1.0, 100.0, 100 + 20 * 20, 1.0, 4 + 4 * (1e9 - 2)]
    close(losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    close(off.grad, torch.tensor([2.0, 20.0, 20.0, 2.0, 4.0], dtype=torch.float64))


def test_perfect_reconstruction_of_nothing_has_a_gradient_of_zero():
    decoded = torch.zeros(1, 3, requires_grad=True)

    reconstruction_losses(torch.zeros(1, 3), decoded).sum().backward()

    assert decoded.grad.tolist() == [[0.0, 0.0, 0.0]]


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
