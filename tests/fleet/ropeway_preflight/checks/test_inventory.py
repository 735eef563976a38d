"""The check of a whole inventory."""

from __future__ import annotations

from typing import Any, Callable, List

from tests.fleet.inventory import Inventory


def test_the_lab_has_no_problem(inventory: Inventory, problems: Callable[..., List[str]]) -> None:
    assert problems(inventory) == []


def test_problems_come_all_at_once(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory["vm2"]["ropeway_virtual_address"] = "10.0.0.1"
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.0.2/33"
    inventory.everywhere(ropeway_encapsulation="clasic")
    inventory.groups["ropeway_routers"] = []
    inventory.groups["ropeway_clients"].append("vm1")
    found = problems(inventory)
    for word in ("same ropeway_virtual_address", "192.168.0.2/33", "clasic", "no host, so"):
        assert any(word in sentence for sentence in found), found


def test_any_garbage_is_a_problem_and_no_exception(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    garbage: List[Any] = ["", [], {}, 7, True, "x" * 300, [[]], [{"name": 3}], {"a": None}, "ü/1"]
    for key in ("ropeway_interfaces", "ropeway_network", "ropeway_virtual_address"):
        for value in garbage:
            broken = Inventory()
            broken["vm0"][key] = value
            assert problems(broken), (key, value)
    for key in (
        *("ropeway_device_name", "ropeway_device_mtu", "ansible_host", "ansible_port"),
        *("ropeway_port", "ropeway_rollover_s", "ropeway_psk", "ropeway_endpoints"),
        *("ropeway_direct_peers", "ropeway_agent_extra_networks", "ropeway_encapsulation"),
        *("ropeway_offload_disable", "ropeway_cpu_latency_us", "ropeway_max_age_s"),
        *("ropeway_tolerated_links", "ropeway_links", "ropeway_classes"),
        *("ropeway_copy_dscp", "ropeway_direct", "ropeway_subnets", "ropeway_network6"),
    ):
        for value in garbage:
            broken = Inventory()
            broken["vm0"][key] = value
            problems(broken)
    for key in (
        *("name", "network", "address", "port", "device_name", "device_mtu", "encapsulation"),
        *("cpu_latency_us", "max_age_s", "links", "classes", "copy_dscp", "direct"),
        "announce",
        "network6",
    ):
        for value in garbage:
            broken = Inventory()
            broken.extra_network(**{key: value})
            problems(broken)
    for key in ("name", "lan", "address", "mtu", "configure"):
        for value in garbage[:2] + garbage[5:]:
            broken = Inventory()
            broken.interface("vm0", "enp0s8")[key] = value
            problems(broken)


def test_a_secret_is_in_no_sentence(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory["vm0"]["ropeway_psk"] = "correct horse battery staple"
    assert not any("horse" in sentence for sentence in problems(inventory))
