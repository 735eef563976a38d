"""What is measured of a path: times, queues and rates."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.frame.control import CLOCK_MS, CLOCK_TICKS, Measured
from ropeway.core.strand.estimate import Estimate, Lowest
from ropeway.core.tuning import QUICK_PROBE_S, RTT_MIN_S, TRANSIT_MIN_S
from tests.unit.core import secure_world
from tests.unit.core.classic_world import udp

A, B = "10.0.0.1", "10.0.0.2"


def estimates(world, name="a", host=B):
    return {c["link"]: c["estimate"] for c in world.peer(name, host)["connections"]}


def stream(world, seconds, size=100, pause_s=0.01):
    for _ in range(round(seconds / pause_s)):
        world.send("a", udp(A, B, bytes(size)))
        world.run(pause_s)


def delays(world, ways):
    """Have frames from an address take a time of their own, in seconds."""
    world.delay_s = 0.0
    world.transmit = lambda d, s, e: world.fly(d, s, e, ways[s[0]])


@pytest.mark.parametrize("rtt_ms", [1, 20, 150, 600])
def test_round_trip_is_that_of_the_path(rtt_ms):
    world = secure_world.pair()
    way_s = rtt_ms / 2000
    delays(
        world, dict.fromkeys(("192.168.0.2", "192.168.1.2", "192.168.0.3", "192.168.1.3"), way_s)
    )
    stream(world, 20)
    for estimate in estimates(world).values():
        for name in ("rtt_ms", "rtt_latest_ms", "rtt_min_ms"):
            assert estimate[name] == pytest.approx(rtt_ms, rel=0.1, abs=1.0), estimate


def test_queue_is_told_from_delay_and_its_direction_known():
    world = secure_world.pair()
    ways = {"192.168.0.2": 0.01, "192.168.0.3": 0.01, "192.168.1.2": 0.01, "192.168.1.3": 0.01}
    delays(world, ways)
    stream(world, 10)
    assert all(e["queue_ms"] < 1 and e["queue_in_ms"] < 1 for e in estimates(world).values())
    ways["192.168.1.2"] = 0.21
    stream(world, 5)
    found = estimates(world)
    assert found[2]["queue_ms"] < 1
    assert found[3]["queue_ms"] == pytest.approx(200, abs=5)
    assert found[3]["queue_in_ms"] < 5
    back = estimates(world, "b", A)
    assert back[13]["queue_in_ms"] == pytest.approx(200, abs=5)
    assert back[13]["queue_ms"] < 5


def test_rates_are_those_of_each_direction():
    world = secure_world.pair()
    stream(world, 10, size=972)
    there, back = estimates(world), estimates(world, "b", A)
    for link in (2, 3):
        # 28 bytes of IP and UDP in the packet, 32 of the frame, 100 times a second.
        assert there[link]["rate_kbit"] == pytest.approx(8 * 100 * 1.032, rel=0.05)
        assert back[link + 10]["rate_in_kbit"] == pytest.approx(8 * 100 * 1.032, rel=0.05)
        assert there[link]["rate_in_kbit"] < 1


def test_jitter_of_a_path_is_seen_at_both_ends():
    world = secure_world.pair()
    count = itertools.count()
    way = {"192.168.1.2": lambda: 0.005 + 0.02 * (next(count) % 2)}
    world.transmit = lambda d, s, e: world.fly(d, s, e, way.get(s[0], lambda: 0.005)())
    stream(world, 30, pause_s=0.0313)
    assert estimates(world)[2]["jitter_ms"] < 1
    assert estimates(world)[3]["jitter_ms"] > 2
    assert estimates(world, "b", A)[13]["jitter_in_ms"] > 2


def test_clocks_that_run_apart_are_no_queue():
    estimate = Estimate()
    for number in range(1200):
        now = number / 10
        estimate.note_echo(now - 0.02, 0, now)
        clock = int(now * 1000 * 1.0002 / CLOCK_MS) % CLOCK_TICKS
        estimate.note_measured(Measured(clock, number, number), number, number, now)
        assert estimate.queue_in_ms <= 1.0


def test_clock_may_turn_over():
    estimate = Estimate()
    for number in range(100):
        now = 1000.0 + number / 10
        clock = (CLOCK_TICKS - 5000 + number * 100 * 100) % CLOCK_TICKS
        estimate.note_measured(Measured(clock, number, number), number, number, now)
        assert estimate.queue_in_ms < 1.0


def test_lowest_value_is_forgotten_after_one_to_two_spans():
    lowest = Lowest(TRANSIT_MIN_S)
    assert lowest.note(5.0, 0.0) == 5.0
    assert lowest.note(9.0, TRANSIT_MIN_S - 1) == 5.0
    assert lowest.note(9.0, TRANSIT_MIN_S + 1) == 5.0
    assert lowest.note(9.0, 2 * TRANSIT_MIN_S + 2) == 9.0
    assert lowest.note(30.0, 9 * TRANSIT_MIN_S) == 30.0


def test_other_path_is_measured_anew():
    estimate = Estimate()
    estimate.note_echo(0.0, 0, 0.5)
    estimate.note_measured(Measured(1, 1, 1, 7.0, 3.0), 1, 1, 0.5)
    assert (estimate.rtt_ms, estimate.jitter_ms, estimate.age_s(1.5)) == (500.0, 3.0, 1.0)
    estimate.restart()
    assert (estimate.rtt_ms, estimate.jitter_ms, estimate.age_s(1.5)) == (None, None, None)
    estimate.note_echo(1.5, 0, 1.51)
    assert estimate.rtt_min_ms == pytest.approx(10.0)


def test_lowest_round_trip_lasts_minutes():
    estimate = Estimate()
    estimate.note_echo(0.0, 0, 0.01)
    for number in range(1, int(RTT_MIN_S)):
        estimate.note_echo(number, 0, number + 0.3)
    assert estimate.rtt_min_ms == pytest.approx(10.0)


def test_strand_that_is_measured_quickly_hears_an_answer_to_each_question():
    world = secure_world.pair()
    delays(world, dict.fromkeys(("192.168.0.2", "192.168.1.2", "192.168.0.3", "192.168.1.3"), 0.02))
    world.run(5)
    strand = world.nodes["a"].tables.strands[B]
    for connection in strand.connections.values():
        connection.probe_s = QUICK_PROBE_S
    stream(world, 2)
    began = len(world.captured)
    oldest = 0.0
    for _ in range(200):
        stream(world, 0.01)
        ages = [c.quality.estimate.age_s(world.now) for c in strand.connections.values()]
        oldest = max(oldest, *ages)
    assert oldest < QUICK_PROBE_S + 0.02
    controls = [f for _, s, _, f in world.captured[began:] if f[0] == 5 and s[0] == "192.168.0.2"]
    assert 2 / QUICK_PROBE_S * 0.8 < len(controls) < 2 / QUICK_PROBE_S * 2.2, len(controls)
    assert all(c.quality.estimate.rtt_ms == pytest.approx(40, abs=1) for c in strand.carrying)


def test_both_ends_may_measure_quickly_without_talking_ever_more():
    world = secure_world.pair()
    world.run(5)
    for name, host in (("a", B), ("b", A)):
        for connection in world.nodes[name].tables.strands[host].connections.values():
            connection.probe_s = QUICK_PROBE_S
    stream(world, 2)
    began = len(world.captured)
    stream(world, 2)
    controls = [f for _, s, _, f in world.captured[began:] if f[0] == 5 and s[0] == "192.168.0.2"]
    assert len(controls) <= 2 / QUICK_PROBE_S * 2.2, len(controls)


def test_packets_that_only_the_worse_link_brought_are_rescued():
    world = secure_world.pair()
    stream(world, 5)
    assert world.peer("b", A)["rescued"] == 0
    transmit, counts, lost = world.transmit, {}, []

    def lossy(datagram, source, endpoint):
        every = {"192.168.0.2": 20, "192.168.1.2": 7}.get(source[0])
        if every and datagram[0] == 4:
            count = counts[source[0]] = counts.get(source[0], 0) + 1
            if count % every == 0:
                lost.extend([datagram] if every == 20 else [])
                return
        transmit(datagram, source, endpoint)

    world.transmit = lossy
    stream(world, 30)
    rescued = world.peer("b", A)["rescued"]
    assert 0.6 * len(lost) < rescued <= len(lost), (rescued, len(lost))


def test_same_counts_on_another_path_are_no_fault():
    estimate = Estimate()
    for number in range(3):
        estimate.note_measured(Measured(1, 1, 1), 1, 1, number / 10)
    estimate.restart()
    estimate.note_measured(Measured(1, 1, 1), 1, 1, 0.5)
    assert estimate.lost_at < 0


def test_frames_that_stay_missing_are_lost_and_overtaken_ones_are_not():
    estimate, now = Estimate(), 0.0
    for number in range(100):
        now += 0.025
        overtaken = number % 2
        estimate.note_measured(Measured(1, 1, 10 * number - overtaken), 10 * number, 1, now)
        assert estimate.lost_at < 0
    began = now
    while estimate.lost_at < 0:
        number += 1
        now += 0.025
        estimate.note_measured(Measured(1, 1, 10 * number - 3), 10 * number, 1, now)
    assert now - began <= 0.25


@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3, st.booleans()), max_size=60))
def test_no_measurement_of_another_host_raises_or_is_believed_beyond_reason(lies):
    estimate, now = Estimate(), 0.0
    for clock, sent, received, moves in lies:
        now += 0.1
        if moves:
            estimate.restart()
        estimate.note_echo(now - 0.02, sent % 1000, now)
        wait_ms = None if received % 3 else (received % 65535) / 10
        estimate.note_measured(Measured(clock, sent, received, wait_ms, wait_ms), sent, 5, now)
        assert 0 <= estimate.queue_in_ms <= 25
        assert estimate.queue_ms is None or 0 <= estimate.queue_ms <= 25
        for loss in (estimate.loss_in, estimate.loss_out):
            low, high = loss.interval
            assert 0 <= low <= high <= 1
            assert loss.share is None or 0 <= loss.share <= 1
