"""What an agent does when there is nothing to do, and when something can't be done."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.system.bed.reference_node import Frame
from tests.system.bed.stage import Pair
from tests.system.bed.topology import until
from tests.system.bed.traffic import Datagram, drain, ping

WATCH_S = 6.0
ETHERNET_BYTES = 14
BACK_OFF_LIMIT_S = 30.0
#: A share of a processor, well over what idling takes on a slow or busy machine, far below a loop.
USED_LIMIT = 0.1
#: An unfinished connection is greeted once a second when it has backed off, and every start of a
#: second is spread by a fifth.
GREETINGS_A_SECOND = 1.3
INITIATION = 1


@dataclass(frozen=True)
class Heard:
    """One frame of an agent: its real addresses, and whether it still asks to be answered."""

    source: str
    destination: str
    greeting: bool

    @property
    def same_lan(self) -> bool:
        return self.source.rpartition(".")[0] == self.destination.rpartition(".")[0]


def heard_in(frame: bytes) -> Heard | None:
    """Read an Ethernet frame as one of an agent's, of either encapsulation."""
    classic = Frame.unpack(frame[ETHERNET_BYTES:])
    if classic is not None:
        return Heard(classic.source, classic.destination, classic.state == 0)
    datagram = Datagram.unpack(frame)
    if datagram is None or not datagram.payload:
        return None
    return Heard(datagram.source, datagram.destination, datagram.payload[0] == INITIATION)


def frames_on(pair: Pair, seconds: float) -> tuple[list[Heard], float]:
    """Return the agents' frames that cross both LANs in some seconds, and how many those were.

    The time is the measurement itself: it waits for nothing.
    """
    began = time.monotonic()
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    end = began + seconds
    until(lambda: time.monotonic() >= end, seconds + 30, "the watch is over", every_s=0.1)
    raw = [frame for tap in taps for frame in drain(tap)]
    watched_s = time.monotonic() - began
    for tap in taps:
        tap.close()
    return [heard for heard in map(heard_in, raw) if heard is not None], watched_s


def of_vm0(pair: Pair, frames: list[Heard]) -> list[Heard]:
    own = {port.ip for port in pair.a.ports.values()}
    return [frame for frame in frames if frame.source in own]


def wait_backed_off(pair: Pair, connections: int) -> None:
    """Wait until vm0 greets in vain no more often than with its longest pause."""

    def backed_off() -> bool:
        frames, watched_s = frames_on(pair, 1)
        greetings = sum(f.greeting or not f.same_lan for f in of_vm0(pair, frames))
        return greetings <= connections * GREETINGS_A_SECOND * watched_s

    until(backed_off, BACK_OFF_LIMIT_S, "the greetings have backed off")


def test_pairs_without_a_route_flood_neither_wire_nor_log_nor_processor(each_pair: Pair) -> None:
    pair = each_pair
    a, b = pair.start()
    ping(pair.a, pair.b_address, count=10, interval_s=0.01)
    wait_backed_off(pair, connections=2)
    log_lines, cpu_s = len(a.log().splitlines()), a.cpu_s()
    seen, watched_s = frames_on(pair, WATCH_S)
    frames = of_vm0(pair, seen)
    unrouted = [frame for frame in frames if not frame.same_lan]
    assert len(unrouted) <= 2 * GREETINGS_A_SECOND * watched_s
    # Two finished connections keep each other alive a few times a second. Where turns come late,
    # some go out again; a flood would be hundreds.
    assert len(frames) <= 10 * watched_s, f"{len(frames)} frames in {watched_s} s of idling"
    assert len(a.log().splitlines()) - log_lines <= 2, a.log()
    used = (a.cpu_s() - cpu_s) / watched_s
    print(f"idle: {len(frames)} frames in {watched_s:.1f} s, {used:.2%} of a processor")
    assert used < USED_LIMIT
    assert pair.a.counters("Icmp")["OutParmProbs"] == 0
    assert b.alive


def test_peer_that_never_answers_is_greeted_slowly_and_in_silence(each_pair: Pair) -> None:
    pair = each_pair
    a = pair.a_agent().start()
    wait_backed_off(pair, connections=4)
    log_lines = len(a.log().splitlines())
    seen, watched_s = frames_on(pair, WATCH_S)
    greetings = of_vm0(pair, seen)
    assert all(frame.greeting for frame in greetings)
    assert 0 < len(greetings) <= 4 * GREETINGS_A_SECOND * watched_s
    assert len(a.log().splitlines()) - log_lines <= 2, a.log()


def test_traffic_for_a_host_that_is_away_does_not_fill_the_log(each_pair: Pair) -> None:
    pair = each_pair
    a = pair.a_agent().start()
    ping(pair.a, pair.b_address, count=1000, interval_s=0.001, wait_s=0.1)
    ping(pair.a, "10.0.0.99", count=1000, interval_s=0.001, wait_s=0.1)
    assert len(a.log().splitlines()) < 30, a.log()
