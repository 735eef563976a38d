"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from ropeway import __version__
from ropeway.app import cleanup, cli, config, control, runtime
from tests.unit.app.test_tree import STATUS, TREE

GOOD = "encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: 10.0.0.1\n"


@pytest.fixture(autouse=True)
def keep_log_handlers():
    """Undo what the command `agent` does to the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def asked(monkeypatch):
    """Answer every request with the status of the tree's test, and keep it."""
    requests = []

    def request(path, message, timeout_s=0.0):
        requests.append((path, message))
        return STATUS

    monkeypatch.setattr(control, "request", request)
    return requests


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"ropeway {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["remote"], ["remote", "add", "10.0.0.2"]])
def test_wrong_command_line(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ropeway")


def test_status_prints_the_tree(asked, capsys):
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == TREE + "\n"
    assert asked == [(config.DEFAULT_CONTROL_PATH, {"command": "status"})]


def test_status_as_json(asked, capsys):
    assert cli.main(["status", "--json", "--control", "/elsewhere"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    assert asked == [("/elsewhere", {"command": "status"})]


def test_remote_commands(asked, capsys):
    assert cli.main(["remote", "add", "10.0.0.2", "1.2.3.4", "--index", "5"]) == 0
    assert cli.main(["remote", "remove", "10.0.0.2"]) == 0
    assert cli.main(["remote", "remove", "10.0.0.2", "1.2.3.4"]) == 0
    assert [message for _, message in asked] == [
        {"command": "remote-add", "host": "10.0.0.2", "address": "1.2.3.4", "index": 5},
        {"command": "remote-remove", "host": "10.0.0.2", "address": None},
        {"command": "remote-remove", "host": "10.0.0.2", "address": "1.2.3.4"},
    ]
    assert capsys.readouterr().out == ""


def test_no_agent(tmp_path, capsys):
    assert cli.main(["status", "--control", str(tmp_path / "none.sock")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ropeway: no agent answers on ")


def test_check_config(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    assert cli.main(["check-config", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"
    path.write_text(GOOD + "forwrd: true\nrouter: x\n")
    assert cli.main(["check-config", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{path}:4: forwrd: unknown key: did you mean forward?"
    assert lines[1].startswith(f"{path}:5: router: ")


def test_agent_with_a_configuration_that_does_not_hold(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text("forwrd: true\n")
    assert cli.main(["agent", "--config", str(path)]) == cli.EXIT_CONFIG == 78
    assert f"{path}:1: forwrd: " in capsys.readouterr().err


def test_agent_that_cannot_start(tmp_path, capsys, monkeypatch):
    def refuse(self):
        raise runtime.StartError("there is no program nft: install the package nftables")

    monkeypatch.setattr(runtime.Runtime, "run", refuse)
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    assert cli.main(["agent", "--config", str(path)]) == 1
    assert "ERROR: there is no program nft" in capsys.readouterr().err


def test_configuration_that_only_the_node_refuses(tmp_path, capsys, monkeypatch):
    def refuse(self):
        raise config.ConfigError(["remotes: 10.0.0.2 has too many"])

    monkeypatch.setattr(runtime.Runtime, "run", refuse)
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    assert cli.main(["agent", "--config", str(path)]) == cli.EXIT_CONFIG
    assert "ERROR: remotes: 10.0.0.2 has too many" in capsys.readouterr().err


class TestCleanup:
    """What is removed, and what is not."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "r.yaml"
        path.write_text(GOOD + f"device: {{name: rope7}}\ncontrol: {{path: {tmp_path}/c.sock}}\n")
        return path

    def test_names_come_from_the_configuration(self, path, tmp_path, monkeypatch, capsys):
        called = []

        def clean_up(*names):
            called.append(names)
            return ["removed the device rope7"]

        monkeypatch.setattr(cleanup, "clean_up", clean_up)
        assert cli.main(["cleanup", "--config", str(path)]) == 0
        assert called == [(f"{tmp_path}/c.sock", "rope7")]
        assert capsys.readouterr().out == "removed the device rope7\n"

    @pytest.mark.parametrize(
        "text", ["", "[a]", "control: 7", "control: {path: 7}", "a: [", "device:", "[" * 2000, None]
    )
    def test_default_names_where_the_configuration_tells_none(
        self, tmp_path, monkeypatch, capsys, text
    ):
        monkeypatch.setattr(cleanup, "clean_up", lambda *names: list(names))
        path = tmp_path / "r.yaml"
        if text is not None:
            path.write_text(text)
        assert cli.main(["cleanup", "--config", str(path)]) == 0
        printed = capsys.readouterr()
        assert printed.out.splitlines() == [config.DEFAULT_CONTROL_PATH, "ropeway0"]
        assert "so the default names are cleaned up" in printed.err

    def test_nothing_heavy_is_loaded_where_no_device_is_left(self, path):
        script = (
            "import sys\n"
            "from ropeway.app import cleanup, cli\n"
            "cleanup.firewall.delete = lambda table: False\n"
            f"cli.main(['cleanup', '--config', {str(path)!r}])\n"
            "heavy = {'pyroute2', 'jsonschema', 'ropeway.app.runtime', 'ropeway.core.node'}\n"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)

    @pytest.mark.parametrize(
        ("changes", "held", "goes"),
        [
            ({"kind": "tun", "alias": "ropeway"}, False, True),
            ({"kind": "tun", "alias": "ropeway"}, True, False),
            ({"kind": "tun", "alias": None}, False, False),
            ({"kind": "veth", "alias": "ropeway"}, False, False),
        ],
    )
    def test_only_a_device_of_ours_goes(self, tmp_path, monkeypatch, changes, held, goes):
        from tests.unit.app.fake_kernel import interface

        deleted = []
        from ropeway.kernel import netlink

        (tmp_path / "ropeway0").mkdir()
        monkeypatch.setattr(cleanup, "INTERFACES_DIRECTORY", str(tmp_path))
        monkeypatch.setattr(cleanup.firewall, "delete", lambda table: False)
        monkeypatch.setattr(netlink, "delete", deleted.append)
        monkeypatch.setattr(cleanup, "_is_held", lambda name: held)
        monkeypatch.setattr(netlink, "dump", lambda: [interface(9, "ropeway0", **changes)])
        done = cleanup.clean_up(str(tmp_path / "c.sock"), "ropeway0")
        assert done == (["removed the device ropeway0"] if goes else [])
        assert deleted == ([9] if goes else [])
