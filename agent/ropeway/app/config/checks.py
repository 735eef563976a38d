"""What a schema cannot say: addresses, networks, keys that go together."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any, Dict, List, Optional, Set, Tuple

from ropeway.app.config.budgets import check_budgets
from ropeway.app.config.classes import check_classes
from ropeway.app.config.endpoints import (
    LEASE,
    _ip_address,
    address_at,
    check_addresses,
    check_endpoints,
    check_names,
    endpoint,
    is_global,
)
from ropeway.app.config.leases import check_leases
from ropeway.app.config.lines import Faults, KeyPath
from ropeway.app.config.model import CLASSIC, DEFAULT_PORT, MAX_AGE_MIN_S, SECURE
from ropeway.app.config.schema import SECURE_KEYS, shown
from ropeway.app.config.subnets import check_subnets
from ropeway.app.store import keys
from ropeway.core.packet.ipv4 import is_unicast
from ropeway.core.packet.ipv6 import MTU_MIN
from ropeway.core.packet.ipv6 import is_unicast as is_unicast6

EXAMPLE_NETWORK6 = "fd12:3456:789a:1::/64"
RESERVED_DEVICE_NAMES = ("lo", "all", "default")


def check_sense(data: Dict[str, Any], faults: Faults) -> None:
    """Report everything that contradicts itself in `data`, the values of a file."""
    network = _network(data, faults)
    network6 = _network6(data, faults)
    own = address_at(data.get("address"), ("address",), faults)
    if network and own:
        _check_inside(own, network, ("address",), faults)
    routers = _check_routers(data, network, own, faults)
    device = data.get("device")
    if isinstance(device, dict) and device.get("name") in RESERVED_DEVICE_NAMES:
        faults.add(
            ("device", "name"),
            "{} means something else to Linux: choose another name".format(device["name"]),
        )
    mtu = device.get("mtu") if isinstance(device, dict) else None
    if network6 and isinstance(mtu, (int, float)) and mtu < MTU_MIN:
        faults.add(
            ("device", "mtu"),
            f"IPv6 needs {MTU_MIN} bytes: write at least that, or remove network6",
        )
    if network6 and data.get("address") == LEASE:
        faults.add(
            ("network6",),
            "a host with a lease has no IPv6 address inside: remove network6, or write an address",
        )
    control = data.get("control")
    if isinstance(control, dict) and isinstance(control.get("path"), str):
        size = len(control["path"].encode("utf-8", "replace"))
        if size > 107:
            faults.add(("control", "path"), f"a socket's path has at most 107 bytes, not {size}")
    rollover_s = data.get("rollover_s")
    if isinstance(rollover_s, float) and rollover_s != rollover_s:
        faults.add(("rollover_s",), "write a number of seconds from 2 to 3600, not nan")
    max_age_s = data.get("max_age_s")
    if isinstance(max_age_s, float) and not (max_age_s <= 0 or max_age_s >= MAX_AGE_MIN_S):
        faults.add(
            ("max_age_s",),
            f"write a number of seconds from 0.1 to 60, or 0 for no bound, not {max_age_s:g}",
        )
    check_budgets(data, faults)
    check_classes(data, network, faults)
    check_leases(data, network, faults)
    _check_peers(data, network, own, routers, faults)
    _check_named_addresses(data, network, faults)
    check_subnets(data, network, faults)


def _check_routers(
    data: Dict[str, Any],
    network: Optional[ipaddress.IPv4Network],
    own: Optional[ipaddress.IPv4Address],
    faults: Faults,
) -> Dict[ipaddress.IPv4Address, KeyPath]:
    """Return the routers that are good addresses, with where the file names each."""
    listed = data.get("routers")
    if "router" in data and "routers" in data:
        faults.add(("routers",), "router is set as well: write all routers here, and remove router")
    named: List[Tuple[KeyPath, Any]] = [(("router",), data.get("router"))]
    named += [
        (("routers", place), item)
        for place, item in enumerate(listed if isinstance(listed, list) else ())
    ]
    if data.get("encapsulation") == CLASSIC and len(named) > 2:
        faults.add(("routers",), "only the encapsulation secure has several routers: write one")
    found: Dict[ipaddress.IPv4Address, KeyPath] = {}
    for path, item in named:
        router = address_at(item, path, faults)
        if not router:
            continue
        if network:
            _check_inside(router, network, path, faults)
        if router == own:
            remedy = "leave router out on the router itself"
            if path[0] == "routers":
                remedy = "write the other routers only"
            faults.add(path, f"{router} is this host's own address: {remedy}")
            continue
        if router in found and path[0] == found[router][0]:
            faults.add(path, f"{router} is in the list already: remove one")
        found.setdefault(router, path)
    return found


def _check_named_addresses(
    data: Dict[str, Any], network: Optional[ipaddress.IPv4Network], faults: Faults
) -> None:
    interfaces = data.get("interfaces")
    where: KeyPath = ("interfaces", "addresses")
    named = interfaces.get("addresses") if isinstance(interfaces, dict) else None
    if not isinstance(named, list):
        return
    if data.get("encapsulation") == CLASSIC:
        faults.add(where, "only the encapsulation secure has this setting: remove it")
        return
    called = _called(data.get("peers"), port_of(data))
    lines: Dict[str, int] = {}
    for place, item in enumerate(named):
        path: KeyPath = (*where, place)
        if not isinstance(item, str) or faults.spoilt(path):
            continue
        address = _ip_address(item)
        if address is None or "%" in item:
            faults.add(
                path,
                f"{shown(item)!r} is no IPv4 or IPv6 address: write one without port or prefix"
                " length, such as 203.0.113.7",
            )
            continue
        text = str(address)
        if not is_global(address):
            faults.add(path, f"{text} reaches no other host: write an address that others send to")
        elif network and address in network:
            faults.add(
                path, f"{text} is an address of the virtual network {network}: write a real one"
            )
        elif text in lines:
            faults.add(path, f"{text} stands in line {lines[text]} already: remove one")
        elif text in called:
            faults.add(
                path, f"{text} is an address of {called[text]} too: write it for one host only"
            )
        lines.setdefault(text, faults.line_of.get(path, 1))


def _called(peers: Any, default_port: int) -> Dict[str, Any]:
    """Return the real addresses of other hosts, as far as they are good, with the host of each."""
    found: Dict[str, Any] = {}
    for peer in peers if isinstance(peers, list) else ():
        listed = peer.get("addresses") if isinstance(peer, dict) else None
        for item in listed if isinstance(listed, list) else ():
            with contextlib.suppress(ValueError):
                if isinstance(item, str):
                    found[endpoint(item, default_port)[0]] = peer.get("host")
    return found


def _check_peers(
    data: Dict[str, Any],
    network: Optional[ipaddress.IPv4Network],
    own: Optional[ipaddress.IPv4Address],
    routers: Dict[ipaddress.IPv4Address, KeyPath],
    faults: Faults,
) -> None:
    secure = data.get("encapsulation", SECURE) == SECURE
    if data.get("encapsulation") == CLASSIC:
        for key in SECURE_KEYS:
            if key in data:
                faults.add((key,), "only the encapsulation secure has this setting: remove it")
    peers = data.get("peers", [])
    hosts: Dict[ipaddress.IPv4Address, int] = {}
    virtual = _virtual_addresses(peers, own)
    public_keys: Dict[bytes, Tuple[int, Any]] = {}
    for number, peer in enumerate(peers if isinstance(peers, list) else ()):
        if not isinstance(peer, dict):
            continue
        path: KeyPath = ("peers", number, "host")
        host = address_at(peer.get("host"), path, faults)
        if host:
            if network:
                _check_inside(host, network, path, faults)
            if host == own:
                faults.add(path, f"{host} is this host's own address: remove the entry")
            if host in hosts:
                faults.add(
                    path,
                    f"{host} stands in line {hosts[host]} already: put all its addresses there",
                )
            hosts.setdefault(host, faults.line_of.get(path, 1))
        listed = peer.get("addresses")
        where: KeyPath = ("peers", number, "addresses")
        if secure:
            _check_public_keys(peer, number, public_keys, faults)
            if isinstance(listed, list):
                check_endpoints(listed, where, port_of(data), virtual, faults)
        elif isinstance(listed, list):
            check_addresses(listed, where, virtual, faults)
    if secure:
        check_names(peers, port_of(data), faults)
    for router, where in routers.items():
        if secure and router not in hosts and not faults.spoilt(("peers",)):
            faults.add(
                where,
                f"{router} is not among the peers: add it there with its public key, because"
                " without it nothing can be sent to the router",
            )


def _virtual_addresses(peers: Any, own: Optional[ipaddress.IPv4Address]) -> Set[str]:
    """Return the virtual addresses of all hosts: none of them is a real one."""
    listed = [peer for peer in peers if isinstance(peer, dict)] if isinstance(peers, list) else []
    hosts = {host for host in (peer.get("host") for peer in listed) if isinstance(host, str)}
    return hosts | {str(own)}


def _check_public_keys(
    peer: Dict[str, Any], number: int, known: Dict[bytes, Tuple[int, Any]], faults: Faults
) -> None:
    for key in ("public_key", "next_public_key"):
        path: KeyPath = ("peers", number, key)
        text = peer.get(key)
        if not isinstance(text, str) or faults.spoilt(path):
            continue
        try:
            public = significant(keys.decode(text))
        except ValueError:
            faults.add(path, "this is no public key: write it as `ropeway pubkey` prints it")
            continue
        line, host = known.get(public, (0, None))
        if line and key == "next_public_key" and host == peer.get("host"):
            faults.add(
                path,
                "this is the public_key of the same host: write its next one, or leave"
                " next_public_key out",
            )
        elif line:
            faults.add(
                path,
                f"this public key belongs to {host} already, in line {line}: every host has a key"
                " of its own",
            )
        known.setdefault(public, (faults.line_of.get(path, 1), peer.get("host")))


def significant(public: bytes) -> bytes:
    """Return a public key without the bit that X25519 ignores; RFC 7748, section 5."""
    return public[:-1] + bytes([public[-1] & 0x7F])


def port_of(data: Dict[str, Any]) -> int:
    """Return the UDP port that `data` names, or the default one."""
    port = data.get("port", DEFAULT_PORT)
    # To the schema 51840.0 is a whole number too.
    good = isinstance(port, (int, float)) and 1 <= port <= 65535
    return int(port) if good else DEFAULT_PORT


def _network(data: Dict[str, Any], faults: Faults) -> Optional[ipaddress.IPv4Network]:
    text = data.get("network")
    if not isinstance(text, str) or faults.spoilt(("network",)):
        return None
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        pass
    else:
        if not is_unicast(network.network_address.packed):
            faults.add(
                ("network",),
                f"{text} is no network of hosts: choose a private one, such as 10.213.77.0/24",
            )
        return network
    try:
        meant = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        faults.add(("network",), f"{text!r} is no IPv4 network")
        return None
    faults.add(("network",), f"{text} has host bits set: write {meant}")
    return meant


def _network6(data: Dict[str, Any], faults: Faults) -> Optional[ipaddress.IPv6Network]:
    text, path = data.get("network6"), ("network6",)
    if not isinstance(text, str) or faults.spoilt(path):
        return None
    try:
        network = ipaddress.IPv6Network(text, strict=False)
    except ValueError:
        faults.add(path, f"{text!r} is no IPv6 network")
        return None
    if not is_unicast6(network.network_address.packed):
        faults.add(
            path, f"{text} is no network of hosts: choose a private one, such as {EXAMPLE_NETWORK6}"
        )
    elif str(network.network_address) != str(ipaddress.IPv6Address(text.split("/")[0])):
        faults.add(path, f"{text} has host bits set: write {network}")
    return network


def _check_inside(
    address: ipaddress.IPv4Address,
    network: ipaddress.IPv4Network,
    path: KeyPath,
    faults: Faults,
) -> None:
    if address not in network:
        faults.add(path, f"{address} is outside the network {network}: choose an address inside it")
    elif address in (network.network_address, network.broadcast_address):
        which = "network" if address == network.network_address else "broadcast"
        faults.add(path, f"{address} is the {which} address of {network}: choose another one")
