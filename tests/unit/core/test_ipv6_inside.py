"""IPv6 packets between the hosts of a network, which have their addresses by a rule."""

import ipaddress
import struct

import pytest

from ropeway.core import tuning
from ropeway.core.explain import Question
from ropeway.core.network.routes import address6_of
from ropeway.core.packet import ipv6
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core import packets6
from tests.unit.core.classic_world import udp as udp4
from tests.unit.core.packets6 import ICMP, NETWORK6, A, B, C
from tests.unit.core.secure_world import pair, three
from tests.unit.core.test_several_routers import network, stop

LINK_LOCAL = bytes.fromhex("fe80") + bytes(13) + b"\1"
ALL_ROUTERS = bytes.fromhex("ff02") + bytes(13) + b"\2"
OUTSIDE = ipaddress.IPv6Address("2001:db8::1").packed


def two(**settings):
    made = pair(network6=NETWORK6, **settings)
    made.run(2.0)
    return made


def chain(**settings):
    """a - r - c: a is host 1, r 2 and c 3."""
    made = three(network6=NETWORK6, **settings)
    made.run(2.0)
    return made


def sent(world, name, *packets, seconds=0.1):
    world.send(name, *packets)
    world.run(seconds)


def dropped(world, name):
    """What a host dropped, besides the handshakes that came over both links."""
    return {reason: n for reason, n in world.dropped(name).items() if reason != "repeated"}


def errors(world, name):
    """(type, code, source) of the ICMPv6 errors that a host was delivered."""
    found = [p for p in world.delivered[name] if p[0] >> 4 == 6 and p[6] == ICMP and p[40] < 128]
    assert all(map(packets6.is_valid, found))
    return [(p[40], p[41], p[8:24]) for p in found]


def test_the_address_of_a_host_is_the_prefix_and_its_virtual_address():
    assert address6_of("fd12:3456:789a:1::/64", "10.0.0.1") == "fd12:3456:789a:1::a00:1"
    status = two().nodes["a"].status(0.0)
    assert (status["address6"], status["network6"]) == ("fd12:3456:789a:1::a00:1", NETWORK6)


def test_packets_of_both_versions_arrive_once():
    world = two()
    packets = [packets6.udp(bytes([n]) * 500) for n in range(5)]
    four = udp4("10.0.0.1", "10.0.0.2")
    sent(world, "a", *packets[:3], four, *packets[3:])
    assert sorted(world.delivered["b"]) == sorted([*packets, four])
    assert [p for p in world.delivered["b"] if p != four] == packets
    assert not dropped(world, "a")
    assert not dropped(world, "b")


@pytest.mark.parametrize("takes", [True, False])
def test_partial_checksums_are_completed_where_the_other_end_wants_whole_ones(takes):
    world = pair(network6=NETWORK6)
    if takes:
        world.nodes["b"].take_partial()
    world.run(2.0)
    packets = [packets6.tcp(bytes(900), 1 + 900 * n) for n in range(4)]
    world.nodes["a"].outbound(packets, world.now, True)
    world.run(0.1)
    assert world.delivered["b"] == [
        packets6.tcp(bytes(900), 1 + 900 * n, partial=False) for n in range(4)
    ]


def test_a_router_passes_packets_on_and_lowers_their_hop_limit():
    world = chain()
    packet = packets6.udp(dst=C, hops=9)
    sent(world, "a", packet)
    assert world.delivered["c"] == [packets6.udp(dst=C, hops=8)]


def test_a_packet_that_has_passed_enough_routers_is_reported_by_the_one_that_drops_it():
    world = chain()
    sent(world, "a", packets6.udp(dst=C, hops=1))
    assert errors(world, "a") == [(3, 0, B)]
    assert not world.delivered["c"]
    assert dropped(world, "r") == {"ttl": 1}


def test_what_no_host_has_is_refused():
    world = chain()
    nobody = A[:12] + bytes((10, 0, 0, 77))
    sent(world, "a", packets6.udp(dst=OUTSIDE), packets6.udp(dst=nobody))
    # The first by this host itself, in the name of the destination; the second by the router.
    assert errors(world, "a") == [(1, 0, OUTSIDE), (1, 3, B)]


def test_errors_are_limited():
    world = chain()
    sent(world, "a", *(packets6.udp(dst=OUTSIDE, payload=bytes([n])) for n in range(200)))
    assert tuning.ICMP_STRAND_BURST <= len(errors(world, "a")) < 200


def test_groups_and_what_only_a_link_has_are_dropped_quietly():
    world = two()
    sent(
        world,
        "a",
        packets6.ip(ICMP, bytes(16), src=LINK_LOCAL, dst=ALL_ROUTERS),
        packets6.ip(ICMP, bytes(16), src=bytes(16), dst=ALL_ROUTERS),
        packets6.udp(dst=ALL_ROUTERS),
        packets6.udp(src=LINK_LOCAL),
    )
    assert dropped(world, "a") == {"multicast": 3, "foreign_source": 1}
    assert not world.delivered["a"]
    assert not world.delivered["b"]


def lie(world, name, packet):
    """Have a host send what its own router would not let out."""
    strand = next(iter(world.nodes[name].tables.strands.values()))
    world.nodes[name]._sender.send_over(strand, strand.carrying, (packet,), world.now, False)
    world.run(0.1)


@pytest.mark.parametrize(
    "source",
    [C, B, OUTSIDE, LINK_LOCAL, bytes(12) + A[12:], A[:4] + A[12:] + A[8:]],
)
def test_a_source_that_is_not_the_senders_is_dropped(source):
    world = two()
    lie(world, "a", packets6.udp(src=source))
    assert not world.delivered["b"]
    assert dropped(world, "b") == {"spoofed": 1}


def test_an_ipv6_packet_is_never_taken_for_one_of_ipv4():
    world = two()
    # Where IPv4 has its addresses, there are those of a and b.
    crafted = packets6.udp(src=A[:4] + A[12:] + B[12:] + bytes(4))
    assert crafted[12:20] == A[12:] + B[12:]
    lie(world, "a", crafted)
    assert not world.delivered["b"]
    sent(world, "a", crafted)
    assert dropped(world, "a") == {"foreign_source": 1}


def test_only_the_router_may_bring_what_others_sent():
    world = chain()
    sent(world, "c", packets6.udp(src=C, dst=A))
    assert len(world.delivered["a"]) == 1
    lie(world, "c", packets6.udp(src=B, dst=A))
    assert len(world.delivered["a"]) == 1
    assert dropped(world, "r") == {"spoofed": 1}


def test_a_cut_link_costs_no_packet():
    world = two()
    for number in range(40):
        if number == 20:
            world.lost.add("192.168.0.2")
        sent(world, "a", packets6.udp(bytes([number])), seconds=0.02)
    assert [p[48] for p in world.delivered["b"]] == list(range(40))


class TestAnOlderHost:
    def mixed(self):
        """b has no IPv6, as a host of an older version."""
        world = pair()
        settings = world.nodes["a"].settings
        world.add("a", "10.0.0.1", world.links("a"), settings.peers, network6=NETWORK6)
        world.run(2.0)
        return world

    def test_gets_no_ipv6_packets_and_their_sender_learns_it(self):
        world = self.mixed()
        sent(world, "a", packets6.udp())
        assert errors(world, "a") == [(1, 3, B)]
        assert dropped(world, "a") == {"ipv6": 1}
        assert not dropped(world, "b")

    def test_gets_them_from_its_upgrade_on(self):
        world = self.mixed()
        sent(world, "a", packets6.udp())
        settings = world.nodes["b"].settings
        world.add("b", "10.0.0.2", world.links("b"), settings.peers, network6=NETWORK6)
        world.run(3.0)
        sent(world, "a", packets6.udp())
        assert world.delivered["b"] == [packets6.udp()]

    def test_is_named_by_explain(self):
        world = self.mixed()
        answer = world.nodes["a"].explain(Question("fd12:3456:789a:1::a00:2"), world.now)
        assert answer["fault"] == "10.0.0.2 takes no IPv6 packets: give it network6 too"


def test_a_rollover_of_the_session_costs_no_packet():
    world = two(rollover_s=2.0)
    for number in range(200):
        sent(world, "a", packets6.udp(bytes([number])), seconds=0.05)
    assert [p[48] for p in world.delivered["b"]] == list(range(200))


def test_the_device_keeps_what_ipv6_needs_where_a_path_is_smaller():
    world = pair(network6=NETWORK6)
    world.mtu = {"192.168.0.3": 1000, "192.168.1.3": 1000}
    world.run(60.0)
    assert world.nodes["a"].tables.strands["10.0.0.2"].limit < 1000
    assert world.nodes["a"].device_mtu == 1280


def test_packets_that_every_path_must_carry_are_cut_for_a_small_one():
    world = pair(network6=NETWORK6)
    world.mtu = {"192.168.0.3": 1000, "192.168.1.3": 1000}
    world.run(60.0)
    packet = packets6.udp(bytes(1232))
    sent(world, "a", packet)
    assert len(world.delivered["b"]) == 2
    assert packets6.reassembled(world.delivered["b"]) == packet
    assert not errors(world, "a")


def test_a_larger_packet_is_refused_with_the_size_that_fits():
    world = pair(network6=NETWORK6)
    world.mtu = {"192.168.0.3": 1400, "192.168.1.3": 1400}
    world.run(60.0)
    limit = world.nodes["a"].tables.strands["10.0.0.2"].limit
    assert 1280 < limit < 1400
    sent(world, "a", packets6.udp(bytes(1400)))
    assert errors(world, "a") == [(2, 0, B)]
    assert struct.unpack_from(">I", world.delivered["a"][0], 44) == (limit,)
    sent(world, "a", packets6.udp(bytes(limit - 48)))
    assert len(world.delivered["b"]) == 1


def test_a_router_that_cannot_pass_a_packet_on_says_what_fits():
    world = chain()
    world.mtu = {"192.168.2.2": 1400, "192.168.3.2": 1400}
    # A path is measured while something uses it.
    for _ in range(100):
        sent(world, "a", packets6.udp(dst=C), seconds=0.2)
    limit = world.nodes["r"].tables.strands["10.0.0.3"].limit
    sent(world, "a", packets6.udp(bytes(1380), dst=C))
    assert errors(world, "a") == [(2, 0, B)]
    assert struct.unpack_from(">I", world.delivered["a"][0], 44) == (limit,)


def video(**match):
    return TrafficClass("video", Match(**match), Mode.REDUNDANT, copies=1)


@pytest.mark.parametrize(
    "match",
    [
        {"dscp": frozenset((46,))},
        {"protocols": frozenset((17,))},
        {"ports": ((80, 80),)},
        {"networks": ((int.from_bytes(B[12:], "big"), 0xFFFFFFFF),)},
        {"size_max": 147},
    ],
)
def test_classes_of_traffic_are_told_apart(match):
    one = packets6.udp(bytes(99), traffic_class=46 << 2)
    option = bytes((17, 0, 1, 4, 0, 0, 0, 0))
    behind = packets6.ip(0, option + one[40:], traffic_class=46 << 2)
    other = packets6.tcp(bytes(100), dst=C, ports=(1, 2), traffic_class=0, partial=False)
    class_ = video(**match)
    assert class_.match.holds(one)
    assert class_.match.holds(behind) == ("size_max" not in match)
    assert not class_.match.holds(other)
    world = two(classes=(class_,))
    sent(world, "a", one, one)
    (counted,) = [c for c in world.peer("a", "10.0.0.2")["classes"] if c["name"] == "video"]
    assert counted["packets"] == 2
    assert world.delivered["b"] == [one, one]


def test_a_fragment_has_no_ports():
    pieces = ipv6.fragments(packets6.udp(bytes(200)), 128, 1)
    assert not any(Match(ports=((80, 80),)).holds(piece) for piece in pieces)


def test_the_outer_header_has_the_dscp_of_the_packet():
    world = two(copy_dscp=True)
    world.nodes["a"].outbound([packets6.udp(traffic_class=46 << 2 | 3)], world.now)
    trains = [train for those in world.nodes["a"].take_trains().values() for train in those]
    assert [train.ds_field for train in trains if train.ds_field] == [46 << 2] * 2


def test_explain_says_where_a_packet_would_go():
    world = chain()
    answer = world.nodes["a"].explain(Question("fd12:3456:789a:1::a00:3", protocol=1), world.now)
    assert (answer["next_hop"], answer["fault"]) == ("10.0.0.2", None)
    own = world.nodes["a"].explain(Question("fd12:3456:789a:1::a00:1"), world.now)
    assert own["fault"] == "this is the address of this host itself"
    far = world.nodes["a"].explain(Question("2001:db8::1"), world.now)
    assert far["fault"] == "it is outside the network"
    plain = pair().nodes["a"].explain(Question("2001:db8::1"), 0.0)
    assert plain["fault"] == "the network has no IPv6 (network6)"


class TestSeveralRouters:
    """a is host 3 and c host 4, behind the routers 1 and 2."""

    a, c = (A[:12] + bytes((10, 0, 0, number)) for number in (3, 4))

    @pytest.mark.parametrize("dead", ["r", "s"])
    def test_the_death_of_one_costs_no_packet_and_nothing_comes_twice(self, dead):
        world = network(network6=NETWORK6)
        four = udp4("10.0.0.3", "10.0.0.4")
        for number in range(200):
            if number == 40:
                stop(world, dead)
            packet = packets6.udp(bytes([number]), src=self.a, dst=self.c)
            sent(world, "a", packet, four, seconds=0.01)
        world.run(0.5)
        six = [p for p in world.delivered["c"] if p[0] >> 4 == 6]
        assert [p[48] for p in six] == list(range(200))
        assert {p[7] for p in six} == {63}
        assert len(world.delivered["c"]) == 400

    def test_a_packet_that_has_passed_enough_routers_is_reported_once(self):
        world = network(network6=NETWORK6)
        sent(world, "a", packets6.udp(src=self.a, dst=self.c, hops=1))
        assert [error[:2] for error in errors(world, "a")] == [(3, 0)]

    def test_what_fits_no_path_is_cut_and_comes_once(self):
        world = network(network6=NETWORK6)
        world.mtu = {f"192.168.0.{number}": 1000 for number in (1, 2, 3)}
        for _ in range(100):
            sent(world, "a", packets6.udp(src=self.a, dst=self.c), seconds=0.2)
        world.delivered["c"].clear()
        packet = packets6.udp(bytes(1232), src=self.a, dst=self.c)
        sent(world, "a", packet)
        # The routers lower the hop limit by one.
        assert packets6.reassembled(world.delivered["c"]) == packet[:7] + b"\x3f" + packet[8:]
        assert len(world.delivered["c"]) == 2
