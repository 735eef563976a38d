"""Which interfaces take part, and why the others do not.

What sends its own packets through the virtual network must never be a link of it: each frame would
become packets of the virtual network again, and the MTU of either would follow the other's.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from ropeway.core.link import Link
from ropeway.core.redundancy import LinkHealth
from ropeway.steward.device import DEVICE_ALIAS
from ropeway.steward.interface import Interface

# A virtual routing domain passes nothing on from one of its interfaces to another by itself.
_APART = "vrf"
TUNNEL_ENDS_MAX = 64
"""So many ends of tunnels are looked up at a time, a call of the kernel each."""


@dataclass(frozen=True)
class LeftOut:
    """An interface that does not take part."""

    index: int
    name: str
    reason: str
    """Why, without a subject: "is the loopback"."""
    stacked: bool = False
    """Whether it would be a link of the virtual network over itself."""


@dataclass(frozen=True)
class Rules:
    """What of the configuration chooses interfaces."""

    include: Sequence[str]
    exclude: Sequence[str]
    device_name: str
    device_index: int
    network: str
    """The virtual network, "10.0.0.0/24"."""
    ipv6: bool
    """Whether IPv6 addresses count."""
    named: Sequence[str] = ()
    """Addresses that every link gets, wherever they live."""


def select(
    interfaces: Sequence[Interface], rules: Rules, leads_to: Callable[[str], int]
) -> Tuple[List[Link], List[LeftOut]]:
    """Divide the interfaces, without the agent's own device, into links and others.

    `leads_to` gives the index of the interface by which packets to an address leave, 0 for none.

    A name in either list of the configuration counts more than a pattern, and exclusion more than
    inclusion. The loopback, the devices of agents and what is stacked on these never take part. Nor
    does what no packet can use: an interface without an address, unless it is an Ethernet interface
    that is set up, stands alone, and may get its address any moment, or unless one of those that
    every link gets is there.
    """
    above = _stacked(interfaces, rules, leads_to)
    there = present(interfaces, rules.named)
    links, left_out = [], []
    for interface in interfaces:
        if _is_own(interface, rules):
            continue
        reason = _why_not(interface, rules, above.get(interface.index), bool(there))
        if reason is None:
            links.append(_link(interface, rules.ipv6, there))
        else:
            stacked = interface.index in above
            left_out.append(LeftOut(interface.index, interface.name, reason, stacked))
    return links, left_out


def missing(
    include: Sequence[str],
    exclude: Sequence[str],
    links: Iterable[Link],
    left_out: Iterable[LeftOut],
) -> List[LinkHealth]:
    """Give what `include` names, not by a pattern, and is no link: a modem that is off, say."""
    taking_part = {link.name for link in links}
    reasons = {one.name: (one.index, f"it {one.reason}") for one in left_out}
    return [
        LinkHealth(index, name, fault)
        for name in dict.fromkeys(include)
        if not any(sign in name for sign in "*?[") and name not in exclude
        if name not in taking_part
        for index, fault in (reasons.get(name, (0, "it is not there")),)
    ]


def present(interfaces: Iterable[Interface], named: Iterable[str]) -> Tuple[str, ...]:
    """Return which of the addresses `named` this host has on any of its interfaces."""
    own = {
        text.split("/")[0]
        for interface in interfaces
        for text in (*interface.addresses, *interface.addresses6)
    }
    return tuple(address for address in named if address in own)


def _is_own(interface: Interface, rules: Rules) -> bool:
    return rules.device_name == interface.name or rules.device_index == interface.index


def is_device(interface: Interface) -> bool:
    """Say whether it is the device of an agent, this one or another."""
    return interface.kind == "tun" and interface.alias == DEVICE_ALIAS


def _link(interface: Interface, ipv6: bool, named: Sequence[str]) -> Link:
    addresses6 = interface.addresses6 if ipv6 else ()
    return Link(
        index=interface.index,
        name=interface.name,
        addresses=_with(interface.addresses, [f"{a}/32" for a in named if ":" not in a]),
        mtu=interface.mtu,
        up=interface.up,
        addresses6=_with(addresses6, [f"{a}/128" for a in named if ":" in a]),
    )


def _with(own: Tuple[str, ...], further: Sequence[str]) -> Tuple[str, ...]:
    """Return an interface's `own` addresses, and right after the first one those `further`."""
    known = {text.split("/")[0] for text in own}
    new = [text for text in further if text.split("/")[0] not in known]
    # The first is what a route takes that names none, and the last ones may get no socket.
    return (*own[:1], *new, *own[1:])


def _why_not(
    interface: Interface, rules: Rules, device: Optional[str], reachable: bool
) -> Optional[str]:
    """Return why an interface does not take part, or None where it does.

    `device` is what it is stacked on, if that is the device of an agent; `reachable` says whether
    there is an address that every link gets.
    """
    if interface.loopback:
        return "is the loopback"
    if is_device(interface):
        return "is the device of another virtual network"
    if device is not None:
        return f"sends its packets through {device}, a virtual network"
    return _not_chosen(interface.name, rules) or _of_no_use(interface, rules.ipv6, reachable)


def _not_chosen(name: str, rules: Rules) -> Optional[str]:
    if name in rules.exclude:
        return "is excluded by name"
    if name in rules.include:
        return None
    for pattern in rules.exclude:
        if fnmatch.fnmatchcase(name, pattern):
            return f"is excluded by {pattern}"
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in rules.include):
        return None
    return "is not included"


def _of_no_use(interface: Interface, ipv6: bool, reachable: bool) -> Optional[str]:
    if interface.addresses or (ipv6 and interface.addresses6):
        return None
    if interface.master:
        return "is a port of another interface and has no address"
    if not interface.admin_up:
        return "is down and has no address"
    return None if interface.ethernet or reachable else "has no address"


def _devices(interfaces: Iterable[Interface], rules: Rules) -> Dict[int, List[str]]:
    """Return the devices of agents, by index, with their networks."""
    # The own device gets its address later.
    found = {rules.device_index: [rules.network]}
    for interface in interfaces:
        if is_device(interface):
            found.setdefault(interface.index, []).extend(interface.addresses)
    return found


def _stacked(
    interfaces: Iterable[Interface], rules: Rules, leads_to: Callable[[str], int]
) -> Dict[int, str]:
    """Return, by index, what is stacked on an agent's device to any depth, with the device's name.

    That is a VLAN or the like on one, a tunnel whose packets leave there as the routes are now or
    whose ends are in its network, a bridge or bond with a port that is stacked, and a veth whose
    other end is a port of such a one.
    """
    known = {interface.index: interface for interface in interfaces}
    devices = _devices(known.values(), rules)
    ends = sorted({end for interface in known.values() for end in interface.tunnel_ends})
    ways = {end: leads_to(end) for end in ends[:TUNNEL_ENDS_MAX]}
    above: Dict[int, Set[int]] = {}
    for interface in known.values():
        for below in _below(interface, known, devices, ways):
            above.setdefault(below, set()).add(interface.index)
        if interface.master in known and known[interface.master].kind != _APART:
            above.setdefault(interface.index, set()).add(interface.master)
    stacked: Dict[int, str] = {}
    for device in devices:
        name = rules.device_name if device == rules.device_index else known[device].name
        waiting = [device]
        while waiting:
            for index in above.get(waiting.pop(), ()):
                if index not in stacked and index not in devices:
                    stacked[index] = name
                    waiting.append(index)
    return stacked


def _below(
    interface: Interface,
    known: Mapping[int, Interface],
    devices: Mapping[int, List[str]],
    ways: Mapping[str, int],
) -> Set[int]:
    """Return the indices of what passes the packets of an interface on.

    `ways` says by which interface packets leave to the ends of tunnels.
    """
    if interface.kind == "veth":
        # What comes out of the other end goes on by itself only where that is a port.
        return {known[end].master for end in interface.below if end in known} - {0}
    below = {*interface.below, *(ways.get(end, 0) for end in interface.tunnel_ends)} - {0}
    for end in map(ipaddress.IPv4Address, interface.tunnel_ends):
        below.update(
            device
            for device, networks in devices.items()
            if any(end in ipaddress.IPv4Interface(text).network for text in networks)
        )
    return below
