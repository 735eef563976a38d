"""What a node does, seen from outside: bytes and the time in, everything else out."""

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core import events, tuning
from ropeway.core.classic import frame as classic
from ropeway.core.classic.node import ClassicNode
from ropeway.core.link import Link
from ropeway.core.packet import ipv4
from ropeway.core.settings import Settings
from tests.unit.core.classic.test_frame import VECTORS
from tests.unit.core.classic_world import World, encode, link, pair, three, udp
from tests.unit.core.reach import reaching


def numbered(count, src="10.0.0.1", dst="10.0.0.2"):
    return [
        udp(src, dst, number.to_bytes(4, "big") * 10, ident=number & 0xFFFF)
        for number in range(count)
    ]


def steady(world, seconds, then=None, rate=200):
    """Send a numbered packet each way every 1/rate s; give what was sent by a and by b."""
    sent = {"a": [], "b": []}
    for number in range(int(seconds * rate)):
        for name, src, dst in (("a", "10.0.0.1", "10.0.0.2"), ("b", "10.0.0.2", "10.0.0.1")):
            packet = udp(src, dst, number.to_bytes(4, "big") * 10, ident=number & 0xFFFF)
            sent[name].append(packet)
            world.send(name, packet)
        if then:
            then(number / rate)
        world.run(1 / rate)
    world.run(1)
    return sent


def several(index, *addresses, sources=None):
    """A link with several addresses and a default route."""
    made = Link(index, f"eth{index}", addresses, 1500, True)
    return reaching(made, ("0.0.0.0/0",), sources or {})


def behind_a_gateway(sources):
    """Host a calls b, which is in none of its own networks; only one address is answered."""
    world = World()
    own = ("192.168.7.1/24", "192.168.0.9/32", "192.168.0.1/32")
    world.add("a", "10.0.0.1", [several(2, *own, sources=sources)])
    world.add("b", "10.0.0.2", [link(4, "192.168.0.2")])
    world.nodes["a"].add_remote("10.0.0.2", "192.168.0.2", 0, world.now)
    return world


class TestConnections:
    def test_a_configured_remote_and_one_learnt_from_traffic_establish_on_every_link(self):
        world = pair()
        world.run(1)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2, (3, 5): 2}
        assert world.states("b", "10.0.0.1") == {(4, 2): 2, (5, 3): 2}
        origins = {r["origin"] for r in world.peer("b", "10.0.0.1")["remotes"]}
        assert origins == {"learnt"}

    def test_the_first_frames_are_those_of_the_vectors(self):
        world = World()
        world.add("a", "10.0.0.1", [link(2, "192.168.18.185")])
        world.nodes["a"].add_remote("10.0.0.2", "192.168.18.196", 2, world.now)
        world.add("b", "10.0.0.2", [link(2, "192.168.18.196")])
        world.run(0.01)
        frames = [datagram for _, datagram in world.captured]
        assert frames[0] == bytes.fromhex(VECTORS["greeting"][0])
        assert frames[1] == bytes.fromhex(VECTORS["answer"][0])

    def test_a_pair_without_a_route_is_neither_greeted_nor_used(self):
        world = pair()
        world.run(5)
        sources = {(d[12:16], d[16:20]) for _, d in world.captured}
        lans = {(s[:3] == d[:3]) for s, d in sources}
        assert lans == {True}
        unrouted = [c for c in world.peer("a", "10.0.0.2")["connections"] if not c["routed"]]
        assert [c["state"] for c in unrouted] == [0, 0]

    def test_frames_leave_from_the_address_that_the_kernel_would_take(self):
        world = behind_a_gateway({"192.168.0.2": "192.168.0.1"})
        world.run(1)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2}
        assert world.peer("a", "10.0.0.2")["connections"][0]["source"] == "192.168.0.1"

    def test_connection_that_nobody_answers_tries_the_other_addresses_of_its_link(self):
        world = behind_a_gateway({})
        world.run(tuning.SOURCE_TRY_S - 0.5)
        assert world.states("a", "10.0.0.2") == {(2, 0): 0}
        world.run(2 * tuning.GREETING_MAX_S + 0.5)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2}
        world.run(3 * tuning.SOURCE_TRY_S)
        assert world.states("b", "10.0.0.1") == {(4, 2): 2}
        assert world.peer("a", "10.0.0.2")["connections"][0]["source"] == "192.168.0.9"

    def test_address_that_is_heard_but_not_answered_gives_way_to_the_next_one(self):
        world = behind_a_gateway({"192.168.0.2": "192.168.0.9"})
        # Its frames arrive, so that the other end learns it and answers there.
        world.cut.add(("192.168.0.2", "192.168.0.9"))
        world.run(tuning.SOURCE_TRY_S + 2 * tuning.GREETING_MAX_S + 0.5)
        while world.states("a", "10.0.0.2") != {(2, 4): 2}:
            assert world.now < 100 + 3 * tuning.SOURCE_TRY_S
            world.run(0.1)
        world.run(10)
        assert world.states("b", "10.0.0.1") == {(4, 2): 2}

    def test_each_address_of_a_link_is_tried_in_turn_and_greetings_stay_rare(self):
        world = behind_a_gateway({})
        world.lost = {"192.168.0.2"}
        world.run(5)
        world.captured.clear()
        world.run(3 * tuning.SOURCE_TRY_S)
        sources = [ipv4.text(datagram[12:16]) for _, datagram in world.captured]
        assert set(sources) == {"192.168.7.1", "192.168.0.1", "192.168.0.9"}
        assert len(sources) <= 3 * tuning.SOURCE_TRY_S / (0.8 * tuning.GREETING_MAX_S) + 1

    def test_preference_that_changes_leaves_what_works_alone(self):
        world = behind_a_gateway({"192.168.0.2": "192.168.0.1"})
        world.run(1)
        (own,) = world.nodes["a"]._peers.links.values()
        world.events["a"].clear()
        world.nodes["a"].set_links(
            [replace(own, sources={"192.168.0.2": "192.168.7.1"})], world.now
        )
        world.run(5)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2}
        assert world.events["a"] == []

    def test_answers_leave_from_the_address_that_was_called(self):
        world = World()
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1")])
        world.add("b", "10.0.0.2", [several(4, "192.168.9.9/24", "192.168.0.2/32")])
        world.nodes["a"].add_remote("10.0.0.2", "192.168.0.2", 0, world.now)
        world.run(1)
        assert world.states("b", "10.0.0.1") == {(4, 2): 2}
        assert world.peer("b", "10.0.0.1")["connections"][0]["source"] == "192.168.0.2"

    def test_source_follows_a_remote_into_another_lan(self):
        world = World()
        world.add("a", "10.0.0.1", [several(2, "192.168.0.1/24", "192.168.1.1/24")])
        world.add("b", "10.0.0.2", [link(4, "192.168.0.2")])
        world.nodes["b"].add_remote("10.0.0.1", "192.168.0.1", 0, world.now)
        world.run(1)
        world.nodes["b"].remove_remote("10.0.0.1", "192.168.0.1", world.now)
        world.nodes["b"].set_links([link(4, "192.168.1.2")], world.now)
        world.nodes["b"].add_remote("10.0.0.1", "192.168.1.1", 0, world.now)
        world.run(5)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2}
        assert world.peer("a", "10.0.0.2")["connections"][0]["source"] == "192.168.1.1"

    def test_greetings_to_a_dead_host_slow_down_to_one_a_second(self):
        world = World()
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1")])
        world.nodes["a"].add_remote("10.0.0.2", "192.168.0.2", 0, world.now)
        world.run(60)
        assert 48 <= len(world.captured) <= 80

    def test_an_idle_connection_stays_established_with_two_frames_a_second_each_way(self):
        world = pair()
        world.run(2)
        world.captured.clear()
        world.run(10)
        assert 70 <= len(world.captured) <= 90
        assert set(world.states("a", "10.0.0.2").values()) == {2}

    @pytest.mark.parametrize("seed", range(5))
    def test_no_frame_tells_an_end_more_than_the_first_implementation_can_count(self, seed):
        """That adds 1 to what it hears while it is below 2, at any time after a restart."""
        print(f"seed {seed}")
        world = pair(seed=seed)
        world.loss, world.jitter_s = 0.3, 0.05
        world.run(5)
        world.add("b", "10.0.0.2", list(world.nodes["b"]._peers.links.values()))
        world.run(5)
        world.loss = 0.0
        world.send("a", *numbered(10))
        world.run(1)
        assert set(world.states("a", "10.0.0.2").values()) == {2}
        states = {classic.decode(datagram).state for _, datagram in world.captured}
        assert states == {0, 1}

    def test_a_silent_connection_falls_back_and_returns_within_a_second_and_a_half(self):
        world = pair()
        world.run(1)
        world.lost.add("192.168.0.2")
        world.run(tuning.SILENCE_S + 0.1)
        assert world.states("a", "10.0.0.2") == {(2, 4): 0, (3, 5): 2}
        world.run(30)
        world.lost.clear()
        world.run(tuning.GREETING_MAX_S * (1 + tuning.GREETING_JITTER) + 0.1)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2, (3, 5): 2}

    def test_a_pulled_cable_is_not_taken_for_a_restart(self):
        world = pair()
        world.run(1)
        far = list(world.nodes["b"]._peers.links.values())
        down = [replace(far[0], up=False), *far[1:]]
        world.nodes["b"].set_links(down, world.now)
        world.run(tuning.SILENCE_S / 2)
        world.nodes["b"].set_links(far, world.now)
        world.run(1)
        lost = [e for e in world.events["a"] if isinstance(e, events.ConnectionLost)]
        assert [e.reason for e in lost] == [
            "the other end no longer hears this one, or started anew"
        ]

    def test_a_link_without_carrier_leaves_at_once_and_returns_at_once(self):
        world = pair()
        world.run(1)
        both = [link(2, "192.168.0.1"), link(3, "192.168.1.1")]
        world.nodes["a"].set_links([link(2, "192.168.0.1", up=False), both[1]], world.now)
        peer = world.peer("a", "10.0.0.2")
        assert [c["link"] for c in peer["connections"] if c["carries"]] == [3]
        world.nodes["a"].set_links(both, world.now)
        world.run(0.05)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2, (3, 5): 2}

    def test_an_interface_that_appears_late_joins_at_once(self):
        world = World()
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1")])
        world.add("b", "10.0.0.2", [link(4, "192.168.0.2"), link(5, "192.168.1.2")])
        for address in ("192.168.0.2", "192.168.1.2"):
            world.nodes["a"].add_remote("10.0.0.2", address, 0, world.now)
        world.run(3)
        world.nodes["a"].set_links([link(2, "192.168.0.1"), link(9, "192.168.1.1")], world.now)
        world.run(0.05)
        assert world.states("b", "10.0.0.1") == {(4, 2): 2, (5, 9): 2}

    def test_an_own_address_is_not_taken_for_another_hosts(self):
        world = World()
        world.add("a", "10.0.0.1", [])
        a = world.nodes["a"]
        a.add_remote("10.0.0.2", "192.168.0.1", 0, world.now)
        a.set_links([link(2, "192.168.0.1"), link(3, "192.168.0.5")], world.now)
        world.run(3.0)
        assert world.captured == []
        with pytest.raises(ValueError, match=r"192\.168\.0\.5 is an address of this host"):
            a.add_remote("10.0.0.2", "192.168.0.5", 0, world.now)
        a.set_links([link(2, "192.168.0.7")], world.now)
        world.run(1.0)
        assert world.captured != []

    def test_an_address_change_is_followed_by_the_other_end(self):
        world = pair()
        world.run(2)
        world.nodes["a"].set_links([link(2, "192.168.0.77"), link(3, "192.168.1.1")], world.now)
        world.run(tuning.ADDRESS_HOLD_S + 1.5)
        assert world.states("b", "10.0.0.1") == {(4, 2): 2, (5, 3): 2}
        addresses = {
            c["address"] for c in world.peer("b", "10.0.0.1")["connections"] if c["routed"]
        }
        assert addresses == {"192.168.0.77", "192.168.1.1"}
        assert any(isinstance(e, events.RemoteMoved) for e in world.events["b"])

    def test_an_interface_that_returns_with_another_index_takes_its_old_place(self):
        world = pair()
        world.run(2)
        world.nodes["b"].set_links([link(5, "192.168.1.2")], world.now)
        world.run(3)
        world.nodes["b"].set_links([link(9, "192.168.0.2"), link(5, "192.168.1.2")], world.now)
        world.run(2)
        assert world.states("a", "10.0.0.2") == {(2, 9): 2, (3, 5): 2}

    def test_a_restart_of_either_end_is_over_within_a_second(self):
        for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
            world = pair()
            world.run(5)
            links = list(world.nodes[name]._peers.links.values())
            world.add(name, address, links)
            if name == "a":
                for remote in ("192.168.0.2", "192.168.1.2"):
                    world.nodes["a"].add_remote("10.0.0.2", remote, 0, world.now)
            world.run(1)
            assert set(world.states("a", "10.0.0.2").values()) == {2}
            assert set(world.states("b", "10.0.0.1").values()) == {2}

    def test_a_late_greeting_does_not_take_an_established_connection_down(self):
        world = pair()
        world.run(2)
        greeting = next(d for _, d in world.captured if d[32] & 3 == 0)
        known = greeting[:28] + (4).to_bytes(4, "little") + greeting[32:]
        known = known[:10] + b"\0\0" + known[12:]
        known = known[:10] + ipv4.checksum(known[:32]).to_bytes(2, "big") + known[12:]
        steady_state = world.states("b", "10.0.0.1")
        world.send("a", *numbered(1))
        world.run(0.001)
        world.fly(known, "192.168.0.2")
        world.run(0.0001)
        assert world.states("b", "10.0.0.1") == steady_state

    def test_more_than_the_allowed_copies_are_not_sent_and_disjoint_links_come_first(self):
        world = World()
        lan = [reaching(Link(n, f"e{n}", (f"192.168.0.{n}/24",), 1500, True)) for n in range(2, 6)]
        far = [
            reaching(Link(n, f"e{n}", (f"192.168.0.{n}/24",), 1500, True)) for n in range(12, 16)
        ]
        world.add("a", "10.0.0.1", lan)
        world.add("b", "10.0.0.2", far)
        for n in range(12, 16):
            world.nodes["a"].add_remote("10.0.0.2", f"192.168.0.{n}", n, world.now)
        world.run(2)
        carrying = [c for c in world.peer("a", "10.0.0.2")["connections"] if c["carries"]]
        assert len(world.states("a", "10.0.0.2")) == 16
        assert len(carrying) == tuning.MAX_COPIES
        assert {c["link"] for c in carrying} == {2, 3, 4, 5}
        assert {c["remote"] for c in carrying} == {12, 13, 14, 15}

    def test_two_addresses_of_one_interface_are_both_used_and_come_to_rest(self):
        world = World()
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1"), link(3, "192.168.1.1")])
        both = ("192.168.0.2/24", "192.168.1.2/24")
        world.add("b", "10.0.0.2", [reaching(Link(4, "eth4", both, 1500, True))])
        for address in ("192.168.0.2", "192.168.1.2"):
            world.nodes["a"].add_remote("10.0.0.2", address, 0, world.now)
        world.run(5)
        world.events["b"].clear()
        world.run(30)
        assert world.events["b"] == []
        assert set(world.states("a", "10.0.0.2").values()) == {2}
        assert len(world.states("a", "10.0.0.2")) == 2

    @pytest.mark.parametrize("agreed_at", ["a", "b"])
    def test_interfaces_that_swap_their_indices_in_a_reboot_come_to_rest(self, agreed_at):
        world = World()
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1"), link(3, "192.168.1.1")])
        far, host = {"a": ("2", "10.0.0.2"), "b": ("1", "10.0.0.1")}[agreed_at]

        def boot(first, second):
            world.add("b", "10.0.0.2", [link(first, "192.168.0.2"), link(second, "192.168.1.2")])
            for lan in (0, 1):
                address = f"192.168.{lan}.{far}"
                world.nodes[agreed_at].add_remote(host, address, 0, world.now)

        boot(4, 5)
        world.run(5)
        del world.nodes["b"]
        world.run(3)
        boot(5, 4)
        world.run(10)
        for name in ("a", "b"):
            world.events[name].clear()
        world.run(30)
        assert world.events["a"] == world.events["b"] == []
        assert world.states("a", "10.0.0.2") == {(2, 5): 2, (3, 4): 2}
        addresses = {r["index"]: r["address"] for r in world.peer("a", "10.0.0.2")["remotes"]}
        assert addresses == {5: "192.168.0.2", 4: "192.168.1.2"}

    def test_an_agreed_address_is_greeted_again_after_its_interface_went_elsewhere(self):
        world = pair()
        world.run(2)
        b = world.nodes["b"]
        b.set_links([link(4, "192.168.0.77"), link(5, "192.168.1.2")], world.now)
        world.run(5)
        assert world.states("a", "10.0.0.2")[2, 4] == 2
        b.set_links([link(5, "192.168.1.2")], world.now)
        world.run(5)
        b.set_links([link(4, "192.168.0.2"), link(5, "192.168.1.2")], world.now)
        b.remove_remote("10.0.0.1", None, world.now)
        world.run(5)
        assert world.states("a", "10.0.0.2") == {(2, 4): 2, (3, 5): 2}

    def test_two_ways_that_each_work_in_one_direction_carry_traffic_in_both(self):
        world = pair()
        one_way = {("192.168.0.2", "192.168.0.1"), ("192.168.1.1", "192.168.1.2")}
        for address in ("192.168.0.1", "192.168.1.1"):
            world.nodes["b"].add_remote("10.0.0.1", address, 0, world.now)
        world.cut = one_way
        world.run(5)
        sent = steady(world, 2)
        assert world.delivered["b"] == sent["a"]
        assert world.delivered["a"] == sent["b"]

    @pytest.mark.parametrize("seed", range(8))
    def test_links_that_die_in_opposite_directions_lose_nothing(self, seed):
        print(f"seed {seed}")
        world = pair(seed=seed)
        world.run(5)
        chance = random.Random(seed)
        first, second = chance.randrange(200), chance.randrange(100)
        for count in range(3000):
            if count == first:
                world.cut.add(("192.168.0.1", "192.168.0.2"))
            if count == first + second:
                world.cut.add(("192.168.1.2", "192.168.1.1"))
            for name, here, there in (("a", 1, 2), ("b", 2, 1)):
                payload = count.to_bytes(4, "big") + bytes(40)
                world.send(name, udp(f"10.0.0.{here}", f"10.0.0.{there}", payload))
            world.run(0.005)
        world.run(1)
        for name in ("a", "b"):
            came = [int.from_bytes(p[20:24], "big") for p in world.delivered[name]]
            assert sorted(came) == list(range(3000))


class TestPackets:
    def test_every_packet_goes_over_every_link_and_arrives_once_and_untouched(self):
        world = pair()
        world.run(1)
        world.captured.clear()
        packets = [
            udp("10.0.0.1", "10.0.0.2", bytes([n]) * 50, tos=n, ident=n * 77, word=word)
            for n, word in enumerate((0, 0x4000, 0x2000, 0x2001, 0x0123, 0x8000))
        ]
        world.send("a", *packets)
        world.run(0.01)
        assert world.delivered["b"] == packets
        assert len([d for _, d in world.captured if len(d) > 34]) == 2 * len(packets)
        assert world.peer("b", "10.0.0.1")["duplicates"] == len(packets)

    def test_the_very_first_packet_is_not_lost_to_the_handshake(self):
        world = pair()
        world.send("a", *numbered(3))
        world.run(0.01)
        assert world.delivered["b"] == numbered(3)

    @pytest.mark.parametrize("address", ["192.168.0.2", "192.168.1.2"])
    def test_nothing_is_lost_or_doubled_while_a_link_is_cut_and_restored(self, address):
        world = pair()
        world.run(1)

        def cut(at):
            if 1 <= at < 5:
                world.lost.add(address)
            else:
                world.lost.discard(address)

        sent = steady(world, 8, cut)
        assert world.delivered["b"] == sent["a"]
        assert world.delivered["a"] == sent["b"]

    def test_nothing_is_lost_or_doubled_while_an_address_changes(self):
        world = pair()
        world.run(1)

        def change(at):
            address = "192.168.0.77" if 2 <= at < 4 else "192.168.0.1"
            world.nodes["a"].set_links([link(2, address), link(3, "192.168.1.1")], world.now)

        sent = steady(world, 8, change)
        assert world.delivered["b"] == sent["a"]
        assert world.delivered["a"] == sent["b"]

    def test_reordering_jitter_and_loss_never_double_a_packet(self):
        world = pair(seed=5)
        world.run(1)
        world.loss, world.jitter_s = 0.2, 0.05
        sent = steady(world, 10)
        for name, other in (("a", "b"), ("b", "a")):
            got = world.delivered[name]
            assert len(got) == len(set(got))
            assert set(got) <= set(sent[other])
            # Both copies are lost with 4 %.
            assert 0.02 < 1 - len(got) / len(sent[other]) < 0.07

    def test_30_000_distinct_packets_a_second_lose_none(self):
        world = pair()
        world.run(1)
        count = 30_000
        a, b = world.nodes["a"], world.nodes["b"]
        packets = [udp("10.0.0.1", "10.0.0.2", n.to_bytes(4, "big")) for n in range(count)]
        got = []
        for start in range(0, count, 30):
            now = world.now + start / 30_000
            a.outbound(packets[start : start + 30], now)
            for (_, address), datagrams in a.take_datagrams().items():
                b.inbound(datagrams, 4 if address == "192.168.0.2" else 5, now)
            got.extend(b.take_packets())
        assert got == packets

    def test_the_identification_skips_0(self):
        world = pair()
        world.run(1)
        seen = set()
        for packet in numbered(66_000):
            world.nodes["a"].outbound([packet], world.now)
            for datagrams in world.nodes["a"].take_datagrams().values():
                seen.update(d[4] | d[5] << 8 for d in datagrams)
        assert seen == set(range(1, 65536))

    def test_a_packet_for_nobody_is_answered_with_host_unreachable(self):
        world = pair()
        world.run(1)
        packet = udp("10.0.0.1", "10.0.0.9")
        world.send("a", packet)
        (error,) = world.nodes["a"].take_packets()
        assert error[20:22] == bytes((3, 1))
        assert error[12:16] == packet[16:20]
        assert error[28:] == packet

    def test_multicast_broadcast_and_ipv6_are_counted_and_dropped(self):
        world = pair()
        world.send(
            "a",
            *(udp("10.0.0.1", group) for group in ("224.0.0.251", "239.255.0.1", "224.0.0.22")),
            *(udp("10.0.0.1", everybody) for everybody in ("10.0.0.255", "255.255.255.255")),
            *(udp("10.0.0.1", nobody) for nobody in ("127.0.0.1", "0.1.2.3", "240.0.0.1")),
            b"\x60" + bytes(60),
            b"\x60" + bytes(20),
            b"",
        )
        assert world.dropped("a") == {
            "multicast": 3,
            "broadcast": 2,
            "not_unicast": 3,
            "ipv6": 1,
            "not_ipv4": 2,
        }
        assert world.nodes["a"].take_packets() == []

    def test_the_device_mtu_follows_the_smallest_link_that_is_up(self):
        world = pair()
        node = world.nodes["a"]
        assert node.device_mtu == 1466
        node.set_links([link(2, "192.168.0.1", mtu=1400), link(3, "192.168.1.1")], world.now)
        assert node.device_mtu == 1366
        node.set_links(
            [link(2, "192.168.0.1", mtu=1400, up=False), link(3, "192.168.1.1")], world.now
        )
        assert node.device_mtu == 1466

    def test_a_link_that_leads_to_no_peer_leaves_the_device_mtu_alone(self):
        world = pair()
        node = world.nodes["a"]
        links = [link(2, "192.168.0.1"), link(3, "192.168.1.1")]
        node.set_links([*links, link(7, "172.17.0.1", mtu=576)], world.now)
        assert node.device_mtu == 1466
        # It has a route to the peer and greets it in vain.
        routed = link(7, "172.17.0.1", mtu=576, routes=("0.0.0.0/0",))
        node.set_links([*links, routed], world.now)
        world.run(5)
        assert world.states("a", "10.0.0.2")[7, 4] == 0
        assert node.device_mtu == 1466

    def test_a_packet_larger_than_one_link_travels_over_the_other(self):
        world = pair()
        world.run(1)
        world.nodes["a"].set_links(
            [link(2, "192.168.0.1", mtu=1000), link(3, "192.168.1.1")], world.now
        )
        packet = udp("10.0.0.1", "10.0.0.2", bytes(1300))
        world.send("a", packet)
        world.run(0.01)
        assert world.delivered["b"] == [packet]
        (error,) = world.delivered["a"]
        assert error[20:22] == bytes((3, 4))
        assert error[26:28] == (1000 - 34).to_bytes(2, "big")

    def test_a_packet_larger_than_every_link_gives_fragmentation_needed_or_fragments(self):
        world = pair()
        world.run(1)
        world.nodes["a"].set_links(
            [link(2, "192.168.0.1", mtu=1000), link(3, "192.168.1.1", mtu=900)], world.now
        )
        world.send("a", udp("10.0.0.1", "10.0.0.2", bytes(1300)))
        (error,) = world.nodes["a"].take_packets()
        assert error[20:22] == bytes((3, 4))
        assert error[26:28] == (900 - 34).to_bytes(2, "big")
        world.send("a", udp("10.0.0.1", "10.0.0.2", bytes(1300), word=0))
        world.run(0.01)
        assert [len(p) for p in world.delivered["b"]] == [20 + 840, 20 + 460]
        assert world.peer("b", "10.0.0.1")["duplicates"] == 2

    def test_a_link_may_have_a_larger_mtu_than_a_datagram_can_be(self):
        world = World()
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1", mtu=70000)])
        world.nodes["a"].add_remote("10.0.0.2", "192.168.0.2", 0, world.now)
        assert world.nodes["a"].device_mtu == 65535 - 34
        world.send("a", udp("10.0.0.1", "10.0.0.2", bytes(65535 - 20)))
        world.run(0.01)
        assert world.dropped("a") == {"too_big": 1}

    def test_a_link_too_small_for_fragments_refuses_instead_of_splitting_for_ever(self):
        world = pair()
        world.nodes["a"].set_links([link(2, "192.168.0.1", mtu=80)], world.now)
        world.send("a", udp("10.0.0.1", "10.0.0.2", bytes(200), word=0))
        assert world.dropped("a") == {"too_big": 1}

    def test_packets_to_the_own_address_go_nowhere_every_time(self):
        world = three()
        world.run(1)
        world.send("a", udp("10.0.0.1", "10.0.0.1"), udp("10.0.0.1", "10.0.0.1"))
        assert world.dropped("a") == {"no_route": 2}


class TestRuns:
    """Classic frames go one by one, however many packets the node gets at once."""

    def met(self):
        world = pair()
        world.run(1)
        world.send("a", udp("10.0.0.1", "10.0.0.2"))
        world.run(0.1)
        world.delivered["b"].clear()
        return world

    def test_a_run_of_packets_becomes_a_frame_for_each_on_each_connection(self):
        world = self.met()
        packets = [*numbered(100), udp("10.0.0.1", "10.0.0.2", b"short")]
        world.nodes["a"].outbound(packets, world.now)
        ways = world.nodes["a"].take_datagrams()
        assert sorted(ways) == [(2, "192.168.0.2"), (3, "192.168.1.2")]
        ids = []
        for datagrams in ways.values():
            frames = [classic.decode(datagram) for datagram in datagrams]
            assert [frame.payload for frame in frames] == packets
            assert all(frame.forward and frame.state == 1 for frame in frames)
            start = frames[0].identification
            assert [f.identification for f in frames] == list(range(start, start + 101))
            ids.append([frame.id for frame in frames])
        assert ids[0] == ids[1]
        following = [(ids[0][0] + n) & classic.ID_MASK for n in range(101)]
        assert ids[0] == following

    def test_all_of_a_run_arrives_once_and_in_order(self):
        world = self.met()
        packets = numbered(300)
        random.Random(5).shuffle(packets)
        world.send("a", *packets)
        world.run(0.2)
        assert world.delivered["b"] == packets
        assert world.peer("b", "10.0.0.1")["delivered"] == 301

    def test_a_router_passes_a_run_on_with_the_time_to_live_decreased(self):
        world = three()
        world.run(1)
        packets = numbered(70, dst="10.0.0.3")
        world.send("a", *packets)
        world.run(0.2)
        assert world.delivered["c"] == [ipv4.with_ttl_decreased(packet) for packet in packets]
        assert world.nodes["r"].status(world.now)["counters"]["forwarded"] == 70

    def test_every_host_on_the_way_has_carried_it_and_keepalives_are_carried_by_none(self):
        world = three()
        world.run(5)
        assert [node.router.carried for node in world.nodes.values()] == [0, 0, 0]
        world.send("a", *numbered(70, dst="10.0.0.3"))
        world.run(5)
        assert [node.router.carried for node in world.nodes.values()] == [70, 70, 70]
        world.send("a", *numbered(9, dst="10.0.0.255"))
        world.run(5)
        assert world.dropped("a") == {"broadcast": 9}
        assert world.nodes["a"].router.carried == 70, "what goes nowhere is carried by nobody"

    def test_what_is_no_packet_leaves_the_run_whole(self):
        world = self.met()
        one, two, three_ = numbered(3)
        world.send("a", one, b"", two, one[:-1], b"\x60" * 60, three_)
        world.run(0.1)
        assert world.delivered["b"] == [one, two, three_]
        assert world.dropped("a") == {"not_ipv4": 2, "ipv6": 1}

    def test_a_datagram_is_one_packet_of_its_hosts_flow(self):
        world = self.met()
        node = world.nodes["b"]
        world.nodes["a"].outbound(numbered(1), world.now)
        world.nodes["a"].outbound([udp("10.0.0.1", "10.0.0.2", b"x" * 900)], world.now)
        (small, large), *others = world.nodes["a"].take_datagrams().values()
        assert node.packets_in(small) == node.packets_in(b"") == 1
        assert node.flow(small) is not None
        assert node.flow(small) != node.flow(large)
        # A host's flows are the same over all its connections.
        assert [node.flow(datagram) for datagram in others[0]] == [
            node.flow(small), node.flow(large)
        ]  # fmt: skip
        for strange in (b"", b"\x48", small[:31], small[:12] + bytes(4) + small[16:]):
            assert node.flow(strange) is None

    def test_the_end_of_a_packet_in_fragments_does_not_go_ahead_of_the_rest(self):
        world = self.met()
        whole = udp("10.0.0.1", "10.0.0.2", b"x" * 1470, word=0)
        pieces = ipv4.fragments(whole, 1400)
        world.nodes["a"].outbound(pieces, world.now)
        for frames in world.nodes["a"].take_datagrams().values():
            assert len({world.nodes["b"].flow(frame) for frame in frames}) == 1


class TestForwarding:
    def test_hosts_that_share_no_lan_reach_each_other_through_the_router(self):
        world = three()
        world.run(1)
        packet = udp("10.0.0.1", "10.0.0.3", tos=0xB8, ident=4711, word=0x2000)
        world.send("a", packet)
        world.run(0.01)
        assert world.delivered["c"] == [ipv4.with_ttl_decreased(packet)]
        assert world.delivered["r"] == []

    def test_time_to_live_ends_at_the_router(self):
        world = three()
        world.run(1)
        packet = udp("10.0.0.1", "10.0.0.3", ttl=1)
        world.send("a", packet)
        world.run(0.01)
        (error,) = world.delivered["a"]
        assert error[20:22] == bytes((11, 0))
        assert ipv4.text(error[12:16]) == "10.0.0.2"
        assert error[28:] == packet

    def test_a_host_that_the_router_does_not_know_is_unreachable(self):
        world = three()
        world.run(1)
        world.send("a", udp("10.0.0.1", "10.0.0.77"))
        world.run(0.01)
        (error,) = world.delivered["a"]
        assert error[20:22] == bytes((3, 1))
        assert ipv4.text(error[12:16]) == "10.0.0.2"

    def test_nothing_goes_back_to_where_it_came_from(self):
        world = three()
        world.run(1)
        world.captured.clear()
        # The router is made to believe that the packet is for the host that sent it.
        world.send("a", udp("10.0.0.3", "10.0.0.2"))
        frame = next(d for d in world.nodes["a"].take_datagrams().values())[0]
        inner = udp("10.0.0.3", "10.0.0.1")
        datagram = encode(classic.decode(frame)._replace(payload=inner, id=4000, identification=9))
        world.nodes["r"].inbound([datagram], 2, world.now)
        assert world.dropped("r") == {"echo": 1}

    def test_a_host_that_does_not_forward_drops_what_is_for_others(self):
        world = pair()
        world.run(1)
        world.send("a", *numbered(1))
        frame = next(iter(world.nodes["a"].take_datagrams().values()))[0]
        other = encode(classic.decode(frame)._replace(payload=udp("10.0.0.1", "10.0.0.9"), id=4000))
        world.nodes["b"].inbound([other], 4, world.now)
        assert world.dropped("b") == {"not_forwarding": 1}

    def test_direct_links_are_preferred_and_the_router_takes_over_when_they_die(self):
        world = three()
        a_links = [*world.nodes["a"]._peers.links.values(), link(7, "192.168.9.1")]
        c_links = [*world.nodes["c"]._peers.links.values(), link(7, "192.168.9.2")]
        world.nodes["a"].set_links(a_links, world.now)
        world.nodes["c"].set_links(c_links, world.now)
        world.nodes["a"].add_remote("10.0.0.3", "192.168.9.2", 0, world.now)
        world.run(1)
        packet = udp("10.0.0.1", "10.0.0.3")
        world.send("a", packet)
        world.run(0.01)
        assert world.delivered["c"] == [packet]
        world.lost.add("192.168.9.2")
        world.run(tuning.SILENCE_S + 0.5)
        world.send("a", udp("10.0.0.1", "10.0.0.3", b"later"))
        world.run(0.01)
        assert world.delivered["c"][1:] == [
            ipv4.with_ttl_decreased(udp("10.0.0.1", "10.0.0.3", b"later"))
        ]


class TestHostileInput:
    def greeting(self, **changes):
        frame = classic.Frame(
            1, ipv4.pack("192.168.0.66"), ipv4.pack("192.168.0.2"), ipv4.pack("10.0.0.66"),
            66, 4, 0, False, 0, b"",
        )  # fmt: skip
        return encode(frame._replace(**changes))

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"host": ipv4.pack("10.9.9.9")}, "foreign_host"),
            ({"host": ipv4.pack("10.0.0.255")}, "foreign_host"),
            ({"host": ipv4.pack("10.0.0.2")}, "reflected"),
            ({"source": ipv4.pack("192.168.1.2")}, "reflected"),
            ({"source": ipv4.pack("224.0.0.1")}, "malformed"),
            ({"src_index": 0}, "malformed"),
            ({"destination": ipv4.pack("192.168.0.99")}, "wrong_destination"),
        ],
    )
    def test_a_frame_that_cannot_be_right_is_counted_by_reason(self, changes, reason):
        world = pair()
        world.nodes["b"].inbound([self.greeting(**changes)], 4, world.now)
        assert world.dropped("b") == {reason: 1}
        assert world.nodes["b"].take_datagrams().keys() == set()

    def test_a_forged_source_does_not_turn_a_working_connection_away(self):
        world = pair()
        world.run(2)
        forged = self.greeting(host=ipv4.pack("10.0.0.1"), src_index=2, state=2)
        for _ in range(50):
            world.nodes["b"].inbound([forged], 4, world.now)
            world.run(0.1)
        addresses = {c["address"] for c in world.peer("b", "10.0.0.1")["connections"]}
        assert addresses == {"192.168.0.1", "192.168.1.1"}

    def test_a_connection_that_moves_back_to_a_route_still_falls_silent(self):
        world = World()
        b = world.add("b", "10.0.0.2", [link(4, "192.168.0.2")])
        away = ipv4.pack("172.16.0.66")
        for source in (away, ipv4.pack("192.168.0.66")):
            b.inbound([self.greeting(state=2, source=source)], 4, world.now)
            world.run(5)
        assert world.states("b", "10.0.0.66") == {(4, 66): 0}

    def test_learnt_remotes_are_bounded_and_forgotten(self):
        world = pair()
        world.run(1)
        node = world.nodes["b"]
        randomness = random.Random(3)
        for _ in range(20_000):
            world.now += 0.001
            node.inbound(
                [
                    self.greeting(
                        host=bytes((10, 0, 0, randomness.randrange(3, 255))),
                        src_index=randomness.randrange(1, 2**32),
                        source=bytes((192, 168, 0, randomness.randrange(3, 255))),
                        state=randomness.randrange(3),
                    )
                ],
                4,
                world.now,
            )
            node.tick(world.now)
            node.take_datagrams()
            node.take_events()
            learnt = (
                sum(
                    r["origin"] == "learnt"
                    for p in node.status(world.now)["peers"]
                    for r in p["remotes"]
                )
                if _ % 1000 == 0
                else 0
            )
            assert learnt <= tuning.MAX_LEARNT_REMOTES
        assert world.dropped("b")["limit"] > 10_000
        world.run(tuning.FORGET_S + tuning.FORGET_EVERY_S + 1)
        assert [p["host"] for p in node.status(world.now)["peers"]] == ["10.0.0.1"]
        assert set(world.states("b", "10.0.0.1").values()) == {2}

    def test_a_flood_of_greetings_is_not_answered_beyond_the_limit(self):
        world = pair()
        world.run(1)
        genuine = next(d for _, d in world.captured if d[16:20] == ipv4.pack("192.168.0.2"))
        answers = 0
        for _ in range(5000):
            world.nodes["b"].inbound([genuine], 4, world.now)
            answers += sum(map(len, world.nodes["b"].take_datagrams().values()))
        assert answers <= tuning.GREETINGS_BURST

    def test_a_flood_of_strangers_does_not_keep_an_agreed_remote_from_being_met(self):
        world = World()
        b = world.add("b", "10.0.0.2", [link(4, "192.168.0.2")])
        b.add_remote("10.0.0.1", "192.168.0.1", 0, world.now)
        randomness = random.Random(5)

        def flood():
            forged = self.greeting(
                host=bytes((10, 0, 0, randomness.randrange(3, 255))),
                src_index=randomness.randrange(1, 2**31),
                source=bytes((192, 168, 0, randomness.randrange(3, 255))),
            )
            b.inbound([forged], 4, world.now)

        for _ in range(3000):
            flood()
            world.run(0.001)
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1")])
        for _ in range(2000):
            flood()
            world.run(0.001)
        assert set(world.states("b", "10.0.0.1").values()) == {2}

    def test_forged_interfaces_do_not_keep_a_hosts_own_interface_away(self):
        world = World()
        b = world.add("b", "10.0.0.2", [link(4, "192.168.0.2")])
        for _ in range(60):
            for forged in range(tuning.MAX_REMOTES_PER_PEER):
                source = bytes((192, 168, 0, 100 + forged))
                frame = self.greeting(
                    host=ipv4.pack("10.0.0.1"), src_index=1000 + forged, source=source
                )
                b.inbound([frame], 4, world.now)
            world.run(0.05)
        world.add("a", "10.0.0.1", [link(2, "192.168.0.1")])
        world.nodes["a"].add_remote("10.0.0.2", "192.168.0.2", 0, world.now)
        world.run(2)
        assert 2 in world.states("a", "10.0.0.2").values()

    def test_a_forged_greeting_a_frame_is_answered_fifty_times_a_second_at_most(self):
        world = pair()
        world.run(1)
        genuine = next(d for _, d in world.captured if d[16:20] == ipv4.pack("192.168.0.2"))
        world.captured.clear()
        for _ in range(1000):
            world.nodes["b"].inbound([genuine], 4, world.now)
            world.run(0.001)
        assert len([d for _, d in world.captured if d[16:20] == ipv4.pack("192.168.0.1")]) < 80

    def test_more_events_than_can_be_read_are_counted_instead(self):
        world = pair()
        for number in range(1000):
            world.nodes["a"].set_links([link(2 + number, "192.168.0.1")], world.now)
        reported = world.nodes["a"].take_events()
        assert len(reported) <= tuning.EVENTS_BURST + 1
        assert isinstance(reported[-1], events.EventsSuppressed)
        assert all(str(event) for event in reported)

    @settings(max_examples=200)
    @given(st.lists(st.binary(max_size=120), max_size=20))
    def test_arbitrary_bytes_from_links_and_device_never_raise(self, blobs):
        world = pair()
        world.nodes["b"].inbound(blobs, 4, world.now)
        world.nodes["b"].outbound(blobs, world.now)
        world.run(0.01)

    @settings(max_examples=200)
    @given(st.data())
    def test_mutated_frames_with_a_right_checksum_never_raise(self, data):
        world = three()
        world.run(0.2)
        world.send("a", udp("10.0.0.1", "10.0.0.3"), udp("10.0.0.1", "10.0.0.2"))
        world.run(0.01)
        for _ in range(data.draw(st.integers(1, 8))):
            _, datagram = data.draw(st.sampled_from(world.captured))
            mutated = bytearray(datagram)
            for _ in range(data.draw(st.integers(1, 4))):
                mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(
                    st.integers(0, 255)
                )
            mutated[10:12] = b"\0\0"
            mutated[10:12] = ipv4.checksum(bytes(mutated[:32])).to_bytes(2, "big")
            name = data.draw(st.sampled_from(sorted(world.nodes)))
            world.nodes[name].inbound([bytes(mutated)], 2, world.now)
            world.run(0.05)
        world.run(3)


class TestOperators:
    @pytest.mark.parametrize(
        ("host", "address", "index", "sentence"),
        [
            ("10.9.9.9", "192.168.0.9", 0, "not an address of the network 10.0.0.0/24"),
            ("10.0.0.1", "192.168.0.9", 0, "this host's own address"),
            ("10.0.0.300", "192.168.0.9", 0, "'10.0.0.300' is not an IPv4 address"),
            ("10.0.0.7", "nonsense", 0, "'nonsense' is not an IPv4 address"),
            ("10.0.0.7", "224.0.0.1", 0, "cannot be the address of a network interface"),
            ("10.0.0.7", "192.168.0.9", -1, "is not between 0 and 2147483647"),
        ],
    )
    def test_a_wrong_remote_is_refused_with_a_sentence(self, host, address, index, sentence):
        world = pair()
        with pytest.raises(ValueError, match="(?i)" + re.escape(sentence)):
            world.nodes["a"].add_remote(host, address, index, world.now)
        assert len(world.nodes["a"].status(world.now)["peers"]) == 1

    def test_a_removed_remote_stops_carrying_at_once(self):
        world = pair()
        world.run(1)
        world.nodes["a"].remove_remote("10.0.0.2", "192.168.0.2", world.now)
        assert world.states("a", "10.0.0.2") == {(3, 5): 2}
        world.nodes["a"].remove_remote("10.0.0.2", None, world.now)
        assert world.nodes["a"].status(world.now)["peers"] == []

    def test_removing_what_is_not_there_is_refused_with_a_sentence(self):
        world = pair()
        with pytest.raises(ValueError, match=r"10\.0\.0\.9 is not known"):
            world.nodes["a"].remove_remote("10.0.0.9", None, world.now)
        with pytest.raises(ValueError, match=r"no interface at 1\.2\.3\.4"):
            world.nodes["a"].remove_remote("10.0.0.2", "1.2.3.4", world.now)

    def test_a_node_without_links_and_remotes_waits_for_nothing_urgent(self):
        node = ClassicNode(Settings("10.0.0.1", "10.0.0.0/24"), 5.0, random.Random(1))
        assert node.deadline() == 5.0 + tuning.FORGET_EVERY_S
        node.tick(20.0)
        assert node.deadline() > 20.0
