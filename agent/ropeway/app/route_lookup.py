"""From which address each link reaches a far one, found in the dump of the routes."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from typing import (
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ropeway.core.link import Link
from ropeway.kernel.netlink import Interface

# Hosts with full routing tables exist, and the same prefixes are asked about again and again.
_network4 = functools.lru_cache(maxsize=8192)(ipaddress.IPv4Network)
_network6 = functools.lru_cache(maxsize=8192)(ipaddress.IPv6Network)

#: Far addresses that are looked up; a node that calls more calls those first that it names first.
FAR_MAX = 4096
#: How often at most, for all links together, the kernel is asked which source it prefers: it takes
#: 0.03 ms each time. For other addresses the source follows from the routes alone.
ASKED_MAX = 1024


class RouteLookup:
    """The routes of the last dump, and the answers that were found in them."""

    def __init__(self, preferred: Callable[[str, str], Optional[str]]) -> None:
        """`preferred(name, far)` returns the address that the kernel sends from, or None."""
        self._preferred = preferred
        self._interfaces: Mapping[int, Interface] = {}
        self._found: Dict[Tuple[Link, str], Optional[str]] = {}

    def set_interfaces(self, interfaces: Iterable[Interface]) -> None:
        """Take the interfaces of a new dump with their routes; forget what was found before."""
        self._interfaces = {interface.index: interface for interface in interfaces}
        self._found.clear()

    def complete(self, links: Sequence[Link], far: Sequence[str]) -> List[Link]:
        """Return `links` with their sources for each of the addresses `far`, as many as allowed."""
        far = far[:FAR_MAX]
        if len(self._found) > len(links) * FAR_MAX:
            self._found.clear()
        asked = frozenset(far[: ASKED_MAX // max(1, len(links))])
        looked_up = frozenset(far)
        return [
            dataclasses.replace(link, sources=self._sources(link, far, asked), looked_up=looked_up)
            for link in links
        ]

    def _sources(self, link: Link, far: Iterable[str], asked: FrozenSet[str]) -> Dict[str, str]:
        sources = {}
        for address in far:
            if (link, address) not in self._found:
                self._found[link, address] = self._look_up(link, address, address in asked)
            source = self._found[link, address]
            if source is not None:
                sources[address] = source
        return sources

    def _look_up(self, link: Link, far: str, ask: bool) -> Optional[str]:
        interface = self._interfaces.get(link.index)
        routed = _source_by_routes(link, interface, far) if interface is not None else None
        if routed is None or not link.up or not ask:
            return routed
        preferred = self._preferred(link.name, far)
        return preferred if preferred is not None and link.holds(preferred) else routed


def _source_by_routes(link: Link, interface: Interface, far: str) -> Optional[str]:
    """Return the address whose own prefix holds `far`, else the first one if routes lead there."""
    address = ipaddress.ip_address(far)
    ipv6 = address.version == 6
    own = [ipaddress.ip_interface(text) for text in (link.addresses6 if ipv6 else link.addresses)]
    for one in own:
        if address in one.network:
            return str(one.ip)
    if own and _cover(interface.routes6 if ipv6 else interface.routes, address):
        return str(own[0].ip)
    return None


def _cover(
    prefixes: Tuple[str, ...], far: Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
) -> bool:
    """Say whether one of `prefixes`, sorted by address and none within another, holds `far`."""
    network = _network6 if far.version == 6 else _network4
    low, high = 0, len(prefixes)
    while low < high:
        middle = (low + high) // 2
        if int(network(prefixes[middle]).network_address) <= int(far):
            low = middle + 1
        else:
            high = middle
    return low > 0 and far in network(prefixes[low - 1])
