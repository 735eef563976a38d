"""Since when what is in a queue of the kernel can have waited, with a clock that is set by hand."""

import random
from collections import deque

import pytest

from ropeway.core.data.sojourn import Polls, QueueAge

INF = float("inf")


def turned(polls, *times):
    """Let polls end at these times, each of which named all that was ready."""
    for now in times:
        polls.note(now, complete=True)


def test_what_a_poll_did_not_name_was_empty_since_the_poll_before():
    polls, age = Polls(0.0), QueueAge(0.0)
    turned(polls, 1.0, 2.0)
    # The third poll names it; the second, which began after 1.0, did not.
    turned(polls, 32.0)
    age.look(polls)
    assert age.since == 1.0


def test_a_poll_that_cannot_name_everything_says_nothing_of_the_rest():
    polls, age = Polls(0.0), QueueAge(0.0)
    turned(polls, 1.0, 2.0)
    polls.note(3.0, complete=False)
    polls.note(4.0, complete=False)
    turned(polls, 5.0)
    age.look(polls)
    assert age.since == 1.0
    age.note_read(1, False, 5.0, INF)
    polls.note(6.0, complete=False)
    polls.note(7.0, complete=False)
    age.look(polls)
    assert age.since == 1.0, "it may have been ready all the time"


def test_what_was_left_in_a_queue_stays_as_old_as_it_was():
    polls, age = Polls(0.0), QueueAge(0.0)
    turned(polls, 1.0, 2.0, 3.0)
    age.look(polls)
    age.note_read(1, False, 3.0, INF)
    for now in (4.0, 5.0, 6.0):
        turned(polls, now)
        age.look(polls)
        assert age.since == 1.0
        age.note_read(1, False, now, INF)
    age.note_read(1, True, 6.1, INF)
    turned(polls, 7.0)
    age.look(polls)
    assert age.since == 6.1, "it was read to its end then"


def test_a_queue_that_a_poll_did_not_name_has_nothing_left():
    polls, age = Polls(0.0), QueueAge(0.0)
    turned(polls, 1.0)
    age.look(polls)
    age.note_read(1, False, 1.0, INF)
    turned(polls, 2.0, 3.0, 4.0)
    age.look(polls)
    assert (age.since, age.behind) == (2.0, False)


def test_a_queue_that_was_named_but_not_read_is_not_taken_for_empty():
    polls, age = Polls(0.0), QueueAge(0.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        turned(polls, now)
        age.look(polls)
        assert age.since == 0.0
    age.note_read(1, True, 4.1, INF)
    turned(polls, 5.0)
    age.look(polls)
    assert age.since == 4.1


def test_a_queue_that_is_never_empty_is_no_older_than_what_was_read_since():
    polls, age = Polls(0.0), QueueAge(0.0)
    turned(polls, 1.0)
    age.look(polls)
    for turn in range(100):
        now = 1.0 + 0.01 * turn
        turned(polls, now)
        age.look(polls)
        if turn >= 10:  # twice what it holds was read
            assert now - age.since <= 0.11
        age.note_read(100, False, now, 500)


@pytest.mark.parametrize(
    ("told_s", "waited_s", "since"),
    [
        (0.3, 0.3, 99.7),
        (0.0, 0.0, 100.0),
        (9.9, 9.9, 90.1),
        # The wall clock was set meanwhile, back or forth.
        (-0.1, 10.0, 90.0),
        (-1e9, 10.0, 90.0),
        (10.1, 10.0, 90.0),
        (1e9, 10.0, 90.0),
    ],
)
def test_the_wall_clock_is_believed_where_it_can_be(told_s, waited_s, since):
    age = QueueAge(90.0)
    assert age.waited_s(100.0, told_s) == waited_s
    assert age.since == pytest.approx(since)


def test_nothing_is_ever_taken_for_younger_than_it_is():
    """A loop whose turns, pauses and batches are random; the queue loses what is too much."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    now, capacity, came = 0.0, 20, deque()
    polls, age = Polls(now), QueueAge(now)

    def pass_time(longest_s):
        nonlocal now
        until = now + rng.random() * longest_s
        while now < until:
            now += rng.expovariate(5.0)
            if len(came) < capacity and rng.random() < busy:
                came.append(now)

    for turn in range(20_000):
        if turn % 500 == 0:
            busy = rng.choice((0.02, 0.5, 1.0))
        pass_time(rng.choice((0.0, 0.0, 0.1, 30.0)))
        complete = rng.random() < 0.9
        named = bool(came) and (complete or rng.random() < 0.5)
        pass_time(rng.choice((0.0, 0.0, 10.0)))
        polls.note(now, complete)
        if not named:
            continue
        age.look(polls)
        for _ in range(rng.randrange(3)):
            pass_time(rng.choice((0.0, 0.0, 1.0)))
            began_at, limit = now, rng.choice((1, 5, 30))
            emptied = len(came) < limit
            read = [came.popleft() for _ in range(min(limit, len(came)))]
            assert all(at >= age.since for at in read)
            if read and rng.random() < 0.1:
                age.waited_s(began_at, began_at - read[-1])
                assert all(at >= age.since for at in came)
            age.note_read(len(read), emptied, began_at, capacity)
            assert all(at >= age.since for at in came)
