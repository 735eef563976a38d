"""Addresses and prefixes within LANs and between them."""

from __future__ import annotations

from typing import Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def same_lan_address(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.0.3/24"


def two_prefixes(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.7.2/24"


def overlapping_lans(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["address"] = "192.168.0.200/16"


def lan_over_virtual(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "10.0.0.77/16"


CASES = [
    (same_lan_address, ["net0", "192.168.0.3", "vm1 enp0s3 and vm0 enp0s3"]),
    (two_prefixes, ["net0", "192.168.7.0/24 on vm0 enp0s3", "one network"]),
    (overlapping_lans, ["vm0", "enp0s3", "enp0s8", "192.168.0.200/16", "overlap"]),
    (lan_over_virtual, ["vm0", "enp0s3", "10.0.0.77/16", "virtual network 10.0.0.0/24"]),
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
