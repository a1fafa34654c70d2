"""PreAct-ResNet-18: its weights counted by hand, and what pre-activation promises."""

import numpy as np
import pytest
import torch

from winnow.errors import UsageError
from winnow.models import ModelSpec, PreActResNet18
from winnow.models.preact import PreActBlock


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def images(count, channels, size):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("channels", "num_classes"), [(3, 10), (1, 100)])
def test_the_weights_are_those_of_the_paper_by_arithmetic(channels, num_classes):
    expected = channels * 64 * 9  # the stem
    before = 64
    for width in (64, 128, 256, 512):
        expected += 9 * before * width + 3 * 9 * width * width  # two blocks of two 3x3 convolutions
        expected += before * width if before != width else 0  # 1x1 where the shape changes
        expected += 2 * before + 3 * 2 * width  # scale and shift before each convolution
        before = width
    expected += 2 * 512 + 512 * num_classes + num_classes  # the last normalisation and the head

    network = ModelSpec("preact-resnet18", 32, channels, num_classes).build(0, "classifier")

    assert sum(p.numel() for p in network.parameters()) == expected
    if (channels, num_classes) == (3, 10):
        assert round(expected / 1e6, 2) == 11.17


@pytest.mark.parametrize("training", [True, False])
def test_a_block_whose_residual_is_zero_is_the_identity(training):
    block = PreActBlock(8, 8, 1).train(training)
    torch.nn.init.zeros_(block.conv2.weight)
    x = images(4, 8, 6)

    assert torch.equal(block(x), x)


def test_the_gradient_reaches_the_input_of_such_a_block_unchanged():
    block = PreActBlock(8, 8, 1)
    torch.nn.init.zeros_(block.conv2.weight)
    x = images(4, 8, 6).requires_grad_()

    (3 * block(x)).sum().backward()

    assert torch.equal(x.grad, torch.full_like(x, 3.0))


def test_where_the_shape_changes_the_shortcut_reads_the_activated_input():
    block = PreActBlock(2, 2, 2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    with torch.no_grad():
        block.shortcut.weight.copy_(torch.eye(2)[:, :, None, None])
        block.norm1.running_mean.fill_(1.0)
        block.norm1.running_var.fill_(4.0 - block.norm1.eps)
    x = images(3, 2, 6)

    found = block(x)

    # Every second pixel of relu((x - 1) / 2).
    close(found, ((x - 1) / 2).clamp_min(0)[:, :, ::2, ::2])


@pytest.mark.parametrize("size", [16, 17, 31, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_halves_the_maps_three_times_and_takes_any_size_from_16(size, channels):
    network = PreActResNet18(size, channels, 5, widths=(2, 3, 4, 6)).eval()
    x = images(2, channels, size)

    maps = network.body(network.stem(x))

    side = -(-size // 8)
    assert maps.shape == (2, 6, side, side)
    assert network.features(x).shape == (2, 6)
    assert network(x).isfinite().all()


def test_smaller_images_are_refused():
    with pytest.raises(UsageError, match="16 px or more, these have 15"):
        ModelSpec("preact-resnet18", 15, 3, 10)


def test_every_weight_gets_a_gradient():
    network = PreActResNet18(16, 3, 4, widths=(4, 5, 6, 7))

    network(images(6, 3, 16)).square().sum().backward()

    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_convolutions_start_from_hes_distribution():
    weight = PreActResNet18(16, 3, 4).body[-1].conv2.weight

    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert abs(weight.mean().item()) < 1e-4
