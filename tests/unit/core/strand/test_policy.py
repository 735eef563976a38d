"""Which connections carry a class of traffic, over links that get better and worse."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace

import pytest

from ropeway.core.link import Role
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from ropeway.core.strand.policy import Redundant
from ropeway.core.strand.strand import Connection, Strand
from ropeway.core.tuning import HOLD_MAX_S, MAX_COPIES, PROBE_S, RECENT_BYTES, RECENT_S
from tests.unit.core import secure_world
from tests.unit.core.classic_world import udp

A, B = "10.0.0.1", "10.0.0.2"
ENDS = ("192.168.0.2", "192.168.1.2", "192.168.0.3", "192.168.1.3")
PAUSE_S = 0.005


class Links:
    """A pair whose frames take a time by their source, in seconds; None loses them."""

    def __init__(self, *classes, other_end=(), seed=1):
        self.world = secure_world.pair(seed)
        self.ways = dict(zip(ENDS, (0.01, 0.02, 0.01, 0.02)))
        self.world.delay_s = 0.0
        self.world.transmit = self._transmit
        for name, all_of_it in (("a", classes), ("b", other_end)):
            node = self.world.nodes[name]
            node._set_classes(tuple(all_of_it), self.world.now)
        self.payload = 92
        self.numbers = itertools.count()

    def _transmit(self, datagram, source, endpoint):
        way_s = self.ways[source[0]]
        if callable(way_s):
            way_s = way_s()
        if way_s is not None:
            self.world.fly(datagram, source, endpoint, way_s)

    def stream(self, seconds):
        """Send packets; return how many of them did not come, and the longest time one took."""
        world, sent_at = self.world, {}
        delivered = world.delivered["b"]
        world.collect()
        delivered.clear()
        taken = {}

        def look():
            world.collect()
            for packet in delivered:
                number = int.from_bytes(packet[20:28], "big")
                taken.setdefault(number, []).append(world.now)
            delivered.clear()

        for _ in range(round(seconds / PAUSE_S)):
            number = next(self.numbers)
            sent_at[number] = world.now
            world.send("a", udp(A, B, number.to_bytes(8, "big") + bytes(self.payload)))
            end = world.now + PAUSE_S
            while world.now < end - 1e-9:
                world.run(PAUSE_S / 5)
                look()
        for _ in range(100):
            world.run(0.01)
            look()
        assert all(len(times) == 1 for times in taken.values()), "delivered twice"
        self.latencies_s = [taken[n][0] - at for n, at in sent_at.items() if n in taken]
        return len(sent_at) - len(self.latencies_s), max(self.latencies_s)

    def carrying(self, number=0):
        """The links that carry a class now."""
        strand = self.world.nodes["a"].tables.strands[B]
        return {connection.link for connection in strand.classes[number].carrying}

    def asks(self):
        """Control frames with a measurement that a has sent over the quicker link."""
        strand = self.world.nodes["a"].tables.strands[B]
        return next(c.controls_sent for c in strand.connections.values() if c.link == 2)

    def of_class(self, number=0):
        return self.world.peer("a", B)["classes"][number]


def everything(mode, **fields):
    return TrafficClass("all", Match(), mode, **fields)


@pytest.mark.parametrize("mode", [Mode.ADAPTIVE, Mode.SINGLE])
def test_one_copy_over_the_quicker_link_while_all_is_well(mode):
    links = Links(everything(mode))
    links.stream(3)
    for _ in range(5):
        assert links.stream(2)[0] == 0
        assert links.carrying() == {2}


def test_redundant_class_goes_over_all_links_or_the_best():
    links = Links(everything(Mode.REDUNDANT), other_end=[everything(Mode.REDUNDANT, copies=1)])
    links.stream(3)
    assert links.carrying() == {2, 3}
    strand = links.world.nodes["b"].tables.strands[A]
    links.world.send("b", udp(B, A))
    assert [c.link for c in strand.classes[0].carrying] == [12]
    assert not strand.classes[0].recent, "nothing would repeat it"
    assert {c.probe_s for c in strand.connections.values()} == {PROBE_S}


@pytest.mark.parametrize("mode", [Mode.ADAPTIVE, Mode.SINGLE])
def test_black_hole_loses_nothing_and_delays_little(mode):
    links = Links(everything(mode))
    links.stream(3)
    links.ways["192.168.0.2"] = None
    lost, longest_s = links.stream(3)
    assert (lost, links.carrying()) == (0, {3})
    # A question every 0.1 s, the usual time, and until the answer is late.
    print(f"{1000 * longest_s:.0f} ms")
    assert longest_s < 0.25


@pytest.mark.parametrize("way", ["192.168.0.2", "192.168.0.3"])
def test_link_that_works_one_way_only_is_left(way):
    links = Links(everything(Mode.ADAPTIVE))
    links.stream(3)
    links.ways[way] = None
    assert links.stream(3)[0] == 0
    assert links.carrying() == {3}


@pytest.mark.parametrize("mode", [Mode.ADAPTIVE, Mode.SINGLE])
def test_interface_that_goes_down_loses_nothing(mode):
    links = Links(everything(mode))
    links.stream(3)
    before = links.world.links("a")
    links.world.nodes["a"].set_links([one for one in before if one.index != 2], links.world.now)
    links.ways["192.168.0.2"] = links.ways["192.168.0.3"] = None
    assert links.stream(2)[0] == 0
    assert links.carrying() == {3}


def test_queue_of_seconds_is_left_for_the_link_without_one():
    links = Links(everything(Mode.ADAPTIVE))
    links.stream(3)
    links.ways["192.168.0.2"] = 2.0
    lost, longest_s = links.stream(3)
    assert (lost, links.carrying()) == (0, {3})
    assert longest_s < 0.15


def test_adaptive_class_copies_where_every_link_loses_and_stops_after_that():
    links = Links(everything(Mode.ADAPTIVE), seed=4)
    links.stream(3)
    chance = links.world.random

    def lossy(way_s):
        return lambda: None if chance.random() < 0.05 else way_s

    for address, way_s in zip(ENDS[:2], (0.01, 0.02)):
        links.ways[address] = lossy(way_s)
    links.stream(2)
    began = links.of_class()
    lost, _ = links.stream(10)
    assert lost <= 0.01 * 10 / PAUSE_S, "5 % over each of two"
    assert links.of_class()["packets"] > began["packets"]
    sent = {c["link"]: c["sent"] for c in links.world.peer("a", B)["connections"]}
    for address, way_s in zip(ENDS[:2], (0.01, 0.02)):
        links.ways[address] = way_s
    links.stream(10)
    assert len(links.carrying()) == 1
    assert all(sent.values())


def test_loss_that_single_tolerates_does_not_move_it():
    links = Links(everything(Mode.SINGLE), seed=4)
    links.stream(3)
    chance = links.world.random
    links.ways["192.168.0.2"] = lambda: None if chance.random() < 0.01 else 0.01
    for _ in range(5):
        links.stream(2)
        assert links.carrying() <= {2, 3}
    assert links.carrying() == {2}


def test_link_with_much_loss_is_not_the_best_however_quick():
    links = Links(everything(Mode.SINGLE), seed=4)
    chance = links.world.random
    links.ways["192.168.0.2"] = lambda: None if chance.random() < 0.66 else 0.001
    links.stream(8)
    assert links.carrying() == {3}


def test_links_of_one_quality_do_not_take_turns():
    links = Links(everything(Mode.ADAPTIVE), seed=9)
    chance = links.world.random
    for address in ENDS:
        links.ways[address] = lambda: 0.02 + 0.004 * chance.random()
    links.stream(5)
    seen = []
    for _ in range(20):
        links.stream(1)
        seen.append(links.carrying())
    changes = sum(one != other for one, other in zip(seen, seen[1:]))
    assert changes <= 4, seen


def test_class_with_all_links_off_is_dropped_and_counted():
    links = Links(everything(Mode.REDUNDANT, off=("eth*",)))
    with pytest.raises(ValueError, match="empty"):
        links.stream(0.1)
    assert links.world.nodes["a"].status(links.world.now)["counters"]["dropped"]["off"] == 20


def test_class_keeps_off_a_link_and_the_rest_does_not():
    only_small = TrafficClass("small", Match(size_max=100), Mode.REDUNDANT, off=("eth2",))
    links = Links(only_small)
    links.stream(1)
    assert (links.carrying(0), links.carrying(1)) == ({3}, {2, 3})
    assert [one["packets"] for one in links.world.peer("a", B)["classes"]] == [0, 200]


def test_without_classes_nothing_is_measured_quickly_any_more():
    links = Links(everything(Mode.ADAPTIVE))
    links.stream(2)
    node = links.world.nodes["a"]
    node._set_classes((), links.world.now)
    strand = node.tables.strands[B]
    assert {c.probe_s for c in strand.connections.values()} == {PROBE_S}
    assert strand.classes == ()
    assert links.stream(1)[0] == 0


def test_what_is_kept_to_be_repeated_is_little_and_goes_when_the_strand_is_idle():
    links = Links(everything(Mode.ADAPTIVE))
    links.stream(3)
    table = links.world.nodes["a"].tables.strands[B].classes[0]
    assert 0 < len(table.recent) <= (RECENT_S + 0.05) / PAUSE_S
    links.world.run(60)
    assert not table.recent


def test_first_packets_after_a_pause_go_over_all_links():
    links = Links(everything(Mode.ADAPTIVE))
    links.stream(3)
    links.world.run(120)
    links.ways["192.168.0.2"] = None
    assert links.stream(0.5)[0] == 0
    assert HOLD_MAX_S < 1


def test_what_is_kept_is_bounded_in_bytes_however_much_is_sent():
    links = Links(everything(Mode.ADAPTIVE))
    links.stream(3)
    world = links.world
    table = world.nodes["a"].tables.strands[B].classes[0]
    for _ in range(20):
        world.send("a", *[udp(A, B, bytes(1300))] * 64)
        world.run(0.001)
        assert table.recent_bytes == sum(one.size for one in table.recent) <= RECENT_BYTES
    assert table.recent_bytes > RECENT_BYTES / 2


def test_little_traffic_is_not_measured_as_often_as_much():
    asked = {}
    for size in (20, 1200):
        links = Links(everything(Mode.ADAPTIVE))
        links.payload = size
        links.stream(3)
        began = links.asks()
        links.stream(4)
        asked[size] = links.asks() - began
    print(asked)
    assert asked[20] < 0.5 * asked[1200]


def give_cost(links, index, cost):
    world = links.world
    there = [
        dataclasses.replace(one, cost=cost) if one.index == index else one
        for one in world.links("a")
    ]
    world.nodes["a"].set_links(there, world.now)


@pytest.mark.parametrize("mode", [Mode.REDUNDANT, Mode.SINGLE])
@pytest.mark.parametrize(("dear", "cheap"), [(2, 3), (3, 2)])
def test_of_links_that_are_as_good_the_cheaper_one_carries(mode, dear, cheap):
    copies = {"copies": 1} if mode is Mode.REDUNDANT else {}
    links = Links(everything(mode, **copies))
    links.ways = dict.fromkeys(ENDS, 0.01)
    give_cost(links, dear, 100)
    links.stream(5.0)
    assert links.carrying() == {cheap}


def test_a_link_that_is_much_better_carries_whatever_it_costs():
    links = Links(everything(Mode.SINGLE))
    links.ways = dict(zip(ENDS, (0.01, 0.06, 0.01, 0.06)))
    give_cost(links, 2, 100)
    links.stream(5.0)
    assert links.carrying() == {2}


class Way(Connection):
    """A connection over one link to one remote interface, which has the same number."""

    @property
    def far(self):
        return self.link


def test_where_there_are_too_many_connections_the_cheaper_ones_carry():
    strand = Strand(B)
    for link in range(2 * MAX_COPIES):
        way = strand.connections[link, link] = Way(link + 1, link)
        way.source = "192.0.2.1"
        way.cost = 0 if link % 2 else 10
    strand.choose()
    assert [way.cost for way in strand.carrying] == [0] * MAX_COPIES


@pytest.mark.parametrize("mode", [Mode.ADAPTIVE, Mode.SINGLE])
def test_link_that_loses_from_the_first_packet_on_never_carries_alone(mode):
    links = Links(everything(mode), seed=4)
    chance = links.world.random
    links.ways["192.168.0.2"] = lambda: None if chance.random() < 0.5 else 0.01
    lost, _ = links.stream(5)
    assert (lost, links.carrying()) == (0, {3})


def test_class_that_has_no_other_link_goes_over_one_that_carries_only_in_need():
    links = Links(everything(Mode.REDUNDANT, off=("eth2",)))
    node = links.world.nodes["a"]
    for role, carries in ((Role.LAST, {3}), (Role.NEVER, set()), (Role.ALWAYS, {3})):
        mine = [
            replace(one, role=role) if one.index == 3 else one for one in links.world.links("a")
        ]
        node.set_links(mine, links.world.now)
        links.world.run(1)
        assert links.carrying() == carries


def test_class_with_copies_goes_on_as_soon_as_anything_carries_again():
    links = Links(everything(Mode.REDUNDANT, copies=2))
    links.stream(1)
    one, other = links.world.nodes["a"].tables.strands[B].carrying
    chooser = Redundant(1)
    now = links.world.now
    assert len(chooser.choose((one, other), now)) == 1
    # As while a session has ended and the next one is being made.
    assert chooser.choose((), now + 0.1) == ()
    assert len(chooser.choose((one, other), now + 0.2)) == 1


@pytest.mark.parametrize("mode", [Mode.ADAPTIVE, Mode.SINGLE])
def test_what_was_lost_with_an_interface_that_goes_down_is_repeated_over_the_other(mode):
    links = Links(everything(mode))
    links.stream(3)
    world = links.world
    links.stream(0.1)
    assert links.carrying() == {2}
    world.delivered["b"].clear()
    links.ways["192.168.0.2"] = None
    packets = [udp(A, B, bytes([number])) for number in range(4)]
    world.send("a", *packets)
    world.run(0.001)
    left = [one for one in world.links("a") if one.index != 2]
    world.nodes["a"].set_links(left, world.now)
    world.run(0.1)
    assert world.delivered["b"] == packets


def test_what_may_be_lost_is_repeated_in_the_batch_that_shows_it():
    links = Links(everything(Mode.ADAPTIVE), seed=2)
    links.stream(3)
    node, chance = links.world.nodes["a"], links.world.random
    inbound, choose = node.inbound, node._peers.policies.look
    found = 0

    def look(strand, now):
        nonlocal found
        before = len(node.tables.repeats)
        choose(strand, now)
        found += len(node.tables.repeats) - before

    def checked(*arguments):
        inbound(*arguments)
        assert not node.tables.repeats

    node._peers.dialogue._policies.look = look
    node.inbound = checked
    links.ways["192.168.0.2"] = lambda: None if chance.random() < 0.03 else 0.01
    links.stream(5)
    assert found


def test_packets_fit_a_connection_that_carries_a_class_in_need():
    links = Links(everything(Mode.REDUNDANT, off=("eth2",)))
    world = links.world
    mine = [
        replace(one, role=Role.LAST, mtu=1280) if one.index == 3 else one
        for one in world.links("a")
    ]
    world.nodes["a"].set_links(mine, world.now)
    world.run(3)
    assert links.carrying() == {3}
    strand = world.nodes["a"].tables.strands[B]
    assert strand.limit == next(c.mtu for c in strand.connections.values() if c.link == 3)
    fits, too_big = (udp(A, B, bytes(strand.limit - 20 + more)) for more in (0, 1))
    world.send("a", fits, too_big)
    world.run(0.1)
    assert world.delivered["b"] == [fits]
    # Its sender learns what fits (RFC 1191, section 4).
    (told,) = world.delivered["a"]
    assert int.from_bytes(told[26:28], "big") == strand.limit


def test_connection_that_carries_no_more_is_not_measured_quickly_any_more():
    world, count = secure_world.SecureWorld(), MAX_COPIES + 1
    world.add(
        "a",
        A,
        [secure_world.link(2 + n, f"192.168.{n}.2") for n in range(count)],
        [secure_world.peer("b", B, *(f"192.168.{n}.3" for n in range(count)))],
        classes=(everything(Mode.ADAPTIVE),),
    )
    far = [secure_world.link(12 + n, f"192.168.{n}.3") for n in range(count)]
    world.add("b", B, far, [secure_world.peer("a", A)])

    def stream():
        for _ in range(200):
            world.send("a", udp(A, B, bytes(1000)))
            world.run(0.01)

    stream()
    strand = world.nodes["a"].tables.strands[B]
    left = strand.carrying[0]
    assert left.probe_s < PROBE_S
    mine = [replace(one, cost=500 * (one.index == left.link)) for one in world.links("a")]
    world.nodes["a"].set_links(mine, world.now)
    stream()
    assert left not in strand.carrying
    assert left.probe_s == PROBE_S
