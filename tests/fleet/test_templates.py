"""The templates with the lab's inventory, checked by the agent and by its schema."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import jsonschema
import pytest
import yaml

from tests.fleet.inventory import CHECKOUT, LAB, Inventory

SCHEMA = CHECKOUT / "agent" / "ropeway" / "app" / "config" / "config.schema.json"
#: What takes no part by default.
EXCLUDED = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]["interfaces"]["properties"][
    "exclude"
]["default"]
RENDER = "tests/fleet/render.yml"


KEYS = {
    "vm0": {"public_key": base64.b64encode(b"0" * 32).decode()},
    "vm1": {
        "public_key": base64.b64encode(b"1" * 32).decode(),
        "next_public_key": base64.b64encode(b"n" * 32).decode(),
    },
    "vm2": {"public_key": base64.b64encode(b"2" * 32).decode()},
}
PSK = base64.b64encode(b"p" * 32).decode()


def render(
    playbook: Callable[..., Any], inventory: Path, folder: Path, **variables: Any
) -> Dict[str, Any]:
    """Render an inventory into `folder`, with the keys of its hosts."""
    extra = {"render_to": str(folder), "ropeway_agent_keys": KEYS, **variables}
    run = playbook(inventory, "-e", json.dumps(extra), book=RENDER)
    assert run.status == 0, run.output
    return extra


def render_further(
    playbook: Callable[..., Any],
    inventory: Inventory,
    folder: Path,
    networks: List[Dict[str, Any]],
    **variables: Any,
) -> None:
    """Render it with additional networks on vm0."""
    # render.yml reads the roles' defaults as variables of the play, which beat the inventory's.
    extra = "{{ further if inventory_hostname == 'vm0' else [] }}"
    render(
        playbook,
        inventory.write(folder / "inventory"),
        folder,
        further=networks,
        ropeway_agent_extra_networks=extra,
        **variables,
    )


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, playbook: Callable[..., Any]) -> Path:
    """Return a folder with NAME.ropeway.yaml and NAME.netplan.yaml of every host of the lab."""
    folder = tmp_path_factory.mktemp("rendered")
    render(playbook, LAB, folder)
    return folder


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory, playbook: Callable[..., Any]) -> Path:
    """Return the same with the classic encapsulation."""
    folder = tmp_path_factory.mktemp("classic")
    render(playbook, LAB, folder, ropeway_encapsulation="classic")
    return folder


def configuration(rendered: Path, host: str, network: str = "ropeway") -> Dict[str, Any]:
    """Return the parsed configuration of a host's agent."""
    return dict(yaml.safe_load((rendered / f"{host}.{network}.yaml").read_text()))


def check_config(file: Path) -> subprocess.CompletedProcess[str]:
    """Return the agent's opinion of a configuration, except that its private key is missing."""
    return subprocess.run(
        [sys.executable, "-m", "ropeway", "check-config", "--without-keys", str(file)],
        cwd=CHECKOUT / "agent",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("host", ["vm0", "vm1", "vm2"])
@pytest.mark.parametrize("encapsulation", ["rendered", "classic"])
def test_agent_accepts_its_configuration(
    request: pytest.FixtureRequest, encapsulation: str, host: str
) -> None:
    folder = request.getfixturevalue(encapsulation)
    done = check_config(folder / f"{host}.ropeway.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    jsonschema.validate(configuration(folder, host), json.loads(SCHEMA.read_text()))


def test_client(rendered: Path) -> None:
    assert configuration(rendered, "vm0") == {
        "encapsulation": "secure",
        "network": "10.0.0.0/24",
        "address": "10.0.0.1",
        "router": "10.0.0.2",
        "forward": False,
        "device": {"name": "ropeway0", "mtu": "auto"},
        "interfaces": {"include": ["enp0s3", "enp0s8"], "exclude": ["mgmt0", *EXCLUDED]},
        "port": 51840,
        "private_key_file": "/etc/ropeway/private.key",
        "rollover_s": 120,
        "peers": [{"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.1.3"], **KEYS["vm1"]}],
        "control": {
            "path": "/run/ropeway/control.sock",
            "owner": None,
            "group": None,
            "mode": "0660",
        },
    }


def test_two_routers_know_each_other_and_clients_know_both(
    tmp_path: Path, playbook: Callable[..., Any], inventory: Inventory
) -> None:
    inventory.groups["ropeway_routers"] = ["vm1", "vm2"]
    inventory.groups["ropeway_clients"] = ["vm0"]
    inventory.interface("vm2", "enp0s3").update(lan="net0", address="192.168.0.9/24")
    render(playbook, inventory.write(tmp_path / "two"), tmp_path)
    client = configuration(tmp_path, "vm0")
    assert client["routers"] == ["10.0.0.2", "10.0.0.3"]
    assert "router" not in client
    assert client["peers"] == [
        {"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.1.3"], **KEYS["vm1"]},
        {"host": "10.0.0.3", "addresses": ["192.168.0.9"], **KEYS["vm2"]},
    ]
    router = configuration(tmp_path, "vm2")
    assert (router["router"], router["forward"]) == ("10.0.0.2", True)
    assert router["peers"] == [
        {"host": "10.0.0.1", **KEYS["vm0"]},
        {"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.3.3"], **KEYS["vm1"]},
    ]
    for host in ("vm0", "vm1", "vm2"):
        done = check_config(tmp_path / f"{host}.ropeway.yaml")
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_lab_with_two_routers(tmp_path: Path, playbook: Callable[..., Any]) -> None:
    keys = {**KEYS, "vm3": {"public_key": base64.b64encode(b"3" * 32).decode()}}
    render(playbook, LAB.with_name("lab-two-routers"), tmp_path, ropeway_agent_keys=keys)
    for host in ("vm0", "vm2"):
        client = configuration(tmp_path, host)
        assert client["routers"] == ["10.0.0.2", "10.0.0.4"]
        assert all(len(peer["addresses"]) == 2 for peer in client["peers"])
    for host, other in (("vm1", "10.0.0.4"), ("vm3", "10.0.0.2")):
        router = configuration(tmp_path, host)
        assert (router["router"], router["forward"]) == (other, True)
        assert len({peer["host"]: peer for peer in router["peers"]}[other]["addresses"]) == 4


def test_router_knows_keys_and_no_addresses(rendered: Path) -> None:
    router = configuration(rendered, "vm1")
    assert router["forward"] is True
    assert "router" not in router
    assert router["peers"] == [
        {"host": "10.0.0.1", **KEYS["vm0"]},
        {"host": "10.0.0.3", **KEYS["vm2"]},
    ]


def test_classic_knows_addresses_and_no_keys(classic: Path) -> None:
    router = configuration(classic, "vm1")
    assert router["encapsulation"] == "classic"
    assert not {"port", "private_key_file", "rollover_s"} & set(router)
    assert router["peers"] == [
        {"host": "10.0.0.1", "addresses": ["192.168.0.2", "192.168.1.2"]},
        {"host": "10.0.0.3", "addresses": ["192.168.2.2", "192.168.3.2"]},
    ]


def test_a_host_without_a_key_is_left_out(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    keys = {name: key for name, key in KEYS.items() if name != "vm2"}
    render(playbook, inventory.write(tmp_path / "inventory"), tmp_path, ropeway_agent_keys=keys)
    assert [peer["host"] for peer in configuration(tmp_path, "vm1")["peers"]] == ["10.0.0.1"]
    assert check_config(tmp_path / "vm1.ropeway.yaml").returncode == 0


def test_further_networks_secret_and_direct_peers(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    inventory["vm0"]["ropeway_direct_peers"] = ["vm2"]
    inventory["vm1"]["ropeway_endpoints"] = ["203.0.113.7:4500", "2001:db8::7", "vm1.example"]
    inventory["vm1"]["ropeway_port"] = 51900
    named = "{{ ['203.0.113.8'] if inventory_hostname == 'vm0' else [] }}"
    common = {"name": "lab", "network": "10.0.1.0/24"}
    networks = [
        {**common, "address": "10.0.1.1", "port": 51841, "peers": [
            {"name": "vm1", "host": "10.0.1.2", "addresses": ["192.168.0.3:51841"]},
            {"name": "nobody", "host": "10.0.1.9"},
        ]},
        {"name": "old", "encapsulation": "classic", "network": "10.0.2.0/24",
         "address": "10.0.2.1", "device_mtu": 1400, "include": ["enp0s3"],
         "device_precedence": False, "offload_disable": ["tso"], "addresses": ["203.0.113.9"],
         "peers": [{"host": "10.0.2.2", "addresses": ["192.168.0.3"]}]},
    ]  # fmt: skip
    render_further(
        playbook, inventory, tmp_path, networks, ropeway_psk=PSK, ropeway_agent_addresses=named
    )
    for file in tmp_path.glob("vm?.*.yaml"):
        if not file.name.endswith("netplan.yaml"):
            done = check_config(file)
            assert done.returncode == 0, done.stderr
    psk = {"psk_file": "/etc/ropeway/psk"}
    main = configuration(tmp_path, "vm0")
    assert main["peers"] == [
        {"host": "10.0.0.2", **KEYS["vm1"], **psk, "addresses": [
            "192.168.0.3:51900", "192.168.1.3:51900", "203.0.113.7:4500", "[2001:db8::7]:51900",
            "vm1.example:51900",
        ]},
        {"host": "10.0.0.3", **KEYS["vm2"], **psk},
    ]  # fmt: skip
    assert [peer["host"] for peer in configuration(tmp_path, "vm2")["peers"]] == [
        "10.0.0.2",
        "10.0.0.1",
    ]
    lab = configuration(tmp_path, "vm0", "lab")
    assert lab["interfaces"]["addresses"] == main["interfaces"]["addresses"] == ["203.0.113.8"]
    assert "addresses" not in configuration(tmp_path, "vm0", "old")["interfaces"]
    assert "addresses" not in configuration(tmp_path, "vm1")["interfaces"]
    assert lab["peers"] == [
        {"host": "10.0.1.2", **KEYS["vm1"], **psk, "addresses": ["192.168.0.3:51841"]}
    ]
    assert lab["device"]["name"] == "ropeway-lab"
    assert lab["control"]["path"] == "/run/ropeway-lab/control.sock"
    old = configuration(tmp_path, "vm0", "old")
    assert old["peers"] == [{"host": "10.0.2.2", "addresses": ["192.168.0.3"]}]
    assert old["device"] == {"name": "ropeway-old", "mtu": 1400, "precedence": False}
    assert "precedence" not in lab["device"]
    assert "offload" not in old  # classic has no such key
    assert old["interfaces"] == {"include": ["enp0s3"], "exclude": ["mgmt0", *EXCLUDED]}
    assert not any(PSK in file.read_text() for file in tmp_path.glob("*.yaml"))


def test_a_host_does_without_what_its_own_variables_name(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    inventory["vm0"]["ropeway_offload_disable"] = ["udp_segment", "udp_gro"]
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841},
        {"name": "all", "network": "10.0.2.0/24", "address": "10.0.2.1", "port": 51842,
         "offload_disable": []},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    assert check_config(tmp_path / "vm0.ropeway.yaml").returncode == 0
    disable = {"disable": ["udp_segment", "udp_gro"]}
    assert configuration(tmp_path, "vm0")["offload"] == disable
    assert configuration(tmp_path, "vm0", "lab")["offload"] == disable
    assert "offload" not in configuration(tmp_path, "vm0", "all")
    assert "offload" not in configuration(tmp_path, "vm1")


@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_processors_sleep_as_deeply_as_a_host_lets_them(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any], encapsulation: str
) -> None:
    inventory.everywhere(ropeway_encapsulation=encapsulation, ropeway_cpu_latency_us="020")
    inventory["vm0"]["ropeway_cpu_latency_us"] = 0
    inventory["vm2"]["ropeway_cpu_latency_us"] = None
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841},
        {"name": "old", "encapsulation": "classic", "network": "10.0.2.0/24",
         "address": "10.0.2.1", "cpu_latency_us": 100},
        {"name": "deep", "network": "10.0.3.0/24", "address": "10.0.3.1", "port": 51843,
         "cpu_latency_us": None},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    for host in ("vm0", "vm1", "vm2"):
        done = check_config(tmp_path / f"{host}.ropeway.yaml")
        assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["cpu_latency_us"] == 0
    assert configuration(tmp_path, "vm1")["cpu_latency_us"] == 20
    assert configuration(tmp_path, "vm0", "lab")["cpu_latency_us"] == 0
    assert configuration(tmp_path, "vm0", "old")["cpu_latency_us"] == 100
    # An agent of before this key takes what names it not.
    assert "cpu_latency_us" not in configuration(tmp_path, "vm0", "deep")
    assert "cpu_latency_us" not in configuration(tmp_path, "vm2")


@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_packets_grow_as_old_as_a_host_lets_them(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any], encapsulation: str
) -> None:
    inventory.everywhere(ropeway_encapsulation=encapsulation, ropeway_max_age_s="2.5")
    inventory["vm0"]["ropeway_max_age_s"] = 0
    inventory["vm2"]["ropeway_max_age_s"] = None
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841},
        {"name": "old", "encapsulation": "classic", "network": "10.0.2.0/24",
         "address": "10.0.2.1", "max_age_s": 5},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    for host in ("vm0", "vm1", "vm2"):
        done = check_config(tmp_path / f"{host}.ropeway.yaml")
        assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["max_age_s"] == 0
    assert configuration(tmp_path, "vm1")["max_age_s"] == 2.5
    assert configuration(tmp_path, "vm0", "lab")["max_age_s"] == 0
    assert configuration(tmp_path, "vm0", "old")["max_age_s"] == 5
    # An agent of before this key takes what names it not.
    assert "max_age_s" not in configuration(tmp_path, "vm2")


def test_links_have_the_budgets_of_the_inventory(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    links = {"wwan*": {"budget": {"bytes": "5GB", "per": "month", "reset_day": 15}}}
    other = {"enp0s3": {"budget": {"bytes": 10**9, "per": "day", "then": "never"}}}
    inventory["vm0"]["ropeway_links"] = links
    inventory["vm2"]["ropeway_links"] = None
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841},
        {"name": "other", "network": "10.0.2.0/24", "address": "10.0.2.1", "port": 51842,
         "links": other},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    for host in ("vm0", "vm1", "vm2"):
        done = check_config(tmp_path / f"{host}.ropeway.yaml")
        assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["links"] == links
    assert configuration(tmp_path, "vm0", "other")["links"] == other
    # An agent of before this key takes what names it not.
    for host, network in (("vm0", "lab"), ("vm1", None), ("vm2", None)):
        found = configuration(tmp_path, host, *([network] if network else []))
        assert "links" not in found


def test_networks_behind_hosts_are_announced_there_and_allowed_by_the_routers(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    inventory["vm0"]["ropeway_subnets"] = ["192.168.70.0/24"]
    inventory["vm2"]["ropeway_subnets"] = ["192.168.80.0/24", "172.16.0.0/16"]
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841,
         "announce": ["192.168.71.0/24"]},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    for host in ("vm0", "vm1", "vm2"):
        done = check_config(tmp_path / f"{host}.ropeway.yaml")
        assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["announce"] == ["192.168.70.0/24"]
    assert configuration(tmp_path, "vm0", "lab")["announce"] == ["192.168.71.0/24"]
    router = configuration(tmp_path, "vm1")
    assert "announce" not in router
    assert [peer["allowed"] for peer in router["peers"]] == [
        ["192.168.70.0/24"],
        ["192.168.80.0/24", "172.16.0.0/16"],
    ]


def test_traffic_has_the_classes_of_the_inventory(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    voice = {
        "name": "voice",
        "match": {"dscp": ["ef", 34], "protocol": "udp", "ports": [5004, "6000-6100"]},
        "mode": "redundant",
        "copies": 2,
    }
    bulk = {"name": "bulk", "match": {"protocol": "tcp"}, "mode": "single"}
    inventory.everywhere(ropeway_classes=[voice, {**bulk, "off": ["wwan*"]}])
    # To Ansible, the word off is False.
    inventory["vm1"]["ropeway_classes"] = [{**bulk, False: ["enp0s8"]}]
    inventory["vm2"]["ropeway_classes"] = None
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841},
        {"name": "other", "network": "10.0.2.0/24", "address": "10.0.2.1", "port": 51842,
         "classes": [voice]},
        {"name": "third", "network": "10.0.3.0/24", "address": "10.0.3.1", "port": 51843,
         "classes": "recommended"},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    for host in ("vm0", "vm1", "vm2"):
        done = check_config(tmp_path / f"{host}.ropeway.yaml")
        assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["classes"] == [voice, {**bulk, "off": ["wwan*"]}]
    assert configuration(tmp_path, "vm0", "other")["classes"] == [voice]
    assert configuration(tmp_path, "vm0", "third")["classes"] == "recommended"
    assert configuration(tmp_path, "vm1")["classes"] == [{**bulk, "off": ["enp0s8"]}]
    # An agent of before this key takes what names it not.
    assert "classes" not in configuration(tmp_path, "vm0", "lab")
    assert "classes" not in configuration(tmp_path, "vm2")


def test_a_router_gives_leases_where_the_inventory_says_so(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    key = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
    leases = {"pool": "10.0.0.128/25", "time_s": 3600, "mtu": 1300}
    inventory["vm1"]["ropeway_leases"] = {**leases, "public_keys": [key]}
    render_further(playbook, inventory, tmp_path, [])
    done = check_config(tmp_path / "vm1.ropeway.yaml")
    assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm1")["leases"] == leases
    assert configuration(tmp_path, "vm1")["peers"][-1] == {"host": "lease", "public_key": key}
    # An agent of before this key takes what names it not.
    assert "leases" not in configuration(tmp_path, "vm0")


def test_outer_headers_carry_the_dscp_where_the_inventory_says_so(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    inventory["vm0"]["ropeway_copy_dscp"] = True
    inventory["vm1"]["ropeway_copy_dscp"] = None
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841},
        {"name": "other", "network": "10.0.2.0/24", "address": "10.0.2.1", "port": 51842,
         "copy_dscp": False},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    done = check_config(tmp_path / "vm0.ropeway.yaml")
    assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["copy_dscp"] is True
    assert configuration(tmp_path, "vm0", "lab")["copy_dscp"] is True
    # An agent of before this key takes what names it not.
    assert "copy_dscp" not in configuration(tmp_path, "vm0", "other")
    assert "copy_dscp" not in configuration(tmp_path, "vm1")
    assert "copy_dscp" not in configuration(tmp_path, "vm2")


def test_clients_meet_without_the_router_where_the_inventory_says_so(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    inventory["vm0"]["ropeway_direct"] = True
    further = [{"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841}]
    render_further(playbook, inventory, tmp_path, further)
    for host in ("vm0", "vm1", "vm2"):
        done = check_config(tmp_path / f"{host}.ropeway.yaml")
        assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["direct"] is True
    assert configuration(tmp_path, "vm0", "lab")["direct"] is True
    # The router tells nobody where vm2 is. An agent of before this key takes what names it not.
    assert "direct" not in configuration(tmp_path, "vm1")
    assert "direct" not in configuration(tmp_path, "vm2")
    told = [peer.get("direct", True) for peer in configuration(tmp_path, "vm1")["peers"]]
    assert told == [True, False]
    assert ["direct" in peer for peer in configuration(tmp_path, "vm0")["peers"]] == [False]


def test_ipv6_network_is_named_where_there_is_one(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    for name in ("vm0", "vm1"):
        inventory[name]["ropeway_network6"] = "fd12:3456:789a:1::/64"
    further = [
        {"name": "lab", "network": "10.0.1.0/24", "address": "10.0.1.1", "port": 51841},
        {"name": "other", "network": "10.0.2.0/24", "address": "10.0.2.1", "port": 51842,
         "network6": "fd13::/64"},
    ]  # fmt: skip
    render_further(playbook, inventory, tmp_path, further)
    done = check_config(tmp_path / "vm0.ropeway.yaml")
    assert done.returncode == 0, done.stderr
    assert configuration(tmp_path, "vm0")["network6"] == "fd12:3456:789a:1::/64"
    assert configuration(tmp_path, "vm0", "other")["network6"] == "fd13::/64"
    # An agent of before this key takes what names it not.
    assert "network6" not in configuration(tmp_path, "vm0", "lab")
    assert "network6" not in configuration(tmp_path, "vm2")


def test_netplan_names_the_lans_and_nothing_else(rendered: Path) -> None:
    plan = yaml.safe_load((rendered / "vm1.netplan.yaml").read_text())
    ethernets = plan["network"].pop("ethernets")
    assert plan == {"network": {"version": 2}}
    assert {name: entry["addresses"] for name, entry in ethernets.items()} == {
        "enp0s3": ["192.168.0.3/24"],
        "enp0s8": ["192.168.1.3/24"],
        "enp0s9": ["192.168.2.3/24"],
        "enp0s10": ["192.168.3.3/24"],
    }
    # The schema of netplan 0.99 to 0.101 knows these keys.
    known = {"renderer", "optional", "dhcp4", "addresses", "mtu"}
    assert all(set(entry) <= known and entry["optional"] for entry in ethernets.values())


def test_netplan_leaves_out_what_others_configure(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    for interface in inventory["vm0"]["ropeway_interfaces"]:
        interface["configure"] = False
    del inventory.interface("vm2", "enp0s3")["address"]
    inventory.interface("vm2", "enp0s3")["configure"] = False
    render(playbook, inventory.write(tmp_path / "inventory"), tmp_path)
    plans = {
        name: yaml.safe_load((tmp_path / f"{name}.netplan.yaml").read_text())
        for name in ("vm0", "vm2")
    }
    assert plans["vm0"] == {"network": {"version": 2}}
    assert list(plans["vm2"]["network"]["ethernets"]) == ["enp0s8"]
    assert configuration(tmp_path, "vm2")["interfaces"]["include"] == ["enp0s3", "enp0s8"]
    subprocess.run(["sh", "-n", str(tmp_path / "vm0.way-back.sh")], check=True)


def test_way_back_is_a_shell_script(rendered: Path) -> None:
    subprocess.run(["sh", "-n", str(rendered / "vm1.way-back.sh")], check=True)
