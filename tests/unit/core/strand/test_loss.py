"""What share of a connection's frames is said to be lost."""

from __future__ import annotations

import pytest

from ropeway.core.strand.loss import Loss
from ropeway.core.tuning import LOSS_FRAMES_MIN, LOSS_S, MAX_MARKS
from tests.unit.core import secure_world
from tests.unit.core.classic_world import udp


def stream(world, seconds, burst=1, pause_s=0.01):
    for _ in range(round(seconds / pause_s)):
        world.send("a", *[udp("10.0.0.1", "10.0.0.2")] * burst)
        world.run(pause_s)


def losses(world):
    return {c["link"]: c["loss"] for c in world.peer("a", "10.0.0.2")["connections"]}


@pytest.mark.parametrize(("burst", "pause_s"), [(1, 0.01), (40, 0.2)])
def test_nothing_is_said_to_be_lost_where_all_arrives(burst, pause_s):
    world = secure_world.pair()
    world.run(5)
    assert losses(world) == {2: None, 3: None}
    stream(world, 30, burst, pause_s)
    assert all(share < 0.02 for share in losses(world).values()), losses(world)


def test_share_is_that_of_the_way_and_follows_it():
    world = secure_world.pair(seed=7)
    stream(world, 10)
    world.loss = 0.2
    stream(world, 30)
    assert all(0.12 < share < 0.28 for share in losses(world).values()), losses(world)
    world.loss = 0.0
    stream(world, 2 * LOSS_S + 2)
    assert all(share < 0.02 for share in losses(world).values()), losses(world)


def test_loss_of_one_link_is_not_that_of_the_other():
    world = secure_world.pair()
    stream(world, 5)
    transmit = world.transmit
    count = iter(range(10**9))
    world.transmit = lambda d, s, e: (
        None if s[0] == "192.168.1.2" and next(count) % 4 == 0 else transmit(d, s, e)
    )
    stream(world, 20)
    shares = losses(world)
    assert shares[2] < 0.02
    assert 0.2 < shares[3] < 0.3


class Counts:
    """A loss that is told what was sent and received at a moment."""

    def __init__(self):
        self.loss = Loss()
        self.marks = 0

    def note(self, sent, received, now):
        self.marks += 1
        self.loss.mark(self.marks, sent, now)
        self.loss.note(self.marks, 0.0, sent, received, now)
        return self.loss.share


def test_other_end_that_counts_anew_is_no_loss():
    counts = Counts()
    counts.note(0, 0, 0.0)
    counts.note(1000, 1000, 2 * LOSS_S)
    assert counts.note(2000, 3, 3 * LOSS_S) == 0.0
    assert counts.note(3000, 503, 4 * LOSS_S) == 0.5


def test_few_frames_say_nothing():
    counts = Counts()
    counts.note(0, 0, 0.0)
    assert counts.note(LOSS_FRAMES_MIN - 1, 0, 100.0) is None
    assert counts.note(LOSS_FRAMES_MIN, 0, 101.0) == 1.0


def test_what_was_sent_between_two_moments_is_taken_to_have_grown_evenly():
    loss = Loss()
    loss.mark(1, 0, 10.0)
    loss.note(1, 0.0, 0, 0, 10.0)
    loss.mark(2, 100, 20.0)
    # 100 before the mark and a quarter of the 100 after it, of which 100 arrived.
    loss.note(2, 0.5, 200, 100, 22.0)
    assert loss.share == pytest.approx(0.2)


def test_unknown_echo_says_nothing_and_marks_are_bounded():
    loss = Loss()
    for mark in range(1, 1000):
        loss.mark(mark, 0, 1.0)
    loss.note(1, 0.0, 10**6, 0, 100.0)
    assert loss.share is None
    assert len(loss._marks) == MAX_MARKS
