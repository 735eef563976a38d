"""An agent that stood still: what comes out of it then is fresh, and what is older goes first."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Iterator

from tests.system.bed import pace
from tests.system.bed.agents import Agent
from tests.system.bed.stage import Pair
from tests.system.bed.topology import Host, until

SO_TIMESTAMPNS = 35  # asm-generic/socket.h
TIMESPEC = struct.Struct("@ll")
PORT = 4300
RATE = 1000
NUMBERED = struct.Struct("!Qd")
BYTES = 200
BOUND_S = 1.0
#: What the way itself takes on a busy machine, the other agent's waiting for a processor included.
WAY_S = 0.25
#: How far packets overtake others on another link when the sender changes its links.
OVERTAKE_S = 0.1
#: A long stop fills every queue, short ones find the agent at work.
STOPS_S = (4.0, 1.5, 1.5, 1.5)
AFTER_S = 1.5
PATIENCE_S = 30.0


@dataclass
class Arrived:
    number: int
    #: By the wall clock, the kernel's for the last.
    sent_at: float
    came_at: float

    @property
    def age_s(self) -> float:
        return self.came_at - self.sent_at


@dataclass
class Numbered:
    """Numbered datagrams from one host to another, each with the time at which it was sent."""

    sent: int = 0
    arrived: list[Arrived] = field(default_factory=list)

    def send(self, sender: socket.socket, address: str, over: threading.Event) -> None:
        began, gap_s = time.monotonic(), 1 / pace.rate(RATE)
        while not over.is_set():
            while began + self.sent * gap_s <= time.monotonic():
                body = NUMBERED.pack(self.sent, time.time()).ljust(BYTES, b"\0")
                with contextlib.suppress(OSError):  # the device may refuse for a moment
                    sender.sendto(body, (address, PORT))
                self.sent += 1
            over.wait(gap_s)

    def receive(self, receiver: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            try:
                body, ancillary, _, _ = receiver.recvmsg(BYTES, 100)
            except TimeoutError:
                continue
            number, sent_at = NUMBERED.unpack_from(body)
            seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
            self.arrived.append(Arrived(number, sent_at, seconds + nanoseconds * 1e-9))


@contextlib.contextmanager
def numbered(sender: Host, receiver: Host, address: str) -> Iterator[Numbered]:
    """Send as long as the block runs."""
    made, sending_over, receiving_over = Numbered(), threading.Event(), threading.Event()
    with contextlib.ExitStack() as stack:
        out, into = (
            stack.enter_context(host.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for host in (sender, receiver)
        )
        into.bind((address, PORT))
        into.settimeout(0.1)
        into.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        threads = [
            threading.Thread(target=made.send, args=(out, address, sending_over)),
            threading.Thread(target=made.receive, args=(into, receiving_over)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield made
        finally:
            sending_over.set()
            threads[0].join()
            receiving_over.set()
            threads[1].join()


def pass_time(seconds: float) -> None:
    """The time is what is tested: nothing is waited for."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + PATIENCE_S, "time passes", every_s=0.01)


def expired(agent: Agent) -> int:
    status = agent.status()
    places = (status["device"], *status["links"], status["counters"])
    return sum(place["dropped"].get("expired", 0) for place in places)


def test_what_waited_while_an_agent_stood_still_is_dropped_and_what_is_fresh_is_not(
    each_pair: Pair,
) -> None:
    pair = each_pair
    a, b = pair.start()
    stops: list[tuple[float, float]] = []
    with contextlib.ExitStack() as stack:
        to_it = stack.enter_context(numbered(pair.a, pair.b, pair.b_address))
        from_it = stack.enter_context(numbered(pair.b, pair.a, pair.a_address))
        until(lambda: to_it.arrived and from_it.arrived, PATIENCE_S, "both ways flow")
        for stop_s in STOPS_S:
            pass_time(AFTER_S)
            os.kill(b.pid, signal.SIGSTOP)
            stopped_at = time.time()
            pass_time(stop_s)
            stops.append((stopped_at, time.time()))
            os.kill(b.pid, signal.SIGCONT)
        pass_time(AFTER_S)
        pair.wait_whole(a, b)
        pass_time(AFTER_S)
    for way, flow in (("to", to_it), ("from", from_it)):
        ages = sorted(one.age_s for one in flow.arrived)
        print(f"{way} it: {flow.sent} sent, {len(ages)} arrived, the oldest {ages[-1]:.3f} s old")
        assert ages[-1] <= BOUND_S + WAY_S
        assert len({one.number for one in flow.arrived}) == len(flow.arrived), "none twice"
        newest = itertools.accumulate((one.sent_at for one in flow.arrived), max)
        behind_s = max(first - one.sent_at for first, one in zip(newest, flow.arrived))
        assert behind_s <= OVERTAKE_S, "nothing that waited comes after what is fresh"
        for _, woke_at in stops:
            after = [one for one in flow.arrived if woke_at < one.sent_at < woke_at + AFTER_S]
            assert len(after) >= 0.8 * AFTER_S * pace.rate(RATE), "what is sent then comes through"
    # What came to it within the bound before it woke is delivered, unless its socket was full.
    kept = [one for one in to_it.arrived if any(0 < woke - one.sent_at < 0.8 for _, woke in stops)]
    stood_s = sum(woke_at - stopped_at for stopped_at, woke_at in stops)
    print(f"{len(kept)} that were sent while it stood still were delivered")
    assert len(kept) >= 0.5 * 0.8 * len(stops) * pace.rate(RATE)
    assert expired(b) >= 0.2 * stood_s * pace.rate(RATE)
    assert expired(a) == 0
