"""Virtual routing: which strand takes a packet for a host of the virtual network."""

from __future__ import annotations

import ipaddress
from typing import Any, Optional

from ropeway.core.packet import ipv4
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import Strand
from ropeway.core.tables import Tables
from ropeway.core.tuning import MAX_NEXT_HOPS


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
    ) -> None:
        self.network = ipaddress.IPv4Network(network)
        self.address = ipaddress.IPv4Address(address)
        self.router = router
        self._tables = tables

    def holds(self, host: bytes) -> bool:
        """Say whether four bytes are an address that a host of the network can have."""
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
        """Give the strand for ``destination`` (four bytes), from the table if it is there."""
        return self._tables.next_hops.get(destination) or self.resolve(destination)

    def resolve(self, destination: bytes) -> Optional[Strand[Any]]:
        """Give the strand for ``destination`` (four bytes), or None if no host takes it.

        A host's own strand is preferred while it is established; after that the router's, so
        that a host stays reachable when its direct links die.
        """
        if not self.holds(destination) or destination == self.address.packed:
            return None
        direct = self._tables.strands.get(ipv4.text(destination))
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
