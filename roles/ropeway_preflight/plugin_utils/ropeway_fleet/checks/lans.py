"""Addresses and prefixes of the interfaces of each LAN, and overlaps between LANs."""

from __future__ import annotations

import ipaddress
from typing import Dict, Iterator, List, Tuple

from ..wording import listing, shown
from .host import Host
from .interfaces import Interface


def lan_problems(hosts: List[Host]) -> Iterator[str]:
    """Yield the problems of addresses and prefixes, within a LAN and between LANs."""
    members: Dict[str, List[Tuple[Host, Interface]]] = {}
    for host in hosts:
        for interface in host.interfaces:
            members.setdefault(interface.lan, []).append((host, interface))
    for lan, entries in members.items():
        owners: Dict[ipaddress.IPv4Address, List[str]] = {}
        prefixes: Dict[ipaddress.IPv4Network, List[str]] = {}
        for host, interface in entries:
            if interface.address is None:
                continue
            label = f"{host.name} {interface.name}"
            owners.setdefault(interface.address.ip, []).append(label)
            prefixes.setdefault(interface.address.network, []).append(label)
        for address, labels in owners.items():
            if len(labels) > 1:
                yield (
                    f"LAN {shown(lan)}: {' and '.join(labels)} have the same "
                    f"address {address}: give each its own."
                )
        if len(prefixes) > 1:
            parts = [f"{prefix} on {listing(labels)}" for prefix, labels in prefixes.items()]
            yield (
                f"LAN {shown(lan)} has {len(prefixes)} prefixes: {'; '.join(parts)}: give all "
                "interfaces of a LAN addresses of one network, or use separate LANs."
            )
    for host in hosts:
        for position, one in enumerate(host.interfaces):
            if one.address is None:
                continue
            for two in host.interfaces[position + 1 :]:
                if two.address is None or one.lan == two.lan:
                    continue
                if one.address.network.overlaps(two.address.network):
                    yield (
                        f"{host.name}: {one.name} ({one.address}, LAN {shown(one.lan)}) and "
                        f"{two.name} ({two.address}, LAN {shown(two.lan)}) overlap: give each LAN "
                        "its own network."
                    )
            if host.network is not None and one.address.network.overlaps(host.network):
                yield (
                    f"{host.name}: {one.name} ({one.address}) overlaps the virtual network "
                    f"{host.network}: choose another LAN network or another ropeway_network."
                )
