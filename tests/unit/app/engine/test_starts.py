"""The epoch and reset keys of a start, and how they change while the agent runs."""

import pytest

from ropeway.app.engine import starts
from ropeway.app.store import state

NOW_S = 1_800_000_000
KEYS = (b"k" * 32,)


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose first item is the wall clock's time."""
    now = [float(NOW_S)]
    monkeypatch.setattr(starts.time, "time", lambda: now[0])
    return now


def begun(epoch):
    remembered = []
    return starts.Starts(epoch, KEYS, lambda *what: remembered.append(what)), remembered


def test_epoch_follows_the_wall_clock_that_was_set(clock):
    start, remembered = begun(100)
    clock[0] = 100 + starts.FOLLOW_MIN_S - 1
    assert not start.follow_clock()
    clock[0] = 5.0
    assert not start.follow_clock()
    clock[0] = NOW_S
    assert start.follow_clock()
    assert start.epoch == NOW_S
    assert remembered == [(NOW_S, KEYS)]
    for wild_s in (5e9, -1.0, 4_294_967_295.0):
        clock[0] = wild_s
        assert not start.follow_clock()


def test_epoch_that_follows_for_a_year_is_seldom_kept(clock):
    start, _ = begun(NOW_S)
    raised = []
    for seconds in range(0, 10 * 86_400, 10):
        clock[0] = NOW_S + seconds
        if start.follow_clock():
            raised.append(seconds)
    # Whatever was lost, the wall clock catches up in twice the time, or in an hour more.
    assert raised[0] <= 20
    assert all(after <= 2.1 * before + 20 for before, after in zip(raised, raised[1:]))
    assert all(b - a <= starts.FOLLOW_MAX_S + 20 for a, b in zip(raised, raised[1:]))
    assert len(raised) <= 24 * 10 + 10


def test_a_copy_gets_another_epoch_and_a_fresh_key(clock):
    start, remembered = begun(NOW_S)
    clock[0] = NOW_S + 50
    epoch, keys = start.renew()
    assert epoch == NOW_S + 50
    assert keys[1:] == KEYS
    assert len(keys[0]) == 32
    assert remembered == [(epoch, keys)]
    clock[0] = 5.0
    assert start.renew()[0] == epoch + 1
    for _ in range(2 * state.RESET_KEYS_MAX):
        start.renew()
    assert len(start.reset_keys) == state.RESET_KEYS_MAX
