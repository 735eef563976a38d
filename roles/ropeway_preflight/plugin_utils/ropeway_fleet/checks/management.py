"""The addresses at which Ansible reaches the hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Dict, Iterator, List, Tuple

from ..wording import shown
from .host import Host

# SSH's port (RFC 4253, section 4), if ansible_port is not set.
DEFAULT_SSH_PORT = "22"


def management_problems(
    hosts: List[Host], hostvars: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the problems of each host's ansible_host."""
    destinations: Dict[Tuple[str, str], List[str]] = {}
    for host in hosts:
        raw, _ = destination = _ssh_destination(host.name, hostvars[host.name])
        destinations.setdefault(destination, []).append(host.name)
        try:
            address = ipaddress.IPv4Address(raw)
        except ValueError:
            continue  # a name or an IPv6 address, which is not checked
        if host.network is not None and address in host.network:
            yield (
                f"{host.name}: ansible_host {address} is in the virtual network {host.network}: "
                "Ansible needs an address that works without ropeway."
            )
        for other in hosts:
            for interface in other.interfaces:
                if interface.address is None or interface.address.ip != address:
                    continue
                if other.name != host.name:
                    yield (
                        f"{other.name}: {interface.name} has the address {address}, which is the "
                        f"ansible_host of {host.name}: give one of them another address."
                    )
    for (raw, _), names in destinations.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} have the same ansible_host {shown(raw)}: correct all but "
                "one. Otherwise one host gets the settings of all."
            )


def _ssh_destination(name: str, variables: Mapping[str, Any]) -> Tuple[str, str]:
    """Return the address or name, and the port, that Ansible connects to, in one spelling."""
    given = variables.get("ansible_host")
    text = str(name if given is None else given).strip().strip("[]")
    try:
        text = str(ipaddress.ip_address(text))
    except ValueError:
        text = text.lower().rstrip(".")
    return text, str(variables.get("ansible_port") or DEFAULT_SSH_PORT)
