"""How Ansible reaches the hosts."""

from __future__ import annotations

from typing import Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def management_in_virtual(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "10.0.0.77"


def same_way_in(inventory: Inventory) -> None:
    inventory["vm2"]["ansible_host"] = inventory["vm0"]["ansible_host"]


def way_in_as_lan_address(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "192.168.2.2"


def address_as_name_and_as_way_in(inventory: Inventory) -> None:
    inventory.add_client("192.0.2.7", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    del inventory["192.0.2.7"]["ansible_host"]
    inventory["vm0"]["ansible_host"] = "192.0.2.7"


def name_in_two_spellings(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "Nord.example.org."
    inventory["vm2"]["ansible_host"] = "nord.example.org"


def address_in_two_spellings(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "[2001:db8::7]"
    inventory["vm2"]["ansible_host"] = "2001:0DB8:0:0::7"


def port_told_and_untold(inventory: Inventory) -> None:
    inventory["vm2"].update(ansible_host=inventory["vm0"]["ansible_host"], ansible_port=22)


CASES = [
    (management_in_virtual, ["vm0", "10.0.0.77", "virtual network"]),
    (same_way_in, ["vm0 and vm2", "ansible_host 172.30.77.10", "correct all but one"]),
    (way_in_as_lan_address, ["vm2", "enp0s3", "192.168.2.2", "ansible_host of vm0"]),
    (address_as_name_and_as_way_in, ["vm0 and 192.0.2.7 have the same ansible_host 192.0.2.7"]),
    (name_in_two_spellings, ["vm0 and vm2 have the same ansible_host nord.example.org"]),
    (address_in_two_spellings, ["vm0 and vm2 have the same ansible_host 2001:db8::7"]),
    (port_told_and_untold, ["vm0 and vm2 have the same ansible_host"]),
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


def test_hosts_behind_one_address_may_differ_in_port(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    for port, variables in enumerate(inventory.hostvars.values(), 2201):
        variables.update(ansible_host="192.0.2.1", ansible_port=port)
    assert problems(inventory) == []
