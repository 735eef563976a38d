"""Many packets at once: runs out, trains in, checksums that are left to the receiver."""

import random
import struct
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.frame.data import (
    CONTROL,
    DATA,
    LINK_PART,
    MESSAGE,
    OVERHEAD,
    PARTIAL,
    PARTIAL_AD,
    Train,
)
from ropeway.core.packet import ipv4, runs
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import (
    PORT,
    SecureWorld,
    frames,
    link,
    pair,
    peer,
    received,
    three,
)

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
TCP, UDP = 6, 17
DATA_KINDS = (DATA, PARTIAL)
#: The order of protocols' partial sums: where each one's checksum stands in its header.
CHECKSUM_AT = {TCP: 16, UDP: 6}


def ones_sum(data):
    """The sum of RFC 1071, word by word, not complemented."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(packet):
    size = (packet[0] & 15) << 2
    return packet[12:20] + bytes((0, packet[9])) + struct.pack(">H", len(packet) - size)


def partial(src=A, dst=B, payload=b"x" * 500, protocol=TCP, ident=1, ttl=64, word=0x4000, tos=0):
    """A packet whose checksum field holds the pseudo-header's sum, as Linux leaves it."""
    if protocol == TCP:
        ports = struct.pack(">HHIIBBHHH", 5000, 80, ident, 7, 5 << 4, 0x10, 500, 0, 0)
    else:
        ports = struct.pack(">HHHH", 5000, 53, 8 + len(payload), 0)
    packet = bytearray(udp(src, dst, ports + payload, ttl, ident, word, tos))
    packet[9] = protocol
    packet[10:12] = b"\0\0"
    packet[10:12] = ipv4.checksum(bytes(packet[:20])).to_bytes(2, "big")
    at = 20 + CHECKSUM_AT[protocol]
    packet[at : at + 2] = ones_sum(pseudo_header(packet)).to_bytes(2, "big")
    return bytes(packet)


def is_right(packet):
    """Whether the checksums of the IP header and of what it carries are right."""
    size = (packet[0] & 15) << 2
    return ones_sum(packet[:size]) == ones_sum(pseudo_header(packet) + packet[size:]) == 0xFFFF


def connected(taking="ab"):
    """The pair, established; hosts in ``taking`` take partial packets."""
    world = pair()
    for name in taking:
        world.nodes[name].take_partial()
    return met(world)


def met(world):
    """The same hosts once they know each other; what they have said and dropped is cleared."""
    world.run(1.0)
    # The first packet to a host finds the way there.
    ways = [(name, node.settings.address) for name, node in world.nodes.items()]
    for name, source in ways:
        for _, destination in ways:
            if source != destination:
                world.send(name, udp(source, destination))
    world.run(0.5)
    for name, node in world.nodes.items():
        node.tables.dropped.clear()
        node.router.carried = node.router._delivered = node.router._forwarded = 0
        node._receiver.duplicates = 0
        for strand in node.tables.strands.values():
            strand.delivered = strand.duplicates = 0
        world.delivered[name].clear()
    return world


def routed(taking="arc"):
    world = three()
    for name in taking:
        world.nodes[name].take_partial()
    return met(world)


def trains_of(world, name):
    """(link index, endpoint) -> the trains of data that a host sends."""
    return {
        (key[0], endpoint): [t for t in trains if t.frames()[0][0] in DATA_KINDS]
        for (key, endpoint), trains in world.nodes[name].take_trains().items()
        if any(t.frames()[0][0] in DATA_KINDS for t in trains)
    }


def sent(world, name, packets, partial=False):
    """The trains over the host's first connection, the others being alike but for their heads."""
    world.nodes[name].outbound(packets, world.now, partial)
    return next(iter(trains_of(world, name).values()), [])


def give(world, data, size, name="b", to="192.168.0.3", source="192.168.0.2"):
    """Have a host receive ``data`` in one piece; give the packets for its device."""
    node = world.nodes[name]
    link = next(one.index for one in node._peers.links if f"{to}/24" in one.addresses)
    node.inbound([(data, (source, PORT), size)], (link, to), world.now)
    return node.take_packets()


def sizes(trains):
    return [(train.size, train.count) for train in trains]


def packets_of(count, size=500, **changes):
    return [udp(A, B, (b"%08d" % n * size)[:size], ident=n, **changes) for n in range(count)]


# Runs.


class TestRuns:
    def test_packets_that_are_alike_leave_in_one_train_a_connection(self):
        world = connected()
        before = {c["link"]: c for c in world.peer("a", B)["connections"]}
        packets = packets_of(40)
        world.nodes["a"].outbound(packets, world.now)
        ways = trains_of(world, "a")
        assert set(ways) == {(2, ("192.168.0.3", PORT)), (3, ("192.168.1.3", PORT))}
        tails = []
        for (number, _), trains in ways.items():
            (train,) = trains
            assert (train.size, train.count) == (520 + OVERHEAD, 40)
            heads = [struct.unpack("<BBH4sQ", f[:16]) for f in train.frames()]
            assert {kind for kind, *_ in heads} == {DATA}
            assert len({(way, index) for _, way, _, index, _ in heads}) == 1
            start, first = before[number]["sent"] + 1, heads[0][4]
            assert [h[2] for h in heads] == list(range(start, start + 40))
            assert [h[4] for h in heads] == list(range(first, first + 40))
            tails.append([f[4:] for f in train.frames()])
            now = next(c for c in world.peer("a", B)["connections"] if c["link"] == number)
            assert now["sent"] - before[number]["sent"] == 40
            assert now["sent_bytes"] - before[number]["sent_bytes"] == 40 * train.size
        assert tails[0] == tails[1]

    def test_sequences_and_counters_go_on_from_train_to_train(self):
        world = connected()
        one = sent(world, "a", packets_of(3)) + sent(world, "a", packets_of(2))
        heads = [struct.unpack("<BBH4sQ", f[:16]) for f in frames(one)]
        assert len(one) == 2
        assert [h[2] for h in heads] == list(range(heads[0][2], heads[0][2] + 5))
        assert [h[4] for h in heads] == list(range(heads[0][4], heads[0][4] + 5))

    def test_the_link_sequence_goes_round_inside_a_train(self):
        world = connected()
        for connection in world.nodes["a"].tables.strands[B].carrying:
            connection.sequence = 0xFFFD
        (train,) = sent(world, "a", packets_of(5))
        numbers = [int.from_bytes(f[2:4], "little") for f in train.frames()]
        assert numbers == [0xFFFE, 0xFFFF, 0, 1, 2]

    @pytest.mark.parametrize(
        "other",
        [
            {"dst": C},
            {"payload": b"x" * 499, "tos": 4},
            {"ttl": 63},
            {"word": 0},
            {"word": 0x2000},
            {"tos": 4},
        ],
    )
    def test_a_packet_that_differs_begins_another_run(self, other):
        world = routed("")
        like = {"src": A, "dst": B, "payload": b"x" * 500}
        packets = [udp(**like), udp(**like), udp(**{**like, **other}), udp(**like)]
        trains = sent(world, "a", packets)
        assert [train.count for train in trains] == [2, 1, 1]

    def test_a_larger_packet_begins_another_run(self):
        world = connected()
        packets = [udp(A, B, b"x" * size) for size in (500, 500, 501, 500)]
        assert sizes(sent(world, "a", packets)) == [(552, 2), (553, 2)]

    def test_a_packet_of_another_protocol_begins_another_run(self):
        world = connected()
        other = partial(payload=b"x" * 480, protocol=TCP)
        same = partial(payload=b"x" * 492, protocol=UDP)
        assert len(other) == len(same)
        assert [t.count for t in sent(world, "a", [same, same, other, same])] == [2, 1, 1]

    def test_a_run_ends_at_64_packets(self):
        world = connected()
        assert [t.count for t in sent(world, "a", packets_of(150, 100))] == [64, 64, 22]

    @pytest.mark.parametrize("size", [900, 964, 965, 1000, 1400])
    def test_a_run_fits_into_a_datagram_of_ip(self, size):
        world = connected()
        trains = sent(world, "a", packets_of(130, size))
        assert sum(t.count for t in trains) == 130
        limit = min(tuning.MAX_RUN, tuning.MAX_RUN_BYTES // len(packets_of(1, size)[0]))
        assert [t.count for t in trains][:-1] == [limit] * (len(trains) - 1)
        # 65535 less the largest header of an IP packet: IPv6's is not part of its length.
        assert all(len(b"".join(t.parts)) <= 65535 - 28 for t in trains)

    def test_a_shorter_last_packet_belongs_to_its_run(self):
        world = connected()
        before = world.peer("a", B)["connections"][0]["sent_bytes"]
        trains = sent(world, "a", [*packets_of(3), *packets_of(1, 420), *packets_of(2)])
        assert sizes(trains) == [(552, 4), (552, 2)]
        assert [len(f) for f in trains[0].frames()] == [552, 552, 552, 472]
        after = world.peer("a", B)["connections"][0]["sent_bytes"]
        assert after - before == 5 * 552 + 472

    def test_after_a_shorter_packet_a_run_does_not_go_on(self):
        world = connected()
        trains = sent(world, "a", [*packets_of(2), *packets_of(1, 420), *packets_of(2, 420)])
        assert [t.count for t in trains] == [3, 2]

    def test_a_small_packet_goes_into_no_train_of_large_ones_but_of_its_own_flow(self):
        world = connected()
        other = udp(A, B, b"other ports than theirs")
        trains = sent(world, "a", [*packets_of(3), other])
        assert sizes(trains) == [(552, 3), (len(other) + OVERHEAD, 1)]
        trains = sent(world, "a", [*packets_of(3), *packets_of(1, 20)])
        assert sizes(trains) == [(552, 4)]
        trains = sent(world, "a", [*packets_of(3, 100), *packets_of(1, 20)])
        assert sizes(trains) == [(152, 4)]

    @pytest.mark.parametrize(("size", "shape"), [(1470, [1396, 114]), (3000, [1396, 1396, 268])])
    def test_fragments_of_a_packet_make_a_train_however_small_the_last_is(self, size, shape):
        """Where frames have to wait small ones go ahead, but then nobody could put it together."""
        world = connected()
        packets = [
            piece
            for ident in range(3)
            for piece in ipv4.fragments(udp(A, B, bytes(size), ident=ident, word=0), 1400)
        ]
        trains = sent(world, "a", packets)
        assert [[len(f) - OVERHEAD for f in t.frames()] for t in trains] == [shape] * 3
        assert give(world, b"".join(trains[0].parts), trains[0].size) == packets[: len(shape)]

    def test_fragments_that_the_host_makes_itself_make_a_train(self):
        world = connected()
        (train,) = sent(world, "a", [udp(A, B, bytes(1470), word=0)])
        assert [len(f) - OVERHEAD for f in train.frames()] == [1436, 74]

    @pytest.mark.parametrize(
        "other",
        [
            {"ident": 8},
            {"ttl": 63},
            {"dst": C},
            {"word": 0},
        ],
        ids=str,
    )
    def test_only_what_is_of_the_same_packet_is_taken_for_its_end(self, other):
        first = udp(A, B, bytes(1000), ident=7, word=0x2000)
        last = udp(**{"src": A, "dst": B, "payload": b"end", "ident": 7, "word": 126, **other})
        assert list(runs.cut([first, last], Drop.NOT_IPV4, Counter())) == [[first], [last]]

    def test_what_is_no_packet_is_counted_and_breaks_nothing(self):
        world = connected()
        good = packets_of(4)
        junk = [b"", b"\x60" + bytes(60), good[0][:-1], good[0] + b"x", b"\x45"]
        mixed = [junk[0], good[0], junk[1], good[1], junk[2], junk[3], good[2], good[3], junk[4]]
        (train,) = sent(world, "a", mixed)
        assert train.count == 4
        assert world.dropped("a") == {"not_ipv4": 4, "ipv6": 1}

    def test_packets_of_another_source_are_left_out_of_a_run(self):
        world = connected()
        strange = [udp(C, B), udp(C, B)]
        assert [t.count for t in sent(world, "a", [udp(A, B), *strange, udp(A, B)])] == [1, 1]
        assert world.dropped("a") == {"foreign_source": 2}

    def test_each_flow_keeps_its_order_across_runs(self):
        world = connected()
        chance = random.Random(3)
        packets = [
            udp(A, B, bytes([n]) * chance.choice([40, 40, 40, 100, 7]), ident=n) for n in range(200)
        ]
        world.send("a", *packets)
        world.run(0.1)
        assert world.delivered["b"] == packets

    def test_packets_too_large_for_a_run_of_their_size_go_one_by_one(self):
        world = connected()
        large = [udp(A, B, b"x" * 1600, word=0, ident=n) for n in range(3)]
        world.send("a", *large)
        world.run(0.1)
        pieces = world.delivered["b"]
        assert len(pieces) == 6
        assert {p[4:6] for p in pieces} == {n.to_bytes(2, "big") for n in range(3)}

    def test_frames_of_a_train_are_cut_apart_whatever_its_parts(self):
        whole = [bytes([n]) * 10 for n in range(3)] + [b"end"]
        halved = [part for f in whole for part in (f[:4], f[4:])]
        assert Train(10, 4, whole).frames() == whole
        assert Train(10, 4, halved).frames() == whole
        assert Train(3, 1, [b"a", b"bc"]).frames() == [b"abc"]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([B, C]),
                st.integers(0, 90),
                st.sampled_from([0, 0x4000, 0x2000, 0x2001, 1]),
                st.integers(0, 2),
            ),
            max_size=80,
        )
    )
    @settings(max_examples=30, deadline=None)
    def test_runs_lose_nothing_and_change_no_order(self, shapes):
        packets = [
            udp(A, dst, bytes(size), ident=ident, word=word) for dst, size, word, ident in shapes
        ]
        found = list(runs.cut(packets, Drop.NOT_IPV4, Counter()))
        assert [p for run in found for p in run] == packets
        for run in found:
            assert len({(p[12:20], p[8:10], ipv4.is_fragment(p)) for p in run}) == 1
            assert {len(p) for p in run[:-1]} <= {len(run[0])}
            assert len(run[-1]) <= len(run[0])
            assert len(run) <= tuning.MAX_RUN


# What arrives in one piece.


def sealed_train(world, count=10, size=200, last=None):
    """A train of data from a to b over their first connection, and its packets."""
    packets = packets_of(count, size)
    if last:
        packets[-1] = udp(A, B, b"y" * last)
    (train,) = sent(world, "a", packets)
    return train, packets


class TestArriving:
    @pytest.mark.parametrize("last", [None, 20])
    def test_a_train_arrives_in_one_piece(self, last):
        world = connected("")
        train, packets = sealed_train(world, last=last)
        before = next(c for c in world.peer("b", A)["connections"] if c["link"] == 12)
        whole = b"".join(train.parts)
        assert give(world, whole, train.size) == packets
        after = next(c for c in world.peer("b", A)["connections"] if c["link"] == 12)
        assert after["received"] - before["received"] == 10
        assert after["received_bytes"] - before["received_bytes"] == len(whole)
        assert after["first"] - before["first"] == 10
        assert world.dropped("b") == {}

    def test_a_train_may_arrive_apart(self):
        world = connected("")
        train, packets = sealed_train(world)
        for frame, packet in zip(train.frames(), packets):
            assert give(world, frame, len(frame)) == [packet]

    @pytest.mark.parametrize("size", [1, 7, 15, 16, 17, 24, 31, 32, 33])
    @pytest.mark.parametrize("kind", [*range(9), 255])
    def test_small_frames_of_a_piece_are_looked_at_one_by_one(self, size, kind):
        """Whoever sends from a peer's address decides what the kernel makes one piece of."""
        world = connected()
        index = next(iter(world.nodes["b"].tables.sessions.by_index))
        frame = (bytes((kind, 0, 0, 0)) + index + bytes(40))[:size]
        apart = connected()
        for name, target in (("whole", world), ("apart", apart)):
            for _ in range(1 if name == "whole" else 5):
                assert give(target, frame * (5 if name == "whole" else 1), size) == []
        counted = [world.dropped("b"), world.peer("b", A)["duplicates"]]
        assert counted == [apart.dropped("b"), apart.peer("b", A)["duplicates"]]
        # Later copies of messages are as they should be.
        assert counted != [{}, 0] or (kind, size) in ((MESSAGE, 32), (MESSAGE, 33))

    def test_what_is_slipped_between_is_counted_and_the_rest_arrives(self):
        world = connected("")
        train, packets = sealed_train(world)
        good = train.frames()
        size = train.size
        forged = bytearray(good[3])
        forged[-1] ^= 1
        stranger = bytearray(good[4])
        stranger[4:8] = b"none"
        control = (b"\5\0\0\0" + good[0][4:8] + b"\xff" * 8).ljust(size, b"c")
        odd = [bytes(forged), bytes(stranger), control, b"\x0f" * size, b"\x01" + bytes(size - 1)]
        mixed = [x for pair_ in zip(good[:5], odd) for x in pair_] + good[5:] + [b"\x04" * 20]
        assert give(world, b"".join(mixed), size) == packets
        assert world.dropped("b") == {"forged": 2, "unknown_session": 1, "malformed": 3}

    def test_frames_of_two_sessions_in_one_piece(self):
        world = connected("")
        old, first = sealed_train(world, 4)
        strand = world.nodes["a"].tables.strands[B]
        before = strand.session
        strand.request.due = world.now
        world.nodes["a"]._peers._timers.bring_forward(strand, world.now)
        world.run(0.0)
        for _ in range(200):
            if strand.session is not before:
                break
            world.run(1.0)
        assert strand.session is not before
        new, second = sealed_train(world, 4, 200)
        mixed = [f for two in zip(old.frames(), new.frames()) for f in two]
        world.delivered["b"].clear()
        came = give(world, b"".join(mixed), old.size)
        assert came == [p for two in zip(first, second) for p in two]

    def test_a_control_frame_in_a_piece_counts(self):
        world = connected("")
        world.run(30.0)
        world.lost = {"192.168.0.2", "192.168.1.2"}
        world.captured.clear()
        # When data begins to flow every connection speaks.
        world.send("a", udp(A, B))
        world.run(0.01)
        control = next(
            f
            for _, source, _, f in world.captured
            if source[0] == "192.168.0.2" and f[0] == CONTROL
        )
        size = len(control)
        train, packets = sealed_train(world, 4, size - OVERHEAD - 20)
        assert train.size == size
        strand = world.nodes["b"].tables.strands[A]
        session = strand.session
        top = session.window.top
        mixed = [*train.frames()[:2], control, *train.frames()[2:]]
        assert give(world, b"".join(mixed), size) == packets
        assert session.window.check(int.from_bytes(control[8:16], "little")) == 1
        assert session.window.top >= top
        assert give(world, b"".join(mixed), size) == []
        assert world.dropped("b") == {"replayed": 1}

    def test_a_frame_that_stands_twice_in_a_piece_is_delivered_once(self):
        world = connected("")
        train, packets = sealed_train(world, 3)
        one, two, three_ = train.frames()
        assert give(world, one + one + two + three_ + two, train.size) == packets
        assert world.peer("b", A)["duplicates"] == 2

    def test_a_later_copy_of_a_train_costs_no_decryption(self):
        world = connected()
        packets = packets_of(30)
        world.nodes["a"].outbound(packets, world.now)
        first, second = (trains[0] for trains in trains_of(world, "a").values())
        calls = []
        for session in world.nodes["b"].tables.sessions.by_index.values():
            session.decrypt = counting(session.decrypt, calls)
        assert give(world, b"".join(first.parts), first.size) == packets
        assert len(calls) == 30
        assert give(world, b"".join(second.parts), second.size, to="192.168.1.3") == []
        assert len(calls) == 30
        assert world.peer("b", A)["duplicates"] == 30

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_whatever_is_cut_however_nothing_raises_and_nothing_comes_twice(self, data):
        world = ARRIVING
        count = data.draw(st.integers(1, 8))
        train, packets = sealed_train(world, count, data.draw(st.integers(8, 240)))
        whole = bytearray(b"".join(train.parts))
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(whole)))
            whole[at:at] = data.draw(st.binary(max_size=80))
        size = data.draw(st.sampled_from([train.size, data.draw(st.integers(1, 400))]))
        start = data.draw(st.integers(0, len(whole)))
        came = give(world, bytes(whole[start:]), size) + give(world, bytes(whole), train.size)
        assert len(came) == len(set(came))
        assert set(came) <= set(packets)
        rest = give(world, b"".join(train.parts), train.size)
        assert sorted(came + rest) == sorted(packets)
        assert world.nodes["b"].packets_in((bytes(whole), ("x", 1), size)) == max(
            1, -(-len(whole) // size)
        )

    @given(st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 320)), max_size=4))
    @settings(max_examples=80, deadline=None)
    def test_arbitrary_pieces_raise_nothing(self, pieces):
        world = ARRIVING
        given_ = [(data, ("192.168.0.2", PORT), size) for data, size in pieces]
        world.nodes["b"].inbound(given_, (12, "192.168.0.3"), world.now)
        assert world.nodes["b"].take_packets() == []
        for piece in given_:
            world.nodes["b"].flow(piece)
            assert world.nodes["b"].packets_in(piece) >= 1

    def test_packets_in_and_flow(self):
        world = connected("")
        node = world.nodes["b"]
        train, _ = sealed_train(world, 5, 500)
        small, _ = sealed_train(world, 5, 20)
        at = ("192.168.0.2", PORT)
        whole, little = b"".join(train.parts), b"".join(small.parts)
        assert node.packets_in((whole, at, train.size)) == 5
        assert node.packets_in((whole[:-1], at, train.size)) == 5
        assert node.packets_in((whole + b"x", at, train.size)) == 6
        assert node.packets_in(received(b"", at)) == node.packets_in((b"", at, 1)) == 1
        bulk = node.flow((whole, at, train.size))
        assert bulk == node.flow((whole, ("192.168.1.2", 1), train.size))
        assert bulk != node.flow((little, at, small.size)) is not None
        assert node.flow((b"\x07" + whole[1:], at, train.size)) is None
        node.take_partial()
        assert node.flow((b"\x07" + whole[1:], at, train.size)) == bulk
        # What says that a way works waits beside small packets, whatever its size.
        control = b"\x05" + whole[1:]
        assert node.flow((control, at, len(control))) == node.flow((little, at, small.size))
        for strange in (b"", b"\x04", b"\x05\0\0\0none" + bytes(40), b"\x04\0\0\0none" + bytes(40)):
            assert node.flow((strange, at, max(1, len(strange)))) is None


def counting(function, calls):
    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counted


ARRIVING = connected("")


# Partial packets.


@pytest.mark.parametrize("protocol", [TCP, UDP])
class TestPartial:
    def test_it_stays_partial_between_hosts_that_take_it(self, protocol):
        world = connected()
        packets = [partial(protocol=protocol, ident=n) for n in range(10)]
        (train,) = sent(world, "a", packets, partial=True)
        assert {f[0] for f in train.frames()} == {PARTIAL}
        assert give(world, b"".join(train.parts), train.size) == []
        assert world.nodes["b"].take_partial_packets() == packets
        assert world.nodes["b"].take_partial_packets() == []
        assert world.peer("b", A)["delivered"] == 10

    def test_who_does_not_take_it_gets_it_complete(self, protocol):
        world = connected("a")
        packets = [partial(protocol=protocol, ident=n, payload=b"odd" * (n + 1)) for n in range(9)]
        trains = sent(world, "a", packets, partial=True)
        assert {f[0] for f in frames(trains)} == {DATA}
        came = [p for t in trains for p in give(world, b"".join(t.parts), t.size)]
        assert came == [ipv4.complete(p) for p in packets]
        assert all(map(is_right, came))
        assert not any(map(is_right, packets))

    def test_it_is_announced_by_the_receiver_alone(self, protocol):
        world = connected("b")
        (train,) = sent(world, "a", [partial(protocol=protocol)], partial=True)
        assert train.frames()[0][0] == PARTIAL
        (train,) = sent(world, "b", [partial(B, A, protocol=protocol)], partial=True)
        assert train.frames()[0][0] == DATA

    def test_without_an_announcement_it_is_dropped_as_malformed(self, protocol):
        world = connected("")
        world.nodes["a"].tables.strands[B].session.takes_partial = True
        (train,) = sent(world, "a", [partial(protocol=protocol)] * 3, partial=True)
        assert train.frames()[0][0] == PARTIAL
        assert give(world, b"".join(train.parts), train.size) == []
        assert world.nodes["b"].take_partial_packets() == []
        assert world.dropped("b") == {"malformed": 3}

    def test_a_packet_that_waits_for_its_session_is_complete(self, protocol):
        world = pair()
        for node in world.nodes.values():
            node.take_partial()
        packet = partial(protocol=protocol)
        world.nodes["a"].outbound([packet], world.now, True)
        assert world.nodes["a"].router.carried == 0
        world.run(0.1)
        assert world.nodes["a"].router.carried == 1
        assert world.delivered["b"] == [ipv4.complete(packet)]
        assert is_right(world.delivered["b"][0])
        kinds = {f[0] for *_, f in world.captured if f[0] in DATA_KINDS}
        assert kinds == {DATA}

    def test_a_router_passes_it_on_as_it_is_but_for_its_ttl(self, protocol):
        world = routed()
        packets = [partial(A, C, protocol=protocol, ident=n) for n in range(5)]
        world.nodes["a"].outbound(packets, world.now, True)
        world.captured.clear()
        world.run(0.1)
        kinds = {f[0] for _, s, _, f in world.captured if f[0] in DATA_KINDS}
        assert kinds == {PARTIAL}
        expected = [ipv4.complete(ipv4.with_ttl_decreased(p)) for p in packets]
        assert world.delivered["c"] == expected
        assert all(map(is_right, expected))
        assert {p[8] for p in expected} == {63}
        assert world.nodes["r"].status(world.now)["counters"]["forwarded"] == 5
        assert {node.router.carried for node in world.nodes.values()} == {5}

    def test_a_router_completes_it_for_a_host_that_does_not_take_it(self, protocol):
        world = routed("ar")
        world.nodes["a"].outbound([partial(A, C, protocol=protocol)] * 2, world.now, True)
        world.captured.clear()
        world.run(0.1)
        last = {f[0] for _, s, e, f in world.captured if e[0] == "192.168.2.2"} & set(DATA_KINDS)
        assert last == {DATA}
        assert len(world.delivered["c"]) == 2
        assert all(map(is_right, world.delivered["c"]))

    def test_what_is_quoted_in_an_error_is_complete(self, protocol):
        world = routed()
        # What fits no link, what lives no longer at the router, and what nobody takes.
        small = b"x" * 100
        cases = [
            ("a", [partial(A, C, b"x" * 2000, protocol)], "too_big"),
            ("r", [partial(A, C, small, protocol, ttl=1)] * 2, "ttl"),
            ("r", [partial(A, "10.0.0.99", small, protocol)], "no_route"),
        ]
        for where, packets, reason in cases:
            world.delivered["a"].clear()
            before = world.dropped(where).get(reason, 0)
            world.nodes["a"].outbound(packets, world.now, True)
            world.run(0.1)
            assert world.dropped(where)[reason] - before == len(packets)
            errors = world.delivered["a"]
            assert len(errors) == len(packets), reason
            for error in errors:
                quoted = error[28:]
                whole = ipv4.complete(packets[0])
                assert quoted[20:] == whole[20 : len(quoted)], reason

    def test_a_packet_that_is_cut_into_fragments_is_complete(self, protocol):
        world = connected()
        packet = partial(payload=b"x" * 2500, protocol=protocol, word=0)
        world.nodes["a"].outbound([packet], world.now, True)
        world.run(0.1)
        pieces = world.delivered["b"]
        assert len(pieces) == 2
        payload = b"".join(piece[20:] for piece in pieces)
        assert payload == ipv4.complete(packet)[20:]

    def test_one_kind_of_frame_cannot_be_passed_off_as_another(self, protocol):
        world = connected()
        (train,) = sent(world, "a", [partial(protocol=protocol)] * 2, partial=True)
        (whole,) = sent(world, "a", [ipv4.complete(partial(protocol=protocol))] * 2)
        for frame in (*train.frames(), *whole.frames()):
            for kind in (DATA, CONTROL, PARTIAL):
                if kind != frame[0]:
                    assert give(world, bytes([kind]) + frame[1:], len(frame)) == []
        assert world.nodes["b"].take_partial_packets() == []
        assert world.dropped("b") == {"forged": 8}
        # Neither counter was used up.
        assert len(give(world, b"".join(whole.parts), whole.size)) == 2
        give(world, b"".join(train.parts), train.size)
        assert len(world.nodes["b"].take_partial_packets()) == 2

    def test_what_cannot_be_partial_is_dropped(self, protocol):
        world = connected()
        good = partial(payload=b"x" * 40, protocol=protocol)
        least = 20 if protocol == TCP else 8
        icmp = bytearray(good)
        icmp[9] = 1
        bad = [
            bytes(icmp),
            partial(payload=b"x" * 40, protocol=protocol, word=0x2000),
            partial(payload=b"x" * 40, protocol=protocol, word=0x0001),
            udp(A, B, bytes(least - 1)).replace(b"\x40\x11", bytes((64, protocol)), 1),
            b"",
            b"\x45",
            good + b"x",
        ]
        for packet in bad:
            frame = sealed_as_partial(world, packet)
            assert give(world, frame, len(frame)) == []
        assert world.nodes["b"].take_partial_packets() == []
        assert world.dropped("b") == {"malformed_inner": len(bad)}
        frame = sealed_as_partial(world, good)
        give(world, frame, len(frame))
        assert world.nodes["b"].take_partial_packets() == [good]

    def test_a_short_end_of_a_run_takes_nothing_along(self, protocol):
        world = connected()
        least = 20 if protocol == TCP else 8
        good = partial(payload=b"x" * 40, protocol=protocol)
        short = udp(A, B, bytes(least - 1)).replace(b"\x40\x11", bytes((64, protocol)), 1)
        data = b"".join(sealed_as_partial(world, packet) for packet in (good, good, short))
        give(world, data, len(good) + OVERHEAD)
        assert world.nodes["b"].take_partial_packets() == [good, good]
        assert world.dropped("b") == {"malformed_inner": 1}

    def test_a_peer_that_comes_back_without_it_gets_complete_packets_at_once(self, protocol):
        world = connected()
        world.add("b", B, list(world.nodes["b"]._peers.links), [peer("a", A)])
        packets = []
        for n in range(4000):
            packets.append(
                partial(protocol=protocol, ident=n % 65536, payload=n.to_bytes(4, "big"))
            )
            world.nodes["a"].outbound(packets[-1:], world.now, True)
            world.run(0.001)
        world.run(1.0)
        assert world.delivered["b"], "a session with the host that came back"
        assert all(map(is_right, world.delivered["b"]))
        missing = len(packets) - len(world.delivered["b"])
        assert world.delivered["b"] == [ipv4.complete(p) for p in packets[missing:]]
        assert set(world.dropped("b")) <= {"unknown_session"}

    def test_a_rollover_changes_neither_order_nor_number(self, protocol):
        world = pair(rollover_s=2.0)
        for node in world.nodes.values():
            node.take_partial()
        world.run(1.0)
        packets = []
        for n in range(3000):
            packets.append(partial(protocol=protocol, ident=n, payload=n.to_bytes(4, "big")))
            world.nodes["a"].outbound(packets[-1:], world.now, True)
            world.run(0.002)
        world.run(0.5)
        assert world.peer("a", B)["session"]["rollovers"] >= 2
        assert world.delivered["b"] == [ipv4.complete(p) for p in packets]


def sealed_as_partial(world, packet):
    """A frame of type PARTIAL from a to b that holds anything."""
    session = world.nodes["a"].tables.strands[B].session
    head = LINK_PART.pack(PARTIAL, 0, 0)
    return head + session.seal(PARTIAL_AD, packet)


def test_only_who_takes_partial_packets_announces_it():
    world = connected("b")
    assert world.nodes["a"].tables.strands[B].session.takes_partial is True
    assert world.nodes["b"].tables.strands[A].session.takes_partial is False
    world.nodes["a"].take_partial()
    world.run(20.0)
    assert world.nodes["b"].tables.strands[A].session.takes_partial is True


def test_a_new_session_is_not_believed_to_take_partial_packets_before_it_is_said():
    world = pair(rollover_s=2.0)
    for node in world.nodes.values():
        node.take_partial()
    world.run(1.0)
    fresh, told = set(), set()
    for _ in range(10000):
        world.run(0.001)
        for node in world.nodes.values():
            for session in node.tables.sessions.by_index.values():
                if session.takes_partial:
                    assert session.window.top >= 0
                    told.add(session)
                else:
                    fresh.add(session)
    assert len(fresh) >= 4
    assert len(fresh & told) >= 4


@pytest.mark.parametrize("delay_s", [0.0005, 0.02])
@pytest.mark.parametrize("later_s", [0.0, 0.0002, 0.01])
def test_hosts_that_call_each_other_at_once_learn_what_the_other_takes(delay_s, later_s):
    """Each may send under another session than the one it hears the other's frames under."""
    world = SecureWorld()
    world.delay_s = delay_s
    ends = (("a", A, 2, "192.168.0.2", "b", B, "192.168.0.3"),)
    ends += (("b", B, 12, "192.168.0.3", "a", A, "192.168.0.2"),)
    for name, host, index, own, other, there, far in ends:
        world.add(name, host, [link(index, own)], [peer(other, there, far)]).take_partial()
        world.run(later_s)
    world.run(1.0)
    assert world.nodes["a"].tables.strands[B].session.takes_partial
    assert world.nodes["b"].tables.strands[A].session.takes_partial


def test_complete_packets_never_become_partial():
    world = connected()
    packet = ipv4.complete(partial())
    (train,) = sent(world, "a", [packet])
    assert train.frames()[0][0] == DATA
    assert give(world, b"".join(train.parts), train.size) == [packet]
    assert world.nodes["b"].take_partial_packets() == []


def test_a_flow_that_goes_from_partial_to_complete_keeps_its_order():
    world = connected()
    early, late = partial(ident=1), ipv4.complete(partial(ident=2))
    one = sent(world, "a", [early], partial=True)
    two = sent(world, "a", [late])
    node = world.nodes["b"]
    pieces = [received(f, ("192.168.0.2", PORT)) for f in frames(one + two)]
    node.inbound(pieces, (12, "192.168.0.3"), world.now)
    # Complete packets are written first.
    written = node.take_packets() + [ipv4.complete(p) for p in node.take_partial_packets()]
    assert written == [ipv4.complete(early), late]


def test_order_is_kept_beside_other_partial_flows():
    world = connected()
    early, late = partial(ident=1), ipv4.complete(partial(ident=2))
    other = partial(protocol=17, ident=9)
    one = sent(world, "a", [early], partial=True)
    two = sent(world, "a", [other], partial=True)
    three = sent(world, "a", [late])
    node = world.nodes["b"]
    pieces = [received(f, ("192.168.0.2", PORT)) for f in frames(one + two + three)]
    node.inbound(pieces, (12, "192.168.0.3"), world.now)
    written = node.take_packets() + [ipv4.complete(p) for p in node.take_partial_packets()]
    assert written.index(ipv4.complete(early)) < written.index(late)
