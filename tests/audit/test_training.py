"""Networks trained for features: what is planned, and who has seen which label."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.audit.pictures import halves, of_pictures, opened
from winnow.audit import training as module
from winnow.audit.embedded import ByHeart
from winnow.audit.training import Plan, planned, trained
from winnow.data.collection import load
from winnow.data.pixels import Backing
from winnow.train.device import Device
from winnow.train.progress import Progress

CPU = Device(torch.device("cpu"), "bf16", 1)


def sized(num, side, channels=3, classes=10):
    """Something with the shape of a collection."""
    source = SimpleNamespace(noisy_labels=np.arange(num) % classes, is_multilabel=False)
    return source, SimpleNamespace(rows=np.arange(num), size=side)


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Instead of training: the network remembers 0.25 of what it learnt, and predicts the first class."""
    sources = []

    def fit(source, settings, out, **_):
        sources.append(source)
        known = (source.noisy_labels >= 0).reshape(len(source), -1).any(axis=1)
        return SimpleNamespace(
            folder=out, labels=pa.table({"label_quality": pa.array(np.full(len(source), 0.25), mask=~known)})
        )

    def seen(networks, task, preprocessing, pictures, total, device, progress):
        return np.ones((total, 3), np.float32), np.tile(np.float32([1, 0]), (total, 1))

    nothing = SimpleNamespace(networks=[], task=None, preprocessing=None)
    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(module, "seen", seen)
    monkeypatch.setattr(module, "Predictor", SimpleNamespace(load=lambda _: nothing))

    def run(source, collection, images=120, size=20):
        plan = Plan("winnow", "convnet", size, images, 3, 64, 0.1)
        found = trained(source, collection, plan, tmp_path, seed=0, device=CPU, progress=Progress())
        return found, sources[-1]

    return run


def test_every_label_is_learnt_and_none_of_the_truth_is_passed_on(runs):
    source, collection = opened(halves(verified=np.arange(120) < 3))
    found, learnt = runs(source, collection)
    assert np.array_equal(learnt.noisy_labels, source.noisy_labels)
    assert np.array_equal(learnt.pictures.array, collection.images[..., 0])
    assert learnt.verified.sum() == 3
    assert learnt.clean_labels is None
    assert (found.memory == 0.25).all()
    assert found.probs is None
    assert "winnow on 120 images of 20 px, 3 epochs" in found.description


def test_labels_beyond_the_plan_are_not_learnt_but_the_pictures_are_seen(runs):
    source, collection = opened(halves())
    found, learnt = runs(source, collection, images=40)
    assert (learnt.noisy_labels >= 0).sum() == 40
    assert set(np.flatnonzero(learnt.noisy_labels >= 0)) != set(range(40))
    assert np.array_equal(np.isnan(found.memory), learnt.noisy_labels < 0)
    assert found.features.shape == (120, 3)
    assert (source.noisy_labels >= 0).all()


def test_unlabelled_pictures_have_no_memory(runs):
    source, collection = opened(halves())
    source.noisy_labels[7] = -1
    found, _ = runs(source, collection)
    assert np.isnan(found.memory).nonzero()[0].tolist() == [7]


def test_several_classes_an_image_have_no_memory(runs):
    source, collection = opened(halves())
    several = replace(source, noisy_labels=np.stack([source.noisy_labels, 1 - source.noisy_labels], 1).astype(np.int8))
    found, learnt = runs(several, collection)
    assert found.memory is None
    assert np.array_equal(learnt.noisy_labels, several.noisy_labels)


def test_large_pictures_are_averaged_down(runs):
    images = np.zeros((4, 64, 64, 3), np.uint8)
    images[:, ::2] = 201
    source, collection = opened(of_pictures(images, [0, 1, 0, 1]))
    pictures = runs(source, collection, images=4, size=32)[1].pictures.array
    assert pictures.shape == (4, 32, 32)
    assert (pictures == 100).all()


def test_pictures_on_disk_are_not_brought_into_memory(runs, tmp_path):
    source, collection = opened(halves())
    on_disk = load(source, backing=Backing(True, tmp_path))
    pictures = runs(source, on_disk)[1].pictures.array
    assert isinstance(pictures, np.memmap) or isinstance(pictures.base, np.memmap)
    assert np.array_equal(pictures, collection.images[..., 0])


def test_without_a_budget_nothing_is_learnt():
    assert planned(*sized(1000, 32), 0.0, CPU).images == 0


def test_more_threads_do_more_within_the_budget():
    two = Device(torch.device("cpu"), "bf16", 2)
    assert planned(*sized(50_000, 32), 15.0, two).epochs == int(1.7 * 13)


@pytest.mark.parametrize(("num", "side"), [(2_000, 32), (50_000, 32), (100_000, 64), (300, 20), (1_000_000, 32)])
@pytest.mark.parametrize("minutes", [0.5, 5.0, 15.0])
def test_a_plan_fits_its_budget_at_the_speed_assumed(num, side, minutes):
    plan = planned(*sized(num, side), minutes, CPU)
    assert plan.epochs >= 1
    assert plan.images <= num
    # A pass of two views is the least that there must be.
    last_pass = 2 * num / 3 / 1000 / 60
    assert plan.minutes <= minutes or last_pass >= minutes


def test_more_time_is_more_epochs_up_to_enough():
    epochs = [planned(*sized(50_000, 32), minutes, CPU).epochs for minutes in (5.0, 15.0, 60.0, 600.0)]
    assert epochs == [4, 13, 30, 30]


def test_the_last_pass_of_two_views_is_paid_from_the_budget():
    # Eight passes over 20,000 images: 8 * 20 * 1.33 = 212.8 s; a look at two views costs 2/3 of a step, 13.3 s.
    assert planned(*sized(20_000, 32), 220 / 60, CPU).epochs == 7
    assert planned(*sized(20_000, 32), 227 / 60, CPU).epochs == 8


def test_time_grows_with_the_pixels():
    plan = planned(*sized(500, 64), 15.0, CPU)
    # A hundred passes over 475 images (25 labels are held back), each four times as large as the 1,000 a second.
    assert plan.epochs == 100
    assert plan.minutes == round(100 * 475 * 4 * 1.33 / 1000 / 60, 1)


def test_large_pictures_keep_their_size_where_there_is_time():
    assert planned(*sized(500, 64), 15.0, CPU).size == 64
    assert planned(*sized(100_000, 64), 15.0, CPU).size == 32


def test_where_there_is_little_time_a_part_is_learnt():
    plan = planned(*sized(100_000, 32), 3.0, CPU)
    assert plan.images < 100_000
    assert plan.epochs == 4


def test_a_twentieth_of_the_labels_is_held_back_and_at_most_two_thousand():
    assert planned(*sized(4_000, 32), 5.0, CPU).images == 3_800
    assert planned(*sized(50_000, 32), 15.0, CPU).images == 48_000
    several = SimpleNamespace(noisy_labels=np.eye(10)[np.arange(400) % 10], is_multilabel=True)
    assert planned(several, SimpleNamespace(rows=np.arange(400), size=32), 5.0, CPU).images == 400


def test_what_is_known_by_heart_is_counted_among_the_labels_learnt_and_held_back(runs):
    source, collection = opened(halves())
    found, learnt = runs(source, collection, images=110)  # the network of this test names the first class
    told = learnt.noisy_labels >= 0
    first = source.noisy_labels == 0
    assert found.by_heart == ByHeart((int(first[told].sum()), 110), (int(first[~told].sum()), 10))
    assert runs(source, collection)[0].by_heart is None


def test_the_plan_is_the_same_whatever_else_the_machine_does():
    assert planned(*sized(50_000, 32), 5.0, CPU) == planned(*sized(50_000, 32), 5.0, CPU)
