"""A small flow beside a large one, and what the large one costs in memory.

How fast and how prompt an agent is, the benchmark measures. Here the bars are so wide that they
stand on any machine, and still far below what a full queue in the way would cost.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager

import pytest

from tests.system.bed import pace
from tests.system.bed.agents import DEVICE, Agent
from tests.system.bed.stage import Pair
from tests.system.bed.topology import until
from tests.system.bed.traffic import Verdict, assert_whole, both_ways, bulk, flood, one_way, ping
from tests.system.test_two_links import wait_cut

pytestmark = pytest.mark.alone

SMALL_RATE = 200
SMALL_BYTES = 100
UDP_HEADERS = 28
LOAD_S = 10.0
STALL_S = 1.0
ROUND_TRIP_MS = 25.0
#: More datagrams a second than an agent carries; as super-packets they cost their sender little.
FLOODS = {
    "datagrams": {"size": 1200, "segments": 1, "rate": 150_000},
    "super-packets": {"size": 1200, "segments": 40, "rate": 200_000},
}
#: A flood that the machine was too busy for is repeated once; the second counts as it is.
ATTEMPTS = 2
#: Of a small flow beside a flood: next to nothing.
LOST_SHARE = 0.01
#: Makes each read from the device take 20 us.
SLOW_READS = """
import os, time
from ropeway.kernel import tun
class Slow:
    def __getattr__(self, name):
        return getattr(os, name)
    def read(self, *arguments):
        end = time.perf_counter() + 20e-6
        while time.perf_counter() < end:
            pass
        return os.read(*arguments)
tun.os = Slow()
"""
PINGS = 800
#: Larger than the device's MTU by little: a large fragment and a small one.
FRAGMENTED_BYTES = 1470
FRAGMENTED_RATE = 3_000
PAUSES = 15
PAUSE_S = 0.2
#: Both of them are seldom read from the device one after the other.
TORN_SHARE = 0.01
MEMORY_S = 10.0
SAMPLE_S = 0.2
MEMORY_KIB = 50 << 10
#: Gives freed memory back soon after a transfer, and collects no garbage in cycles: while packets
#: come that may wait for minutes, so none may arise from them.
RETURN_S = 1.0
NO_CYCLES = "import gc; gc.collect = lambda *_: 0"
#: At rest the memory is the same, within pages, after each transfer. What stays of it is growth.
GROWTH_KIB = 256
REST_KIB = 32
REST_SAMPLES = 20
REST_LIMIT_S = 30.0


def wait_s(seconds: float) -> None:
    """Let a load last: the time is the measurement itself."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + 5, "the time is over", every_s=0.2)


def small_flow(pair: Pair) -> AbstractContextManager[dict[str, Verdict]]:
    size = SMALL_BYTES - UDP_HEADERS
    return both_ways(pair.a, pair.a_address, pair.b, pair.b_address, SMALL_RATE, size)


def round_trip_ms(verdicts: dict[str, Verdict]) -> float:
    """Return the 99th percentiles of both ways together."""
    return sum((verdict.latency_ms or {})["p99"] for verdict in verdicts.values())


@pytest.mark.rotates
def test_bulk_transfer_neither_delays_nor_loses_a_small_flow(pair: Pair) -> None:
    pair.start()
    with small_flow(pair) as verdicts:
        with bulk(pair.a, pair.b, pair.b_address, checked=False) as load:
            wait_s(LOAD_S)
            moved = load.stop()
        print(moved)
    assert_whole(verdicts)
    assert moved.whole
    print(f"round trip beside it: {round_trip_ms(verdicts):.2f} ms")
    assert round_trip_ms(verdicts) <= ROUND_TRIP_MS


def test_transfer_at_full_speed_does_not_stall_where_a_link_is_cut(pair: Pair) -> None:
    a, b = pair.start()
    with bulk(pair.a, pair.b, pair.b_address) as there, bulk(
        pair.b, pair.a, pair.a_address
    ) as back:
        for lan, port in pair.a.ports.items():
            port.block()
            wait_cut(pair, a, b, lan)
            port.unblock()
            pair.wait_whole(a, b)
        for transfer in (there, back):
            moved = transfer.stop()
            print(moved)
            assert moved.whole, moved
            assert moved.stall_s < STALL_S, moved


@pytest.mark.parametrize("shape", FLOODS.values(), ids=FLOODS.keys())
def test_flood_over_capacity_takes_next_to_nothing_from_a_small_flow(
    pair: Pair, shape: dict[str, int]
) -> None:
    a, b = pair.start()
    for _ in range(ATTEMPTS):
        delivered = b.delivered()
        with small_flow(pair) as verdicts, flood(pair.a, pair.b, pair.b_address, **shape) as sent:
            wait_s(LOAD_S)
        carried = b.delivered() - delivered
        print(f"{sent}, {carried} carried; beside it {round_trip_ms(verdicts):.2f} ms")
        if carried < 0.99 * sent["sent"]:
            break
    for way, verdict in verdicts.items():
        assert verdict.sent, way
        # Where an agent is kept from the processor for 25 ms, which it shares with the flood's
        # sender, the kernel's own queue overflows, and that tells no flows apart.
        assert verdict.lost <= LOST_SHARE * verdict.sent, f"{way}: {verdict}"
        assert verdict.duplicated == 0, f"{way}: {verdict}"
    pair.wait_whole(a, b)


def test_flood_that_cannot_even_be_read_takes_nothing_from_a_flow_that_is_answered(
    pair: Pair,
) -> None:
    """A slow board needs longer to read a packet than another program to send one."""
    a, b = pair.a_agent(), pair.b_agent()
    a.cheat = SLOW_READS
    a.start()
    b.start()
    pair.wait_whole(a, b)
    with flood(pair.a, pair.b, pair.b_address, **FLOODS["datagrams"]):
        until(lambda: unread(pair) > 0, 10, "the kernel drops what is not read")
        # A flow whose queue the flood overruns leaves it with the next answer, 0.1 s later. The
        # kernel forgets where it went after 3 s without one (TUN_FLOW_EXPIRE).
        first = ping(pair.a, pair.b_address, SMALL_RATE, 1 / SMALL_RATE, wait_s=0.5)
        verdict = ping(pair.a, pair.b_address, count=PINGS, interval_s=1 / SMALL_RATE)
        dropped = unread(pair)
    print(f"{verdict}, {first.lost} lost in the first second, {dropped} dropped by the kernel")
    assert dropped > PINGS
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict


def unread(pair: Pair) -> int:
    """Return how many packets the kernel dropped because the first agent did not read them."""
    (shown,) = pair.a.ip_json("-s", "link", "show", "dev", DEVICE)
    return int(shown["stats64"]["tx"]["dropped"])


@pytest.mark.rotates
def test_packets_in_fragments_can_be_put_together_after_they_had_to_wait(pair: Pair) -> None:
    """The kernel gives fragments up between which more than 64 others of their host came."""
    _, b = pair.start()
    rate = pace.rate(FRAGMENTED_RATE)
    with one_way(pair.a, pair.b, pair.b_address, rate, FRAGMENTED_BYTES) as verdicts:
        for _ in range(PAUSES):
            wait_s(PAUSE_S)
            os.kill(b.pid, signal.SIGSTOP)
            wait_s(PAUSE_S)
            os.kill(b.pid, signal.SIGCONT)
    (verdict,) = verdicts.values()
    assert verdict.lost <= TORN_SHARE * verdict.sent, verdict
    assert verdict.duplicated == 0, verdict


@pytest.mark.rotates
def test_bulk_transfer_does_not_swell_an_agent(pair: Pair) -> None:
    agents = (pair.a_agent(), pair.b_agent())
    for agent in agents:
        agent.tuning["ropeway.app.engine.chores:COLLECT_S"] = RETURN_S
        agent.cheat = NO_CYCLES
        agent.start()
    pair.wait_whole(*agents)
    peaks, rests = [], []
    for _ in range(2):
        samples = []
        with bulk(pair.a, pair.b, pair.b_address, checked=False) as load:
            end = time.monotonic() + MEMORY_S
            while time.monotonic() < end:
                wait_s(SAMPLE_S)
                samples.append([agent.rss_kib() for agent in agents])
            moved = load.stop()
        peaks.append([max(of_one) for of_one in zip(*samples)])
        rests.append([rest_kib(agent) for agent in agents])
        print(f"{moved}; at most {peaks[-1]} KiB, afterwards {rests[-1]}")
    # How much waits at once, and so how large the heap becomes, is chance: peaks show no growth.
    assert max(map(max, peaks)) <= MEMORY_KIB
    for first, second in zip(*rests):
        assert second - first <= GROWTH_KIB


def rest_kib(agent: Agent) -> int:
    """Return an agent's memory once it has given back what it had freed."""
    samples: list[int] = []

    def rests() -> bool:
        samples.append(agent.rss_kib())
        recent = samples[-REST_SAMPLES:]
        return len(recent) == REST_SAMPLES and max(recent) - min(recent) <= REST_KIB

    until(rests, REST_LIMIT_S, lambda: f"the memory stands still: {samples} KiB", every_s=SAMPLE_S)
    return samples[-1]
