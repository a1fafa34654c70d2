"""Training a head on the features of a fixed body: the same answers as the whole network, at the price of the head."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import winnow
from winnow.data.views import Preprocessing, Views
from winnow.errors import InputError, Interrupted, UsageError
from winnow.methods import METHODS
from winnow.models import ModelSpec
from winnow.models.frozen import FrozenSpec
from winnow.models.weights import Weights
from winnow.train.device import Device
from winnow.train.frozen import FeatureViews, feature_views, head_learning_rate
from winnow.train.predictor import Predictor
from winnow.train.progress import Progress

CPU = Device(torch.device("cpu"), "float32", 1)
METHODS_WITHOUT_NEEDS = [name for name, method in METHODS.items() if not method.needs]


class Heard(Progress):
    """Keeps what was said; interrupts the process in a step of the run if asked to."""

    def __init__(self, stop_at=None):
        self.lines = []
        self.warnings = []
        self.stages = []
        self.steps = 0
        self.stop_at = stop_at

    def understood(self, label, text):
        self.lines.append(f"{label}: {text}")

    def warning(self, text):
        self.warnings.append(text)

    def stage(self, name, done, total):
        self.stages.append((name, done, total))

    def training(self, **_):
        self.steps += 1
        if self.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.fixture
def body(tmp_path) -> Path:
    """Weights of an mlp for digits of 8 px, with a head for 5 classes."""
    path = tmp_path / "body.safetensors"
    save_file(ModelSpec("mlp", 8, 1, 5).build(42, "body").state_dict(), path)
    return path


def digits(limit=200):
    return winnow.open_source("digits", limit=limit)


def frozen(out, body, progress=None, method="cross-entropy", epochs=3, **options):
    return winnow.fit(
        digits(), method, out=out, weights=body, freeze=True, epochs=epochs, precision="float32", progress=progress,
        **options,
    )  # fmt: skip


def test_every_view_of_an_image_is_the_bodys_features_of_its_plain_view(body):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    views = Views(torch.from_numpy(pixels), Preprocessing.of(pixels, mirror=True), seed=0)
    network = ModelSpec("mlp", 8, 1, 3).build(0, "classifier").eval()
    heard = Heard()

    found = feature_views(network, views, CPU, heard, "features")

    rows = np.array([299, 0, 7])
    expected = network.features(views.view("plain", rows, 0, ""))
    for kind in ("plain", "weak", "strong"):
        view = found.view(kind, rows, 3, "x")
        assert view.shape == (3, 256, 1, 1)
        close(view[:, :, 0, 0], expected)
    assert heard.stages[-1] == ("features", 300, 300)


def test_a_body_with_batch_statistics_keeps_them(tmp_path):
    spec = ModelSpec("convnet", 16, 1, 3)
    trained = spec.build(0, "x")
    trained(torch.randn(8, 1, 16, 16))
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    weights = Weights.read(tmp_path / "w.safetensors")
    chosen = FrozenSpec.of(ModelSpec("convnet", 16, 1, 3, weights=weights), 0)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), dtype=np.uint8)

    views = Views(torch.from_numpy(pixels), Preprocessing.of(pixels, mirror=False), seed=0)
    feature_views(chosen.body, views, CPU, Progress(), "features")

    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in chosen.body.state_dict().items())
    assert not any(p.requires_grad for p in chosen.body.parameters())


def test_a_head_starts_as_that_of_the_whole_network_and_differs_by_purpose():
    spec = ModelSpec("mlp", 8, 1, 3)
    heads = FrozenSpec.of(spec, 5)

    assert torch.equal(heads.build(5, "classifier").head.weight, spec.build(5, "classifier").head.weight)
    assert not torch.equal(heads.build(5, "classifier").head.weight, heads.build(5, "second").head.weight)
    assert [name for name, _ in heads.build(5, "second").named_parameters()] == ["head.weight", "head.bias"]


def test_the_rate_of_a_head_is_twice_the_inverse_of_the_mean_square(body):
    features = torch.tensor([[3.0, 4.0], [0.0, 5.0]])  # |x|^2 = 25 both
    pixels = np.zeros((2, 8, 8, 1), dtype=np.uint8)
    views = Views(torch.from_numpy(pixels), Preprocessing.of(pixels, mirror=False), seed=0)

    class Given(torch.nn.Module):
        def features(self, images):
            return features

    found = feature_views(Given(), views, CPU, Progress(), "features")

    assert head_learning_rate(found, 1.0) == pytest.approx(2 / 25)
    assert head_learning_rate(found, 0.5) == pytest.approx(8 / 25)


@pytest.mark.parametrize(("feature", "told"), [(1e30, "inf"), (0.0, "0"), (float("nan"), "nan")])
def test_features_from_which_no_rate_follows_are_told(feature, told):
    features = torch.full((2, 1, 1, 3), feature)
    views = FeatureViews(features, Preprocessing.of(np.zeros((2, 8, 8, 1), dtype=np.uint8), mirror=False), seed=0)

    with pytest.raises(InputError, match=f"a mean square of {told}, .*give other --weights, or a --learning-rate"):
        head_learning_rate(views, 1.0)


@pytest.mark.parametrize("method", METHODS_WITHOUT_NEEDS)
def test_every_method_trains_a_head_resumes_to_the_same_bits_and_predicts(method, body, tmp_path):
    whole = frozen(tmp_path / "whole", body, method=method)
    with pytest.raises(Interrupted):
        frozen(tmp_path / "cut", body, Heard(stop_at=4), method=method)
    resumed = frozen(tmp_path / "cut", body, method=method, resume=True)

    assert (whole.folder / "model.safetensors").read_bytes() == (resumed.folder / "model.safetensors").read_bytes()
    assert whole.labels.equals(resumed.labels)
    stored = load_file(whole.folder / "model.safetensors")
    given = load_file(body)
    for name, value in given.items():
        if name.startswith("body."):
            assert torch.equal(stored[f"0.{name}"], value)
    assert stored["0.head.weight"].shape == (10, 256)
    found = whole.predict(digits(30))
    assert found.probs.shape == (30, 10)
    assert np.allclose(found.probs.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"averaging": True}, {"views": "strong"}])
def test_mixing_averaging_and_strong_views_run_on_features(options, body, tmp_path):
    run = frozen(tmp_path / "run", body, epochs=20, **options)

    assert run.summary["given_label_agreement"] > 0.3  # ten classes; the body is random but fixed


def test_the_stored_network_predicts_what_the_head_on_features_did(body, tmp_path):
    run = frozen(tmp_path / "run", body, epochs=5)

    probs = Predictor.load(run.folder).predict(digits(), CPU).probs

    table = run.labels.to_pydict()
    assert probs.argmax(axis=1).tolist() == table["suggested_label"]
    np.testing.assert_allclose(probs.max(axis=1), table["suggested_probability"], atol=1e-5)


def test_what_is_done_is_told_and_recorded(body, tmp_path):
    heard = Heard()

    run = frozen(tmp_path / "run", body, heard)

    assert "Weights: body.safetensors: 4 tensors used; head fresh" in heard.lines
    assert "Frozen: 256 features an image, computed once; every view the same" in heard.lines
    config = (run.folder / "config.toml").read_text()
    assert f'weights = "{body}"' in config
    assert "freeze = true" in config
    assert run.summary["settings"]["freeze"] is True


def test_a_run_of_ours_gives_weights_with_their_normalisation(tmp_path):
    first = winnow.fit(digits(), "cross-entropy", out=tmp_path / "first", epochs=1)
    card = json.loads((first.folder / "model.json").read_text())
    heard = Heard()

    second = winnow.fit(
        winnow.open_source("digits", limit=100), "cross-entropy", out=tmp_path / "second", weights=first.folder,
        freeze=True, epochs=1, progress=heard,
    )  # fmt: skip

    assert (
        json.loads((second.folder / "model.json").read_text())["preprocessing"]["mean"]
        == (card["preprocessing"]["mean"])
    )
    assert any(line.startswith("Note: normalised as the weights want") for line in heard.lines)
    assert any(line.endswith("6 tensors used; head taken over") for line in heard.lines)
    assert not any("see --image-size" in line for line in heard.lines)


def test_weights_from_images_of_another_size_are_remarked_upon(tmp_path):
    first = winnow.fit(digits(), "cross-entropy", out=tmp_path / "first", image_size=16, epochs=1)
    heard = Heard()

    winnow.fit(digits(), "cross-entropy", out=tmp_path / "b", weights=first.folder, image_size=24, epochs=1,
               progress=heard)  # fmt: skip

    assert "Note: weights of 16 px on images of 24 px: see --image-size" in heard.lines


def test_weights_without_freezing_train_everything_at_a_tenth_of_the_rate(body, tmp_path):
    run = winnow.fit(digits(), "cross-entropy", out=tmp_path / "run", weights=body, epochs=2)

    assert run.summary["settings"]["learning_rate"] == pytest.approx(0.05 / 10)
    stored = load_file(run.folder / "model.safetensors")
    assert not torch.equal(stored["0.body.0.weight"], load_file(body)["body.0.weight"])


def test_other_weights_are_refused_on_resuming(body, tmp_path):
    with pytest.raises(Interrupted):
        frozen(tmp_path / "run", body, Heard(stop_at=4))
    save_file(ModelSpec("mlp", 8, 1, 5).build(43, "body").state_dict(), body)

    with pytest.raises(InputError, match="other weights"):
        frozen(tmp_path / "run", body, resume=True)


def test_a_body_that_the_weights_leave_at_random_is_warned_of(body, tmp_path):
    state = load_file(body)
    del state["body.2.weight"]
    save_file(state, body)
    heard = Heard()

    frozen(tmp_path / "run", body, heard, epochs=1)

    assert any("leave 1 tensors of the body at random: body.2.weight" in text for text in heard.warnings)


def test_freezing_needs_weights_and_sizes_have_a_smallest():
    with pytest.raises(UsageError, match="--freeze keeps the network's body as given --weights have it"):
        winnow.fit(digits(), freeze=True)
    with pytest.raises(UsageError, match="--image-size must lie in 8 to 2,048, got 7"):
        winnow.fit(digits(), image_size=7)


def test_images_are_scaled_to_the_size_asked_for(tmp_path):
    run = winnow.fit(digits(), "cross-entropy", out=tmp_path / "run", image_size=16, epochs=1)

    assert run.summary["image_size"] == 16
    assert run.summary["model"] == "convnet"
    assert json.loads((run.folder / "model.json").read_text())["preprocessing"]["size"] == 16
    assert run.predict(digits(20)).probs.shape == (20, 10)


@pytest.mark.slow
def test_a_network_of_timm_with_a_size_of_its_own_trains_frozen_and_predicts(tmp_path):
    timm = pytest.importorskip("timm")
    path = tmp_path / "vit.pth"
    torch.save({"state_dict": timm.create_model("test_vit", pretrained=False).state_dict()}, path)
    heard = Heard()

    run = winnow.fit(
        digits(60), "cross-entropy", out=tmp_path / "run", model="timm:test_vit", weights=path, freeze=True, epochs=2,
        precision="float32", progress=heard,
    )  # fmt: skip

    assert run.summary["image_size"] == 160
    assert "Note: normalised as the weights want: mean 0.5; spread 0.5" in heard.lines
    assert any("first layer summed over colours; head fresh" in line for line in heard.lines)
    predictor = Predictor.load(run.folder)
    assert predictor.preprocessing.mean == (0.5,)
    probs = predictor.predict(digits(60), CPU).probs
    suggested = run.labels["suggested_probability"].to_numpy()
    np.testing.assert_allclose(probs.max(axis=1), suggested, atol=1e-4)
