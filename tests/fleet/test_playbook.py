"""site.yml with wrong inventories: it stops before any host is contacted."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from tests.fleet.inventory import Inventory

# TEST-NET-1 of RFC 5737: no host answers, so an attempt to connect fails in another way.
NOBODY = "192.0.2.{}"
# A failed attempt to connect takes this long, many times a run without one.
CONNECT_TIMEOUT_S = 200


@pytest.fixture
def unreachable(inventory: Inventory) -> Inventory:
    """Return the inventory of the lab with addresses of hosts that do not exist."""
    for number, variables in enumerate(inventory.hostvars.values(), 201):
        variables["ansible_host"] = NOBODY.format(number)
        variables["ansible_ssh_common_args"] = f"-o ConnectTimeout={CONNECT_TIMEOUT_S}"
    return inventory


def same_virtual_address(inventory: Inventory) -> str:
    inventory["vm2"]["ropeway_virtual_address"] = "10.0.0.1"
    return "vm0 and vm2 have the same ropeway_virtual_address 10.0.0.1: give each host its own."


def address_outside(inventory: Inventory) -> str:
    inventory["vm0"]["ropeway_virtual_address"] = "10.7.0.1"
    return (
        "vm0: ropeway_virtual_address 10.7.0.1 is outside the virtual network 10.0.0.0/24: use "
        "10.0.0.1 to 10.0.0.254."
    )


def no_router(inventory: Inventory) -> str:
    inventory.groups["ropeway_routers"] = []
    inventory.groups["ropeway_clients"].append("vm1")
    return "Group ropeway_routers has no host, so group ropeway (vm0, vm1, vm2) would have no"


def named_twice(inventory: Inventory) -> str:
    inventory.interface("vm0", "enp0s8")["name"] = "enp0s3"
    return "vm0: interface enp0s3 is listed twice in ropeway_interfaces: keep one entry."


def no_shared_lan(inventory: Inventory) -> str:
    for interface in inventory["vm2"]["ropeway_interfaces"]:
        interface["lan"] = "elsewhere"
        interface["address"] = interface["address"].replace(".2/", ".9/")
    return (
        "vm2: its LANs (elsewhere) include no LAN of the router vm1 (LANs net0, net1, net2, net3):"
    )


@pytest.mark.parametrize(
    "spoil", [same_virtual_address, address_outside, no_router, named_twice, no_shared_lan]
)
def test_wrong_inventory_stops_before_any_host_is_touched(
    unreachable: Inventory,
    playbook: Callable[..., Any],
    tmp_path: Path,
    spoil: Callable[[Inventory], str],
) -> None:
    sentence = spoil(unreachable)
    run = playbook(unreachable.write(tmp_path / "inventory"))
    assert run.status != 0
    assert sentence in run.words
    assert "No host was touched." in run.words
    assert "UNREACHABLE" not in run.output
    assert "PLAY [Find the hosts" not in run.output
    assert run.seconds < CONNECT_TIMEOUT_S


def test_limit_does_not_hide_a_problem_of_another_host(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    sentence = address_outside(unreachable)
    run = playbook(unreachable.write(tmp_path / "inventory"), "--limit", "vm2")
    assert run.status != 0
    assert sentence in run.words
    assert "UNREACHABLE" not in run.output


def test_tags_do_not_skip_the_inventory(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    sentence = named_twice(unreachable)
    run = playbook(unreachable.write(tmp_path / "inventory"), "--tags", "configure")
    assert run.status != 0
    assert sentence in run.words


def test_all_problems_in_one_run(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    sentences = [named_twice(unreachable), address_outside(unreachable), no_router(unreachable)]
    run = playbook(unreachable.write(tmp_path / "inventory"))
    assert run.status != 0
    for sentence in sentences:
        assert sentence in run.words


def test_right_inventory_goes_on_to_the_hosts(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    """Without a mistake, the same hosts are unreachable."""
    for variables in unreachable.hostvars.values():
        variables["ansible_ssh_common_args"] = "-o ProxyCommand=false"
    package = tmp_path / "ropeway_0.0.0_all.deb"
    package.touch()
    run = playbook(unreachable.write(tmp_path / "inventory"), "-e", f"ropeway_package={package}")
    assert run.status != 0
    assert "UNREACHABLE" in run.output
    assert "cannot be reached, and the network does not work without its router" in run.words
    assert "PLAY [Check every host" not in run.output


def test_missing_package_is_found_before_any_host_is_touched(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    missing = tmp_path / "ropeway_9_all.deb"
    run = playbook(unreachable.write(tmp_path / "inventory"), "-e", f"ropeway_package={missing}")
    assert run.status != 0
    assert f"There is no package {missing}: run `make deb`" in run.words
    assert "UNREACHABLE" not in run.output


@pytest.mark.parametrize("content", ["all:\n", "ropeway:\n"])
def test_empty_group_is_no_success(
    playbook: Callable[..., Any], tmp_path: Path, content: str
) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text(content)
    run = playbook(hosts)
    assert run.status != 0
    assert "Group ropeway has no host: check the path given with -i" in run.words


def test_wrong_inventory_path_is_no_success(playbook: Callable[..., Any], tmp_path: Path) -> None:
    assert playbook(tmp_path / "nothing.yml").status != 0


ONLY_INVENTORY = ("--tags", "always", "--skip-tags", "reach,install,configure,run")


def read_record(directory: Path) -> Dict[str, str]:
    """Return the addresses in ropeway_addresses.yml of an inventory."""
    text = (directory / "ropeway_addresses.yml").read_text()
    return dict(yaml.safe_load(text)["all"]["vars"]["ropeway_recorded_addresses"])


@pytest.mark.parametrize("options", [[], ["--limit", "vm0"]])
def test_a_variable_that_needs_another_one_is_a_sentence_of_ropeway(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path, options: List[str]
) -> None:
    unreachable.interface("vm2", "enp0s3")["address"] = "{{ nord_ip }}"
    unreachable["vm0"]["ropeway_agent_exclude"] = "{{ nord_names }}"
    # Facts come later, and so do the roles' own variables.
    unreachable["vm0"]["ropeway_agent_include"] = "{{ ansible_facts.interfaces }}"
    unreachable["vm2"]["ropeway_agent_peers"] = "{{ ropeway_client_peers }}"
    run = playbook(unreachable.write(tmp_path / "inventory"), *options)
    assert run.status != 0
    assert (
        "vm2: ropeway_interfaces, item 1, address cannot be read: it needs 'nord_ip', which is not "
        "defined for this host: define it, or correct the name."
    ) in run.words
    assert "vm0: ropeway_agent_exclude cannot be read: it needs 'nord_names'" in run.words
    assert "The inventory has 2 problems. No host was touched." in run.words
    assert "UNREACHABLE" not in run.output


def test_a_syntax_error_in_a_variable_is_reported_with_host_and_variable(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    unreachable["vm1"]["ropeway_endpoints"] = ["{{ nord_ip | nosuch }}"]
    run = playbook(unreachable.write(tmp_path / "inventory"))
    assert run.status != 0
    assert "vm1: ropeway_endpoints, item 1 cannot be read: Ansible says " in run.words
    assert "nosuch" in run.words
    assert "UNREACHABLE" not in run.output


@pytest.mark.parametrize("secret", [None, "another one"])
@pytest.mark.parametrize("whole", [False, True], ids=["value", "file"])
def test_what_no_vault_secret_opens_is_a_sentence_of_ropeway(
    unreachable: Inventory,
    playbook: Callable[..., Any],
    tmp_path: Path,
    whole: bool,
    secret: Optional[str],
) -> None:
    directory = unreachable.write(tmp_path / "inventory")
    file = directory / "group_vars" / "ropeway_clients.yml"
    file.parent.mkdir()
    psk = base64.b64encode(bytes(32)).decode()
    locked = VaultLib([("default", VaultSecret(b"right"))]).encrypt
    if whole:
        file.write_bytes(locked(f"ropeway_psk: {psk}\n"))
        subject = "group ropeway_clients (vm0, vm2): its variables cannot be read"
    else:
        lines = locked(psk).decode().replace("\n", "\n  ")
        file.write_text(f"ropeway_psk: !vault |\n  {lines}\n")
        subject = "group ropeway_clients (vm0, vm2): ropeway_psk cannot be read"
    options = []
    if secret:
        (tmp_path / "secret").write_text(secret)
        options = ["--vault-password-file", str(tmp_path / "secret")]
    run = playbook(directory, *options)
    assert run.status != 0
    assert (
        f"{subject}: it is encrypted, and no vault password decrypts it: run again with "
        "--ask-vault-pass, or with --vault-password-file and the right file."
    ) in run.words
    assert "The inventory has 1 problem. No host was touched." in run.words
    assert psk not in run.output


def test_an_unknown_variable_stops_the_run_and_names_the_group_that_has_it(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    directory = unreachable.write(tmp_path / "inventory")
    (directory / "group_vars").mkdir()
    (directory / "group_vars" / "ropeway_clients.yml").write_text(
        "ropeway_prot: 51900\nropeway_pks: c2VjcmV0\nropeway_agent_gate_timeout_s: 40\n"
    )
    run = playbook(directory, "-e", "ropeway_seriall=1")
    assert run.status != 0
    subject = "group ropeway_clients (vm0, vm2)"
    assert (
        f"{subject}: the variable ropeway_prot is unknown: did you mean ropeway_port?" in run.words
    )
    assert f"{subject}: the variable ropeway_pks is unknown: did you mean ropeway_psk?" in run.words
    unknown = "the variable ropeway_seriall is unknown: did you mean ropeway_serial?"
    assert f"group ropeway (vm0, vm2, vm1): {unknown}" in run.words
    assert "The inventory has 3 problems. No host was touched." in run.words
    assert "c2VjcmV0" not in run.output
    assert "UNREACHABLE" not in run.output


def test_a_variable_of_a_role_that_is_not_of_its_kind_stops_before_any_host_is_touched(
    unreachable: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    unreachable["vm0"]["ropeway_underlay_connect_timeout_s"] = "a minute"
    run = playbook(unreachable.write(tmp_path / "inventory"))
    assert run.status != 0
    assert "vm0: argument 'ropeway_underlay_connect_timeout_s' is of type str" in run.words
    assert "The inventory has 1 problem. No host was touched." in run.words
    assert "UNREACHABLE" not in run.output


def changed(output: str) -> List[str]:
    """Return the lines of the recap that count changes."""
    return [line for line in output.splitlines() if "changed=" in line and "changed=0" not in line]


def test_addresses_are_recorded_once(
    inventory: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    inventory.everywhere(ropeway_encapsulation="classic")
    for name in ("vm0", "vm2"):
        del inventory[name]["ropeway_virtual_address"]
    directory = inventory.write(tmp_path / "inventory")

    checked = playbook(directory, *ONLY_INVENTORY, "--check")
    assert checked.status == 0, checked.output
    assert changed(checked.output), "check mode has to announce the record"
    assert not (directory / "ropeway_addresses.yml").exists()

    first = playbook(directory, *ONLY_INVENTORY)
    assert first.status == 0, first.output
    assert changed(first.output)
    assert read_record(directory) == {"vm0": "10.0.0.1", "vm2": "10.0.0.3"}
    mode = (directory / "ropeway_addresses.yml").stat().st_mode
    assert stat.S_IMODE(mode) == 0o644

    second = playbook(directory, *ONLY_INVENTORY)
    assert second.status == 0, second.output
    assert not changed(second.output)
    assert "WARNING" not in second.output, "the record stands beside the inventory without noise"

    lan = {"name": "a", "lan": "net0", "address": "192.168.0.9/24"}
    inventory.groups["ropeway_clients"].remove("vm0")
    del inventory.hostvars["vm0"]
    inventory.hostvars["vm9"] = dict(
        inventory["vm2"], ropeway_interfaces=[lan], ansible_host="172.30.77.19"
    )
    inventory.groups["ropeway_clients"].insert(0, "vm9")
    third = playbook(inventory.write(directory), *ONLY_INVENTORY)
    assert third.status == 0, third.output
    assert read_record(directory) == {"vm0": "10.0.0.1", "vm2": "10.0.0.3", "vm9": "10.0.0.4"}

    # Where keys tell hosts apart, a host that is gone needs no line.
    inventory.everywhere(ropeway_encapsulation="secure")
    fourth = playbook(inventory.write(directory), *ONLY_INVENTORY)
    assert fourth.status == 0, fourth.output
    assert read_record(directory) == {"vm2": "10.0.0.3", "vm9": "10.0.0.4"}


def test_the_record_may_lie_elsewhere(
    inventory: Inventory, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    del inventory["vm0"]["ropeway_virtual_address"]
    elsewhere = tmp_path / "elsewhere" / "ropeway_addresses.yml"
    elsewhere.parent.mkdir()
    for variables in inventory.hostvars.values():
        variables["ropeway_addresses_file"] = str(elsewhere)
    directory = inventory.write(tmp_path / "inventory")
    run = playbook(directory, *ONLY_INVENTORY)
    assert run.status == 0, run.output
    assert read_record(elsewhere.parent) == {"vm0": "10.0.0.1"}
    assert not (directory / "ropeway_addresses.yml").exists()
    again = playbook(directory, *ONLY_INVENTORY, "--limit", "vm2")
    assert again.status == 0, again.output
    assert not changed(again.output)
