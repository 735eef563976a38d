"""When names are resolved, and what is made of the answers."""

import logging
import threading
from typing import ClassVar

import pytest

from ropeway.steward import names, orders
from ropeway.steward.names import RESOLVE_EVERY_S, RETRY_MAX_S, RETRY_MIN_S, THREADS_MAX, Names
from ropeway.steward.orders import Resolve

A, B = "a.example", "b.example"


class FakeThread:
    """A thread that runs when the test says so."""

    waiting: ClassVar[list] = []

    def __init__(self, target, args, daemon):
        assert daemon
        self.name, self.links = args
        self._run = lambda: target(*args)

    def start(self):
        FakeThread.waiting.append(self)

    def run(self):
        FakeThread.waiting.remove(self)
        self._run()


class Loop:
    """A loop whose clock is turned by hand."""

    def __init__(self):
        self.now = 1000.0
        self.handlers = {}

    def clock(self):
        return self.now

    def register(self, descriptor, handler):
        self.handlers[descriptor] = handler

    def unregister(self, descriptor):
        del self.handlers[descriptor]

    def sooner(self, at):
        pass


class Bed:
    """Names, with name servers that say what `answers` has."""

    def __init__(self, **options):
        self.loop = Loop()
        self.answers = {}
        self.told = []
        self.links = ["eth0", "eth1"]
        options.setdefault("spread", lambda: 0.0)
        self.names = Names(
            self.loop, "10.0.0.0/24", self.told.append, lambda: self.links, self.resolve, **options
        )

    def resolve(self, name, links):
        answer = self.answers.get(name, OSError(2, "no such name"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wish(self, *listed, urgent=()):
        self.names.wish(Resolve(listed, tuple(urgent)), self.loop.now)

    def begin(self):
        """Begin what is due; return the names that are being resolved."""
        if self.names.deadline() <= self.loop.now:
            self.names.tick(self.loop.now)
        return [thread.name for thread in FakeThread.waiting]

    def end(self, *listed):
        """Let resolutions end, all of them if none is listed."""
        for thread in list(FakeThread.waiting):
            if not listed or thread.name in listed:
                thread.run()
        (handler,) = self.loop.handlers.values()
        handler(1, self.loop.now)

    def go(self):
        """Resolve what is due; return the names."""
        begun = self.begin()
        if begun:
            self.end()
        return begun

    def until(self, at):
        """Return when something was resolved up to `at`, in seconds from now."""
        began, found = self.loop.now, []
        while self.names.deadline() <= began + at:
            self.loop.now = max(self.loop.now, self.names.deadline())
            assert self.go()
            found.append(self.loop.now - began)
        self.loop.now = began + at
        return found

    @property
    def addresses(self):
        return dict(self.told[-1].addresses)

    @property
    def faults(self):
        return list(self.told[-1].faults)


@pytest.fixture
def bed(monkeypatch):
    monkeypatch.setattr(names.threading, "Thread", FakeThread)
    FakeThread.waiting = []
    made = Bed()
    yield made
    made.names.close()


def test_all_addresses_of_a_name_are_told_in_one_order(bed):
    bed.answers[A] = ["2001:db8::9", "192.0.2.10", "192.0.2.9", "192.0.2.10"]
    bed.wish(A)
    bed.go()
    assert bed.addresses == {A: ("192.0.2.9", "192.0.2.10", "2001:db8::9")}
    assert bed.faults == []


def test_a_name_that_resolves_is_resolved_again_within_five_minutes(bed):
    bed.answers[A] = ["192.0.2.9"]
    bed.wish(A)
    bed.go()
    bed.answers[A] = ["192.0.2.10"]
    assert bed.until(RESOLVE_EVERY_S) == [RESOLVE_EVERY_S]
    assert bed.addresses == {A: ("192.0.2.10",)}


def test_the_time_that_an_answer_takes_counts(bed):
    bed.answers[A] = ["192.0.2.9"]
    bed.wish(A)
    bed.begin()
    bed.loop.now += 20.0
    bed.end()
    assert bed.names.deadline() == 1000.0 + RESOLVE_EVERY_S


def test_pauses_are_spread_and_never_longer(monkeypatch):
    monkeypatch.setattr(names.threading, "Thread", FakeThread)
    FakeThread.waiting = []
    bed = Bed(spread=lambda: 1.0)
    bed.answers[A] = ["192.0.2.9"]
    bed.wish(A)
    bed.go()
    assert bed.names.deadline() == 1000.0 + 0.9 * RESOLVE_EVERY_S
    bed.names.close()


def test_the_same_answer_is_told_once(bed):
    bed.answers[A] = ["192.0.2.9"]
    bed.wish(A)
    bed.until(3 * RESOLVE_EVERY_S)
    assert len(bed.told) == 1


def test_a_name_that_does_not_resolve_is_tried_again_ever_more_seldom(bed):
    bed.wish(A)
    times = bed.until(200.0)
    assert times[:7] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0]
    assert times[-1] - times[-2] == RETRY_MAX_S
    assert bed.addresses == {}
    assert bed.faults == [
        "a.example does not resolve (no such name), and is tried again: look at its records and at"
        " the name servers of this host"
    ]
    bed.answers[A] = ["192.0.2.9"]
    bed.until(RETRY_MAX_S)
    assert bed.addresses == {A: ("192.0.2.9",)}
    assert bed.faults == []


def test_an_empty_answer_is_a_fault(bed):
    bed.answers[A] = []
    bed.wish(A)
    bed.go()
    assert "does not resolve (it has no address)" in bed.faults[0]


def test_the_last_good_answer_holds(bed):
    bed.answers[A] = ["192.0.2.9"]
    bed.wish(A)
    bed.go()
    for bad in (OSError(2, "nobody answers"), [], ["127.0.0.1"]):
        bed.answers[A] = bad
        bed.until(RESOLVE_EVERY_S)
        assert bed.addresses == {A: ("192.0.2.9",)}
        assert "its last addresses are kept" in bed.faults[0]


def test_a_name_of_a_host_that_is_not_met_is_resolved_at_once_and_soon_again(bed):
    bed.answers[A] = bed.answers[B] = ["192.0.2.9"]
    bed.wish(A, B)
    bed.go()
    bed.loop.now += 100.0
    bed.wish(A, B, urgent=[B])
    assert bed.until(8.0) == [0.0, 1.0, 3.0, 7.0]
    bed.wish(A, B)
    assert bed.until(RETRY_MAX_S)[:1] == [7.0]
    assert bed.names.deadline() == 1000.0 + RESOLVE_EVERY_S, "it is calm again"


def test_a_host_that_comes_and_goes_has_its_names_resolved_no_more_than_once_a_second(bed):
    bed.answers[A] = ["192.0.2.9"]
    for _ in range(10):
        bed.wish(A, urgent=[A])
        bed.go()
        bed.wish(A)
        bed.go()
        bed.loop.now += 0.1
    assert bed.names.deadline() >= 1000.0 + RETRY_MIN_S


def test_urgent_names_come_first_and_only_so_many_at_once(bed):
    listed = [f"r{number}.example" for number in range(12)]
    bed.wish(*listed, urgent=listed[-2:])
    begun = bed.begin()
    assert begun[:2] == sorted(listed[-2:])
    assert len(begun) == THREADS_MAX
    assert bed.names.deadline() == float("inf"), "as long as nothing has ended"
    bed.end(listed[-1])
    assert len(bed.begin()) == THREADS_MAX


def test_a_name_whose_server_hangs_delays_no_other(bed):
    bed.answers[B] = ["192.0.2.9"]
    bed.wish(A, B)
    bed.begin()
    bed.end(B)
    assert bed.addresses == {B: ("192.0.2.9",)}
    bed.loop.now += RESOLVE_EVERY_S
    assert bed.begin() == [A, B], "and is not asked for twice"


def test_a_name_that_is_not_wished_any_more_is_forgotten(bed):
    bed.answers[A] = bed.answers[B] = ["192.0.2.9"]
    bed.wish(A, B)
    bed.go()
    bed.wish(B)
    assert bed.addresses == {B: ("192.0.2.9",)}
    assert bed.until(RESOLVE_EVERY_S)
    assert bed.addresses == {B: ("192.0.2.9",)}


def test_an_answer_for_a_name_that_went_meanwhile_counts_for_nothing(bed):
    bed.answers[A] = ["192.0.2.9"]
    bed.wish(A)
    bed.begin()
    bed.wish()
    bed.end()
    assert not bed.told
    bed.wish(A)
    assert bed.go() == [A]
    assert bed.addresses == {A: ("192.0.2.9",)}


def test_addresses_that_no_other_host_can_have_are_left_out(bed, caplog):
    odd = ["10.0.0.7", "127.0.0.1", "224.0.0.1", "0.0.0.0", "::1", "fe80::1%eth0", "ff02::1", "::"]
    bed.answers[A] = [*odd, "192.0.2.9"]
    bed.wish(A)
    with caplog.at_level(logging.WARNING):
        bed.until(3 * RESOLVE_EVERY_S)
    assert bed.addresses == {A: ("192.0.2.9",)}
    sentence = (
        "a.example has addresses that no other host can have, which are left out: 0.0.0.0,"
        " 10.0.0.7, 127.0.0.1, 224.0.0.1 and 4 more"
    )
    assert bed.faults == [sentence]
    assert caplog.messages == [sentence], "one warning"


def test_a_name_that_only_has_such_addresses_is_tried_again(bed):
    bed.answers[A] = ["127.0.0.1"]
    bed.wish(A)
    assert bed.until(3.0) == [0.0, 1.0, 3.0]
    assert bed.faults == [
        "a.example has no address that another host can have, only 127.0.0.1: mend its records, or"
        " write an address"
    ]


def test_a_name_has_only_so_many_addresses(bed):
    bed.answers[A] = [f"192.0.2.{number}" for number in range(1, 200)]
    bed.wish(A)
    bed.go()
    assert len(bed.addresses[A]) == 32


def test_of_very_many_names_that_do_not_resolve_some_are_told(bed):
    bed.wish(*(f"r{number}.example" for number in range(100)))
    bed.until(0.5)
    assert len(bed.faults) == 17
    assert bed.faults[-1] == "84 more names do not resolve, or have odd addresses"


def test_an_order_with_other_texts_than_names_is_malformed():
    good = Resolve((A, B), (A,))
    assert orders.decode(orders.encode(good)) == good
    for odd in ("", "192.0.2.1", "a b", "A.example", "a.example:5", "x" * 300, 7):
        with pytest.raises(orders.Malformed):
            orders.decode(orders.encode(Resolve((odd,))))
    with pytest.raises(orders.Malformed):
        orders.decode(orders.encode(Resolve(tuple(f"r{number}" for number in range(257)))))


def test_a_resolver_that_breaks_is_a_fault(bed):
    bed.answers[A] = UnicodeError("broken")
    bed.wish(A)
    bed.go()
    assert "broken" in bed.faults[0]


def test_the_links_of_the_moment_are_given_to_the_resolver(bed):
    bed.wish(A)
    bed.links = ["wwan0"]
    bed.begin()
    assert FakeThread.waiting[0].links == ("wwan0",)


def test_a_host_without_threads_is_a_fault(bed, monkeypatch):
    def start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(FakeThread, "start", start)
    bed.wish(A)
    bed.begin()
    assert "can't start new thread" in bed.faults[0]
    assert bed.names.deadline() == 1000.0 + RETRY_MIN_S


def test_an_answer_after_the_end_wakes_nobody():
    release = threading.Event()
    loop, told = Loop(), []

    def resolve(_name, _links):
        release.wait(10.0)
        return []

    made = Names(loop, "10.0.0.0/24", told.append, list, resolve)
    made.wish(Resolve((A,)), loop.now)
    made.tick(loop.now)
    (thread,) = [t for t in threading.enumerate() if t is not threading.main_thread()][-1:]
    made.close()
    release.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert not told
