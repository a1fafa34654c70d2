"""Quality embedding: the bound by hand and by quadrature, its limits, its gradients, what the method reads off."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from tests.plain import close, one_hot, softmax
from winnow.functional.correction import forward_losses
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.quality_embedding import (
    QualityEmbedding,
    additive_posterior,
    channel_columns,
    contrast,
    gate_and_mistakes,
    label_divergence,
    label_likelihood,
    quality_divergence,
    reconstruction_losses,
    sampled_quality,
)
from winnow.models import ModelSpec
from winnow.survey import Survey
from winnow.train.optimizers import SGD

TIGHT = {"rtol": 0.0, "atol": 1e-10}
K = 4
IDENTITY = torch.eye(K, dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 1, 2])


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mistakes(seed=3):
    return softmax(randn(K, K, seed=seed))


def columns(channel, labels=LABELS):
    return one_hot(labels, K), torch.stack([channel[:, y] for y in labels])


def problem(labels=None, classes=K, **options):
    labels = np.arange(40) % classes if labels is None else labels
    rows, names = np.arange(len(labels)), tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("mlp", 2, 1, classes)
    return Problem(names, labels, rows, rows[:0], spec, options.pop("seed", 0), Memory(len(labels)), **options)


def several(count=60, seed=0):
    return np.random.default_rng(seed).integers(-1, 2, (count, K)).astype(np.int8)


def planted(labels=None, seed=5, **options):
    """A method in float64 with an encoder and a decoder that say something."""
    method = QualityEmbedding(problem(labels), **options).double()
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (method.gate.weight, method.gate.bias, method.mistakes):
            parameter.copy_(torch.randn(parameter.shape, generator=chance, dtype=torch.float64))
    method.strongest.fill_(9.0)
    return method


def method_bound(method, logits, labels=LABELS, weight=0.3, seed=7):
    torch.manual_seed(seed)
    return method.bound(logits, labels, weight)


def total(losses):
    return sum(losses.values())


# The divergences


def test_divergences_are_those_of_torch_and_zero_only_between_equals():
    mean, log_variance = randn(6, 3), randn(6, 3, seed=1)
    unit = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    log_q, log_p = randn(6, K).log_softmax(1), randn(6, K, seed=2).log_softmax(1)

    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), unit).sum(1)
    close(quality_divergence(mean, log_variance), expected, **TIGHT)
    expected = kl_divergence(Categorical(logits=log_q), Categorical(logits=log_p))
    close(label_divergence(log_q, log_p), expected, **TIGHT)
    assert quality_divergence(torch.zeros(1, 3), torch.zeros(1, 3)) == 0
    assert label_divergence(log_q, log_q).abs().max() == 0
    assert quality_divergence(mean, log_variance).min() > 0
    assert label_divergence(log_q, log_p).min() > 0


def test_the_quality_divergence_is_the_mean_log_ratio_of_draws():
    mean = torch.tensor([[0.7, -1.2]]).double().expand(300_000, 2)
    log_variance = torch.tensor([[-0.8, 0.5]]).double().expand(300_000, 2)
    draws = sampled_quality(mean, log_variance, randn(300_000, 2))
    ratio = Normal(mean, (0.5 * log_variance).exp()).log_prob(draws) - Normal(0.0, 1.0).log_prob(draws)

    assert ratio.sum(1).mean().item() == pytest.approx(quality_divergence(mean[:1], log_variance[:1]).item(), rel=0.01)


# Decoder and additive layer


def test_the_decoders_rows_sum_to_one_and_are_the_gate_by_hand():
    trust = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    channel = mistakes()
    rows = torch.stack([label_likelihood(trust, *columns(channel, torch.full((3,), y))) for y in range(K)], dim=2)

    close(rows.sum(dim=2), torch.ones(3, K, dtype=torch.float64), **TIGHT)
    for n, g in enumerate(trust):
        close(rows[n], g * IDENTITY + (1 - g) * channel, **TIGHT)


def test_a_column_holds_what_every_true_class_says_of_the_given_label():
    channel = mistakes()
    close(channel_columns(channel, LABELS), columns(channel)[1], **TIGHT)

    of_each = softmax(randn(6, 2)).reshape(3, 2, 2)
    labels = torch.tensor([[0, 1, 1], [1, 1, 0]])
    found = channel_columns(of_each, labels)
    for n in range(2):
        for k in range(3):
            close(found[n, k], of_each[k, :, labels[n, k]], **TIGHT)


def test_the_additive_layer_is_bayes_rule_and_between_prior_and_label():
    log_p, channel = randn(5, K).log_softmax(1), mistakes()
    joint = log_p.exp() * columns(channel)[1]

    close(additive_posterior(log_p, columns(channel)[1].log()).exp(), joint / joint.sum(1, keepdim=True), **TIGHT)
    close(additive_posterior(log_p, 0 * log_p), log_p, **TIGHT)
    close(additive_posterior(log_p, 60 * one_hot(LABELS, K)).exp(), one_hot(LABELS, K), **TIGHT)


def test_the_sum_over_classes_is_the_mean_over_drawn_classes():
    log_q = randn(1, K).log_softmax(1)
    likelihood = label_likelihood(torch.tensor([0.4], dtype=torch.float64), *columns(mistakes(), LABELS[:1]))
    torch.manual_seed(0)
    drawn = Categorical(logits=log_q[0]).sample((100_000,))

    found = reconstruction_losses(log_q, likelihood)

    assert found.item() == pytest.approx(-likelihood[0, drawn].log().mean().item(), rel=0.01)


def test_the_contrast_is_the_difference_and_the_product():
    found = contrast(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 5.0]]))

    assert found.tolist() == [[2.0, 3.0, 3.0, 10.0]]


@pytest.mark.parametrize("kept", [[0.9, 0.6, 0.7, 1.0], [0.55] * 4])
def test_gate_and_mistakes_express_the_transition_matrix(kept):
    kept = torch.tensor(kept, dtype=torch.float64)
    channel = torch.diag(kept) + ((1 - kept)[:, None] / 3) * (1 - IDENTITY)

    trust, found = gate_and_mistakes(channel)

    close(trust * IDENTITY + (1 - trust) * found, channel, **TIGHT)
    assert 0 < trust < kept.min()


# The bound


@pytest.mark.parametrize("label", range(K))
def test_the_three_terms_bound_the_labels_likelihood(label):
    y, channel = torch.tensor([label]), mistakes()
    log_p, log_q = randn(1, K).log_softmax(1), randn(1, K, seed=1).log_softmax(1)
    mean, log_variance = torch.tensor([[0.6]]).double(), torch.tensor([[-1.0]]).double()
    points = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    width = points[1] - points[0]

    def likelihood(s):
        return label_likelihood((1.5 * s - 0.2).sigmoid(), *columns(channel, y.expand(len(s))))

    prior = Normal(0.0, 1.0).log_prob(points).exp() * width
    exact = ((log_p.exp() * likelihood(points)).sum(1) * prior).sum().log()
    posterior = Normal(mean[0], (0.5 * log_variance[0]).exp()).log_prob(points).exp() * width
    reconstruction = (reconstruction_losses(log_q.expand(4001, K), likelihood(points)) * posterior).sum()
    cost = reconstruction + quality_divergence(mean, log_variance)[0] + label_divergence(log_q, log_p)[0]

    assert -cost < exact
    assert -cost > exact - 10  # a bound that says something


@pytest.mark.parametrize("additive", ["matrix", "scalar"])
def test_without_quality_the_cost_is_forward_correction_where_the_posterior_is_exact(additive):
    """Section 7, 4: T = g I + (1 - g) R; the scalar layer is exact where mistakes are uniform."""
    method, logits = planted(additive=additive), randn(5, K)
    with torch.no_grad():
        for parameter in (*method.to_quality.parameters(), method.gate.weight):
            parameter.zero_()
        if additive == "scalar":
            method.mistakes.zero_()
            trust = method.gate.bias.sigmoid().item()
            boost = math.log(trust + (1 - trust) / K) - math.log((1 - trust) / K)
            method.strength.fill_(math.log(math.expm1(boost)))
    trust, rows = method.gate.bias.sigmoid(), method.mistakes.softmax(dim=1)
    channel = trust * IDENTITY + (1 - trust) * rows

    def gradient(cost):
        z = logits.clone().requires_grad_()
        return torch.autograd.grad(cost(z), z)[0]

    def forward(z):
        return forward_losses(z.log_softmax(1), LABELS, channel.detach()).mean()

    losses = method_bound(method, logits)

    close(total(losses), -(softmax(logits) @ channel)[range(5), LABELS].log().mean(), **TIGHT)
    assert losses["quality"] == 0
    # The posterior is held fixed, and at the exact one that changes no gradient.
    close(gradient(lambda z: total(method_bound(method, z))), gradient(forward), **TIGHT)


def test_a_label_that_says_nothing_teaches_nothing():
    method, logits = planted(additive="scalar"), randn(5, K).requires_grad_()
    with torch.no_grad():
        method.gate.weight.zero_()
        method.gate.bias.fill_(-60.0)
        method.mistakes.zero_()
        method.strength.fill_(-60.0)

    losses = method_bound(method, logits)
    total(losses).backward()

    assert losses["reconstruction"].item() == pytest.approx(math.log(K), abs=1e-10)
    assert losses["label"].item() == pytest.approx(0, abs=1e-10)
    assert logits.grad.abs().max() < 1e-10


def test_a_label_that_is_fully_trusted_gives_cross_entropy():
    method, logits = planted(additive="scalar"), randn(5, K)
    with torch.no_grad():
        method.gate.weight.zero_()
        method.gate.bias.fill_(60.0)
        method.strength.fill_(60.0)
        method.strongest.fill_(60.0)

    losses = method_bound(method, logits)

    expected = losses["quality"] - softmax(logits)[range(5), LABELS].log().mean()
    assert total(losses).item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("additive", ["matrix", "scalar"])
def test_the_classifier_is_pulled_from_p_to_q(additive):
    method, logits = planted(additive=additive), randn(5, K).requires_grad_()
    given, mistaken = columns(method.mistakes.softmax(dim=1))
    average = method.gate.bias.sigmoid()
    evidence = (average * given + (1 - average) * mistaken).log()
    if additive == "scalar":
        evidence = method.strength.exp().add(1).log() * given
    p = softmax(logits.detach())
    joint = p * evidence.exp()
    q = joint / joint.sum(1, keepdim=True)

    total(method_bound(method, logits)).backward()

    close(logits.grad, (p - q) / 5, **TIGHT)


def test_the_scalar_strength_is_capped():
    method, logits = planted(additive="scalar"), randn(5, K)
    with torch.no_grad():
        method.strength.fill_(50.0)
    capped = method.log_posterior(logits.log_softmax(1), *method.label_columns(LABELS))

    close(capped, additive_posterior(logits, 9.0 * one_hot(LABELS, K)), **TIGHT)


@pytest.mark.parametrize("additive", ["matrix", "scalar"])
@pytest.mark.parametrize("shape", ["one class", "several classes"])
def test_gradients_of_encoder_and_decoder_agree_with_finite_differences(additive, shape):
    given = several() if shape == "several classes" else None
    method, logits = planted(given, additive=additive, quality_dim=2, embedding_dim=3), randn(5, K)
    labels = LABELS if given is None else torch.from_numpy(given[:5])

    def cost():
        losses = method_bound(method, logits, labels)
        # The channel in the additive layer is held fixed: of the decoder's gradient only the reconstruction's remains.
        return total(losses)

    cost().backward()
    moved = [method.embedding.weight, method.to_quality.weight, method.to_quality.bias, method.gate.weight]
    if additive == "scalar":
        moved += [method.gate.bias, method.mistakes, method.strength]
    for parameter in moved:
        flat, found = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, flat.numel(), max(1, flat.numel() // 4)):
            value, step = flat[place].item(), 1e-6
            ends = []
            for sign in (1, -1):
                flat[place] = value + sign * step
                ends.append(cost().item())
            flat[place] = value
            assert found[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8)


def test_classes_may_be_renamed():
    method, renamed, logits = planted(), planted(), randn(5, K)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        renamed.embedding.weight.copy_(method.embedding.weight[:, order])
        renamed.mistakes.copy_(method.mistakes[order][:, order])

    one, other = method_bound(method, logits), method_bound(renamed, logits[:, order], torch.argsort(order)[LABELS])

    for name in one:
        close(other[name], one[name], **TIGHT)


def test_a_class_by_itself_is_a_problem_of_two_classes():
    """With one sigmoid, absent and present are the two classes of a softmax over (0, logit)."""
    pair, single = planted(np.arange(40) % 2), planted(np.arange(40)[:, None].astype(np.int8) % 2)
    pair.problem = problem(np.arange(40) % 2, 2)
    logits, labels = randn(5, 1), torch.tensor([0, 1, 1, 0, 1])
    channel = randn(2, 2, seed=9)
    given, mistaken = one_hot(labels, 2), channel_columns(channel.softmax(1), labels)
    single.mistakes = torch.nn.Parameter(channel[None])

    log_prior = single.log_prior(logits)
    close(log_prior[:, 0], torch.cat([0 * logits, logits], dim=1).log_softmax(1), **TIGHT)
    found = single.label_columns(labels[:, None])
    close(found[0][:, 0], given, **TIGHT)
    close(found[1][:, 0], mistaken, **TIGHT)
    posterior = single.log_posterior(log_prior, *found)[:, 0]
    with torch.no_grad():
        pair.gate.bias.copy_(single.gate.bias)
    close(posterior, pair.log_posterior(log_prior[:, 0], given, mistaken), **TIGHT)


# The method


def test_predictions_never_see_the_label_encoder_or_decoder():
    method, images = QualityEmbedding(problem()), torch.randn(3, 1, 2, 2)
    before = method.predict(images)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.startswith("classifier"):
                parameter.add_(1)

    assert torch.equal(method.predict(images), before)


def test_the_plan_measures_the_noise_once_after_a_warm_up_of_at_most_half_the_run():
    method = QualityEmbedding(problem())
    warm, main = method.plan(20)

    assert (warm.epochs, main.epochs) == (5, 15)
    assert (main.revise, main.revise_every) == (method.measure_noise, 0)
    assert warm.turns == method.supervised_loss
    assert [phase.epochs for phase in method.plan(4)] == [2, 2]
    assert [phase.epochs for phase in method.plan(1)] == [1, 0]


@pytest.mark.parametrize("warmup_epochs", [4, 9])  # of a run of eight, no more than four
def test_the_qualitys_weight_grows_over_as_many_epochs_as_the_warm_up_had(warmup_epochs):
    method = planted(quality_weight=0.2, warmup_epochs=warmup_epochs).float()
    assert method.plan(8)[0].epochs == 4
    batch = Batch(torch.arange(5), LABELS, (randn(5, 1, 2, 2).float(),))

    def term(epoch):
        return method.loss(batch, Moment(0, 4 + epoch, epoch, 0.5, 1))["quality"].item()

    assert term(0) == 0
    assert term(1) == pytest.approx(term(4) / 4, rel=1e-5)
    assert term(2) == pytest.approx(term(4) / 2, rel=1e-5)
    assert term(9) == term(4) > 0


def labelled(channel, count=4000, seed=0):
    """Confident probabilities of true classes, and labels drawn through a channel."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, K, count)
    labels = (chance.random(count)[:, None] > channel[truth].cumsum(axis=1)).sum(axis=1)
    probs = np.full((count, K), 0.02, dtype=np.float32)
    probs[np.arange(count), truth] = 0.94
    return probs, labels, truth


PARTNERS = np.array([[0.6, 0.4, 0, 0], [0, 0.9, 0.1, 0], [0, 0, 1, 0], [0.3, 0, 0, 0.7]])


def test_gate_and_mistakes_start_at_the_measured_channel():
    probs, labels, _ = labelled(PARTNERS)
    method = QualityEmbedding(problem(labels))

    method.measure_noise(Survey({"probs": probs}))

    trust, rows = method.gate.bias.sigmoid(), method.mistakes.softmax(dim=1)
    found = (trust * IDENTITY + (1 - trust) * rows).detach().numpy()
    assert abs(found - PARTNERS).max() < 0.06
    kept = found.diagonal().mean()
    assert method.strongest.item() == pytest.approx(math.log(kept * 3 / (1 - kept)), abs=1e-3)
    assert method.log_values()["labels_believed_right"] == pytest.approx(kept, abs=1e-5)


def test_where_an_image_may_have_several_classes_each_has_its_channel():
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 2, (4000, K))
    flipped = chance.random((4000, K)) < np.where(truth == 1, [0.3, 0.0, 0.1, 0.3], [0.05, 0.2, 0.0, 0.05])
    labels = np.where(flipped, 1 - truth, truth).astype(np.int8)
    labels[::5, 0] = -1
    method = QualityEmbedding(problem(labels))

    method.measure_noise(Survey({"probs": (0.02 + 0.96 * truth).astype(np.float32)}))

    trust, rows = method.gate.bias.sigmoid(), method.mistakes.softmax(dim=-1)
    found = (trust * torch.eye(2) + (1 - trust) * rows).detach()
    expected = [[[0.95, 0.05], [0.3, 0.7]], [[0.8, 0.2], [0, 1]], [[1, 0], [0.1, 0.9]], [[0.95, 0.05], [0.3, 0.7]]]
    assert (found - torch.tensor(expected)).abs().max() < 0.05


def test_beliefs_are_the_posterior_and_unlabelled_images_keep_the_prior():
    probs, labels, _ = labelled(PARTNERS, count=300)
    labels[::7] = -1
    method = QualityEmbedding(problem(labels))
    with torch.no_grad():
        method.gate.bias.fill_(0.4)
        method.mistakes.copy_(randn(K, K))
    trust, rows = torch.tensor(0.4).double().sigmoid(), softmax(randn(K, K))
    channel = (trust * IDENTITY + (1 - trust) * rows).numpy()
    joint = np.where((labels >= 0)[:, None], probs * channel.T[labels], probs)
    expected = joint / joint.sum(axis=1, keepdims=True)

    found = method.beliefs(Survey({"probs": probs}))

    known = labels >= 0
    np.testing.assert_allclose(found.label_quality[known], expected[known, labels[known]], rtol=1e-4)
    np.testing.assert_array_equal(found.suggested_label, expected.argmax(axis=1))
    np.testing.assert_allclose(found.suggested_probability, expected.max(axis=1), rtol=1e-4)


def test_several_classes_are_each_believed_by_bayes_rule_and_unknown_ones_keep_the_prior():
    labels = several()
    method, probs = planted(labels).float(), np.random.default_rng(1).random(labels.shape).astype(np.float32)
    trust, rows = method.gate.bias.sigmoid().item(), softmax(method.mistakes.double().reshape(-1, 2)).reshape(K, 2, 2)
    channel = (trust * torch.eye(2) + (1 - trust) * rows).detach().numpy()

    found = method.beliefs(Survey({"probs": probs}))

    for n in range(10):
        for k in range(K):
            y, p = labels[n, k], probs[n, k]
            joint = [1 - p, p] if y < 0 else [(1 - p) * channel[k, 0, y], p * channel[k, 1, y]]
            posterior = np.array(joint) / sum(joint)
            assert found.suggested_label[n, k] == posterior.argmax()
            assert found.suggested_probability[n, k] == pytest.approx(posterior.max(), rel=1e-4)
            assert y < 0 or found.label_quality[n, k] == pytest.approx(posterior[y], rel=1e-4)


def test_trust_is_exported_for_each_image_and_is_lower_where_the_label_is_wrong():
    channel = 0.5 * np.eye(K) + 0.5 / K
    probs, labels, truth = labelled(channel, count=500)
    wrong = labels != truth
    labels[:5] = -1
    method = QualityEmbedding(problem(labels))
    learnt = [p for name, p in method.named_parameters() if not name.startswith("classifier")]
    optimizer, known = SGD([{"params": learnt}], momentum=0.9, weight_decay=0.0), torch.from_numpy(labels[5:])
    for step in range(100):
        optimizer.forget_gradients()
        total(method_bound(method, torch.from_numpy(probs[5:]).log(), known, weight=0.05, seed=step)).backward()
        optimizer.step(0.1)

    found = method.columns(Survey({"probs": probs}))

    assert list(found) == ["trust", "quality_1", "quality_2", "quality_3", "quality_4"]
    assert all(np.isnan(values[:5]).all() and np.isfinite(values[5:]).all() for values in found.values())
    assert found["trust"][5:][wrong[5:]].mean() < found["trust"][5:][~wrong[5:]].mean() - 0.5
    quality = torch.from_numpy(np.stack([found[f"quality_{j}"] for j in (1, 2, 3, 4)], axis=1))
    np.testing.assert_allclose(method.trust(quality).detach().numpy()[5:], found["trust"][5:], rtol=1e-4)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("additive", "vector", "additive must be matrix or scalar, got 'vector'"),
        ("quality_dim", 0, "quality_dim must lie in 1 to 1,024, got 0"),
        ("embedding_dim", 10**9, "embedding_dim must lie in 1 to 1,024, got 1000000000"),
        ("quality_weight", -0.1, "quality_weight must be at least 0 and finite, got -0.1"),
        ("quality_weight", math.inf, "quality_weight must be at least 0 and finite, got inf"),
        ("warmup_epochs", 0, "warmup_epochs must be at least 1, got 0"),
    ],
)
def test_options_outside_their_range_are_refused(option, value, message):
    with pytest.raises(ValueError, match=message):
        QualityEmbedding(problem(), **{option: value})
