"""IPv6 packets for tests, and sums that know nothing of the agent's code."""

import ipaddress
import struct

NETWORK6 = "fd12:3456:789a:1::/64"
A, B, C = (ipaddress.IPv6Address(f"fd12:3456:789a:1::10.0.0.{n}").packed for n in (1, 2, 3))
TCP, UDP, ICMP, FRAGMENT = 6, 17, 58, 44
ACK, PSH, FIN, SYN = 0x10, 0x08, 0x01, 0x02


def total_of(data):
    """The ones' complement sum of 16-bit words (RFC 1071), word by word."""
    data += b"\0" * (len(data) % 2)
    total = sum(word for (word,) in struct.iter_unpack(">H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(packet, protocol, size):
    """The pseudo-header of RFC 8200, section 8.1."""
    return packet[8:40] + struct.pack(">II", size, protocol)


def ip(protocol, body, src=A, dst=B, hops=64, traffic_class=0, label=0x12345):
    first = 6 << 28 | traffic_class << 20 | label
    return struct.pack(">IHBB", first, len(body), protocol, hops) + src + dst + body


def with_sum(packet, partial):
    """Fill in the checksum of TCP, UDP or ICMPv6 behind a plain header, or its partial one."""
    protocol, body = packet[6], packet[40:]
    at = 40 + {TCP: 16, UDP: 6, ICMP: 2}[protocol]
    packet = packet[:at] + b"\0\0" + packet[at + 2 :]
    head = pseudo(packet, protocol, len(body))
    total = total_of(head) if partial else total_of(head + packet[40:]) ^ 0xFFFF
    return packet[:at] + struct.pack(">H", total or 0xFFFF) + packet[at + 2 :]


def udp(payload=b"payload", ports=(4000, 80), partial=False, **network):
    body = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    return with_sum(ip(UDP, body, **network), partial)


def tcp(payload=b"", sequence=1, flags=ACK, ports=(4000, 80), options=b"", partial=True, **network):
    offset = 5 + len(options) // 4 << 4
    header = struct.pack(">HHIIBBHHH", *ports, sequence, 7, offset, flags, 500, 0, 0)
    return with_sum(ip(TCP, header + options + payload, **network), partial)


def echo(payload=b"payload", **network):
    body = struct.pack(">BBHHH", 128, 0, 0, 1, 1) + payload
    return with_sum(ip(ICMP, body, **network), False)


def is_valid(packet):
    """Whether length and checksum of a packet with a plain header are right."""
    body = packet[40:]
    whole = struct.unpack_from(">H", packet, 4)[0] == len(body)
    return whole and total_of(pseudo(packet, packet[6], len(body)) + body) == 0xFFFF


def reassembled(pieces):
    """Put fragments together as their receiver does (RFC 8200, section 4.5)."""
    found, protocol, end = {}, None, None
    for piece in pieces:
        follows, start = 6, 40
        while piece[follows] != FRAGMENT:
            follows, start = start, start + (piece[start + 1] + 1) * 8
        kind, _, word, number = struct.unpack_from(">BBHI", piece, start)
        body = piece[start + 8 :]
        assert number == struct.unpack_from(">I", pieces[0], start + 4)[0]
        assert word & 6 == 0
        if word & 1:
            assert len(body) % 8 == 0
        else:
            end = (word & ~7) + len(body)
        assert found.setdefault(word & ~7, body) == body
        if not word & ~7:
            protocol, head = kind, bytearray(piece[:start])
            head[follows] = kind
    body = b"".join(part for _, part in sorted(found.items()))
    assert protocol is not None
    assert end == len(body)
    head[4:6] = struct.pack(">H", len(head) - 40 + len(body))
    return bytes(head) + body
