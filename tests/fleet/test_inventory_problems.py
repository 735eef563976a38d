"""Each way in which an inventory can be wrong, and the sentence that it gets."""

from __future__ import annotations

import base64
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from ansible.errors import AnsibleError
from jinja2.exceptions import UndefinedError

from tests.fleet import role_tables
from tests.fleet.inventory import Inventory

ROLE_OPTIONS = {
    name: option
    for role in role_tables.roles()
    for name, option in role_tables.specs(role)["main"]["options"].items()
}
RECORD_PATH = "inventories/x/ropeway_addresses.yml"


def record(**addresses: str) -> Dict[str, Any]:
    """A file of recorded addresses, parsed."""
    return {"all": {"vars": {"ropeway_recorded_addresses": addresses}}}


@pytest.fixture
def problems(preflight: ModuleType) -> Callable[..., List[str]]:
    """The problems of an inventory and a record."""

    def find(inventory: Inventory, recorded: Optional[Dict[str, Any]] = None) -> List[str]:
        found: List[str] = preflight.inventory_problems(
            inventory.groups, inventory.hostvars, recorded, RECORD_PATH, ROLE_OPTIONS
        )
        return found

    return find


def test_the_lab_has_no_problem(inventory: Inventory, problems: Callable[..., List[str]]) -> None:
    assert problems(inventory) == []


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


def no_router(inventory: Inventory) -> None:
    inventory.groups["ropeway_routers"] = []
    inventory.groups["ropeway_clients"].append("vm1")


def two_routers(inventory: Inventory) -> None:
    inventory.groups["ropeway_routers"] = ["vm1", "vm2"]
    inventory.groups["ropeway_clients"] = ["vm0"]


def no_clients(inventory: Inventory) -> None:
    inventory.groups.update(ropeway=["vm1"], ropeway_clients=[])


def both_groups(inventory: Inventory) -> None:
    inventory.groups["ropeway_clients"].append("vm1")


def neither_group(inventory: Inventory) -> None:
    inventory.groups["ropeway_clients"].remove("vm2")


def not_a_child(inventory: Inventory) -> None:
    inventory.groups["ropeway"].remove("vm2")


def named_twice(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "enp0s3"


def no_shared_lan(inventory: Inventory) -> None:
    inventory.interface("vm2", "enp0s3")["lan"] = "net8"
    inventory.interface("vm2", "enp0s8")["lan"] = "net9"


def same_lan_address(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.0.3/24"


def two_prefixes(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "192.168.7.2/24"


def overlapping_lans(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["address"] = "192.168.0.200/16"


def lan_over_virtual(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s3")["address"] = "10.0.0.77/16"


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


def unknown_encapsulation(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_encapsulation"] = "clasic"


def two_encapsulations(inventory: Inventory) -> None:
    inventory["vm2"]["ropeway_encapsulation"] = "classic"


def removed_variable(inventory: Inventory) -> None:
    inventory["vm2"]["ropeway_agent_remotes"] = []


def bad_port(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_port"] = 65536


def bad_rollover(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_rollover_s"] = 1


def short_psk(inventory: Inventory) -> None:
    for name in ("vm0", "vm1", "vm2"):
        inventory[name]["ropeway_psk"] = "c2VjcmV0"


def endpoint_as_text(inventory: Inventory) -> None:
    inventory["vm1"]["ropeway_endpoints"] = "203.0.113.7"


def endpoint_with_a_name(inventory: Inventory) -> None:
    inventory["vm1"]["ropeway_endpoints"] = ["203.0.113.7", "router.example:51840"]


def direct_peer_router(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_direct_peers"] = ["vm2", "vm1"]


EXTRA = {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841}


def extra(inventory: Inventory, **changes: Any) -> None:
    inventory["vm0"]["ropeway_agent_extra_networks"] = [{**EXTRA, **changes}]


def extra_no_list(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_agent_extra_networks"] = EXTRA


def extra_name(inventory: Inventory) -> None:
    extra(inventory, name="ropeway")


def extra_encapsulation(inventory: Inventory) -> None:
    extra(inventory, encapsulation="clasic")


def extra_port(inventory: Inventory) -> None:
    extra(inventory, port=51840)


def extra_device(inventory: Inventory) -> None:
    extra(inventory, device_name="ropeway0")


def extra_device_too_long(inventory: Inventory) -> None:
    extra(inventory, name="laboratory")


def extra_latency(inventory: Inventory) -> None:
    extra(inventory, cpu_latency_us=True)


def extra_overlap(inventory: Inventory) -> None:
    extra(inventory, network="10.0.0.0/16", address="10.0.1.1")


def extra_address_outside(inventory: Inventory) -> None:
    extra(inventory, address="10.0.2.1")


def extra_network_missing(inventory: Inventory) -> None:
    extra(inventory, network=None)


def bad_network(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_network"] = "10.0.0.0/40"


def network_with_host_bits(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_network"] = "10.0.0.1/24"


def network_too_small(inventory: Inventory) -> None:
    for variables in inventory.hostvars.values():
        variables["ropeway_network"] = "10.0.0.0/31"


def two_networks(inventory: Inventory) -> None:
    inventory["vm2"]["ropeway_network"] = "10.0.0.0/25"


def psk_of_one_host(inventory: Inventory) -> None:
    inventory["vm1"]["ropeway_psk"] = base64.b64encode(b"vm1 " * 8).decode()


def management_as_lan(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "mgmt0"


def management_in_virtual(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "10.0.0.77"


def loopback_as_lan(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "lo"


def long_name(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "a-name-of-16-byt"


def unknown_key(inventory: Inventory) -> None:
    entry = inventory.interface("vm0", "enp0s8")
    entry["adress"] = entry["address"]


def missing_key(inventory: Inventory) -> None:
    del inventory.interface("vm0", "enp0s8")["lan"]


def offload_as_text(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_offload_disable"] = "udp_gro"


def offload_unknown(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_offload_disable"] = ["udp_gro", "gso"]


def tolerated_unknown(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_tolerated_links"] = ["enp0s8", "wlna0"]


def tolerated_as_number(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_tolerated_links"] = 3


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


def bad_mtu(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["mtu"] = 70000


def same_way_in(inventory: Inventory) -> None:
    inventory["vm2"]["ansible_host"] = inventory["vm0"]["ansible_host"]


def way_in_as_lan_address(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "192.168.2.2"


def device_name_of_others(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_device_name"] = "tun0"


def device_name_too_long(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_device_name"] = "ropeway-of-robot"


def bad_device_mtu(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_device_mtu"] = 100


def pattern_as_name(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = "enp*"


def folder_as_name(inventory: Inventory) -> None:
    inventory.interface("vm0", "enp0s8")["name"] = ".."


def no_address(inventory: Inventory) -> None:
    del inventory.interface("vm0", "enp0s8")["address"]


def router_without_address(inventory: Inventory) -> None:
    entry = inventory.interface("vm1", "enp0s8")
    del entry["address"]
    entry["configure"] = False


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


def unknown_variable(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_prot"] = 51900


def unknown_role_variable(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_agent_gate_timeout"] = 60


def unknown_variable_like_no_other(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_foo"] = 1


def mistyped_prefix(inventory: Inventory) -> None:
    inventory["vm0"]["ropway_psk"] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def prefix_in_capitals(inventory: Inventory) -> None:
    inventory["vm0"]["Ropeway_port"] = 51900


def value_with_a_blank(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_virtual_address"] = "10.0.0.1 "


def port_with_a_blank(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_port"] = " 51900"


def peer_with_a_blank(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_direct_peers"] = ["vm2 "]


def encapsulation_with_a_blank(inventory: Inventory) -> None:
    inventory.everywhere(ropeway_encapsulation="classic ")


def long_value(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_endpoints"] = ["x" * 1000]


def value_with_an_escape(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_endpoints"] = ["\x1b[2J"]


def address_as_name_and_as_way_in(inventory: Inventory) -> None:
    inventory.add_client("192.0.2.7", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    del inventory["192.0.2.7"]["ansible_host"]
    inventory["vm0"]["ansible_host"] = "192.0.2.7"


def name_in_two_spellings(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "Nord.example.org."
    inventory["vm2"]["ansible_host"] = "nord.example.org"


def address_in_two_spellings(inventory: Inventory) -> None:
    inventory["vm0"]["ansible_host"] = "[2001:db8::7]"
    inventory["vm2"]["ansible_host"] = "2001:0DB8:0:0::7"


def port_told_and_untold(inventory: Inventory) -> None:
    inventory["vm2"].update(ansible_host=inventory["vm0"]["ansible_host"], ansible_port=22)


def extra_unknown_key(inventory: Inventory) -> None:
    extra(inventory, prot=51900)


def extra_unknown_key_of_a_peer(inventory: Inventory) -> None:
    extra(inventory, peers=[{"host": "10.0.1.2", "adresses": ["192.168.0.2"]}])


def extra_peer_no_mapping(inventory: Inventory) -> None:
    extra(inventory, peers=["vm1"])


def nobody(inventory: Inventory) -> None:
    inventory.groups.clear()
    inventory.groups.update(all=[], ungrouped=[])


CASES = [
    (same_virtual_address, ["vm0 and vm2", "10.0.0.1", "its own"]),
    (address_outside, ["vm0", "10.0.1.1", "outside", "10.0.0.0/24", "10.0.0.1 to 10.0.0.254"]),
    (network_address, ["vm0", "10.0.0.0 is the network address"]),
    (broadcast_address, ["vm0", "10.0.0.255 is the broadcast address"]),
    (address_with_prefix, ["vm0", "10.0.0.1/24", "without a prefix length"]),
    (no_router, ["ropeway_routers", "vm0, vm2, vm1", "put the agreed router"]),
    (two_routers, ["ropeway_routers", "vm1, vm2", "leave one"]),
    (no_clients, ["ropeway_clients", "list the router's clients"]),
    (both_groups, ["vm1", "ropeway_routers", "ropeway_clients", "leave it in one"]),
    (neither_group, ["vm2", "neither", "put each into one"]),
    (not_a_child, ["vm2", "child of ropeway"]),
    (named_twice, ["vm0", "enp0s3", "named twice", "keep one"]),
    (no_shared_lan, ["vm2", "net8, net9", "shares no LAN", "vm1", "give it an interface"]),
    (same_lan_address, ["net0", "192.168.0.3", "vm1 enp0s3 and vm0 enp0s3"]),
    (two_prefixes, ["net0", "192.168.7.0/24 on vm0 enp0s3", "one network"]),
    (overlapping_lans, ["vm0", "enp0s3", "enp0s8", "192.168.0.200/16", "overlap"]),
    (lan_over_virtual, ["vm0", "enp0s3", "10.0.0.77/16", "virtual network 10.0.0.0/24"]),
    (lan_network_address, ["vm0", "192.168.0.0/24", "network address"]),
    (lan_broadcast_address, ["vm0", "192.168.0.255/24", "broadcast address"]),
    (lan_bad_cidr, ["vm0", "192.168.0.2/33", "enp0s3", "write it"]),
    (lan_no_prefix, ["vm0", "192.168.0.2 of enp0s3", "192.168.0.2/24"]),
    (lan_multicast, ["vm0", "224.0.0.5/24", "unicast"]),
    (unknown_encapsulation, ["vm1, vm0, vm2", "clasic", "classic", "no authentication"]),
    (two_encapsulations, ["ropeway_encapsulation differs", "classic on vm2", "secure on vm1, vm0"]),
    (removed_variable, ["vm2", "ropeway_agent_remotes is called ropeway_agent_peers now"]),
    (bad_port, ["vm0", "ropeway_port 65536", "1 to 65535"]),
    (bad_rollover, ["vm0", "ropeway_rollover_s 1", "2 to 3600"]),
    (short_psk, ["vm0", "ropeway_psk is not the base64 text of 32 bytes"]),
    (offload_as_text, ["vm0", "ropeway_offload_disable is no list"]),
    (offload_unknown, ["vm0", "gso in ropeway_offload_disable", "vnet_hdr, tso, uso"]),
    (tolerated_unknown, ["vm0", "'wlna0' in ropeway_tolerated_links", "ropeway_interfaces"]),
    (tolerated_as_number, ["vm0", "ropeway_tolerated_links is no list"]),
    (latency_too_large, ["vm0", "ropeway_cpu_latency_us 1000001", "0 to 1000000"]),
    (latency_negative, ["vm0", "ropeway_cpu_latency_us -1", "0 to 1000000"]),
    (latency_as_truth, ["vm0", "ropeway_cpu_latency_us False", "0 to 1000000", "leave it out"]),
    (latency_as_fraction, ["vm0", "ropeway_cpu_latency_us 2.5", "0 to 1000000"]),
    (latency_as_text, ["vm0", "ropeway_cpu_latency_us '20us'", "0 to 1000000"]),
    (latency_empty, ["vm0", "ropeway_cpu_latency_us ''", "0 to 1000000"]),
    (endpoint_as_text, ["vm1", "ropeway_endpoints is no list"]),
    (endpoint_with_a_name, ["vm1", "router.example:51840", "203.0.113.7:51840"]),
    (direct_peer_router, ["vm0", "vm1 in ropeway_direct_peers"]),
    (extra_no_list, ["vm0", "ropeway_agent_extra_networks is no list"]),
    (extra_name, ["vm0", "ropeway can't be the name"]),
    (extra_encapsulation, ["vm0", "lab", "clasic", "no authentication"]),
    (extra_port, ["vm0", "networks ropeway and lab", "port 51840"]),
    (extra_device, ["vm0", "networks ropeway and lab", "device ropeway0"]),
    (extra_device_too_long, ["vm0, network laboratory", "15 bytes"]),
    (extra_latency, ["vm0, network lab", "its cpu_latency_us True", "0 to 1000000"]),
    (extra_overlap, ["vm0", "ropeway (10.0.0.0/24) and lab (10.0.0.0/16) overlap"]),
    (extra_address_outside, ["vm0, network lab", "10.0.2.1 lies outside"]),
    (extra_network_missing, ["vm0, network lab", "its network is not set"]),
    (bad_network, ["vm1, vm0, vm2", "10.0.0.0/40", "10.213.77.0/24"]),
    (network_with_host_bits, ["10.0.0.1/24 has host bits set", "write 10.0.0.0/24"]),
    (network_too_small, ["10.0.0.0/31", "/30 or shorter"]),
    (psk_of_one_host, ["ropeway_psk differs", "ropeway_clients (vm0, vm2) without one"]),
    (two_networks, ["ropeway_network differs", "10.0.0.0/25 on vm2"]),
    (management_as_lan, ["vm0", "mgmt0", "management interface", "take it out"]),
    (management_in_virtual, ["vm0", "10.0.0.77", "virtual network"]),
    (loopback_as_lan, ["vm0", "interface lo can't be a LAN"]),
    (long_name, ["vm0", "a-name-of-16-byt", "15 bytes"]),
    (unknown_key, ["vm0", "enp0s8", "unknown key adress", "did you mean address?"]),
    (missing_key, ["vm0", "enp0s8 has no lan", "add it"]),
    (bad_mtu, ["vm0", "70000", "576 to 65535"]),
    (same_way_in, ["vm0 and vm2", "ansible_host 172.30.77.10", "correct all but one"]),
    (way_in_as_lan_address, ["vm2", "enp0s3", "192.168.2.2", "ansible_host of vm0"]),
    (device_name_of_others, ["vm0", "'tun0'", "begin with ropeway"]),
    (device_name_too_long, ["vm0", "ropeway-of-robot", "15 bytes"]),
    (bad_device_mtu, ["vm0", "ropeway_device_mtu 100", "auto, or 576 to 65535"]),
    (pattern_as_name, ["vm0", "'enp*'", "not a pattern"]),
    (folder_as_name, ["vm0", "'..'", "not a pattern or a folder"]),
    (no_address, ["vm0", "enp0s8 has no address", "configure: false"]),
    (router_without_address, ["vm1", "enp0s8 has no address", "clients"]),
    (configure_no_bool, ["vm0", "enp0s8", "configure 'dhcp'", "neither true nor false"]),
    (mtu_that_nobody_sets, ["vm0", "enp0s8", "MTU", "nobody sets it"]),
    (unknown_variable, ["vm0: the variable ropeway_prot is unknown: did you mean ropeway_port?"]),
    (unknown_role_variable, ["vm0", "did you mean ropeway_agent_gate_timeout_s?"]),
    (unknown_variable_like_no_other, ["vm0", "ropeway_foo is unknown", "take it out"]),
    (mistyped_prefix, ["vm0: the variable ropway_psk is none", "did you mean ropeway_psk?"]),
    (prefix_in_capitals, ["vm0: the variable Ropeway_port", "did you mean ropeway_port?"]),
    (value_with_a_blank, ["vm0: ropeway_virtual_address '10.0.0.1 ' is no IPv4 address"]),
    (port_with_a_blank, ["vm0: ropeway_port ' 51900' does not fit"]),
    (peer_with_a_blank, ["vm0: 'vm2 ' in ropeway_direct_peers"]),
    (encapsulation_with_a_blank, ["ropeway_encapsulation 'classic ' is unknown"]),
    (long_value, ["vm0", "xxx... in ropeway_endpoints"]),
    (value_with_an_escape, ["vm0: '\\x1b[2J' in ropeway_endpoints"]),
    (address_as_name_and_as_way_in, ["vm0 and 192.0.2.7 have the same ansible_host 192.0.2.7"]),
    (name_in_two_spellings, ["vm0 and vm2 have the same ansible_host nord.example.org"]),
    (address_in_two_spellings, ["vm0 and vm2 have the same ansible_host 2001:db8::7"]),
    (port_told_and_untold, ["vm0 and vm2 have the same ansible_host"]),
    (extra_unknown_key, ["vm0, network lab: the key prot is unknown: did you mean port?"]),
    (extra_unknown_key_of_a_peer, ["vm0, network lab", "adresses in an item of its peers"]),
    (extra_peer_no_mapping, ["vm0, network lab", "vm1 in its peers is no mapping"]),
    (no_interfaces, ["vm0", "ropeway_interfaces is not set", "list its LAN interfaces"]),
    (interfaces_no_list, ["vm0", "ropeway_interfaces is no list"]),
    (interface_no_mapping, ["vm0", "enp0s9", "no mapping"]),
    (nobody, ["Group ropeway holds no host", "-i"]),
]


@pytest.mark.parametrize(("spoil", "parts"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_problem_is_a_sentence(
    inventory: Inventory,
    problems: Callable[..., List[str]],
    spoil: Callable[[Inventory], None],
    parts: List[str],
) -> None:
    spoil(inventory)
    found = problems(inventory)
    fitting = [sentence for sentence in found if all(part in sentence for part in parts)]
    assert len(fitting) == 1, found
    assert all(sentence.endswith((".", "?")) for sentence in found)


def test_an_interface_may_get_its_address_from_others(
    inventory: Inventory, problems: Callable[..., List[str]], fleet: ModuleType
) -> None:
    entry = inventory.interface("vm0", "enp0s8")
    entry["configure"] = False
    assert problems(inventory) == []
    del entry["address"]
    inventory.interface("vm1", "enp0s9")["configure"] = False
    assert problems(inventory) == []
    # The router does not know vm0's address there; vm0 knows the router's.
    addresses = {"vm0": "10.0.0.1", "vm1": "10.0.0.2", "vm2": "10.0.0.3"}
    assert fleet.peers("vm1", ["vm0"], inventory.hostvars, addresses) == [
        {"host": "10.0.0.1", "addresses": ["192.168.0.2"]}
    ]
    assert fleet.peers("vm0", ["vm1"], inventory.hostvars, addresses) == [
        {"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.1.3"]}
    ]


def test_hosts_behind_one_address_are_told_apart_by_port(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    for port, variables in enumerate(inventory.hostvars.values(), 2201):
        variables.update(ansible_host="192.0.2.1", ansible_port=port)
    assert problems(inventory) == []


@pytest.mark.parametrize("mtu", ["auto", 576, "1400", 65535])
def test_device_that_fits(
    inventory: Inventory, problems: Callable[..., List[str]], mtu: Any
) -> None:
    inventory["vm0"].update(ropeway_device_name="ropeway-lan", ropeway_device_mtu=mtu)
    assert problems(inventory) == []


def test_problems_come_all_at_once(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    for spoil in (same_virtual_address, lan_bad_cidr, unknown_encapsulation, no_router):
        spoil(inventory)
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
        "ropeway_tolerated_links",
    ):
        for value in garbage:
            broken = Inventory()
            broken["vm0"][key] = value
            problems(broken)
    for key in (
        *("name", "network", "address", "port", "device_name", "device_mtu", "encapsulation"),
        *("cpu_latency_us", "max_age_s"),
    ):
        for value in garbage:
            broken = Inventory()
            extra(broken, **{key: value})
            problems(broken)
    for key in ("name", "lan", "address", "mtu", "configure"):
        for value in garbage[:2] + garbage[5:]:
            broken = Inventory()
            broken.interface("vm0", "enp0s8")[key] = value
            problems(broken)


@pytest.mark.parametrize("latency", [None, 0, 20, "20", 1000000])
@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_latency_that_fits(
    inventory: Inventory, problems: Callable[..., List[str]], encapsulation: str, latency: Any
) -> None:
    inventory.everywhere(ropeway_encapsulation=encapsulation)
    inventory["vm0"]["ropeway_cpu_latency_us"] = latency
    extra(inventory, cpu_latency_us=latency)
    assert problems(inventory) == []


@pytest.mark.parametrize("links", [None, [], ["enp0s8"], "enp0s8, enp0s3", ""])
def test_links_that_may_be_off(
    inventory: Inventory, problems: Callable[..., List[str]], links: Any
) -> None:
    inventory.everywhere(ropeway_tolerated_links=links)
    assert problems(inventory) == []


@pytest.mark.parametrize("max_age_s", [None, 0, 0.1, 1, "1.5", 60])
@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_bound_of_ages_that_fits(
    inventory: Inventory, problems: Callable[..., List[str]], encapsulation: str, max_age_s: Any
) -> None:
    inventory.everywhere(ropeway_encapsulation=encapsulation)
    inventory["vm0"]["ropeway_max_age_s"] = max_age_s
    extra(inventory, max_age_s=max_age_s)
    assert problems(inventory) == []


@pytest.mark.parametrize("max_age_s", [0.05, -1, 61, True, "1s", "", "nan", [1]])
def test_bound_of_ages_that_does_not_fit(
    inventory: Inventory, problems: Callable[..., List[str]], max_age_s: Any
) -> None:
    inventory["vm0"]["ropeway_max_age_s"] = max_age_s
    extra(inventory, max_age_s=max_age_s)
    told = [problem for problem in problems(inventory) if "0.1 to 60" in problem]
    assert len(told) == 2
    assert all("vm0" in problem and repr(max_age_s) in problem for problem in told)


def test_networks_that_fit(inventory: Inventory, problems: Callable[..., List[str]]) -> None:
    extra(inventory)
    inventory["vm1"]["ropeway_agent_extra_networks"] = [
        # classic has no port to share.
        {**EXTRA, "encapsulation": "classic", "port": 51840, "address": "10.0.1.2"},
        {"name": "b", "network": "10.0.2.0/24", "address": "10.0.2.2", "port": 51842},
    ]
    inventory["vm0"].update(ropeway_port="51840", ropeway_rollover_s=3600)
    inventory["vm1"]["ropeway_offload_disable"] = ["udp_segment", "udp_gro"]
    inventory["vm2"]["ropeway_direct_peers"] = ["vm0"]
    inventory.everywhere(ropeway_psk="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    assert problems(inventory) == []


def test_a_router_with_endpoints_needs_no_shared_lan(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    no_shared_lan(inventory)
    router_without_address(inventory)
    inventory["vm1"]["ropeway_endpoints"] = [
        *("203.0.113.7", "203.0.113.7:51840", "2001:db8::7", "[2001:db8::7]:51840"),
    ]
    assert problems(inventory) == []
    inventory.everywhere(ropeway_encapsulation="classic")
    assert len(problems(inventory)) == 2


def test_a_secret_is_in_no_sentence(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory["vm0"]["ropeway_psk"] = "correct horse battery staple"
    assert not any("horse" in sentence for sentence in problems(inventory))


def test_an_address_is_free_again_where_keys_tell_hosts_apart(
    inventory: Inventory, preflight: ModuleType
) -> None:
    del inventory["vm0"]["ropeway_virtual_address"]
    known = record(gone="10.0.0.1", vm0="10.0.0.4")
    for encapsulation, kept in (("secure", {"vm0": "10.0.0.4"}), ("classic", None)):
        inventory.everywhere(ropeway_encapsulation=encapsulation)
        found = preflight.recorded_addresses(inventory.groups, inventory.hostvars, known)
        assert found == (kept or {"gone": "10.0.0.1", "vm0": "10.0.0.4"})
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    given = preflight.virtual_addresses(inventory.groups, inventory.hostvars, known)
    assert given["vm3"] == "10.0.0.5"
    inventory.everywhere(ropeway_encapsulation="secure")
    given = preflight.virtual_addresses(inventory.groups, inventory.hostvars, known)
    assert given["vm3"] == "10.0.0.1"


def test_addresses_are_allocated_once(inventory: Inventory, preflight: ModuleType) -> None:
    inventory.everywhere(ropeway_encapsulation="classic")
    del inventory["vm0"]["ropeway_virtual_address"]
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    first = preflight.virtual_addresses(inventory.groups, inventory.hostvars, None)
    assert first == {"vm1": "10.0.0.2", "vm0": "10.0.0.1", "vm2": "10.0.0.3", "vm3": "10.0.0.4"}
    kept = preflight.recorded_addresses(inventory.groups, inventory.hostvars, None)
    assert kept == {"vm0": "10.0.0.1", "vm3": "10.0.0.4"}

    # vm0 leaves, vm4 comes in front of vm3: nobody's address changes, and vm0's is not reused.
    for group in inventory.groups.values():
        if "vm0" in group:
            group.remove("vm0")
    inventory.add_client("vm4", {"name": "a", "lan": "net0", "address": "192.168.0.8/24"})
    inventory.groups["ropeway"].sort(reverse=True)
    later = preflight.virtual_addresses(inventory.groups, inventory.hostvars, record(**kept))
    assert later == {"vm4": "10.0.0.5", "vm3": "10.0.0.4", "vm2": "10.0.0.3", "vm1": "10.0.0.2"}
    again = preflight.recorded_addresses(inventory.groups, inventory.hostvars, record(**kept))
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
        ({"all": None}, [RECORD_PATH, "no mapping"]),
        ([], [RECORD_PATH, "no mapping"]),
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
    assert "vm2: ropeway_virtual_address 10.0.0.3 was given to gone" in sentence


def test_recorded_address_outside_of_a_changed_network(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    del inventory["vm0"]["ropeway_virtual_address"]
    found = problems(inventory, record(vm0="10.9.0.1"))
    assert len(found) == 1
    assert found[0] == (
        f"vm0: the recorded address 10.9.0.1 ({RECORD_PATH}) can't be used in the virtual network "
        "10.0.0.0/24: if ropeway_network shall change, delete that file, and the next run gives "
        "new addresses; if not, put the former ropeway_network back."
    )
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    (one,) = problems(inventory, record(vm0="10.9.0.1", vm3="10.0.0.9"))
    assert "delete the line of vm0, and the next run" in one
    (several,) = problems(inventory, record(vm0="10.9.0.1", vm3="10.9.0.9", vm2="10.0.0.3"))
    assert several.startswith("vm0, vm3: the recorded addresses, such as 10.9.0.1 (")
    assert "delete the lines of these hosts, and the next run" in several
    # What the sentence advises, done.
    assert problems(inventory, record(vm2="10.0.0.3")) == []


def test_addresses_of_facts_and_their_overlap(host_filters: ModuleType) -> None:
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
    addresses = host_filters.fact_addresses(facts)
    assert {"interface": "br-x", "cidr": "10.1.0.1/16"} in addresses
    found = host_filters.overlapping_addresses(addresses, "10.0.0.0/24", "ropeway0")
    assert found == ["br-x 10.0.0.77/32", "eth0.7 10.3.0.1/255.0.0.0"]


@pytest.mark.parametrize("lan", ["net1 ", " net1", "net1\t", "net1\n"])
def test_a_lan_name_with_blanks_at_its_ends_is_a_problem_that_shows_them(
    inventory: Inventory, problems: Callable[..., List[str]], lan: str
) -> None:
    inventory["vm0"]["ropeway_interfaces"][0]["lan"] = lan
    sentences = [text for text in problems(inventory) if "blanks at its ends" in text]
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


def fleet_of(number: int) -> Inventory:
    """The lab with so many clients more."""
    inventory = Inventory()
    inventory.groups["robots"] = []
    for position in range(number):
        name = f"r{position}"
        address = f"192.168.0.{position + 10}/24"
        inventory.add_client(name, {"name": "eth0", "lan": "net0", "address": address})
        inventory[name]["ansible_host"] = f"192.0.2.{position + 1}"
        inventory.groups["robots"].append(name)
    return inventory


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


def test_recorded_addresses_outside_of_a_changed_network_are_one_line(
    preflight: ModuleType, problems: Callable[..., List[str]]
) -> None:
    inventory = fleet_of(78)
    kept = preflight.recorded_addresses(inventory.groups, inventory.hostvars, None)
    inventory.everywhere(ropeway_network="10.213.0.0/16")
    for name in ("vm0", "vm1", "vm2"):
        inventory[name]["ropeway_virtual_address"] = f"10.213.0.1{name[2:]}"
    (sentence,) = problems(inventory, record(**kept))
    assert sentence.startswith(
        f"group robots (78 hosts): the recorded addresses, such as 10.0.0.4 ({RECORD_PATH})"
    )
    assert "delete that file" in sentence
    assert problems(inventory) == []


class Templated(Dict[str, Any]):
    """Variables of a host, of which some can't be templated, as in Ansible's hostvars."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, Exception):
            raise value
        return value


def test_what_a_group_can_not_read_is_one_line_and_hides_no_other(
    problems: Callable[..., List[str]],
) -> None:
    inventory = fleet_of(78)
    for name in inventory.groups["robots"]:
        inventory.hostvars[name] = Templated(
            inventory[name],
            ropeway_endpoints=UndefinedError("'nord_ip' is undefined"),
            ropeway_psk=AnsibleError("Attempting to decrypt but no vault secrets found."),
        )
    with_unknown_variable(inventory["vm0"])
    first, second, third = problems(inventory)
    assert first.startswith("group robots (78 hosts): ropeway_endpoints can't be read: it needs")
    assert "'nord_ip', which is not defined for this host" in first
    assert second.startswith("group robots (78 hosts): ropeway_psk can't be read: it is encrypted")
    assert third.startswith("vm0: the variable ropeway_prot is unknown")


def test_variables_of_others_are_nobodys_mistake(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    for name in ("gateway_port", "gateway_psk", "railway_network", "rope_count", "port", "_", "-"):
        inventory["vm0"][name] = 1
    for name in ("ropeway_recorded_keys", "ropeway_preflight_addresses", "ropeway_agent_keys"):
        inventory["vm0"][name] = {}
    assert problems(inventory) == []


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ropeway_agent_gate_timeout_s", "soon", "'ropeway_agent_gate_timeout_s' is of type str"),
        (
            "ropeway_underlay_renderer",
            "networkmanager",
            "value of ropeway_underlay_renderer must be",
        ),
        ("ropeway_underlay_install", "perhaps", "'ropeway_underlay_install' is of type str"),
        ("ropeway_agent_extra_networks", [{"name": "lab"}], "missing required arguments"),
    ],
)
def test_a_variable_of_a_role_that_is_not_of_its_kind_is_named_with_its_host(
    inventory: Inventory,
    problems: Callable[..., List[str]],
    variable: str,
    value: Any,
    words: str,
) -> None:
    inventory["vm2"][variable] = value
    assert any(text.startswith("vm2: ") and words in text for text in problems(inventory))


def test_a_variable_of_a_role_that_needs_facts_is_judged_where_it_is_used(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    needs_facts = UndefinedError("'ansible_facts' is undefined")
    inventory.hostvars["vm2"] = Templated(
        inventory["vm2"], ropeway_agent_gate_timeout_s=needs_facts
    )
    assert problems(inventory) == []
