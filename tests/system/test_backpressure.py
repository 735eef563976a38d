"""A link that cannot keep up drops copies of its own, and nobody waits for it."""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Pair
from tests.system.bed.topology import Port, until
from tests.system.bed.traffic import SO_RCVBUFFORCE, one_way, ping

pytestmark = pytest.mark.alone

FAST, SLOW = "net0", "net1"
# An LTE modem's: what it sends, and a queue of its own that alone would hold 1.6 s of it.
SLOW_SHAPE = ["burst", "32kb", "limit", "1mb"]
SLOW_KBIT = 5000
#: At the edge of a cell, and how long it takes to carry what it held before it was known.
SLOWEST_KBIT, SLOWEST_LOAD_S = 500, 18.0
SIZE = 1200
RATE = 2_080  # packets a second, 20 Mbit/s
LOAD_S = 6.0
#: How long a copy may wait for the slow link; what comes over the fast one must not show it.
BACKLOG_MS = 250.0
FAST_P99_MS = BACKLOG_MS / 5
FALL_BACK_S = 1.0
AFTERWARDS_S = 5.0
RESTORE_S = 10.0
#: Time passes while the machine stands still, so one attempt in time will do.
ATTEMPTS = 2
STAMP = struct.Struct("!d")
PORT = 7070
TICK_S = 0.005
BURST = 50
BUFFER_BYTES = 8 << 20


def slow_down(port: Port, kbit: int = SLOW_KBIT) -> None:
    shape = ["rate", f"{kbit}kbit", *SLOW_SHAPE]
    port.host.run("tc", "qdisc", "replace", "dev", port.interface, "root", "tbf", *shape)


def send_errors(agent: Agent) -> dict[str, dict[str, int]]:
    """Return what the kernel refused to send, by link and reason."""
    return {link["name"]: link["send_errors"] for link in agent.status()["links"]}


@pytest.fixture
def slow_pair(pair: Pair) -> tuple[Pair, Agent, Agent]:
    a, b = pair.start()
    slow_down(pair.a.ports[SLOW])
    return pair, a, b


def test_slow_link_drops_its_own_copies_and_delays_nobody(
    slow_pair: tuple[Pair, Agent, Agent],
) -> None:
    pair, a, b = slow_pair
    with one_way(pair.a, pair.b, pair.b_address, RATE, SIZE) as verdicts:
        end = time.monotonic() + LOAD_S
        until(lambda: time.monotonic() >= end, LOAD_S + 5, "the time is over", every_s=0.2)
        during = a.connections(pair.b_address)
    (verdict,) = verdicts.values()
    print(json.dumps(during))
    assert verdict.sent > RATE * LOAD_S / 2
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict
    assert verdict.latency_ms is not None
    assert verdict.latency_ms["p99"] < FAST_P99_MS, verdict

    fast, slow = pair.a.ports[FAST].interface, pair.a.ports[SLOW].interface
    errors = send_errors(a)
    print(errors)
    assert errors[fast] == {}
    # It carries a quarter of the stream at most, and each copy that it dropped is counted.
    assert set(errors[slow]) == {"EAGAIN"}
    assert errors[slow]["EAGAIN"] > verdict.sent / 2
    assert all(count == {} for count in send_errors(b).values())

    # What the agents say to each other is not dropped: the link is neither taken for a dead one nor
    # for one that carries small packets only.
    assert [connection["mtu"] for connection in during if connection["carries"]] == [1500, 1500]
    assert all(" lost: " not in agent.log() for agent in (a, b))

    pair.wait_whole(a, b)
    pair.a.ports[FAST].block()
    alone = ping(pair.a, pair.b_address, count=50, interval_s=0.01)
    print(alone)
    assert (alone.lost, alone.duplicated) == (0, 0), alone


@dataclass
class Load:
    """A steady load from one host to another, and when what was sent when has arrived."""

    pair: Pair
    out: socket.socket
    into: socket.socket
    sent: int = 0
    arrived: list[tuple[float, float]] = field(default_factory=list)  # (arrived at, sent at)

    def __post_init__(self) -> None:
        self._take()
        self.arrived.clear()  # what an earlier load left

    def run(self, seconds: float) -> None:
        """Send at the rate, in small bursts, and take in what has arrived."""
        padding = bytes(SIZE - STAMP.size)
        now = began = time.monotonic()
        turns = 0
        while now - began < seconds:
            due = int((now - began) * RATE)
            # Whoever did not run for a moment leaves packets out instead of sending a burst.
            for _ in range(min(due - turns, BURST)):
                self.out.send(STAMP.pack(time.monotonic()) + padding)
                self.sent += 1
            turns = due
            self._take()
            time.sleep(TICK_S)
            now = time.monotonic()

    def _take(self) -> None:
        while True:
            try:
                stamp = self.into.recv(STAMP.size)
            except BlockingIOError:
                return
            self.arrived.append((time.monotonic(), STAMP.unpack(stamp)[0]))


@pytest.mark.rotates
@pytest.mark.parametrize(
    ("kbit", "load_s"),
    [(SLOW_KBIT, LOAD_S), (SLOWEST_KBIT, SLOWEST_LOAD_S)],
    ids=["5 Mbit/s", "0.5 Mbit/s"],
)
def test_fresh_packets_come_over_the_slow_link_soon_after_the_fast_one_is_cut(
    slow_pair: tuple[Pair, Agent, Agent], kbit: int, load_s: float
) -> None:
    pair, a, b = slow_pair
    slow_down(pair.a.ports[SLOW], kbit)
    with pair.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, pair.b.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as into:
        into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        into.bind((pair.b_address, PORT))
        into.setblocking(False)
        out.connect((pair.b_address, PORT))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                cut_under_load(pair, a, Load(pair, out, into), load_s, kbit)
                break
            except AssertionError as error:
                if attempt == ATTEMPTS:
                    raise
                print(f"attempt {attempt}: {error}")
            finally:
                pair.a.ports[FAST].unblock()
                pair.wait_whole(a, b)


def cut_under_load(pair: Pair, a: Agent, load: Load, load_s: float, kbit: int) -> None:
    """Cut the fast link under load, and judge what comes over the slow one of `kbit` kbit/s."""
    load.run(load_s)
    before, sent = len(load.arrived), load.sent
    cut_at = time.monotonic()
    pair.a.ports[FAST].block()
    blocked_at = time.monotonic()
    load.run(AFTERWARDS_S)
    fresh = [(at, sent_at) for at, sent_at in load.arrived if sent_at > blocked_at]
    report: dict[str, Any] = {
        "before": before,
        "fresh": len(fresh),
        "connections": a.connections(pair.b_address),
    }
    print(json.dumps(report))
    assert sent > RATE * load_s / 2
    assert before >= sent - 2 * BURST
    assert fresh
    outage_s = fresh[0][0] - cut_at
    ages_ms = sorted((at - sent_at) * 1000 for at, sent_at in fresh)
    age_p99_ms = ages_ms[math.ceil(0.99 * len(ages_ms)) - 1]
    print(f"outage {outage_s * 1000:.0f} ms, age p99 {age_p99_ms:.0f} ms")
    assert outage_s < FALL_BACK_S
    # It goes on, as fast as the link can, and nothing grows old on the way.
    assert age_p99_ms < 2 * BACKLOG_MS
    assert len(fresh) * SIZE > 0.6 * kbit * 125 * (AFTERWARDS_S - FALL_BACK_S)
    assert max(at for at, _ in fresh) > blocked_at + AFTERWARDS_S - FALL_BACK_S
