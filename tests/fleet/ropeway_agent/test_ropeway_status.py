"""The status that an agent reports, and the links and peers that it must have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fleet.conftest import load_filters
from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_agent.statuses import status

statuses = load_filters("ropeway_agent", "ropeway_status")


def test_established_peers() -> None:
    states = {"10.0.0.2": 2, "10.0.0.3": 1, "no address": 2}
    status = {"peers": [{"host": host, "best_state": state} for host, state in states.items()]}
    assert statuses.established_peers(status) == ["10.0.0.2"]
    assert statuses.established_peers({}) == []


def test_peers_are_expected_again_unless_both_ends_must_change() -> None:
    network = {
        "encapsulation": "secure",
        "network": "10.0.0.0/24",
        "port": "51840",
        "peers": [{"host": "10.0.0.2"}],
    }
    before = {**network, "port": 51840, "peers": [{"host": "10.0.0.2", "best_state": 2}]}
    assert statuses.established_before(before, network) == ["10.0.0.2"]
    for change in ({"encapsulation": "classic"}, {"network": "10.0.0.0/25"}, {"port": 51841}):
        assert statuses.established_before({**before, **change}, network) == []
    classic = {**network, "encapsulation": "classic"}
    assert statuses.established_before({**before, "encapsulation": "classic"}, classic) == [
        "10.0.0.2"
    ]


def test_a_peer_that_the_new_configuration_does_not_list_is_not_expected_again() -> None:
    network = {"encapsulation": "secure", "network": "10.0.0.0/24", "port": 51840}
    connected = [{"host": host, "best_state": 2} for host in ("10.0.0.2", "10.0.0.4")]
    before = {**network, "peers": connected}
    after = {**network, "peers": [{"host": "10.0.0.4"}]}
    assert statuses.established_before(before, after) == ["10.0.0.4"]


@pytest.mark.parametrize(
    "said",
    ["", "null", "[]", '{"peers": 7}', '{"peers": [7, {}, {"host": "{{ 1 }}", "best_state": 2}]}',
     '{"peers": [{"host": "10.0.0.2\\n", "best_state": 2}]}', "[" * 100_000],
    ids=range(7),
)  # fmt: skip
def test_a_status_that_is_none_names_no_peer(said: str) -> None:
    assert statuses.established_peers(statuses.status_of(said)) == []
    assert (
        statuses.established_before(statuses.status_of(said), {"encapsulation": "x", "network": ""})
        == []
    )


def test_client_has_to_reach_the_router_over_each_lan_that_both_have(inventory: Inventory) -> None:
    other = {"name": "wlan0", "lan": "mesh", "configure": False}
    inventory["vm0"]["ropeway_interfaces"].append(other)
    inventory["vm2"]["ropeway_interfaces"].append({**other, "name": "wlan2"})
    known = inventory.hostvars
    assert statuses.expected_links("vm0", ["vm1"], [], known) == ["enp0s3", "enp0s8"]
    assert statuses.expected_links("vm0", [], [], known) == []
    # A router that can be called from anywhere is called over any link.
    inventory["vm1"]["ropeway_endpoints"] = ["203.0.113.7"]
    assert statuses.expected_links("vm0", ["vm1"], [], known) == ["enp0s3", "enp0s8", "wlan0"]
    assert statuses.expected_links("vm0", ["vm1"], ["vm2"], known) == ["enp0s3", "enp0s8"]


def test_router_has_to_be_called_over_the_lans_of_clients_that_are_up(inventory: Inventory) -> None:
    lans = {item["lan"]: item["name"] for item in inventory["vm1"]["ropeway_interfaces"]}
    of_vm0 = [lans[item["lan"]] for item in inventory["vm0"]["ropeway_interfaces"]]
    assert statuses.expected_links("vm1", ["vm0"], [], inventory.hostvars) == of_vm0
    assert statuses.expected_links("vm1", ["vm0", "vm2"], [], inventory.hostvars) == list(
        lans.values()
    )
    inventory["vm0"]["ropeway_tolerated_links"] = "enp0s3"
    assert statuses.expected_links("vm1", ["vm0"], [], inventory.hostvars) == of_vm0[1:]
    uplink = {"name": "wan0", "lan": "internet", "address": "203.0.113.7/24"}
    inventory["vm1"]["ropeway_interfaces"].append(uplink)
    assert "wan0" not in statuses.expected_links("vm1", ["vm0"], [], inventory.hostvars)
    inventory["vm1"]["ropeway_endpoints"] = ["203.0.113.7:51840"]
    assert "wan0" in statuses.expected_links("vm1", ["vm0"], [], inventory.hostvars)


def test_link_without_an_established_connection_is_idle() -> None:
    said = status(eth0="", wlan0="no answer over it from 10.0.0.2", wwan0="it is not there")
    assert statuses.idle_links(said, ["eth0", "wlan0", "wwan0", "eth9"]) == [
        "wlan0",
        "wwan0",
        "eth9",
    ]
    assert statuses.idle_links(said, "wlan0, eth0") == ["wlan0"]
    assert statuses.link_faults(said, ["wlan0", "wwan0", "eth9"]) == (
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
def test_whatever_a_host_says_of_its_links_is_no_error(said: Any) -> None:
    assert statuses.idle_links(said, ["eth0"]) == ["eth0"]
    assert "\n" not in statuses.link_faults(said, ["eth0"])
    assert len(statuses.link_faults(said, ["eth0"])) < 1000
