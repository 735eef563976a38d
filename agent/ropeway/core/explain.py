"""Where a packet would go, and why: for a person who asks. Nothing is sent or counted."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any, Dict, List, Mapping, Optional

from ropeway.core import redundancy
from ropeway.core.endpoint import is_ipv6
from ropeway.core.link import Link
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4, ipv6
from ropeway.core.packet.traffic_class import WITH_PORTS
from ropeway.core.packet.version import V6, version_of
from ropeway.core.peers.policies import Policies
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables

#: What the headers of IPv4 and UDP take: the smallest packet that can be asked for, in bytes.
SIZE_MIN = 28
_IPV6_SIZE_MIN = 48
#: The number of ICMP.
_ICMP = 1


@dataclass(frozen=True)
class Question:
    """A packet as far as it matters which way it takes."""

    #: IPv4 or IPv6 as text.
    destination: str
    #: The DS field without ECN, 0 to 63.
    dscp: int = 0
    #: The IP protocol, 0 to 255; that of ICMP stands for ICMPv6 too.
    protocol: int = 17
    #: Where it goes to, 0 to 65535, if the protocol has ports.
    port: int = 0
    #: Its size in bytes, SIZE_MIN to 65535; an IPv6 packet has 48 at least.
    size: int = 100

    def packet(self, source: str, source6: bytes = b"") -> bytes:
        """Return such a packet of a host, with zeros for what does not matter (RFC 791, 8200).

        ``source6`` is its IPv6 address, empty if it has none.
        """
        if is_ipv6(self.destination):
            size = max(self.size, _IPV6_SIZE_MIN)
            protocol = ipv6.PROTOCOL_ICMP if self.protocol == _ICMP else self.protocol
            first = 6 << 28 | self.dscp << 22
            head = struct.pack(">IHBB", first, size - ipv6.HEADER_SIZE, protocol, 64)
            head += source6.rjust(16, b"\0") + IPv6Address(self.destination).packed
            ports = struct.pack(">HH", 0, self.port if protocol in WITH_PORTS else 0)
            return head + ports + bytes(size - len(head) - len(ports))
        ends = ipv4.pack(source) + ipv4.pack(self.destination)
        head = struct.pack(">BBHHHBBH", 0x45, self.dscp << 2, self.size, 0, 0, 64, self.protocol, 0)
        ports = struct.pack(">HH", 0, self.port if self.protocol in WITH_PORTS else 0)
        return head + ends + ports + bytes(self.size - len(head) - len(ends) - len(ports))


def explain(
    question: Question,
    source: str,
    tables: Tables[SecureStrand],
    routes: Routes,
    policies: Policies,
    links: Mapping[int, Link],
    now: float,
) -> Dict[str, Any]:
    """Return next hop, class and links of a packet that ``source``, this host, sends.

    Ready for JSON: ``next_hop``, the first one, and ``class`` are None where there is none;
    ``fault`` says why the packet would go nowhere.
    """
    answer: Dict[str, Any] = {
        "destination": question.destination,
        "next_hop": None,
        "next_hops": [],
        "class": None,
        "mode": None,
        "parity": 0,
        "parity_link": None,
        "fault": None,
        "links": [],
    }
    packet = question.packet(source, routes.own6)
    of = version_of(packet)
    destination = packet[of.destination]
    if destination in (ipv4.pack(source), routes.own6):
        return {**answer, "fault": "this is the address of this host itself"}
    strands = [tables.strands[hop.host] for hop in routes.hops(destination)]
    if not routes.spreads:
        del strands[1:]
    if not strands:
        held = routes.holds(destination)
        why = "no host has it, and there is no router" if held else "it is outside the network"
        if of is V6 and not routes.own6:
            why = "the network has no IPv6 (network6)"
        return {**answer, "fault": why}
    if of is V6 and strands[0].refuses_ipv6:
        why = f"{strands[0].host} takes no IPv6 packets: give it network6 too"
        return {**answer, "fault": why}
    number = tables.classifier.class_of(packet) if tables.classifier else None
    answer["next_hop"] = strands[0].host
    answer["next_hops"] = [strand.host for strand in strands]
    answer["class"], answer["mode"] = policies.name_of(number)
    answer["parity"], over = policies.parity_of(strands[0], number)
    if over is not None and over.link in links:
        answer["parity_link"] = links[over.link].name
    answer["links"] = [
        {"next_hop": strand.host, **link}
        for strand in strands
        for link in _of_links(strand, number, policies, links, now)
    ]
    if not any(one["carries"] for one in answer["links"]):
        answer["fault"] = "no link carries it now"
    return answer


def _of_links(
    strand: SecureStrand,
    number: Optional[int],
    policies: Policies,
    links: Mapping[int, Link],
    now: float,
) -> List[Dict[str, Any]]:
    lacking = redundancy.of_peer(strand, links).lacking
    found = []
    for index, link in sorted(links.items()):
        there = [c for c in strand.connections.values() if c.link == index]
        reasons = [policies.why_not(strand, number, connection, now) for connection in there]
        carries = "" in reasons
        why = None
        if not carries:
            why = next((one for one in reasons if one), None) or lacking.get(
                index, "it has no way to the host"
            )
        found.append({"index": index, "name": link.name, "carries": carries, "why": why})
    return found
