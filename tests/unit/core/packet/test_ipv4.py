"""What a router does to packets, against what the RFCs say."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.packet import ipv4

A, B, ROUTER = (ipv4.pack(f"10.0.0.{n}") for n in (1, 2, 3))


def make(
    payload=b"payload!", ttl=64, protocol=17, word=0, options=b"", tos=0, ident=1, src=A, dst=B
):
    size = 20 + len(options)
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | size >> 2, tos, size + len(payload), ident, word, ttl, protocol, 0, src, dst,
    ) + options  # fmt: skip
    return header[:10] + ipv4.checksum(header).to_bytes(2, "big") + header[12:] + payload


packets = st.builds(
    make,
    payload=st.binary(min_size=8, max_size=3000),
    ttl=st.integers(1, 255),
    protocol=st.integers(0, 255),
    word=st.sampled_from((0, 0x4000, 0x2000, 0x2010, 0x0010)),
    options=st.lists(
        st.sampled_from((b"\x01\x01\x01\x01", b"\x94\x04\0\0", b"\x44\x04\x05\0"))
    ).map(lambda parts: b"".join(parts)[:40]),
    tos=st.integers(0, 255),
    ident=st.integers(0, 65535),
    src=st.binary(min_size=4, max_size=4),
)


@given(packets)
def test_a_forwarded_packet_differs_in_ttl_and_checksum_only(packet):
    forwarded = ipv4.with_ttl_decreased(packet)
    assert forwarded[8] == packet[8] - 1
    assert forwarded[:8] + forwarded[9:10] + forwarded[12:] == (
        packet[:8] + packet[9:10] + packet[12:]
    )
    size = (packet[0] & 15) << 2
    header = forwarded[:10] + b"\0\0" + forwarded[12:size]
    assert forwarded[10:12] == ipv4.checksum(header).to_bytes(2, "big")


def partial(packet):
    """Put the sum of the pseudo-header where the checksum belongs (RFC 9293, section 3.1)."""
    size = (packet[0] & 15) << 2
    at = size + (16 if packet[9] == 6 else 6)
    total = ipv4.checksum(pseudo(packet)) ^ 0xFFFF
    return packet[:at] + total.to_bytes(2, "big") + packet[at + 2 :]


def pseudo(packet):
    size = (packet[0] & 15) << 2
    return packet[12:20] + bytes((0, packet[9])) + (len(packet) - size).to_bytes(2, "big")


@given(packets, st.sampled_from((6, 17)), st.binary(min_size=20, max_size=60))
def test_a_partial_packet_is_completed(packet, protocol, payload):
    packet = partial(make(payload, protocol=protocol, options=packet[20 : (packet[0] & 15) << 2]))
    size = (packet[0] & 15) << 2
    at = size + (16 if protocol == 6 else 6)
    done = ipv4.complete(packet)
    assert done[:at] + done[at + 2 :] == packet[:at] + packet[at + 2 :]
    assert ipv4.checksum(pseudo(done) + done[size:]) == 0
    assert done[at : at + 2] != b"\0\0"


@pytest.mark.parametrize("protocol", [6, 17])
def test_a_checksum_of_zero_is_written_as_65535(protocol):
    packet = partial(make(bytes(22), protocol=protocol))
    # The two last bytes make the sum come out as 0.
    packet = packet[:-2] + ipv4.checksum(packet[20:]).to_bytes(2, "big")
    done = ipv4.complete(packet)
    assert done[20 + (16 if protocol == 6 else 6) :][:2] == b"\xff\xff"


@pytest.mark.parametrize(
    "packet",
    [
        make(bytes(30), protocol=1),
        make(bytes(30), word=0x2000),
        make(bytes(30), word=0x0001),
        make(bytes(7)),
        make(bytes(19), protocol=6),
        make(bytes(30))[:19],
        b"",
    ],
    ids=["ICMP", "first fragment", "last fragment", "short UDP", "short TCP", "short", "nothing"],
)
def test_what_has_no_checksum_is_left_as_it_is(packet):
    assert ipv4.complete(packet) == packet


@given(packets, st.integers(68, 1500))
def test_fragments_fit_and_give_the_packet_back(packet, mtu):
    word = packet[6] << 8 | packet[7]
    size = (packet[0] & 15) << 2
    pieces = ipv4.fragments(packet, mtu)
    payload = b""
    for number, piece in enumerate(pieces):
        piece_size = (piece[0] & 15) << 2
        assert len(piece) <= mtu
        assert ipv4.is_whole(piece)
        assert ipv4.checksum(piece[:piece_size]) == 0
        here = piece[6] << 8 | piece[7]
        assert ((here & 0x1FFF) - (word & 0x1FFF)) * 8 == len(payload)
        last = number == len(pieces) - 1
        assert bool(here & 0x2000) == (not last or bool(word & 0x2000))
        assert piece[1] == packet[1]
        assert piece[4:6] == packet[4:6]
        assert piece[8:10] + piece[12:20] == packet[8:10] + packet[12:20]
        payload += piece[piece_size:]
    assert payload == packet[size:]
    assert pieces[0][20 : (pieces[0][0] & 15) << 2] == packet[20:size]


def test_only_options_with_the_copied_bit_are_in_later_fragments():
    timestamp, alert = b"\x44\x04\x05\0", b"\x94\x04\0\0"
    first, second = ipv4.fragments(make(bytes(64), options=timestamp + alert), 28 + 40)
    assert first[20:28] == timestamp + alert
    assert second[20:24] == alert
    assert second[0] == 0x46


def test_an_error_quotes_the_packet_and_goes_to_its_sender():
    packet = make(bytes(1000))
    error = ipv4.icmp_error(ipv4.ICMP_UNREACHABLE, ipv4.CODE_TOO_BIG, packet, ROUTER, 1366)
    assert ipv4.is_whole(error)
    assert len(error) == 576
    assert error[12:16] == ROUTER
    assert error[16:20] == A
    assert ipv4.checksum(error[:20]) == 0
    assert ipv4.checksum(error[20:]) == 0
    assert error[20:22] == bytes((3, 4))
    assert error[26:28] == (1366).to_bytes(2, "big")
    assert error[28:] == packet[: 576 - 28]


@pytest.mark.parametrize(
    "packet",
    [
        make(b"\x03\x01" + bytes(6), protocol=1),
        make(protocol=1, payload=b""),
        make(word=0x0001),
        make(src=ipv4.pack("224.0.0.1")),
        make(src=ipv4.pack("0.0.0.0")),
        make(dst=ipv4.pack("255.255.255.255")),
    ],
    ids=["about an error", "empty ICMP", "later fragment", "multicast", "no source", "broadcast"],
)
def test_no_error_where_rfc_1122_forbids_one(packet):
    assert ipv4.icmp_error(ipv4.ICMP_UNREACHABLE, ipv4.CODE_HOST, packet, ROUTER) is None


def test_a_ping_may_be_answered_with_an_error():
    assert ipv4.icmp_error(11, 0, make(b"\x08\0" + bytes(6), protocol=1), ROUTER) is not None


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_judged_without_an_exception(data):
    assert ipv4.is_whole(data) in (True, False)
    assert len(ipv4.complete(data)) == len(data)
