"""What the engine asks of the steward, as JSON.

The engine reads hostile bytes, so the steward takes nothing of it on trust: each order is checked
whole, and one that does not keep to the form ends the connection. What the configuration says the
steward has read itself (:mod:`ropeway.steward.readings`); an order names a reading by its number.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Type, Union

from ropeway.app.config.names import NAMES_MAX, named_endpoint
from ropeway.core.network.subnets import may_be_behind
from ropeway.core.packet.prefix import parse

#: An order in bytes, at most: one with all far addresses of a large router takes 200 kB.
BYTES_MAX = 4 << 20
#: Far addresses in a wish, at most; a node that calls more calls those first that it names first.
FAR_MAX = 4096
#: Links whose use is counted, at most.
LINKS_MAX = 256
#: Leases that are written at once, at most.
LEASES_MAX = 4096
#: Networks that the kernel has to send to the device besides the virtual one, at most.
ROUTES_MAX = 1024
_INDEX_MAX = (1 << 31) - 1
_TEXT_MAX = 4096
_LIST_MAX = 1 << 16


class Malformed(ValueError):
    """Bytes that are no order."""


@dataclass(frozen=True)
class ReadConfiguration:
    """Read the configuration's file; answered by `ConfigurationRead` with the same number."""

    number: int


@dataclass(frozen=True)
class BeginState:
    """Count this start of the agent; answered by `StateBegun`."""


@dataclass(frozen=True)
class Remember:
    """Keep what is given here for the next start; None leaves what is kept."""

    epoch: Optional[int] = None
    #: In hexadecimal, the newest first.
    reset_keys: Optional[Tuple[str, ...]] = None
    #: Addresses and ports by host.
    callers: Optional[Mapping[str, Tuple[Tuple[str, int], ...]]] = None
    #: The address that this host has by a lease, empty for none; for how many seconds more; and the
    #: MTU in bytes that came with it, 0 for none.
    lease: Optional[Tuple[str, int, int]] = None


@dataclass(frozen=True)
class SetAddress:
    """Give the device the address that this host has by a lease; empty takes it away."""

    address: str = ""


@dataclass(frozen=True)
class ReadLeases:
    """Read the leases that this host has given; answered by `LeasesRead`."""


@dataclass(frozen=True)
class WriteLeases:
    """Write leases that this host gives; answered by `LeasesWritten` with the same number.

    Each is an address, and the key that has it in hexadecimal: empty where it is closed for a
    while, None where there is no lease any more.
    """

    number: int
    changes: Tuple[Tuple[str, Optional[str]], ...]


@dataclass(frozen=True)
class CountUse:
    """Keep what links with a budget have carried; answered by `BudgetsKept`.

    The links are those that there are now, by interface name.
    """

    #: What tells this run of the agent from all others.
    run: str
    #: Bytes that each link has carried in this run.
    totals: Mapping[str, int]
    #: Bytes of the budget that are used by now, where somebody knows better.
    correct: Mapping[str, int]
    #: Whether this is the last word of the run.
    final: bool = False


@dataclass(frozen=True)
class Begin:
    """Make the device, and what the encapsulation needs besides, as a reading says.

    Answered by `DeviceOpened` or `Failed`.
    """

    reading: int


@dataclass(frozen=True)
class Resume:
    """Go on by this reading where another steward has ended: the device is there."""

    reading: int


@dataclass(frozen=True)
class Change:
    """Go over to another reading."""

    reading: int


@dataclass(frozen=True)
class Silent:
    """A connection that has a route to a far address and hears nothing from there."""

    #: The link's interface index and name.
    index: int
    name: str
    #: The address of this host that it sends from, and the far address.
    source: str
    address: str


@dataclass(frozen=True)
class Wish:
    """What the engine wants of the host, and what the host has to know of the engine.

    The first one after `Begin` or `Resume` starts the look at the interfaces.
    """

    #: The interface index of the open device; 0 if there is none and it has to be made.
    device_index: int
    #: How many devices of this steward the engine has received.
    devices_received: int
    #: The MTU in bytes that the device has to have.
    device_mtu: int
    #: The number of the last snapshot that the engine has taken over; 0 for none.
    snapshot: int = 0
    #: Far addresses: each link says from which address the kernel sends there.
    far: Tuple[str, ...] = ()
    #: The interfaces that sockets receive by, by index; None if sockets receive by any interface.
    receiving: Optional[Tuple[int, ...]] = None
    #: Interface index and address where no socket receives at other interfaces, and why.
    unheard: Tuple[Tuple[int, str, str], ...] = ()
    #: Connections that hear nothing.
    silent: Tuple[Silent, ...] = ()
    #: Networks behind other hosts, "192.168.50.0/24", whose packets belong to the device too.
    routes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolve:
    """Resolve these names, and no others; answered by `Resolved` whenever anything changes."""

    names: Tuple[str, ...] = ()
    #: Those of hosts that no connection leads to.
    urgent: Tuple[str, ...] = ()


@dataclass(frozen=True)
class LookSoon:
    """Look at the interfaces: something failed that they may explain."""


@dataclass(frozen=True)
class OpenSocket:
    """Open what a link sends and receives by; answered by `SocketOpened` with the same number.

    Without an address it is the pair of sockets of a classic network. The port is that of the
    reading.
    """

    number: int
    index: int
    name: str
    address: str = ""
    #: Whether it receives by every interface what comes for the link's address, and sends nothing.
    stray: bool = False


@dataclass(frozen=True)
class Ping:
    """Show that you turn; answered by `Pong`."""


@dataclass(frozen=True)
class Stop:
    """Remove what was made, and end."""


Order = Union[
    ReadConfiguration,
    BeginState,
    Remember,
    SetAddress,
    ReadLeases,
    WriteLeases,
    CountUse,
    Begin,
    Resume,
    Change,
    Wish,
    Resolve,
    LookSoon,
    OpenSocket,
    Ping,
    Stop,
]
Check = Callable[[Any], Any]


def encode(order: Order) -> bytes:
    """Return an order as bytes."""
    return json.dumps({"order": type(order).__name__, **asdict(order)}).encode()


def decode(message: bytes) -> Order:
    """Return the order that `encode` made these bytes of; `Malformed` if there is none."""
    try:
        data = json.loads(message)
        if not isinstance(data, dict):
            raise Malformed("an order is a mapping")
        kind, checks = _KINDS[data.pop("order", "")]
        return kind(**_checked(data, checks))  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Malformed(f"no order: {error!r}") from error


def _checked(data: Any, checks: Mapping[str, Check]) -> Dict[str, Any]:
    if not isinstance(data, dict) or set(data) != set(checks):
        raise Malformed("an order has other keys")
    return {name: check(data[name]) for name, check in checks.items()}


def _number(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Malformed("a number is out of its range")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Malformed("no truth value")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX or "\0" in value:
        raise Malformed("no short text")
    return value


def _address(value: Any) -> str:
    return str(ipaddress.ip_address(_text(value)))


def _site(value: Any) -> str:
    """Check a network behind a host: the engine must not lead away what goes elsewhere."""
    network = str(ipaddress.IPv4Network(_text(value)))
    if not may_be_behind(parse(network)):
        raise Malformed("no private network")
    return network


def _own_address(value: Any) -> str:
    return _address(value) if value else ""


def _name(value: Any) -> str:
    """Check the name of an interface: dev_valid_name() of net/core/dev.c."""
    name = _text(value)
    size = len(name.encode())
    if (
        not 0 < size <= 15
        or name in (".", "..")
        or "/" in name
        or ":" in name
        or name.split() != [name]
    ):
        raise Malformed("no name of an interface")
    return name


def _host_name(value: Any) -> str:
    if named_endpoint(_text(value), 1) != (value, 1):
        raise Malformed("no name of a host")
    return str(value)


def _key(value: Any) -> str:
    if len(bytes.fromhex(_text(value))) != 32:
        raise Malformed("no key")
    return str(value)


def _list_of(check: Check, most: int = _LIST_MAX) -> Check:
    def check_all(value: Any) -> Tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > most:
            raise Malformed("no list, or one that is too long")
        return tuple(check(one) for one in value)

    return check_all


def _by_host(check: Check) -> Check:
    def check_all(value: Any) -> Dict[str, Any]:
        if not isinstance(value, dict) or len(value) > _LIST_MAX:
            raise Malformed("no mapping, or one that is too long")
        return {_address(host): check(of_host) for host, of_host in value.items()}

    return check_all


def _by_link(check: Check) -> Check:
    def check_all(value: Any) -> Dict[str, Any]:
        if not isinstance(value, dict) or len(value) > LINKS_MAX:
            raise Malformed("no mapping, or one that is too long")
        return {_name(link): check(of_link) for link, of_link in value.items()}

    return check_all


def _these(*checks: Check) -> Check:
    def check_each(value: Any) -> Tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) != len(checks):
            raise Malformed("a list of another length")
        return tuple(check(one) for check, one in zip(checks, value))

    return check_each


def _maybe(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _each(kind: Type[Any], checks: Mapping[str, Check]) -> Check:
    return lambda value: kind(**_checked(value, checks))


def _holder(value: Any) -> str:
    return _key(value) if value else ""


_index = _number(0, _INDEX_MAX)
_count = _number(0, 1 << 53)
_port = _number(0, 65535)
_silent: Dict[str, Check] = {
    "index": _index,
    "name": _name,
    "source": _address,
    "address": _address,
}
_CHECKS: Dict[Type[Any], Dict[str, Check]] = {
    ReadConfiguration: {"number": _count},
    BeginState: {},
    Remember: {
        "epoch": _maybe(_number(1, (1 << 32) - 1)),
        "reset_keys": _maybe(_list_of(_key, 64)),
        "callers": _maybe(_by_host(_list_of(_these(_address, _port)))),
        "lease": _maybe(_these(_own_address, _count, _port)),
    },
    SetAddress: {"address": _own_address},
    ReadLeases: {},
    WriteLeases: {
        "number": _count,
        "changes": _list_of(_these(_address, _maybe(_holder)), LEASES_MAX),
    },
    CountUse: {
        "run": _text,
        "totals": _by_link(_count),
        "correct": _by_link(_count),
        "final": _flag,
    },
    Begin: {"reading": _count},
    Resume: {"reading": _count},
    Change: {"reading": _count},
    Wish: {
        "device_index": _index,
        "devices_received": _count,
        "device_mtu": _number(68, 65535),
        "snapshot": _count,
        "far": _list_of(_address, FAR_MAX),
        "receiving": _maybe(_list_of(_index)),
        "unheard": _list_of(_these(_index, _address, _text)),
        "silent": _list_of(_each(Silent, _silent)),
        "routes": _list_of(_site, ROUTES_MAX),
    },
    Resolve: {
        "names": _list_of(_host_name, NAMES_MAX),
        "urgent": _list_of(_host_name, NAMES_MAX),
    },
    LookSoon: {},
    OpenSocket: {
        "number": _count,
        "index": _index,
        "name": _name,
        "address": _own_address,
        "stray": _flag,
    },
    Ping: {},
    Stop: {},
}
_KINDS = {kind.__name__: (kind, checks) for kind, checks in _CHECKS.items()}
assert all({one.name for one in fields(kind)} == set(checks) for kind, checks in _CHECKS.items())
