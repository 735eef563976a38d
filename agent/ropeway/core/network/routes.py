"""Virtual routing: which strands take a packet for a host of the virtual network."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ropeway.core.network.subnets import Subnets
from ropeway.core.packet import ipv4
from ropeway.core.packet.prefix import Longest, Prefix
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import Strand
from ropeway.core.tables import Tables
from ropeway.core.tuning import MAX_BY_ROUTER, MAX_NEXT_HOPS, ROUTERS_AT_ONCE

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
    """The next hops of every destination: its own strand, else learnt ones, else the routers.

    :meth:`hops` fills :attr:`ropeway.core.tables.Tables.next_hops` and ``several``, which the data
    side reads; :meth:`forget` empties them when a strand changes.
    """

    def __init__(
        self,
        network: str,
        address: str,
        routers: Sequence[str],
        tables: Tables[Any],
        forwards: bool = False,
        network6: Optional[str] = None,
    ) -> None:
        """``routers`` are virtual addresses, those that count more first.

        A host that ``forwards`` sends each packet to one next hop only. ``network6`` is the prefix
        of the hosts' IPv6 addresses, None where there are none.
        """
        self.network = ipaddress.IPv4Network(network)
        self.address = ipaddress.IPv4Address(address)
        self.routers = tuple(routers)
        self._forwards = forwards
        self._tables = tables
        #: Hosts that packets go to by the router since they were taken from here, where somebody
        #: wants to know: four bytes each, :data:`MAX_BY_ROUTER` at most.
        self.by_router: Dict[bytes, None] = {}
        #: Whether somebody does.
        self.notes_by_router = False
        #: What comes before the four bytes of a host's virtual address in its IPv6 address; empty
        #: where hosts have none.
        self.prefix6 = b"" if network6 is None else prefix_of(network6)
        #: This host's IPv6 address, 16 bytes; empty if it has none.
        self.own6 = self.prefix6 and self.prefix6 + self.address.packed
        #: The networks behind hosts.
        self.subnets = Subnets()
        # The hosts that lead to each prefix that others have announced.
        self._learnt: Longest[Tuple[str, ...]] = Longest()

    @property
    def spreads(self) -> bool:
        """Whether packets may have several next hops at once."""
        return not self._forwards and (len(self.routers) > 1 or self.notes_by_router)

    def set_routers(self, routers: Sequence[str]) -> None:
        """Take other routers from now on, by their virtual addresses."""
        self.routers = tuple(routers)
        self.forget()

    def set_address(self, address: str) -> None:
        """Take another address for this host, and work every next hop out anew."""
        self.address = ipaddress.IPv4Address(address)
        self.own6 = self.prefix6 and self.prefix6 + self.address.packed
        self.forget()

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

    def set_learnt(self, table: Mapping[Prefix, Sequence[str]]) -> None:
        """Take the prefixes that others have announced, all of them.

        Each has next hops, by their virtual addresses, the best one first; none where it cannot be
        reached. All of them have to be free of loops. Where none is established, the routers are
        used, as for a destination without a route.
        """
        self._learnt = Longest((prefix, tuple(hosts)) for prefix, hosts in table.items())
        self.forget()

    def is_learnt(self, address: bytes) -> bool:
        """Say whether a prefix that another host has announced has an address."""
        return bool(self._learnt.get(address))

    def forget(self) -> None:
        """Have every next hop worked out anew."""
        self._tables.forget_next_hops()

    def next_hop(self, destination: bytes) -> Optional[Strand[Any]]:
        """Give the first next hop of ``destination`` (packed), from the tables if it is there."""
        strand: Optional[Strand[Any]] = self._tables.next_hops.get(destination)
        if strand is not None:
            return strand
        hops = self.hops(destination)
        return hops[0] if hops else None

    def hops(self, destination: bytes) -> Tuple[Strand[Any], ...]:
        """Give the strands that take a packet for ``destination`` (packed); none if no host does.

        A host's own strand is preferred while it is established; after that those of others, so
        that a host stays reachable when its direct links die.
        """
        tables = self._tables
        known = tables.several.get(destination)
        if known is not None:
            return known
        strand = tables.next_hops.get(destination)
        if strand is not None:
            return (strand,)
        hops, by_agreement = self._resolve(destination)
        if hops:
            if self.notes_by_router and hops[0].host in self.routers:
                self._note_by_router(destination, hops[0])
            if len(tables.next_hops) + len(tables.several) >= MAX_NEXT_HOPS:
                self.forget()
            # Who sends by the table of single ones does not ask whether the host refuses.
            refused = len(destination) != IPV4_BYTES and hops[0].refuses_ipv6
            if len(hops) > 1 or refused or (by_agreement and self._forwards):
                tables.several[destination] = hops
            else:
                tables.next_hops[destination] = hops[0]
        return hops

    def forget_host(self, host: bytes) -> None:
        """Have the next hops of a host, by its four bytes, worked out anew."""
        for table in (self._tables.next_hops, self._tables.several):
            table.pop(host, None)
            if self.prefix6:
                table.pop(self.prefix6 + host, None)

    def _note_by_router(self, destination: bytes, router: Strand[Any]) -> None:
        host = destination[-IPV4_BYTES:]
        if host == router.host_bytes or not self.holds(destination):
            return
        if len(self.by_router) >= MAX_BY_ROUTER:
            del self.by_router[next(iter(self.by_router))]
        self.by_router[host] = None

    def may_pass(self, origin: Optional[Strand[Any]], destination: bytes) -> bool:
        """Say whether a packet that ``origin`` brought may go to the next hop in the tables.

        A router passes what another router brought on to the destination itself, or where a learnt
        route leads; to one of its own routers it does not, since that one may do the same.
        """
        if origin is None or origin.host not in self.routers:
            return True
        return destination in self._tables.next_hops

    def status(self) -> List[Dict[str, Any]]:
        """Return the routers, and which of them carry packets for hosts behind them, for JSON."""
        strands = [self._tables.strands.get(host) for host in self.routers]
        established = [strand.host for strand in strands if strand and _is_established(strand)]
        in_use = established[: ROUTERS_AT_ONCE if self.spreads else 1]
        return [
            {"host": host, "established": host in established, "carries": host in in_use}
            for host in self.routers
        ]

    def _resolve(self, destination: bytes) -> Tuple[Tuple[Strand[Any], ...], bool]:
        """Return the next hops, and whether they are only those of the configuration."""
        if destination in (self.address.packed, self.own6):
            return (), False
        learnt = self._learnt.get(destination) or ()
        inside = self.holds(destination)
        if not inside and not learnt:
            return (), False
        strands = self._tables.strands
        direct = strands.get(ipv4.text(destination[-IPV4_BYTES:])) if inside else None
        six = len(destination) != IPV4_BYTES
        if direct is not None and _is_established(direct):
            # A host that was met by chance may be lost by chance.
            chance = direct.learnt and self.spreads
            return (direct, *(self._established(self.routers, six)[:1] if chance else ())), False
        for hosts in (learnt, self.routers):
            established = self._established(hosts, six)
            if established:
                at_once = ROUTERS_AT_ONCE if self.spreads else 1
                return tuple(established[:at_once]), hosts is self.routers
        others = [strands[host] for host in (*learnt, *self.routers) if host in strands]
        candidates = [strand for strand in (direct, *others) if strand is not None]
        able = next((strand for strand in candidates if strand.carrying), None)
        first = able or (candidates[0] if candidates else None)
        if first is None:
            return (), False
        return (first,), first is not direct and first.host not in learnt

    def _established(self, hosts: Sequence[str], six: bool) -> List[Strand[Any]]:
        """Return the strands of those hosts that are reached, and take such packets."""
        found = [self._tables.strands.get(host) for host in hosts]
        return [
            strand
            for strand in found
            if strand is not None and _is_established(strand) and not (six and strand.refuses_ipv6)
        ]


def _is_established(strand: Strand[Any]) -> bool:
    return bool(strand.carrying) and strand.best_state == State.ESTABLISHED
