"""The lab's inventory as plain data, for tests that change it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, List

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "inventories" / "lab"

EXTRA_NETWORK = {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841}


class Inventory:
    """The lab's inventory as `groups` and `hostvars`, for a test to change."""

    def __init__(self) -> None:
        shared = yaml.safe_load((LAB / "group_vars" / "ropeway" / "main.yml").read_text())
        self.groups: Dict[str, List[str]] = {
            "ropeway": ["vm1", "vm0", "vm2"],
            "ropeway_routers": ["vm1"],
            "ropeway_clients": ["vm0", "vm2"],
        }
        self.hostvars: Dict[str, Dict[str, Any]] = {
            name: {
                "ropeway_network": shared["ropeway_network"],
                "ropeway_management_interface": shared["ropeway_management_interface"],
                **yaml.safe_load((LAB / "host_vars" / f"{name}.yml").read_text()),
            }
            for name in self.groups["ropeway"]
        }

    def __getitem__(self, name: str) -> Dict[str, Any]:
        return self.hostvars[name]

    def everywhere(self, **variables: Any) -> None:
        """Set variables on every host."""
        for own in self.hostvars.values():
            own.update(variables)

    def interface(self, host: str, name: str) -> Dict[str, Any]:
        """Return the entry `name` of a host's ropeway_interfaces."""
        return next(item for item in self[host]["ropeway_interfaces"] if item["name"] == name)

    def add_client(self, name: str, *interfaces: Dict[str, Any]) -> None:
        """Add a client without a virtual address."""
        self.groups["ropeway"].append(name)
        self.groups["ropeway_clients"].append(name)
        self.hostvars[name] = copy.deepcopy(self.hostvars["vm0"])
        self.hostvars[name].pop("ropeway_virtual_address", None)
        self.hostvars[name]["ansible_host"] = "172.30.77.99"
        self.hostvars[name]["ropeway_interfaces"] = list(interfaces)

    def extra_network(self, **changes: Any) -> None:
        """Give vm0 an additional network, EXTRA_NETWORK with changes."""
        self["vm0"]["ropeway_agent_extra_networks"] = [{**EXTRA_NETWORK, **changes}]

    def write(self, directory: Path) -> Path:
        """Write it as a folder for ansible-playbook -i; return the folder."""
        directory.mkdir(parents=True, exist_ok=True)
        children = {
            group: {"hosts": dict.fromkeys(self.groups[group])}
            for group in ("ropeway_routers", "ropeway_clients")
        }
        hosts = {"ropeway": {"children": children}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(hosts))
        for name, variables in self.hostvars.items():
            file = directory / "host_vars" / f"{name}.yml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(yaml.safe_dump(variables))
        return directory


def fleet_of(number: int) -> Inventory:
    """Return the lab with ``number`` more clients, which are the group robots."""
    inventory = Inventory()
    inventory.groups["robots"] = []
    for position in range(number):
        name = f"r{position}"
        address = f"192.168.0.{position + 10}/24"
        inventory.add_client(name, {"name": "eth0", "lan": "net0", "address": address})
        inventory[name]["ansible_host"] = f"192.0.2.{position + 1}"
        inventory.groups["robots"].append(name)
    return inventory


class Templated(Dict[str, Any]):
    """Variables of a host, of which some raise when they are read, as in Ansible's hostvars."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, Exception):
            raise value
        return value
