"""Addresses that routers give, in the inventory."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence

ROUTER = "vm1"
KEY = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="


@pytest.mark.parametrize(
    "leases",
    [
        None,
        {},
        {"pool": "10.0.0.128/25"},
        {"pool": ["10.0.0.200-10.0.0.210", "10.0.0.128/26"], "time_s": 60, "mtu": 1300},
        {"pool": "10.0.0.128/25", "public_keys": [KEY]},
    ],
)
def test_a_router_may_have_a_pool(
    inventory: Inventory, problems: Callable[..., List[str]], leases: Any
) -> None:
    inventory[ROUTER]["ropeway_leases"] = leases
    assert problems(inventory) == []


@pytest.mark.parametrize(
    ("leases", "says"),
    [
        ("10.0.0.128/25", "no mapping with a pool"),
        ({"public_keys": [KEY]}, "no mapping with a pool"),
        ({"pool": "10.0.0.128/25", "dns": "10.0.0.1"}, "no key dns"),
        ({"pool": "10.0.0.129/25"}, "no range inside"),
        ({"pool": "10.0.0.9-10.0.0.8"}, "no range inside"),
        ({"pool": "10.9.0.128/25"}, "no range inside"),
        ({"pool": "10.0.0.128/25", "public_keys": ["x"]}, "is no public key"),
        ({"pool": ["10.0.0.128/25", "10.0.0.200/32"]}, "overlaps 10.0.0.128/25"),
    ],
)
def test_what_is_no_pool_is_told(
    inventory: Inventory, problems: Callable[..., List[str]], leases: Any, says: str
) -> None:
    inventory[ROUTER]["ropeway_leases"] = leases
    assert_one_sentence(problems(inventory), [ROUTER, "ropeway_leases", says])


def test_a_client_has_no_pool(inventory: Inventory, problems: Callable[..., List[str]]) -> None:
    inventory["vm0"]["ropeway_leases"] = {"pool": "10.0.0.128/25"}
    assert_one_sentence(problems(inventory), ["vm0", "ropeway_leases is only for routers"])
