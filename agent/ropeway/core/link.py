"""A local interface that takes part, as the control side sees it."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, field
from typing import FrozenSet, Mapping, NamedTuple, Optional, Tuple

from ropeway.core.endpoint import without_prefix

#: What a metered link costs if nobody says otherwise: as much as 50 ms on the way.
METERED_COST = 500


class Role(enum.IntEnum):
    """Which packets a link carries; control frames go over it in any case."""

    #: All that its connections are chosen for.
    ALWAYS = 0
    #: Packets that no other link carries.
    LAST = 1
    NEVER = 2


class Purpose(NamedTuple):
    """What a link is for, and what it costs to use it."""

    role: Role = Role.ALWAYS
    #: What it weighs where not all links carry a packet, 0 to 1000.
    cost: int = 0
    #: Whether its bytes cost money: it is measured no more than what it carries needs.
    metered: bool = False


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
    #: IPv6 addresses with prefix length, ``2001:db8::2/64``, stable ones first and deprecated ones
    #: last: no link-local ones, and none that is not usable yet.
    addresses6: Tuple[str, ...] = ()
    #: The address that the kernel would send from on this interface, by far address, for those far
    #: addresses of ``looked_up`` that the interface has a route to.
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)
    #: The far addresses for which the kernel's routes were looked up.
    looked_up: FrozenSet[str] = frozenset()
    #: What it is for by now.
    role: Role = Role.ALWAYS
    #: As :class:`Purpose` says.
    cost: int = 0
    metered: bool = False

    def source_for(self, far: str) -> Optional[str]:
        """Return the local address to send from to reach the address ``far``.

        None without a route, or while the route was not looked up. If the kernel would take an
        address that this link does not have, an address whose own prefix holds the far address is
        preferred; otherwise the first one of its kind is returned.
        """
        preferred = self.sources.get(far)
        if preferred is None or self.holds(preferred):
            return preferred
        interfaces = [
            ipaddress.ip_interface(own)
            for own in (self.addresses6 if ":" in far else self.addresses)
        ]
        address = ipaddress.ip_address(far)
        near = [interface for interface in interfaces if address in interface.network]
        return next((str(interface.ip) for interface in near + interfaces), None)

    def has_no_route(self, far: str) -> bool:
        """Return whether the route to ``far`` was looked up, and there is none."""
        return far in self.looked_up and far not in self.sources

    def holds(self, address: str) -> bool:
        """Return whether ``address`` is one of this link's own."""
        return any(without_prefix(own) == address for own in (*self.addresses, *self.addresses6))
