"""Copies: found among look-alikes, none where there are none; groups, labels and test leaks."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from winnow.audit import copies as module
from winnow.audit.copies import find_copies, find_leaks
from winnow.data.facts import Facts
from winnow.data.pixels import ArrayPixels

SIDE = 32


def digits(count=400, start=0):
    levels = np.rint(load_digits().images[start : start + count] * 255 / 16).astype(np.uint8)
    resize = (SIDE, SIDE), Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(each).resize(*resize)) for each in levels])[..., None]


def recompressed(image, brightness=0.9):
    file = io.BytesIO()
    Image.fromarray((image[..., 0] * brightness).astype(np.uint8)).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))[..., None]


def facts(images):
    return Facts.of_array(len(images), *images.shape[1:3])


def found_in(images, labels=None, mirrored=False, known=None):
    labels = np.zeros(len(images), np.int64) if labels is None else np.asarray(labels)
    return find_copies(ArrayPixels(images), labels, facts=known or facts(images), mirrored=mirrored)


def by_kind(copies):
    return {found.kind: found for found in copies.found}


@pytest.fixture(scope="module")
def dirty():
    """400 digits, exact copies of 0 to 9, near copies of 10 to 19."""
    images = digits()
    return np.concatenate([images, images[:10], np.stack([recompressed(each) for each in images[10:20]])])


def test_exact_and_near_copies_are_found_and_nothing_else(dirty):
    copies = found_in(dirty)
    expected = np.full(420, -1)
    expected[:20] = expected[400:] = np.arange(20)
    kinds = by_kind(copies)

    assert copies.group.tolist() == expected.tolist()
    assert kinds["exact_duplicate"].rows.tolist() == list(range(400, 410))
    assert kinds["exact_duplicate"].others.tolist() == list(range(10))
    assert np.isnan(kinds["exact_duplicate"].probability).all()
    near = kinds["near_duplicate"]
    assert sorted(near.rows.tolist()) == list(range(410, 420))
    assert (near.others == near.rows - 400).all()
    assert np.isnan(near.probability).all()
    assert near.similarity is not None
    assert ((near.similarity > 1 - copies.bound) & (near.similarity < 1)).all()
    assert (np.diff(near.similarity) <= 0).all()
    assert kinds["exact_duplicate"].similarity is None
    assert len(kinds["conflicting_duplicate"]) == 0


def test_a_fainter_copy_is_less_similar():
    images = digits(300)
    likeness = []
    for share in (0.02, 0.05, 0.1):
        noise = np.random.default_rng(1).normal(0, 255 * share, images[5].shape)
        near = by_kind(found_in(np.concatenate([images, (images[5:6] + noise).clip(0, 255).astype(np.uint8)])))
        likeness.append(near["near_duplicate"].similarity.tolist())

    assert [len(each) for each in likeness] == [1, 1, 1]
    assert likeness[0] > likeness[1] > likeness[2]


def test_the_order_of_images_does_not_matter(dirty):
    order = np.random.default_rng(0).permutation(len(dirty))
    groups, shuffled = found_in(dirty).group, found_in(dirty[order]).group
    same = (groups[:, None] == groups) & (groups >= 0)
    same_shuffled = (shuffled[:, None] == shuffled) & (shuffled >= 0)

    assert (same[np.ix_(order, order)] == same_shuffled).all()
    assert all(group == np.flatnonzero(shuffled == group)[0] for group in shuffled[shuffled >= 0])


def test_of_what_is_left_without_the_found_ones_nothing_is_a_copy(dirty):
    gone = np.concatenate([found.rows for found in found_in(dirty).found])

    assert (found_in(np.delete(dirty, gone, axis=0)).group == -1).all()


def test_a_mirrored_picture_is_a_copy_where_the_source_allows_it():
    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(each).resize((SIDE, SIDE))) for each in coarse])
    images = np.concatenate([images, images[:5, :, ::-1]])

    assert (found_in(images).group == -1).all()
    copies = found_in(images, mirrored=True)
    assert copies.group[300:].tolist() == list(range(5))
    assert all(reason.startswith("Nearly a mirrored picture") for reason in by_kind(copies)["near_duplicate"].reasons)


def test_one_shape_in_other_colours_is_no_copy():
    images = np.repeat(digits(300), 3, axis=3)
    red, blue = images[:1] * np.array([1, 0, 0], np.uint8), images[:1] * np.array([0, 0, 1], np.uint8)
    images = np.concatenate([images[1:], red, blue])

    assert (found_in(images).group == -1).all()


def test_conflicting_labels_name_all_members_that_have_one(dirty):
    labels = np.zeros(420, np.int64)
    labels[400], labels[410], labels[401] = 3, 4, -1
    conflicts = by_kind(found_in(dirty, labels))["conflicting_duplicate"]

    assert conflicts.rows.tolist() == [0, 400, 10, 410]
    assert conflicts.others.tolist() == [400, 0, 410, 10]
    several = np.zeros((420, 3), np.int8)
    several[400, 1] = 1
    assert by_kind(found_in(dirty, several))["conflicting_duplicate"].rows.tolist() == [0, 400]


def test_flat_pictures_have_exact_copies_only():
    flat = np.concatenate([np.full((3, SIDE, SIDE, 1), level, np.uint8) for level in (10, 90)])
    copies = found_in(np.concatenate([digits(100), flat]))

    assert copies.group[100:].tolist() == [100, 100, 100, 103, 103, 103]
    assert len(by_kind(copies)["near_duplicate"]) == 0


def test_equal_files_are_told_from_equal_pixels_and_other_sizes_are_not_equal():
    images = np.repeat(digits(1), 4, axis=0)
    known = Facts(
        np.array([[32, 32], [32, 32], [32, 32], [64, 64]], np.int32),
        np.zeros(4, np.uint8),
        np.array([7, 7, 8, 9], np.uint64),
        {},
    )
    exact = by_kind(found_in(images, known=known))["exact_duplicate"]

    assert exact.rows.tolist() == [1, 2]
    assert exact.reasons == ["The same file, byte for byte.", "The same pixels."]


def test_too_large_groups_are_left_apart(dirty, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_GROUP", 1)
    copies = found_in(dirty)

    assert copies.group[400:].tolist() == [*range(10), *[-1] * 10]
    assert len(by_kind(copies)["near_duplicate"]) == 0


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_few_images_are_no_trouble(count):
    images, tests = digits(3)[:count], digits(2)
    leaks = find_leaks(ArrayPixels(images), ArrayPixels(tests), facts=facts(images), test_facts=facts(tests))

    assert (found_in(images).group == -1).all()
    assert leaks.rows.tolist() == leaks.others.tolist() == list(range(min(count, 2)))


def test_leaks_are_found_with_their_test_image():
    tests, images = digits(300), digits(300, start=300)
    border = np.full((1, SIDE, SIDE, 1), 255, np.uint8)
    inner = np.asarray(Image.fromarray(tests[7, ..., 0]).resize((28, 28), Image.Resampling.BICUBIC))
    border[0, 2:-2, 2:-2, 0] = inner
    planted = np.concatenate([tests[5:6], recompressed(tests[6])[None], border])
    leaky = np.concatenate([images, planted])
    leaks = find_leaks(ArrayPixels(leaky), ArrayPixels(tests), facts=facts(leaky), test_facts=facts(tests))

    assert dict(zip(leaks.rows.tolist(), leaks.others.tolist(), strict=True)) == {300: 5, 301: 6, 302: 7}
    assert np.isnan(leaks.probability).all()
    assert leaks.similarity is not None
    assert np.isnan(leaks.similarity[0])  # the same pixels are a fact
    assert 0.5 < leaks.similarity[2] <= leaks.similarity[1] < 1
