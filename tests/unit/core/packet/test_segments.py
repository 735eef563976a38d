"""Cutting and merging, against slow and obvious words of the RFCs and of Linux GSO and GRO."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ropeway.core.packet import ipv4, segments
from ropeway.core.packet.segments import VNET

A, B = ipv4.pack("10.0.0.1"), ipv4.pack("10.0.0.2")
TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TIMESTAMP = b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\2"
DATA_VALID = 2


def word(number):
    return struct.pack(">H", number)


def valid_sum(data):
    return ipv4.checksum(data) == 0


def pseudo(packet):
    """Give the pseudo-header of a packet (RFC 9293, section 3.1)."""
    head = (packet[0] & 15) * 4
    return packet[12:20] + bytes((0, packet[9])) + word(len(packet) - head)


def partial_sum(packet):
    return ipv4.checksum(pseudo(packet)) ^ 0xFFFF


def ip(protocol, body, ident=1, fragment=0x4000, tos=0, ttl=64, ip_options=b"", src=A, dst=B):
    head = 20 + len(ip_options)
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | head // 4, tos, head + len(body), ident, fragment, ttl, protocol,
        0, src, dst,
    ) + ip_options  # fmt: skip
    return header[:10] + word(ipv4.checksum(header)) + header[12:] + body


def with_partial(packet):
    at = (packet[0] & 15) * 4 + (16 if packet[9] == TCP else 6)
    return packet[:at] + word(partial_sum(packet)) + packet[at + 2 :]


def tcp(
    payload=b"payload", sequence=1000, flags=ACK, ack=7, window=500, options=TIMESTAMP, ports=None,
    urgent=0, **network
):  # fmt: skip
    source, destination = ports or (1234, 80)
    header = struct.pack(
        ">HHIIBBHHH", source, destination, sequence, ack, 20 + len(options) << 2, flags, window, 0,
        urgent,
    )  # fmt: skip
    return with_partial(ip(TCP, header + options + payload, **network))


def udp(payload=b"payload", ports=(53, 5353), **network):
    header = struct.pack(">HHHH", *ports, 8 + len(payload), 0)
    return with_partial(ip(UDP, header + payload, **network))


def parts(packet):
    """Give the sizes of the IP header and of both headers."""
    head = (packet[0] & 15) * 4
    return head, head + (packet[head + 12] >> 4) * 4 if packet[9] == TCP else head + 8


def read_of(packet, size, kind=None, flags=segments.NEEDS_CSUM, hint=None):
    """Give what a device gives for a super-packet."""
    head, headers = parts(packet)
    place = 16 if packet[9] == TCP else 6
    if kind is None:
        kind = segments.GSO_TCPV4 if packet[9] == TCP else segments.GSO_UDP_L4
    return VNET.pack(flags, kind, headers if hint is None else hint, size, head, place) + packet


def reference(packet, size):
    """Cut a super-packet one field after the other."""
    head, headers = parts(packet)
    payload = packet[headers:]
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    cut = []
    for number, piece in enumerate(pieces):
        header = bytearray(packet[:headers])
        header[2:4] = word(headers + len(piece))
        header[4:6] = word((int.from_bytes(packet[4:6], "big") + number) % 0x10000)
        if packet[9] == TCP:
            sequence = int.from_bytes(packet[head + 4 : head + 8], "big") + number * size
            header[head + 4 : head + 8] = struct.pack(">I", sequence % (1 << 32))
            if number > 0:
                header[head + 13] &= ~CWR
            if number < len(pieces) - 1:
                header[head + 13] &= ~(FIN | PSH)
        else:
            header[head + 4 : head + 6] = word(8 + len(piece))
        header[10:12] = bytes(2)
        header[10:12] = word(ipv4.checksum(bytes(header[:head])))
        cut.append(with_partial(bytes(header) + piece))
    return cut


def split_one(read):
    ((packets, partial),) = segments.split([read])
    return packets, partial


def written(write):
    """Give the fields of the vnet header of a write, and its packet."""
    assert len(write[0]) >= VNET.size
    data = b"".join(write)
    return VNET.unpack_from(data), data[VNET.size :]


def cut_again(write):
    """Give the packets of a write as the kernel would see them on the wire, partial."""
    (_, kind, _, size, *_), packet = written(write)
    return reference(packet, size) if kind else [packet]


networks = st.fixed_dictionaries(
    {
        "ident": st.integers(0, 0xFFFF),
        "fragment": st.sampled_from((0, 0x4000, 0x8000)),
        "tos": st.integers(0, 255),
        "ttl": st.integers(1, 255),
        "src": st.binary(min_size=4, max_size=4),
        "dst": st.binary(min_size=4, max_size=4),
    }
)
sequences = st.integers(0, (1 << 32) - 1)
ports = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
words = st.binary(max_size=40).map(lambda data: data[: len(data) & ~3])


@st.composite
def super_packets(draw, plain=False):
    """Give a super-packet and the size of its segments."""
    size = draw(st.integers(1, 1500))
    count = draw(st.integers(1, min(64, 60000 // size)))
    payload = bytes(range(256)) * (size * count // 256 + 1)
    payload = payload[: size * count - draw(st.integers(0, size - 1))]
    network = draw(networks)
    if not plain:
        network["ip_options"] = draw(words)
    if draw(st.booleans()):
        return udp(payload, ports=draw(ports), **network), size
    flags = draw(st.sampled_from((ACK, ACK | PSH, ACK | ECE)))
    if not plain:
        flags |= draw(st.integers(0, 255))
    packet = tcp(
        payload, draw(sequences), flags, draw(sequences), draw(st.integers(0, 0xFFFF)),
        draw(words), draw(ports), **network,
    )  # fmt: skip
    return packet, size


@given(super_packets(), st.integers(0, 0xFFFF), st.booleans())
@example((tcp(bytes(100), sequence=(1 << 32) - 15, ident=0xFFFD), 10), 0, True)
@example((udp(bytes(100), ident=0xFFFD), 10), 0, True)
def test_a_super_packet_is_cut_as_the_reference_does(made, hint, ecn):
    packet, size = made
    kind = None
    if packet[9] == TCP and ecn:
        kind = segments.GSO_TCPV4 | segments.GSO_ECN
    cut, partial = split_one(read_of(packet, size, kind, hint=hint))
    assert partial
    expected = reference(packet, size)
    assert cut == expected
    for segment in cut:
        assert ipv4.is_whole(segment)
        assert valid_sum(segment[: (segment[0] & 15) * 4])
        done = ipv4.complete(segment)
        assert valid_sum(pseudo(done) + done[(done[0] & 15) * 4 :])


@given(super_packets(plain=True))
def test_what_was_cut_comes_together_again(made):
    packet, size = made
    cut = reference(packet, size)
    writes = segments.merge(cut, True)
    assert [piece for write in writes for piece in cut_again(write)] == cut
    ident, checksum = (int.from_bytes(packet[at : at + 2], "big") for at in (4, 10))
    sequence = int.from_bytes(packet[24:28], "big")
    wraps = (
        ident + len(cut) > 0xFFFF
        or any(int.from_bytes(piece[10:12], "big") in (0, 0xFFFE) for piece in cut)
        or (packet[9] == TCP and sequence + len(packet) >= 1 << 32)
    )
    if wraps or len(cut) == 1:
        return
    ((flags, kind, hint, gso, start, offset), merged) = written(writes[0])
    assert len(writes) == 1
    assert merged == packet
    assert (flags, gso, hint, start) == (segments.NEEDS_CSUM, size, parts(packet)[1], 20)
    if packet[9] == TCP:
        assert (kind, offset) == (segments.GSO_TCPV4, 16)
    else:
        assert (kind, offset) == (segments.GSO_UDP_L4, 6)
    assert checksum == int.from_bytes(merged[10:12], "big")


@given(st.lists(st.binary(max_size=120), max_size=10))
def test_garbage_that_is_read_never_raises(reads):
    cut = segments.split(reads)
    assert sum(len(packets) for packets, _ in cut) >= len(reads)


@given(super_packets(), st.data())
def test_a_broken_super_packet_never_raises(made, data):
    packet, size = made
    read = bytearray(read_of(packet, size))
    for _ in range(data.draw(st.integers(1, 4))):
        read[data.draw(st.integers(0, min(len(read), 80) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(read[: data.draw(st.integers(0, len(read)))])
    for given_read in (bytes(read), cut):
        assert len(segments.split([given_read])) == 1
        segments.merge([given_read[10:], packet, given_read[10:]], True)
        ipv4.complete(given_read[10:])


@given(
    st.lists(
        st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda d: b"\x45" + d)),
        max_size=10,
    )
)
def test_garbage_that_is_written_stays_as_it_is(packets):
    writes = segments.merge(packets, True)
    assert [written(write)[1] for write in writes] == packets


GOOD = tcp(bytes(3000))


@pytest.mark.parametrize(
    "read",
    [
        read_of(GOOD, 0),
        read_of(GOOD, 1400, kind=4),
        read_of(GOOD, 1400, kind=3),
        read_of(GOOD, 1400, kind=segments.GSO_UDP_L4),
        read_of(udp(bytes(3000)), 1400, kind=segments.GSO_TCPV4),
        read_of(udp(bytes(3000)), 1400, kind=segments.GSO_UDP_L4 | segments.GSO_ECN),
        read_of(GOOD[:-1], 1400),
        read_of(GOOD + b"\0", 1400),
        read_of(b"\x65" + GOOD[1:], 1400),
        read_of(b"\x44" + GOOD[1:], 1400),
        read_of(tcp(bytes(3000), fragment=0x2000), 1400),
        read_of(tcp(bytes(3000), fragment=0x0001), 1400),
        read_of(tcp(b""), 1400),
        read_of(udp(b""), 1400),
        read_of(GOOD[:32] + b"\x40" + GOOD[33:], 1400),
        VNET.pack(1, 1, 0, 1400, 40, 16) + GOOD,
        VNET.pack(1, 1, 0, 1400, 20, 6) + GOOD,
        VNET.pack(1, 1, 0, 1400, 20, 16) + GOOD[:30],
    ],
    ids=[
        "no size", "TCP over IPv6", "UFO", "USO of TCP", "TSO of UDP", "USO with ECN",
        "cut short", "too long", "IPv6", "IHL 4", "fragment", "last fragment", "empty TCP",
        "empty UDP", "data offset 4", "checksum elsewhere", "checksum of UDP", "short",
    ],
)  # fmt: skip
def test_an_odd_super_packet_is_passed_on_as_it_is(read):
    assert split_one(read) == ([read[10:]], False)


def test_a_super_packet_whose_checksum_is_known_good_is_cut_as_well():
    packet = tcp(bytes(3000))
    damaged = packet[:36] + b"\x12\x34" + packet[38:]
    cut, partial = split_one(read_of(damaged, 1400, flags=DATA_VALID))
    assert (cut, partial) == (reference(packet, 1400), True)


def test_the_largest_read():
    packet = tcp(bytes(65535 - 52))
    assert len(packet) == 65535
    assert split_one(read_of(packet, 1400)) == (reference(packet, 1400), True)


def test_flags_of_a_cut_super_packet():
    flags = ACK | PSH | FIN | CWR | ECE
    cut, _ = split_one(read_of(tcp(bytes(30), flags=flags), 10, segments.GSO_TCPV4 | 0x80))
    assert [segment[33] for segment in cut] == [ACK | CWR | ECE, ACK | ECE, ACK | ECE | PSH | FIN]
    cut, _ = split_one(read_of(tcp(bytes(10), flags=flags), 10, segments.GSO_TCPV4 | 0x80))
    assert [segment[33] for segment in cut] == [flags]


def test_lists_are_of_one_kind_and_in_order():
    whole = udp(b"complete")
    reads = [
        bytes(10) + whole,
        bytes(10) + whole,
        read_of(tcp(), 0, kind=0),
        read_of(tcp(bytes(20)), 10),
        read_of(udp(), 0, kind=0),
        VNET.pack(DATA_VALID, 0, 0, 0, 0, 0) + whole,
    ]
    assert segments.split(reads) == [
        ([whole, whole], False),
        ([tcp(), *reference(tcp(bytes(20)), 10), udp()], True),
        ([whole], False),
    ]
    assert segments.split([]) == []


@pytest.mark.parametrize("options", [b"", b"\x94\x04\0\0"])
@pytest.mark.parametrize("packet", [tcp, udp])
def test_a_single_packet_stays_partial_where_its_checksum_is_in_its_place(packet, options):
    made = packet(b"", ip_options=options) if packet is udp else tcp(b"")
    if packet is tcp and options:
        made = with_partial(ip(TCP, made[20:], ip_options=options))
    assert split_one(read_of(made, 0, kind=0)) == ([made], True)


def test_a_checksum_elsewhere_is_completed():
    # As of VXLAN: the checksum that the kernel left is the inner one.
    inner = tcp(b"inside")
    outer = udp(bytes(8) + inner)
    at = len(outer) - len(inner)
    (done,), partial = split_one(VNET.pack(1, 0, 0, 0, at + 20, 16) + outer)
    assert not partial
    assert done == outer[:at] + ipv4.complete(inner)


@pytest.mark.parametrize("place", [(65535, 65535), (20, 3000), (200, 0)])
def test_a_checksum_outside_the_packet_is_left(place):
    read = VNET.pack(1, 0, 0, 0, *place) + udp()
    assert split_one(read) == ([udp()], False)


def test_a_fragment_is_never_partial():
    made = udp(fragment=0x2000)
    (done,), partial = split_one(read_of(made, 0, kind=0))
    assert not partial
    assert valid_sum(pseudo(done) + done[20:])


# --- merging ----------------------------------------------------------------------------------


def run_of(count=4, size=100, last=100, final=ACK, **changes):
    """Give segments of one TCP flow that follow each other."""
    return [
        tcp(
            bytes([number]) * (size if number < count - 1 else last),
            **{
                "sequence": (1000 + number * size) % (1 << 32),
                "ident": 10 + number,
                "flags": final if number == count - 1 else ACK,
                **changes,
            },
        )
        for number in range(count)
    ]


def counts(writes):
    return [len(write) - 1 for write in writes]


def test_a_run_becomes_one_write():
    (write,) = segments.merge(run_of(last=30, final=ACK | PSH), True)
    (flags, kind, hint, size, start, offset), packet = written(write)
    assert (flags, kind, hint, size, start, offset) == (1, 1, 52, 100, 20, 16)
    payload = b"".join(bytes([number]) * 100 for number in range(3)) + bytes([3]) * 30
    assert packet == tcp(payload, sequence=1000, ident=10, flags=ACK | PSH)


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 1101},
        {"sequence": 1000},
        {"ack": 8},
        {"window": 501},
        {"tos": 2},
        {"ttl": 63},
        {"ident": 12, "fragment": 0},
        {"fragment": 0},
        {"fragment": 0x2000},
        {"fragment": 0x4001},
        {"options": b"\x01" * 12},
        {"options": b""},
        {"payload": b""},
        {"payload": bytes(101)},
        {"urgent": 1},
        *({"flags": ACK | flag} for flag in (FIN, SYN, RST, URG, ECE, CWR)),
        {"flags": 0},
        {"ports": (1234, 81)},
        {"src": B},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_does_not_follow_is_written_by_itself(change):
    first = {"fragment": 0} if "ident" in change else {}
    packets = [
        tcp(bytes(100), 1000, ident=10, **first),
        tcp(**{"payload": bytes(100), "sequence": 1100, "ident": 11, **change}),
    ]
    writes = segments.merge(packets, True)
    assert counts(writes) == [1, 1]
    assert [written(write)[1] for write in writes] == packets


def test_urgent_data_is_no_part_of_a_run():
    packets = run_of(flags=ACK | URG)
    assert counts(segments.merge(packets, True)) == [1, 1, 1, 1]


@pytest.mark.parametrize("ident", [0, 77])
def test_identifications_may_stay_where_nobody_fragments(ident):
    assert counts(segments.merge(run_of(ident=ident), True)) == [4]
    packets = run_of(ident=ident, fragment=0)
    assert counts(segments.merge(packets, True)) == [1, 1, 1, 1]


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=64))
def test_identifications_mean_nothing_where_nobody_fragments(idents):
    packets = [
        tcp(bytes([number]) * 10, 1000 + 10 * number, ident=ident)
        for number, ident in enumerate(idents)
    ]
    writes = segments.merge(packets, True)
    again = [piece for write in writes for piece in cut_again(write)]
    assert [piece[20:] for piece in again] == [packet[20:] for packet in packets]
    assert all(valid_sum(piece[:20]) for piece in again)


def test_an_ip_checksum_that_wraps():
    # The checksum counts down as the identification counts up.
    wrapping = int.from_bytes(ip(TCP, bytes(132), ident=0)[10:12], "big")
    packets = [
        tcp(packet[52:], 1000 + 100 * number, ident=wrapping - 4 + number)
        for number, packet in enumerate(run_of(10))
    ]
    assert packets[4][10:12] == bytes(2)
    writes = segments.merge(packets, True)
    assert counts(writes) == [5, 5]
    assert [piece for write in writes for piece in cut_again(write)] == packets
    # What a borrow out of the checksum would make of the protocol.
    stranger = packets[4][:4] + packets[5][4:9] + b"\x05\xff\xff" + packets[5][12:]
    writes = segments.merge([*packets[:5], stranger], True)
    assert counts(writes) == [5, 1]


def test_nothing_follows_a_shorter_one_or_a_push():
    packets = run_of(6)
    shorter = tcp(bytes(50), 1200, ident=12)
    after = tcp(bytes(50), 1250, ident=13)
    assert counts(segments.merge([*packets[:2], shorter, after], True)) == [3, 1]
    pushed = tcp(bytes(100), 1100, flags=ACK | PSH, ident=11)
    assert counts(segments.merge([packets[0], pushed, *packets[2:]], True)) == [2, 4]
    assert counts(segments.merge([pushed, *packets[2:]], True)) == [1, 4]


def test_flows_may_be_interleaved():
    flows = [run_of(5, ports=(1, port)) for port in range(4)]
    packets = [packet for together in zip(*flows) for packet in together]
    writes = segments.merge(packets, True)
    assert counts(writes) == [5, 5, 5, 5]
    assert [cut_again(write) for write in writes] == flows


@pytest.mark.parametrize(
    "between",
    [
        tcp(b"", 1200),
        ip(TCP, tcp()[20:], ip_options=b"\x94\x04\0\0"),
        ip(TCP, bytes(8), fragment=0x0010),
        tcp(b"", 1200, flags=ACK | FIN),
    ],
    ids=["acknowledgement", "options", "fragment", "end"],
)
def test_the_order_within_a_flow_stays(between):
    packets = run_of()
    packets.insert(2, between)
    writes = segments.merge(packets, True)
    assert counts(writes) == [2, 1, 2]
    assert [piece for write in writes for piece in cut_again(write)] == packets
    assert counts(segments.merge([packets[0], between, packets[1]], True)) == [1, 1, 1]


def test_another_protocol_disturbs_no_flow():
    packets = run_of()
    packets.insert(2, ip(1, bytes(8)))
    assert counts(segments.merge(packets, True)) == [4, 1]


def test_udp():
    packets = [udp(bytes([n]) * 100, ident=n) for n in range(5)] + [udp(b"end", ident=5)]
    (write,) = segments.merge(packets, True)
    (flags, kind, hint, size, start, offset), packet = written(write)
    assert (flags, kind, hint, size, start, offset) == (1, 5, 28, 100, 20, 6)
    assert cut_again(write) == packets
    assert packet == udp(b"".join(packet[28:] for packet in packets), ident=0)


def test_udp_is_left_alone_without_uso_and_tcp_without_tso():
    packets = [udp(bytes(100), ident=n) for n in range(5)]
    assert counts(segments.merge(packets, False)) == [1] * 5
    assert counts(segments.merge(packets, True, False)) == [5]
    assert counts(segments.merge(run_of(), True, False)) == [1] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"payload": bytes(101)},
        {"payload": b""},
        {"ports": (53, 5354)},
        {"ident": 3, "fragment": 0},
        {"tos": 1},
    ],
    ids=lambda change: "-".join(change),
)
def test_udp_that_does_not_follow(change):
    first = {"fragment": 0} if "ident" in change else {}
    packets = [
        udp(bytes(100), ident=1, **first),
        udp(**{"payload": bytes(100), "ident": 2, **change}),
    ]
    assert [written(write)[1] for write in segments.merge(packets, True)] == packets


def test_a_udp_length_that_lies():
    liar = udp(bytes(100), ident=2)
    liar = liar[:24] + word(50) + liar[26:]
    packets = [udp(bytes(100), ident=1), liar]
    assert [written(write)[1] for write in segments.merge(packets, True)] == packets


def test_a_broken_ip_header_is_not_mended():
    packets = [packet[:10] + b"\x12\x34" + packet[12:] for packet in run_of()]
    assert [written(write)[1] for write in segments.merge(packets, True)] == packets
    packets = run_of()
    packets[2] = packets[2][:10] + b"\x12\x34" + packets[2][12:]
    assert counts(segments.merge(packets, True)) == [2, 1, 1]


def test_no_write_is_larger_than_a_packet_or_of_more_segments_than_the_kernel_takes():
    packets = run_of(100, 1400, 1400)
    writes = segments.merge(packets, True)
    assert counts(writes) == [46, 46, 8]
    assert [piece for write in writes for piece in cut_again(write)] == packets
    assert max(len(b"".join(write)) for write in writes) <= 10 + 65535
    packets = [udp(bytes(10), ident=n) for n in range(70)]
    assert counts(segments.merge(packets, True)) == [64, 6]


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (tcp(), (1, 0, 0, 0, 20, 16)),
        (udp(), (1, 0, 0, 0, 20, 6)),
        (udp(ip_options=b"\x94\x04\0\0"), (1, 0, 0, 0, 24, 6)),
        (ip(TCP, tcp()[20:], ip_options=bytes(40)), (1, 0, 0, 0, 60, 16)),
        (ip(1, bytes(8)), (0,) * 6),
        (ip(TCP, bytes(19)), (0,) * 6),
        (ip(UDP, bytes(7)), (0,) * 6),
        (udp(fragment=0x2000), (0,) * 6),
        (udp(ip_options=bytes(8), fragment=0x2000), (0,) * 6),
        (b"\x60" + bytes(60), (0,) * 6),
    ],
    ids=[
        "TCP", "UDP", "UDP and options", "TCP and options", "ICMP", "short TCP", "short UDP",
        "fragment", "fragment and options", "IPv6",
    ],
)  # fmt: skip
def test_headers_of_a_packet_alone(packet, expected):
    (write,) = segments.merge([packet], True)
    assert written(write) == (expected, packet)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from((100, 100, 100, 40, 0)),
            st.sampled_from((ACK, ACK, ACK, ACK | PSH, ACK | FIN)),
            st.sampled_from((1, 1, 1, 0, 2)),
            st.booleans(),
        ),
        max_size=64,
    ),
    st.booleans(),
    st.sampled_from((0, 0xFFF0)),
    st.sampled_from((0, (1 << 32) - 800)),
)
def test_any_traffic_comes_out_as_it_went_in(steps, uso, ident, sequence):
    """Whatever is merged: cut again, each flow has the same packets in the same order."""
    idents = [ident] * 3
    at = [sequence] * 3
    packets = []
    for flow, size, flags, step, free in steps:
        idents[flow] = (idents[flow] + step) & 0xFFFF
        payload = bytes([len(packets)]) * size
        network = {"ident": idents[flow], "fragment": 0x4000 if free else 0, "ports": (9, flow)}
        if flow == 2:
            packets.append(udp(payload, **network))
        else:
            packets.append(tcp(payload, at[flow], flags, **network))
            at[flow] = (at[flow] + size) & 0xFFFFFFFF
    again = [piece for write in segments.merge(packets, uso) for piece in cut_again(write)]
    assert all(valid_sum(piece[:20]) for piece in again)
    for flow in range(3):
        before, after = (
            [packet for packet in side if packet[22:24] == word(flow)] for side in (packets, again)
        )
        assert [_wire(packet) for packet in after] == [_wire(packet) for packet in before]


def _wire(packet):
    """Leave out what means nothing where nobody may fragment (RFC 6864)."""
    if packet[6] & 0x40:
        packet = packet[:4] + bytes(2) + packet[6:10] + bytes(2) + packet[12:]
    return packet


def test_flows_of_tcp_and_udp_with_the_same_ports_are_not_mixed_up():
    stream = [tcp(ports=(5000, 5001), sequence=n * 7, options=b"", ident=n) for n in range(1, 3)]
    datagram = udp(ports=(5000, 5001), payload=b"x")
    for order in ([stream[0], datagram, stream[1]], [datagram, *stream], [*stream, datagram]):
        writes = segments.merge(order, True, True)
        merged = b"".join(b"".join(write) for write in writes)
        assert sum(merged.count(packet[-7:]) for packet in {stream[0]}) == 2
        assert datagram in merged
