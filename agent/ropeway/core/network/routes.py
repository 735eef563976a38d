"""Virtual routing: which strand takes a packet for a host of the virtual network."""

from __future__ import annotations

import ipaddress
from typing import Any, Optional

from ropeway.core.packet import ipv4
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import Strand
from ropeway.core.tables import Tables
from ropeway.core.tuning import MAX_NEXT_HOPS

IPV4_BYTES = 4


def prefix_of(network6: str) -> bytes:
    """Return the first 12 bytes of the IPv6 addresses of all hosts of a /64.

    A host's address is the prefix, four bytes of zeros, and its virtual IPv4 address.
    """
    return ipaddress.IPv6Network(network6).network_address.packed[:-IPV4_BYTES]


def address6_of(network6: str, address: str) -> str:
    """Return the IPv6 address of the host whose virtual IPv4 address that is, as text."""
    packed = prefix_of(network6) + ipaddress.IPv4Address(address).packed
    return str(ipaddress.IPv6Address(packed))


class Routes:
    """The next hop of every destination: its own strand, else the router's.

    :meth:`resolve` fills :attr:`ropeway.core.tables.Tables.next_hops`, which the data side reads;
    :meth:`forget` empties it when a strand changes.
    """

    def __init__(
        self,
        network: str,
        address: str,
        router: Optional[str],
        tables: Tables[Any],
        network6: Optional[str] = None,
    ) -> None:
        """``network6`` is the prefix of the hosts' IPv6 addresses, None where there are none."""
        self.network = ipaddress.IPv4Network(network)
        self.address = ipaddress.IPv4Address(address)
        self.router = router
        self._tables = tables
        #: What comes before the four bytes of a host's virtual address in its IPv6 address; empty
        #: where hosts have none.
        self.prefix6 = b"" if network6 is None else prefix_of(network6)
        #: This host's IPv6 address, 16 bytes; empty if it has none.
        self.own6 = self.prefix6 and self.prefix6 + self.address.packed

    def host_of(self, address: bytes) -> bytes:
        """Return the four bytes of the host that has an IPv6 address; empty if none can have it."""
        prefix = self.prefix6
        return address[len(prefix) :] if prefix and address.startswith(prefix) else b""

    def holds(self, host: bytes) -> bool:
        """Say whether 4 or 16 bytes are an address that a host of the network can have."""
        if len(host) != IPV4_BYTES:
            host = self.host_of(host)
            if not host:
                return False
        address = ipaddress.IPv4Address(host)
        if address not in self.network:
            return False
        return self.network.prefixlen >= 31 or address not in (
            self.network.network_address,
            self.network.broadcast_address,
        )

    def forget(self) -> None:
        """Have every next hop worked out anew."""
        self._tables.next_hops.clear()

    def next_hop(self, destination: bytes) -> Optional[Strand[Any]]:
        """Give the strand for ``destination`` (4 or 16 bytes), from the table if it is there."""
        return self._tables.next_hops.get(destination) or self.resolve(destination)

    def resolve(self, destination: bytes) -> Optional[Strand[Any]]:
        """Give the strand for ``destination`` (4 or 16 bytes), or None if no host takes it.

        A host's own strand is preferred while it is established; after that the router's, so
        that a host stays reachable when its direct links die.
        """
        if not self.holds(destination):
            return None
        host = destination[-IPV4_BYTES:]
        if host == self.address.packed:
            return None
        direct = self._tables.strands.get(ipv4.text(host))
        by_router = self._tables.strands.get(self.router) if self.router else None
        candidates = [strand for strand in (direct, by_router) if strand and strand.carrying]
        strand = next(
            (strand for strand in candidates if strand.best_state == State.ESTABLISHED),
            candidates[0] if candidates else direct or by_router,
        )
        if strand is not None:
            if len(self._tables.next_hops) >= MAX_NEXT_HOPS:
                self._tables.next_hops.clear()
            self._tables.next_hops[destination] = strand
        return strand
