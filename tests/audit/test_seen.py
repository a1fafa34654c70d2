"""What networks that are there already say of pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.audit.pictures import halves, opened
from winnow.audit.seen import from_run, pictures_of, seen
from winnow.data.pixels import ArrayPixels
from winnow.data.rows import subset
from winnow.data.views import Preprocessing
from winnow.errors import InputError
from winnow.functional.task import SingleLabel
from winnow.models import ModelSpec
from winnow.train.device import Device
from winnow.train.fit import fit
from winnow.train.progress import Progress
from winnow.train.settings import Settings

CPU = Device(torch.device("cpu"), "float32", 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training of 40 pictures."""
    source = halves(num=40)
    return source, fit(source, Settings(epochs=1, validation=0.0, threads=1), tmp_path_factory.mktemp("run") / "r")


@pytest.mark.parametrize("mirror", [False, True])
def test_features_and_probabilities_are_those_of_the_networks(mirror):
    pixels = np.random.default_rng(0).integers(0, 255, (7, 16, 16, 3), dtype=np.uint8)
    networks = [ModelSpec("convnet", 16, 3, 4).build(seed, "any").eval() for seed in (0, 1)]
    preprocessing = Preprocessing(16, 3, (0.5,) * 3, (0.25,) * 3, mirror)
    parts = [ArrayPixels(pixels[:3]), ArrayPixels(pixels[3:3]), ArrayPixels(pixels[3:])]
    features, probs = seen(networks, SingleLabel(), preprocessing, parts, 7, CPU, Progress())

    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    views = [images, images.flip(3)] if mirror else [images]
    with torch.no_grad():
        expected = []
        for network in networks:
            mean = sum(network.features(view) for view in views) / len(views)
            expected.append(mean / mean.norm(dim=1, keepdim=True))
        softmaxes = [network(view).softmax(dim=1) for network in networks for view in views]
    np.testing.assert_allclose(features, torch.cat(expected, dim=1).numpy(), atol=1e-4)
    np.testing.assert_allclose(probs, (sum(softmaxes) / len(softmaxes)).numpy(), atol=1e-4)


def test_a_run_gives_features_and_its_memory_but_no_probabilities(run):
    source, done = run
    found = from_run(done.folder, source, opened(source)[1])
    assert found.features.shape == (40, 256)
    assert found.probs is None
    assert np.array_equal(found.memory, done.labels["label_quality"].to_numpy().astype(np.float32))
    assert done.folder.name in found.description


def test_a_run_is_asked_about_the_readable_pictures_alone(run):
    source, done = run
    collection = replace(opened(subset(source, np.arange(3, 40)))[1], rows=np.arange(3, 40))
    whole = from_run(done.folder, source, opened(source)[1])
    found = from_run(done.folder, source, collection)
    assert np.array_equal(found.memory, whole.memory[3:])
    np.testing.assert_allclose(found.features, whole.features[3:], atol=1e-2)


def changed_label(source):
    labels = source.noisy_labels.copy()
    labels[5] = 1 - labels[5]
    return replace(source, noisy_labels=labels)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (changed_label, "other labels"),
        (lambda source: replace(source, ids=[*source.ids[:-1], "other"]), "other images"),
        (lambda source: subset(source, np.arange(39)), "other images"),
        (lambda source: replace(source, class_names=("a", "b")), "other classes"),
    ],
)
def test_a_run_of_other_data_is_refused(run, change, what):
    source, done = run
    other = change(source)
    with pytest.raises(InputError, match=what):
        from_run(done.folder, other, opened(other)[1])


def test_a_damaged_or_missing_run_is_refused(run, tmp_path):
    source, _ = run
    with pytest.raises(InputError, match="no finished run"):
        from_run(tmp_path, source, opened(source)[1])


def test_a_damaged_table_of_a_run_is_named(run, tmp_path):
    source, done = run
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((done.folder / name).read_bytes())
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"labels\.parquet: cannot be read"):
        from_run(tmp_path, source, opened(source)[1])


def test_pictures_of_another_size_are_read_again(tmp_path):
    source, collection = opened(halves(num=6))
    (part,) = pictures_of(source, collection, 10, 1)
    assert part.shape == (6, 10, 10, 1)
    (same,) = pictures_of(source, collection, 20, 1)
    assert same is collection.pixels
    with pytest.raises(InputError, match="changed"):
        list(pictures_of(source, replace(collection, rows=collection.rows[1:]), 10, 1))


def test_the_model_card_of_a_run_names_its_network(run):
    _, done = run
    assert json.loads((done.folder / "model.json").read_text())["model"] == "convnet"
