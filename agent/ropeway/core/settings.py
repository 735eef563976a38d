"""What a node is told: who it is, and who else belongs to its network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Protocol, Tuple

from ropeway.core.address_range import Range
from ropeway.core.endpoint import Endpoint
from ropeway.core.packet.traffic_class import TrafficClass

_NO_PSK = bytes(32)
#: The address of a host that has none yet.
UNASSIGNED = "0.0.0.0"


@dataclass(frozen=True)
class Settings:
    """What a node is told once; addresses and networks are dotted IPv4 text."""

    #: This host's virtual address, inside ``network``; :data:`UNASSIGNED` where a router gives
    #: it one.
    address: str
    #: The virtual network, ``10.0.0.0/24``.
    network: str
    #: Next hops for hosts without an established strand of their own; the first ones count more.
    routers: Tuple[str, ...] = ()
    #: Whether packets between other hosts are passed on.
    forward: bool = False
    #: The device's MTU in bytes; None follows the links.
    device_mtu: Optional[int] = None
    #: The /64 of the hosts' IPv6 addresses, ``fd12:3456:789a:1::/64``; None without IPv6. See
    #: :func:`ropeway.core.network.routes.address6_of`.
    network6: Optional[str] = None


class PeerKeys(Protocol):
    """The part of :class:`PeerSettings` that the handshakes need."""

    @property
    def host(self) -> str:
        """The virtual address, IPv4 as text."""

    @property
    def public_keys(self) -> Tuple[bytes, ...]:
        """The keys that the host may have, 32 bytes each; the present one first."""

    @property
    def psk(self) -> bytes:
        """The pre-shared key, 32 bytes; zeros for none."""


@dataclass(frozen=True)
class PeerSettings:
    """Another host that belongs to the network."""

    #: Its virtual address.
    host: str
    #: The keys that prove it, 32 bytes each: one, or two while it changes its key.
    public_keys: Tuple[bytes, ...]
    #: A secret of 32 bytes that both ends share, zeros for none.
    psk: bytes = field(default=_NO_PSK, repr=False)
    #: Where it can be called; nowhere if it calls by itself.
    endpoints: Tuple[Endpoint, ...] = ()
    #: Host names and ports at which it can be called too, once
    #: :meth:`ropeway.core.node.SecureNode.set_resolved` says which addresses the names have.
    names: Tuple[Endpoint, ...] = ()
    #: The networks that it may announce as being behind it, "192.168.50.0/24"; parts of them too.
    allowed: Tuple[str, ...] = ()
    #: Whether this host, as a router, may tell other hosts where that one can be called.
    direct: bool = True


@dataclass(frozen=True)
class Tenant:
    """A host that belongs to the network and gets its address from this one."""

    #: The key that proves it, 32 bytes.
    public_key: bytes
    #: As in :class:`PeerSettings`.
    psk: bytes = field(default=_NO_PSK, repr=False)


@dataclass(frozen=True)
class Leases:
    """What a router gives to hosts without an address of their own."""

    ranges: Tuple[Range, ...]
    #: How long a host may keep its address without having asked again, in seconds, 60 or more.
    time_s: float
    #: The most that the MTU of such a host's device should be, in bytes; 0 leaves it to the host.
    mtu: int = 0


@dataclass(frozen=True)
class SecureSettings(Settings):
    """What a secure node is told once, or again by :meth:`ropeway.core.node.SecureNode.reload`."""

    #: This host's X25519 private key, 32 bytes.
    private_key: bytes = field(default=b"", repr=False)
    #: The UDP port of this host's sockets.
    port: int = 0
    peers: Tuple[PeerSettings, ...] = ()
    #: Hosts that get an address by a lease, if ``leases`` says which.
    tenants: Tuple[Tenant, ...] = ()
    leases: Optional[Leases] = None
    #: Greater than at every earlier start of this host, 0 to 2**32 - 1.
    epoch: int = 0
    #: What tells peers of sessions of former starts:
    #: see :class:`ropeway.core.session.resets.Resets`.
    reset_keys: Tuple[bytes, ...] = field(default=(), repr=False)
    #: A session is replaced after this time, in seconds, 2 to 3600.
    rollover_s: float = 120.0
    #: The classes of traffic in the order in which they match.
    classes: Tuple[TrafficClass, ...] = ()
    #: Whether hosts that packets go to by a router are called directly, and may call this one.
    direct: bool = False
    #: Whether outer headers carry the DSCP of the packets in them.
    copy_dscp: bool = False
    #: The networks behind this host that it announces, "192.168.50.0/24".
    announce: Tuple[str, ...] = ()
