"""Random numbers as a function of (seed, purpose, epoch, index): what they equal, and how they spread."""

import hashlib

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from winnow.data.randomness import permutation, sample_keys, stream_key, text_keys, uniforms

N = 20_000


def key(seed=0, purpose="order/train", epoch=0):
    return stream_key(seed, purpose, epoch)


def test_a_stream_key_is_the_hash_of_its_three_parts():
    digest = hashlib.blake2b(b"7/order/train/3", digest_size=8).digest()

    assert stream_key(7, "order/train", 3) == sum(byte << (8 * place) for place, byte in enumerate(digest))
    assert stream_key(7, "order/train") == stream_key(7, "order/train", 0)


def test_seed_purpose_and_epoch_each_name_another_stream():
    keys = {stream_key(s, p, e) for s in (0, 1, -1, 2**63) for p in ("a", "b", "a/1") for e in (0, 1, 11)}

    assert len(keys) == 4 * 3 * 3


def test_sample_keys_are_the_published_splitmix64_sequence():
    # Steele, Lea & Flood: the first outputs from the states 0 and 1234567.
    zero = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    other = [6457827717110365317, 3203168211198807973, 9817491932198370423]

    assert sample_keys(0, np.arange(3)).tolist() == zero
    assert sample_keys(1234567, np.arange(3)).tolist() == other
    assert sample_keys(0, np.array([2, 0])).tolist() == [zero[2], zero[0]]


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_uniform_in_every_column(seed):
    numbers = uniforms(key(seed), np.arange(N), 16)

    assert numbers.shape == (N, 16)
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        assert kstest(column, "uniform").pvalue > 1e-5


@pytest.mark.parametrize("seed", range(5))
def test_a_row_is_uniform_whatever_its_index(seed):
    for index in (0, 1, 1000, 2**40):
        row = uniforms(key(seed), np.array([index]), N)[0]
        assert kstest(row, "uniform").pvalue > 1e-5


def test_columns_neighbours_epochs_purposes_and_seeds_are_uncorrelated():
    numbers = uniforms(key(), np.arange(N), 8)
    others = [uniforms(k, np.arange(N), 1)[:, 0] for k in (key(seed=1), key(purpose="x"), key(epoch=1))]
    columns = np.column_stack([numbers[:-1], numbers[1:, :1], *(other[:-1] for other in others)])

    correlation = np.corrcoef(columns.T)

    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / N**0.5


def test_pairs_of_columns_fill_the_square_evenly():
    numbers = uniforms(key(), np.arange(50_000), 3)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        cells = np.bincount((numbers[:, a] * 10).astype(int) * 10 + (numbers[:, b] * 10).astype(int), minlength=100)
        assert chisquare(cells).pvalue > 1e-5


def test_a_row_depends_on_key_and_index_alone():
    whole = uniforms(key(), np.arange(500), 3)
    some = np.array([400, 3, 77, 3])

    assert np.array_equal(uniforms(key(), some, 3), whole[some])
    assert np.array_equal(uniforms(key(), np.array([77]), 3)[0], whole[77])
    assert np.array_equal(uniforms(key(), some.astype(np.int32), 3), whole[some])
    # More columns leave the first ones as they were.
    assert np.array_equal(uniforms(key(), some, 9)[:, :3], whole[some])


def test_nothing_is_remembered_between_calls():
    first = uniforms(key(), np.arange(50), 2)
    uniforms(key(epoch=1), np.arange(9), 4)
    np.random.default_rng(0).random(3)

    assert np.array_equal(uniforms(key(), np.arange(50), 2), first)


def test_no_samples_give_no_numbers():
    nobody = np.arange(0)

    assert uniforms(key(), nobody, 3).shape == (0, 3)
    assert permutation(key(), nobody).shape == (0,)
    assert text_keys(key(), []).shape == (0,)


def test_a_permutation_holds_every_index_once():
    rows = np.array([5, 9, 2, 40, 41, 7])
    order = permutation(key(), rows)

    assert sorted(order.tolist()) == sorted(rows.tolist())
    assert sorted(permutation(key(), np.arange(1000)).tolist()) == list(range(1000))


def test_epoch_purpose_and_seed_change_the_permutation():
    rows = np.arange(1000)
    orders = [permutation(k, rows) for k in (key(), key(epoch=1), key(purpose="x"), key(seed=1))]

    for n, order in enumerate(orders):
        for other in orders[:n]:
            # Two independent permutations agree in one place on average (Poisson).
            assert (order == other).sum() < 10
        assert (order == rows).sum() < 10


def test_a_subset_keeps_the_order_of_the_whole():
    whole = permutation(key(), np.arange(1000))
    subset = np.arange(1000)[::7]

    assert permutation(key(), subset).tolist() == [row for row in whole.tolist() if row % 7 == 0]
    # Nor does it matter in which order the indices came.
    assert np.array_equal(permutation(key(), subset[::-1]), permutation(key(), subset))


def test_every_place_is_equally_likely_for_every_index():
    orders = np.stack([permutation(key(epoch=epoch), np.arange(6)) for epoch in range(6000)])
    for place in range(6):
        assert chisquare(np.bincount(orders[:, place], minlength=6)).pvalue > 1e-5
    # All 720 orders occur about 8.3 times each.
    codes = np.bincount(orders @ 6 ** np.arange(6), minlength=6**6)
    assert (codes > 0).sum() > 700


def test_texts_have_keys_of_their_own_whatever_row_they_stand_in():
    keys = text_keys(5, ["a.png", "b.png", "a.png"])

    assert keys.dtype == np.uint64
    assert keys[0] == keys[2] != keys[1]
    assert text_keys(5, ["b.png"])[0] == keys[1]
    assert text_keys(6, ["b.png"])[0] != keys[1]
    digest = hashlib.blake2b((5).to_bytes(8, "little") + b"a.png", digest_size=8).digest()
    assert int(keys[0]) == int.from_bytes(digest, "little")
    assert len(set(text_keys(0, [f"image {n}" for n in range(N)]).tolist())) == N


def test_names_that_are_no_text_have_keys_too():
    assert text_keys(0, ["caf\udce9.png", "café.png"])[0] != text_keys(0, ["café.png"])[0]
