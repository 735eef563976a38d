"""Virtual addresses: given, recorded and allocated."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from ropeway_fleet.checks.virtual_addresses import recorded_addresses, virtual_addresses
from tests.fleet.inventory import Inventory, fleet_of
from tests.fleet.ropeway_preflight.checks.sentences import (
    RECORD_PATH,
    assert_one_sentence,
    case_name,
)


def record(**addresses: str) -> Dict[str, Any]:
    """A file of recorded addresses, parsed."""
    return {"all": {"vars": {"ropeway_recorded_addresses": addresses}}}


def same_virtual_address(inventory: Inventory) -> None:
    inventory["vm2"]["ropeway_virtual_address"] = "10.0.0.1"


def address_outside(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_virtual_address"] = "10.0.1.1"


def network_address(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_virtual_address"] = "10.0.0.0"


def broadcast_address(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_virtual_address"] = "10.0.0.255"


def address_with_prefix(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_virtual_address"] = "10.0.0.1/24"


def value_with_a_blank(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_virtual_address"] = "10.0.0.1 "


CASES = [
    (same_virtual_address, ["vm0 and vm2", "10.0.0.1", "its own"]),
    (address_outside, ["vm0", "10.0.1.1", "outside", "10.0.0.0/24", "10.0.0.1 to 10.0.0.254"]),
    (network_address, ["vm0", "10.0.0.0 is the network address"]),
    (broadcast_address, ["vm0", "10.0.0.255 is the broadcast address"]),
    (address_with_prefix, ["vm0", "10.0.0.1/24", "without a prefix length"]),
    (value_with_a_blank, ["vm0: ropeway_virtual_address '10.0.0.1 ' is not an IPv4 address"]),
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


def test_an_address_is_free_again_where_keys_tell_hosts_apart(inventory: Inventory) -> None:
    del inventory["vm0"]["ropeway_virtual_address"]
    known = record(gone="10.0.0.1", vm0="10.0.0.4")
    for encapsulation, kept in (("secure", {"vm0": "10.0.0.4"}), ("classic", None)):
        inventory.everywhere(ropeway_encapsulation=encapsulation)
        found = recorded_addresses(inventory.groups, inventory.hostvars, known)
        assert found == (kept or {"gone": "10.0.0.1", "vm0": "10.0.0.4"})
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    given = virtual_addresses(inventory.groups, inventory.hostvars, known)
    assert given["vm3"] == "10.0.0.5"
    inventory.everywhere(ropeway_encapsulation="secure")
    given = virtual_addresses(inventory.groups, inventory.hostvars, known)
    assert given["vm3"] == "10.0.0.1"


def test_addresses_are_allocated_once(inventory: Inventory) -> None:
    inventory.everywhere(ropeway_encapsulation="classic")
    del inventory["vm0"]["ropeway_virtual_address"]
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    first = virtual_addresses(inventory.groups, inventory.hostvars, None)
    assert first == {"vm1": "10.0.0.2", "vm0": "10.0.0.1", "vm2": "10.0.0.3", "vm3": "10.0.0.4"}
    kept = recorded_addresses(inventory.groups, inventory.hostvars, None)
    assert kept == {"vm0": "10.0.0.1", "vm3": "10.0.0.4"}

    # vm0 leaves, vm4 comes in front of vm3: nobody's address changes, and vm0's is not reused.
    for group in inventory.groups.values():
        if "vm0" in group:
            group.remove("vm0")
    inventory.add_client("vm4", {"name": "a", "lan": "net0", "address": "192.168.0.8/24"})
    inventory.groups["ropeway"].sort(reverse=True)
    later = virtual_addresses(inventory.groups, inventory.hostvars, record(**kept))
    assert later == {"vm4": "10.0.0.5", "vm3": "10.0.0.4", "vm2": "10.0.0.3", "vm1": "10.0.0.2"}
    again = recorded_addresses(inventory.groups, inventory.hostvars, record(**kept))
    assert again == {"vm0": "10.0.0.1", "vm3": "10.0.0.4", "vm4": "10.0.0.5"}


def test_full_network(inventory: Inventory, problems: Callable[..., List[str]]) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_network"] = "10.0.0.0/30"
    inventory["vm2"]["ropeway_virtual_address"] = None
    assert [p for p in problems(inventory) if "no free address" in p and p.startswith("vm2")]


@pytest.mark.parametrize(
    ("recorded", "parts"),
    [
        (record(vm0="10.0.0.9"), ["vm0", "10.0.0.1", RECORD_PATH, "10.0.0.9"]),
        (record(gone="10.0.0.999"), [RECORD_PATH, "10.0.0.999 of gone"]),
        ({"all": None}, [RECORD_PATH, "has no mapping"]),
        ([], [RECORD_PATH, "has no mapping"]),
    ],
)
def test_record_that_contradicts(
    inventory: Inventory,
    problems: Callable[..., List[str]],
    recorded: Dict[str, Any],
    parts: List[str],
) -> None:
    found = problems(inventory, recorded)
    assert [sentence for sentence in found if all(part in sentence for part in parts)], found


def test_a_classic_address_is_not_taken_from_a_host_that_is_gone(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    assert problems(inventory, record(gone="10.0.0.3")) == []
    inventory.everywhere(ropeway_encapsulation="classic")
    (sentence,) = problems(inventory, record(gone="10.0.0.3"))
    assert f"vm2: {RECORD_PATH} has ropeway_virtual_address 10.0.0.3 for gone" in sentence


def test_recorded_address_outside_of_a_changed_network(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    del inventory["vm0"]["ropeway_virtual_address"]
    found = problems(inventory, record(vm0="10.9.0.1"))
    assert len(found) == 1
    assert found[0] == (
        f"vm0: the recorded address 10.9.0.1 ({RECORD_PATH}) is not usable in the virtual network "
        "10.0.0.0/24: if you want to change ropeway_network, delete that file, and the next run "
        "allocates new addresses. If not, restore the former ropeway_network."
    )
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    (one,) = problems(inventory, record(vm0="10.9.0.1", vm3="10.0.0.9"))
    assert "delete the line of vm0, and the next run" in one
    (several,) = problems(inventory, record(vm0="10.9.0.1", vm3="10.9.0.9", vm2="10.0.0.3"))
    assert several.startswith("vm0, vm3: the recorded addresses, such as 10.9.0.1 (")
    assert "delete the lines of these hosts, and the next run" in several
    # What the sentence advises, done.
    assert problems(inventory, record(vm2="10.0.0.3")) == []


def test_recorded_addresses_outside_of_a_changed_network_are_one_line(
    problems: Callable[..., List[str]],
) -> None:
    inventory = fleet_of(78)
    kept = recorded_addresses(inventory.groups, inventory.hostvars, None)
    inventory.everywhere(ropeway_network="10.213.0.0/16")
    for name in ("vm0", "vm1", "vm2"):
        inventory[name]["ropeway_virtual_address"] = f"10.213.0.1{name[2:]}"
    (sentence,) = problems(inventory, record(**kept))
    assert sentence.startswith(
        f"group robots (78 hosts): the recorded addresses, such as 10.0.0.4 ({RECORD_PATH})"
    )
    assert "delete that file" in sentence
    assert problems(inventory) == []
