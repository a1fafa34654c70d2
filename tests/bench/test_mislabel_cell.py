import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from winnow.bench import mislabel_cell, mislabel_data
from winnow.bench.learner import Learner
from winnow.bench.mislabel import Condition, Design
from winnow.bench.mislabel_cell import (
    PlainViews,
    calibration_error,
    in_steps,
    packed_mistakes,
    run_cell,
    unpacked_mistakes,
    whole_batch,
)
from winnow.data.views import Preprocessing
from winnow.errors import InputError
from winnow.methods.base import Phase
from winnow.models import ModelSpec

LEARNER = Learner("cross-entropy", "shallow-mlp", "steps", 12)


def config(kind="unbiased", rate=0.4, size=60, repeat=0, learner=LEARNER, **changes):
    design = Design({"data": "digits"}, "", (learner,), (size,), **changes)
    return json.loads(json.dumps(dict(design.cell(Condition(learner, kind, rate, size), repeat).config)))


def measured(*arguments, **options):
    result = run_cell(config(*arguments, **options))
    result.pop("times")
    return result


def test_a_cell_gives_the_same_numbers_whatever_ran_before():
    first = measured()
    torch.manual_seed(5)
    measured(kind="biased", repeat=1)
    mislabel_data.shared_pool.cache_clear()

    assert measured() == first
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize("size", [60, 80, 300])
def test_every_size_takes_the_same_steps(size):
    result = measured(size=size)

    assert result["steps"] == 12
    assert [mark["step"] for mark in result["curve"]] == [2, 3, 6, 9, 12]
    assert result["curve"][-1]["given_flipped"] == result["given_flipped"]


def test_epochs_may_be_asked_for_instead():
    result = measured(size=128, learner=Learner("cross-entropy", "shallow-mlp", "epochs", 3))

    assert result["steps"] == 6  # two batches of 64, three times
    assert result["batch_size"] == 64


def test_what_was_measured_is_about_the_labels_that_were_made_wrong():
    result = measured(rate=0.4, size=60)
    clean = measured("clean", 0.0)

    assert result["realised_rate"] == pytest.approx(0.4)
    assert result["given_flipped"] + result["true_flipped"] <= 1
    assert clean["given_flipped"] is clean["true_flipped"] is None
    assert clean["realised_rate"] == 0
    assert (result["num_classes"], result["num_test"]) == (10, 360)


def test_the_kept_predictions_tell_the_accuracy():
    result = measured()
    mistakes = unpacked_mistakes(result["mistakes"])

    assert len(mistakes) == 360
    assert (mistakes == 0).mean() == pytest.approx(result["test_accuracy_last"])


def test_the_best_step_is_chosen_on_wrong_labels():
    result = measured(size=300)
    best = max(result["curve"], key=lambda mark: mark["validation"])

    assert result["best_step"] == best["step"]


def test_a_long_enough_training_memorises_wrong_labels():
    result = measured(size=60, learner=Learner("cross-entropy", "shallow-mlp", "steps", 300))

    assert result["given_flipped"] == result["given_clean"] == 1
    assert result["true_flipped"] == 0


def test_any_method_of_the_table_can_be_the_learner():
    learner = Learner("bootstrap-soft", "mlp", "steps", 12)

    assert measured(learner=learner)["steps"] == 12


def test_nothing_is_augmented_and_no_weight_decays(monkeypatch):
    seen = {}
    run = mislabel_cell.Trainer.run

    def spied(trainer):
        run(trainer)
        seen["decay"] = trainer.optimizers.get("main", None).weight_decay
        seen["momentum"] = trainer.optimizers.get("main", None).momentum

    monkeypatch.setattr(mislabel_cell.Trainer, "run", spied)
    measured()
    pixels = torch.arange(2 * 8 * 8, dtype=torch.uint8).reshape(2, 8, 8, 1)
    views = PlainViews(pixels, Preprocessing(8, 1, (0.0,), (1.0,), mirror=True), seed=0)

    assert seen == {"decay": 0.0, "momentum": 0.9}
    for epoch in range(3):
        weak = views.view("weak", np.arange(2), epoch, "train")
        assert torch.allclose(weak[:, 0], pixels[..., 0] / 255, atol=1e-6)


def test_a_cell_that_diverges_fails_instead_of_becoming_another_cell():
    with pytest.raises(InputError, match="diverged"):
        run_cell(config(learning_rate=1e30))


def test_phases_keep_their_share_of_the_steps():
    plan = [Phase("warm up", print, epochs=1), Phase("learn", print, epochs=3), Phase("end", print, steps=20)]

    shorter = in_steps(plan, 100, epoch_steps=20)

    # 1, 3 and 20 / 20 = 1 epochs: fifths of 100.
    assert [(phase.name, phase.epochs, phase.steps) for phase in shorter] == [
        ("warm up", 0, 20),
        ("learn", 0, 60),
        ("end", 0, 20),
    ]
    assert sum(phase.steps for phase in in_steps(plan, 7, 20)) == 7


def test_a_batch_shrinks_where_it_would_leave_out_too_much():
    # 80 = 2 x 40, 300 = 5 x 60; of 1,200 and 55,000 less than a twentieth is left over.
    assert [whole_batch(n, 64) for n in (10, 80, 300, 1200, 8000, 55_000)] == [10, 40, 60, 64, 64, 64]


def test_the_calibration_error_by_hand():
    # Confidences 0.95 and 0.95 (one right), 0.55 (wrong): bins 14, 14, 8: (|1.9 - 1| + |0.55 - 0|) / 3.
    probs = np.array([[0.95, 0.05], [0.95, 0.05], [0.45, 0.55]])

    assert calibration_error(probs, np.array([0, 1, 0])) == pytest.approx((0.9 + 0.55) / 3)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_mistakes_survive_packing_and_zero_means_right():
    labels = np.arange(300) % 7
    predicted = (labels + np.arange(300) % 3) % 7

    text = packed_mistakes(predicted, labels, 7)

    assert np.array_equal(unpacked_mistakes(text), np.arange(300) % 3)


def test_of_many_test_images_the_same_thousand_are_kept():
    labels = np.arange(5000) % 10

    first, second = (unpacked_mistakes(packed_mistakes((labels + k) % 10, labels, 10)) for k in (1, 2))

    assert len(first) == 1000
    assert (set(first), set(second)) == ({1}, {2})


def test_two_classes_are_enough(monkeypatch):
    pool = mislabel_data.shared_pool('{"data":"digits"}')
    two = pool.labels < 2
    source = mislabel_data.subset(pool.source, np.flatnonzero(two))
    source = SimpleNamespace(noisy_labels=source.noisy_labels, class_names=("0", "1"), num_classes=2, mirror=False)
    rows = np.arange(two.sum())
    shown = pool.test_labels < 2
    small = mislabel_data.Pool(
        source, pool.images[two], rows[40:], rows[:40], pool.test_images[shown], pool.test_labels[shown]
    )
    monkeypatch.setattr(mislabel_cell, "shared_pool", lambda opening: small)

    result = measured(kind="biased", rate=0.2, size=60)

    assert result["num_classes"] == 2
    assert result["test_accuracy_last"] > 0.7


def test_the_studys_perceptron_has_one_hidden_layer_of_twice_the_pixels_at_most_256():
    shapes = {
        size: [tuple(p.shape) for p in ModelSpec("shallow-mlp", size, 1, 10).build(0, "classifier").parameters()]
        for size in (8, 28)
    }

    assert shapes[8] == [(128, 64), (128,), (10, 128), (10,)]
    assert shapes[28] == [(256, 784), (256,), (10, 256), (10,)]
