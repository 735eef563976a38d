"""The networks of a host and their peers, from the inventory."""

from __future__ import annotations

from typing import List

from tests.fleet.conftest import load_filters
from tests.fleet.inventory import Inventory

networks = load_filters("ropeway_agent", "ropeway_networks")

ADDRESSES = {"vm0": "10.0.0.1", "vm1": "10.0.0.2", "vm2": "10.0.0.3"}


def test_classic_peers_are_on_shared_lans_only(inventory: Inventory) -> None:
    inventory["vm1"]["ropeway_interfaces"].append(
        {"name": "enp0s11", "lan": "net9", "address": "192.168.9.3/24"}
    )
    assert networks.peers("vm0", ["vm1"], inventory.hostvars, ADDRESSES) == [
        {"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.1.3"]}
    ]
    assert networks.peers("vm1", ["vm0", "vm2"], inventory.hostvars, ADDRESSES) == [
        {"host": "10.0.0.1", "addresses": ["192.168.0.2", "192.168.1.2"]},
        {"host": "10.0.0.3", "addresses": ["192.168.2.2", "192.168.3.2"]},
    ]
    assert networks.peers("vm0", ["vm0", "vm2"], inventory.hostvars, ADDRESSES) == []


def test_a_key_is_on_the_router_its_clients_and_direct_peers(
    inventory: Inventory,
) -> None:
    def key_holders(host: str) -> List[str]:
        return list(networks.key_holders(host, inventory.groups, inventory.hostvars))

    assert key_holders("vm1") == ["vm0", "vm2"]
    assert key_holders("vm0") == key_holders("vm2") == ["vm1"]
    inventory.groups["ropeway_routers"] = ["vm1", "vm2"]
    inventory.groups["ropeway_clients"] = ["vm0"]
    assert key_holders("vm1") == ["vm0", "vm2"]
    assert key_holders("vm2") == ["vm1", "vm0"]
    inventory.groups["ropeway_routers"] = ["vm1"]
    inventory.groups["ropeway_clients"] = ["vm0", "vm2"]
    inventory["vm0"]["ropeway_direct_peers"] = ["vm2"]
    assert key_holders("vm0") == ["vm1", "vm2"]
    assert key_holders("vm2") == ["vm1", "vm0"]
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    inventory["vm3"]["ropeway_agent_extra_networks"] = [{"name": "x", "peers": [{"name": "vm2"}]}]
    assert key_holders("vm2") == ["vm1", "vm0", "vm3"]
