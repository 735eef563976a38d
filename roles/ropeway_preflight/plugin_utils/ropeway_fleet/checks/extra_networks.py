"""The entries of ropeway_agent_extra_networks."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List, Tuple

from ..constants import (
    DEFAULT_DEVICE,
    DEFAULT_ENCAPSULATION,
    DEFAULT_PORT,
    DEVICE_PREFIX,
    ENCAPSULATIONS,
    MAIN_NETWORK,
)
from ..values import whole_number
from ..wording import listing, shown
from .settings import cpu_latency_problems, device_problems, is_secure, max_age_problems
from .virtual_network import CLASSIC_CAVEAT, network_problem, placement_problems

# Names files, units and, by default, a device with DEVICE_PREFIX and a dash before it.
NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
EXTRA_NETWORK_KEYS = (
    *("name", "encapsulation", "network", "address", "addresses", "router", "forward"),
    *("device_name", "device_mtu", "port", "rollover_s", "max_age_s", "offload_disable"),
    "cpu_latency_us",
    *("device_precedence", "include", "exclude", "peers", "expected_peers", "expected_links"),
)
EXTRA_PEER_KEYS = ("name", "host", "public_key", "next_public_key", "psk_file", "addresses")


def extra_network_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of one host's ropeway_agent_extra_networks."""
    raw = variables.get("ropeway_agent_extra_networks")
    if raw is None:
        return
    listed = [] if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence) else list(raw)
    if listed != raw or not all(isinstance(item, Mapping) for item in listed):
        yield (
            f"{name}: ropeway_agent_extra_networks is no list of mappings: write items such as "
            "{name: lab, network: 10.213.78.0/24, address: 10.213.78.1}."
        )
        return
    taken: Dict[Tuple[str, Any], str] = {
        ("device", str(variables.get("ropeway_device_name") or DEFAULT_DEVICE)): MAIN_NETWORK
    }
    if is_secure(variables):
        port = variables.get("ropeway_port")
        taken["port", whole_number(DEFAULT_PORT if port is None else port)] = MAIN_NETWORK
    prefixes = {MAIN_NETWORK: variables.get("ropeway_network")}
    for item in listed:
        label = str(item.get("name"))
        if not NETWORK_NAME.fullmatch(label) or label == MAIN_NETWORK or label in prefixes:
            yield (
                f"{name}: {shown(label)} can't be the name of one of "
                "ropeway_agent_extra_networks: use lower-case letters, digits and dashes, another "
                f"name for each, and not {MAIN_NETWORK}."
            )
            continue
        yield from _extra_key_problems(f"{name}, network {label}", item)
        encapsulation = str(item.get("encapsulation", DEFAULT_ENCAPSULATION))
        if encapsulation not in ENCAPSULATIONS:
            yield (
                f"{name}: network {label} has the unknown encapsulation "
                f"{shown(encapsulation)}: use one of {', '.join(ENCAPSULATIONS)} "
                f"({CLASSIC_CAVEAT})."
            )
        device = str(item.get("device_name", f"{DEVICE_PREFIX}-{label}"))
        yield from device_problems(
            f"{name}, network {label}",
            {"ropeway_device_name": device, "ropeway_device_mtu": item.get("device_mtu")},
        )
        yield from cpu_latency_problems(
            f"{name}, network {label}", "its cpu_latency_us", item.get("cpu_latency_us")
        )
        yield from max_age_problems(
            f"{name}, network {label}", "its max_age_s", item.get("max_age_s")
        )
        own: List[Tuple[str, Any]] = [("device", device)]
        if encapsulation == "secure":
            own.append(("port", whole_number(item.get("port", DEFAULT_PORT))))
        for what in own:
            if what in taken:
                yield (
                    f"{name}: networks {taken[what]} and {label} have the same {what[0]} "
                    f"{what[1]}: give each its own."
                )
            taken.setdefault(what, label)
        yield from _extra_prefix_problems(name, label, item, prefixes)
        prefixes[label] = item.get("network")


def _extra_key_problems(where: str, item: Mapping[str, Any]) -> Iterator[str]:
    listed = item.get("peers")
    peers = listed if isinstance(listed, list) else []
    for entry, keys in ((item, EXTRA_NETWORK_KEYS), *((peer, EXTRA_PEER_KEYS) for peer in peers)):
        if not isinstance(entry, Mapping):
            yield f"{where}: {shown(entry)} in its peers is no mapping: write items with a host."
            continue
        of_peer = "" if entry is item else " in an item of its peers"
        for key in entry:
            if key not in keys:
                near = difflib.get_close_matches(str(key), keys, 1)
                advice = f"did you mean {near[0]}?" if near else f"use {listing(keys)}."
                yield f"{where}: the key {shown(key)}{of_peer} is unknown: {advice}"


def _extra_prefix_problems(
    name: str, label: str, item: Mapping[str, Any], prefixes: Mapping[str, Any]
) -> Iterator[str]:
    raw = item.get("network")
    sentence = network_problem(None if raw is None else str(raw))
    if sentence:
        yield f"{name}, network {label}: {sentence.replace('ropeway_network', 'its network')}"
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
            f"{name}, network {label}: {shown(item.get('address'))} is no IPv4 address: write it "
            "without a prefix length."
        )
        return
    yield from placement_problems(f"{name}, network {label}", "its address", address, network)
