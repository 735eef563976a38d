"""The entries of ropeway_agent_extra_networks."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Dict, Iterator, Tuple

from ..constants import (
    DEFAULT_DEVICE,
    DEFAULT_ENCAPSULATION,
    DEFAULT_PORT,
    DEVICE_PREFIX,
    ENCAPSULATIONS,
    MAIN_NETWORK,
)
from ..values import is_list, whole_number
from ..wording import listing, shown
from .classes import class_problems
from .links import link_problems
from .settings import (
    cpu_latency_problems,
    device_problems,
    is_secure,
    max_age_problems,
    network6_problems,
    switch_problems,
)
from .subnets import subnet_problems
from .virtual_network import CLASSIC_CAVEAT, network6_problem, network_problem, placement_problems

# Part of the names of files, of units and, by default, of the device.
NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
EXTRA_NETWORK_KEYS = (
    *("name", "encapsulation", "network", "address", "addresses", "router"),
    *("network6", "routers", "forward"),
    *("device_name", "device_mtu", "port", "rollover_s", "max_age_s", "offload_disable"),
    *("cpu_latency_us", "announce", "links", "classes", "copy_dscp", "direct"),
    *("device_precedence", "include", "exclude", "peers", "expected_peers", "expected_links"),
)
EXTRA_PEER_KEYS = (
    *("name", "host", "public_key", "next_public_key", "psk_file", "allowed", "addresses"),
    "direct",
)


def extra_network_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of ropeway_agent_extra_networks of the host ``name``."""
    items = variables.get("ropeway_agent_extra_networks")
    if items is None:
        return
    if not is_list(items) or not all(isinstance(item, Mapping) for item in items):
        yield (
            f"{name}: ropeway_agent_extra_networks is not a list of mappings: list items such as "
            "{name: lab, network: 10.213.78.0/24, address: 10.213.78.1}."
        )
        return
    owners = _main_network_resources(variables)
    prefixes = {MAIN_NETWORK: variables.get("ropeway_network")}
    for item in items:
        label = str(item.get("name"))
        if not NETWORK_NAME.fullmatch(label) or label == MAIN_NETWORK or label in prefixes:
            yield (
                f"{name}: {shown(label)} cannot be the name of one of "
                "ropeway_agent_extra_networks: use lower-case letters, digits and dashes, another "
                f"name for each, and not {MAIN_NETWORK}."
            )
            continue
        where = f"{name}, network {label}"
        yield from _key_problems(where, item)
        yield from _setting_problems(where, item)
        for resource in _resources(item).items():
            if resource in owners:
                yield (
                    f"{name}: networks {owners[resource]} and {label} have the same {resource[0]} "
                    f"{resource[1]}: give each its own."
                )
            owners.setdefault(resource, label)
        yield from _prefix_problems(name, label, item, prefixes)
        prefixes[label] = item.get("network")


def _main_network_resources(variables: Mapping[str, Any]) -> Dict[Tuple[str, Any], str]:
    """Return the device and port of the main network, which no other network may use."""
    device = str(variables.get("ropeway_device_name") or DEFAULT_DEVICE)
    owners: Dict[Tuple[str, Any], str] = {("device", device): MAIN_NETWORK}
    if is_secure(variables):
        port = variables.get("ropeway_port")
        owners["port", whole_number(DEFAULT_PORT if port is None else port)] = MAIN_NETWORK
    return owners


def _resources(item: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what each network of a host must have for itself: its device, and its port."""
    resources: Dict[str, Any] = {"device": _device(item)}
    if str(item.get("encapsulation", DEFAULT_ENCAPSULATION)) == "secure":
        resources["port"] = whole_number(item.get("port", DEFAULT_PORT))
    return resources


def _device(item: Mapping[str, Any]) -> str:
    return str(item.get("device_name", f"{DEVICE_PREFIX}-{item.get('name')}"))


def _setting_problems(where: str, item: Mapping[str, Any]) -> Iterator[str]:
    encapsulation = str(item.get("encapsulation", DEFAULT_ENCAPSULATION))
    if encapsulation not in ENCAPSULATIONS:
        yield (
            f"{where}: its encapsulation {shown(encapsulation)} is unknown: use one of "
            f"{listing(ENCAPSULATIONS)} ({CLASSIC_CAVEAT})."
        )
    device = {"ropeway_device_name": _device(item), "ropeway_device_mtu": item.get("device_mtu")}
    yield from device_problems(where, device)
    yield from cpu_latency_problems(where, "its cpu_latency_us", item.get("cpu_latency_us"))
    yield from max_age_problems(where, "its max_age_s", item.get("max_age_s"))
    yield from link_problems(where, "its links", item.get("links"), encapsulation == "secure")
    yield from class_problems(where, "its classes", item.get("classes"), encapsulation == "secure")
    secure, virtual = encapsulation == "secure", item.get("network")
    yield from subnet_problems(where, "its announce", item.get("announce"), virtual, secure)
    listed = item.get("peers")
    for peer in listed if isinstance(listed, list) else ():
        if isinstance(peer, Mapping):
            allowed = peer.get("allowed")
            yield from subnet_problems(where, "allowed of its peers", allowed, virtual, secure)
    for switch in ("copy_dscp", "direct"):
        yield from switch_problems(where, f"its {switch}", item.get(switch), secure)
    network6 = item.get("network6")
    problem = network6_problem("its network6", None if network6 is None else str(network6))
    if problem:
        yield f"{where}: {problem}"
    yield from network6_problems(where, "its network6", (network6, item.get("device_mtu")), secure)


def _key_problems(where: str, item: Mapping[str, Any]) -> Iterator[str]:
    listed = item.get("peers")
    peers = listed if isinstance(listed, list) else []
    for entry, keys in ((item, EXTRA_NETWORK_KEYS), *((peer, EXTRA_PEER_KEYS) for peer in peers)):
        if not isinstance(entry, Mapping):
            yield f"{where}: {shown(entry)} in its peers is not a mapping: list items with a host."
            continue
        of_peer = "" if entry is item else " in an item of its peers"
        for key in entry:
            if key not in keys:
                near = difflib.get_close_matches(str(key), keys, 1)
                advice = f"did you mean {near[0]}?" if near else f"use {listing(keys)}."
                yield f"{where}: the key {shown(key)}{of_peer} is unknown: {advice}"


def _prefix_problems(
    name: str, label: str, item: Mapping[str, Any], prefixes: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the problems of a network's prefix and address.

    ``prefixes`` are those of the networks before it, by name; they may be wrong themselves.
    """
    where = f"{name}, network {label}"
    raw = item.get("network")
    sentence = network_problem(None if raw is None else str(raw))
    if sentence:
        yield f"{where}: {sentence.replace('ropeway_network', 'its network')}"
        return
    network = ipaddress.IPv4Network(str(raw))
    for other, prefix in prefixes.items():
        if prefix is None or network_problem(str(prefix)):
            continue
        if network.overlaps(ipaddress.IPv4Network(str(prefix))):
            yield (
                f"{name}: networks {other} ({prefix}) and {label} ({network}) overlap: give each "
                "its own prefix."
            )
    try:
        address = ipaddress.IPv4Address(str(item.get("address")))
    except ValueError:
        yield (
            f"{where}: {shown(item.get('address'))} is not an IPv4 address: use an address "
            "without a prefix length."
        )
        return
    yield from placement_problems(where, "its address", address, network)
