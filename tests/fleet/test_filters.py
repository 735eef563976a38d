"""The filters of ropeway_agent and ropeway_underlay."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any, Dict, List

import pytest

from tests.fleet.inventory import Inventory

ADDRESSES = {"vm0": "10.0.0.1", "vm1": "10.0.0.2", "vm2": "10.0.0.3"}


def test_classic_peers_are_on_shared_lans_only(inventory: Inventory, fleet: ModuleType) -> None:
    inventory["vm1"]["ropeway_interfaces"].append(
        {"name": "enp0s11", "lan": "net9", "address": "192.168.9.3/24"}
    )
    assert fleet.peers("vm0", ["vm1"], inventory.hostvars, ADDRESSES) == [
        {"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.1.3"]}
    ]
    assert fleet.peers("vm1", ["vm0", "vm2"], inventory.hostvars, ADDRESSES) == [
        {"host": "10.0.0.1", "addresses": ["192.168.0.2", "192.168.1.2"]},
        {"host": "10.0.0.3", "addresses": ["192.168.2.2", "192.168.3.2"]},
    ]
    assert fleet.peers("vm0", ["vm0", "vm2"], inventory.hostvars, ADDRESSES) == []


def test_newest_package(fleet: ModuleType) -> None:
    versions = ["0.9.0~rc1", "0.9.0", "0.9.0+b1", "0.10.0", "0.10.0-1", "1.0"]
    paths = [f"/d/ropeway_{version}_all.deb" for version in versions]
    for newest in range(1, len(paths)):
        assert fleet.newest_package(paths[newest::-1]) == paths[newest]
        assert fleet.newest_package(paths[: newest + 1]) == paths[newest]
    assert fleet.newest_package(["/d/other_2_all.deb", "/d/ropeway_2_amd64.deb"]) == ""
    assert fleet.package_version(paths[0]) == "0.9.0~rc1"


def test_carrying_peers(fleet: ModuleType) -> None:
    states = {"10.0.0.2": 2, "10.0.0.3": 1, "no address": 2}
    status = {"peers": [{"host": host, "best_state": state} for host, state in states.items()]}
    assert fleet.carrying_peers(status) == ["10.0.0.2"]
    assert fleet.carrying_peers({}) == []


def test_who_has_to_be_heard_again(fleet: ModuleType) -> None:
    network = {"encapsulation": "secure", "network": "10.0.0.0/24", "port": "51840"}
    before = {**network, "port": 51840, "peers": [{"host": "10.0.0.2", "best_state": 2}]}
    assert fleet.carried_before(before, network) == ["10.0.0.2"]
    for change in ({"encapsulation": "classic"}, {"network": "10.0.0.0/25"}, {"port": 51841}):
        assert fleet.carried_before({**before, **change}, network) == []
    classic = {**network, "encapsulation": "classic"}
    assert fleet.carried_before({**before, "encapsulation": "classic"}, classic) == ["10.0.0.2"]


def link(name: str, *addresses: str, carrier: bool = True) -> Dict[str, Any]:
    """One item of `ip -j address show`."""
    info = [
        {"family": "inet", "local": address.split("/")[0], "prefixlen": int(address.split("/")[1])}
        for address in addresses
    ]
    flags = ["BROADCAST", "UP", "LOWER_UP"] if carrier else ["NO-CARRIER", "BROADCAST", "UP"]
    return {"ifname": name, "flags": flags, "addr_info": info}


WANTED = [{"name": "enp0s3", "address": "192.168.0.2/24"}]


@pytest.mark.parametrize(
    ("dump", "missing"),
    [
        ([link("enp0s3", "192.168.0.2/24")], []),
        ([link("enp0s3", "10.1.1.1/8", "192.168.0.2/24")], []),
        ([link("enp0s3", "192.168.0.2/16")], ["enp0s3 192.168.0.2/24"]),
        ([link("enp0s3")], ["enp0s3 192.168.0.2/24"]),
        ([link("enp0s3", carrier=False)], []),
        ([link("enp0s8", "192.168.0.2/24"), {}], ["enp0s3 192.168.0.2/24"]),
        ([], ["enp0s3 192.168.0.2/24"]),
    ],
)
def test_missing_addresses(
    underlay: ModuleType, dump: List[Dict[str, Any]], missing: List[str]
) -> None:
    said = json.dumps(dump)
    assert underlay.missing_addresses(said, WANTED) == missing
    others = [{**interface, "configure": False} for interface in WANTED]
    assert underlay.missing_addresses(said, [*others, {"name": "wlan0", "configure": False}]) == []
