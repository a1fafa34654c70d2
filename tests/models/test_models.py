"""Networks: shapes, precision, weights as a function of the seed, and the whitening layer."""

import numpy as np
import pytest
import torch

from tests.plain import close
from winnow.errors import UsageError
from winnow.models import MODELS, ModelSpec, default_model
from winnow.models.whitening import Whitening

WIDTHS = {"mlp": 256, "shallow-mlp": 256, "convnet": 256, "speednet": 256, "preact-resnet18": 512}
CONVOLUTIONAL = ["convnet", "speednet"]
every_model = pytest.mark.parametrize("name", MODELS)
convolutional = pytest.mark.parametrize("name", CONVOLUTIONAL)
channels = pytest.mark.parametrize("channels", [1, 3])


def images(count, channels, size, seed=0):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def generic(count, channels, size, seed=0):
    """Smooth pictures with some grain, of zero mean: neighbouring pixels and channels are alike."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, size // 4, size // 4, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    return smooth + 0.5 * torch.randn(count, channels, size, size, generator=random)


@every_model
@channels
def test_logits_and_features_have_their_shapes(name, channels):
    network = ModelSpec(name, 16, channels, 7).build(0, "classifier")
    x = images(3, channels, 16)

    features = network.features(x)

    assert features.shape == (3, WIDTHS[name])
    assert network(x).shape == (3, 7)
    close(network.head(features), network(x))


@every_model
def test_logits_are_float32_under_autocast_and_close_to_the_exact_ones(name):
    network = ModelSpec(name, 16, 3, 4).build(0, "classifier").eval()
    x = images(5, 3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(x)

    assert logits.dtype == torch.float32
    close(logits, network(x), rtol=0.05, atol=0.05)
    assert not torch.equal(logits, network(x))


@every_model
def test_weights_are_a_function_of_seed_and_purpose(name):
    spec = ModelSpec(name, 16, 1, 5)
    torch.manual_seed(1)
    first = spec.build(3, "classifier").state_dict()
    torch.manual_seed(2)
    again = spec.build(3, "classifier").state_dict()

    assert all(torch.equal(first[key], again[key]) for key in first)
    for other in (spec.build(4, "classifier"), spec.build(3, "second"), spec.build(-3, "classifier")):
        weights = other.state_dict()
        assert not torch.equal(weights["head.weight"], first["head.weight"])


@every_model
def test_building_leaves_the_global_generator_alone(name, monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = torch.get_rng_state()

    ModelSpec(name, 16, 1, 5, images(4, 1, 16)).build(0, "classifier")

    assert torch.equal(torch.get_rng_state(), before)
    assert not reseeded


@convolutional
@channels
def test_every_size_from_16_to_64_is_taken(name, channels):
    widths = (4, 6) if name == "convnet" else (4, 6, 8)  # narrow: only the geometry is looked at
    for size in range(16, 65):
        assert ModelSpec(name, size, channels, 3).size == size
        network = MODELS[name](size, channels, 3, widths=widths).eval()
        logits = network(images(1, channels, size))
        assert logits.shape == (1, 3)
        assert logits.isfinite().all()


@convolutional
def test_the_full_network_takes_the_smallest_and_a_large_size(name):
    for size in (16, 17, 64):
        assert ModelSpec(name, size, 3, 3).build(0, "classifier")(images(2, 3, size)).isfinite().all()


@pytest.mark.parametrize("size", [1, 2, 8, 15, 28])
def test_the_mlp_takes_any_size(size):
    assert ModelSpec("mlp", size, 1, 3).build(0, "classifier")(images(2, 1, size)).shape == (2, 3)


@convolutional
def test_images_too_small_for_convolutions_are_refused(name):
    with pytest.raises(UsageError) as error:
        ModelSpec(name, 15, 3, 10)
    assert str(error.value) == f"--model {name} needs images of 16 px or more, these have 15; try --model mlp"


def test_an_unknown_network_is_answered_with_what_was_meant_or_with_the_list():
    with pytest.raises(UsageError, match=r"^--model speednt: no such network; did you mean speednet\?$"):
        ModelSpec("speednt", 32, 3, 10)
    with pytest.raises(UsageError) as error:
        ModelSpec("x", 32, 3, 10)
    assert str(error.value) == (
        "--model x: no such network "
        "(mlp, shallow-mlp, convnet, speednet, preact-resnet18, resnet50, vit-small, or timm:NAME)"
    )


@pytest.mark.parametrize(
    ("size", "device", "expected"),
    [
        (1, "cpu", "mlp"),
        (8, "cuda", "mlp"),
        (15, "cpu", "mlp"),
        (15, "cuda", "mlp"),
        (16, "cpu", "convnet"),
        (28, "cpu", "convnet"),
        (16, "cuda", "speednet"),
        (32, "cuda", "speednet"),
        (32, "mps", "speednet"),
    ],
)
def test_the_default_network_suits_size_and_device(size, device, expected):
    name = default_model(size, device)

    assert name == expected
    assert ModelSpec(name, size, 3, 2).learning_rate == (0.05 if expected == "mlp" else 0.1)


# Whitening


@channels
@pytest.mark.parametrize(("patch", "stride", "padding"), [(4, 2, 1), (2, 1, 0)])
def test_whitened_patches_have_unit_second_moment(channels, patch, stride, padding):
    x = generic(250, channels, 16)  # more than one block of the fit
    layer = Whitening(channels, patch, stride, padding)
    layer.fit(x, epsilon=1e-3)
    kept = min(24, channels * patch**2)

    maps = layer(x)

    assert maps.shape[1] == 2 * kept
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2).double()
    second_moment = (rows.T @ rows / len(rows))[:kept, :kept]
    # Grain of variance 0.25 (less at the padded border) is in every direction: epsilon takes at most a few per cent.
    close(second_moment, torch.eye(kept, dtype=torch.float64), rtol=0, atol=0.03)
    assert torch.equal(layer.weight[kept:], -layer.weight[:kept])


def test_the_filters_are_the_principal_axes_in_order():
    """One channel, 1x2 patches by hand: a column pair (a, b) with E a^2 = E b^2 = 1 and E ab = 0.6."""
    a, b = [1.0, 1.0, -1.0, -1.0, 1.0], [1.0, 1.0, -1.0, -1.0, -1.0]
    pairs = torch.tensor([[a[n], b[n]] for n in range(5)])
    x = torch.zeros(5, 1, 2, 2)
    x[:, 0, 0] = pairs  # the lower row is black
    layer = Whitening(1, 2)
    layer.fit(x, epsilon=0.0625)
    # Moment matrix of (a, b): ones on the diagonal, 0.6 beside it: axes (1, 1) and (1, -1), variances 1.6 and 0.4.
    half = 0.5**0.5
    first = half / (1.6 + 0.0625) ** 0.5
    second = half / (0.4 + 0.0625) ** 0.5

    assert layer.weight[0, 0, 0].tolist() == pytest.approx([first, first], rel=1e-5)
    assert layer.weight[1, 0, 0].abs().tolist() == pytest.approx([second, second], rel=1e-5)
    assert layer.weight[1, 0, 0].prod() < 0
    # Nothing varies along the lower row: those axes are limited by epsilon alone.
    assert layer.weight[2:4].flatten(1).norm(dim=1).tolist() == pytest.approx([4.0, 4.0], rel=1e-5)
    assert layer.weight[:4, 0, 1, :][:2].abs().max() < 1e-6


@convolutional
@channels
@pytest.mark.parametrize("level", [0.0, 1.7])
def test_flat_images_give_finite_features(name, channels, level):
    flat = torch.full((6, channels, 16, 16), level)
    network = ModelSpec(name, 16, channels, 3, flat).build(0, "classifier").eval()

    assert network.whitening.weight.isfinite().all()
    for x in (flat, flat + 1, images(3, channels, 16)):
        assert network.features(x).isfinite().all()
        assert network(x).isfinite().all()


@convolutional
def test_whitening_filters_are_stored_but_not_trained(name):
    x = generic(20, 3, 16)
    network = ModelSpec(name, 16, 3, 3, x).build(0, "classifier")
    network(x).square().sum().backward()

    assert not network.whitening.weight.requires_grad
    assert network.whitening.weight.grad is None
    trained = {key for key, value in network.named_parameters() if value.requires_grad}
    assert "whitening.weight" not in trained
    assert "head.weight" in trained
    stored = network.state_dict()
    assert torch.equal(stored["whitening.weight"], network.whitening.weight)


@convolutional
def test_stored_weights_alone_rebuild_the_network(name):
    x = generic(20, 3, 16)
    network = ModelSpec(name, 16, 3, 3, x).build(0, "classifier").eval()
    rebuilt = ModelSpec(name, 16, 3, 3).build(99, "anything").eval()
    assert not torch.equal(rebuilt(x), network(x))

    rebuilt.load_state_dict(network.state_dict())

    assert torch.equal(rebuilt(x), network(x))


@convolutional
def test_the_patches_decide_only_the_whitening(name):
    with_patches = ModelSpec(name, 16, 1, 3, generic(20, 1, 16)).build(0, "classifier").state_dict()
    without = ModelSpec(name, 16, 1, 3).build(0, "classifier").state_dict()

    differing = {key for key in without if not torch.equal(without[key], with_patches[key])}

    assert differing == {"whitening.weight"}


@every_model
def test_a_single_class_and_a_single_image_are_taken(name):
    network = ModelSpec(name, 16, 1, 1).build(0, "classifier").eval()

    assert network(images(1, 1, 16)).shape == (1, 1)


@every_model
def test_logits_start_out_soft(name):
    network = ModelSpec(name, 16, 3, 10, generic(64, 3, 16)).build(0, "classifier")
    probs = network(generic(64, 3, 16, seed=1)).softmax(dim=1)

    assert np.isclose(probs.sum(dim=1).detach().numpy(), 1, atol=1e-5).all()
    assert probs.max() < 0.5
