"""The package on booted machines: systemd 247, 252 and 257, Python 3.9, 3.11 and 3.13."""

from __future__ import annotations

import functools
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Tuple

import prometheus_client
import pytest

from ropeway import __version__
from tests import privileges
from tests.lab import process
from tests.lab.lab import Lab

from .node import CONFIGURATION, KEY, Node

SCRAPE = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9851/metrics").read().decode())
"""
SECOND = Path("etc/ropeway/second.yaml")
SECOND_CONTROL = "/run/ropeway-second/control.sock"
LATENCY = "/dev/cpu_dma_latency"
LATENCY_NUMBERS = Path("/sys/class/misc/cpu_dma_latency/dev")
RECOVERY_LIMIT_S = 2.0
#: A start that the machine was too busy for, or stood still in, is repeated; one in time will do.
ATTEMPTS = 3
PATIENCE_S = 60.0
EXPOSURE_LIMIT = 2.2
FORWARDING_LIMIT_S = 60.0
NETWORKD_LIMIT_S = 60.0
NETWORK = privileges.CAP_NET_ADMIN | privileges.CAP_NET_RAW
STEWARD_LIMIT_S = 5.0
#: At 20 a second, twice as long as another steward may take.
PINGS = 200
# WatchdogSec, the time that SIGABRT and the restart take, and a busy machine.
WATCHDOG_LIMIT_S = 60.0


def test_the_agent_runs_and_answers(node: Node) -> None:
    assert node.unit("ActiveState") == "active"
    status = node.status()
    assert status["address"] == node.address
    assert {link["name"] for link in status["links"]} == {"enp0s3", "enp0s8"}


def test_packets_pass_between_the_suites(node: Node) -> None:
    for address in [other.address for other in node.others()]:
        process.wait_for(
            functools.partial(node.ping, address, count=1),
            what=f"A ping from {node.machine.name} to {address}",
            timeout_s=FORWARDING_LIMIT_S,
        )
        assert node.ping(address, count=5) == 5


def test_the_key_is_the_agents_alone(node: Node) -> None:
    assert node.run(["stat", "-c", "%U:%G %a", f"/{KEY}"]).stdout.strip() == "ropeway:ropeway 600"
    assert node.status()["public_key"] == node.public_key()
    again = node.run(["ropeway", "genkey"], check=False)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert node.status()["public_key"] == node.public_key()


def test_every_start_is_a_new_epoch(node: Node) -> None:
    epochs = [_epoch(node)]
    for _ in range(2):
        node.run(["systemctl", "restart", "ropeway"])
        epochs.append(_epoch(node))
    assert epochs == sorted(set(epochs))


def _epoch(node: Node) -> int:
    return int(node.run(["cat", "/var/lib/ropeway/ropeway0.epoch"]).stdout)


def test_reload_takes_over_what_it_can(node: Node) -> None:
    before = node.unit("MainPID")
    peers = json.loads(node.configuration())["peers"]
    node.configure(node.configuration(peers=peers[:1]))
    node.run(["systemctl", "reload", "ropeway"])
    assert [peer["host"] for peer in node.status()["peers"]] == [peers[0]["host"]]
    node.configure(node.configuration())
    node.run(["systemctl", "reload", "ropeway"])
    assert len(node.status()["peers"]) == len(peers)
    assert node.unit("MainPID") == before


def test_reload_that_would_take_a_restart_changes_nothing(node: Node) -> None:
    before = node.unit("MainPID")
    node.configure(node.configuration(peers=[], port=51841))
    try:
        refused = node.run(["ropeway", "reload"], check=False)
        assert refused.returncode == 3
        assert refused.stderr.startswith("ropeway: port: only a restart changes that")
        assert node.run(["systemctl", "reload", "ropeway"], check=False).returncode != 0
        node.configure(node.configuration(control={"path": "/run/ropeway/other.sock"}))
        assert node.run(["systemctl", "reload", "ropeway"], check=False).returncode != 0
        node.wait_said("control: only a restart changes that")
        node.configure("peers: [\n")
        assert node.run(["systemctl", "reload", "ropeway"], check=False).returncode != 0
        node.wait_said(f"/{CONFIGURATION}:2: this is not YAML")
        assert node.unit("MainPID") == before
        assert node.unit("ActiveState") == "active"
        assert len(node.status()["peers"]) == len(node.others())
    finally:
        node.configure(node.configuration())


def test_a_second_network_on_the_same_host(node: Node) -> None:
    node.configure(_second(node), SECOND)
    try:
        node.run(["systemctl", "start", "ropeway@second"])
        assert sorted(node.kernel_state()) == ["ropeway-ropeway1", "ropeway0", "ropeway1"]
        said = node.run(["ropeway", "status", "--json", "--control", SECOND_CONTROL]).stdout
        status = json.loads(said)
        assert status["address"] == f"10.1.0.{node.number}"
        # Neither network runs over the other.
        assert not [link for link in status["links"] if link["name"].startswith("ropeway")]
        node.run(["systemctl", "reload", "ropeway@second"])
        node.run(["systemctl", "stop", "ropeway@second"])
        assert node.kernel_state() == ["ropeway0"]
        assert node.run(["ls", "/run/ropeway"]).stdout.split() == ["control.sock"]
        verified = node.run(
            ["systemd-analyze", "--man=no", "verify", "ropeway@second.service"], check=False
        )
        assert [line for line in verified.stderr.splitlines() if "ropeway" in line] == []
    finally:
        node.run(["systemctl", "stop", "ropeway@second"], check=False)
        (node.machine.root / SECOND).unlink()


def _second(node: Node) -> str:
    settings = {
        "encapsulation": "classic",
        "network": "10.1.0.0/24",
        "address": f"10.1.0.{node.number}",
        "device": {"name": "ropeway1"},
        "control": {"path": SECOND_CONTROL},
    }
    return json.dumps(settings)


def test_the_agent_has_no_more_rights_than_it_needs(node: Node) -> None:
    said = node.run(["systemd-analyze", "--no-pager", "security", "ropeway.service"]).stdout
    found = re.search(r"exposure level for ropeway.service: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found.group(1)) <= EXPOSURE_LIMIT
    user = node.run(["ps", "-o", "user:20=", "-p", node.unit("MainPID")]).stdout.strip()
    assert user == "ropeway"
    assert (node.unit("LimitCORE"), node.unit("LimitNOFILE")) == ("0", "1024")


@pytest.mark.skipif(not LATENCY_NUMBERS.exists(), reason=f"this kernel has no {LATENCY}")
def test_the_agent_may_open_the_latency_device(node: Node, package: Path) -> None:
    # A machine has none of its own, and its agent runs all the same.
    assert node.run(["test", "-e", LATENCY], check=False).returncode == 1
    assert node.unit("ActiveState") == "active"
    node.apt("purge", "ropeway")
    opening = node.machine.root / "etc/systemd/system/ropeway.service.d/opening.conf"
    opening.parent.mkdir()
    # Who opens it and writes nothing bounds nothing: this machine's own processors stay alone.
    program = f"open('{LATENCY}', 'r+b', buffering=0)"
    opening.write_text(f'[Service]\nExecStartPre=/usr/bin/python3 -c "{program}"\n')
    # udevd takes its time, so that an installation that does not wait for it comes out.
    slow = node.machine.root / "etc/udev/rules.d/50-slow.rules"
    slow.write_text('KERNEL=="cpu_dma_latency", PROGRAM="/bin/sleep 3"\n')
    numbers = LATENCY_NUMBERS.read_text().strip().split(":")
    node.run(["mknod", "-m", "0600", LATENCY, "c", *numbers])
    try:
        node.install(package)
        assert _owner(node, LATENCY) == "root:ropeway 660"
        node.bring_up(package)
        node.apt("remove", "ropeway")
        assert _owner(node, LATENCY) == "root:root 600"
        # Its configuration is still there, so the installation itself starts the agent.
        node.install(package)
        assert (node.unit("ActiveState"), node.unit("NRestarts")) == ("active", "0")
        # The machines' control groups don't enforce it, so the line is all that can be seen.
        assert f"{LATENCY} rw" in node.unit("DeviceAllow")
    finally:
        node.run(["rm", LATENCY])
        slow.unlink()
        opening.unlink()
        opening.parent.rmdir()
        node.run(["systemctl", "daemon-reload"])


def _owner(node: Node, path: str) -> str:
    return node.run(["stat", "-c", "%U:%G %a", path]).stdout.strip()


def test_systemd_finds_nothing_wrong_with_the_unit(node: Node) -> None:
    checked = node.run(["systemd-analyze", "--man=no", "verify", "ropeway.service"], check=False)
    # 247 and 252 also complain of other packages' units.
    said = [line for line in checked.stderr.splitlines() if "ropeway" in line]
    assert said == []


def test_a_killed_agent_is_back_at_once(node: Node) -> None:
    took_s: list[float] = []
    while not took_s or (took_s[-1] >= RECOVERY_LIMIT_S and len(took_s) < ATTEMPTS):
        before = node.unit("MainPID")
        killed_at_s = time.monotonic()
        node.run(["kill", "-KILL", before])
        process.wait_for(
            functools.partial(_is_another, node, before),
            what="The agent coming back",
            timeout_s=PATIENCE_S,
        )
        # Machines share the monotonic clock; systemd's time of READY=1 is free of our own polling.
        took_s.append(int(node.unit("ActiveEnterTimestampMonotonic")) / 1e6 - killed_at_s)
    assert 0 < took_s[-1] < RECOVERY_LIMIT_S, took_s
    assert node.status()["address"] == node.address
    assert node.kernel_state() == ["ropeway0"]


def test_hung_agents_are_replaced(lab: Lab, package: Path) -> None:
    nodes = [Node(lab, name) for name in lab.machines]
    stopped = {}
    for node in nodes:
        node.bring_up(package)
        stopped[node.address] = node.unit("MainPID")
        node.run(["kill", "-STOP", stopped[node.address]])
    for node in nodes:
        process.wait_for(
            functools.partial(_is_another, node, stopped[node.address]),
            what=f"The watchdog on {node.machine.name} replacing the agent",
            timeout_s=WATCHDOG_LIMIT_S,
        )
        node.wait_said("atchdog")


def _is_another(node: Node, process_id: str) -> bool:
    return node.unit("MainPID") not in ("0", process_id) and node.unit("ActiveState") == "active"


def test_networkd_spares_the_device_and_what_others_made(node: Node) -> None:
    everything = node.machine.root / "etc/systemd/network/50-everything.network"
    rule = ["from", "192.0.2.1", "lookup", "100"]
    everything.write_text("[Match]\nName=r*\n[Network]\nAddress=192.0.2.1/24\n")
    node.run(["ip", "rule", "add", *rule])
    try:
        node.run(["systemctl", "restart", "systemd-networkd"])
        setup = process.wait_for(
            functools.partial(_setup, node),
            what="systemd-networkd looking at ropeway0",
            timeout_s=NETWORKD_LIMIT_S,
        )
        assert setup == "unmanaged"
        assert "192.0.2.1" in node.run(["ip", "-j", "rule"]).stdout
    finally:
        everything.unlink()
        node.run(["ip", "rule", "del", *rule], check=False)
    (device,) = json.loads(node.run(["ip", "-j", "address", "show", "ropeway0"]).stdout)
    assert [address["local"] for address in device["addr_info"]] == [node.address]


def _setup(node: Node) -> str:
    """What systemd-networkd makes of ropeway0; empty while it has not decided."""
    words = node.run(["networkctl", "--no-pager", "--no-legend", "list", "ropeway0"]).stdout.split()
    return "" if words[-1] in ("initialized", "pending") else words[-1]


def test_an_upgrade_does_not_cut_the_links(node: Node, older: Path, package: Path) -> None:
    assert "before the next restart" not in node.install(older)
    configuration = node.machine.root / CONFIGURATION
    settings = configuration.read_text()
    before = node.unit("MainPID")
    spoilt = settings.replace('"peers"', '"remotes"')
    node.configure(spoilt)
    said = node.install(package)
    assert "this setting is called peers now" in said
    assert f"correct /{CONFIGURATION} before the next restart" in said
    assert configuration.read_text() == spoilt
    node.configure(settings)
    assert node.has("ropeway", __version__)
    assert node.unit("MainPID") == before
    assert node.unit("ActiveState") == "active"
    node.run(["systemctl", "restart", "ropeway"])
    assert node.status()["version"] == __version__


def test_a_stop_leaves_nothing_in_the_kernel(node: Node) -> None:
    assert node.kernel_state()
    node.run(["systemctl", "stop", "ropeway"])
    assert node.kernel_state() == []
    assert node.run(["ls", "/run/ropeway"], check=False).stdout == ""


def test_nothing_outlives_an_agent_that_is_killed_for_good(node: Node) -> None:
    once = node.machine.root / "etc/systemd/system/ropeway.service.d/once.conf"
    once.parent.mkdir()
    once.write_text("[Service]\nRestart=no\n")
    try:
        node.run(["systemctl", "daemon-reload"])
        assert node.kernel_state()
        node.run(["kill", "-KILL", node.unit("MainPID")])
        process.wait_for(
            lambda: node.unit("ActiveState") == "failed",
            what="systemd giving the agent up",
            timeout_s=PATIENCE_S,
        )
        assert node.kernel_state() == []
    finally:
        once.unlink()
        once.parent.rmdir()
        node.run(["systemctl", "daemon-reload"])


def test_a_wrong_configuration_is_explained_and_not_tried_again(node: Node) -> None:
    node.run(["systemctl", "stop", "ropeway"])
    (node.machine.root / CONFIGURATION).write_text("encapsulation: classic\naddress: 10.0.0.1\n")
    assert node.run(["systemctl", "start", "ropeway"], check=False).returncode != 0
    assert node.unit("ActiveState") == "failed"
    assert node.unit("NRestarts") == "0"
    node.wait_said(f"/{CONFIGURATION}:")


def test_a_host_without_configuration_is_left_alone(node: Node) -> None:
    node.run(["systemctl", "stop", "ropeway"])
    (node.machine.root / CONFIGURATION).unlink()
    node.run(["systemctl", "start", "ropeway"])
    assert node.unit("ActiveState") == "inactive"


def test_purge_on_a_running_machine(node: Node) -> None:
    node.configure(_second(node), SECOND)
    node.run(["systemctl", "enable", "--now", "ropeway@second"])
    node.run(["ropeway", "genkey", "--file", "/etc/ropeway/second.key"])
    node.run(["ropeway", "genkey", "--file", "/etc/ropeway/second.key.next"])
    node.apt("remove", "ropeway")
    wanted = node.run(["ls", "/etc/systemd/system/multi-user.target.wants"]).stdout
    assert "ropeway@second" not in wanted
    assert (node.machine.root / KEY).exists()
    # Whoever wrote the file of a further network has to remove it.
    (node.machine.root / SECOND).unlink()
    node.apt("purge", "ropeway")
    assert node.kernel_state() == []
    assert node.run(["systemctl", "is-active", "ropeway"], check=False).stdout.strip() == "inactive"
    left = node.run(
        ["find", "/etc", "/usr", "/var/lib", "-name", "*ropeway*", "-not", "-path", "*/dpkg/*"]
    ).stdout
    assert left.split() == []
    assert node.run(["getent", "passwd", "ropeway"], check=False).stdout == ""


def privileges_of(node: Node, pid: str) -> privileges.Privileges:
    """Return what a process of the machine may do, as the machine's own /proc has it."""
    assert privileges.__file__ is not None
    with open(privileges.__file__, encoding="utf-8") as program:
        said = node.run(["python3", "-I", "-c", program.read(), pid]).stdout
    return privileges.Privileges(**json.loads(said))


def steward(node: Node) -> Tuple[str, int]:
    """Return the process ID of the steward, and how many others it has replaced."""
    found = node.status()["steward"]
    return str(found["pid"]), found["restarts"]


def test_the_engine_has_no_capability_and_nothing_open_that_takes_one(node: Node) -> None:
    found = privileges_of(node, node.unit("MainPID"))
    assert found.capabilities == dict.fromkeys(privileges.SETS, 0)
    assert (found.threads, found.netlink_sockets) == (1, 0)
    assert found.other_files(privileges.KEPT_OPEN) == []


def test_the_steward_has_the_two_capabilities_of_the_unit(node: Node) -> None:
    pid, _ = steward(node)
    found = privileges_of(node, pid)
    assert found.capabilities == dict.fromkeys(privileges.SETS, NETWORK)
    assert found.netlink_sockets > 0
    user = node.run(["ps", "-o", "user:20=", "-p", pid]).stdout.strip()
    assert user == "ropeway"


def test_packets_pass_while_the_steward_is_killed_and_replaced(node: Node) -> None:
    for other in node.others():
        process.wait_for(
            functools.partial(node.ping, other.address, count=1),
            what=f"A ping from {node.machine.name} to {other.address}",
            timeout_s=FORWARDING_LIMIT_S,
        )
    other = node.others()[0]
    engine = node.unit("MainPID")
    pid, restarts = steward(node)
    with ThreadPoolExecutor(1) as meanwhile:
        answered = meanwhile.submit(node.ping, other.address, count=PINGS)
        node.run(["kill", "-KILL", pid])
        process.wait_for(
            lambda: steward(node)[1] == restarts + 1 and steward(node)[0] not in ("0", pid),
            what=f"Another steward on {node.machine.name}",
            timeout_s=STEWARD_LIMIT_S,
        )
        assert not answered.done(), "the pings outlast it"
        assert answered.result() == PINGS
    assert node.status()["steward"]["fault"] == ""
    assert node.unit("MainPID") == engine


def test_the_exporter_reaches_the_agent_out_of_its_sandbox(node: Node) -> None:
    unit = "ropeway-exporter.service"
    assert node.run(["systemctl", "is-enabled", unit], check=False).stdout == "disabled\n"
    # The package only recommends the library, and these machines have no network to get it from.
    version = node.run(["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    place = f"usr/local/lib/python{version.stdout.strip()}/dist-packages/prometheus_client"
    library = Path(prometheus_client.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(library, node.machine.root / place, ignore=ignored, dirs_exist_ok=True)
    try:
        node.run(["systemctl", "start", unit])
        found = process.wait_for(
            lambda: node.run(["python3", "-c", SCRAPE], check=False).stdout,
            what=f"The exporter on {node.machine.name}",
            timeout_s=PATIENCE_S,
        )
        assert "\nropeway_up 1.0\n" in found, node.run(["journalctl", "-u", unit, "-n", "30"])
        pid = node.run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout.strip()
        status = node.run(["cat", f"/proc/{pid}/status"]).stdout
        assert "\nCapBnd:\t0000000000000000\n" in status
        assert "\nNoNewPrivs:\t1\n" in status
        assert "\nUid:\t0\t" not in status
    finally:
        node.run(["systemctl", "stop", unit])
        shutil.rmtree(node.machine.root / place)
