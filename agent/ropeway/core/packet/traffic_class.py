"""Which class of traffic a packet belongs to.

A packet belongs to the first class that matches it. The answer is remembered by the bytes that can
matter, so that a packet of a known flow costs one look-up.
"""

from __future__ import annotations

import bisect
import enum
from dataclasses import dataclass
from typing import Dict, FrozenSet, Hashable, Optional, Sequence, Tuple

from ropeway.core.packet import ipv6
from ropeway.core.packet.version import FIRST_IPV6

#: Protocols whose first four bytes after the IP header are two ports: TCP, UDP, DCCP and SCTP
#: (https://www.iana.org/assignments/protocol-numbers).
WITH_PORTS = frozenset((6, 17, 33, 132))
#: Answers that are remembered; beyond it the memory starts anew.
FLOWS_MAX = 4096
#: Version 4 and a header of 20 bytes (RFC 791, section 3.1).
PLAIN = 0x45
#: The bits of bytes 6 and 7 that make a packet a fragment: more fragments, and the offset.
_FRAGMENT = 0x3F


@dataclass(frozen=True)
class Match:
    """What packets of a class have in common: everything that is not None holds for them."""

    #: Values of the DS field without ECN (RFC 2474), 0 to 63.
    dscp: Optional[FrozenSet[int]] = None
    #: IP protocols, 0 to 255.
    protocols: Optional[FrozenSet[int]] = None
    #: First and last port, one of which either end has. A fragment has no ports.
    ports: Optional[Tuple[Tuple[int, int], ...]] = None
    #: Virtual networks as address and mask, of which either end is in one. The IPv6 address of a
    #: host ends in its virtual address.
    networks: Optional[Tuple[Tuple[int, int], ...]] = None
    #: Largest packet in bytes. A fragment is part of a larger one.
    size_max: Optional[int] = None

    def holds(self, packet: bytes) -> bool:
        """Return whether a whole packet is of this kind."""
        if packet[0] >= FIRST_IPV6:
            return self._holds_ipv6(packet)
        if self.dscp is not None and packet[1] >> 2 not in self.dscp:
            return False
        if self.protocols is not None and packet[9] not in self.protocols:
            return False
        fragment = bool(packet[6] & _FRAGMENT or packet[7])
        if self.size_max is not None and (fragment or len(packet) > self.size_max):
            return False
        if self.networks is not None and not self._is_inside(packet, (12, 16)):
            return False
        protocol, start = packet[9], (packet[0] & 15) * 4
        return self.ports is None or (not fragment and self._has_port(packet, protocol, start))

    def _holds_ipv6(self, packet: bytes) -> bool:
        above = ipv6.upper(packet)
        if self.dscp is not None and ipv6.ds_field(packet) >> 2 not in self.dscp:
            return False
        if self.protocols is not None and above.protocol not in self.protocols:
            return False
        if self.size_max is not None and (above.fragment or len(packet) > self.size_max):
            return False
        if self.networks is not None and not self._is_inside(packet, (20, 36)):
            return False
        if self.ports is None:
            return True
        return not above.fragment and self._has_port(packet, above.protocol, above.start)

    def _is_inside(self, packet: bytes, places: Tuple[int, int]) -> bool:
        ends = [int.from_bytes(packet[at : at + 4], "big") for at in places]
        networks = self.networks or ()
        return any(end & mask == network for end in ends for network, mask in networks)

    def _has_port(self, packet: bytes, protocol: int, start: int) -> bool:
        if protocol not in WITH_PORTS or len(packet) < start + 4:
            return False
        ends = [int.from_bytes(packet[at : at + 2], "big") for at in (start, start + 2)]
        return any(low <= end <= high for end in ends for low, high in self.ports or ())


class Mode(enum.Enum):
    """How many copies a class gets; the value is its name in the configuration."""

    #: A copy over all connections, or over the best ones.
    REDUNDANT = "redundant"
    #: One copy while the best connection is known to keep the target, else one over each.
    ADAPTIVE = "adaptive"
    #: One copy over the best connection, more for a moment when it is left for another.
    SINGLE = "single"
    #: One copy, over the connection by which it arrives first as their rates and queues are known.
    SPREAD = "spread"


@dataclass(frozen=True)
class TrafficClass:
    """A class of traffic and what becomes of it."""

    name: str
    match: Match
    mode: Mode = Mode.REDUNDANT
    #: Copies of a packet in mode redundant, 1 to 8; None for one over each connection.
    copies: Optional[int] = None
    #: Milliseconds that packets may take in mode adaptive, one way, 10 to 10000.
    within_ms: float = 100.0
    #: Names or shell patterns of links that never carry the class.
    off: Tuple[str, ...] = ()
    #: For how many milliseconds at most the other end holds a packet back for one that was sent
    #: before it, 0 to 2000; 0 leaves packets in the order in which they come.
    hold_ms: int = 0
    #: How many packets one parity frame covers, 2 to 32; 0 for no parity frames.
    parity: int = 0

    @property
    def has_lane(self) -> bool:
        """Whether its packets are counted by themselves."""
        return self.hold_ms > 0 or self.parity > 0


class Classifier:
    """Numbers the classes from 0; what matches none has the number after the last."""

    __slots__ = ("_flows", "_matches", "_sizes")

    def __init__(self, matches: Sequence[Match]) -> None:
        self._matches = tuple(matches)
        self._sizes = sorted({m.size_max for m in matches if m.size_max is not None})
        self._flows: Dict[Hashable, int] = {}

    def class_of(self, packet: bytes) -> int:
        """Return the class of a whole packet."""
        protocol = packet[9]
        flow: Hashable
        if packet[0] >= FIRST_IPV6:
            if packet[6] not in WITH_PORTS:
                return self.look_up(packet)
            flow = (packet[:2], packet[6], packet[8:44], self._size_of(packet))
        elif protocol not in WITH_PORTS or packet[0] != PLAIN or packet[6] & _FRAGMENT or packet[7]:
            return self.look_up(packet)
        else:
            flow = (packet[1], protocol, packet[12:24], self._size_of(packet) if self._sizes else 0)
        known = self._flows.get(flow)
        if known is None:
            if len(self._flows) >= FLOWS_MAX:
                self._flows.clear()
            known = self._flows[flow] = self.look_up(packet)
        return known

    def _size_of(self, packet: bytes) -> int:
        """Return how many of the sizes that matter a packet exceeds."""
        return bisect.bisect_left(self._sizes, len(packet))

    def look_up(self, packet: bytes) -> int:
        """Return the class of a whole packet without the memory."""
        for number, match in enumerate(self._matches):
            if match.holds(packet):
                return number
        return len(self._matches)
