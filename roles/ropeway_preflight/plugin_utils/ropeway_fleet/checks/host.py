"""One host, as the inventory describes it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, List, NamedTuple, Optional, Tuple

from ..wording import shown
from .interfaces import Interface, read_interfaces
from .virtual_network import network_problem


class Host(NamedTuple):
    """One host; a part that is missing or wrong is None or left out."""

    name: str
    network: Optional[ipaddress.IPv4Network]
    interfaces: Tuple[Interface, ...]
    virtual_address: Optional[ipaddress.IPv4Address]


def read_host(name: str, variables: Mapping[str, Any]) -> Tuple[Host, List[str]]:
    """Return the host ``name``, and the problems of its variables."""
    problems: List[str] = []
    raw_network = variables.get("ropeway_network")
    network = None
    if raw_network is not None and network_problem(str(raw_network)) is None:
        network = ipaddress.IPv4Network(str(raw_network))
    interfaces = read_interfaces(name, variables, problems)
    virtual = None
    raw_address = variables.get("ropeway_virtual_address")
    if raw_address is not None:
        try:
            virtual = ipaddress.IPv4Address(str(raw_address))
        except ValueError:
            problems.append(
                f"{name}: ropeway_virtual_address {shown(raw_address)} is not an IPv4 address: use "
                "an address without a prefix length, such as 10.213.77.1."
            )
    return Host(name, network, interfaces, virtual), problems
