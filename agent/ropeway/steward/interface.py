"""A network interface, and what of the host may have changed, as plain data."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class Interface:
    """One network interface as the kernel has it at one moment."""

    index: int
    name: str
    addresses: Tuple[str, ...]
    """IPv4 addresses of this host with prefix length, "192.168.0.2/24", primary ones first."""
    mtu: int
    up: bool
    """Set up by the administrator, and with a carrier."""
    admin_up: bool
    """Set up by the administrator, with a carrier or without."""
    loopback: bool
    ethernet: bool
    master: int
    """Index of the bridge, bond or the like that it is a port of; 0 for none."""
    kind: Optional[str]
    """"tun", "veth", "bridge" and so on; None for hardware."""
    alias: Optional[str]
    """The free text that `ip link set alias` gives an interface."""
    addresses6: Tuple[str, ...] = ()
    """Global IPv6 addresses that may be used now, "2001:db8::2/64": stable ones, then temporary
    ones, then deprecated ones, which still carry what began on them."""
    below: Tuple[int, ...] = ()
    """Indices of the interfaces that it is stacked on; of a veth the other end."""
    tunnel_ends: Tuple[str, ...] = ()
    """IPv4 addresses that the packets of a tunnel travel between, as far as they are set."""


class Change(enum.IntEnum):
    """What has to be looked at again, the lesser before the greater."""

    NOTHING = 0
    ROUTES = 1
    INTERFACES = 2
    """Links, addresses and routes: the kernel drops routes with both, and tells nobody."""
