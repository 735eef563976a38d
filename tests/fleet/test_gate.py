"""Links that have to carry before a roll-out goes on, and those that may be off."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict

import pytest

from tests.fleet.inventory import Inventory

GATE = "tests/fleet/gate.yml"


def status(**faults: str) -> Dict[str, Any]:
    """What an agent says that reaches 10.0.0.2 over each link without a fault."""
    indexes = {name: number for number, name in enumerate(faults, 2)}
    return {
        "links": [
            {"index": indexes[name], "name": name, "fault": fault or None}
            for name, fault in faults.items()
            if fault != "it is not there"
        ],
        "missing_links": [
            {"index": 0, "name": name, "fault": fault}
            for name, fault in faults.items()
            if fault == "it is not there"
        ],
        "peers": [
            {
                "host": "10.0.0.2",
                "best_state": 2,
                "connections": [
                    {"link": indexes[name], "state": 0 if fault else 2}
                    for name, fault in faults.items()
                ],
            }
        ],
    }


def test_client_has_to_reach_the_router_over_each_lan_that_both_have(
    inventory: Inventory, fleet: ModuleType
) -> None:
    other = {"name": "wlan0", "lan": "mesh", "configure": False}
    inventory["vm0"]["ropeway_interfaces"].append(other)
    inventory["vm2"]["ropeway_interfaces"].append({**other, "name": "wlan2"})
    known = inventory.hostvars
    assert fleet.expected_links("vm0", ["vm1"], [], known) == ["enp0s3", "enp0s8"]
    assert fleet.expected_links("vm0", [], [], known) == []
    # A router that can be called from anywhere is called over any link.
    inventory["vm1"]["ropeway_endpoints"] = ["203.0.113.7"]
    assert fleet.expected_links("vm0", ["vm1"], [], known) == ["enp0s3", "enp0s8", "wlan0"]
    assert fleet.expected_links("vm0", ["vm1"], ["vm2"], known) == ["enp0s3", "enp0s8"]


def test_router_has_to_be_called_over_the_lans_of_clients_that_are_up(
    inventory: Inventory, fleet: ModuleType
) -> None:
    lans = {item["lan"]: item["name"] for item in inventory["vm1"]["ropeway_interfaces"]}
    of_vm0 = [lans[item["lan"]] for item in inventory["vm0"]["ropeway_interfaces"]]
    assert fleet.expected_links("vm1", ["vm0"], [], inventory.hostvars) == of_vm0
    assert fleet.expected_links("vm1", ["vm0", "vm2"], [], inventory.hostvars) == list(
        lans.values()
    )
    inventory["vm0"]["ropeway_tolerated_links"] = "enp0s3"
    assert fleet.expected_links("vm1", ["vm0"], [], inventory.hostvars) == of_vm0[1:]
    uplink = {"name": "wan0", "lan": "internet", "address": "203.0.113.7/24"}
    inventory["vm1"]["ropeway_interfaces"].append(uplink)
    assert "wan0" not in fleet.expected_links("vm1", ["vm0"], [], inventory.hostvars)
    inventory["vm1"]["ropeway_endpoints"] = ["203.0.113.7:51840"]
    assert "wan0" in fleet.expected_links("vm1", ["vm0"], [], inventory.hostvars)


def test_link_without_an_established_connection_is_idle(fleet: ModuleType) -> None:
    said = status(eth0="", wlan0="no answer over it from 10.0.0.2", wwan0="it is not there")
    assert fleet.idle_links(said, ["eth0", "wlan0", "wwan0", "eth9"]) == ["wlan0", "wwan0", "eth9"]
    assert fleet.idle_links(said, "wlan0, eth0") == ["wlan0"]
    assert fleet.link_faults(said, ["wlan0", "wwan0", "eth9"]) == (
        'wlan0 "no answer over it from 10.0.0.2", wwan0 "it is not there", eth9 "no link"'
    )


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"links": 7, "peers": "all"},
        {"links": [3, None, {"name": [], "index": []}], "peers": [{"connections": 4}, 5]},
        {"links": [{"name": "eth0", "index": 2}], "peers": [{"connections": [{"link": []}]}]},
        {"links": [{"name": "eth0", "index": 2, "fault": ["{{ 1 }}\n" * 500]}]},
    ],
)
def test_whatever_a_host_says_of_its_links_is_no_error(fleet: ModuleType, said: Any) -> None:
    assert fleet.idle_links(said, ["eth0"]) == ["eth0"]
    assert "\n" not in fleet.link_faults(said, ["eth0"])
    assert len(fleet.link_faults(said, ["eth0"])) < 1000


def gate(playbook: Callable[..., Any], folder: Path, vm0: Dict[str, Any], **extra: Any) -> Any:
    inventory = Inventory()
    whole = status(enp0s3="", enp0s8="")
    variables = {"statuses": {"vm0": vm0, "vm2": whole}, "folder": str(folder / "bin"), **extra}
    (folder / "bin").mkdir()
    given = json.dumps(variables)
    return playbook(inventory.write(folder / "inventory"), "-e", given, book=GATE)


def test_roll_out_stops_at_a_link_that_carries_nothing(
    playbook: Callable[..., Any], tmp_path: Path
) -> None:
    run = gate(playbook, tmp_path, status(enp0s3="", enp0s8="it is down"))
    assert run.status != 0, run.output
    assert (
        "vm0 has no redundancy over enp0s8: nothing is carried there after 1 s (enp0s8" in run.words
    ), run.output
    assert "it is down" in run.words
    assert "-e ropeway_tolerated_links=enp0s8" in run.words
    assert "vm2 has no redundancy" not in run.words


def test_link_that_may_be_off_is_a_warning(playbook: Callable[..., Any], tmp_path: Path) -> None:
    run = gate(
        playbook,
        tmp_path,
        status(enp0s3="", enp0s8="it is not there"),
        ropeway_tolerated_links="enp0s8,wwan0",
    )
    assert run.status == 0, run.output
    assert "WARNING: vm0 has links that carry nothing" in run.words, run.output
    assert 'borne: enp0s8 "it is not there"' in run.words.replace("\\", ""), run.output
    assert "WARNING: vm2" not in run.words


def test_agent_whose_links_all_carry_passes(playbook: Callable[..., Any], tmp_path: Path) -> None:
    run = gate(playbook, tmp_path, status(enp0s3="", enp0s8=""))
    assert run.status == 0, run.output
    assert "WARNING: vm" not in run.words
