"""What a router does to inner IPv6 packets: hop limit, errors, and fragments where a path is small.

Formats: RFC 8200 (IPv6), RFC 4443 (ICMPv6); addresses: RFC 4291.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import List, NamedTuple, Optional

from ropeway.core.packet.ipv4 import checksum

HEADER_SIZE = 40
#: The largest packet without a jumbo payload (RFC 8200, section 3).
SIZE_MAX = HEADER_SIZE + 65535
#: Every network carries packets of this size (RFC 8200, section 5).
MTU_MIN = 1280
TCP, UDP = 6, 17
PROTOCOL_ICMP = 58
ICMP_UNREACHABLE = 1
ICMP_TOO_BIG = 2
ICMP_TIME_EXCEEDED = 3
#: Codes of :data:`ICMP_UNREACHABLE` (RFC 4443, section 3.1).
CODE_NO_ROUTE = 0
CODE_PROHIBITED = 1
CODE_ADDRESS = 3

#: ICMPv6 types from here on are no errors (RFC 4443, section 2.1); a redirect counts as one.
_ICMP_INFORMATION = 128
_ICMP_REDIRECT = 137
_ICMP_HOP_LIMIT = 64
_ICMP_HEADER_SIZE = 8
_HEADER = struct.Struct(">IHBB16s16s")
_VERSION = 6 << 28

#: Extension headers (RFC 7045, section 4) whose second byte counts 8 bytes beyond the first 8.
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _OPTIONS = 0, 43, 44, 51, 60
_COUNTED = frozenset((_HOP_BY_HOP, _ROUTING, _OPTIONS, 135, 139, 140))
#: Headers that routers on the way look at, which every fragment has (RFC 8200, section 4.5).
_PER_FRAGMENT = frozenset((_HOP_BY_HOP, _ROUTING))
#: No header follows (RFC 8200, section 4.7).
NO_NEXT_HEADER = 59
#: More of them are looked behind in no packet.
_EXTENSIONS_MAX = 8
_FRAGMENT_HEADER = struct.Struct(">BBHI")
_MORE = 1
#: Sizes of the headers of TCP (RFC 9293, section 3.1) and UDP (RFC 768) by protocol.
_PARTIAL_MIN = {TCP: 20, UDP: 8}


def is_whole(packet: bytes) -> bool:
    """Say whether ``packet`` is one IPv6 packet, no byte more or less."""
    size = len(packet)
    if size < HEADER_SIZE or packet[0] >> 4 != 6:
        return False
    return packet[4] << 8 | packet[5] == size - HEADER_SIZE


def text(address: bytes) -> str:
    """Give 16 bytes as an address (RFC 5952)."""
    return str(IPv6Address(address))


def is_multicast(address: bytes) -> bool:
    """Say whether a 16-byte address names a group of hosts (RFC 4291, section 2.7)."""
    return address[0] == 0xFF


def is_unicast(address: bytes) -> bool:
    """Say whether a 16-byte address can name one host beyond a link.

    That is not ::/96, which has the unspecified and the loopback address, link-local fe80::/10, or
    multicast ff00::/8 (RFC 4291, section 2.4).
    """
    if address[0] == 0xFF or (address[0] == 0xFE and address[1] & 0xC0 == 0x80):
        return False
    return any(address[:12])


def ds_field(packet: bytes) -> int:
    """Give the traffic class, which is the DS field with ECN (RFC 2474), 0 to 255."""
    return (packet[0] & 15) << 4 | packet[1] >> 4


class Upper(NamedTuple):
    """What follows the IPv6 headers of a packet."""

    #: The protocol; that of an extension header where nothing behind it could be read.
    protocol: int
    #: Where it begins, in bytes from the packet's start; its size where that is beyond its end.
    start: int
    #: Whether the packet is a fragment, and where this is in what was cut, in bytes.
    fragment: bool
    offset: int


def upper(packet: bytes) -> Upper:
    """Give what follows the headers of a whole packet; never raises."""
    protocol, start, size = packet[6], HEADER_SIZE, len(packet)
    fragment, offset = False, 0
    for _ in range(_EXTENSIONS_MAX):
        if start + 8 > size or offset:
            break
        if protocol in _COUNTED:
            length = packet[start + 1] + 1 << 3
        elif protocol == _AUTHENTICATION:
            length = packet[start + 1] + 2 << 2
        elif protocol == _FRAGMENT:
            length, fragment = 8, True
            offset = (packet[start + 2] << 8 | packet[start + 3]) & ~7
        else:
            break
        protocol = packet[start]
        start += length
    return Upper(protocol, min(start, size), fragment, offset)


def may_be_partial(packet: bytes) -> bool:
    """Say whether a whole packet has a TCP or UDP checksum that could be yet to be completed.

    Behind extension headers none is left to be.
    """
    room = _PARTIAL_MIN.get(packet[6])
    return room is not None and len(packet) >= HEADER_SIZE + room


def complete(packet: bytes) -> bytes:
    """Give a partial packet with its TCP or UDP checksum filled in (RFC 9293, RFC 768).

    What :func:`may_be_partial` denies is given back as it is; never raises.
    """
    if len(packet) < HEADER_SIZE or not may_be_partial(packet):
        return packet
    at = HEADER_SIZE + (16 if packet[6] == TCP else 6)
    # 65535 for 0, which to UDP means that there is none; to TCP the two are the same.
    total = checksum(packet[HEADER_SIZE:]) or 0xFFFF
    return packet[:at] + total.to_bytes(2, "big") + packet[at + 2 :]


def goes_on(packet: bytes, start: int = 0) -> bool:
    """Say whether more fragments follow what begins at ``start``; any bytes will do."""
    return (
        len(packet) > start + 43
        and packet[start + 6] == _FRAGMENT
        and packet[start + 43] & _MORE != 0
    )


def is_next_fragment(packet: bytes, before: bytes) -> bool:
    """Say whether ``packet`` is a further fragment of what ``before`` is one of.

    Both are whole, and agree in addresses and next header.
    """
    return packet[6] == _FRAGMENT and packet[44:48] == before[44:48] and goes_on(before)


def flow(packet: bytes, start: int = 0) -> bytes:
    """Give what tells flows apart: addresses and next header, and ports where they follow at once.

    ``packet`` may be anything; its header begins at ``start``.
    """
    protocol = packet[start + 6 : start + 7]
    ported = protocol in (b"\x06", b"\x11")
    return protocol + packet[start + 8 : start + (44 if ported else 40)]


def with_hop_limit_decreased(packet: bytes) -> bytes:
    """Give the packet with a hop limit one lower, which must be at least 1."""
    return packet[:7] + bytes((packet[7] - 1,)) + packet[8:]


def icmp_error(
    type_: int, code: int, packet: bytes, source: bytes, next_hop_mtu: int = 0
) -> Optional[bytes]:
    """Give the ICMPv6 error about ``packet``, sent from ``source`` (16 bytes), or None.

    None where RFC 4443, section 2.4 (e) forbids one: about another error or a redirect, from an
    address that is not one host's, to a group. Nor is there one about a fragment other than the
    first, of which nobody knows whether it is an error. ``next_hop_mtu`` is for a packet too big.
    """
    if not is_unicast(packet[8:24]) or is_multicast(packet[24:40]):
        return None
    about = upper(packet)
    if about.offset:
        return None
    if about.protocol == PROTOCOL_ICMP:
        kind = packet[about.start] if about.start < len(packet) else 0
        if kind < _ICMP_INFORMATION or kind == _ICMP_REDIRECT:
            return None
    quoted = packet[: MTU_MIN - HEADER_SIZE - _ICMP_HEADER_SIZE]
    body = struct.pack(">BBHI", type_, code, 0, next_hop_mtu) + quoted
    ends = source + packet[8:24]
    total = checksum(ends + struct.pack(">II", len(body), PROTOCOL_ICMP) + body)
    head = _HEADER.pack(_VERSION, len(body), PROTOCOL_ICMP, _ICMP_HOP_LIMIT, source, packet[8:24])
    return head + body[:2] + total.to_bytes(2, "big") + body[4:]


def fragments(packet: bytes, mtu: int, number: int) -> List[bytes]:
    """Split a packet into fragments of at most ``mtu`` bytes (RFC 8200, section 4.5).

    ``number``, 32 bits, tells the fragments of one packet from others between the same hosts; a
    packet that is a fragment already keeps its own. A list of the packet itself where its headers
    leave no room.
    """
    follows, start = 6, HEADER_SIZE
    for _ in range(_EXTENSIONS_MAX):
        if packet[follows] not in _PER_FRAGMENT or start + 8 > len(packet):
            break
        follows, start = start, start + (packet[start + 1] + 1 << 3)
    protocol, offset, more = packet[follows], 0, 0
    rest = packet[start:]
    if protocol == _FRAGMENT and len(rest) >= 8:
        protocol, _, word, number = _FRAGMENT_HEADER.unpack_from(rest)
        offset, more = word & ~7, word & _MORE
        rest = rest[8:]
    room = (mtu - start - 8) & ~7
    if room <= 0 or start > len(packet):
        return [packet]
    head = bytearray(packet[:start])
    head[follows] = _FRAGMENT
    pieces: List[bytes] = []
    for done in range(0, len(rest), room):
        piece = rest[done : done + room]
        further = _MORE if done + room < len(rest) else more
        head[4:6] = (start + 8 + len(piece) - HEADER_SIZE).to_bytes(2, "big")
        cut = _FRAGMENT_HEADER.pack(protocol, 0, offset + done & 0xFFF8 | further, number)
        pieces.append(bytes(head) + cut + piece)
    return pieces
