"""What an operator types, and what comes back."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import stat
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.system.bed.agents import ROOT, Agent
from tests.system.bed.stage import Pair
from tests.system.bed.topology import until
from tests.system.bed.traffic import ping

BAD_CONFIG = """\
encapsulation: clasic
network: 10.0.0.0/24
address: 10.1.0.1
router: 10.0.0.2
divice: {name: ropeway0}
peers:
  - host: 10.0.0.300
    addresses: [192.168.0.3, 192.168.0.3]
control: {mode: 0660}
"""
OTHER_PYTHONS = sorted((ROOT / "build").glob("venv-3.*/bin/python")) or [Path(sys.executable)]


def bare_agent(pair: Pair) -> Agent:
    return pair.a_agent()


def test_status_has_what_its_published_schema_names_and_nothing_else(each_pair: Pair) -> None:
    a, _ = each_pair.start()
    ping(each_pair.a, each_pair.b_address, count=20, interval_s=0.005)
    printed = a.cli("status", "--schema")
    assert printed.returncode == 0, printed.stderr
    schema = jsonschema.Draft7Validator(json.loads(printed.stdout))
    told = a.cli("status", "--json", "--control", str(a.control_path))
    assert told.returncode == 0, told.stderr
    status = json.loads(told.stdout)
    assert status["peers"][0]["delivered"] == 20
    assert [error.message for error in schema.iter_errors(status)] == []


def test_every_error_of_a_configuration_is_named_at_once(pair: Pair, tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(BAD_CONFIG, encoding="utf-8")
    done = bare_agent(pair).cli("check-config", str(config))
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    lines = {int(number) for number in re.findall(rf"{re.escape(str(config))}:(\d+): ", printed)}
    assert {1, 3, 5, 7, 8} <= lines, printed
    for key in ("encapsulation", "address", "divice", "peers"):
        assert re.search(rf":\d+: {key}", printed), (key, printed)
    assert "device" in printed, "the nearest known key is named"


def test_agent_does_not_start_on_a_configuration_with_errors(pair: Pair, tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(BAD_CONFIG, encoding="utf-8")
    done = bare_agent(pair).cli("agent", "--config", str(config))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "clasic" in done.stdout + done.stderr


def test_good_configuration_is_ok(pair: Pair, tmp_path: Path) -> None:
    config = tmp_path / "good.yaml"
    agent = bare_agent(pair)
    config.write_text(json.dumps(agent.config), encoding="utf-8")
    done = agent.cli("check-config", str(config))
    assert (done.returncode, done.stdout.strip()) == (0, f"{config}: ok"), done.stderr


def test_control_socket_has_the_mode_and_owner_that_were_asked_for(pair: Pair) -> None:
    agent = pair.a_agent()
    agent.config["control"].update(mode="0600", owner="daemon", group="daemon")
    agent.start()
    status = agent.control_path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert agent.control_path.owner() == "daemon"
    assert agent.control_path.group() == "daemon"


def test_status_shows_the_tree(pair: Pair) -> None:
    a, _ = pair.start()
    done = a.cli("status", "--control", str(a.control_path))
    assert done.returncode == 0, done.stderr
    text = done.stdout
    for wanted in (
        r"- tun device: ropeway0\(\d+\)",
        r"- local devices:",
        r"- eth0\(2\): 192\.168\.0\.2",
        r"- eth1\(3\): 192\.168\.1\.2",
        r"- remote devices:",
        r"- 10\.0\.0\.2:",
        r"- 12: 192\.168\.0\.3(:51840)?",
        r"- 13: 192\.168\.1\.3(:51840)?",
        r"- connections:",
        r"- 2 -> 12 : state 2, sent \d+, received \d+",
        r"- 3 -> 13 : state 2, sent \d+, received \d+",
    ):
        assert re.search(wanted, text), f"{wanted!r} is missing from\n{text}"


def test_status_as_json_is_what_the_socket_says(pair: Pair) -> None:
    a, _ = pair.start()
    done = a.cli("status", "--json", "--control", str(a.control_path))
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert set(status) == set(a.status())
    assert status["encapsulation"] == "secure"
    assert status["address"] == pair.a_address
    assert status["uptime_s"] > 0


def test_remote_is_added_and_removed_at_run_time(classic_pair: Pair) -> None:
    pair = classic_pair
    a = pair.stage.agent(pair.a, pair.a_address, encapsulation="classic").start()
    b = pair.b_agent().start()
    assert a.peer_status(pair.b_address) is None
    for port in pair.b.ports.values():
        done = a.cli("remote", "add", pair.b_address, port.ip, "--control", str(a.control_path))
        assert done.returncode == 0, done.stderr
    pair.wait_whole(a, b)
    done = a.cli("remote", "remove", "10.0.0.77", "--control", str(a.control_path))
    assert done.returncode != 0
    assert "10.0.0.77" in done.stderr
    b.terminate()
    done = a.cli("remote", "remove", pair.b_address, "--control", str(a.control_path))
    assert done.returncode == 0, done.stderr
    until(
        lambda: a.peer_status(pair.b_address) is None,
        5,
        lambda: f"forgotten: {a.peer_status(b.address)}",
    )


def test_status_without_an_agent_says_so(pair: Pair) -> None:
    agent = bare_agent(pair)
    done = agent.cli("status", "--control", str(agent.control_path))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert str(agent.control_path) in done.stderr


def test_garbage_on_the_control_socket_harms_nobody(pair: Pair) -> None:
    a, _ = pair.start()
    clients = []
    for junk in (
        b"\0" * 100,
        b"{}\n",
        b"[1]\n",
        b'{"command": 7}\n',
        b"x" * (1 << 20),
        b"status\n",
    ):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(0.5)
        client.connect(str(a.control_path))
        # Closed on us in the middle of a line without end, as it should be.
        with contextlib.suppress(OSError):
            client.sendall(junk)
        clients.append(client)
    assert ping(pair.a, pair.b_address, count=50, interval_s=0.01).lost == 0
    assert a.status()["address"] == pair.a_address
    for client in clients:
        client.close()


@pytest.mark.parametrize("python", OTHER_PYTHONS, ids=lambda path: path.parent.parent.name)
def test_agent_runs_on_every_interpreter_that_is_here(pair: Pair, python: Path) -> None:
    a = pair.a_agent(python=str(python)).start()
    b = pair.b_agent(python=str(python)).start()
    pair.wait_whole(a, b)
    verdict = ping(pair.a, pair.b_address, count=50, interval_s=0.005)
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict
    assert a.terminate() == 0, a.log()
    assert b.terminate() == 0, b.log()
