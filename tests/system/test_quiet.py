"""What an agent does when there is nothing to do, and when something can't be done."""

from __future__ import annotations

import time

from tests.system.reference_node import Frame
from tests.system.stage import Pair
from tests.system.topology import until
from tests.system.traffic import drain, ping

WATCH_S = 6.0
ETHERNET_BYTES = 14
BACK_OFF_LIMIT_S = 10.0
#: A share of a processor, well over what idling takes on a slow or busy machine, far below a loop.
USED_LIMIT = 0.1
#: An unfinished connection is greeted once a second when it has backed off, and every start of a
#: second is spread by a fifth.
GREETINGS_A_SECOND = 1.3


def frames_on(pair: Pair, seconds: float) -> list[Frame]:
    """Return the classic frames that cross both LANs in some seconds.

    The time is the measurement itself: it waits for nothing.
    """
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + 5, "the watch is over", every_s=0.1)
    raw = [frame for tap in taps for frame in drain(tap)]
    for tap in taps:
        tap.close()
    frames = [Frame.unpack(frame[ETHERNET_BYTES:]) for frame in raw]
    return [frame for frame in frames if frame is not None]


def greetings_in(frames: list[Frame], host: str) -> int:
    """Return how many of the frames are greetings of a host for connections that can't be."""
    return sum(frame.host == host and (frame.state == 0 or not same_lan(frame)) for frame in frames)


def same_lan(frame: Frame) -> bool:
    return frame.source.rpartition(".")[0] == frame.destination.rpartition(".")[0]


def wait_backed_off(pair: Pair, host: str, connections: int) -> None:
    """Wait until a host greets in vain no more often than with its longest pause."""
    until(
        lambda: greetings_in(frames_on(pair, 1), host) <= connections * GREETINGS_A_SECOND,
        BACK_OFF_LIMIT_S,
        "the greetings have backed off",
    )


def test_pairs_without_a_route_flood_neither_wire_nor_log_nor_processor(pair: Pair) -> None:
    a, b = pair.start()
    ping(pair.a, pair.b_address, count=10, interval_s=0.01)
    wait_backed_off(pair, pair.a_address, connections=2)
    log_lines, cpu_s = len(a.log().splitlines()), a.cpu_s()
    frames = [frame for frame in frames_on(pair, WATCH_S) if frame.host == pair.a_address]
    unrouted = [frame for frame in frames if not same_lan(frame)]
    assert len(unrouted) <= 2 * GREETINGS_A_SECOND * WATCH_S
    # Two finished connections keep each other alive a few times a second. Where turns come late,
    # some go out again; a flood would be hundreds.
    assert len(frames) <= 10 * WATCH_S, f"{len(frames)} frames in {WATCH_S} s of idling"
    assert len(a.log().splitlines()) - log_lines <= 2, a.log()
    used = (a.cpu_s() - cpu_s) / WATCH_S
    print(f"idle: {len(frames)} frames in {WATCH_S} s, {used:.2%} of a processor")
    assert used < USED_LIMIT
    assert pair.a.counters("Icmp")["OutParmProbs"] == 0
    assert b.alive


def test_remote_that_never_answers_is_greeted_slowly_and_in_silence(pair: Pair) -> None:
    a = pair.a_agent().start()
    wait_backed_off(pair, pair.a_address, connections=4)
    log_lines = len(a.log().splitlines())
    greetings = frames_on(pair, WATCH_S)
    assert {frame.state for frame in greetings} == {0}
    assert 0 < len(greetings) <= 4 * GREETINGS_A_SECOND * WATCH_S
    assert len(a.log().splitlines()) - log_lines <= 2, a.log()


def test_traffic_for_a_host_that_is_away_does_not_fill_the_log(pair: Pair) -> None:
    a = pair.a_agent().start()
    ping(pair.a, pair.b_address, count=1000, interval_s=0.001, wait_s=0.1)
    ping(pair.a, "10.0.0.99", count=1000, interval_s=0.001, wait_s=0.1)
    assert len(a.log().splitlines()) < 30, a.log()
