"""Classes whose packets are put back into order, between two nodes with a quick and a slow link."""

from __future__ import annotations

import itertools

import pytest

from ropeway.core.frame.data import DATA, LANE, LANE_PARTIAL, LANES
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import SecureWorld, link, pair, peer

A, B = "10.0.0.1", "10.0.0.2"
#: Seconds that frames take by their source; None loses them.
QUICK, SLOW = "192.168.0.2", "192.168.1.2"


class Links:
    def __init__(self, *classes, old=False, world=None):
        self.world = world or pair()
        self.world.delay_s = 0.0
        self.took_s = {QUICK: 0.01, SLOW: 0.04}
        self.lost_over_quick = lambda number: False
        self.world.transmit = self._transmit
        if old:
            # As 0.9.0, which says nothing of lanes.
            self.world.nodes["b"]._peers.policies.holds_ms = None
        self.world.nodes["a"]._set_classes(classes, self.world.now)
        self.sent = itertools.count()
        self.kinds = set()
        self.came = []
        self.stream(100)
        self.came.clear()

    def _transmit(self, datagram, source, endpoint):
        if source[0] in self.took_s and datagram[0] in (DATA, *range(LANE, LANE_PARTIAL + LANES)):
            self.kinds.add(datagram[0])
            counter = int.from_bytes(datagram[8:16], "little")
            if source[0] == QUICK and self.lost_over_quick(counter):
                return
        took_s = self.took_s.get(source[0], 0.01)
        if took_s is not None:
            self.world.fly(datagram, source, endpoint, took_s)

    def stream(self, count, pause_s=0.005, port=5004):
        for _ in range(count):
            number = next(self.sent)
            payload = b"\0\1" + port.to_bytes(2, "big") + number.to_bytes(8, "big") + bytes(92)
            self.world.send("a", udp(A, B, payload))
            self.world.run(pause_s)
            self.take()
        self.world.run(1)
        self.take()

    def take(self):
        self.world.collect()
        for packet in self.world.delivered["b"]:
            self.came.append((int.from_bytes(packet[24:32], "big"), self.world.now))
        self.world.delivered["b"].clear()

    @property
    def order(self):
        return [number for number, _ in self.came]


def everything(**fields):
    return TrafficClass("all", Match(), **fields)


def test_what_one_link_loses_comes_in_order_over_the_other():
    links = Links(everything(hold_ms=100))
    links.lost_over_quick = lambda number: number % 7 == 3
    links.stream(200)
    assert links.kinds == {DATA, LANE}
    assert links.order == sorted(links.order)
    assert len(links.order) == 200


def test_without_a_hold_it_comes_out_of_order():
    links = Links(everything())
    links.lost_over_quick = lambda number: number % 7 == 3
    links.stream(200)
    assert links.kinds == {DATA}
    assert len(links.order) == 200
    assert links.order != sorted(links.order)


def test_host_of_an_older_version_gets_ordinary_frames():
    links = Links(everything(hold_ms=100), old=True)
    links.stream(50)
    assert links.kinds == {DATA}
    assert len(links.order) == 50


def test_a_hold_ends_though_nothing_else_comes():
    links = Links(everything(hold_ms=50))
    links.took_s[SLOW] = 0.5
    links.stream(50)
    first = 150
    lane_counter = links.world.nodes["a"].tables.strands[B].session.lane_counters[0]
    links.lost_over_quick = lambda number: number == lane_counter
    links.came.clear()
    began = links.world.now
    links.stream(30, pause_s=0.01)
    (late,) = (now for number, now in links.came if number == first)
    (waited,) = (now for number, now in links.came if number == first + 1)
    assert waited - began < 0.1
    assert late - began > 0.4


def test_classes_have_lanes_of_their_own_and_one_does_not_wait_for_the_other():
    voice = TrafficClass("voice", Match(ports=((5004, 5004),)), hold_ms=100)
    links = Links(voice, everything(hold_ms=100))
    links.stream(20, port=80)
    assert links.kinds == {DATA, LANE, LANE + 1}
    links.lost_over_quick = lambda number: True
    links.took_s[SLOW] = 0.08
    links.came.clear()
    links.stream(1, pause_s=0, port=80)
    assert len(links.came) == 1


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_delivers_each_packet_once_and_in_order(mode):
    links = Links(everything(mode=mode, hold_ms=200))
    links.stream(300)
    assert links.order == list(range(100, 400))


def test_spread_sends_each_packet_over_one_link_and_uses_both_where_one_is_full():
    links = Links(everything(mode=Mode.SPREAD, hold_ms=200))
    strand = links.world.nodes["a"].tables.strands[B]
    assert len(strand.classes[0].carrying) == 2
    before = [c.traffic.sent for c in strand.carrying]
    links.stream(100)
    over = [c.traffic.sent - b for c, b in zip(strand.carrying, before)]
    assert sorted(over) == [0, 100]
    links.stream(10_000, pause_s=0.0002)
    # Only who has heard of the other link can wait for what comes by it.
    late = links.world.peer("b", A)["order"]["late"]
    assert late < 5000 * (links.took_s[SLOW] - links.took_s[QUICK])
    assert links.order[500:] == sorted(links.order[500:])
    assert min(c.traffic.sent for c in strand.carrying) > 500


def test_spread_repeats_what_a_link_may_have_lost():
    links = Links(everything(mode=Mode.SPREAD, hold_ms=2000))
    links.stream(50)
    links.took_s[QUICK] = None
    links.stream(200)
    assert sorted(set(links.order)) == list(range(100, 350))
    assert len(links.order) == 250


@pytest.mark.parametrize("apart_s", [0.0, 0.05])
def test_spread_repeats_what_two_links_lose_that_fail_together_or_in_turn(apart_s):
    world = SecureWorld()
    ends = [f"192.168.{lan}.3" for lan in range(3)]
    mine = [link(2 + lan, f"192.168.{lan}.2") for lan in range(3)]
    world.add("a", A, mine, [peer("b", B, *ends)])
    world.add("b", B, [link(12 + lan, end) for lan, end in enumerate(ends)], [peer("a", A)])
    links = Links(everything(mode=Mode.SPREAD, hold_ms=2000), world=world)
    strand = world.nodes["a"].tables.strands[B]
    first, second, third = (share.connection for share in strand.classes[0].shares)
    before = [c.traffic.sent for c in (first, second)]
    for number in range(1500):
        for share in strand.classes[0].shares:
            # As where none can carry all of it.
            share.rate = 420_000.0
        if number == 500:
            links.took_s[first.source] = None
        if number == 500 + apart_s / 0.0002:
            assert min(c.traffic.sent - b for c, b in zip((first, second), before)) > 200
            links.took_s[second.source] = None
        payload = b"\0\1\0\x50" + next(links.sent).to_bytes(8, "big") + bytes(92)
        world.send("a", udp(A, B, payload))
        world.run(0.0002)
        links.take()
    world.run(3)
    links.take()
    assert strand.classes[0].carrying == (third,)
    assert sorted(links.order) == list(range(100, 1600))


def test_packets_that_were_sealed_before_a_session_was_replaced_go_on():
    links = Links(everything(hold_ms=200))
    links.stream(20)
    node = links.world.nodes["a"]
    node._peers.sessions.request_everywhere(links.world.now)
    links.stream(50)
    assert links.order == list(range(100, 170))
