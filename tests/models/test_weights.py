"""Starting weights: what fits is used, what does not is named, code is never run."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from winnow.errors import InputError, UsageError
from winnow.models import ModelSpec, PreActResNet18
from winnow.models.weights import Weights


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def network(classes=4, channels=3, name="convnet", size=16, weights=None, seed=0):
    return ModelSpec(name, size, channels, classes, weights=weights).build(seed, "classifier")


def stored(path, state):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return Weights.read(path)


def body(net):
    return {key: value for key, value in net.state_dict().items() if not key.startswith("head.")}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_a_network_starts_with_the_tensors_of_the_file(tmp_path, name):
    source = network(seed=7)
    weights = stored(tmp_path / name, source.state_dict())

    started = network(weights=weights, seed=1)

    assert all(torch.equal(value, source.state_dict()[key]) for key, value in started.state_dict().items())
    assert not torch.equal(network(seed=1).head.weight, source.head.weight)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"module.model.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {**{f"0.{key}": v for key, v in state.items()}, **{f"1.{key}": -v for key, v in state.items()}},
    ],
)
def test_usual_wrappings_are_taken_off(tmp_path, wrapped):
    source = network(seed=7)
    weights = stored(tmp_path / "w.pt", wrapped(source.state_dict()))

    match = weights.match(network())

    assert match.tensors.keys() == source.state_dict().keys()
    assert all(torch.equal(match.tensors[key], value) for key, value in source.state_dict().items())
    assert (match.missing, match.unused, match.head) == ((), (), True)


def test_a_head_of_another_width_stays_fresh(tmp_path):
    source = network(classes=10, seed=7)
    weights = stored(tmp_path / "w.safetensors", source.state_dict())

    started = network(classes=4, weights=weights, seed=1)

    assert torch.equal(started.head.weight, network(classes=4, seed=1).head.weight)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in body(started).items())
    count = len(body(source))
    assert str(weights.match(started)) == f"{count} tensors used; head fresh"


def test_a_head_for_other_classes_stays_fresh_though_it_is_as_wide(tmp_path):
    source = network(classes=2, seed=7)
    weights = stored(tmp_path / "model.safetensors", source.state_dict())
    (tmp_path / "model.json").write_text(json.dumps({"class_names": ["cat", "dog"], "preprocessing": {}}))
    weights = Weights.read(tmp_path)

    assert weights.of_classes(("cat", "dog")).match(source).head
    assert not weights.of_classes(("dog", "cat")).match(source).head
    fresh = network(classes=2, weights=weights.of_classes(("dog", "cat")), seed=1)
    assert torch.equal(fresh.head.weight, network(classes=2, seed=1).head.weight)


def test_tensors_that_have_no_place_or_are_not_there_are_told(tmp_path):
    state = network().state_dict()
    del state["body.1.weight"]
    state["extra.weight"] = torch.zeros(2)
    weights = stored(tmp_path / "w.pt", state)

    match = weights.match(network())

    assert match.missing == ("body.1.weight",)
    assert match.unused == ("extra.weight",)
    assert "1 without a place (extra.weight)" in str(match)


def test_nothing_that_fits_is_an_error_with_the_first_names(tmp_path):
    weights = stored(tmp_path / "w.pt", {"conv\n1.weight": torch.zeros(2), "fc.weight": torch.zeros(2)})

    with pytest.raises(InputError) as error:
        weights.match(network())
    line = str(error.value)
    assert "no tensor fits the network: the file has conv\\n1.weight, fc.weight, the network " in line
    assert "whitening.weight" in line
    assert "\n" not in line


def test_a_head_alone_is_nothing_that_fits(tmp_path):
    weights = stored(tmp_path / "w.pt", {"head.weight": torch.zeros(4, 256), "head.bias": torch.zeros(4)})

    with pytest.raises(InputError, match="no tensor fits"):
        weights.match(network())


def test_another_shape_in_the_body_is_an_error_that_names_it(tmp_path):
    state = network().state_dict()
    state["body.1.weight"] = torch.zeros(3, 2)
    weights = stored(tmp_path / "w.pt", state)

    with pytest.raises(InputError, match=r"1 tensors have another shape .* body\.1\.weight 3x2, not 64x48x3x3"):
        weights.match(network())


def test_numbers_that_are_none_are_refused(tmp_path):
    state = network().state_dict()
    state["body.1.weight"][0, 0] = float("nan")
    weights = stored(tmp_path / "w.safetensors", state)

    with pytest.raises(InputError, match=r"not finite in body\.1\.weight"):
        weights.match(network())


def test_a_first_layer_over_colours_is_summed_for_grey_images(tmp_path):
    source = PreActResNet18(16, 3, 4, widths=(4, 5, 6, 7)).eval()
    weights = stored(tmp_path / "w.pt", source.state_dict())
    grey = PreActResNet18(16, 1, 4, widths=(4, 5, 6, 7)).eval()
    weights.put_into(grey)
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        close(grey(x), source(x.expand(-1, 3, -1, -1)), 1e-4)
    assert "first layer summed over colours" in str(weights.match(grey))


def test_half_precision_is_read_into_single(tmp_path):
    source = network(seed=7)
    weights = stored(tmp_path / "w.safetensors", {key: value.half() for key, value in body(source).items()})

    started = network(weights=weights)

    assert started.body[1].weight.dtype == torch.float32
    assert torch.equal(started.body[1].weight, source.body[1].weight.half().float())


def test_timms_names_and_its_classifier_are_understood(tmp_path):
    timm = pytest.importorskip("timm")
    for name, classifier in (("test_resnet", "fc."), ("test_vit", "head."), ("test_convnext", "head.fc.")):
        theirs = timm.create_model(name, pretrained=False, num_classes=4).eval()
        weights = stored(tmp_path / f"{name}.pth", theirs.state_dict())
        ours = network(name=f"timm:{name}", size=160, weights=weights).eval()
        x = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))

        with torch.no_grad():
            close(ours(x), theirs(x))
        assert any(key.startswith(classifier) for key in theirs.state_dict())
        assert (weights.match(ours).missing, weights.match(ours).unused) == ((), ())
        wider = network(classes=9, name=f"timm:{name}", size=160, weights=weights)
        assert not weights.match(wider).head


# What a file beside the weights says


def test_a_runs_record_tells_normalisation_size_and_classes(tmp_path):
    stored(tmp_path / "model.safetensors", network().state_dict())
    card = {
        "class_names": ["a", "b"],
        "preprocessing": {"size": 24, "channels": 3, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "mirror": True},
    }
    (tmp_path / "model.json").write_text(json.dumps(card))

    for path in (tmp_path, tmp_path / "model.safetensors"):
        weights = Weights.read(path)
        assert weights.normalisation == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert (weights.size, weights.class_names) == (24, ("a", "b"))


def test_the_hubs_config_tells_normalisation_and_size(tmp_path):
    stored(tmp_path / "model.safetensors", network().state_dict())
    config = {"pretrained_cfg": {"mean": [0.5], "std": [0.25], "input_size": [3, 160, 160]}}
    (tmp_path / "config.json").write_text(json.dumps(config))

    weights = Weights.read(tmp_path)

    assert weights.normalisation == ((0.5,), (0.25,))
    assert weights.size == 160
    assert weights.normalisation.resized(3) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"preprocessing": {"mean": "x", "std": [0]}}', '{"preprocessing": {"mean": [1], "std": [0]}}'],
)
def test_a_record_that_says_nothing_useful_is_passed_over(tmp_path, text):
    stored(tmp_path / "model.safetensors", network().state_dict())
    (tmp_path / "model.json").write_text(text)

    assert Weights.read(tmp_path).normalisation is None


# Files that are refused


class Hostile:
    """Writes a file when unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin"])
@pytest.mark.parametrize("writer", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_code_in_a_pickle_is_refused_and_never_run(tmp_path, name, writer):
    canary = tmp_path / "canary"
    writer({"state_dict": network().state_dict(), "args": Hostile(canary)}, tmp_path / name)

    with pytest.raises(InputError, match="could run code, or is damaged: refused") as error:
        Weights.read(tmp_path / name)

    assert "\n" not in str(error.value)
    assert not canary.exists()


def safetensors_header(text, length=None):
    content = text.encode()
    return struct.pack("<Q", len(content) if length is None else length) + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        safetensors_header("{}", length=2**63),
        safetensors_header("{}", length=2**40),
        safetensors_header("{}", length=100_000_001),
        safetensors_header("not json"),
        safetensors_header('{"a": {"dtype": "F32", "shape": [1000000000, 1000], "data_offsets": [0, 4000000000000]}}'),
        safetensors_header('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}') + b"abcd",
        safetensors_header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}'),
        safetensors_header("{}"),
    ],
)
def test_a_hostile_or_empty_safetensors_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)

    with pytest.raises(InputError) as error:
        Weights.read(path)
    assert str(error.value).startswith(f"--weights {path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04" + bytes(50)])
def test_what_torch_never_wrote_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)

    with pytest.raises(InputError) as error:
        Weights.read(path)
    assert "\n" not in str(error.value)


def test_a_truncated_file_of_torch_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(InputError):
        Weights.read(path)


@pytest.mark.parametrize("thing", [[], 3, {"epoch": 3}, {"state_dict": {}}, torch.zeros(3)])
def test_a_file_without_named_tensors_is_refused(tmp_path, thing):
    torch.save(thing, tmp_path / "w.pt")

    with pytest.raises(InputError, match="holds no named tensors"):
        Weights.read(tmp_path / "w.pt")


def test_tensors_that_are_no_plain_numbers_are_left_out(tmp_path):
    state = network().state_dict()
    state["whitening.weight"] = state["whitening.weight"].to_sparse()
    state["odd"] = torch.zeros(2, dtype=torch.complex64)

    weights = stored(tmp_path / "w.pt", state)

    assert not {"whitening.weight", "odd"} & weights.tensors.keys()


def test_the_ending_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"w\.h5: must end in \.safetensors, \.pt, \.pth, \.bin$"):
        Weights.read(tmp_path / "w.h5")
    with pytest.raises(InputError, match=r"cannot be read: No such file or directory$"):
        Weights.read(tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read"):
        Weights.read(tmp_path)
