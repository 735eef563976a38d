"""How much a path carries at most, of what control frames tell."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.frame.control import CLOCK_MS, CLOCK_TICKS
from ropeway.core.strand.capacity import Capacity, Echoed
from ropeway.core.tuning import CAPACITY_PAUSE_S

SIZE = 1250


class Path:
    """A path with a queue of its own and frames of SIZE bytes; each step is a control frame."""

    def __init__(self, capacity, kbit=10_000.0, queue_max_ms=200.0, jitter_ms=0.0, seed=1):
        self.capacity = capacity
        self.kbit, self.queue_max_ms, self.jitter_ms = kbit, queue_max_ms, jitter_ms
        self.random = random.Random(seed)
        self.now = 0.0
        self.sent = self.arrived = 0.0
        self.queue_ms = 0.0
        #: What the far end's clock says when the path's does not.
        self.clock_ms = 123_456.0

    def carry(self, kbit, seconds, every_s=0.5, loss=0.0):
        for _ in range(round(seconds / every_s)):
            self.now += every_s
            offered, room = kbit * every_s, self.kbit * every_s
            waiting = self.queue_ms / 1000 * self.kbit
            left = min(waiting + offered, room + self.queue_max_ms / 1000 * self.kbit)
            taken = left - waiting
            self.queue_ms = max(0.0, left - room) / self.kbit * 1000
            self.sent += offered * 1000 / 8 / SIZE
            self.arrived += taken * (1 - loss) * 1000 / 8 / SIZE
            late_ms = self.queue_ms + self.jitter_ms * self.random.random()
            self.echo(late_ms)

    def echo(self, late_ms):
        arrived_ms = self.clock_ms + self.now * 1000 + late_ms
        frames = int(self.sent)
        self.capacity.note(
            Echoed(
                self.now,
                frames,
                frames * SIZE,
                int(self.arrived) % 2**32,
                int(arrived_ms / CLOCK_MS) % CLOCK_TICKS,
                late_ms,
            ),
            self.now,
        )


@pytest.fixture
def capacity():
    return Capacity()


def test_nothing_is_known_at_first(capacity):
    assert (capacity.kbit, capacity.sureness, capacity.age_s(9.0)) == (None, None, None)


@pytest.mark.parametrize("every_s", [0.025, 0.1, 0.5])
@pytest.mark.parametrize("kbit", [1000, 10_000, 400_000])
def test_full_path_is_measured_and_knows_it(capacity, kbit, every_s):
    path = Path(capacity, kbit)
    path.carry(0.1 * kbit, 5, every_s)
    path.carry(1.3 * kbit, 8, every_s)
    assert capacity.kbit == pytest.approx(kbit, rel=0.05)
    assert capacity.sureness == "measured"
    assert capacity.age_s(path.now) <= 0.5


def test_path_that_is_not_full_carries_at_least_what_it_carries(capacity):
    path = Path(capacity)
    path.carry(3000, 10)
    assert capacity.kbit == pytest.approx(3000, rel=0.05)
    assert (capacity.is_full, capacity.sureness) == (False, "at least")
    path.carry(300, 10)
    assert capacity.kbit == pytest.approx(3000, rel=0.05)
    assert capacity.age_s(path.now) == pytest.approx(10, abs=0.6)


def test_figure_rises_at_once_with_what_is_carried(capacity):
    path = Path(capacity, 150_000)
    path.carry(2000, 10)
    path.carry(133_000, 1)
    assert capacity.kbit == pytest.approx(133_000, rel=0.05)


def test_measured_figure_that_is_exceeded_is_a_lower_bound_again(capacity):
    path = Path(capacity, 5000)
    path.carry(500, 5)
    path.carry(6000, 5)
    assert capacity.is_full
    path.kbit, path.queue_ms = 50_000, 0.0
    path.carry(20_000, 2)
    assert (round(capacity.kbit, -3), capacity.is_full) == (20_000, False)


def test_path_that_gets_slower_is_found_out_in_two_seconds_and_sooner_where_it_is_looked_at(
    capacity,
):
    path = Path(capacity, 20_000)
    path.carry(15_000, 10)
    path.kbit = 5000
    path.carry(15_000, 1.6, 0.05)
    assert capacity.kbit == pytest.approx(5000, rel=0.2)
    assert capacity.sureness == "measured"


@pytest.mark.parametrize("jitter_ms", [5, 20, 60])
@pytest.mark.parametrize("every_s", [0.05, 0.5])
def test_frames_that_are_late_by_chance_are_no_queue(capacity, jitter_ms, every_s):
    path = Path(capacity, 150_000, jitter_ms=jitter_ms, seed=jitter_ms)
    path.carry(2000, 20, every_s)
    path.carry(133_000, 5, every_s)
    for _ in range(200):
        path.carry(2000, 20, every_s, loss=0.02)
        assert capacity.kbit == pytest.approx(133_000, rel=0.05)
        assert not capacity.is_full


@pytest.mark.parametrize("late_ms", [10, 30, 90])
def test_waits_that_stand_without_having_grown_are_no_queue(capacity, late_ms):
    # A radio link that keeps frames in order makes all of them as late as the latest.
    path = Path(capacity, 150_000)
    path.carry(133_000, 5, 0.05)
    path.carry(2000, 5, 0.05)
    for _ in range(400):
        path.now += 0.05
        path.sent += 10
        path.arrived += 10
        path.echo(late_ms + path.random.random())
    assert capacity.kbit == pytest.approx(133_000, rel=0.05)
    assert not capacity.is_full


def test_queue_that_has_drained_says_no_more_that_the_path_is_full(capacity):
    path = Path(capacity, 20_000)
    path.carry(1000, 5, 0.05)
    path.carry(24_000, 5, 0.05)
    measured = capacity.kbit
    for number in range(1, 101):
        path.now += 0.05
        path.sent += 10
        path.arrived += 10
        path.echo(max(21.0, path.queue_ms - 45 * number) + path.random.random())
    assert capacity.kbit == pytest.approx(measured, rel=0.05)


def test_frames_that_were_held_up_and_come_at_once_were_not_carried_at_once(capacity):
    path = Path(capacity, 50_000)
    path.carry(10_000, 5)
    for number in range(1, 21):
        # For half a second nothing arrives, then all of it does.
        path.now += 0.1
        path.sent += 100
        path.arrived += 100
        path.echo(max(0.0, 500.0 - 100 * (number % 10)))
    assert capacity.kbit <= 10_000 * 1.1


def test_other_end_that_counts_anew_is_no_capacity(capacity):
    path = Path(capacity)
    path.carry(3000, 5)
    path.arrived = 0.0
    path.carry(3000, 5)
    assert capacity.kbit == pytest.approx(3000, rel=0.05)


def test_counts_and_clocks_may_turn_over(capacity):
    path = Path(capacity)
    path.arrived = 2**32 - 500
    path.clock_ms = CLOCK_TICKS * CLOCK_MS - 2500
    path.carry(3000, 10)
    assert capacity.kbit == pytest.approx(3000, rel=0.05)


def test_nothing_is_learnt_of_a_connection_without_data_nor_across_a_pause(capacity):
    path = Path(capacity)
    for _ in range(50):
        path.now += 0.5
        path.sent += 2
        path.arrived += 2
        path.echo(0.0)
    for _ in range(10):
        path.carry(8000, 2 * CAPACITY_PAUSE_S, 2 * CAPACITY_PAUSE_S)
    assert capacity.kbit is None


@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 2, st.floats(0, 6553)), max_size=80))
def test_no_answer_raises_nor_makes_more_of_the_path_than_was_sent_over_it(lies):
    capacity, now = Capacity(), 0.0
    for number, (received, clock, queue_ms) in enumerate(lies):
        now += 0.1
        capacity.note(Echoed(now, 10 * number, 1000 * number, received, clock, queue_ms), now)
        assert capacity.kbit is None or 0 <= capacity.kbit <= 2 * 8 * 10.001
