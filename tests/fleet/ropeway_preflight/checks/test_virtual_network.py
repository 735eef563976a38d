"""The virtual network, and what all hosts must agree on."""

from __future__ import annotations

import base64
from typing import Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def unknown_encapsulation(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_encapsulation"] = "clasic"


def two_encapsulations(inventory: Inventory) -> None:
    inventory["vm2"]["ropeway_encapsulation"] = "classic"


def encapsulation_with_a_blank(inventory: Inventory) -> None:
    inventory.everywhere(ropeway_encapsulation="classic ")


def bad_network(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_network"] = "10.0.0.0/40"


def network_with_host_bits(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_network"] = "10.0.0.1/24"


def network_too_small(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_network"] = "10.0.0.0/31"


def two_networks(inventory: Inventory) -> None:
    inventory["vm2"]["ropeway_network"] = "10.0.0.0/25"


def psk_of_one_host(inventory: Inventory) -> None:
    inventory["vm1"]["ropeway_psk"] = base64.b64encode(b"vm1 " * 8).decode()


CASES = [
    (unknown_encapsulation, ["vm1, vm0, vm2", "clasic", "classic", "no authentication"]),
    (two_encapsulations, ["ropeway_encapsulation differs", "classic on vm2", "secure on vm1, vm0"]),
    (encapsulation_with_a_blank, ["ropeway_encapsulation 'classic ' is unknown"]),
    (bad_network, ["vm1, vm0, vm2", "10.0.0.0/40", "10.213.77.0/24"]),
    (network_with_host_bits, ["10.0.0.1/24 has host bits set", "use 10.0.0.0/24"]),
    (network_too_small, ["10.0.0.0/31", "/30 or shorter"]),
    (two_networks, ["ropeway_network differs", "10.0.0.0/25 on vm2"]),
    (psk_of_one_host, ["ropeway_psk differs", "ropeway_clients (vm0, vm2) without one"]),
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
