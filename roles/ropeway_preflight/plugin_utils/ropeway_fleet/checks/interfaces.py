"""The entries of ropeway_interfaces, one at a time."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Mapping
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from ..constants import DEFAULT_DEVICE, INTERFACE_NAME_MAX_BYTES, MTU_RANGE
from ..values import is_list
from ..wording import VALUE_MAX_CHARS, shown
from .virtual_network import is_unicast

INTERFACE_KEYS = ("name", "lan", "address", "mtu", "configure")


class Interface(NamedTuple):
    """One LAN interface of a host, as the inventory describes it."""

    name: str
    lan: str
    # None if something else assigns one (``configure: false``).
    address: Optional[ipaddress.IPv4Interface]


def read_interfaces(
    name: str, variables: Mapping[str, Any], problems: List[str]
) -> Tuple[Interface, ...]:
    """Return the valid entries; add the problems of the others to ``problems``."""
    raw = variables.get("ropeway_interfaces")
    example = "{name: enp0s3, lan: net0, address: 192.168.0.2/24}"
    if not raw:
        problems.append(
            f"{name}: ropeway_interfaces is not set: list the LAN interfaces, such as {example}."
        )
        return ()
    if not is_list(raw):
        problems.append(f"{name}: ropeway_interfaces is not a list: list items such as {example}.")
        return ()
    device = str(variables.get("ropeway_device_name") or DEFAULT_DEVICE)
    management = variables.get("ropeway_management_interface")
    interfaces: List[Interface] = []
    seen: List[str] = []
    for item in raw:
        if not isinstance(item, Mapping):
            problems.append(
                f"{name}: item {shown(item)} of ropeway_interfaces is not a mapping: use {example}."
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
            f"{name}: interface {label} has the LAN {lan!r}, which begins or ends with blanks. "
            f"They make it another LAN than {lan.strip()!r}: remove them."
        )
    # A wrong `configure` has a problem of its own below.
    if not item.get("address") and configure is True:
        yield (
            f"{name}: interface {label} has no address: add it in ropeway_interfaces, or "
            "`configure: false` if something else assigns one."
        )
    if not isinstance(configure, bool):
        yield (
            f"{name}: interface {label} has configure {configure!r}, which is neither true nor "
            "false: use one of them."
        )
    elif not configure and item.get("mtu") is not None:
        yield (
            f"{name}: interface {label} has an MTU and configure: false, but then nothing sets the "
            "MTU: remove one of them."
        )
    mtu = item.get("mtu")
    if mtu is not None and (isinstance(mtu, bool) or not isinstance(mtu, int)):
        yield f"{name}: interface {label} has the MTU {shown(mtu)}, which is not a whole number."
    elif mtu is not None and mtu not in MTU_RANGE:
        yield (
            f"{name}: interface {label} has the MTU {mtu}: use {MTU_RANGE.start} to "
            f"{MTU_RANGE.stop - 1}."
        )


def _interface_name_problems(
    name: str, label: str, seen: List[str], management: Any, device: str
) -> Iterator[str]:
    if label in seen:
        yield f"{name}: interface {label} is listed twice in ropeway_interfaces: keep one entry."
    if len(label.encode()) > INTERFACE_NAME_MAX_BYTES or any(
        c.isspace() or c in "/:" for c in label
    ):
        yield (
            f"{name}: {label!r} cannot be the name of an interface: use at most "
            f"{INTERFACE_NAME_MAX_BYTES} bytes without space, slash or colon."
        )
    elif label in (".", "..") or any(c in "*?[" for c in label):
        yield (
            f"{name}: {label!r} cannot be the name of an interface: use the name of an "
            "interface, not a pattern or a folder."
        )
    if management is not None and label == str(management):
        yield (
            f"{name}: interface {label} is the management interface and cannot be a LAN as well: "
            "remove it from ropeway_interfaces, or correct ropeway_management_interface."
        )
    if label in ("lo", device):
        yield f"{name}: interface {label} cannot be a LAN: remove it from ropeway_interfaces."


def _read_lan_address(
    name: str, label: str, raw: Any, problems: List[str]
) -> Optional[ipaddress.IPv4Interface]:
    if not raw:
        return None
    text = str(raw)
    if "/" not in text:
        problems.append(
            f"{name}: address {shown(text)} of {label} has no prefix length: use a value such as "
            f"{text.strip()[:VALUE_MAX_CHARS]}/24."
        )
        return None
    try:
        address = ipaddress.IPv4Interface(text)
    except ValueError:
        problems.append(
            f"{name}: address {shown(text)} of {label} is not an IPv4 address with a prefix "
            "length: use a value such as 192.168.0.2/24."
        )
        return None
    network = address.network
    if not is_unicast(address.ip):
        problems.append(f"{name}: address {text} of {label} is not a unicast address: use one.")
        return None
    if network.prefixlen < 31 and address.ip in (
        network.network_address,
        network.broadcast_address,
    ):
        kind = "network" if address.ip == network.network_address else "broadcast"
        problems.append(
            f"{name}: address {text} of {label} is the {kind} address of {network}: use another "
            "address of that network."
        )
        return None
    return address
