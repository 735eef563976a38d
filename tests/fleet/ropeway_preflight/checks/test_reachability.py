"""Whether the hosts can reach each other."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from tests.fleet.conftest import load_filters
from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name

networks = load_filters("ropeway_agent", "ropeway_networks")


def no_shared_lan(inventory: Inventory) -> None:
    inventory.interface("vm2", "enp0s3")["lan"] = "net8"
    inventory.interface("vm2", "enp0s8")["lan"] = "net9"


def router_without_address(inventory: Inventory) -> None:
    entry = inventory.interface("vm1", "enp0s8")
    del entry["address"]
    entry["configure"] = False


def direct_peer_router(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_direct_peers"] = ["vm2", "vm1"]


def peer_with_a_blank(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_direct_peers"] = ["vm2 "]


def tolerated_unknown(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_tolerated_links"] = ["enp0s8", "wlna0"]


def tolerated_as_number(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_tolerated_links"] = 3


CASES = [
    (no_shared_lan, ["vm2", "net8, net9", "include no LAN of the router vm1", "add an interface"]),
    (router_without_address, ["vm1", "enp0s8 has no address", "clients"]),
    (direct_peer_router, ["vm0", "vm1 in ropeway_direct_peers"]),
    (peer_with_a_blank, ["vm0: 'vm2 ' in ropeway_direct_peers"]),
    (tolerated_unknown, ["vm0", "'wlna0' in ropeway_tolerated_links", "ropeway_interfaces"]),
    (tolerated_as_number, ["vm0", "ropeway_tolerated_links is not a list"]),
]


@pytest.mark.parametrize(("spoil", "parts"), CASES, ids=case_name)
def test_problem_is_one_sentence(
    inventory: Inventory,
    problems: Callable[..., List[str]],
    spoil: Callable[[Inventory], None],
    parts: List[str],
) -> None:
    spoil(inventory)
    assert_one_sentence(problems(inventory), parts)


@pytest.mark.parametrize("links", [None, [], ["enp0s8"], "enp0s8, enp0s3", ""])
def test_links_that_may_be_off(
    inventory: Inventory, problems: Callable[..., List[str]], links: Any
) -> None:
    inventory.everywhere(ropeway_tolerated_links=links)
    assert problems(inventory) == []


def test_a_router_with_endpoints_needs_no_shared_lan(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    no_shared_lan(inventory)
    router_without_address(inventory)
    inventory["vm1"]["ropeway_endpoints"] = [
        *("203.0.113.7", "203.0.113.7:51840", "2001:db8::7", "[2001:db8::7]:51840"),
    ]
    assert problems(inventory) == []
    inventory.everywhere(ropeway_encapsulation="classic")
    assert len(problems(inventory)) == 2


def test_an_interface_may_get_its_address_from_others(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    entry = inventory.interface("vm0", "enp0s8")
    entry["configure"] = False
    assert problems(inventory) == []
    del entry["address"]
    inventory.interface("vm1", "enp0s9")["configure"] = False
    assert problems(inventory) == []
    # The router does not know vm0's address there; vm0 knows the router's.
    addresses = {"vm0": "10.0.0.1", "vm1": "10.0.0.2", "vm2": "10.0.0.3"}
    assert networks.peers("vm1", ["vm0"], inventory.hostvars, addresses) == [
        {"host": "10.0.0.1", "addresses": ["192.168.0.2"]}
    ]
    assert networks.peers("vm0", ["vm1"], inventory.hostvars, addresses) == [
        {"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.1.3"]}
    ]
