"""The order of samples: who comes when, and that it can be asked for at any step."""

import numpy as np
import pytest

from winnow.methods.base import Draw
from winnow.train.streams import Stream

ROWS = np.arange(100, 203)  # 103 rows of a longer collection
LABELS = np.random.default_rng(0).integers(0, 4, 300)


def stream(draw=None, rows=ROWS, *, name="train", seed=0, batch_size=10, epoch=0):
    made = Stream(name, draw or Draw(), rows, LABELS, seed, batch_size)
    made.start(epoch)
    return made


def epoch_of(made):
    return np.concatenate([made.indices(step) for step in range(made.steps)])


def test_an_epoch_shows_every_sample_once_up_to_the_partial_batch():
    made = stream()
    assert (made.size, made.steps) == (10, 10)

    seen = epoch_of(made)

    assert len(seen) == len(set(seen.tolist())) == 100
    assert set(seen.tolist()) <= set(ROWS.tolist())


def test_without_a_partial_batch_all_samples_are_shown():
    seen = epoch_of(stream(rows=ROWS[:100]))

    assert sorted(seen.tolist()) == ROWS[:100].tolist()


def test_the_left_out_samples_are_others_in_other_epochs():
    left_out = [set(ROWS.tolist()) - set(epoch_of(stream(epoch=epoch)).tolist()) for epoch in range(20)]

    assert all(len(rows) == 3 for rows in left_out)
    assert len(set().union(*left_out)) > 30


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}, {"name": "second"}])
def test_epoch_seed_and_stream_each_give_another_order(other):
    agreeing = (epoch_of(stream()) == epoch_of(stream(**other))).sum()

    assert agreeing < 10  # about one by chance


def test_samples_do_not_stay_with_their_neighbours():
    seen = epoch_of(stream())

    assert (np.abs(np.diff(seen)) == 1).sum() < 10  # about two by chance


def test_the_order_is_the_same_whenever_it_is_asked_for():
    expected = [stream(epoch=4).indices(step) for step in range(10)]
    running, resumed = stream(), stream(epoch=4)
    for epoch in (0, 1, 4):
        running.start(epoch)
        running.indices(0)

    for step in (7, 0, 9, 3, 3):
        assert np.array_equal(running.indices(step), expected[step])
    assert np.array_equal(resumed.indices(6), expected[6])


@pytest.mark.parametrize(("share", "size", "steps"), [(0.5, 5, 20), (2.0, 20, 5), (0.01, 1, 103), (100.0, 103, 1)])
def test_a_batch_is_a_share_of_the_runs(share, size, steps):
    made = stream(Draw(size=share))

    assert (made.size, made.steps) == (size, steps)
    assert all(len(made.indices(step)) == size for step in range(steps))


def test_by_class_sorts_each_lap_by_given_label_and_shuffles_within():
    made = stream(Draw(order="by_class"))
    seen = epoch_of(made)
    full = np.concatenate([made.indices(step) for step in range(11)])[:103]

    assert sorted(full.tolist()) == ROWS.tolist()
    assert (np.diff(LABELS[full]) >= 0).all()
    assert np.array_equal(full[:100], seen)
    # Within a class the order is neither that of the rows nor the same in every epoch.
    label = LABELS[seen[0]]
    within = seen[LABELS[seen] == label]
    again = epoch_of(stream(Draw(order="by_class"), epoch=1))
    assert (np.diff(within) < 0).any()
    assert not np.array_equal(within, again[LABELS[again] == label][: len(within)])
    # The classes share the shuffled stream's order: only its sorting differs.
    shuffled = epoch_of(stream(rows=ROWS[:100]))
    by_class = epoch_of(stream(Draw(order="by_class"), rows=ROWS[:100]))
    assert np.array_equal(by_class, np.concatenate([shuffled[LABELS[shuffled] == k] for k in range(4)]))


@pytest.mark.parametrize("count", [11, 20, 25])
def test_a_short_stream_goes_round_without_repeating_anyone_within_a_lap(count):
    rows = ROWS[:count]
    made = stream(rows=rows)
    seen = np.concatenate([made.indices(step) for step in range(30)])

    laps = [seen[start : start + count] for start in range(0, len(seen) - count + 1, count)]
    assert len(laps) >= 12
    for lap in laps:
        assert sorted(lap.tolist()) == rows.tolist()
    # Each lap has an order of its own.
    assert len({tuple(lap.tolist()) for lap in laps}) == len(laps)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_stream_shorter_than_a_batch_gives_all_it_has(count):
    made = stream(rows=ROWS[:count])

    assert (made.size, made.steps) == (count, 1)
    for step in range(5):
        assert sorted(made.indices(step).tolist()) == ROWS[:count].tolist()


def test_an_empty_stream_gives_nothing():
    made = stream(rows=ROWS[:0])

    assert made.steps == 0
    assert len(made.indices(0)) == 0


def test_laps_can_be_asked_for_in_any_order():
    made = stream(rows=ROWS[:13])
    forwards = [made.indices(step) for step in range(40)]

    for step in (39, 1, 20, 0, 7):
        assert np.array_equal(made.indices(step), forwards[step])
        assert np.array_equal(stream(rows=ROWS[:13]).indices(step), forwards[step])


def test_the_method_names_the_samples_of_each_epoch():
    wanted = [np.array([150, 101, 177, 120]), ROWS[::2], np.array([], dtype=np.int64)]
    asked = []

    def samples():
        asked.append(len(asked))
        return wanted[asked[-1]]

    made = Stream("train", Draw(samples=samples), ROWS, LABELS, 0, 10)
    made.start(0)
    assert sorted(made.indices(0).tolist()) == [101, 120, 150, 177]
    assert (made.size, made.steps) == (4, 1)
    made.start(1)
    assert made.steps == 5
    assert set(epoch_of(made).tolist()) <= set(ROWS[::2].tolist())
    made.start(2)
    assert (made.steps, len(made.indices(0))) == (0, 0)
    assert asked == [0, 1, 2]


def test_a_chosen_subset_keeps_the_order_of_the_whole():
    chosen = ROWS[::3]
    whole = np.concatenate([stream(batch_size=1).indices(step) for step in range(103)])
    some = stream(Draw(samples=lambda: chosen), batch_size=1)

    found = np.concatenate([some.indices(step) for step in range(len(chosen))])

    assert found.tolist() == [row for row in whole.tolist() if row in set(chosen.tolist())]


def test_indices_are_whole_numbers_whatever_the_method_gave():
    made = stream(Draw(samples=lambda: [120, 140]))

    assert made.indices(0).dtype == np.int64
    assert sorted(made.indices(0).tolist()) == [120, 140]


@pytest.mark.parametrize(
    ("rows", "size", "steps"), [(120, 60, 2), (65, 64, 1), (640, 64, 10), (650, 64, 10), (5, 5, 1)]
)
def test_batches_shrink_where_whole_ones_would_leave_out_too_much(rows, size, steps):
    stream = Stream("train", Draw(), np.arange(rows), np.zeros(rows, np.int64), seed=0, batch_size=64, leads=True)

    assert (stream.size, stream.steps) == (size, steps)
    assert rows - size * steps <= max(1, rows // 20)
