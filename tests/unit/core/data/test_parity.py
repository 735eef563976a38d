"""Classes with parity between two nodes, over links that lose what a test says."""

from __future__ import annotations

import gc
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.frame.control import TAKES_MESSAGES
from ropeway.core.frame.data import DATA, LABELLED_LANE_PARTIAL, LANE, LANES, PARITY, PARITY_AD
from ropeway.core.frame.label import encode_label
from ropeway.core.frame.parity import PARITY_SIZE, Parity, encode_parity
from ropeway.core.packet import ipv4
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from ropeway.core.peers import dialogue
from ropeway.core.session.session import Session
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import pair

A, B = "10.0.0.1", "10.0.0.2"
IN_LANES = range(LANE, LABELLED_LANE_PARTIAL + LANES)


class Wires:
    """Hosts a and b with two links; packets of a go to b in one class."""

    def __init__(self, links=2, **fields):
        self.world = world = pair()
        if links == 1:
            world.lost = {"192.168.1.2"}
        self.transmit, world.transmit = world.transmit, self._transmit
        fields.setdefault("mode", Mode.SINGLE)
        self.classes = (TrafficClass("all", Match(), **fields),)
        for node in world.nodes.values():
            node.reload(replace(node.settings, classes=self.classes), world.now)
        self.lost = lambda kind, counter: False
        self.frames = []
        self.sent = 0
        world.run(2.0)
        self.stream(20)
        world.run(2.0)
        self.frames.clear()
        self.take()

    @property
    def strand(self):
        return self.world.nodes["a"].tables.strands[B]

    def _transmit(self, datagram, source, endpoint):
        kind = datagram[0]
        if kind in (DATA, PARITY, *IN_LANES) and source[0].endswith(".2"):
            counter = int.from_bytes(datagram[8:16], "little")
            self.frames.append((kind, source[0], counter))
            if self.lost(kind, counter):
                return
        self.transmit(datagram, source, endpoint)

    def stream(self, count, pause_s=0.005, size=100):
        for _ in range(count):
            payload = b"\0\1\0\2" + self.sent.to_bytes(4, "big") + bytes(size)
            self.sent += 1
            self.world.send("a", udp(A, B, payload))
            self.world.run(pause_s)

    def take(self):
        self.world.collect()
        numbers = [int.from_bytes(one[24:28], "big") for one in self.world.delivered["b"]]
        self.world.delivered["b"].clear()
        return numbers

    def kinds(self):
        return [kind for kind, _, _ in self.frames]

    def of_class(self, name, host):
        return self.world.peer(name, host)["classes"][0]


def test_a_frame_for_each_so_many_packets_goes_over_another_link():
    wires = Wires(parity=8)
    wires.stream(80)
    assert wires.kinds().count(LANE) == 80
    assert wires.kinds().count(PARITY) == 10
    (over,) = {source for kind, source, _ in wires.frames if kind == LANE}
    (beside,) = {source for kind, source, _ in wires.frames if kind == PARITY}
    assert over != beside
    assert wires.take() == list(range(20, 100))
    assert wires.of_class("b", A)["repaired"] == 0


@pytest.mark.parametrize("k", [2, 5, 32])
def test_one_loss_of_each_group_is_repaired(k):
    wires = Wires(parity=k, links=1)
    first = wires.strand.session.lane_counters[0]
    wires.lost = lambda kind, counter: kind == LANE and (counter - first) % k == 1
    wires.stream(4 * k)
    assert sorted(wires.take()) == list(range(20, 20 + 4 * k))
    assert wires.of_class("b", A)["repaired"] == 4
    assert wires.of_class("a", B)["parity_frames"] >= 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([Mode.SINGLE, Mode.SPREAD]))
def test_whatever_is_lost_nothing_comes_twice_and_nothing_else_comes(seed, mode):
    wires = Wires(parity=4, mode=mode, hold_ms=100 if mode is Mode.SPREAD else 0)
    drawn = random.Random(seed)
    wires.lost = lambda kind, counter: drawn.random() < 0.1
    wires.stream(200)
    wires.world.run(1.0)
    came = wires.take()
    assert len(came) == len(set(came))
    assert set(came) <= set(range(20, 220))
    assert wires.world.dropped("b") == {}
    if mode is Mode.SPREAD:
        # In mode single, copies may take the place of parity for all of that time.
        assert wires.of_class("b", A)["repaired"] > 0


def test_the_last_packets_of_a_burst_are_covered_when_the_flow_pauses():
    wires = Wires(parity=32)
    lost = wires.strand.session.lane_counters[0] + 2
    wires.lost = lambda kind, counter: kind == LANE and counter == lost
    wires.stream(3, pause_s=0.001)
    assert wires.take() == [20, 21]
    wires.world.run(tuning.PARITY_PAUSE_S * 2)
    assert wires.take() == [22]


def test_packets_that_come_seldom_are_covered_in_time_in_mode_adaptive():
    wires = Wires(parity=32, links=1, mode=Mode.ADAPTIVE, within_ms=200)
    wires.stream(50, pause_s=0.02)
    wires.frames.clear()
    lost = wires.strand.session.lane_counters[0]
    wires.lost = lambda kind, counter: kind == LANE and counter == lost
    wires.stream(1, pause_s=0)
    began = wires.world.now
    wires.stream(4, pause_s=0.02)
    while wires.of_class("b", A)["repaired"] == 0:
        wires.stream(1, pause_s=0.02)
        assert wires.world.now < began + 0.2


def test_in_order_a_packet_waits_for_the_frame_that_may_bring_the_one_before():
    wires = Wires(parity=8, links=1, hold_ms=200)
    first = wires.strand.session.lane_counters[0]
    wires.lost = lambda kind, counter: kind == LANE and (counter - first) % 8 == 2
    wires.stream(80)
    assert wires.take() == list(range(20, 100))
    late = wires.world.peer("b", A)["order"]["late"]
    # Two of a group are lost for good, and the next group shows that nothing more will come.
    wires.lost = lambda kind, counter: kind == LANE and (counter - first) % 8 in (2, 5)
    wires.stream(80)
    came = wires.take()
    assert came == sorted(came)
    assert len(came) == 60
    assert wires.world.peer("b", A)["order"]["late"] == late


def test_copies_over_several_links_need_no_parity():
    wires = Wires(parity=8, mode=Mode.REDUNDANT)
    wires.stream(80)
    assert set(wires.kinds()) == {LANE}
    assert wires.take() == list(range(20, 100))


def test_a_class_that_is_redundant_has_parity_while_one_link_carries():
    wires = Wires(parity=8, links=1, mode=Mode.REDUNDANT)
    wires.stream(80)
    assert PARITY in wires.kinds()
    assert {source for kind, source, _ in wires.frames if kind == PARITY} == {"192.168.0.2"}


def test_without_parity_there_is_neither_frame_nor_lane():
    wires = Wires()
    wires.stream(80)
    assert set(wires.kinds()) == {DATA}
    assert wires.world.nodes["b"].tables.strands[A].repairs == {}


def test_a_host_that_does_not_say_so_gets_neither(monkeypatch):
    monkeypatch.setattr(dialogue, "FEATURES", TAKES_MESSAGES)
    wires = Wires(parity=8)
    wires.stream(80)
    assert set(wires.kinds()) == {DATA}
    assert wires.take() == list(range(20, 100))


def test_checksums_stay_partial_and_others_whole():
    wires = Wires(parity=4)
    for node in wires.world.nodes.values():
        node.take_partial()
    wires.world.run(3.0)
    wires.stream(1)
    first = wires.strand.session.lane_counters[0]
    wires.lost = lambda kind, counter: kind in IN_LANES and counter == first + 1
    header = b"\0\1\0\2\0\x10"
    whole = ipv4.complete(udp(A, B, header + b"\0\0" + b"whole..."))
    partial = udp(A, B, header + b"\x12\x34" + b"partial.")
    node = wires.world.nodes["a"]
    wires.world.delivered["b"].clear()
    for packets, is_partial in (([whole], False), ([partial], True), ([whole, whole], False)):
        node.outbound(packets, wires.world.now, is_partial)
    wires.world.run(0.5)
    expected = sorted([whole, ipv4.complete(partial), whole, whole])
    assert sorted(wires.world.delivered["b"]) == expected
    assert wires.of_class("b", A)["repaired"] == 1


def test_packets_with_labels_are_repaired_with_them():
    wires = Wires(parity=3)
    first = wires.strand.session.lane_counters[0]
    wires.lost = lambda kind, counter: kind in IN_LANES and counter == first + 1
    node, now = wires.world.nodes["a"], wires.world.now
    for count in range(3):
        packet = udp(A, B, b"\0\1\0\2" + (20 + count).to_bytes(4, "big"))
        label = [encode_label(ipv4.pack(A), 7, count, False)] if count != 2 else None
        node._classed.send_over(wires.strand, wires.strand.carrying, (packet,), now, False, label)
    wires.world.run(0.5)
    assert sorted(wires.take()) == [20, 21, 22]
    assert wires.of_class("b", A)["repaired"] == 1
    assert wires.world.dropped("b") == {}


def test_a_full_packet_is_covered_too():
    wires = Wires(parity=4)
    size = wires.world.nodes["a"].device_mtu
    assert size == 1500 - 28 - 32 - PARITY_SIZE
    first = wires.strand.session.lane_counters[0]
    wires.lost = lambda kind, counter: kind == LANE and counter == first
    wires.stream(4, size=size - 28)
    assert len(wires.take()) == 4
    assert wires.of_class("b", A)["repaired"] == 1


def test_a_packet_that_leaves_no_room_for_the_frame_goes_without():
    wires = Wires(parity=4)
    size = wires.world.nodes["a"].device_mtu + PARITY_SIZE
    wires.stream(8, size=size - 28)
    assert len(wires.take()) == 8
    assert PARITY not in wires.kinds()


def test_packets_of_two_sessions_are_not_covered_together():
    wires = Wires(parity=8)
    wires.stream(3)
    before = wires.strand.session
    wires.world.nodes["a"]._peers.sessions.request_everywhere(wires.world.now)
    drawn = random.Random(1)
    wires.lost = lambda kind, counter: kind == LANE and drawn.random() < 0.05
    wires.stream(300)
    assert wires.strand.session is not before
    came = wires.take()
    assert len(came) == len(set(came))
    assert wires.world.dropped("b") == {}


def test_what_is_covered_keeps_no_session_and_its_keys():
    wires = Wires(parity=8)
    wires.stream(3)
    group = wires.strand.classes[0].group
    assert group.is_of(wires.strand.session)
    assert not any(isinstance(one, Session) for one in gc.get_referents(group))


def sealed_by_peer(wires, parity, fill=b""):
    """Let a peer with valid keys send a frame of its own making."""
    session = wires.strand.session
    body = parity if isinstance(parity, bytes) else encode_parity(parity)
    connection = wires.strand.carrying[0]
    first, texts = session.seal_run(PARITY_AD, (body + fill,))
    node = wires.world.nodes["a"]
    node._sender.put((connection,), PARITY, session.remote_index, first, texts, 0)
    wires.world.run(0.1)


@pytest.mark.parametrize("body", [b"", b"\0", bytes(PARITY_SIZE), b"\xff" * 100])
def test_what_is_no_frame_is_counted_as_malformed(body):
    wires = Wires(parity=8)
    sealed_by_peer(wires, body)
    assert wires.world.dropped("b") == {Drop.MALFORMED.value: 1}


def test_a_packet_with_a_foreign_source_is_made_for_nothing():
    wires = Wires(parity=8)
    packet = udp("10.0.0.9", B)
    whole = int.from_bytes(packet, "little")
    sealed_by_peer(wires, Parity(0, 10**6, 1, 0, len(packet), whole, len(packet)))
    assert wires.take() == []
    assert wires.world.dropped("b") == {Drop.SPOOFED.value: 1}


def test_a_packet_that_is_none_is_counted():
    wires = Wires(parity=8)
    sealed_by_peer(wires, Parity(7, 0, 1, 1, 30, 1 << 200, 30))
    assert wires.take() == []
    assert wires.world.dropped("b") == {Drop.MALFORMED_INNER.value: 1}


def test_a_frame_played_back_or_changed_does_nothing():
    wires = Wires(parity=4)
    wires.stream(4)
    sent = [one for one in wires.world.captured if one[3][0] == PARITY][-1]
    _, source, endpoint, frame = sent
    wires.world.fly(frame, source, endpoint)
    wires.world.fly(frame[:-1] + bytes((frame[-1] ^ 1,)), source, endpoint)
    forged = bytearray(frame)
    forged[8:16] = (10**9).to_bytes(8, "little")
    wires.world.fly(bytes(forged), source, endpoint)
    wires.world.run(0.1)
    # The counter of the second one has been received: it is not even opened.
    assert wires.world.dropped("b") == {Drop.REPLAYED.value: 2, Drop.FORGED.value: 1}
    assert len(wires.take()) == 4


def test_a_reload_takes_parity_away():
    wires = Wires(parity=8)
    node = wires.world.nodes["a"]
    wires.stream(3)
    classes = (TrafficClass("all", Match(), Mode.SINGLE),)
    node.reload(replace(node.settings, classes=classes), wires.world.now)
    wires.frames.clear()
    wires.stream(40)
    assert set(wires.kinds()) == {DATA}
    assert len(wires.take()) == 43


def test_losses_that_parity_repairs_need_no_copies():
    shares = {}
    for k in (0, 4):
        wires = Wires(parity=k, mode=Mode.ADAPTIVE)
        wires.stream(1000)
        drawn = random.Random(3)
        wires.lost = lambda kind, counter, drawn=drawn: drawn.random() < 0.008
        wires.stream(500)
        wires.frames.clear()
        wires.stream(1000)
        shares[k] = sum(kind != PARITY for kind in wires.kinds()) / 1000
    print(shares)
    assert shares[4] < 1.2 < 1.5 < shares[0]
