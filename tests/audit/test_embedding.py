"""Which numbers stand for the pictures, and that they are kept."""

from dataclasses import replace

import numpy as np
import pytest

from tests.audit.pictures import halves, of_pictures, opened
from winnow.audit import embedding as module
from winnow.audit.embedding import embed
from winnow.errors import InputError, Interrupted, UsageError
from winnow.models import ModelSpec
from winnow.train.progress import Progress


class Told(Progress):
    """Remembers what was said."""

    def __init__(self):
        self.lines, self.fractions = [], []

    def understood(self, label, text):
        self.lines.append(f"{label}: {text}")

    def training(self, **told):
        self.fractions.append(told["fraction"])


@pytest.fixture
def unclear(monkeypatch):
    """Thumbnails are never good enough."""
    monkeypatch.setattr(module, "CLEAR", 1.1)


@pytest.fixture
def no_training(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(module, "trained", refused)


@pytest.mark.parametrize(
    ("source", "budget", "reason"),
    [
        (halves(side=16), 5.0, "no larger"),
        (halves(), 0.0, "too small for a training"),
        (halves(), 0.001, "too small for a training"),
        (halves(num=99), 5.0, "99 labels are too few"),
        (replace(halves(), noisy_labels=np.zeros(120, dtype=np.int64)), 5.0, "one class"),
        (replace(halves(), noisy_labels=np.full(120, -1)), 5.0, "0 labels are too few"),
        (halves(), 5.0, "agree with 80 % of the labels, so nothing was trained"),
        (halves(num=2), 5.0, "2 labels are too few"),
        (halves(num=1), 5.0, "1 labels are too few"),
    ],
)
def test_nothing_is_trained_where_that_is_impossible_or_needless(no_training, source, budget, reason):
    found = embed(*opened(source), budget_minutes=budget)
    assert reason in found.description
    assert found.features.shape[0] == len(source)
    assert found.probs is None
    assert found.memory is None


def test_more_classes_than_images_are_no_trouble(no_training):
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (5, 20, 20, 3), dtype=np.uint8)
    source = of_pictures(images, [0, 3, 9, 11, 11], class_names=tuple(f"c{k}" for k in range(12)))
    assert embed(*opened(source)).features.shape == (5, 441 + 768)


def test_many_pictures_are_trained_on(monkeypatch):
    monkeypatch.setattr(module, "FEW_IMAGES", 119)
    monkeypatch.setattr(module, "trained", lambda *_, **__: "trained")
    assert embed(*opened(halves())) == "trained"


def test_the_training_sees_no_truth_and_is_told_apart_by_content(unclear, tmp_path):
    source, collection = opened(halves())
    told = Told()
    first = embed(source, collection, budget_minutes=0.006, cache=tmp_path, progress=told)
    assert first.features.shape[0] == 120
    np.testing.assert_allclose(np.linalg.norm(first.features, axis=1), 1, rtol=1e-3)
    assert first.probs is None  # it has learnt these very labels
    assert np.isfinite(first.memory).sum() == 114  # six labels are held back
    assert np.nanmin(first.memory) >= 0
    assert np.nanmax(first.memory) <= 1
    assert first.by_heart is not None
    assert (first.by_heart.learnt[1], first.by_heart.held_back[1]) == (114, 6)
    assert told.fractions == sorted(told.fractions)
    assert told.fractions[-1] == pytest.approx(1, abs=0.05)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]

    again = embed(source, collection, budget_minutes=0.006, cache=tmp_path, progress=told)
    assert again.features.tobytes() == first.features.tobytes()
    assert "earlier" in told.lines[-1]

    other = source.noisy_labels.copy()
    other[0] = 1 - other[0]
    embed(replace(source, noisy_labels=other), collection, budget_minutes=0.006, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_without_a_cache(unclear):
    source, collection = opened(halves())
    one, two, other = (embed(source, collection, budget_minutes=0.006, seed=seed) for seed in (3, 3, 4))
    assert one.features.tobytes() == two.features.tobytes()
    assert one.memory.tobytes() == two.memory.tobytes()
    assert one.features.tobytes() != other.features.tobytes()


def test_an_interruption_keeps_the_work_and_says_so(unclear, tmp_path, monkeypatch):
    def stopped(source, collection, plan, folder, **_):
        (folder / "checkpoint").write_bytes(b"x")
        raise Interrupted("resume with winnow train", 2)

    monkeypatch.setattr(module, "trained", stopped)
    source, collection = opened(halves())
    with pytest.raises(Interrupted, match="the same call goes on") as error:
        embed(source, collection, cache=tmp_path)
    assert error.value.exit_code == 130
    (work,) = tmp_path.iterdir()
    assert (work / "checkpoint").exists()
    with pytest.raises(Interrupted, match="nothing is kept"):
        embed(source, collection)


def test_weights_of_a_network_give_its_features(tmp_path):
    from safetensors.torch import save_file

    source, collection = opened(halves(side=16))
    network = ModelSpec("convnet", 16, 1, 2).build(0, "any")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="--model"):
        embed(source, collection, weights=tmp_path / "w.safetensors")
    found = embed(source, collection, weights=tmp_path / "w.safetensors", model="convnet", cache=tmp_path / "c")
    assert found.features.shape == (120, network.num_features)
    assert found.probs is None
    assert "w.safetensors" in found.description
    assert len(list((tmp_path / "c").iterdir())) == 1


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_an_impossible_budget_is_refused(minutes):
    with pytest.raises(UsageError, match="--budget"):
        embed(*opened(halves()), budget_minutes=minutes)


def test_a_model_without_weights_is_refused():
    with pytest.raises(UsageError, match="--weights"):
        embed(*opened(halves()), model="convnet")


def test_a_missing_weights_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt"):
        embed(*opened(halves()), weights=tmp_path / "none.pt", model="convnet")
