"""Hostile output of a host, in each answer that a role reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from tests.fleet.conftest import Run
from tests.fleet.hostile_host import ESCAPED, FACTS, HOSTILE, MACHINE, ROLES, Host, says, tasks_of


@pytest.fixture
def host(tmp_path: Path, playbook: Callable[..., Run]) -> Host:
    return Host(tmp_path, playbook)


def check_host(
    host: Host, facts: Dict[str, Any], asked: str, *interfaces: str, **variables: Any
) -> Run:
    """Run the checks of a host with ``facts``; ``asked`` is its identity and TUN device."""
    host.module("setup_of_host", {"changed": False, "ansible_facts": facts})
    (host.folder / "asked").write_text(asked)
    tasks = tasks_of("ropeway_preflight", "hosts")
    del tasks[0]["ansible.builtin.setup"]
    tasks[0]["setup_of_host"] = {}
    tasks[1]["ansible.builtin.command"] = {"argv": ["cat", str(host.folder / "asked")]}
    return host.run(
        tasks,
        "ropeway_preflight",
        ropeway_interfaces=[{"name": name} for name in interfaces],
        ropeway_network="10.0.0.0/24",
        ropeway_preflight_minimum_versions={"Debian": "11", "Ubuntu": "20.04"},
        ropeway_preflight_minimum_python="3.8",
        **variables,
    )


def test_a_fit_host_passes(host: Host) -> None:
    run = check_host(host, FACTS, f"{MACHINE}tun\n", "eth0", "eth0.100")
    assert run.status == 0, run.output


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        ("distribution", "localhost: the system is "),
        ("python_version", "localhost: Python is "),
        ("service_mgr", "localhost: the service manager is "),
    ],
)
def test_a_template_as_a_fact_is_shown_in_quotes(host: Host, fact: str, sentence: str) -> None:
    run = check_host(host, {**FACTS, fact: host.hostile}, f"{MACHINE}tun\n", "eth0")
    assert run.status != 0
    assert f'{sentence}"{ESCAPED}' in run.words


def test_a_template_as_a_release_is_shown_in_quotes(host: Host) -> None:
    facts = {**FACTS, "distribution_version": f"9{host.hostile}"}
    run = check_host(host, facts, f"{MACHINE}tun\n", "eth0")
    assert run.status != 0
    assert f'localhost: the system is "Debian 9{ESCAPED}' in run.words


def test_a_template_as_the_name_of_an_interface_is_shown_in_quotes(host: Host) -> None:
    facts = {**FACTS, "interfaces": [host.hostile, "eth0"]}
    run = check_host(host, facts, f"{MACHINE}tun\n", "eth0.100")
    assert run.status != 0
    assert "localhost: there is no interface eth0.100 (there is eth0, " in run.words
    assert f'"{ESCAPED}' in run.words


def test_a_template_as_the_name_of_an_interface_with_an_address_is_shown_in_quotes(
    host: Host,
) -> None:
    name = host.hostile.replace("-", "_").replace(":", "_")
    inside = {"ipv4": {"address": "10.0.0.7", "prefix": "24"}}
    run = check_host(
        host, {**FACTS, "interfaces": ["eth0", name], name: inside}, f"{MACHINE}tun\n", "eth0"
    )
    assert run.status != 0
    assert f'localhost: the address "{ESCAPED}' in run.words


def test_a_missing_interface_stops_the_run(host: Host) -> None:
    run = check_host(host, FACTS, f"{MACHINE}tun\n", "eth0.200", "mgmnt0", "eth0")
    assert run.status != 0
    assert (
        "localhost: there is no interface eth0.200, mgmnt0 (there is eth0, eth0.100, lo): correct "
        "ropeway_interfaces or ropeway_management_interface, or list interfaces that may be absent "
        "in ropeway_tolerated_links."
    ) in run.words
    assert "No host was changed." in run.words


@pytest.mark.parametrize("tolerated", ["wwan0, wlan0", ["wwan0"]])
def test_a_tolerated_link_may_be_missing(host: Host, tolerated: Any) -> None:
    run = check_host(
        host,
        FACTS,
        f"{MACHINE}tun\n",
        "eth0",
        "wwan0",
        ropeway_tolerated_links=tolerated,
    )
    assert run.status == 0, run.output


def test_a_host_without_a_tun_device_stops_the_run(host: Host) -> None:
    run = check_host(host, FACTS, host.hostile, "eth0")
    assert run.status != 0
    assert "localhost: there is no character device /dev/net/tun" in run.words


def test_a_host_that_is_in_the_inventory_under_two_names_stops_the_run(
    playbook: Callable[..., Run], tmp_path: Path
) -> None:
    """Both names lead to this machine, with its real facts."""
    book = tmp_path / "book.yml"
    role = str(ROLES / "ropeway_preflight")
    check = {"ansible.builtin.import_role": {"name": role, "tasks_from": "hosts"}}
    play = {
        "hosts": "ropeway",
        "gather_facts": False,
        "connection": "local",
        "any_errors_fatal": True,
        "vars": {
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "ropeway_interfaces": [{"name": "lo"}, {"name": "eth0.4000"}],
            "ropeway_network": "10.213.77.0/24",
        },
        "tasks": [check],
    }
    book.write_text(json.dumps([play]))
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("ropeway: {hosts: {nord: , nord.example.org: }}")
    run = playbook(hosts, book=str(book))
    assert run.status != 0
    assert "nord and nord.example.org are one machine: list it in the inventory once" in run.words
    shared = "group ropeway (nord, nord.example.org): there is no interface eth0.4000 (there is "
    assert run.words.count(shared) >= 1, "hosts share a sentence"


def test_a_template_as_the_installed_version_is_another_version(host: Host) -> None:
    dpkg = {"rc": 0, "stdout": host.hostile, "stderr": ""}
    run = host.run(
        [
            says(host, "__ropeway_agent_installed", {"paths": {}, "commands": {"dpkg": dpkg}}),
            {"ansible.builtin.assert": {"that": "__ropeway_agent_install_needed"}},
        ],
        "ropeway_agent",
        ropeway_agent_package="/d/ropeway_1_all.deb",
    )
    assert run.status == 0, run.output


def test_a_template_instead_of_what_a_host_has_ends_the_run(host: Host) -> None:
    run = host.run(
        [
            says(host, "__ropeway_agent_installed", host.hostile),
            {"ansible.builtin.assert": {"that": "__ropeway_agent_install_needed"}},
        ],
        "ropeway_agent",
        ropeway_agent_package="/d/ropeway_1_all.deb",
    )
    assert run.status != 0


STATUSES = {
    "text": HOSTILE,
    "host": json.dumps({"peers": [{"host": HOSTILE, "best_state": 2}]}),
    "state": json.dumps({"peers": [{"host": "10.0.0.2", "best_state": HOSTILE}]}),
    "peers": json.dumps({"peers": HOSTILE}),
}


@pytest.mark.parametrize("kind", STATUSES)
def test_a_template_in_a_status_is_no_peer(host: Host, kind: str) -> None:
    host.program("ropeway", out=STATUSES[kind].replace("PWNED", str(host.pwned)))
    run = host.run(
        tasks_of("ropeway_agent", "health"),
        "ropeway_agent",
        ropeway_agent_gate_timeout_s=1,
        ropeway_agent_expected_peers=["10.0.0.2"],
    )
    assert run.status != 0
    assert "localhost has no connection to 10.0.0.2 after 1 s" in run.words


def test_a_template_as_the_fault_of_a_link_is_shown_in_quotes(host: Host) -> None:
    link = {"name": "eth0", "index": 7, "fault": host.hostile}
    host.program("ropeway", out=json.dumps({"peers": [], "links": [link]}))
    run = host.run(
        tasks_of("ropeway_agent", "health"),
        "ropeway_agent",
        ropeway_agent_gate_timeout_s=1,
        ropeway_agent_expected_links=["eth0"],
    )
    assert run.status != 0
    assert "localhost has no redundancy over eth0: nothing is carried there after" in run.words
    assert f'(eth0 "{ESCAPED}' in run.words


def test_a_template_as_the_words_of_an_agent_is_shown_in_quotes(host: Host) -> None:
    host.program("ropeway", error=host.hostile, status=1)
    run = host.run(
        tasks_of("ropeway_agent", "health"), "ropeway_agent", ropeway_agent_gate_timeout_s=1
    )
    assert run.status != 0
    assert f'localhost: the agent does not answer ("{ESCAPED}' in run.words


def test_a_template_in_a_configurations_name_is_shown_without_control_characters(
    host: Host,
) -> None:
    folder = host.folder / "etc"
    folder.mkdir()
    file = folder / "{{ 7 * 7 }}\x1b]0;title\x07.yaml"
    file.write_text("# Managed by Ansible (role ropeway_agent): x\n")
    configured = {"rc": 0, "stdout": str(file), "stderr": ""}
    tasks = tasks_of("ropeway_agent", "dropped")
    stop = next(task for task in tasks if "ansible.builtin.systemd_service" in task)
    del stop["ansible.builtin.systemd_service"]
    stop["ansible.builtin.debug"] = {"msg": "stopped"}
    answer = {"paths": {}, "commands": {"configured": configured}}
    run = host.run(
        [says(host, "__ropeway_agent_configured", answer), *tasks],
        "ropeway_agent",
        **tasks_of("ropeway_agent", "configure")[-1]["vars"],
        __ropeway_agent_networks=[
            {"name": "ropeway", "config": "/etc/ropeway/ropeway.yaml", "peers": []}
        ],
        __ropeway_agent_state=str(host.folder),
    )
    assert run.status == 0, run.output
    assert "{{ 7 * 7 }}" in run.output
    assert list(folder.iterdir()) == []


def test_a_template_among_the_addresses_is_not_shown(host: Host) -> None:
    host.program("ip", out=json.dumps([{"ifname": host.hostile, "addr_info": [host.hostile]}]))
    tasks = tasks_of("ropeway_underlay", "addresses")
    tasks[0]["delay"] = 0
    tasks[0]["retries"] = 1
    tasks[0]["until"] = True
    run = host.run(
        tasks,
        "ropeway_underlay",
        ropeway_underlay_interfaces=[{"name": "eth0", "address": "192.0.2.1/24"}],
        ropeway_underlay_file="/etc/netplan/60-ropeway.yaml",
    )
    assert run.status != 0
    assert "localhost lacks eth0 192.0.2.1/24, although" in run.words


def test_a_template_as_the_failure_of_a_netplan_is_shown_in_quotes(host: Host) -> None:
    last = host.hostile.replace("\n", " ")
    host.program("netplan", error=f"first\n{last}\n", status=1)
    tasks = tasks_of("ropeway_underlay", "apply")
    block = next(task for task in tasks if "rescue" in task)
    remember = next(task for task in block["rescue"] if "ansible.builtin.set_fact" in task)
    attempt = {"name": "Try it", "ansible.builtin.command": {"argv": ["netplan"]}}
    run = host.run(
        [{"block": [attempt], "rescue": [remember]}, tasks[-1]],
        "ropeway_underlay",
        ropeway_underlay_file="/etc/netplan/60-ropeway.yaml",
        ropeway_underlay_rollback_s=300,
    )
    assert run.status != 0
    assert f'(Try it: "{ESCAPED}' in run.words
    assert "failed the change of /etc/netplan/60-ropeway.yaml" in run.words
