"""Stored soft labels: what is kept, what becomes of the rest, and how they come back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from winnow.functional.stored_targets import StoredTargets, all_probs, largest_probs
from winnow.labels.memory import Memory

HALF = 2**-11  # relative rounding of float16


def some_probs(count, classes, seed=0):
    logits = 3 * torch.randn(count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return logits.softmax(dim=1)


def test_the_largest_are_kept_and_the_rest_is_spread_evenly():
    stored = StoredTargets(Memory(4), 6, kept=2)

    stored.write(torch.tensor([2, 0]), torch.tensor([[0.5, 0.0, 0.25, 0.125, 0.125, 0.0], [0.0, 0.0, 0, 0, 0, 1.0]]))

    expected = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.0625, 0.25, 0.0625, 0.0625, 0.0625]])
    assert torch.equal(stored.read(torch.tensor([0, 2])), expected)


@pytest.mark.parametrize("kept", [5, 8])
def test_where_every_class_is_kept_the_row_comes_back_dense(kept):
    probs = some_probs(20, 5)
    memory = Memory(20)
    stored = StoredTargets(memory, 5, kept=kept)

    stored.write(torch.arange(20), probs)

    rounded = probs.half().float()
    assert torch.equal(stored.read(torch.arange(20)), rounded / rounded.sum(dim=1, keepdim=True))
    assert list(memory.checksums()) == ["soft-labels"]  # no class indices


def test_the_cross_entropy_to_them_is_that_to_the_rows_cut_by_hand():
    probs, logits = some_probs(30, 40), some_probs(30, 40, seed=1).log()
    stored = StoredTargets(Memory(30), 40, kept=4)
    stored.write(torch.arange(30), probs)

    found = F.cross_entropy(logits, stored.read(torch.arange(30)).double(), reduction="none")

    for b in range(30):
        top = sorted(range(40), key=lambda k: -probs[b, k])[:4]
        rest = (1 - sum(probs[b, k] for k in top)) / 36
        by_hand = -sum((probs[b, k] if k in top else rest) * logits[b, k] for k in range(40))
        assert found[b].item() == pytest.approx(by_hand.item(), rel=4 * HALF, abs=4 * HALF)


def test_rows_sum_to_one_though_rounding_would_exceed_it():
    probs = torch.tensor([[0.3, 0.3, 0.3, 0.1, 0.0, 0.0]])
    assert probs[0].half().double().sum() > 1
    stored = StoredTargets(Memory(1), 6, kept=4)

    stored.write(torch.tensor([0]), probs)

    found = stored.read(torch.tensor([0]))
    assert found.sum().item() == pytest.approx(1, abs=1e-6)
    assert (found[0, 4:] == 0).all()


@pytest.mark.parametrize("classes", [4, 100])
def test_what_was_never_written_is_uniform(classes):
    stored = StoredTargets(Memory(3), classes, kept=8)
    found = stored.read(torch.tensor([1, 2]))
    torch.testing.assert_close(found, torch.full((2, classes), 1 / classes), rtol=2 * HALF, atol=0)


@pytest.mark.parametrize(("classes", "bytes_each"), [(8, 16), (1000, 32), (32_767, 32), (40_000, 48)])
def test_eight_probabilities_and_their_classes_are_all_that_is_stored(classes, bytes_each):
    memory = Memory(5)
    stored = StoredTargets(memory, classes)
    last = F.one_hot(torch.tensor([classes - 1]), classes).float()

    stored.write(torch.tensor([4]), last)

    assert torch.equal(stored.read(torch.tensor([4])), last)  # the class index is not wrapped round
    assert sum(rows.values[0].nbytes for rows in memory._rows.values()) == bytes_each


def test_relabelling_the_classes_relabels_what_is_read():
    probs, order = some_probs(10, 12), torch.randperm(12, generator=torch.Generator().manual_seed(2))
    plain, relabelled = (StoredTargets(Memory(10), 12, kept=3) for _ in range(2))
    plain.write(torch.arange(10), probs)
    relabelled.write(torch.arange(10), probs[:, order])

    assert torch.allclose(relabelled.read(torch.arange(10)), plain.read(torch.arange(10))[:, order], rtol=0, atol=1e-7)


def test_nothing_kept_is_refused():
    with pytest.raises(ValueError, match="kept must be at least 1, got 0"):
        StoredTargets(Memory(3), 5, kept=0)


def test_all_classes_kept_are_the_probabilities_themselves():
    probs = some_probs(7, 5)
    assert torch.allclose(all_probs(*largest_probs(probs, 5), 5), probs, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kept", [2, 5])
def test_classes_that_are_present_or_absent_by_themselves_keep_the_mean_of_the_rest(kept):
    probs = torch.tensor([[0.5, 0.75, 0.25, 0.875, 0.0]])
    stored = StoredTargets(Memory(1), 5, kept=kept, exclusive=False)

    stored.write_largest(torch.tensor([0]), *largest_probs(probs, kept))

    expected = probs if kept == 5 else torch.tensor([[0.25, 0.75, 0.25, 0.875, 0.25]])
    assert torch.equal(stored.read(torch.tensor([0])), expected)
