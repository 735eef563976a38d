"""Agents over emulated links: what is measured is what the links were told to be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.system.bed import pace
from tests.system.bed.agents import ROOT
from tests.system.bed.stage import Stage
from tests.system.bed.traffic import STREAM_RATE, binomial_interval
from tests.system.bed.wire import WiredPair

pytestmark = pytest.mark.alone

STREAM_S = 10.0
#: What namespaces and two agents may add to the delay of the links.
ADDED_MS = 5.0
#: A fair draw lies outside once in 10,000 runs.
CERTAIN = 0.9999


@pytest.mark.rotates
def test_two_links_are_as_quick_as_the_quicker_and_lose_what_both_lose(stage: Stage) -> None:
    pair = WiredPair(stage, "delay_ms=20,loss=0.2", "delay_ms=40,loss=0.1 | delay_ms=10")
    pair.start()
    verdict, figures = pair.stream(STREAM_S)
    low, high = binomial_interval(verdict.sent, 0.2 * 0.1, CERTAIN)
    assert low <= verdict.lost <= high
    assert verdict.duplicated == 0
    assert verdict.latency_ms is not None
    assert 20 <= verdict.latency_ms["p50"] <= 20 + ADDED_MS
    # One packet in five comes over the slower link.
    assert 40 <= verdict.latency_ms["p99"] <= 40 + ADDED_MS
    for wire, share in zip(figures, (0.2, 0.1)):
        low, high = binomial_interval(wire["out"]["sent"], share, CERTAIN)
        assert low <= wire["out"]["lost"]["medium"] <= high
        assert wire["out"]["sent"] >= verdict.sent
    assert figures[1]["back"]["lost"]["medium"] == 0


def test_a_black_hole_on_one_link_of_two_costs_nothing(stage: Stage) -> None:
    pair = WiredPair(stage, "delay_ms=5,black_hole=2-6", "delay_ms=30")
    pair.start()
    verdict, figures = pair.stream(STREAM_S)
    assert verdict.lost == 0
    assert figures[0]["out"]["lost"]["black hole"] > 0
    assert verdict.latency_ms is not None
    assert 5 <= verdict.latency_ms["p50"] <= 5 + ADDED_MS
    assert 30 <= verdict.latency_ms["p99"] <= 30 + ADDED_MS


@pytest.mark.rotates
def test_a_slow_link_alone_carries_its_rate_and_makes_wait_what_its_queue_holds(
    stage: Stage,
) -> None:
    # A packet of 200 bytes of payload has 288 bytes on the link.
    rate_kbit = 0.5 * pace.rate(STREAM_RATE) * 288 * 8 / 1000
    pair = WiredPair(stage, f"delay_ms=10,rate_kbit={rate_kbit:.0f},queue_ms=200")
    pair.start()
    verdict, figures = pair.stream(STREAM_S)
    assert verdict.lost == pytest.approx(0.5 * verdict.sent, rel=0.1)
    assert figures[0]["out"]["lost"]["queue"] >= verdict.lost
    assert verdict.latency_ms is not None
    # The queue takes one packet more than it holds, and the packet itself takes its time.
    packet_ms = 288 * 8 / rate_kbit
    assert 200 <= verdict.latency_ms["p50"] <= 210 + packet_ms + 2 * ADDED_MS


@pytest.mark.parametrize(
    ("end", "complaint"),
    [
        ("one", "no NETNS:INTERFACE=ADDRESS/LENGTH"),
        ("one:eth0", "no NETNS:INTERFACE=ADDRESS/LENGTH"),
        ("rwsys-none:eth0=192.168.0.2/24", "no namespace rwsys-none: make it"),
    ],
)
def test_an_end_that_cannot_be_made_is_named(end: str, complaint: str) -> None:
    command = [sys.executable, "-m", "tests.emulator", "wire", end, "rwsys-none:eth0=10.9.9.9/24"]
    done = subprocess.run(
        [*command, "--link", "delay_ms=1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert complaint in done.stderr


def test_adaptive_sends_one_copy_until_its_link_carries_nothing(stage: Stage) -> None:
    pair = WiredPair(stage, "delay_ms=10,black_hole=5-20", "delay_ms=30")
    pair.start(classes=[{"name": "all", "mode": "adaptive"}])
    verdict, figures = pair.stream(STREAM_S, size=1000)
    assert verdict.lost == 0
    assert figures[0]["out"]["lost"]["black hole"] > 0
    # A copy is the payload, and 28 bytes of headers inside, 32 of the frame and 28 outside.
    single = verdict.sent * (1000 + 28 + 32 + 28)
    assert sum(one["out"]["sent_bytes"] for one in figures) < 1.5 * single
    assert verdict.latency_ms is not None
    assert verdict.latency_ms["p50"] <= 30 + ADDED_MS


def test_parity_repairs_most_of_what_a_lone_link_loses(stage: Stage) -> None:
    pair = WiredPair(stage, "delay_ms=10,loss=0.05")
    pair.start(classes=[{"name": "all", "mode": "single", "parity": 4}])
    verdict, figures = pair.stream(STREAM_S)
    medium = figures[0]["out"]["lost"]["medium"]
    print(f"{medium} frames lost, {verdict.lost} packets of {verdict.sent}")
    low, _ = binomial_interval(verdict.sent, 0.05, CERTAIN)
    assert medium >= low
    # A packet stays lost where one more of its group is lost, its frame included. Such come
    # together, which spreads more than independent draws do.
    share = 0.05 * (1 - 0.95**4)
    assert verdict.lost <= 2 * binomial_interval(verdict.sent, share, CERTAIN)[1]
    assert verdict.lost < medium / 2
    assert verdict.duplicated == 0


@pytest.mark.parametrize("size", [200, 1000])
def test_recommended_classes_spare_the_copies_of_large_packets(stage: Stage, size: int) -> None:
    pair = WiredPair(stage, "delay_ms=10,black_hole=5-20", "delay_ms=30")
    pair.start(classes="recommended")
    verdict, figures = pair.stream(STREAM_S, size=size)
    assert verdict.lost == 0
    assert figures[0]["out"]["lost"]["black hole"] > 0
    # A copy is the payload, and 28 bytes of headers inside, 32 of the frame and 28 outside.
    copies = [one["out"]["sent_bytes"] / (verdict.sent * (size + 28 + 32 + 28)) for one in figures]
    if size == 1000:
        assert sum(copies) < 1.5
    else:
        assert copies[1] >= 1


def test_single_loses_at_most_a_few_packets_to_a_black_hole(stage: Stage) -> None:
    pair = WiredPair(stage, "delay_ms=10,black_hole=4-20", "delay_ms=30")
    pair.start(classes=[{"name": "all", "mode": "single"}])
    verdict, figures = pair.stream(STREAM_S)
    print(verdict)
    assert figures[0]["out"]["lost"]["black hole"] > 0
    assert verdict.lost <= 20
    assert verdict.duplicated == 0
