"""The groups, and problems that the hosts of a group share."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import pytest

from tests.fleet.inventory import Inventory, fleet_of
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def no_router(inventory: Inventory) -> None:
    inventory.groups["ropeway_routers"] = []
    inventory.groups["ropeway_clients"].append("vm1")


def two_routers_on_classic(inventory: Inventory) -> None:
    two_routers(inventory)
    inventory.everywhere(ropeway_encapsulation="classic")


def two_routers(inventory: Inventory) -> None:
    inventory.groups["ropeway_routers"] = ["vm1", "vm2"]
    inventory.groups["ropeway_clients"] = ["vm0"]
    inventory.interface("vm2", "enp0s3").update(lan="net0", address="192.168.0.9/24")


def nine_routers(inventory: Inventory) -> None:
    lan = {"lan": "net0", "name": "eth0"}
    for number in range(8):
        inventory.add_client(f"r{number}", {**lan, "address": f"192.168.0.{20 + number}/24"})
        inventory[f"r{number}"]["ansible_host"] = f"192.0.2.{number}"
        inventory.groups["ropeway_clients"].remove(f"r{number}")
        inventory.groups["ropeway_routers"].append(f"r{number}")
    inventory.groups["ropeway"].remove("vm2")
    inventory.groups["ropeway_clients"].remove("vm2")


def no_clients(inventory: Inventory) -> None:
    inventory.groups.update(ropeway=["vm1"], ropeway_clients=[])


def both_groups(inventory: Inventory) -> None:
    inventory.groups["ropeway_clients"].append("vm1")


def neither_group(inventory: Inventory) -> None:
    inventory.groups["ropeway_clients"].remove("vm2")


def not_a_child(inventory: Inventory) -> None:
    inventory.groups["ropeway"].remove("vm2")


def nobody(inventory: Inventory) -> None:
    inventory.groups.clear()
    inventory.groups.update(all=[], ungrouped=[])


def without_network(variables: Dict[str, Any]) -> None:
    del variables["ropeway_network"]


def with_unknown_variable(variables: Dict[str, Any]) -> None:
    variables["ropeway_prot"] = 51900


def with_bad_port(variables: Dict[str, Any]) -> None:
    variables["ropeway_port"] = 0


def with_unknown_key(variables: Dict[str, Any]) -> None:
    variables["ropeway_interfaces"][0]["adress"] = "192.168.0.77/24"


def with_psk(variables: Dict[str, Any]) -> None:
    variables["ropeway_psk"] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def with_a_lan_of_their_own(variables: Dict[str, Any]) -> None:
    variables["ropeway_interfaces"][0]["lan"] = "elsewhere"


CASES = [
    (no_router, ["ropeway_routers", "vm0, vm2, vm1", "add the router"]),
    (two_routers_on_classic, ["ropeway_routers", "vm1, vm2", "classic", "keep one"]),
    (nine_routers, ["ropeway_routers has 9 hosts", "at most 8"]),
    (no_clients, ["ropeway_clients", "add the router's clients"]),
    (both_groups, ["vm1", "ropeway_routers", "ropeway_clients", "keep it in one"]),
    (neither_group, ["vm2", "neither", "add each to one"]),
    (not_a_child, ["vm2", "child of ropeway"]),
    (nobody, ["Group ropeway has no host", "-i"]),
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


@pytest.mark.parametrize(
    "spoil",
    [with_unknown_variable, with_bad_port, with_unknown_key, with_psk, with_a_lan_of_their_own],
)
@pytest.mark.parametrize(
    ("spared", "subject"),
    [((), "group robots (78 hosts)"), (("r3", "r70"), "group robots without r3, r70 (76 hosts)")],
)
def test_a_problem_of_a_group_is_one_line_that_names_the_group(
    problems: Callable[..., List[str]],
    spoil: Callable[[Dict[str, Any]], None],
    spared: Tuple[str, ...],
    subject: str,
) -> None:
    inventory = fleet_of(78)
    for name in inventory.groups["robots"]:
        if name not in spared:
            spoil(inventory[name])
    (sentence,) = problems(inventory)
    if spoil is not with_psk:
        assert sentence.startswith(f"{subject}: ")
    assert len(sentence) < 400


@pytest.mark.parametrize("group", ["ropeway_routers", "ropeway_clients"])
def test_hosts_in_neither_group_are_one_line(
    problems: Callable[..., List[str]], group: str
) -> None:
    inventory = fleet_of(78)
    for name in inventory.groups["robots"]:
        inventory.groups["ropeway_clients"].remove(name)
        if group == "ropeway_clients":
            inventory.groups["ropeway"].remove(name)
    if group == "ropeway_clients":
        inventory.groups["ropeway_clients"] += inventory.groups["robots"]
    sentences = problems(inventory)
    assert [text for text in sentences if text.startswith("group robots (78 hosts) are n")] == (
        sentences
    )


def test_two_routers_are_no_problem(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    two_routers(inventory)
    assert problems(inventory) == []
