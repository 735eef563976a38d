"""What the steward goes by: as much as it needs of the configuration that it has read itself."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import FrozenSet, Mapping, Optional, Tuple

from ropeway.app.config.model import SECURE, Budget, Config
from ropeway.core.settings import UNASSIGNED
from ropeway.kernel import tun

_LIVE = ("include", "exclude", "named_addresses", "precedence", "others", "budgets", "announce")
"""What a running agent can go over to."""


@dataclass(frozen=True)
class Settings:
    """What the steward has to know of the configuration that the engine runs with."""

    #: Whether the network is a secure one; else it is classic.
    secure: bool
    device_name: str
    #: The virtual address with the network's prefix length, "10.0.0.1/24"; that of `UNASSIGNED`
    #: where this host has none yet.
    device_address: str
    #: Its IPv6 address with the prefix length; None without IPv6.
    device_address6: Optional[str]
    #: The UDP port of a secure network's sockets.
    port: int
    include: Tuple[str, ...]
    exclude: Tuple[str, ...]
    #: Addresses that every link gets, wherever they live.
    named_addresses: Tuple[str, ...]
    #: Whether the virtual network goes before an interface's own where they overlap.
    precedence: bool
    #: Offload features that the device is asked for.
    device_features: Tuple[str, ...]
    #: Real addresses and names of other hosts, by virtual address.
    others: Mapping[str, Tuple[str, ...]]
    #: Budgets of links by interface name or shell pattern.
    budgets: Tuple[Tuple[str, Budget], ...] = ()
    #: The virtual network, where this host gets its address by a lease; else empty.
    lease_network: str = ""
    #: The networks behind this host, "192.168.50.0/24".
    announce: Tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """The virtual address."""
        return self.device_address.split("/", maxsplit=1)[0]

    @property
    def network(self) -> str:
        """The virtual network, "10.0.0.0/24"."""
        return self.lease_network or str(ipaddress.IPv4Interface(self.device_address).network)

    @property
    def has_address(self) -> bool:
        """Whether this host has a virtual address."""
        return self.address != UNASSIGNED

    def with_address(self, address: str) -> Settings:
        """Return these settings with the address that a lease gives; empty for none.

        `ValueError` if it is no host's of the network, or if this host has one of its own.
        """
        if not self.lease_network:
            raise ValueError("an address for a host that has one of its own")
        network = ipaddress.IPv4Network(self.lease_network)
        if not address:
            return replace(self, device_address=f"{UNASSIGNED}/{network.prefixlen}")
        ends = (network.network_address, network.broadcast_address)
        if ipaddress.ip_address(address) not in network or ipaddress.ip_address(address) in ends:
            raise ValueError(f"{address} is no host's address of {network}")
        return replace(self, device_address=f"{address}/{network.prefixlen}")

    @property
    def named(self) -> FrozenSet[str]:
        """Addresses and names of all other hosts."""
        return frozenset(text for of_host in self.others.values() for text in of_host)

    def differs_lastingly(self, other: Settings) -> bool:
        """Say whether only a restart leads from these settings to others."""
        return any(
            value != getattr(other, name) for name, value in vars(self).items() if name not in _LIVE
        )


def settings_of(config: Config) -> Settings:
    """Return what the steward takes from a configuration."""
    secure = config.encapsulation == SECURE
    # Classic frames have no use for offloads.
    features = frozenset(tun.FEATURES) - config.offload_disable if secure else ()
    return Settings(
        secure=secure,
        device_name=config.device_name,
        device_address=config.device_address,
        device_address6=config.device_address6,
        port=config.port,
        include=config.include,
        exclude=config.exclude,
        named_addresses=config.named_addresses,
        precedence=config.precedence,
        device_features=tuple(sorted(features)),
        others=config.others,
        budgets=config.budgets,
        lease_network=config.network if config.is_leased else "",
        announce=config.announce,
    )
