"""Clients that send through two routers at once: nothing is lost with one, nothing comes twice."""

import functools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core import tuning
from ropeway.core.data.origins import Origins
from ropeway.core.explain import Question
from ropeway.core.frame.data import (
    DATA,
    HEADER,
    LABELLED,
    LABELLED_LANE,
    LABELLED_PARTIAL,
    LABELLED_TYPES,
    PACKET_TYPES,
    lane_of,
)
from ropeway.core.frame.label import COUNT_END, encode_label, with_piece
from ropeway.core.packet import ipv4
from ropeway.core.packet.prefix import parse
from ropeway.core.packet.traffic_class import Match, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import number, numbered
from tests.unit.core.secure_world import PORT, SecureWorld, link, peer

R, S, A, C = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
ROUTERS = {"r": R, "s": S}
CLIENTS = {"a": A, "c": C}
HOSTS = {**ROUTERS, **CLIENTS}
#: Each host is in all LANs of its own number of the last byte.
NUMBER = {name: int(address.rpartition(".")[2]) for name, address in HOSTS.items()}
LANS = {"a": (0,), "c": (1,), "r": (0, 1), "s": (0, 1)}


def start(world, name, **settings):
    """Start a host of the network, or start it anew."""
    links = [link(2 + lan, f"192.168.{lan}.{NUMBER[name]}") for lan in LANS[name]]
    if name in CLIENTS:
        peers = [
            peer(router, host, *(f"192.168.{lan}.{NUMBER[router]}" for lan in LANS[name]))
            for router, host in ROUTERS.items()
        ]
        settings.setdefault("routers", tuple(ROUTERS.values()))
        return world.add(name, HOSTS[name], links, peers, **settings)
    other = next(one for one in ROUTERS if one != name)
    peers = [peer(client, host) for client, host in CLIENTS.items()]
    peers.append(peer(other, HOSTS[other], f"192.168.0.{NUMBER[other]}"))
    settings.setdefault("routers", (HOSTS[other],))
    return world.add(name, HOSTS[name], links, peers, forward=True, **settings)


def network(seed=1, **settings):
    """Two routers in two LANs, and a client in each."""
    world = SecureWorld(seed)
    for name in HOSTS:
        start(world, name, **settings)
    world.run(3.0)
    return world


def stop(world, name):
    """End a host as `kill -9` does: nothing is said, and nobody answers any more."""
    world.nodes.pop(name)


class Stream:
    """Packets that two clients send each other, each with a number of its own."""

    def __init__(self, world, per_s=1000):
        self.world = world
        self.pause_s = 1 / per_s
        self.sent = 0

    def run(self, seconds):
        for _ in range(round(seconds / self.pause_s)):
            self.world.send("a", numbered(A, C, self.sent))
            self.world.send("c", numbered(C, A, self.sent))
            self.sent += 1
            self.world.run(self.pause_s)

    def came(self, name):
        """The numbers that a client was given, in the order in which they came."""
        return [number(one) for one in self.world.delivered[name]]

    def assert_each_came_once(self):
        self.world.run(0.5)
        for name in CLIENTS:
            assert sorted(self.came(name)) == list(range(self.sent))


def test_a_packet_goes_through_both_routers_and_comes_once():
    world = network()
    stream = Stream(world)
    stream.run(0.1)
    stream.assert_each_came_once()
    for name in ROUTERS:
        assert world.nodes[name].status(world.now)["counters"]["forwarded"] == 200
    assert world.nodes["c"].status(world.now)["counters"]["duplicates"] == 100


@pytest.mark.parametrize("dead", ROUTERS)
def test_a_router_that_dies_costs_no_packet(dead):
    world = network()
    stream = Stream(world)
    stream.run(0.3)
    stop(world, dead)
    stream.run(4.0)
    stream.assert_each_came_once()


def test_of_three_routers_the_third_takes_the_place_of_one_that_is_dead():
    world = SecureWorld()
    third = "10.0.0.5"
    links = [link(2 + lan, f"192.168.{lan}.5") for lan in (0, 1)]
    others = [peer(name, host) for name, host in HOSTS.items()]
    world.add("t", third, links, others, routers=(R, S), forward=True)
    for name in HOSTS:
        node = start(world, name)
        lan = LANS[name][0]
        peers = (*node.settings.peers, peer("t", third, f"192.168.{lan}.5"))
        routers = (R, S, third) if name in CLIENTS else (*node.settings.routers, third)
        node.reload(replace(node.settings, peers=peers, routers=routers), world.now)
    world.run(3.0)
    stream = Stream(world, per_s=500)
    for dead, carry in ((None, [R, S]), ("r", [S, third]), ("s", [third])):
        if dead:
            stop(world, dead)
        stream.run(4.0)
        routers = world.nodes["a"].status(world.now)["routers"]
        assert [router["host"] for router in routers if router["carries"]] == carry
    stream.assert_each_came_once()


def test_routers_are_started_anew_one_after_the_other_under_traffic():
    world = network()
    stream = Stream(world, per_s=500)
    stream.run(0.2)
    for name in ROUTERS:
        stop(world, name)
        stream.run(1.0)
        start(world, name)
        for _ in range(60):
            stream.run(0.1)
            if not world.nodes[name].unreached():
                break
        assert not world.nodes[name].unreached()
        stream.run(0.3)
    stream.assert_each_came_once()


def test_a_rollover_of_all_sessions_costs_nothing():
    world = network(rollover_s=3.0)
    stream = Stream(world, per_s=200)
    stream.run(8.0)
    assert world.peer("a", R)["session"]["rollovers"] >= 2
    stream.assert_each_came_once()


def test_losses_and_late_copies_change_nothing_of_it():
    world = network(seed=7)
    world.jitter_s = 0.02
    world.twice = 0.2
    stream = Stream(world, per_s=500)
    stream.run(2.0)
    stream.assert_each_came_once()


def test_one_client_that_starts_anew_counts_from_another_start():
    world = network()
    stream = Stream(world)
    stream.run(0.1)
    stop(world, "a")
    start(world, "a")
    world.run(3.0)
    stream.run(0.1)
    stream.assert_each_came_once()


def old(world, name):
    """Have a host say nothing of labels, as versions before them."""
    world.nodes[name]._peers.dialogue.features = 0


@pytest.mark.parametrize("name", ["c", "r", "s", "a"])
def test_beside_a_host_of_an_older_version_packets_come_once(name):
    world = SecureWorld()
    for one in HOSTS:
        start(world, one)
        if one == name:
            old(world, one)
    world.run(3.0)
    stream = Stream(world)
    stream.run(0.2)
    stream.assert_each_came_once()
    # It got no frame that it does not know.
    own = [f"192.168.{lan}.{NUMBER[name]}" for lan in LANS[name]]
    got = {datagram[0] for _, _, to, datagram in world.captured if to[0] in own}
    # Nothing goes through a second router that is old.
    assert (DATA in got) == (name != "s")
    assert not got & LABELLED_TYPES


def labelled(world, client, router, label, packet):
    """Have a client that has a valid key send a packet with a label of its choice."""
    session = world.nodes[client].tables.strands[router].session
    first, texts = session.seal_run(bytes((LABELLED,)), [label + packet])
    return HEADER.pack(LABELLED, 0, 0, session.remote_index, first) + texts[0]


def test_a_client_that_calls_itself_another_origin_is_not_believed():
    world = network()
    mine, forged = ipv4.pack(A), ipv4.pack(C)
    source, to = ("192.168.0.3", PORT), ("192.168.0.1", PORT)
    cases = [
        (encode_label(forged, 1, 0, False), udp(A, C, b"x" * 40), "spoofed"),
        (encode_label(mine, 1, 0, False), udp(C, A, b"x" * 40), "spoofed"),
        (encode_label(mine, 1, 0, False), b"", "malformed_inner"),
        (b"\x0a\0", b"", "malformed_inner"),
        (b"", b"", "malformed_inner"),
    ]
    for label, packet, reason in cases:
        before = world.dropped("r").get(reason, 0)
        world.arrive(labelled(world, "a", R, label, packet), source, to)
        world.run(0.1)
        assert world.dropped("r")[reason] == before + 1
    assert not world.delivered["c"]
    assert not world.delivered["a"]


def test_a_client_takes_labels_of_others_from_its_routers_only():
    world = network()
    own = ipv4.pack(C)
    # A router may not say that a packet comes from the client itself.
    frame = labelled(world, "r", C, encode_label(own, 1, 0, False), udp(A, C, b"x" * 40))
    world.arrive(frame, ("192.168.1.1", PORT), ("192.168.1.4", PORT))
    world.run(0.1)
    assert world.dropped("c")["spoofed"] == 1
    assert not world.delivered["c"]


def test_a_flood_of_starts_keeps_two_and_those_of_others():
    origins, packet = Origins(), b"packet"
    other = encode_label(ipv4.pack(C), 5, 9, False)
    assert origins.first_copies([packet], [other], R) == [packet]
    for start in range(500):
        label = encode_label(ipv4.pack(A), start, 0, False)
        assert origins.first_copies([packet], [label], R) == [packet]
        assert origins.first_copies([packet], [label], S) == []
    assert origins.first_copies([packet], [other], S) == []
    assert sorted(map(len, origins._origins.values())) == [1, tuning.MAX_STARTS]


def test_hosts_are_forgotten_in_the_order_in_which_they_were_heard_last():
    origins = Origins()
    labels = [encode_label(n.to_bytes(4, "big"), 1, 0, False) for n in range(600)]
    for label in labels:
        origins.first_copies([b"packet"], [label], R)
        origins.first_copies([b"packet"], [labels[0]], R)
    assert len(origins._origins) == tuning.MAX_ORIGINS
    assert origins.first_copies([b"packet"], [labels[0]], R) == []
    assert origins.first_copies([b"packet"], [labels[1]], R) == [b"packet"]


def pieces(label, count):
    return [with_piece(label, n, n == count) for n in range(1, count + 1)]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_one_router_make_a_packet_whole_once(seed):
    """In any order, two routers bring the packet in pieces of different sizes."""
    print(f"seed {seed}")
    order = random.Random(seed)
    origins = Origins()
    label = encode_label(ipv4.pack(A), 1, 7, False)
    arrivals = [(R, n, one) for n, one in enumerate(pieces(label, 3))]
    arrivals += [(S, n, one) for n, one in enumerate(pieces(label, 4))]
    arrivals += arrivals[:2]
    order.shuffle(arrivals)
    came = [(by, n) for by, n, one in arrivals if origins.first_copies([b"a piece"], [one], by)]
    (by,) = {by for by, _ in came}
    assert sorted(n for _, n in came) == list(range(3 if by == R else 4))
    assert origins.first_copies([b"whole"], [label], S) == []


def test_a_whole_packet_goes_on_though_another_router_has_brought_some_of_its_pieces():
    origins = Origins()
    label = encode_label(ipv4.pack(A), 1, 7, False)
    first, second, _ = pieces(label, 3)
    assert origins.first_copies([b"1"], [first], R) == [b"1"]
    assert origins.first_copies([b"whole"], [label], S) == [b"whole"]
    assert origins.first_copies([b"2"], [second], R) == []


def test_packets_that_lack_pieces_are_bounded():
    origins = Origins()
    for count in range(1000):
        one = with_piece(encode_label(ipv4.pack(A), 1, count, False), 1, False)
        origins.first_copies([b"1"], [one], R)
    ((start,),) = [starts.values() for starts in origins._origins.values()]
    assert len(start.pieces) == tuning.MAX_IN_PIECES


def test_after_the_last_count_another_start_begins():
    world = network()
    several = world.nodes["a"]._several
    stream = Stream(world)
    stream.run(0.01)
    several._count = COUNT_END - 5
    stream.run(0.02)
    stream.assert_each_came_once()
    assert several._count < 20


def narrow(world, name, mtu):
    """Have what leads to a host carry smaller packets."""
    for lan in LANS[name]:
        world.mtu[f"192.168.{lan}.{NUMBER[name]}"] = mtu


@pytest.mark.parametrize("name", ["r", "c", "a"])
def test_a_large_packet_comes_once_in_pieces_where_a_way_is_narrow(name):
    """A router that has to cut cuts what the other one passes on whole, or otherwise."""
    world = SecureWorld()
    narrow(world, name, 800)
    for one in HOSTS:
        start(world, one)
    world.run(30.0)
    for count in range(20):
        world.send("a", udp(A, C, count.to_bytes(2, "big") * 600, ident=count + 1, word=0))
        world.run(0.05)
    world.run(1.0)
    whole = reassembled(world.delivered["c"])
    assert sorted(one[:2] for one in whole) == [count.to_bytes(2, "big") for count in range(20)]


def reassembled(packets):
    """The payloads that a kernel makes of packets: it gives each up once it is whole."""
    found, parts = [], {}
    for packet in packets:
        word = int.from_bytes(packet[6:8], "big")
        offset, more = (word & 0x1FFF) * 8, word & 0x2000
        if not offset and not more:
            found.append(packet[20:])
            continue
        of_one = parts.setdefault(packet[4:6], {})
        assert offset not in of_one, "a fragment came twice"
        of_one[offset] = (packet[20:], more)
        payload = b""
        while len(payload) in of_one and of_one[len(payload)][1]:
            payload += of_one[len(payload)][0]
        if len(payload) in of_one:
            found.append(payload + of_one[len(payload)][0])
            del parts[packet[4:6]]
    assert not parts
    return found


def test_a_packet_that_must_not_be_cut_is_refused_with_the_size_that_fits():
    world = SecureWorld()
    narrow(world, "c", 800)
    for one in HOSTS:
        start(world, one)
    world.run(30.0)
    world.send("a", udp(A, C, b"x" * 1200))
    world.run(0.5)
    errors = [one for one in world.delivered["a"] if one[9] == 1]
    assert errors
    for error in errors:
        assert error[20:22] == bytes((3, 4))
        fits = int.from_bytes(error[26:28], "big")
        assert fits <= 800 - 28 - 32 - 12
    world.send("a", udp(A, C, b"y" * (fits - 20)))
    world.run(0.5)
    assert [one for one in world.delivered["c"] if one[9] == 17][-1][20:] == b"y" * (fits - 20)
    assert len([one for one in world.delivered["c"] if one[9] == 17]) == 1


def test_a_router_that_has_no_way_to_the_destination_says_nothing():
    """The other router's copy arrives: an error would end a flow that works."""
    world = network()
    world.lost.add(f"192.168.1.{NUMBER['r']}")
    stream = Stream(world, per_s=200)
    stream.run(4.0)
    assert [one for one in world.delivered["a"] if one[9] == 1] == []
    stream.assert_each_came_once()


def test_a_host_that_is_nowhere_costs_no_loop():
    world = network()
    stop(world, "c")
    world.run(8.0)
    seen = len(world.captured)
    for count in range(50):
        world.send("a", numbered(A, C, count))
    world.run(0.2)
    data = [one for _, _, _, one in world.captured[seen:] if one[0] in PACKET_TYPES]
    # Each router has handed its copy to the other one, which goes no further with it.
    assert len(data) == 200


def test_explain_and_status_name_both_routers():
    world = network()
    node = world.nodes["a"]
    assert node.explain(Question(C), world.now)["next_hops"] == [R, S]
    carry = [{"host": host, "established": True, "carries": True} for host in (R, S)]
    assert node.status(world.now)["routers"] == carry
    stop(world, "r")
    Stream(world, per_s=100).run(4.0)
    assert node.explain(Question(C), world.now)["next_hops"] == [S]
    assert node.status(world.now)["routers"][0] == {
        "host": R, "established": False, "carries": False,
    }  # fmt: skip


def test_the_first_two_of_three_routers_carry():
    world = network()
    node = world.nodes["a"]
    node.reload(replace(node.settings, routers=(S, R)), world.now)
    assert [strand.host for strand in node._routes.hops(ipv4.pack(C))] == [S, R]
    node.reload(replace(node.settings, routers=(S,)), world.now)
    assert [strand.host for strand in node._routes.hops(ipv4.pack(C))] == [S]
    stream = Stream(world)
    stream.run(0.1)
    stream.assert_each_came_once()


def test_a_learnt_route_goes_before_the_routers_of_the_configuration():
    world = network()
    routes, destination = world.nodes["a"]._routes, ipv4.pack(C)
    routes.set_learnt({parse("10.0.0.4/32"): [S], parse("10.0.0.0/24"): [R]})
    assert [strand.host for strand in routes.hops(destination)] == [S]
    routes.set_learnt({parse("10.9.0.0/16"): [S, R]})
    assert [strand.host for strand in routes.hops(destination)] == [R, S]
    assert [strand.host for strand in routes.hops(ipv4.pack("10.9.1.1"))] == [S, R]
    assert routes.hops(ipv4.pack("10.8.1.1")) == ()


ORDERED = TrafficClass("sorted", Match(), hold_ms=100)


def test_ordered_classes_work_through_two_routers():
    world = network(classes=(ORDERED,))
    stream = Stream(world, per_s=500)
    stream.run(1.0)
    stop(world, "r")
    stream.run(3.0)
    stream.assert_each_came_once()
    for name in CLIENTS:
        assert stream.came(name) == sorted(stream.came(name))
    assert LABELLED_LANE in {one[0] for _, _, _, one in world.captured}


def test_partial_checksums_pass_through_two_routers():
    world = SecureWorld()
    for name in HOSTS:
        start(world, name).take_partial()
    world.run(3.0)
    # A UDP header whose checksum covers only the pseudo-header.
    packet = udp(A, C, b"\0\x09\0\x09\0\x30" + partial_sum(A, C, 48) + b"x" * 40)
    world.nodes["a"].outbound([packet], world.now, True)
    world.run(0.5)
    assert world.delivered["c"] == [ipv4.complete(ipv4.with_ttl_decreased(packet))]
    assert LABELLED_PARTIAL in {one[0] for _, _, _, one in world.captured}


def partial_sum(source, destination, size):
    """The checksum of the pseudo-header (RFC 768), not complemented."""
    pseudo = ipv4.pack(source) + ipv4.pack(destination) + bytes((0, 17)) + size.to_bytes(2, "big")
    return (ipv4.checksum(pseudo) ^ 0xFFFF).to_bytes(2, "big")


@functools.lru_cache(maxsize=None)
def hostile():
    """A network for many lies; what one leaves behind does not help the next one."""
    return network()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=80), min_size=1, max_size=4),
    st.sampled_from(sorted(LABELLED_TYPES)),
)
def test_no_text_with_a_label_raises(texts, kind):
    """Neither from a client with a valid key, nor from a router."""
    world, label = hostile(), encode_label(ipv4.pack(A), 1, 1, False)
    for sender, host, receiver, source, to in (
        ("a", R, "r", "192.168.0.3", "192.168.0.1"),
        ("r", C, "c", "192.168.1.1", "192.168.1.4"),
    ):
        session = world.nodes[sender].tables.strands[host].session
        ad, packets = bytes((kind,)), [label + text for text in texts] + list(texts)
        lane = lane_of(kind)
        first, sealed = (
            session.seal_run(ad, packets) if lane < 0 else session.seal_lane(ad, lane, packets)
        )
        for count, text in enumerate(sealed, first):
            frame = HEADER.pack(kind, 0, 0, session.remote_index, count) + text
            world.arrive(frame, (source, PORT), (to, PORT))
        world.nodes[receiver].take_packets()


def test_a_copy_of_the_machine_draws_another_start():
    world = network()
    stream = Stream(world)
    stream.run(0.01)
    node = world.nodes["a"]
    starts = {node._several._start}
    for end in (node.replace_sessions, lambda *new: node.end_sessions("a copy", *new)):
        end(next(world.epoch), (bytes(32),), world.now)
        world.run(2.0)
        stream.run(0.01)
        starts.add(node._several._start)
    assert len(starts) == 3
    stream.assert_each_came_once()
