"""A local interface that takes part, as the control side sees it."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Tuple, Union

# Hosts with full routing tables exist, and the same prefixes are asked about again and again.
_network4 = functools.lru_cache(maxsize=8192)(ipaddress.IPv4Network)
_network6 = functools.lru_cache(maxsize=8192)(ipaddress.IPv6Network)


@dataclass(frozen=True)
class Link:
    """One local network interface over which frames may travel.

    A link is a snapshot: a change of any field makes a new one.
    """

    #: The kernel's interface index, 1 and up.
    index: int
    #: The kernel's interface name.
    name: str
    #: IPv4 addresses with prefix length, ``192.168.0.2/24``, the primary ones first.
    addresses: Tuple[str, ...]
    #: Largest IP packet that the interface sends, in bytes.
    mtu: int
    #: Administratively up and with a carrier.
    up: bool
    #: IPv4 prefixes that have a route out of this interface, in any table: sorted by address, and
    #: none within another.
    routes: Tuple[str, ...] = ()
    #: IPv6 addresses with prefix length, ``2001:db8::2/64``, stable ones first and deprecated ones
    #: last: no link-local ones, and none that is not usable yet.
    addresses6: Tuple[str, ...] = ()
    #: IPv6 prefixes that have a route out of this interface, as ``routes``.
    routes6: Tuple[str, ...] = ()
    #: The address that the kernel would send from on this interface, by far address.
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    def source_for(self, address: str) -> Optional[str]:
        """Give the local address to send from to reach ``address``, or None without a route.

        Either is IPv4 or IPv6, and both of one kind. What the kernel would take is taken. Where
        ``sources`` says nothing, an address whose own prefix holds the far address is preferred;
        otherwise the first one is taken. A route out of this interface has to cover the far
        address.
        """
        guess = self._source6(address) if ":" in address else self._source4(address)
        preferred = self.sources.get(address)
        if guess is None or preferred is None or not self.holds(preferred):
            return guess
        return preferred

    def holds(self, address: str) -> bool:
        """Say whether ``address`` is one of this link's own."""
        return any(own.partition("/")[0] == address for own in (*self.addresses, *self.addresses6))

    def _source4(self, address: str) -> Optional[str]:
        far = ipaddress.IPv4Address(address)
        own = [ipaddress.IPv4Interface(text) for text in self.addresses]
        for interface in own:
            if far in interface.network:
                return str(interface.ip)
        if own and _cover(self.routes, far, _network4):
            return str(own[0].ip)
        return None

    def _source6(self, address: str) -> Optional[str]:
        far = ipaddress.IPv6Address(address)
        own = [ipaddress.IPv6Interface(text) for text in self.addresses6]
        for interface in own:
            if far in interface.network:
                return str(interface.ip)
        if own and _cover(self.routes6, far, _network6):
            return str(own[0].ip)
        return None


def _cover(
    prefixes: Tuple[str, ...],
    far: Union[ipaddress.IPv4Address, ipaddress.IPv6Address],
    network: Callable[[str], Union[ipaddress.IPv4Network, ipaddress.IPv6Network]],
) -> bool:
    """Say whether one of ``prefixes``, sorted by address and none within another, holds ``far``."""
    low, high = 0, len(prefixes)
    while low < high:
        middle = (low + high) // 2
        if int(network(prefixes[middle]).network_address) <= int(far):
            low = middle + 1
        else:
            high = middle
    return low > 0 and far in network(prefixes[low - 1])
