"""The entries of ropeway_interfaces."""

from __future__ import annotations

from typing import Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def named_twice(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "enp0s3"


def lan_network_address(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.0.0/24"


def lan_broadcast_address(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.0.255/24"


def lan_bad_cidr(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.0.2/33"


def lan_no_prefix(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.0.2"


def lan_multicast(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "224.0.0.5/24"


def management_as_lan(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "mgmt0"


def loopback_as_lan(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "lo"


def long_name(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "a-name-of-16-byt"


def unknown_key(inventory: Inventory) -> None:
    entry = inventory.interface("vm0", "enp0s8")
    entry["adress"] = entry["address"]


def missing_key(inventory: Inventory) -> None:
    del inventory.interface("vm0", "enp0s8")["lan"]


def bad_mtu(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["mtu"] = 70000


def pattern_as_name(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "enp*"


def folder_as_name(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = ".."


def no_address(inventory: Inventory) -> None:
    del inventory.interface("vm0", "enp0s8")["address"]


def configure_no_bool(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["configure"] = "dhcp"


def mtu_that_nobody_sets(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8").update(configure=False, mtu=1400)


def no_interfaces(inventory: Inventory) -> None:
    del inventory["vm0"]["ropeway_interfaces"]


def interfaces_no_list(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_interfaces"] = {"enp0s3": "192.168.0.2/24"}


def interface_no_mapping(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_interfaces"].append("enp0s9")


CASES = [
    (named_twice, ["vm0", "enp0s3", "listed twice", "keep one"]),
    (lan_network_address, ["vm0", "192.168.0.0/24", "network address"]),
    (lan_broadcast_address, ["vm0", "192.168.0.255/24", "broadcast address"]),
    (lan_bad_cidr, ["vm0", "192.168.0.2/33", "enp0s3", "use a value such as"]),
    (lan_no_prefix, ["vm0", "192.168.0.2 of enp0s3", "192.168.0.2/24"]),
    (lan_multicast, ["vm0", "224.0.0.5/24", "unicast"]),
    (management_as_lan, ["vm0", "mgmt0", "management interface", "remove it"]),
    (loopback_as_lan, ["vm0", "interface lo cannot be a LAN"]),
    (long_name, ["vm0", "a-name-of-16-byt", "15 bytes"]),
    (unknown_key, ["vm0", "enp0s8", "unknown key adress", "did you mean address?"]),
    (missing_key, ["vm0", "enp0s8 has no lan", "add it"]),
    (bad_mtu, ["vm0", "70000", "576 to 65535"]),
    (pattern_as_name, ["vm0", "'enp*'", "not a pattern"]),
    (folder_as_name, ["vm0", "'..'", "not a pattern or a folder"]),
    (no_address, ["vm0", "enp0s8 has no address", "configure: false"]),
    (configure_no_bool, ["vm0", "enp0s8", "configure 'dhcp'", "neither true nor false"]),
    (mtu_that_nobody_sets, ["vm0", "enp0s8", "MTU", "nothing sets the MTU"]),
    (no_interfaces, ["vm0", "ropeway_interfaces is not set", "list the LAN interfaces"]),
    (interfaces_no_list, ["vm0", "ropeway_interfaces is not a list"]),
    (interface_no_mapping, ["vm0", "enp0s9", "not a mapping"]),
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


@pytest.mark.parametrize("lan", ["net1 ", " net1", "net1\t", "net1\n"])
def test_a_lan_name_with_blanks_at_its_ends_is_a_problem_that_shows_them(
    inventory: Inventory, problems: Callable[..., List[str]], lan: str
) -> None:
    inventory["vm0"]["ropeway_interfaces"][0]["lan"] = lan
    sentences = [text for text in problems(inventory) if "begins or ends with blanks" in text]
    assert len(sentences) == 1
    assert sentences[0].startswith("vm0: ")
    assert repr(lan) in sentences[0]


@pytest.mark.parametrize("configure", ["no", "false", 0, None])
def test_a_configure_that_is_no_boolean_gets_that_sentence_alone(
    inventory: Inventory, problems: Callable[..., List[str]], configure: object
) -> None:
    interface = inventory["vm2"]["ropeway_interfaces"][0]
    del interface["address"]
    interface["configure"] = configure
    sentences = [text for text in problems(inventory) if f"interface {interface['name']}" in text]
    assert len(sentences) == 1
    assert f"configure {configure!r}, which is neither true nor false" in sentences[0]
