"""Variables of one host: ports, limits, lists."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def bad_port(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_port"] = 65536


def bad_rollover(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_rollover_s"] = 1


def port_with_a_blank(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_port"] = " 51900"


def short_psk(inventory: Inventory) -> None:
    for name in ("vm0", "vm1", "vm2"):
        inventory[name]["ropeway_psk"] = "c2VjcmV0"


def endpoint_as_text(inventory: Inventory) -> None:
    inventory["vm1"]["ropeway_endpoints"] = "203.0.113.7"


def endpoint_without_sense(inventory: Inventory) -> None:
    inventory["vm1"]["ropeway_endpoints"] = ["203.0.113.7", "router_1.example:51840"]


def long_value(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_endpoints"] = ["x" * 1000]


def value_with_an_escape(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_endpoints"] = ["\x1b[2J"]


def offload_as_text(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_offload_disable"] = "udp_gro"


def offload_unknown(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_offload_disable"] = ["udp_gro", "gso"]


def latency_too_large(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_cpu_latency_us"] = 1000001


def latency_negative(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_cpu_latency_us"] = -1


def latency_as_truth(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_cpu_latency_us"] = False


def latency_as_fraction(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_cpu_latency_us"] = 2.5


def latency_as_text(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_cpu_latency_us"] = "20us"


def latency_empty(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_cpu_latency_us"] = ""


def device_name_of_others(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_device_name"] = "tun0"


def device_name_too_long(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_device_name"] = "ropeway-of-robot"


def bad_device_mtu(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_device_mtu"] = 100


CASES = [
    (bad_port, ["vm0", "ropeway_port 65536", "1 to 65535"]),
    (bad_rollover, ["vm0", "ropeway_rollover_s 1", "2 to 3600"]),
    (port_with_a_blank, ["vm0: ropeway_port ' 51900' is not valid"]),
    (short_psk, ["vm0", "ropeway_psk is not the base64 text of 32 bytes"]),
    (endpoint_as_text, ["vm1", "ropeway_endpoints is not a list"]),
    (endpoint_without_sense, ["vm1", "router_1.example:51840", "203.0.113.7:51840"]),
    (long_value, ["vm0", "xxx... in ropeway_endpoints"]),
    (value_with_an_escape, ["vm0: '\\x1b[2J' in ropeway_endpoints"]),
    (offload_as_text, ["vm0", "ropeway_offload_disable is not a list"]),
    (offload_unknown, ["vm0", "gso in ropeway_offload_disable", "vnet_hdr, tso, uso"]),
    (latency_too_large, ["vm0", "ropeway_cpu_latency_us 1000001", "0 to 1000000"]),
    (latency_negative, ["vm0", "ropeway_cpu_latency_us -1", "0 to 1000000"]),
    (latency_as_truth, ["vm0", "ropeway_cpu_latency_us False", "0 to 1000000", "remove it"]),
    (latency_as_fraction, ["vm0", "ropeway_cpu_latency_us 2.5", "0 to 1000000"]),
    (latency_as_text, ["vm0", "ropeway_cpu_latency_us '20us'", "0 to 1000000"]),
    (latency_empty, ["vm0", "ropeway_cpu_latency_us ''", "0 to 1000000"]),
    (device_name_of_others, ["vm0", "'tun0'", "begins with ropeway"]),
    (device_name_too_long, ["vm0", "ropeway-of-robot", "15 bytes"]),
    (bad_device_mtu, ["vm0", "ropeway_device_mtu 100", "auto, or 576 to 65535"]),
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


@pytest.mark.parametrize("mtu", ["auto", 576, "1400", 65535])
def test_device_that_fits(
    inventory: Inventory, problems: Callable[..., List[str]], mtu: Any
) -> None:
    inventory["vm0"].update(ropeway_device_name="ropeway-lan", ropeway_device_mtu=mtu)
    assert problems(inventory) == []


@pytest.mark.parametrize("port", ["", ":51841"])
@pytest.mark.parametrize("name", ["router", "router.example.net", "xn--bcher-kva.example"])
def test_endpoint_may_be_a_name(
    inventory: Inventory, problems: Callable[..., List[str]], name: str, port: str
) -> None:
    inventory["vm1"]["ropeway_endpoints"] = [name + port]
    assert problems(inventory) == []


@pytest.mark.parametrize("text", ["a..b", "a.", "-a", "a.1", "1.2.3", "a b", "x." * 126 + "yz"])
def test_endpoint_that_is_no_name(
    inventory: Inventory, problems: Callable[..., List[str]], text: str
) -> None:
    inventory["vm1"]["ropeway_endpoints"] = [text]
    assert_one_sentence(problems(inventory), ["vm1", "is not an address or a name"])


@pytest.mark.parametrize("latency", [None, 0, 20, "20", 1000000])
@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_latency_that_fits(
    inventory: Inventory, problems: Callable[..., List[str]], encapsulation: str, latency: Any
) -> None:
    inventory.everywhere(ropeway_encapsulation=encapsulation)
    inventory["vm0"]["ropeway_cpu_latency_us"] = latency
    inventory.extra_network(cpu_latency_us=latency)
    assert problems(inventory) == []


SWITCHES = ("copy_dscp", "direct")


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("value", [None, True, False, "yes", "false"])
def test_switches_of_secure_networks_are_on_or_off(
    inventory: Inventory, problems: Callable[..., List[str]], switch: str, value: Any
) -> None:
    inventory["vm0"][f"ropeway_{switch}"] = value
    inventory.extra_network(**{switch: value})
    assert problems(inventory) == []


@pytest.mark.parametrize("switch", SWITCHES)
def test_switches_of_secure_networks_are_off_on_classic_ones(
    inventory: Inventory, problems: Callable[..., List[str]], switch: str
) -> None:
    inventory.everywhere(ropeway_encapsulation="classic")
    inventory["vm1"][f"ropeway_{switch}"] = False
    assert problems(inventory) == []
    inventory["vm0"][f"ropeway_{switch}"] = True
    only = ["vm0", f"ropeway_{switch} is only for secure networks"]
    assert_one_sentence(problems(inventory), only)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("value", ["ef", 46, [True], {}, ""])
def test_switches_take_no_other_value(
    inventory: Inventory, problems: Callable[..., List[str]], switch: str, value: Any
) -> None:
    inventory["vm0"][f"ropeway_{switch}"] = value
    assert_one_sentence(problems(inventory), ["vm0", f"ropeway_{switch}", "use true or false"])


@pytest.mark.parametrize("network6", [None, "", "fd12:3456:789a:1::/64", "2001:db8:1:2::/64"])
def test_ipv6_network_that_fits(
    inventory: Inventory, problems: Callable[..., List[str]], network6: Any
) -> None:
    inventory.everywhere(ropeway_network6=network6)
    inventory.extra_network(network6=network6)
    assert problems(inventory) == []
    # While it is rolled out, some have it and others do not.
    inventory["vm1"]["ropeway_network6"] = None
    assert problems(inventory) == []


@pytest.mark.parametrize(
    ("network6", "problem"),
    [
        ("10.0.0.0/24", "is not an IPv6 network"),
        ("fd12::/48", "has not the prefix length 64"),
        ("fd12::1", "has not the prefix length 64"),
        ("fd12::1/64", "has host bits set: use fd12::/64"),
        ("fe80::/64", "is not a unicast network"),
        ("ff02::/64", "is not a unicast network"),
        ("::/64", "is not a unicast network"),
    ],
)
def test_ipv6_network_that_makes_no_sense(
    inventory: Inventory, problems: Callable[..., List[str]], network6: str, problem: str
) -> None:
    inventory.everywhere(ropeway_network6=network6)
    assert_one_sentence(problems(inventory), ["ropeway_network6", problem])
    inventory.everywhere(ropeway_network6=None)
    inventory.extra_network(network6=network6)
    assert_one_sentence(problems(inventory), ["its network6", problem])


def test_ipv6_networks_that_differ(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory.everywhere(ropeway_network6="fd12::/64")
    inventory["vm0"]["ropeway_network6"] = "fd13::/64"
    assert_one_sentence(problems(inventory), ["ropeway_network6 differs", "fd13::/64"])


def test_ipv6_needs_a_secure_network_and_an_mtu(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory["vm0"].update(ropeway_network6="fd12::/64", ropeway_device_mtu=1279)
    assert_one_sentence(problems(inventory), ["vm0", "needs an MTU of 1280"])
    inventory["vm0"]["ropeway_device_mtu"] = "1280"
    assert problems(inventory) == []
    inventory.everywhere(ropeway_encapsulation="classic")
    assert_one_sentence(problems(inventory), ["vm0", "only for secure networks"])


@pytest.mark.parametrize("max_age_s", [None, 0, 0.1, 1, "1.5", 60])
@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_bound_of_ages_that_fits(
    inventory: Inventory, problems: Callable[..., List[str]], encapsulation: str, max_age_s: Any
) -> None:
    inventory.everywhere(ropeway_encapsulation=encapsulation)
    inventory["vm0"]["ropeway_max_age_s"] = max_age_s
    inventory.extra_network(max_age_s=max_age_s)
    assert problems(inventory) == []


@pytest.mark.parametrize("max_age_s", [0.05, -1, 61, True, "1s", "", "nan", [1]])
def test_bound_of_ages_that_does_not_fit(
    inventory: Inventory, problems: Callable[..., List[str]], max_age_s: Any
) -> None:
    inventory["vm0"]["ropeway_max_age_s"] = max_age_s
    inventory.extra_network(max_age_s=max_age_s)
    told = [problem for problem in problems(inventory) if "0.1 to 60" in problem]
    assert len(told) == 2
    assert all("vm0" in problem and repr(max_age_s) in problem for problem in told)
