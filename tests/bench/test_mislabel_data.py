from itertools import pairwise

import numpy as np
import pytest

from winnow.bench.mislabel_data import (
    Pool,
    mislabelled_biased,
    mislabelled_unbiased,
    pool_of,
    stratified_order,
    subset_rows,
    wrong_labels,
)
from winnow.bench.shared import Data
from winnow.data.pictures import ArrayPictures
from winnow.data.source import Source
from winnow.errors import InputError, UsageError

RATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0)


def source(labels, classes=10):
    labels = np.asarray(labels, np.int64)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    names = tuple(str(index) for index in range(classes))
    return Source("toy", [str(row) for row in range(len(labels))], names, labels, ArrayPictures(pixels), grey=True)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return pool_of(Data(source(np.arange(600) % 10), source(np.arange(50) % 10), ""))


def test_subsets_are_nested_and_hold_every_class_equally_often(pool):
    sizes = (10, 20, 80, 300, len(pool.train_rows))
    subsets = [subset_rows(pool, size, seed=0, repeat=3) for size in sizes]

    for smaller, larger in pairwise(subsets):
        assert np.array_equal(larger[: len(smaller)], smaller)
    counts = np.bincount(pool.labels[subsets[2]], minlength=10)
    assert counts.tolist() == [8] * 10
    assert sorted(subsets[-1]) == pool.train_rows.tolist()


def test_repeats_and_seeds_draw_other_subsets(pool):
    drawn = [set(subset_rows(pool, 80, seed, repeat)) for seed, repeat in ((0, 0), (0, 1), (1, 0))]

    assert all(len(a & b) < 40 for a, b in ((drawn[0], drawn[1]), (drawn[0], drawn[2]), (drawn[1], drawn[2])))


def test_a_subset_of_an_unbalanced_pool_keeps_its_proportions():
    labels = np.repeat([0, 1], [900, 100])

    beginning = labels[stratified_order(labels, key=5)[:50]]

    assert np.bincount(beginning).tolist() == [45, 5]


def test_train_validation_and_test_never_overlap_and_are_always_the_same():
    whole = source(np.arange(600) % 10)
    marked = np.zeros((600, 8, 8), np.uint8)
    marked[:, 0, 0], marked[:, 0, 1] = np.arange(600) // 256, np.arange(600) % 256
    whole = Source("toy", whole.ids, whole.class_names, whole.noisy_labels, ArrayPictures(marked), grey=True)

    pools = [pool_of(Data(whole, None, "")) for _ in range(2)]

    images = pools[0].test_images[:, 0, :2, 0].astype(int)
    test_rows = set((images[:, 0] * 256 + images[:, 1]).tolist())
    parts = [test_rows, set(pools[0].train_rows), set(pools[0].validation_rows)]
    assert sum(map(len, parts)) == 600
    assert set.union(*parts) == set(range(600))
    assert len(test_rows) == 120  # a fifth
    assert len(parts[2]) == 40  # a twelfth of the rest
    assert np.array_equal(pools[0].train_rows, pools[1].train_rows)


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
@pytest.mark.parametrize("size", [20, 80, 303])
def test_wrong_labels_are_nested_in_the_rate_and_as_many_as_promised(pool, kind, size):
    rows = subset_rows(pool, size, seed=0, repeat=0)
    truth = pool.labels[rows]
    before = truth
    for rate in RATES:
        labels = wrong_labels(pool, rows, kind, rate, None, seed=7)
        already_wrong = before != truth
        # What was wrong stays wrong, in the same way.
        assert np.array_equal(labels[already_wrong], before[already_wrong])
        for index in range(10):
            wrong, number = int((labels != truth)[truth == index].sum()), int((truth == index).sum())
            assert abs(wrong - rate * number) < 1 + 1e-9
        before = labels


def test_what_is_rounded_up_in_some_classes_is_rounded_down_in_others(pool):
    rows = subset_rows(pool, 80, seed=0, repeat=0)

    realised = {
        rate: (wrong_labels(pool, rows, "unbiased", rate, None, 3) != pool.labels[rows]).sum() for rate in RATES
    }

    # Of 8 images a class 20 % are 1.6: two in six classes and one in four, 16 in all, and not 20.
    assert realised[0.2] == 16
    assert realised[0.3] == 24
    assert realised[0.5] == 40
    assert (realised[0.0], realised[1.0]) == (0, 80)


def test_another_repeat_has_other_wrong_labels(pool):
    rows = subset_rows(pool, 300, seed=0, repeat=0)
    first, second = (wrong_labels(pool, rows, "biased", 0.5, None, seed) != pool.labels[rows] for seed in (1, 2))

    # Independent halves agree on half of the images, give or take.
    assert 0.35 < (first == second).mean() < 0.65


def test_unbiased_mistakes_go_to_all_other_classes_equally_often():
    truth = np.zeros(90, np.int64)

    labels = mislabelled_unbiased(truth, np.arange(90), num_classes=10, rate=0.6, key=1)

    assert np.bincount(labels, minlength=10).tolist() == [36] + [6] * 9


def test_biased_mistakes_go_to_the_class_of_the_map_alone(pool):
    truth = np.arange(100) % 4

    labels = mislabelled_biased(truth, np.arange(100), {0: 1, 1: 2, 2: 3, 3: 0}, rate=0.4, key=1)
    partly = mislabelled_biased(truth, np.arange(100), {0: 3}, rate=0.4, key=1)

    assert set((labels - truth) % 4) == {0, 1}
    assert (labels != truth).sum() == 40
    assert set(truth[partly != truth]) == {0}
    assert (partly != truth).sum() == 10
    named = wrong_labels(pool, pool.train_rows, "biased", 1.0, "0:5", seed=0)
    assert set(named[pool.labels[pool.train_rows] == 0]) == {5}


def test_by_default_a_class_is_taken_for_the_next_and_the_last_for_the_first(pool):
    labels = wrong_labels(pool, pool.train_rows, "biased", 1.0, None, seed=0)

    assert np.array_equal(labels, (pool.labels[pool.train_rows] + 1) % 10)


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
def test_with_two_classes_a_wrong_label_is_the_other_one(kind):
    pool = pool_of(Data(source(np.arange(120) % 2, classes=2), source(np.arange(20) % 2, classes=2), ""))
    truth = pool.labels[pool.train_rows]

    labels = wrong_labels(pool, pool.train_rows, kind, 0.4, None, seed=0)

    assert abs((labels != truth).mean() - 0.4) < 0.01
    assert np.array_equal(labels[labels != truth], 1 - truth[labels != truth])


def test_the_rate_of_a_known_generator_is_its_own(pool):
    labels = wrong_labels(pool, pool.train_rows, "symmetric", 0.2, None, seed=0)

    assert (labels != pool.labels[pool.train_rows]).mean() == pytest.approx(0.2, abs=0.01)


def test_an_empty_class_is_no_difficulty():
    truth = np.array([0, 0, 2, 2])

    labels = mislabelled_unbiased(truth, np.arange(4), num_classes=4, rate=0.5, key=0)

    assert (labels != truth).sum() == 2


def test_what_no_study_can_be_made_of_is_refused(pool):
    with pytest.raises(UsageError, match=r"--sizes 10000: toy has 550 images to train on"):
        subset_rows(pool, 10_000, 0, 0)
    with pytest.raises(InputError, match="one class only"):
        pool_of(Data(source(np.zeros(50), classes=1), None, ""))
    with pytest.raises(InputError, match="no image that can be read has a label"):
        pool_of(Data(source(np.full(50, -1)), None, ""))
