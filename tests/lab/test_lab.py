"""The whole of it: three real hosts, rolled out by site.yml over SSH, disturbed and removed.

Runs as root. The tests stand in the order of a lab's life and build on each other.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from tests.lab import agents, network, process, roots
from tests.lab.capture import Capture, capturing
from tests.lab.demo import RATE, Demo
from tests.lab.deploy import deploy
from tests.lab.errors import LabError
from tests.lab.keys import ssh_answers
from tests.lab.lab import Lab
from tests.lab.machines import CHECKOUT, NSPAWN_LEFTOVERS, Machine
from tests.lab.stream import Result, Stream, finish, flowing
from tests.lab.topology import HOUSE, MANAGEMENT

INVENTORY = CHECKOUT / "inventories" / "lab"
HOSTS = ("vm0", "vm1", "vm2")
# Steps of a roll-out on one host that has all that the inventory says, skipped ones too. The router
# takes 53; each step costs a large fleet minutes.
UNCHANGED_STEPS_MAX = 60
RECOVERY_LIMIT_MS = 2000.0
STREAM_LIMIT_S = 300.0
AGENT_LIMIT_S = 60.0
#: A start that the machine was too busy for, or stood still in, is repeated; one in time will do.
ATTEMPTS = 3
# So many packets have to arrive before a stream counts as flowing.
FLOWS = 200
# The agents' UDP port, and for how long the LANs are listened to.
PORT = 51840
LISTEN_S = 3.0
# Of so many frames hardly one holds four given bytes by chance: 25 000 frames of 300 bytes hold one
# of three addresses with a probability of half a percent.
BY_CHANCE = 1
# Not the default prefix and network: a lab that somebody has up stays up.
PREFIX = "rwtst-"
HOUSE_NETWORK, NETWORK = "172.30.77.", "172.30.91."
# The second lab of these tests, small and beside the first one.
OTHER_PREFIX = "rwtry-"
OTHER = {
    "lans": ["net0"],
    "management": {"interface": "mgmt0", "network": "172.30.90.0/24", "controller": "172.30.90.1"},
    "hosts": {"one": {"management": "172.30.90.10", "interfaces": {"eth0": "net0"}}},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert os.geteuid() == 0, "The lab makes machines and bridges: run its tests as root."
    file = tmp_path_factory.mktemp("lab") / "topology.json"
    house = HOUSE.read_text()
    assert house.count(HOUSE_NETWORK) == 2 + len(HOSTS)
    file.write_text(house.replace(HOUSE_NETWORK, NETWORK))
    made = Lab(PREFIX, file)
    made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def overlaid(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    """The options with which site.yml finds this lab by the inventory of the default one."""
    folder = tmp_path_factory.mktemp("inventory")
    files: Dict[str, Any] = {
        "hosts.yml": {"ropeway": {"hosts": dict.fromkeys(HOSTS)}},
        "group_vars/ropeway.yml": {"lab_keys": str(lab.build)},
    }
    for name in HOSTS:
        address = lab.topology.host(name).management
        files[f"host_vars/{name}.yml"] = {"ansible_host": address}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        # JSON is YAML.
        (folder / name).write_text(json.dumps(content))
    return ["-i", str(folder)]


@pytest.fixture(scope="module")
def deployed(lab: Lab, overlaid: List[str]) -> Dict[str, Dict[str, int]]:
    return deploy(INVENTORY, overlaid)


@pytest.fixture
def whole(lab: Lab, deployed: Dict[str, Dict[str, int]]) -> Lab:
    """The lab with every link carrying traffic."""
    agents.wait_all_carry(lab)
    return lab


@contextlib.contextmanager
def both_ways(lab: Lab) -> Iterator[List[Stream]]:
    vm0, vm2 = lab.machine("vm0"), lab.machine("vm2")
    there = agents.status(vm2)["address"]
    back = agents.status(vm0)["address"]
    streams = [
        Stream(vm0, vm2, there, rate=RATE, limit_s=STREAM_LIMIT_S),
        Stream(vm2, vm0, back, rate=RATE, limit_s=STREAM_LIMIT_S),
    ]
    before = {
        machine.name: agents.status(machine)["counters"]["delivered"] for machine in (vm0, vm2)
    }
    with flowing(streams):
        process.wait_for(
            lambda: all(
                agents.status(lab.machine(name))["counters"]["delivered"] > count + FLOWS
                for name, count in before.items()
            ),
            what="Packets arriving both ways",
            timeout_s=AGENT_LIMIT_S,
        )
        yield streams


def main_pid(machine: Machine) -> int:
    shown = machine.run(["systemctl", "show", "--property=MainPID", "--value", "ropeway"])
    return int(shown.stdout)


def kernel_leftovers(machine: Machine) -> List[str]:
    """What of the agent there is in a machine's kernel and file system."""
    links = json.loads(machine.run(["ip", "-j", "link", "show"]).stdout)
    found = [link["ifname"] for link in links if link["ifname"] == "ropeway0"]
    rules = json.loads(machine.run(["nft", "-j", "list", "tables"]).stdout)["nftables"]
    tables = [rule["table"]["name"] for rule in rules if "table" in rule]
    found += [name for name in tables if name.startswith("ropeway")]
    socket = "/run/ropeway/control.sock"
    if machine.run(["test", "-e", socket], check=False).returncode == 0:
        found.append(socket)
    return found


def test_no_host_waits_for_processes_of_another(lab):
    """systemd knows a service's processes by their control group."""
    groups: List[str] = []
    for machine in lab.machines.values():
        lines = Path(f"/proc/{machine.leader()}/cgroup").read_text().splitlines()
        groups += [line for line in lines if line.split(":")[1] in ("", "name=systemd")]
    assert groups
    assert len(set(groups)) == len(groups)


def test_site_yml_rolls_out_every_host(deployed):
    assert set(HOSTS) <= set(deployed)
    for host in HOSTS:
        assert deployed[host]["failed"] == deployed[host]["unreachable"] == 0
        assert deployed[host]["changed"] > 0


def test_a_second_run_changes_nothing(whole, overlaid):
    recap = deploy(INVENTORY, overlaid)
    assert set(HOSTS) <= set(recap)
    assert {host: counts["changed"] for host, counts in recap.items()} == dict.fromkeys(recap, 0)
    # What is right is left alone in one step, and not in each of those that would put it right.
    steps = {host: counts["ok"] + counts["skipped"] for host, counts in recap.items()}
    assert max(steps.values()) <= UNCHANGED_STEPS_MAX, steps


def test_nothing_is_lost_or_duplicated_while_any_link_is_cut(whole):
    assert Demo(whole, "vm0", "vm2").run()
    report = json.loads((whole.build / "demo.json").read_text())
    rope, single = report["measurements"]
    wires = {
        (host.name, lan)
        for host in whole.topology.hosts.values()
        for lan in host.interfaces.values()
    }
    assert {(cut["host"], cut["lan"]) for cut in rope["cuts"]} == wires
    assert {(r["source"], r["target"]) for r in rope["results"]} == {("vm0", "vm2"), ("vm2", "vm0")}
    # Every cut did cut: an end of the link gave it up.
    for cut in rope["cuts"] + single["cuts"]:
        assert cut["noticed_s"] is not None, cut
    for result in rope["results"]:
        assert result["sent"] > 5 * RATE
        assert (result["lost"], result["duplicated"]) == (0, 0), result
    assert all(result["lost"] > 0 for result in single["results"])


def listen_to_the_lans(lab: Lab) -> Tuple[Capture, Dict[str, bytes], int]:
    """What passes the LANs under the demonstration's streams and a TCP connection.

    With the frames, what their inner packets hold, and how many packets were sent.
    """
    vm0, vm2 = lab.machine("vm0"), lab.machine("vm2")
    addresses = [socket.inet_aton(agents.status(m)["address"]) for m in (vm0, vm2)]
    there = socket.inet_ntoa(addresses[1])
    # The kernel's TCP and the other end's sshd: text that nobody here has chosen.
    greet = f"exec 3<>/dev/tcp/{there}/22; head -c 8 <&3"
    with capturing(lab) as captured, both_ways(lab) as streams:
        banner = vm0.run(["bash", "-c", greet]).stdout.encode()
        time.sleep(LISTEN_S)
        results = finish(streams)
    assert banner == b"SSH-2.0-", banner
    for result in results:
        assert (result.lost, result.duplicated) == (0, 0), result
    inner = {f"marker {stream.source.name}": stream.marker() for stream in streams}
    inner["header there"] = addresses[0] + addresses[1]
    inner["header back"] = addresses[1] + addresses[0]
    inner["padding"] = bytes(64)
    inner["banner"] = banner
    return captured, inner, sum(result.sent for result in results)


def test_no_inner_byte_is_in_clear_on_the_lans(whole):
    captured, inner, sent = listen_to_the_lans(whole)
    assert captured.dropped == 0
    # Each packet crosses two LANs on its way to the router and two after it.
    assert captured.to_port(PORT) > 3 * sent > 3 * RATE * LISTEN_S
    assert captured.holding(inner) == dict.fromkeys(inner, 0)
    hosts = [socket.inet_aton(agents.status(machine)["address"]) for machine in _all(whole)]
    showing = sum(any(address in frame for address in hosts) for frame in captured.frames)
    assert showing <= BY_CHANCE


def _all(lab: Lab) -> List[Machine]:
    return list(lab.machines.values())


@pytest.mark.parametrize("name", HOSTS)
def test_a_killed_agent_is_back_within_two_seconds(whole, name):
    machine = whole.machine(name)
    for _ in range(ATTEMPTS):
        before = main_pid(machine)
        with both_ways(whole) as streams:
            machine.run(["kill", "-KILL", str(before)])
            process.wait_for(
                lambda before=before: (
                    main_pid(machine) not in (0, before) and agents.answers(machine)
                ),
                what=f"The agent of {name} coming back",
                timeout_s=AGENT_LIMIT_S,
            )
            agents.wait_all_carry(whole)
            results = finish(streams)
        for result in results:
            _resumed(result)
            assert result.duplicated == 0, result
        silent_ms = max(result.receiver["silence_max_ms"] for result in results)
        if silent_ms < RECOVERY_LIMIT_MS:
            break
    assert silent_ms < RECOVERY_LIMIT_MS, results


def _resumed(result: Result) -> None:
    # The last packet of all arrived: the stream was flowing again at the end.
    assert result.receiver["highest"] == result.sent - 1, result


@pytest.mark.parametrize("name", ["vm1", "vm0"])
def test_a_rebooted_host_comes_back_by_itself(whole, name):
    machine = whole.machine(name)
    machine.reboot()
    process.wait_for(
        lambda: agents.answers(machine),
        what=f"The agent of {name} answering after the reboot",
        timeout_s=AGENT_LIMIT_S,
    )
    agents.wait_all_carry(whole)
    target = agents.status(whole.machine("vm2"))["address"]
    whole.machine("vm0").run(["ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", target])


@pytest.mark.parametrize("manner", ["silent", "carrier"])
def test_a_host_whose_management_link_is_cut_is_off_for_the_controller_until_it_is_mended(
    whole, manner
):
    host = whole.topology.host("vm2")
    assert ssh_answers(host)
    whole.cut(host.name, MANAGEMENT, manner)
    try:
        assert not ssh_answers(host)
        assert agents.answers(whole.machine(host.name)), "only the controller is to miss it"
    finally:
        whole.restore(host.name, MANAGEMENT)
    process.wait_for(
        lambda: ssh_answers(host), what=f"{host.name} answering again", timeout_s=AGENT_LIMIT_S
    )


def test_a_stopped_agent_leaves_nothing(whole):
    machine = whole.machine("vm2")
    assert kernel_leftovers(machine), "The check sees nothing even while the agent runs."
    machine.run(["systemctl", "stop", "ropeway"])
    assert kernel_leftovers(machine) == []
    machine.run(["systemctl", "start", "ropeway"])
    agents.wait_all_carry(whole)


def test_cleanup_removes_what_a_killed_agent_left(whole):
    machine = whole.machine("vm2")
    refused = machine.run(["ropeway", "cleanup"], check=False)
    assert refused.returncode != 0, "It cleaned up under a running agent."
    machine.run(["systemctl", "stop", "ropeway"])
    with subprocess.Popen(
        machine.enter(["ropeway", "agent"]), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as entering:
        process.wait_for(
            lambda: agents.answers(machine), what="The agent answering", timeout_s=AGENT_LIMIT_S
        )
        # nsenter's one child is the agent.
        (agent,) = process.children_of(entering.pid)
        process.end(agent, signal.SIGKILL)
    assert kernel_leftovers(machine), "A killed agent left nothing to clean up: nothing is tested."
    machine.run(["ropeway", "cleanup"])
    assert kernel_leftovers(machine) == []
    machine.run(["systemctl", "start", "ropeway"])
    agents.wait_all_carry(whole)


def test_a_classic_network_shows_every_inner_byte(whole, overlaid):
    """The counterpart: the same ears hear everything where nothing is sealed."""
    deploy(INVENTORY, [*overlaid, "-e", "ropeway_encapsulation=classic"])
    agents.wait_all_carry(whole)
    captured, inner, sent = listen_to_the_lans(whole)
    assert captured.to_port(PORT) == 0
    found = captured.holding(inner)
    assert all(count > 0 for count in found.values()), found
    assert sum(count for name, count in found.items() if name.startswith("marker")) > 3 * sent


def test_down_leaves_nothing(lab, deployed):
    lab.down()
    _nothing_of(lab)
    lab.down()


def _nothing_of(lab: Lab) -> None:
    assert lab.leftovers() == []
    # The same once more, not as the lab itself looks for it.
    name = lab.prefix.rstrip("-")
    assert network.interfaces(lab.prefix) == []
    assert not any(f"/{name}/" in str(mount.target) for mount in roots.mounts())
    assert not (Path("/var/lib/ropeway-lab") / name).exists()
    for folder in (Path(folder) for folder in NSPAWN_LEFTOVERS):
        assert not folder.exists() or not list(folder.glob(f"{lab.prefix}*"))
    mine = [pid for pid in process.processes() if f"--machine={lab.prefix}" in _line(pid)]
    assert mine == []


def _line(pid: int) -> str:
    return " ".join(process.arguments_of(pid))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Lab]:
    file = tmp_path / "topology.json"
    file.write_text(json.dumps(OTHER))
    made = Lab(OTHER_PREFIX, file)
    yield made
    made.down()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_an_interrupted_up_leaves_nothing_that_down_cannot_remove(other, tmp_path, number):
    command = [sys.executable, "-m", "tests.lab", "--prefix", other.prefix]
    command += ["--topology", str(tmp_path / "topology.json")]
    # A shell's background job, as CI's may be, would hand down an ignored SIGINT.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([*command, "up"], cwd=CHECKOUT, preexec_fn=heed) as starting:
        process.wait_for(
            lambda: other.machine("one").pids(), what="A machine starting", timeout_s=60, poll_s=0
        )
        starting.send_signal(number)
    if number == signal.SIGINT:
        assert starting.returncode == 130
        assert other.leftovers() == []
    else:
        assert other.leftovers(), "Nothing was left: nothing is tested."
        assert not other.owned(), "`down` alone would not find that its maker is gone."
    subprocess.run([*command, "down"], cwd=CHECKOUT, check=True)
    _nothing_of(other)


def test_two_labs_stand_side_by_side_and_a_taken_network_is_refused(other, tmp_path):
    other.up()
    assert other.owned()
    assert other.machine("one").run(["hostname"]).stdout == "one\n"
    with pytest.raises(LabError, match=r"172\.30\.90\.0/24"):
        Lab("rwtrz-", tmp_path / "topology.json").up()
    assert HOUSE.exists()
    assert other.machine("one").leader() is not None
