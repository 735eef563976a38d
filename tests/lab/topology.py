"""Which machines there are, and which of their interfaces stands on which LAN.

A topology is a JSON file; `topology.json` beside this module is the specification's own network:

    {"lans": ["net0", ...],
     "management": {"interface": "mgmt0", "network": "172.30.77.0/24", "controller": "172.30.77.1"},
     "hosts": {"vm0": {"management": "172.30.77.10", "suite": "bookworm",
                       "interfaces": {"enp0s3": "net0", ...}}, ...}}

`suite` is optional. The addresses on the LANs are not the lab's business: the inventory has them,
and the fleet's roles give them to the machines.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Tuple

from .errors import LabError

DEFAULT_SUITE = "bookworm"
#: The LAN of the management network, which every host is on.
MANAGEMENT = "mgmt"
HOUSE = Path(__file__).with_name("topology.json")


@dataclass(frozen=True)
class Host:
    """One machine: its name, Debian suite, management address, and interface name -> LAN."""

    name: str
    suite: str
    management: str
    interfaces: Dict[str, str]


@dataclass(frozen=True)
class Topology:
    """The LANs, the hosts by name, and the network over which the controller reaches them."""

    lans: Tuple[str, ...]
    management_interface: str
    management_network: ipaddress.IPv4Network
    controller: str
    hosts: Dict[str, Host]

    def host(self, name: str) -> Host:
        """The host called `name`; LabError naming those that exist."""
        if name not in self.hosts:
            raise LabError(f"There is no host {name}; the hosts are {', '.join(self.hosts)}.")
        return self.hosts[name]

    def interface_on(self, host: str, lan: str) -> str:
        """The name of a host's interface on `lan` or MANAGEMENT; LabError if it has none there."""
        there = self.host(host)
        interfaces = {its_lan: name for name, its_lan in there.interfaces.items()}
        interfaces[MANAGEMENT] = self.management_interface
        if lan not in interfaces:
            raise LabError(f"{host} has no interface on {lan}; it has {', '.join(interfaces)}.")
        return interfaces[lan]

    def hosts_on(self, lan: str) -> Tuple[Host, ...]:
        """The hosts that have an interface on `lan`."""
        return tuple(host for host in self.hosts.values() if lan in host.interfaces.values())


def load(path: Path = HOUSE) -> Topology:
    """Read a topology file; LabError with the file's name if it is not one."""
    try:
        raw: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        network = ipaddress.IPv4Network(raw["management"]["network"])
        topology = Topology(
            lans=tuple(raw["lans"]),
            management_interface=raw["management"]["interface"],
            management_network=network,
            controller=raw["management"]["controller"],
            hosts={
                name: Host(
                    name=name,
                    suite=host.get("suite", DEFAULT_SUITE),
                    management=host["management"],
                    interfaces=dict(host["interfaces"]),
                )
                for name, host in raw["hosts"].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{path} is not a topology: {error!r}.") from error
    _verify(path, topology)
    return topology


def _verify(path: Path, topology: Topology) -> None:
    addresses = [topology.controller, *(host.management for host in topology.hosts.values())]
    for address in addresses:
        if ipaddress.IPv4Address(address) not in topology.management_network:
            raise LabError(f"{path}: {address} is outside of {topology.management_network}.")
        if addresses.count(address) > 1:
            raise LabError(f"{path}: {address} is given more than once.")
    for host in topology.hosts.values():
        for interface, lan in host.interfaces.items():
            if lan not in topology.lans:
                raise LabError(f"{path}: {host.name} {interface} is on {lan}, which is no LAN.")
