"""What a router does to inner IPv4 packets: time to live, errors, fragments.

Formats: RFC 791 (IPv4), RFC 792 (ICMP); behaviour: RFC 1812 and RFC 1122, section 3.2.2.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import List, Optional

_HEADER = struct.Struct(">BBHHHBBH4s4s")

#: The largest total length (RFC 791, section 3.1).
SIZE_MAX = 65535
#: Every network carries packets of this size (RFC 791, section 3.2).
MTU_MIN = 68
PROTOCOL_ICMP = 1
ICMP_UNREACHABLE = 3
ICMP_TIME_EXCEEDED = 11
#: Codes of :data:`ICMP_UNREACHABLE`.
CODE_NETWORK = 0
CODE_HOST = 1
CODE_TOO_BIG = 4
#: Communication administratively prohibited (RFC 1812, section 5.2.7.1).
CODE_PROHIBITED = 13
#: Code of :data:`ICMP_TIME_EXCEEDED`: in transit.
CODE_TRANSIT = 0

#: ICMP types that are errors themselves, to which no error may be sent (RFC 1122, 3.2.2).
_ICMP_ERRORS = frozenset((3, 4, 5, 11, 12))
#: An ICMP error quotes as much as fits into a packet of this size (RFC 1812, 4.3.2.3).
_ICMP_PACKET = 576
_ICMP_TTL = 64

_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS = 0x2000
_MORE_FRAGMENTS_BYTE = _MORE_FRAGMENTS >> 8
_OFFSET_MASK = 0x1FFF
#: Sizes of the headers of TCP (RFC 9293, section 3.1) and UDP (RFC 768) by protocol.
_PARTIAL_MIN = {6: 20, 17: 8}
_PORTED = (b"\x06", b"\x11")
#: Option numbers: end of list, no operation (RFC 791, section 3.1).
_OPTION_END = 0
_OPTION_NOP = 1
_OPTION_COPIED = 0x80


def checksum(data: bytes) -> int:
    """Give the Internet checksum (RFC 1071) of ``data``, 0 to 65535."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big") % 0xFFFF
    # Modulo turns 65535 into 0; only data of all zeros really sums to 0.
    if total == 0 and any(data):
        total = 0xFFFF
    return total ^ 0xFFFF


def is_whole(packet: bytes) -> bool:
    """Say whether ``packet`` is one IPv4 packet, no byte more or less."""
    size = len(packet)
    if size < 20 or packet[2] << 8 | packet[3] != size:
        return False
    first = packet[0]
    return 0x45 <= first <= 0x4F and (first & 15) << 2 <= size


def pack(address: str) -> bytes:
    """Give the four bytes of a dotted address; ValueError if it is none."""
    return IPv4Address(address).packed


def text(address: bytes) -> str:
    """Give four bytes as a dotted address."""
    return ".".join(map(str, address))


def is_multicast(address: bytes) -> bool:
    """Say whether a four-byte address names a group of hosts (RFC 5771)."""
    return 224 <= address[0] < 240


def is_unicast(address: bytes) -> bool:
    """Say whether a four-byte address can name one host (not 0/8, 127/8, or 224/4 and up)."""
    return address[0] not in (0, 127) and address[0] < 224


def may_be_partial(packet: bytes) -> bool:
    """Say whether a whole packet has a TCP or UDP checksum that could be yet to be completed."""
    room = _PARTIAL_MIN.get(packet[9])
    whole = not (packet[6] << 8 | packet[7]) & (_MORE_FRAGMENTS | _OFFSET_MASK)
    return room is not None and whole and len(packet) >= ((packet[0] & 15) << 2) + room


def is_fragment(packet: bytes, start: int = 0) -> bool:
    """Say whether the packet whose header begins at ``start`` is a fragment; any bytes will do."""
    word = int.from_bytes(packet[start + 6 : start + 8], "big")
    return bool(word & (_MORE_FRAGMENTS | _OFFSET_MASK))


def goes_on(packet: bytes, start: int = 0) -> bool:
    """Say whether more fragments follow what begins at ``start``; any bytes will do."""
    return len(packet) > start + 6 and packet[start + 6] & _MORE_FRAGMENTS_BYTE != 0


def is_next_fragment(packet: bytes, before: bytes) -> bool:
    """Say whether ``packet`` is a further fragment of what ``before``, a whole one, is one of."""
    return (
        goes_on(before)
        and packet[1] == before[1]
        and (packet[6] << 8 | packet[7]) & _OFFSET_MASK != 0
        and packet[4:6] == before[4:6]
        and packet[8:10] == before[8:10]
        and packet[12:20] == before[12:20]
    )


def complete(packet: bytes) -> bytes:
    """Give a partial packet with its TCP or UDP checksum filled in (RFC 9293, RFC 768).

    What :func:`may_be_partial` denies is given back as it is; never raises.
    """
    if len(packet) < 20 or not may_be_partial(packet):
        return packet
    size = (packet[0] & 15) << 2
    at = size + (16 if packet[9] == 6 else 6)
    # 65535 for 0, which to UDP means that there is none; to TCP the two are the same.
    total = checksum(packet[size:]) or 0xFFFF
    return packet[:at] + total.to_bytes(2, "big") + packet[at + 2 :]


def flow(packet: bytes, start: int = 0) -> bytes:
    """Give what tells flows apart: addresses and protocol, and ports where there are any.

    ``packet`` may be anything; its IPv4 header begins at ``start``.
    """
    protocol = packet[start + 9 : start + 10]
    if protocol in _PORTED and not (packet[start + 6] & 0x3F or packet[start + 7]):
        return protocol + packet[start + 12 : start + 24]
    return protocol + packet[start + 12 : start + 20]


def with_ttl_decreased(packet: bytes) -> bytes:
    """Give the packet with TTL one lower and the checksum adapted (RFC 1624).

    The TTL must be at least 1; nothing but the TTL and the checksum changes.
    """
    changed = bytearray(packet)
    changed[8] -= 1
    total = (packet[10] << 8 | packet[11]) + 0x0100
    if total >= 0xFFFF:
        total -= 0xFFFF
    changed[10] = total >> 8
    changed[11] = total & 0xFF
    return bytes(changed)


def may_fragment(packet: bytes) -> bool:
    """Say whether the packet's sender allows routers to fragment it."""
    return not packet[6] & 0x40


def icmp_error(
    type_: int, code: int, packet: bytes, source: bytes, next_hop_mtu: int = 0
) -> Optional[bytes]:
    """Give the ICMP error about ``packet``, sent from ``source`` (four bytes), or None.

    None where RFC 1122, section 3.2.2 forbids one: about another ICMP error, about a fragment
    that is not the first, to or from an address that is not one host's.
    ``next_hop_mtu`` is the field of RFC 1191 for code "fragmentation needed", in bytes.
    """
    size = (packet[0] & 15) << 2
    if (packet[6] << 8 | packet[7]) & _OFFSET_MASK:
        return None
    if not is_unicast(packet[12:16]) or not is_unicast(packet[16:20]):
        return None
    if packet[9] == PROTOCOL_ICMP and (len(packet) <= size or packet[size] in _ICMP_ERRORS):
        return None
    quoted = packet[: _ICMP_PACKET - 28]
    body = struct.pack(">BBHHH", type_, code, 0, 0, next_hop_mtu) + quoted
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    header = _HEADER.pack(
        0x45, 0xC0, 20 + len(body), 0, 0, _ICMP_TTL, PROTOCOL_ICMP, 0, source, packet[12:16]
    )
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + body


def fragments(packet: bytes, mtu: int) -> List[bytes]:
    """Split a packet into fragments of at most ``mtu`` bytes (RFC 791, section 3.2).

    ``mtu`` is at least :data:`MTU_MIN`; the packet may itself be a fragment.
    """
    size = (packet[0] & 15) << 2
    word = packet[6] << 8 | packet[7]
    last_word = word & _MORE_FRAGMENTS
    offset = word & _OFFSET_MASK
    payload = packet[size:]
    options = packet[20:size]
    done = 0
    pieces: List[bytes] = []
    while done < len(payload):
        if pieces:
            options = _copied_options(packet[20:size])
        room = (mtu - 20 - len(options)) & ~7
        piece = payload[done : done + room]
        more = _MORE_FRAGMENTS if done + len(piece) < len(payload) else last_word
        header = bytearray(packet[:20] + options)
        header[0] = 0x40 | len(header) >> 2
        struct.pack_into(">H", header, 2, len(header) + len(piece))
        struct.pack_into(">H", header, 6, word & _DONT_FRAGMENT | more | offset + (done >> 3))
        header[10:12] = b"\0\0"
        struct.pack_into(">H", header, 10, checksum(bytes(header)))
        pieces.append(bytes(header) + piece)
        done += len(piece)
    return pieces


def _copied_options(options: bytes) -> bytes:
    """Give the options that every fragment carries, padded to whole words."""
    copied = b""
    at = 0
    while at < len(options) and options[at] != _OPTION_END:
        if options[at] == _OPTION_NOP:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            break
        if options[at] & _OPTION_COPIED:
            copied += options[at : at + length]
        at += length
    return copied + b"\0" * (-len(copied) % 4)
