"""The configuration as plain dataclasses."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, List, Optional, Tuple, TypeVar

from ropeway.app.store import keys
from ropeway.core.endpoint import Endpoint
from ropeway.core.network.routes import address6_of
from ropeway.core.packet.traffic_class import TrafficClass
from ropeway.core.settings import UNASSIGNED, Leases

DEFAULT_PATH = "/etc/ropeway/ropeway.yaml"
DEFAULT_DEVICE_NAME = "ropeway0"
DEFAULT_CONTROL_PATH = "/run/ropeway/control.sock"
SECURE = "secure"
CLASSIC = "classic"
DEFAULT_EXCLUDE = (
    *("docker*", "br-*", "veth*", "virbr*", "lxc*", "cni*", "flannel*", "cali*"),
    *("tailscale*", "zt*", "wg*", "tun*"),
)
"""What containers and virtual machines are plugged into leads to no other host, and a VPN may lead
through the virtual network."""
DEFAULT_PORT = 51840
DEFAULT_PRIVATE_KEY_PATH = "/etc/ropeway/private.key"
DEFAULT_ROLLOVER_S = 120.0
DEFAULT_MAX_AGE_S = 1.0
MAX_AGE_MIN_S = 0.1
"""A turn of a busy loop on a small board takes some hundredths of a second."""
DAY = "day"
MONTH = "month"
LAST = "last"
NEVER = "never"
BYTES_MAX = 10**15
"""What a budget may be at most."""
RESERVE_PARTS = 200
"""A crash costs half a percent of a budget, and its use is written 400 times."""
NO_PSK = bytes(keys.KEY_BYTES)
"""What stands for a pre-shared key where there is none."""


@dataclass(frozen=True)
class Peer:
    """Another host of a secure network."""

    host: str
    """Its virtual address."""
    public_keys: Tuple[bytes, ...]
    """Its public key and, while that is being changed, the next one."""
    endpoints: Tuple[Endpoint, ...] = ()
    """Where to greet it from the start."""
    names: Tuple[Endpoint, ...] = ()
    """Names and ports: it is greeted at all addresses that the names have."""
    allowed: Tuple[str, ...] = ()
    """Networks that it may announce, "192.168.50.0/24"."""
    psk_file: Optional[str] = None
    psk: bytes = field(default=NO_PSK, repr=False)
    direct: bool = True
    """Whether this host, as a router, may tell others where that one can be called."""


@dataclass(frozen=True)
class Remote:
    """One address of another host that this one greets from the start, on a classic network."""

    host: str
    """Its virtual address."""
    address: str
    """A real address of it."""
    index: int
    """Its interface index there; 0 where the file does not say."""


@dataclass(frozen=True)
class Budget:
    """How many bytes a link may carry in a period, and what it is for then."""

    bytes: int
    per: str
    """`DAY` or `MONTH`."""
    reset_day: int = 1
    """The day of the month, 1 to 31, with which a month begins."""
    then: str = LAST
    """`LAST` or `NEVER`."""

    @property
    def reserve(self) -> int:
        """Bytes that count as used before they are, so that a crash does not lose them."""
        return self.bytes // RESERVE_PARTS


@dataclass(frozen=True)
class Control:
    """Where the control socket stands and who may use it."""

    path: str = DEFAULT_CONTROL_PATH
    owner: Optional[str] = None
    group: Optional[str] = None
    mode: int = 0o660


@dataclass(frozen=True)
class Config:
    """A whole configuration that passed every check."""

    encapsulation: str
    network: str
    address: str
    """`UNASSIGNED` where the router gives it."""
    routers: Tuple[str, ...]
    """The next hops to hosts that this one does not reach directly; the first ones count more."""
    forward: bool
    device_name: str
    device_mtu: Optional[int]
    """In bytes; None lets the agent choose."""
    include: Tuple[str, ...]
    exclude: Tuple[str, ...]
    control: Control
    network6: Optional[str] = None
    """The /64 of the hosts' IPv6 addresses; None without IPv6; secure only."""
    named_addresses: Tuple[str, ...] = ()
    """Addresses that every link sends from and receives at, wherever they live; secure only."""
    max_age_s: float = DEFAULT_MAX_AGE_S
    """How long a packet may wait on this host; 0 for no bound."""
    cpu_latency_us: Optional[int] = None
    """How soon processors have to wake while packets pass; None leaves them alone."""
    precedence: bool = True
    """Whether the virtual network goes before an interface's own where they overlap."""
    remotes: Tuple[Remote, ...] = ()
    """classic only."""
    peers: Tuple[Peer, ...] = ()
    """secure only, as all that follows."""
    tenants: Tuple[Peer, ...] = ()
    """Hosts that get their address from this one."""
    leases: Optional[Leases] = None
    """What they get."""
    announce: Tuple[str, ...] = ()
    """Networks behind this host that it announces, "192.168.50.0/24"."""
    budgets: Tuple[Tuple[str, Budget], ...] = ()
    """By interface name or shell pattern, in the order of the file; secure only."""
    classes: Tuple[TrafficClass, ...] = ()
    """In the order in which they match."""
    copy_dscp: bool = False
    """Whether the outer headers carry the DSCP of the packets in them."""
    direct: bool = False
    """Whether hosts are called directly where the router says that they can be."""
    costs: Tuple[Tuple[str, int], ...] = ()
    """What links weigh where not all carry a packet, 0 to 1000, by name or pattern."""
    metered: Tuple[Tuple[str, bool], ...] = ()
    """Whether bytes of links cost money, by name or pattern."""
    port: int = DEFAULT_PORT
    rollover_s: float = DEFAULT_ROLLOVER_S
    private_key_file: str = DEFAULT_PRIVATE_KEY_PATH
    private_key: bytes = field(default=b"", repr=False)
    """Empty where the files of keys were not to be read."""
    offload_disable: FrozenSet[str] = frozenset()
    """Features of the kernel that are not to be used: vnet_hdr, tso, uso, udp_segment, udp_gro."""

    @property
    def is_leased(self) -> bool:
        """Whether the router gives this host its address."""
        return self.address == UNASSIGNED

    @property
    def device_address(self) -> str:
        """The virtual address with the network's prefix length, "10.0.0.1/24"."""
        return "{}/{}".format(self.address, self.network.split("/")[1])

    @property
    def device_address6(self) -> Optional[str]:
        """The IPv6 address with its prefix length, "fd12:3456:789a:1::a00:1/64"; None without."""
        if self.network6 is None:
            return None
        return "{}/{}".format(address6_of(self.network6, self.address), self.network6.split("/")[1])

    @property
    def others(self) -> Dict[str, Tuple[str, ...]]:
        """The real addresses and names of other hosts in the file, by virtual address."""
        found: Dict[str, List[str]] = {}
        for peer in self.peers:
            listed = (*peer.endpoints, *peer.names)
            found.setdefault(peer.host, []).extend(address for address, _ in listed)
        for remote in self.remotes:
            found.setdefault(remote.host, []).append(remote.address)
        return {host: tuple(addresses) for host, addresses in found.items()}


SettingT = TypeVar("SettingT")


def setting_of(settings: Tuple[Tuple[str, SettingT], ...], name: str) -> Optional[SettingT]:
    """Return what the interface `name` has of settings by name or pattern, None if nothing.

    A name counts more than a pattern, and of several patterns the first counts.
    """
    exact = [setting for pattern, setting in settings if pattern == name]
    found = exact or [s for pattern, s in settings if fnmatch.fnmatchcase(name, pattern)]
    return found[0] if found else None


def what_differs(before: Config, after: Config) -> List[str]:
    """Return the keys of the file in which the two differ, those of hosts and keys left out."""
    names = {
        "encapsulation": "encapsulation",
        "network": "network",
        "network6": "network6",
        "address": "address",
        "routers": "routers",
        "forward": "forward",
        "leases": "leases",
        "announce": "announce",
        "device_name": "device.name",
        "device_mtu": "device.mtu",
        "precedence": "device.precedence",
        "include": "interfaces.include",
        "exclude": "interfaces.exclude",
        "named_addresses": "interfaces.addresses",
        "control": "control",
        "max_age_s": "max_age_s",
        "cpu_latency_us": "cpu_latency_us",
        "budgets": "links",
        "costs": "links",
        "metered": "links",
        "classes": "classes",
        "copy_dscp": "copy_dscp",
        "direct": "direct",
        "port": "port",
        "rollover_s": "rollover_s",
        "offload_disable": "offload.disable",
    }
    differing = [n for n in names if getattr(before, n) != getattr(after, n)]
    return list(dict.fromkeys(names[name] for name in differing))
