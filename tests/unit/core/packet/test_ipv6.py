"""What a router does to IPv6 packets, against what the RFCs say."""

import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.packet import ipv6, runs, version
from ropeway.core.packet.version import Refused
from tests.unit.core import packets6
from tests.unit.core.packets6 import FRAGMENT, ICMP, TCP, UDP, A, B, C

HOP_BY_HOP = bytes((UDP, 0, 5, 2, 0, 0, 1, 0))  # a router alert (RFC 2711), then UDP
LINK_LOCAL = bytes.fromhex("fe80") + bytes(13) + b"\1"
GROUP = bytes.fromhex("ff02") + bytes(13) + b"\1"

packets = st.builds(
    packets6.udp,
    payload=st.binary(max_size=3000),
    hops=st.integers(1, 255),
    traffic_class=st.integers(0, 255),
    label=st.integers(0, (1 << 20) - 1),
)


def error_type(packet):
    return struct.unpack_from(">BB", packet, 40)


@given(packets)
def test_a_forwarded_packet_differs_in_its_hop_limit_only(packet):
    forwarded = ipv6.with_hop_limit_decreased(packet)
    assert forwarded[7] == packet[7] - 1
    assert forwarded[:7] + forwarded[8:] == packet[:7] + packet[8:]


@given(st.binary(max_size=80))
def test_any_bytes_are_told_whole_or_not_and_never_raise(data):
    for one in (data, b"\x60" + data, packets6.ip(data[0] if data else 0, data[1:])):
        if ipv6.is_whole(one):
            about = ipv6.upper(one)
            assert 40 <= about.start <= len(one)
            ipv6.icmp_error(1, 0, one, B)
            pieces = ipv6.fragments(one, 100, 1)
            assert all(map(ipv6.is_whole, pieces))
        ipv6.flow(one)
        ipv6.goes_on(one)
        version.flow(one, 10)
        version.goes_on(one, 10)
        version.complete(one)


def test_what_is_one_byte_too_long_or_too_short_is_not_whole():
    packet = packets6.udp()
    assert ipv6.is_whole(packet)
    assert not ipv6.is_whole(packet + b"\0")
    assert not ipv6.is_whole(packet[:-1])
    assert not ipv6.is_whole(b"\x40" + packet[1:])
    assert not ipv6.is_whole(packet[:39])


@pytest.mark.parametrize("make", [packets6.udp, packets6.tcp])
@given(payload=st.binary(max_size=100))
def test_a_partial_packet_is_completed(make, payload):
    assert ipv6.complete(make(payload, partial=True)) == make(payload, partial=False)


def test_a_checksum_of_zero_is_written_as_65535():
    packet = packets6.udp(bytes(20), partial=True)
    packet = packet[:-2] + struct.pack(">H", packets6.total_of(packet[40:]) ^ 0xFFFF)
    assert ipv6.complete(packet)[46:48] == b"\xff\xff"


def test_addresses_that_can_name_a_host():
    assert ipv6.is_unicast(A)
    for other in (bytes(16), bytes(15) + b"\1", LINK_LOCAL, GROUP, bytes(12) + A[12:]):
        assert not ipv6.is_unicast(other)


@pytest.mark.parametrize(
    ("refused", "kind", "code", "number"),
    [
        (Refused.NETWORK, 1, 0, 0),
        (Refused.PROHIBITED, 1, 1, 0),
        (Refused.HOST, 1, 3, 0),
        (Refused.TOO_BIG, 2, 0, 1400),
        (Refused.HOPS, 3, 0, 0),
    ],
)
def test_errors_are_those_of_rfc_4443(refused, kind, code, number):
    packet = packets6.udp(bytes(2000))
    error = version.V6.error(refused, packet, C, number)
    assert packets6.is_valid(error)
    assert len(error) == 1280
    assert error_type(error) == (kind, code)
    assert error[44:48] == number.to_bytes(4, "big")
    assert (error[6], error[8:24], error[24:40]) == (ICMP, C, A)
    assert error[48:] == packet[: 1280 - 48]


def test_nobody_is_asked_to_send_less_than_every_path_carries():
    error = version.V6.error(Refused.TOO_BIG, packets6.udp(bytes(2000)), C, 600)
    assert error[44:48] == (1280).to_bytes(4, "big")


def fragment_of(protocol, offset, more=1):
    cut = struct.pack(">BBHI", protocol, 0, offset | more, 77)
    return packets6.ip(FRAGMENT, cut + bytes((128, 0)) + bytes(62))


@pytest.mark.parametrize(
    "packet",
    [
        packets6.ip(ICMP, bytes((1, 0)) + bytes(60)),
        packets6.ip(ICMP, bytes((137, 0)) + bytes(60)),
        packets6.ip(ICMP, b""),
        packets6.ip(0, bytes((ICMP, 0)) + bytes(6) + bytes((3, 0)) + bytes(60)),
        packets6.udp(src=bytes(16)),
        packets6.udp(src=GROUP),
        packets6.udp(dst=GROUP),
        fragment_of(ICMP, 64),
    ],
)
def test_no_error_is_sent_about(packet):
    assert ipv6.icmp_error(1, 0, packet, C) is None


def test_an_echo_and_a_first_fragment_are_answered():
    assert ipv6.icmp_error(1, 0, packets6.echo(), C)
    assert ipv6.icmp_error(1, 0, fragment_of(ICMP, 0), C)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (packets6.udp(), (UDP, 40, False, 0)),
        (packets6.ip(0, HOP_BY_HOP + bytes(20)), (UDP, 48, False, 0)),
        (packets6.ip(51, bytes((TCP, 4)) + bytes(42)), (TCP, 64, False, 0)),
        (fragment_of(UDP, 0), (UDP, 48, True, 0)),
        (fragment_of(UDP, 800), (UDP, 48, True, 800)),
        (packets6.ip(0, bytes((UDP, 9)) + bytes(6)), (UDP, 48, False, 0)),
        (packets6.ip(0, b""), (0, 40, False, 0)),
        (packets6.ip(59, b"abc"), (59, 40, False, 0)),
    ],
)
def test_what_follows_the_headers_is_found(packet, expected):
    assert ipv6.upper(packet) == expected


@given(st.binary(min_size=1, max_size=1200), st.integers(100, 1279), st.booleans())
def test_fragments_fit_and_come_together_again(payload, mtu, with_options):
    packet = packets6.udp(payload)
    if with_options:
        packet = packets6.ip(0, HOP_BY_HOP + packet[40:])
    pieces = ipv6.fragments(packet, mtu, 77)
    assert all(len(piece) <= mtu and ipv6.is_whole(piece) for piece in pieces)
    assert packets6.reassembled(pieces) == packet
    for piece, following in zip(pieces, pieces[1:]):
        assert ipv6.goes_on(piece)
        assert version.goes_on(bytes(10) + piece, 10)
        assert ipv6.is_next_fragment(following, piece)
    assert not ipv6.goes_on(pieces[-1])
    again = [part for piece in pieces for part in ipv6.fragments(piece, 96, 1)]
    assert packets6.reassembled(again) == packet


def test_larger_packets_than_every_path_carries_are_never_cut():
    assert version.V6.pieces(packets6.udp(bytes(1233)), 1000) is None
    assert len(version.V6.pieces(packets6.udp(bytes(1232)), 1000)) == 2
    assert version.V6.pieces(packets6.udp(bytes(1232)), 40) is None


def test_an_echo_is_no_packet_that_goes_on():
    # Its next header has a bit set where IPv4 says that more fragments follow.
    assert not version.goes_on(packets6.echo())


def test_both_versions_are_told_apart_in_a_batch():
    dropped, aside = Counter(), []
    four = bytes.fromhex("4500001c000040004011") + bytes(18)
    six = [packets6.udp(bytes(500)), packets6.udp(bytes(500)), packets6.udp(bytes(400))]
    broken = packets6.udp()[:-1]
    batch = [four, six[0], four, broken, six[1], six[2]]
    assert list(runs.cut(batch, Drop.NOT_IPV4, dropped, aside)) == [[four, four]]
    assert aside == six
    assert dropped == {Drop.NOT_IPV4: 1}
    assert list(runs.cut_ipv6(aside)) == [six]


def test_where_no_ipv6_is_carried_it_is_counted():
    dropped = Counter()
    assert not list(runs.cut([packets6.udp()], Drop.NOT_IPV4, dropped))
    assert not list(runs.cut([packets6.udp()], Drop.MALFORMED_INNER, dropped))
    assert dropped == {Drop.IPV6: 1, Drop.MALFORMED_INNER: 1}


@pytest.mark.parametrize(
    "change",
    [{"dst": C}, {"hops": 63}, {"traffic_class": 4}, {"label": 1}, {"payload": bytes(501)}],
)
def test_packets_that_differ_make_runs_of_their_own(change):
    one, other = packets6.udp(bytes(500)), packets6.udp(**{"payload": bytes(500), **change})
    assert list(runs.cut_ipv6([one, other])) == [[one], [other]]


def test_small_packets_end_no_run_of_large_ones_unless_they_are_its_end():
    bulk, small = packets6.udp(bytes(1300)), packets6.udp(bytes(20), ports=(1, 2))
    assert len(small) <= tuning.SMALL_BYTES
    assert list(runs.cut_ipv6([bulk, small])) == [[bulk], [small]]
    assert list(runs.cut_ipv6([bulk, packets6.udp(bytes(20))])) == [[bulk, packets6.udp(bytes(20))]]
    pieces = ipv6.fragments(packets6.udp(bytes(1200)), 1216, 1)
    assert len(pieces[-1]) <= tuning.SMALL_BYTES
    assert list(runs.cut_ipv6(pieces)) == [pieces]


@given(st.lists(packets, max_size=12))
def test_runs_keep_all_packets_and_fit_into_a_train(some):
    cut = list(runs.cut_ipv6(some))
    assert [packet for run in cut for packet in run] == some
    assert all(len(run) <= tuning.MAX_RUN for run in cut)
