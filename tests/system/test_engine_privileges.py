"""What the engine does without once it runs: capabilities, files, netlink; the steward has them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ropeway.app.cli import EXIT_RESTART
from tests import privileges
from tests.system.bed.agents import Agent
from tests.system.bed.stage import Pair
from tests.system.bed.topology import until
from tests.system.bed.traffic import both_ways, ping

PATIENCE_S = 20.0
STEWARD_LIMIT_S = 5.0
# Python's audit events (sys.addaudithook) of whatever goes to the disk, asks for names, starts
# another process or opens a netlink socket. An import opens the module's file.
AUDIT = """
import os, socket, sys
engine = os.getpid()
report = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
watched = (
    "open", "ctypes.dlopen", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.scandir",
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
    "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname", "sqlite3.connect",
)

def hook(event, arguments):
    if event == "socket.__new__":
        if arguments[1] != socket.AF_NETLINK:
            return
    elif event not in watched:
        return
    # The keeper and the steward are forked from the engine, and inherit the hook.
    if os.getpid() == engine:
        os.write(report, f"{{event}} {{arguments[:1] + arguments[1:4]!r}}\\n".encode())

sys.addaudithook(hook)
"""
# An engine that was broken into can send its stewards whatever it likes.
FORGE = """
import json
from ropeway.steward import orders
forged = list({orders!r})
genuine = orders.encode

def encode(order):
    if forged and isinstance(order, orders.Resume):
        return json.dumps(forged.pop(0)).encode()
    return genuine(order)

orders.encode = encode
"""


def audited(agent: Agent) -> Path:
    """Have the agent's engine write down what it opens, into the file that is returned."""
    path = agent.log_path.with_suffix(".audit")
    agent.cheat += AUDIT.format(path=str(path))
    return path


def steward_of(agent: Agent) -> int:
    """The process ID of the agent's steward, as soon as there is one."""
    return int(until(lambda: agent.status()["steward"]["pid"], PATIENCE_S, agent.log))


def kill_steward(agent: Agent) -> None:
    """Kill the steward as `kill -9` does, and wait until another one has taken over."""
    before = steward_of(agent)
    restarts = agent.status()["steward"]["restarts"]
    os.kill(before, signal.SIGKILL)
    until(
        lambda: agent.status()["steward"]["restarts"] > restarts and steward_of(agent) != before,
        STEWARD_LIMIT_S,
        agent.log,
    )


def test_the_engine_opens_no_file_and_no_netlink_socket_after_its_start(each_pair: Pair) -> None:
    pair = each_pair
    a = pair.a_agent()
    opened = audited(a)
    a.start()
    while_starting = opened.read_text()
    assert "open (" in while_starting, "the hook sees what the start opens"
    b = pair.b_agent().start()
    pair.wait_whole(a, b)

    port = pair.a.ports["net1"]
    port.disable()
    a.wait_carrying(pair.b_address, pair.links()[0])
    port.enable()
    pair.wait_whole(a, b)
    port.change_address("192.168.1.77/24")
    a.wait_carrying(pair.b_address, *pair.links())
    assert a.reload().returncode == 0
    kill_steward(a)
    port.delete()
    a.wait_carrying(pair.b_address, pair.links()[0])
    b.kill()
    b.start()
    b.wait_carrying(pair.a_address, pair.links()[0][::-1])
    a.wait_carrying(pair.b_address, pair.links()[0])
    assert ping(pair.a, pair.b_address, count=20, interval_s=0.02).lost == 0

    assert opened.read_text()[len(while_starting) :] == ""


def test_the_engine_has_no_capability_and_nothing_open_that_takes_one(each_pair: Pair) -> None:
    a, b = each_pair.start()
    for agent in (a, b):
        found = privileges.of(agent.pid)
        assert found.capabilities == dict.fromkeys(privileges.SETS, 0)
        assert (found.threads, found.netlink_sockets) == (1, 0)
        assert found.other_files(privileges.KEPT_OPEN) == []
    keeper = privileges.of(a.keeper_pid)
    assert (keeper.threads, keeper.netlink_sockets) == (1, 0)
    steward = privileges.of(steward_of(a))
    assert steward.capabilities["CapEff"] & privileges.CAP_NET_ADMIN
    assert steward.netlink_sockets > 0


def test_a_process_like_the_engine_reaches_no_memory_of_keeper_and_steward(pair: Pair) -> None:
    a = pair.a_agent().start()
    with_none = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    for pid in (a.keeper_pid, steward_of(a)):
        for name in ("mem", "fd/0", f"map_files/{first_mapping(pid)}"):
            path = f"/proc/{pid}/{name}"
            opened = [sys.executable, "-c", f"open({path!r}, 'rb')"]
            assert subprocess.run(opened, check=False).returncode == 0, path
            refused = subprocess.run(
                [*with_none, *opened], check=False, capture_output=True, text=True
            )
            assert "PermissionError" in refused.stderr, path


def first_mapping(pid: int) -> str:
    """Return the addresses of a mapping of a file, as /proc has them."""
    return os.listdir(f"/proc/{pid}/map_files")[0]


def forge(agent: Agent, *orders: dict[str, Any]) -> None:
    """Have the agent's engine send these, one to each further steward, in place of `Resume`."""
    agent.cheat += FORGE.format(orders=orders)


def test_forged_orders_move_no_steward_to_another_device_or_port(each_pair: Pair) -> None:
    pair = each_pair
    a = pair.a_agent()
    settings = {"secure": True, "device_name": "forged0", "device_address": "10.9.9.1/24"}
    forge(
        a,
        {"order": "Begin", "settings": settings},
        {"order": "Resume", "settings": settings},
        {"order": "Begin", "reading": 1},
        {"order": "Resume", "reading": 7},
        {"order": "Resume", "reading": 1},
    )
    a.start()
    b = pair.b_agent().start()
    pair.wait_whole(a, b)
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        # The steward has read this, and an honest engine cannot go over to it.
        genuine = dict(a.config["device"])
        a.config["device"] = {**genuine, "name": "forged0"}
        assert a.reload().returncode == EXIT_RESTART
        os.kill(steward_of(a), signal.SIGKILL)
        # Three stewards end at the order that they get first, and the fourth goes on.
        until(lambda: refusal(a, "reading 7"), PATIENCE_S, a.log)
        os.kill(steward_of(a), signal.SIGKILL)
        until(lambda: refusal(a, "restart the agent"), PATIENCE_S, a.log)
        pair.a.ports["net1"].delete()
        a.wait_carrying(pair.b_address, pair.links()[0])
        pair.a.ports["net1"].create()
        pair.wait_whole(a, b)
    for verdict in verdicts.values():
        assert verdict.lost == 0, verdict
    assert a.log().count("the engine has sent") == 3
    names = [link["ifname"] for link in pair.a.ip_json("link")]
    assert (genuine["name"] in names, "forged0" in names) == (True, False)


def refusal(agent: Agent, part: str) -> bool:
    """Tell whether the status says that the steward has refused something."""
    return any(
        "the steward" in sentence and part in sentence for sentence in agent.status()["warnings"]
    )


@pytest.mark.alone
def test_nothing_is_lost_when_the_steward_is_killed(pair: Pair) -> None:
    a, b = pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        kill_steward(a)
        kill_steward(b)
    for verdict in verdicts.values():
        assert verdict.lost == 0, verdict
