"""Networks behind hosts, in the inventory."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence


@pytest.mark.parametrize("subnets", [None, [], ["192.168.70.0/24"], ["172.16.0.0/12"] * 32])
def test_private_networks_may_be_behind_a_host(
    inventory: Inventory, problems: Callable[..., List[str]], subnets: Any
) -> None:
    inventory["vm0"]["ropeway_subnets"] = subnets
    inventory.extra_network(announce=subnets or [])
    assert problems(inventory) == []


@pytest.mark.parametrize(
    ("subnets", "says"),
    [
        ("192.168.70.0/24", "list up to 32 networks"),
        (["192.168.70.0/24"] * 33, "list up to 32 networks"),
        (["192.168.70.1/24"], "without host bits"),
        ([7], "no IPv4 network"),
        (["fd00::/8"], "no IPv4 network"),
        (["8.8.8.0/24"], "not private"),
        (["10.0.0.0/8"], "overlaps the virtual network"),
    ],
)
def test_what_cannot_be_behind_a_host_is_told(
    inventory: Inventory, problems: Callable[..., List[str]], subnets: Any, says: str
) -> None:
    inventory["vm0"]["ropeway_subnets"] = subnets
    assert_one_sentence(problems(inventory), ["vm0", "ropeway_subnets", says])


def test_a_classic_network_has_none_behind_its_hosts(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory.everywhere(ropeway_encapsulation="classic")
    inventory["vm0"]["ropeway_subnets"] = ["192.168.70.0/24"]
    assert_one_sentence(problems(inventory), ["vm0", "ropeway_subnets is only for secure"])
