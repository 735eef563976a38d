"""What differs between IPv4 and IPv6 on the ways that few packets take: one table for each.

The ways that most take have code of their own for each version.
"""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass
from typing import Callable, Optional, Sequence

from ropeway.core.packet import ipv4, ipv6

#: The first byte of IPv6 packets is at least this.
FIRST_IPV6 = 0x60


class Refused(enum.Enum):
    """Why a packet goes no further, as its sender is told."""

    #: No network has its destination.
    NETWORK = "network"
    #: No host that can be reached has it.
    HOST = "host"
    PROHIBITED = "prohibited"
    #: It fits no link; the error says what does.
    TOO_BIG = "too_big"
    #: It has passed as many routers as it may.
    HOPS = "hops"


_ERRORS = {
    Refused.NETWORK: (ipv4.ICMP_UNREACHABLE, ipv4.CODE_NETWORK),
    Refused.HOST: (ipv4.ICMP_UNREACHABLE, ipv4.CODE_HOST),
    Refused.PROHIBITED: (ipv4.ICMP_UNREACHABLE, ipv4.CODE_PROHIBITED),
    Refused.TOO_BIG: (ipv4.ICMP_UNREACHABLE, ipv4.CODE_TOO_BIG),
    Refused.HOPS: (ipv4.ICMP_TIME_EXCEEDED, ipv4.CODE_TRANSIT),
}
_ERRORS6 = {
    Refused.NETWORK: (ipv6.ICMP_UNREACHABLE, ipv6.CODE_NO_ROUTE),
    Refused.HOST: (ipv6.ICMP_UNREACHABLE, ipv6.CODE_ADDRESS),
    Refused.PROHIBITED: (ipv6.ICMP_UNREACHABLE, ipv6.CODE_PROHIBITED),
    Refused.TOO_BIG: (ipv6.ICMP_TOO_BIG, 0),
    Refused.HOPS: (ipv6.ICMP_TIME_EXCEEDED, 0),
}


@dataclass(frozen=True)
class Version:
    """One version of IP."""

    #: Where packets have these addresses, of 4 or 16 bytes.
    source: slice
    destination: slice
    #: Where they have their time to live or hop limit.
    hops: int
    #: Return a packet with its time to live one lower.
    decreased: Callable[[bytes], bytes]
    #: Return the ICMP error about a packet, from an address, or None where none may be sent. The
    #: last argument is the size that fits, 0 unless the packet is too big.
    error: Callable[[Refused, bytes, bytes, int], Optional[bytes]]
    #: Return a packet in pieces of at most a size, None where it must not be cut.
    pieces: Callable[[bytes, int], Optional[Sequence[bytes]]]


def _error(refused: Refused, packet: bytes, source: bytes, mtu: int) -> Optional[bytes]:
    return ipv4.icmp_error(*_ERRORS[refused], packet, source, mtu)


def _error6(refused: Refused, packet: bytes, source: bytes, mtu: int) -> Optional[bytes]:
    # Nobody has to send less than every path carries; below that, packets are cut.
    size = max(mtu, ipv6.MTU_MIN) if mtu else 0
    return ipv6.icmp_error(*_ERRORS6[refused], packet, source, size)


def _pieces(packet: bytes, limit: int) -> Optional[Sequence[bytes]]:
    if not ipv4.may_fragment(packet) or limit < ipv4.MTU_MIN:
        return None
    return ipv4.fragments(packet, limit)


def _pieces6(packet: bytes, limit: int) -> Optional[Sequence[bytes]]:
    # A link that carries less than 1280 bytes has to see to those itself (RFC 8200, section 5).
    if len(packet) > ipv6.MTU_MIN:
        return None
    pieces = ipv6.fragments(packet, limit, zlib.crc32(packet))
    return pieces if len(pieces) > 1 else None


V4 = Version(slice(12, 16), slice(16, 20), 8, ipv4.with_ttl_decreased, _error, _pieces)
V6 = Version(slice(8, 24), slice(24, 40), 7, ipv6.with_hop_limit_decreased, _error6, _pieces6)


def version_of(packet: bytes) -> Version:
    """Return the version of a whole packet."""
    return V6 if packet[0] >= FIRST_IPV6 else V4


def is_whole(packet: bytes) -> bool:
    """Say whether ``packet`` is one IPv4 or IPv6 packet, no byte more or less."""
    return ipv4.is_whole(packet) or ipv6.is_whole(packet)


def complete(packet: bytes) -> bytes:
    """Return a partial packet with its TCP or UDP checksum filled in; never raises."""
    return ipv6.complete(packet) if packet[:1] >= b"\x60" else ipv4.complete(packet)


def goes_on(packet: bytes, start: int = 0) -> bool:
    """Say whether more fragments follow what begins at ``start``; any bytes will do."""
    # The next header of IPv6 is where IPv4 has its flags.
    if not ipv4.goes_on(packet, start):
        return False
    return packet[start] < FIRST_IPV6 or ipv6.goes_on(packet, start)


def flow(packet: bytes, start: int = 0) -> bytes:
    """Return what tells flows apart; ``packet`` may be anything, its header begins at ``start``."""
    six = packet[start : start + 1] >= b"\x60"
    return ipv6.flow(packet, start) if six else ipv4.flow(packet, start)
