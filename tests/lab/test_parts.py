"""The lab's own instruments, without a machine: what the probe counts, what a topology refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from tests.lab import network, probe, process, roots, topology
from tests.lab.demo import Cut, Measurement, findings, table
from tests.lab.errors import LabError
from tests.lab.lab import Lab
from tests.lab.machines import CHECKOUT
from tests.lab.stream import Result

MS = 1_000_000


def test_an_account_tells_lost_duplicated_and_reordered_apart():
    account = probe.Account()
    for at_ms, number in enumerate([0, 1, 4, 3, 4, 9, 9, 9]):
        account.arrived(number, number * MS, (number + 1 + at_ms) * MS)
    report = account.report(foreign=2, overflowed=0)
    assert report.received == 5
    assert report.duplicated == 3
    assert report.reordered == 1
    assert report.missing == [
        {"first": 2, "count": 1, "after_ns": 1 * MS},
        {"first": 5, "count": 4, "after_ns": 4 * MS},
    ]
    assert [run["first"] for run in report.repeated] == [4, 9]
    assert report.latency_ms is not None
    assert report.latency_ms["max"] == 6.0


def test_an_account_ignores_a_number_beyond_its_bound():
    account = probe.Account()
    account.arrived(probe.SEQUENCE_LIMIT, 0, 0)
    assert account.report(0, 0).received == 0
    assert len(account.copies) == 0


def test_percentiles_are_nearest_ranks():
    values = [n * MS for n in range(1, 101)]
    assert probe.summary_ms(values) == {
        "p50": 50.0,
        "p99": 99.0,
        "p999": 100.0,
        "max": 100.0,
        "mean": 50.5,
    }
    assert probe.summary_ms([]) is None


def test_the_probe_loses_nothing_over_loopback():
    common = ["--address", "127.0.0.1", "--run", "5", "--seconds", "30"]
    program = [sys.executable, "-I", probe.__file__]
    pipes: Dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*program, "receive", *common, "--port", "0"], **pipes) as receiver:
        assert receiver.stdout is not None
        ready, port = receiver.stdout.readline().split()
        assert ready == "ready"
        sender = [*program, "send", *common, "--port", port, "--rate", "2000", "--seconds", "0.5"]
        with subprocess.Popen(sender, **pipes) as running:
            # Its standard input stays open: it ends at its own time.
            assert running.stdout is not None
            sent = json.loads(running.stdout.readline())
        got = json.loads(receiver.communicate(timeout=20)[0])
    assert sent["sent"] > 100
    assert (got["received"], got["duplicated"], got["foreign"]) == (sent["sent"], 0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lans": ["net0"]}, "net1"),
        ({"management": {"interface": "m", "network": "10.9.0.0/24", "controller": "10.8.0.1"}},
         "10.8.0.1"),
        ({"hosts": {"vm0": {"interfaces": {}}}}, "management"),
    ],
)  # fmt: skip
def test_a_wrong_topology_is_refused_with_a_sentence(tmp_path: Path, change, said):
    raw = {**json.loads(topology.HOUSE.read_text()), **change}
    file = tmp_path / "topology.json"
    file.write_text(json.dumps(raw))
    with pytest.raises(LabError, match=said):
        topology.load(file)


@pytest.mark.parametrize(
    ("inventory", "file"), [("lab", "topology.json"), ("lab-two-routers", "two-routers.json")]
)
def test_the_topology_is_the_inventorys(inventory, file):
    """The inventory says which interface is on which LAN; the lab wires them the same way."""
    house = topology.load(topology.HOUSE.with_name(file))
    folder = CHECKOUT / "inventories" / inventory / "host_vars"
    assert {file.stem for file in folder.glob("*.yml")} == set(house.hosts)
    for name, host in house.hosts.items():
        variables = yaml.safe_load((folder / f"{name}.yml").read_text())
        assert variables["ansible_host"] == host.management
        wires = {i["name"]: i["lan"] for i in variables["ropeway_interfaces"]}
        assert wires == host.interfaces


def test_every_host_has_a_link_to_the_management_network_that_can_be_cut():
    house = topology.load()
    for name in house.hosts:
        assert house.interface_on(name, topology.MANAGEMENT) == house.management_interface
    assert house.interface_on("vm0", "net1") == "enp0s8"
    with pytest.raises(LabError, match="vm0 has no interface on net3; it has net0, net1, mgmt"):
        house.interface_on("vm0", "net3")


@pytest.mark.parametrize("prefix", ["", "lab", "a-b-", "Lab-", "-", "toolongprefix-", "x/-"])
def test_a_prefix_that_could_be_taken_for_another_is_refused(prefix):
    with pytest.raises(LabError, match="prefix"):
        Lab(prefix)


def test_a_name_too_long_for_an_interface_is_refused():
    with pytest.raises(LabError, match="rwlab-longname-net0"):
        network.port_name("rwlab-", "longname", "net0")


def test_a_mark_tells_a_process_from_its_successors():
    mark = process.own_mark()
    assert process.lives(mark)
    pid, _, started = mark.partition(".")
    # The same number, but an earlier process; and what is no mark at all.
    for other in (f"{pid}.{int(started) - 1}", pid, "", "abcdefgh"):
        assert not process.lives(other)


def test_an_unknown_root_variant_is_refused():
    with pytest.raises(LabError, match="minimal"):
        roots.ensure_root("bookworm", "maximal")


def test_the_report_names_the_cut_in_which_packets_were_lost():
    cut = Cut("vm0", "net0", "silent", 1_000 * MS, 2.0, 1.9, 0.3, 3_000 * MS)
    gaps = [
        {"first": 7, "count": 3, "after_ns": 1_500 * MS},
        {"first": 20, "count": 1, "after_ns": 4_000 * MS},
    ]
    sender, receiver = {"skipped_s": 0.0}, {"overflowed": 0}
    result = Result("vm0", "vm2", 100, 96, 4, 0, 0, None, gaps, [], sender, receiver)
    measurement = Measurement("all links", [result], [cut])
    assert findings(measurement) == [
        "vm0 -> vm2: 3 lost from number 7, 0.50 s after vm0-net0 was cut (silent)",
        "vm0 -> vm2: 1 lost from number 20, outside of any cut",
    ]
    line = " ".join(table([measurement]).splitlines()[3].split())
    assert line == "all links vm0 -> vm2 1 100 96 4 0 - - -"
