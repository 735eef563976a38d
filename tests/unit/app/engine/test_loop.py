"""The loop: what it waits for, in which order it serves, and when parts tick."""

from __future__ import annotations

import contextlib
import os
import select
import signal

import pytest

from ropeway.app.engine import loop, polling
from ropeway.app.engine.freshness import Bound


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Turns:
    """A pump that carries nothing and lets the loop turn as often as it has something to do."""

    def __init__(self, made, *turns):
        self.occasion = ""
        self.loop = made
        self.turns = list(turns)
        self.flushed = 0

    def wait_s(self, due):
        return 0.0

    def stood_still(self):
        pass

    def begin(self, now):
        if self.turns:
            self.turns.pop(0)()

    def end(self, now):
        if not self.turns:
            self.loop.stop()

    def flush(self, now):
        self.flushed += 1


class Part:
    """A part that is due at `due` and notes when it ticked."""

    def __init__(self, due):
        self.due = due
        self.ticked = []

    def deadline(self):
        return self.due

    def tick(self, now):
        self.ticked.append(now)
        if now >= self.due:
            self.due = float("inf")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def made(clock):
    with contextlib.closing(loop.Loop(Bound(0.0, clock), polling.BusyPoll(1, 0.0))) as it:
        yield it


@pytest.fixture
def pipes():
    """Return a function that makes a descriptor that is ready to be read."""
    opened = []

    def ready():
        here, there = os.pipe()
        opened.extend((here, there))
        os.write(there, b"x")
        return here

    yield ready
    for descriptor in opened:
        os.close(descriptor)


def nothing():
    pass


def test_a_descriptor_registered_as_first_is_served_before_all_others(made, pipes):
    served = []
    for name, first in (("link", False), ("device", True), ("hints", False)):
        made.register(pipes(), lambda _events, _now, name=name: served.append(name), first=first)
    made.run(Turns(made, nothing))
    assert served[0] == "device"
    assert sorted(served) == ["device", "hints", "link"]


def test_a_handler_is_given_the_events_and_the_time(made, pipes, clock):
    given = []
    made.register(pipes(), lambda *arguments: given.append(arguments))
    made.run(Turns(made, nothing))
    assert given == [(select.EPOLLIN, clock.now)]


def test_a_descriptor_that_an_earlier_handler_has_forgotten_is_not_served(made, pipes):
    served = []
    one, other = pipes(), pipes()

    def serve(descriptor, rival):
        served.append(descriptor)
        made.unregister(rival)

    made.register(one, lambda _events, _now: serve(one, other))
    made.register(other, lambda _events, _now: serve(other, one))
    made.run(Turns(made, nothing))
    assert len(served) == 1


def test_every_part_ticks_once_one_of_them_is_due_and_the_pump_flushes(made, clock):
    soon, never = Part(101.0), Part(float("inf"))
    made.add(soon)
    made.add(never)
    pump = Turns(made, nothing, lambda: setattr(clock, "now", 101.0), nothing)
    made.run(pump)
    assert soon.ticked == never.ticked == [101.0]
    assert pump.flushed == 1


def test_a_part_that_becomes_due_sooner_ticks_then(made, clock):
    part = Part(float("inf"))
    made.add(part)

    def hurry():
        part.due = clock.now
        made.sooner(part.due)

    made.run(Turns(made, nothing, hurry, nothing))
    assert part.ticked == [clock.now]


def test_signals_stop_the_loop_and_a_hang_up_is_handled_in_a_turn(made):
    hung_up = []
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.closing(loop.Signals(made, hung_up.append)) as signals:
        made.run(
            Turns(
                made,
                lambda: os.kill(os.getpid(), signal.SIGHUP),
                nothing,
                lambda: os.kill(os.getpid(), signal.SIGTERM),
                nothing,
            )
        )
        assert hung_up == [100.0]
        assert signals.stopped_by == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
