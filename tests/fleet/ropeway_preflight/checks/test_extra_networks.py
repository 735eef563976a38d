"""The entries of ropeway_agent_extra_networks."""

from __future__ import annotations

from typing import Callable, List

import pytest

from tests.fleet.inventory import EXTRA_NETWORK, Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def extra_no_list(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_agent_extra_networks"] = EXTRA_NETWORK


def extra_name(inventory: Inventory) -> None:
    inventory.extra_network(name="ropeway")


def extra_encapsulation(inventory: Inventory) -> None:
    inventory.extra_network(encapsulation="clasic")


def extra_port(inventory: Inventory) -> None:
    inventory.extra_network(port=51840)


def extra_device(inventory: Inventory) -> None:
    inventory.extra_network(device_name="ropeway0")


def extra_device_too_long(inventory: Inventory) -> None:
    inventory.extra_network(name="laboratory")


def extra_latency(inventory: Inventory) -> None:
    inventory.extra_network(cpu_latency_us=True)


def extra_overlap(inventory: Inventory) -> None:
    inventory.extra_network(network="10.0.0.0/16", address="10.0.1.1")


def extra_address_outside(inventory: Inventory) -> None:
    inventory.extra_network(address="10.0.2.1")


def extra_network_missing(inventory: Inventory) -> None:
    inventory.extra_network(network=None)


def extra_unknown_key(inventory: Inventory) -> None:
    inventory.extra_network(prot=51900)


def extra_unknown_key_of_a_peer(inventory: Inventory) -> None:
    inventory.extra_network(peers=[{"host": "10.0.1.2", "adresses": ["192.168.0.2"]}])


def extra_peer_no_mapping(inventory: Inventory) -> None:
    inventory.extra_network(peers=["vm1"])


CASES = [
    (extra_no_list, ["vm0", "ropeway_agent_extra_networks is not a list"]),
    (extra_name, ["vm0", "ropeway cannot be the name"]),
    (extra_encapsulation, ["vm0", "lab", "clasic", "no authentication"]),
    (extra_port, ["vm0", "networks ropeway and lab", "port 51840"]),
    (extra_device, ["vm0", "networks ropeway and lab", "device ropeway0"]),
    (extra_device_too_long, ["vm0, network laboratory", "15 bytes"]),
    (extra_latency, ["vm0, network lab", "its cpu_latency_us True", "0 to 1000000"]),
    (extra_overlap, ["vm0", "ropeway (10.0.0.0/24) and lab (10.0.0.0/16) overlap"]),
    (extra_address_outside, ["vm0, network lab", "10.0.2.1 is outside"]),
    (extra_network_missing, ["vm0, network lab", "its network is not set"]),
    (extra_unknown_key, ["vm0, network lab: the key prot is unknown: did you mean port?"]),
    (extra_unknown_key_of_a_peer, ["vm0, network lab", "adresses in an item of its peers"]),
    (extra_peer_no_mapping, ["vm0, network lab", "vm1 in its peers is not a mapping"]),
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


def test_networks_that_fit(inventory: Inventory, problems: Callable[..., List[str]]) -> None:
    inventory.extra_network()
    inventory["vm1"]["ropeway_agent_extra_networks"] = [
        # classic has no port to share.
        {**EXTRA_NETWORK, "encapsulation": "classic", "port": 51840, "address": "10.0.1.2"},
        {"name": "b", "network": "10.0.2.0/24", "address": "10.0.2.2", "port": 51842},
    ]
    inventory["vm0"].update(ropeway_port="51840", ropeway_rollover_s=3600)
    inventory["vm1"]["ropeway_offload_disable"] = ["udp_segment", "udp_gro"]
    inventory["vm2"]["ropeway_direct_peers"] = ["vm0"]
    inventory.everywhere(ropeway_psk="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    assert problems(inventory) == []
