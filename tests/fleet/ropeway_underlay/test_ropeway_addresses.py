"""The addresses that a host lacks."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import pytest

from tests.fleet.conftest import load_filters
from tests.fleet.hostile_host import HOSTILE

addresses = load_filters("ropeway_underlay", "ropeway_addresses")


def link(name: str, *addresses: str, carrier: bool = True) -> Dict[str, Any]:
    """Return one item of `ip -j address show`."""
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
def test_missing_addresses(dump: List[Dict[str, Any]], missing: List[str]) -> None:
    said = json.dumps(dump)
    assert addresses.missing_addresses(said, WANTED) == missing
    others = [{**interface, "configure": False} for interface in WANTED]
    assert addresses.missing_addresses(said, [*others, {"name": "wlan0", "configure": False}]) == []


@pytest.mark.parametrize(
    "said",
    [
        HOSTILE,
        "",
        json.dumps([HOSTILE, 7]),
        json.dumps({"ifname": "eth0"}),
        json.dumps([{"ifname": "eth0", "flags": HOSTILE, "addr_info": HOSTILE}]),
        json.dumps([{"ifname": "eth0", "flags": ["LOWER_UP"], "addr_info": [HOSTILE]}]),
        json.dumps([{"ifname": ["eth0"], "flags": 7}]),
        "[" * 100_000,
    ],
    ids=range(8),
)
def test_addresses_of_any_kind_are_a_sentence(said: str) -> None:
    wanted = [{"name": "eth0", "address": "192.0.2.1/24"}]
    found = addresses.missing_addresses(said, wanted)
    assert found in (["eth0 192.0.2.1/24"], [])
