"""Groups of classes: CIFAR-100's own, a person's, and blocks of indices."""

import numpy as np
import pytest

from winnow.errors import UsageError
from winnow.noise.hierarchy import CIFAR100_SUPERCLASSES, block5, sibling_map, superclass

from .checks import names


def test_cifar100_has_twenty_superclasses_of_five_that_are_a_partition():
    assert [len(group) for group in CIFAR100_SUPERCLASSES] == [5] * 20
    assert sorted(index for group in CIFAR100_SUPERCLASSES for index in group) == list(range(100))


def test_superclasses_are_those_of_the_real_coarse_labels(research_data):
    with np.load(research_data / "cifar100n_labels.npz") as labels:
        fine, coarse = labels["clean"], labels["clean_coarse"]

    found = tuple(tuple(np.unique(fine[coarse == group]).tolist()) for group in range(20))

    assert found == CIFAR100_SUPERCLASSES


def test_real_superclass_noise_never_leaves_the_superclass(research_data):
    with np.load(research_data / "cifar100n_labels.npz") as labels:
        fine, coarse = labels["clean"].astype(np.int64), labels["clean_coarse"]
    coarse_of = np.zeros(100, int)
    coarse_of[fine] = coarse

    real = superclass(fine, names(len(fine)), 100, 0.4, seed=0)
    blocks = block5(fine, names(len(fine)), 100, 0.4, seed=0)

    assert (coarse_of[real.noisy_labels] == coarse).all()
    assert real.realised_rate == blocks.realised_rate == 0.4
    # Only 6 of the 100 flips of the published blocks stay inside: 6 * 200 images.
    assert (coarse_of[blocks.noisy_labels] == coarse)[blocks.flipped].sum() == 6 * 200


def test_each_class_goes_to_the_next_of_its_group_in_a_circle():
    assert sibling_map([[0, 2, 5], [3], [1, 4]], 6) == {0: 2, 2: 5, 5: 0, 1: 4, 4: 1}
    assert sibling_map(CIFAR100_SUPERCLASSES, 100)[95] == 4


def test_blocks_and_superclasses_agree_once_classes_are_ordered_by_superclass():
    order = np.array([index for group in CIFAR100_SUPERCLASSES for index in group])
    place = np.argsort(order)
    labels = np.arange(500) % 100

    real = superclass(labels, names(500), 100, 0.4, seed=0).transition_matrix
    blocks = block5(labels, names(500), 100, 0.4, seed=0).transition_matrix

    assert (real[np.ix_(order, order)] == blocks).all()
    assert (real[np.ix_(place, place)] != blocks).any()
    assert (real != blocks).any()


@pytest.mark.parametrize("groups", [[[0, 1], [1, 2]], [[0, 9]], [[0], [1]], []])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(UsageError, match="groups of classes"):
        sibling_map(groups, 4)


def test_blocks_need_a_multiple_of_five_classes():
    with pytest.raises(UsageError, match="multiple of 5"):
        block5(np.zeros(3, int), names(3), 7, 0.1, seed=0)
