"""What an agent does when there is nothing to do, and when something can't be done."""

from __future__ import annotations

import time

from tests.system.reference_node import Frame
from tests.system.stage import Pair
from tests.system.topology import until
from tests.system.traffic import drain, ping

WATCH_S = 6.0
ETHERNET_BYTES = 14
#: An unfinished connection is greeted once a second when it has backed off, and every start of a
#: second is spread by a fifth.
GREETINGS_A_SECOND = 1.3


def frames_on(pair: Pair, seconds: float) -> list[Frame]:
    """Return the classic frames that cross both LANs in some seconds."""
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + 5, "the watch is over", every_s=0.1)
    raw = [frame for tap in taps for frame in drain(tap)]
    for tap in taps:
        tap.close()
    frames = [Frame.unpack(frame[ETHERNET_BYTES:]) for frame in raw]
    return [frame for frame in frames if frame is not None]


def test_pairs_without_a_route_flood_neither_wire_nor_log_nor_processor(pair: Pair) -> None:
    a, b = pair.start()
    ping(pair.a, pair.b_address, count=10, interval_s=0.01)
    # Let back-off reach its longest pause before counting.
    frames_on(pair, 2)
    log_lines, cpu_s = len(a.log().splitlines()), a.cpu_s()
    frames = [frame for frame in frames_on(pair, WATCH_S) if frame.host == pair.a_address]
    unrouted = [frame for frame in frames if frame.source[:10] != frame.destination[:10]]
    assert len(unrouted) <= 2 * GREETINGS_A_SECOND * WATCH_S
    # Two finished connections keep each other alive a few times a second.
    assert len(frames) <= 6 * WATCH_S, f"{len(frames)} frames in {WATCH_S} s of idling"
    assert len(a.log().splitlines()) - log_lines <= 2, a.log()
    used = (a.cpu_s() - cpu_s) / WATCH_S
    print(f"idle: {len(frames)} frames in {WATCH_S} s, {used:.2%} of a processor")
    assert used < 0.05
    assert pair.a.counters("Icmp")["OutParmProbs"] == 0
    assert b.alive


def test_remote_that_never_answers_is_greeted_slowly_and_in_silence(pair: Pair) -> None:
    a = pair.a_agent().start()
    frames_on(pair, 2)
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
