"""timm's networks behind our contract."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from winnow.errors import UsageError
from winnow.models import ModelSpec, network_class

timm = pytest.importorskip("timm")


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def images(count, channels, size):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_resnet", 32), ("test_efficientnet", 24), ("test_vit", 32), ("test_vit", 160), ("test_convnext", 32)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_are_the_head_of_timms_own_embedding(name, size, channels):
    network = ModelSpec(f"timm:{name}", size, channels, 5).build(0, "classifier").eval()
    x = images(2, channels, size)
    fixed = {"img_size": size} if "vit" in name else {}
    theirs = timm.create_model(name, pretrained=False, num_classes=7, in_chans=channels, **fixed).eval()
    theirs.load_state_dict(network.body.state_dict(), strict=False)

    with torch.no_grad():
        features = network.features(x)
        expected = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        logits = network(x)

    close(features, expected)
    assert features.shape == (2, network.num_features)
    close(logits, features @ network.head.weight.T + network.head.bias)


def test_the_embedding_may_be_wider_than_timms_body():
    network = ModelSpec("timm:mobilenetv3_small_100", 32, 3, 5).build(0, "classifier")

    assert network.num_features == 1024  # 576 channels, then a hidden layer of the head


def test_weights_are_a_function_of_seed_and_purpose_and_leave_the_generator_alone():
    spec = ModelSpec("timm:test_vit", 32, 3, 5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = spec.build(0, "classifier").state_dict()
    torch.rand(3)
    again, other = spec.build(0, "classifier").state_dict(), spec.build(0, "second").state_dict()

    torch.manual_seed(5)
    spec.build(1, "x")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["body.patch_embed.proj.weight"], other["body.patch_embed.proj.weight"])


def test_a_new_network_is_ready_to_train():
    network = ModelSpec("timm:test_resnet", 32, 3, 5).build(0, "classifier")

    assert all(module.training for module in network.modules())
    network(images(4, 3, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_short_names_mean_these_networks_for_ever():
    assert network_class("resnet50").architecture == "resnet50"
    assert network_class("vit-small").architecture == "vit_small_patch16_224"


def test_a_vision_transformer_has_a_size_of_its_own_and_a_resnet_has_none():
    assert network_class("vit-small").own_size == 224
    assert network_class("timm:test_vit").own_size == 160
    assert network_class("resnet50").own_size is None
    assert network_class("resnet50").trained_size == 224


def test_published_weights_say_how_they_want_their_images():
    assert network_class("resnet50").normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert network_class("vit-small").normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("timm:test_vit", 100, "cannot take images of 100 px with 3 channels (not a multiple of its patches' 16 px)"),
        ("timm:vit_small_patch16_224", 20, "16 px); try --image-size 224"),
        ("timm:inception_v3", 32, "try --image-size 299"),
        ("timm:resnt50", 32, "did you mean timm:resnet50?"),
        ("timm:resnet50.no_such_tag", 32, "no such network"),
        ("timm:hf-hub:somebody/something", 32, "no such network"),
        ("timm:local-dir:/tmp/x", 32, "no such network"),
        ("timm:", 32, "no such network"),
    ],
)
def test_what_timm_cannot_do_is_said_in_one_line(name, size, says):
    with pytest.raises(UsageError) as error:
        ModelSpec(name, size, 3, 4).build(0, "classifier")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_without_timm_the_extra_is_named(monkeypatch):
    from winnow.models import timm_network

    monkeypatch.setitem(sys.modules, "timm", None)
    timm_network.timm_network.cache_clear()
    with pytest.raises(UsageError, match=r'pip install "winnow-images\[timm\]"$'):
        ModelSpec("timm:resnet18", 32, 3, 10)


@pytest.mark.slow
def test_timm_and_torchvision_are_imported_only_when_named():
    code = (
        "import sys\n"
        "from winnow.models import ModelSpec\n"
        "from winnow.train import session\n"
        "ModelSpec('preact-resnet18', 32, 3, 2)\n"
        "assert not {'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
