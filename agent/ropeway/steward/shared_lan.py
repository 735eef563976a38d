"""Interfaces that are in one LAN with a link.

By default Linux answers ARP for each of its addresses on each of its interfaces, so what is meant
for a link soon comes by the other one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Dict, List, Sequence

from ropeway.core.link import Link
from ropeway.steward.interface import Interface

PAIRS_MAX = 16
"""A host of containers may have hundreds of interfaces with one network."""


@dataclass(frozen=True)
class SharedLan:
    """A link, and another interface that is in its LAN."""

    link: Link
    address: str
    """The link's address there."""
    other: Interface
    network: str
    """"192.168.0.0/24"."""

    @property
    def neighbour(self) -> str:
        """An address of that LAN that is neither interface's own there."""
        own = {self.address, *(text.split("/")[0] for text in self.other.addresses)}
        hosts = (str(host) for host in ipaddress.IPv4Network(self.network).hosts())
        return next((host for host in hosts if host not in own), self.address)


def find(interfaces: Sequence[Interface], links: Sequence[Link]) -> List[SharedLan]:
    """Return which of the `interfaces` that are up are in one LAN with one of the `links`."""
    by_network: Dict[ipaddress.IPv4Network, List[Interface]] = {}
    for interface in interfaces:
        if interface.up and interface.ethernet:
            for network in {ipaddress.IPv4Interface(text).network for text in interface.addresses}:
                by_network.setdefault(network, []).append(interface)
    found: List[SharedLan] = []
    for link in links:
        for text in link.addresses:
            own = ipaddress.IPv4Interface(text)
            if own.network.prefixlen > ipaddress.IPV4LENGTH - 2:
                continue
            for other in by_network.get(own.network, ()):
                if other.index != link.index and len(found) < PAIRS_MAX:
                    found.append(SharedLan(link, str(own.ip), other, str(own.network)))
    return found


def sentence(pair: SharedLan, why: str) -> str:
    """Return what to do where frames that come by the other interface are lost, and `why`."""
    link, other = pair.link, pair.other
    return (
        f"{link.name}({link.index}) and {other.name}({other.index}) are both in"
        f" {pair.network}, and {other.name} answers ARP for {pair.address} too: frames for"
        f" {link.name} that come by {other.name} are lost, because {why}: set"
        " net.ipv4.conf.all.arp_ignore to 1"
    )
