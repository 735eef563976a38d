"""The entries of ropeway_interfaces, each for itself."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from ..constants import DEFAULT_DEVICE, INTERFACE_NAME_MAX_BYTES, MTU_RANGE
from ..wording import SHOWN_MAX, shown
from .virtual_network import is_unicast

INTERFACE_KEYS = ("name", "lan", "address", "mtu", "configure")


class Interface(NamedTuple):
    """One LAN interface of a host, as the inventory describes it."""

    name: str
    lan: str
    # None: somebody else gives it one (``configure: false``).
    address: Optional[ipaddress.IPv4Interface]


def read_interfaces(
    name: str, variables: Mapping[str, Any], problems: List[str]
) -> Tuple[Interface, ...]:
    """Return the entries that are complete; append the problems of all to ``problems``."""
    raw = variables.get("ropeway_interfaces")
    example = "{name: enp0s3, lan: net0, address: 192.168.0.2/24}"
    if not raw:
        problems.append(
            f"{name}: ropeway_interfaces is not set: list its LAN interfaces, such as {example}."
        )
        return ()
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        problems.append(f"{name}: ropeway_interfaces is no list: write items such as {example}.")
        return ()
    device = str(variables.get("ropeway_device_name") or DEFAULT_DEVICE)
    management = variables.get("ropeway_management_interface")
    interfaces: List[Interface] = []
    seen: List[str] = []
    for item in raw:
        if not isinstance(item, Mapping):
            problems.append(
                f"{name}: item {shown(item)} of ropeway_interfaces is no mapping: write {example}."
            )
            continue
        label = str(item["name"]) if item.get("name") else "without a name"
        problems += _interface_key_problems(name, label, item)
        if item.get("name"):
            problems += _interface_name_problems(name, label, seen, management, device)
            seen.append(label)
        address = _read_lan_address(name, label, item.get("address"), problems)
        readable = address is not None or (
            not item.get("address") and item.get("configure") is False
        )
        if readable and item.get("name") and item.get("lan"):
            interfaces.append(Interface(label, str(item["lan"]), address))
    return tuple(interfaces)


def _interface_key_problems(name: str, label: str, item: Mapping[str, Any]) -> Iterator[str]:
    for key in item:
        if key not in INTERFACE_KEYS:
            near = difflib.get_close_matches(str(key), INTERFACE_KEYS, 1)
            advice = f"did you mean {near[0]}?" if near else f"use {', '.join(INTERFACE_KEYS)}."
            yield f"{name}: interface {label} has the unknown key {shown(key)}: {advice}"
    configure = item.get("configure", True)
    for key in ("name", "lan"):
        if not item.get(key):
            yield f"{name}: interface {label} has no {key}: add it in ropeway_interfaces."
    lan = str(item.get("lan") or "")
    if lan != lan.strip():
        yield (
            f"{name}: interface {label} has the LAN {lan!r}, with blanks at its ends, which make "
            f"it another LAN than {lan.strip()!r}: take them out."
        )
    # Whatever else `configure` holds, its own sentence says; an address is not what is amiss.
    if not item.get("address") and configure is True:
        yield (
            f"{name}: interface {label} has no address: add it in ropeway_interfaces, or "
            "`configure: false` if somebody else gives it one."
        )
    if not isinstance(configure, bool):
        yield (
            f"{name}: interface {label} has configure {configure!r}, which is neither true nor "
            "false: write one of them."
        )
    elif not configure and item.get("mtu") is not None:
        yield (
            f"{name}: interface {label} has an MTU and configure: false, but then nobody sets it: "
            "take one of them out."
        )
    mtu = item.get("mtu")
    if mtu is not None and (isinstance(mtu, bool) or not isinstance(mtu, int)):
        yield f"{name}: interface {label} has the MTU {shown(mtu)}, no whole number: write digits."
    elif mtu is not None and mtu not in MTU_RANGE:
        yield (
            f"{name}: interface {label} has the MTU {mtu}: use {MTU_RANGE.start} to "
            f"{MTU_RANGE.stop - 1}."
        )


def _interface_name_problems(
    name: str, label: str, seen: List[str], management: Any, device: str
) -> Iterator[str]:
    if label in seen:
        yield f"{name}: interface {label} is named twice in ropeway_interfaces: keep one of them."
    if len(label.encode()) > INTERFACE_NAME_MAX_BYTES or any(
        c.isspace() or c in "/:" for c in label
    ):
        yield (
            f"{name}: {label!r} can't be the name of an interface: use at most "
            f"{INTERFACE_NAME_MAX_BYTES} bytes without space, slash or colon."
        )
    elif label in (".", "..") or any(c in "*?[" for c in label):
        yield (
            f"{name}: {label!r} can't be the name of an interface: write the name of one, "
            "not a pattern or a folder."
        )
    if management is not None and label == str(management):
        yield (
            f"{name}: interface {label} is the management interface and can't be a LAN as well: "
            "take it out of ropeway_interfaces, or correct ropeway_management_interface."
        )
    if label in ("lo", device):
        yield f"{name}: interface {label} can't be a LAN: take it out of ropeway_interfaces."


def _read_lan_address(
    name: str, label: str, raw: Any, problems: List[str]
) -> Optional[ipaddress.IPv4Interface]:
    if not raw:
        return None
    text = str(raw)
    if "/" not in text:
        problems.append(
            f"{name}: address {shown(text)} of {label} has no prefix length: write it such as "
            f"{text.strip()[:SHOWN_MAX]}/24."
        )
        return None
    try:
        address = ipaddress.IPv4Interface(text)
    except ValueError:
        problems.append(
            f"{name}: address {shown(text)} of {label} is no IPv4 address with a prefix length: "
            "write it such as 192.168.0.2/24."
        )
        return None
    network = address.network
    if not is_unicast(address.ip):
        problems.append(f"{name}: address {text} of {label} is not a host's: use a unicast one.")
        return None
    if network.prefixlen < 31 and address.ip in (
        network.network_address,
        network.broadcast_address,
    ):
        kind = "network" if address.ip == network.network_address else "broadcast"
        problems.append(
            f"{name}: address {text} of {label} is the {kind} address of {network}: use another "
            "one of that network."
        )
        return None
    return address
