"""Views: normalised by hand, shifted and mirrored by hand, and the same bits whenever they are asked for."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from winnow.data.pixels import ArrayPixels
from winnow.data.views import Preprocessing, Views, on_device

KINDS = ["plain", "weak", "strong"]
every_kind = pytest.mark.parametrize("kind", KINDS)
channels = pytest.mark.parametrize("channels", [1, 3])


def pixels(count=12, size=8, channels=3, seed=0):
    shape = (count, size, size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def views(images, *, mirror=True, seed=0):
    count = images.shape[-1]
    mean, std = (0.5, 0.4, 0.3)[:count], (0.25, 0.2, 0.3)[:count]
    return Views(torch.from_numpy(images), Preprocessing(images.shape[1], count, mean, std, mirror), seed)


def normalised(images):
    """(x / 255 - mean) / std in float64, channels first."""
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.25, 0.2, 0.3])
    count = images.shape[-1]
    return np.moveaxis((images / 255 - mean[:count]) / std[:count], -1, 1)


def reflected(place, size):
    """The pixel at `place` of an image mirrored about its border pixels: -1 is 1, size is size - 2."""
    if place < 0:
        return -place
    return 2 * (size - 1) - place if place >= size else place


def shifted_images(image, reach):
    """Every shift of one image, by (down, right, mirrored)."""
    size = len(image)
    found = {}
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            moved = np.empty_like(image)
            for y in range(size):
                for x in range(size):
                    moved[y, x] = image[reflected(y + down, size), reflected(x + right, size)]
            found[down, right, False] = moved
            found[down, right, True] = moved[:, ::-1]
    return found


@channels
def test_a_plain_view_is_the_normalised_image(channels):
    images = pixels(channels=channels)
    rows = np.array([3, 0, 11])

    found = views(images).view("plain", rows, 0, "train/0")

    assert found.dtype == torch.float32
    assert found.shape == (3, channels, 8, 8)
    np.testing.assert_allclose(found.numpy(), normalised(images[rows]), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("size", "channels", "reach"), [(1, 3, 1), (8, 3, 1), (16, 3, 2), (32, 3, 4), (64, 3, 8), (28, 1, 2), (8, 1, 1)]
)
def test_the_reach_is_an_eighth_of_the_side_and_a_fourteenth_for_grey(size, channels, reach):
    assert views(pixels(1, size, channels)).reach == reach


@pytest.mark.parametrize(("size", "channels", "reach"), [(8, 3, 1), (8, 1, 1), (16, 3, 2)])
@pytest.mark.parametrize("mirror", [True, False])
def test_weak_views_are_the_shifted_and_mirrored_images_and_all_occur_equally(size, channels, reach, mirror):
    image = pixels(1, size, channels)[0]
    candidates = shifted_images(image, reach)
    by_content = {moved.tobytes(): place for place, moved in candidates.items()}
    assert len(by_content) == 2 * (2 * reach + 1) ** 2
    copies = views(np.repeat(image[None], 1500, axis=0), mirror=mirror)

    found = copies.view("weak", np.arange(1500), 0, "train/0").double().numpy()

    # Back to uint8 by hand.
    std, mean = np.array([0.25, 0.2, 0.3]), np.array([0.5, 0.4, 0.3])
    values = 255 * (np.moveaxis(found, 1, -1) * std[:channels] + mean[:channels])
    assert np.abs(values - values.round()).max() < 1e-3
    places = list(candidates)
    counts = dict.fromkeys(places, 0)
    for levels in values.round().astype(np.uint8):
        counts[by_content[levels.tobytes()]] += 1

    allowed = [place for place in places if mirror or not place[2]]
    assert sum(counts[place] for place in allowed) == 1500
    assert min(counts[place] for place in allowed) > 0
    assert chisquare([counts[place] for place in allowed]).pvalue > 1e-5


@channels
def test_strong_views_differ_from_plain_and_weak_ones_and_stay_finite(channels):
    images = pixels(64, 16, channels)
    maker, rows = views(images), np.arange(64)
    plain, weak, strong = (maker.view(kind, rows, 0, "train/0") for kind in KINDS)

    assert strong.shape == plain.shape
    assert strong.isfinite().all()
    for n in range(64):
        assert not torch.equal(strong[n], plain[n])
        assert not torch.equal(strong[n], weak[n])
    # Contrast at most 1.4, saturation 1.5 about the luma, brightness 0.25: far from exploding.
    assert strong.abs().max() < 3 * plain.abs().max() + 0.25


def test_strong_views_have_a_square_of_the_mean_colour():
    images = np.full((200, 16, 16, 1), 250, dtype=np.uint8)
    strong = views(images).view("strong", np.arange(200), 0, "train/0")[:, 0] == 0

    for cut in strong:
        rows, columns = cut.any(dim=1).nonzero()[:, 0], cut.any(dim=0).nonzero()[:, 0]
        assert cut.sum() == len(rows) * len(columns)  # one full rectangle
        assert 1 <= len(rows) <= 5  # a quarter of the side, cut off at the border, give or take a pixel
        assert 1 <= len(columns) <= 5
        assert rows.max() - rows.min() + 1 == len(rows)
    assert strong.any(dim=0).all()  # every place is cut out now and then


@every_kind
@pytest.mark.parametrize("size", [8, 16])
@channels
def test_views_are_channels_last_in_memory(kind, size, channels):
    view = views(pixels(5, size, channels)).view(kind, np.arange(5), 0, "train/0")

    assert view.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_purpose_epoch_and_seed_each_give_another_view(kind):
    images, rows = pixels(64, 16), np.arange(64)
    first = views(images).view(kind, rows, 0, "train/0")
    others = [
        views(images).view(kind, rows, 0, "train/1"),
        views(images).view(kind, rows, 1, "train/0"),
        views(images, seed=1).view(kind, rows, 0, "train/0"),
    ]

    for other in others:
        same = sum(torch.equal(a, b) for a, b in zip(first, other, strict=True))
        # Of 50 weak views one is met again by chance in 64 / 50 cases.
        assert same < 10


@every_kind
def test_the_same_call_gives_the_same_bits(kind):
    images, rows = pixels(20), np.arange(20)
    maker = views(images)
    first = maker.view(kind, rows, 3, "train/0")
    maker.view(kind, rows, 4, "other")
    torch.manual_seed(5)

    assert torch.equal(maker.view(kind, rows, 3, "train/0"), first)
    assert torch.equal(views(images).view(kind, rows, 3, "train/0"), first)


@every_kind
@channels
def test_a_view_depends_neither_on_the_batch_nor_on_the_order(kind, channels):
    maker = views(pixels(20, 8, channels))
    whole = maker.view(kind, np.arange(20), 2, "train/0")
    some = np.array([17, 4, 4, 9])

    assert torch.equal(maker.view(kind, some, 2, "train/0"), whole[some])
    assert torch.equal(maker.view(kind, np.array([9]), 2, "train/0")[0], whole[9])


@every_kind
@channels
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_tiny_images_are_taken(kind, channels, size):
    images = pixels(30, size, channels)
    view = views(images).view(kind, np.arange(30), 0, "train/0")

    assert view.shape == (30, channels, size, size)
    assert view.isfinite().all()


@channels
def test_a_weak_view_of_one_pixel_is_that_pixel(channels):
    images = pixels(30, 1, channels)

    weak = views(images).view("weak", np.arange(30), 0, "train/0")

    np.testing.assert_allclose(weak.numpy(), normalised(images), rtol=0, atol=2e-6)


@every_kind
def test_no_samples_give_an_empty_view(kind):
    assert views(pixels()).view(kind, np.arange(0), 0, "train/0").shape == (0, 3, 8, 8)


def test_an_unknown_view_is_told():
    with pytest.raises(ValueError, match="view must be plain, weak or strong, got 'wild'"):
        views(pixels()).view("wild", np.arange(2), 0, "train/0")


def test_the_pixels_are_left_as_they_were():
    images = pixels()
    before = images.copy()
    maker = views(images)
    for kind in KINDS:
        maker.view(kind, np.arange(12), 0, "train/0").zero_()

    assert np.array_equal(images, before)


# The collection's own mean and spread


@channels
def test_mean_and_spread_are_those_of_the_pixels(channels):
    images = pixels(50, 8, channels)
    found = Preprocessing.of(images, mirror=False)
    values = images.reshape(-1, channels) / 255

    assert (found.size, found.channels, found.mirror) == (8, channels, False)
    assert found.mean == pytest.approx(values.mean(axis=0).tolist(), abs=1e-12)
    assert found.std == pytest.approx(values.std(axis=0).tolist(), abs=1e-12)


def test_plain_views_of_the_measured_collection_have_zero_mean_and_unit_spread():
    images = pixels(50)
    maker = Views(torch.from_numpy(images), Preprocessing.of(images, mirror=True), 0)

    plain = maker.view("plain", np.arange(50), 0, "survey").double()

    assert plain.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (plain.pow(2).mean(dim=(0, 2, 3)) - 1).abs().max() < 1e-5


def test_a_flat_colour_is_not_blown_up():
    images = np.full((4, 8, 8, 3), 51, dtype=np.uint8)
    images[..., 1] = 255
    found = Preprocessing.of(images, mirror=True)

    assert found.mean == pytest.approx((0.2, 1.0, 0.2))
    assert found.std == (1.0, 1.0, 1.0)


def test_pictures_that_may_not_be_written_to_are_taken_without_a_copy_or_a_word():
    images = np.frombuffer(bytes(range(64)), np.uint8).reshape(1, 8, 8, 1)
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tensor = on_device(ArrayPixels(images), torch.device("cpu"))
    finally:
        torch.set_warn_always(before)

    assert tensor.data_ptr() == images.ctypes.data
    assert tensor.flatten().tolist() == list(range(64))
