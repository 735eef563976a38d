"""The checks of a host, from its facts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fleet.conftest import load_filters
from tests.fleet.hostile_host import FACTS, HOSTILE, MACHINE

hosts = load_filters("ropeway_preflight", "ropeway_hosts")


def test_addresses_of_facts_and_their_overlap() -> None:
    facts = {
        "interfaces": ["lo", "br-x", "eth0.7", "ropeway0", "down0"],
        "lo": {"ipv4": {"address": "127.0.0.1", "prefix": "8"}},
        "br_x": {
            "ipv4": {"address": "10.0.0.77", "prefix": "32"},
            "ipv4_secondaries": [{"address": "10.1.0.1", "prefix": "16"}],
        },
        "eth0.7": {"ipv4": {"address": "10.3.0.1", "netmask": "255.0.0.0"}},
        "ropeway0": {"ipv4": {"address": "10.0.0.1", "prefix": "24"}},
    }
    addresses = hosts.fact_addresses(facts)
    assert {"interface": "br-x", "cidr": "10.1.0.1/16"} in addresses
    found = hosts.overlapping_addresses(addresses, "10.0.0.0/24", "ropeway0")
    assert found == ["br-x 10.0.0.77/32", "eth0.7 10.3.0.1/255.0.0.0"]


@pytest.mark.parametrize(
    "entry",
    [
        HOSTILE,
        {"ipv4": HOSTILE},
        {"ipv4": {"address": HOSTILE, "prefix": "24"}},
        {"ipv4": {"address": "10.0.0.7", "prefix": HOSTILE}},
        {"ipv4_secondaries": HOSTILE},
        {"ipv4_secondaries": [HOSTILE, {}]},
    ],
)
def test_what_is_no_address_is_none(entry: Any) -> None:
    assert hosts.fact_addresses({"interfaces": ["eth0"], "eth0": entry}) == []


@pytest.mark.parametrize("facts", [{}, None, [], {"interfaces": {"eth0": 1}, "python_version": []}])
def test_facts_of_any_kind_are_problems_and_no_exception(facts: Any) -> None:
    wanted = {
        "interfaces": ["eth0"],
        "network": "10.0.0.0/24",
        "device": "ropeway0",
        "versions": {"Debian": "11"},
        "python": "3.8",
    }
    found = hosts.host_problems(facts, "vm0", 7, wanted)
    assert len(found) == 5
    assert all(sentence.startswith("vm0: ") for sentence in found)
    assert len("".join(hosts.host_problems(
        {**FACTS, "interfaces": ["x" * 1000] * 1000}, "vm0", "tun", wanted
    ))) < 6000  # fmt: skip


def test_hosts_that_are_one_machine_are_a_problem() -> None:
    machine = hosts.machine_of(f"{MACHINE}tun\n")
    assert machine
    copy = hosts.machine_of(MACHINE.replace("0123", "4567"))
    container = hosts.machine_of(MACHINE.replace("4026531840", "4026532001"))
    said = {"vm0": machine, "vm1": copy, "vm2": container, "vm3": machine, "vm4": "", "vm5": ""}
    (sentence,) = hosts.same_machine_problems(said)
    assert sentence.startswith("vm0 and vm3 are one machine: ")
    assert hosts.machine_of(HOSTILE) == ""
