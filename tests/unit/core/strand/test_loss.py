"""What share of a connection's frames is said to be lost."""

from __future__ import annotations

import random

import pytest

from ropeway.core.strand.loss import Loss, wilson
from ropeway.core.tuning import LOSS_COUNTS_MAX, LOSS_FRAMES_MIN, LOSS_S
from tests.unit.core import secure_world
from tests.unit.core.classic_world import udp


def stream(world, seconds, burst=1, pause_s=0.01):
    for _ in range(round(seconds / pause_s)):
        world.send("a", *[udp("10.0.0.1", "10.0.0.2")] * burst)
        world.run(pause_s)


def losses(world, name="loss"):
    connections = world.peer("a", "10.0.0.2")["connections"]
    return {c["link"]: c["estimate"][name] for c in connections}


@pytest.mark.parametrize(("burst", "pause_s"), [(1, 0.01), (40, 0.2)])
def test_nothing_is_said_to_be_lost_where_all_arrives(burst, pause_s):
    world = secure_world.pair()
    world.run(5)
    assert losses(world) == {2: None, 3: None}
    stream(world, 30, burst, pause_s)
    assert losses(world) == {2: 0.0, 3: 0.0}


def test_share_is_that_of_the_way_and_follows_it():
    world = secure_world.pair(seed=7)
    stream(world, 10)
    world.loss = 0.2
    stream(world, 2 * LOSS_S)
    low, high = losses(world, "loss_low"), losses(world, "loss_high")
    assert all(low[link] <= 0.2 <= high[link] for link in low), (low, high)
    assert all(high[link] - low[link] < 0.12 for link in low), (low, high)
    world.loss = 0.0
    stream(world, 2 * LOSS_S)
    assert losses(world) == {2: 0.0, 3: 0.0}


def test_true_share_lies_in_the_interval_of_99_percent():
    chance = random.Random(5)
    trials = misses = 0
    for share in (0.001, 0.01, 0.1, 0.5):
        for frames in (50, 500, 2000):
            for _ in range(60):
                lost = sum(chance.random() < share for _ in range(frames))
                low, high = wilson(lost, frames)
                trials += 1
                misses += not low <= share <= high
    assert misses <= 0.03 * trials, f"{misses} of {trials}"


def test_loss_of_one_link_is_not_that_of_the_other_nor_that_of_the_way_back():
    world = secure_world.pair()
    stream(world, 5)
    transmit = world.transmit
    count = iter(range(10**9))
    world.transmit = lambda d, s, e: (
        None if s[0] == "192.168.1.2" and next(count) % 4 == 0 else transmit(d, s, e)
    )
    stream(world, 20)
    shares = losses(world)
    assert shares[2] == 0.0
    assert 0.2 < shares[3] < 0.3
    back = {c["link"]: c["estimate"]["loss_in"] for c in world.peer("b", "10.0.0.1")["connections"]}
    assert back[12] == 0.0
    assert 0.2 < back[13] < 0.3


def test_idle_connection_knows_its_loss_from_control_frames():
    world = secure_world.pair(seed=3)
    stream(world, 1)
    world.loss = 0.3
    for _ in range(240):
        stream(world, 0.01)
        world.run(0.5)
    shares = losses(world)
    assert all(0.15 < share < 0.45 for share in shares.values()), shares


def test_other_end_that_counts_anew_is_no_loss():
    loss = Loss()
    loss.note(0, 0, 0.0)
    loss.note(1000, 1000, 2 * LOSS_S)
    assert loss.share == 0.0
    loss.note(2000, 3, 3 * LOSS_S)
    loss.note(3000, 503, 4 * LOSS_S)
    assert loss.share == 0.5


def test_few_frames_say_little():
    loss = Loss()
    loss.note(0, 0, 0.0)
    loss.note(LOSS_FRAMES_MIN - 1, 0, 100.0)
    assert loss.share is None
    assert loss.interval[0] > 0.8, "that much is certain"
    loss.note(LOSS_FRAMES_MIN, 0, 101.0)
    assert loss.share == 1.0


def test_counts_that_are_kept_are_few_however_often_they_come():
    loss = Loss()
    for number in range(100_000):
        loss.note(number, number, number / 1000)
        assert len(loss._counts) <= 3 * LOSS_COUNTS_MAX
    assert loss.share == 0.0
    for number in range(1000):
        loss.note(200_000, 100_000 + number, 200.0 + number * 1000)
    assert len(loss._counts) <= 3 * LOSS_COUNTS_MAX
