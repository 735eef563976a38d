"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys

import pytest

from ropeway import __version__
from ropeway.app import capture, cleanup, cli, errors
from ropeway.app.commands import captured, keypair
from ropeway.app.config import model, read
from ropeway.app.control import answer, client
from ropeway.app.engine import engine
from ropeway.app.store import keys
from tests.unit.app.control.test_tree import STATUS, TREE
from tests.unit.app.test_capture import PACKET, SESSION, frame, pcap, udp4

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

    monkeypatch.setattr(client, "request", request)
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
    assert asked == [(model.DEFAULT_CONTROL_PATH, {"command": "status"})]


def test_status_as_json(asked, capsys):
    assert cli.main(["status", "--json", "--control", "/elsewhere"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    assert asked == [("/elsewhere", {"command": "status"})]


def test_status_of_the_links_alone(asked, capsys):
    assert cli.main(["status", "--links"]) == 0
    own, _, _ = TREE.partition("- remote devices:")
    assert capsys.readouterr().out == own
    assert cli.main(["status", "--links", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**STATUS, "peers": []}


def test_status_of_one_host(asked, capsys):
    one = STATUS["peers"][0]
    assert cli.main(["status", "--peer", one["host"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "- remote devices:"
    hosts = [line for line in lines if line.startswith("  - ")]
    assert all(line.startswith(f"  - {one['host']}:") for line in hosts)
    assert len(hosts) == 2
    assert cli.main(["status", "--peer", one["host"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**STATUS, "peers": [one]}
    assert cli.main(["status", "--peer", "10.0.0.99"]) == 1
    assert "no host 10.0.0.99 is known" in capsys.readouterr().err


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


def test_budget_command(asked, capsys):
    assert cli.main(["budget", "set", "wwan0", "3.2GB"]) == 0
    assert cli.main(["budget", "set", "wwan0", "0"]) == 0
    messages = [message for _, message in asked]
    assert [message["used_bytes"] for message in messages] == [3_200_000_000, 0]
    assert messages[0] == {"command": "budget-set", "link": "wwan0", "used_bytes": 3_200_000_000}
    assert capsys.readouterr().err == ""
    for amount in ("much", "-1", "2000TB", ""):
        assert cli.main(["budget", "set", "wwan0", "--", amount]) == 1
        assert "write a number of bytes up to 1000 TB" in capsys.readouterr().err
    assert len(asked) == 2


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
    assert lines[0] == f"{path}:4: forwrd: unknown setting: did you mean forward?"
    assert lines[1].startswith(f"{path}:5: router: ")


def test_agent_with_a_configuration_that_does_not_hold(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text("forwrd: true\n")
    assert cli.main(["agent", "--config", str(path)]) == cli.EXIT_CONFIG == 78
    assert f"{path}:1: forwrd: " in capsys.readouterr().err


def test_agent_that_cannot_start(tmp_path, capsys, monkeypatch):
    def refuse(self):
        raise errors.StartError("there is no program nft: install the package nftables")

    naps = []
    monkeypatch.setattr(cli.time, "sleep", naps.append)
    monkeypatch.setattr(engine.Engine, "run", refuse)
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    assert cli.main(["agent", "--config", str(path)]) == 1
    assert naps == [cli.START_AGAIN_S], "the service starts again and again without a pause"
    assert "ERROR: there is no program nft" in capsys.readouterr().err


def test_configuration_that_only_the_node_refuses(tmp_path, capsys, monkeypatch):
    def refuse(self):
        raise errors.ConfigError(["remotes: 10.0.0.2 has too many"])

    monkeypatch.setattr(engine.Engine, "run", refuse)
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    assert cli.main(["agent", "--config", str(path)]) == cli.EXIT_CONFIG
    assert "ERROR: remotes: 10.0.0.2 has too many" in capsys.readouterr().err


def test_reload(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "control: {path: /run/second.sock}\n")
    assert cli.main(["reload"]) == 0
    assert cli.main(["reload", "--control", "/elsewhere"]) == 0
    assert cli.main(["reload", "--config", "r.yaml"]) == 0
    assert cli.main(["reload", "--config", str(path), "--control", "/elsewhere"]) == 0
    named = {"command": "reload", "config": str(path)}
    assert asked == [
        (model.DEFAULT_CONTROL_PATH, {"command": "reload"}),
        ("/elsewhere", {"command": "reload"}),
        ("/run/second.sock", named),
        ("/elsewhere", named),
    ]
    path.write_text("[")
    assert cli.main(["reload", "--config", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
    assert cli.main(["reload", "--config", str(path), "--control", "/elsewhere"]) == 0


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("agent", model.DEFAULT_PATH),
        ("cleanup", model.DEFAULT_PATH),
        ("check-config", model.DEFAULT_PATH),
        ("reload", model.DEFAULT_CONTROL_PATH),
        ("status", model.DEFAULT_CONTROL_PATH),
        ("remote add", model.DEFAULT_CONTROL_PATH),
    ],
)
def test_help_tells_the_defaults(command, default, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    assert default in capsys.readouterr().out


@pytest.mark.parametrize(("reason", "code"), [(None, 1), (answer.REASON_RESTART, 3)])
def test_reload_that_is_refused(monkeypatch, capsys, reason, code):
    def refuse(path, message, timeout_s=0.0):
        raise client.ControlError("port: only a restart changes that", reason)

    monkeypatch.setattr(client, "request", refuse)
    assert cli.main(["reload"]) == code
    assert capsys.readouterr().err == "ropeway: port: only a restart changes that\n"


class TestKeys:
    """`genkey` and `pubkey`."""

    def test_key_is_made_once_and_its_public_key_printed(self, tmp_path, capsys):
        path = tmp_path / "private.key"
        assert cli.main(["genkey", "--file", str(path)]) == 0
        printed = capsys.readouterr().out
        assert cli.main(["pubkey", "--file", str(path)]) == 0
        assert capsys.readouterr().out == printed
        assert keys.decode(printed.strip()) == keys.public_of(keys.read_private(str(path)))
        content = path.read_text()
        assert cli.main(["genkey", "--file", str(path)]) == 1
        refused = capsys.readouterr()
        assert (refused.out, path.read_text()) == ("", content)
        assert f"{path} is there already" in refused.err
        assert content.strip() not in printed + refused.err

    def test_place_comes_from_the_configuration(self, tmp_path, capsys):
        settings = tmp_path / "r.yaml"
        settings.write_text(f"private_key_file: {tmp_path}/elsewhere.key\n")
        assert cli.main(["genkey", "--config", str(settings)]) == 0
        assert sorted(os.listdir(tmp_path)) == ["elsewhere.key", "r.yaml"]

    @pytest.mark.parametrize(
        "text", [None, "[a]", "private_key_file: 7", "private_key_file: k", "{"]
    )
    def test_configuration_that_does_not_say_where(self, tmp_path, capsys, text):
        settings = tmp_path / "r.yaml"
        if text is not None:
            settings.write_text(text)
        assert cli.main(["pubkey", "--config", str(settings)]) == 1
        assert "use --file" in capsys.readouterr().err

    @pytest.mark.parametrize("there", [False, True])
    def test_default_place(self, tmp_path, monkeypatch, capsys, there):
        monkeypatch.setattr(keypair, "DEFAULT_PATH", str(tmp_path / "r.yaml"))
        monkeypatch.setattr(model, "DEFAULT_PRIVATE_KEY_PATH", str(tmp_path / "default.key"))
        if there:
            (tmp_path / "r.yaml").write_text(f"private_key_file: {tmp_path}/own.key\n")
        assert cli.main(["genkey"]) == 0
        assert (tmp_path / ("own.key" if there else "default.key")).exists()

    def test_key_that_is_not_there(self, tmp_path, capsys):
        assert cli.main(["pubkey", "--file", str(tmp_path / "none")]) == 1
        assert "make it with `ropeway genkey`" in capsys.readouterr().err


def test_check_config_with_and_without_keys(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(f"network: 10.0.0.0/24\naddress: 10.0.0.1\nprivate_key_file: {tmp_path}/none\n")
    assert cli.main(["check-config", "--without-keys", str(path)]) == 0
    assert cli.main(["check-config", str(path)]) == 1
    assert "none is not there: make it with `ropeway genkey`" in capsys.readouterr().err


class TestPortOfAnotherProgram:
    """It is mentioned, as long as it is no agent of this configuration that has it."""

    @pytest.fixture
    def path(self, tmp_path):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            key = tmp_path / "private.key"
            keys.make_private(str(key))
            path = tmp_path / "r.yaml"
            path.write_text(
                f"network: 10.0.0.0/24\naddress: 10.0.0.1\nport: {other.getsockname()[1]}\n"
                f"private_key_file: {key}\ncontrol: {{path: {tmp_path}/c.sock}}\n"
            )
            yield path

    @pytest.fixture(autouse=True)
    def no_user(self, monkeypatch):
        monkeypatch.setattr(keys, "service_user", lambda: None)

    def test_program_has_it(self, path, capsys):
        assert cli.main(["check-config", str(path)]) == 0
        assert "another program, perhaps a second agent, has UDP port" in capsys.readouterr().err
        assert cli.main(["check-config", "--without-keys", str(path)]) == 0
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(("offset", "told"), [(0, False), (1, True)])
    def test_agent_has_it_or_another_port(self, path, capsys, monkeypatch, offset, told):
        port = read.read(str(path)).port + offset
        monkeypatch.setattr(client, "request", lambda path, message: {"port": port})
        assert cli.main(["check-config", str(path)]) == 0
        assert ("another program" in capsys.readouterr().err) is told

    def test_nobody_has_it(self, path, capsys):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            free = probe.getsockname()[1]
        port = read.read(str(path)).port
        path.write_text(path.read_text().replace(f"port: {port}", f"port: {free}"))
        assert cli.main(["check-config", str(path)]) == 0
        assert capsys.readouterr().err == ""


class TestKeylog:
    """The keys of sessions, printed and followed."""

    @pytest.fixture
    def sessions(self, monkeypatch):
        answers = [[SESSION]]
        self.connections = []

        class Connection:
            def __init__(connection, path):
                self.connections.append(path)

            def request(connection, message):
                assert message == {"command": "keylog"}
                answer = answers[0] if len(answers) == 1 else answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            def __enter__(connection):
                return connection

            def __exit__(connection, *_):
                pass

        monkeypatch.setattr(client, "Connection", Connection)
        return answers

    @pytest.fixture
    def naps(self, monkeypatch):
        """Interrupt the command in its fourth pause, and tell how long they were."""
        naps = []

        def sleep(seconds):
            naps.append(seconds)
            if len(naps) == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr(captured.time, "sleep", sleep)
        return naps

    def test_to_the_terminal(self, sessions, capsys):
        assert cli.main(["keylog"]) == 0
        assert capsys.readouterr().out.splitlines() == capture.key_lines([SESSION])

    def test_to_a_file_that_nobody_else_reads(self, sessions, tmp_path):
        path = tmp_path / "keys"
        before = os.umask(0)
        try:
            assert cli.main(["keylog", "--output", str(path)]) == 0
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o600
        assert cli.main(["keylog", "--output", str(path)]) == 0
        assert path.read_text().splitlines() == capture.key_lines([SESSION]) * 2

    @pytest.mark.parametrize("there", ["open", "link", "pipe", "directory", "device", "foreign"])
    def test_what_stands_there_already_stays_as_it_is(
        self, sessions, tmp_path, monkeypatch, capsys, there
    ):
        path, other = tmp_path / "keys", tmp_path / "other"
        if there == "link":
            other.write_text("precious")
            other.chmod(0o600)
            path.symlink_to(other)
        elif there == "pipe":
            os.mkfifo(path)
        elif there == "directory":
            path.mkdir()
        elif there == "device":
            path = type(path)("/dev/null")
        else:
            path.write_text("precious")
            path.chmod(0o644 if there == "open" else 0o600)
        if there == "foreign":
            owner = os.geteuid()
            monkeypatch.setattr(captured.os, "geteuid", lambda: owner + 1)
        before = path.lstat().st_mode
        assert cli.main(["keylog", "--output", str(path)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert f"ropeway: {path} is " in printed.err
        assert path.lstat().st_mode == before
        for file in (path, other):
            assert not file.is_file() or file.read_text() == "precious"

    def test_follow_adds_what_is_new_until_interrupted(self, sessions, naps, capsys):
        second = {**SESSION, "receive_index": "00000001", "send_index": "00000002"}
        sessions[:] = [[SESSION], [SESSION, second], [second], [SESSION]]
        assert cli.main(["keylog", "--follow"]) == 0
        assert capsys.readouterr().out.splitlines() == capture.key_lines([SESSION, second])
        assert naps == [captured.KEYLOG_EVERY_S] * 4
        assert self.connections == [model.DEFAULT_CONTROL_PATH]

    def test_follow_outlasts_a_restart_of_the_agent(self, sessions, naps, capsys):
        gone = client.NoAnswer("no agent answers")
        sessions[:] = [[], gone, gone, [SESSION]]
        assert cli.main(["keylog", "--follow"]) == 0
        printed = capsys.readouterr()
        assert printed.out.splitlines() == capture.key_lines([SESSION])
        assert printed.err == "ropeway: no agent answers; trying again\n"

    def test_follow_ends_where_there_is_no_agent_or_it_refuses(self, sessions, naps, capsys):
        sessions[:] = [client.NoAnswer("no agent answers")]
        assert cli.main(["keylog", "--follow"]) == 1
        sessions[:] = [[SESSION], client.ControlError("for root alone")]
        assert cli.main(["keylog", "--follow"]) == 1
        assert len(naps) == 1

    def test_file_that_cannot_be_written(self, sessions, tmp_path, capsys):
        assert cli.main(["keylog", "--output", str(tmp_path / "none" / "keys")]) == 1
        assert "cannot be written (No such file" in capsys.readouterr().err


class TestDecrypt:
    """Captures on disk."""

    @pytest.fixture
    def files(self, tmp_path):
        (tmp_path / "keys").write_text("\n".join(capture.key_lines([SESSION])))
        (tmp_path / "in.pcap").write_bytes(pcap(udp4(frame(1)), linktype=101).getvalue())
        return tmp_path

    def decrypt(self, files, *more):
        return cli.main(
            ["decrypt", "--keys", f"{files}/keys", *more, f"{files}/in.pcap", f"{files}/out.pcap"]
        )

    def test_packets_are_written(self, files, capsys):
        assert self.decrypt(files) == 0
        assert PACKET in (files / "out.pcap").read_bytes()
        assert capsys.readouterr().err.startswith("1 written, 0 copies, ")

    def test_nothing_is_overwritten_where_there_is_nothing_to_read(self, files, capsys):
        (files / "out.pcap").write_text("precious")
        (files / "in.pcap").write_bytes(b"\x0a\x0d\x0d\x0a")
        assert self.decrypt(files) == 1
        assert "pcapng" in capsys.readouterr().err
        assert (files / "out.pcap").read_text() == "precious"

    @pytest.mark.parametrize("read", ["in.pcap", "keys"])
    @pytest.mark.parametrize("through", ["its name", "symbolic", "hard"])
    def test_what_is_read_is_not_overwritten(self, files, capsys, read, through):
        output = files / "out.pcap"
        if through == "its name":
            output = files / read
        elif through == "symbolic":
            output.symlink_to(files / read)
        else:
            os.link(files / read, output)
        before = (files / read).read_bytes()
        arguments = ["decrypt", "--keys", f"{files}/keys", f"{files}/in.pcap", str(output)]
        assert cli.main(arguments) == 1
        assert "what is to be read: name another output" in capsys.readouterr().err
        assert (files / read).read_bytes() == before

    def test_output_is_for_its_owner_alone_and_replaced_whole(self, files):
        before = os.umask(0)
        try:
            assert self.decrypt(files) == 0
        finally:
            os.umask(before)
        assert (files / "out.pcap").stat().st_mode & 0o777 == 0o600
        content = (files / "out.pcap").read_bytes()
        (files / "out.pcap").write_bytes(b"longer" * 100)
        assert self.decrypt(files) == 0
        assert (files / "out.pcap").read_bytes() == content

    def test_full_disk_is_a_sentence_with_the_name(self, files, capsys):
        arguments = ["decrypt", "--keys", f"{files}/keys", f"{files}/in.pcap", "/dev/full"]
        assert cli.main(arguments) == 1
        assert capsys.readouterr().err == "ropeway: /dev/full: No space left on device\n"

    def test_file_that_is_not_there(self, files, capsys):
        (files / "in.pcap").unlink()
        assert self.decrypt(files) == 1
        assert capsys.readouterr().err == f"ropeway: {files}/in.pcap: No such file or directory\n"


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
        # Who names a file does not mean the agent with the default names.
        assert cli.main(["cleanup", "--config", str(path)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "so nothing is cleaned up" in printed.err
        monkeypatch.setattr(cli, "DEFAULT_PATH", str(path))
        assert cli.main(["cleanup"]) == 0
        printed = capsys.readouterr()
        assert printed.out.splitlines() == [model.DEFAULT_CONTROL_PATH, "ropeway0"]
        assert "so the default names are cleaned up" in printed.err

    def test_nothing_heavy_is_loaded_where_no_device_is_left(self, path):
        script = (
            "import sys\n"
            "from ropeway.app import cleanup, cli\n"
            "from ropeway.steward import leftovers\n"
            "leftovers.firewall.delete = lambda table: False\n"
            f"cli.main(['cleanup', '--config', {str(path)!r}])\n"
            "heavy = {'jsonschema', 'cryptography', 'ropeway.app.engine.engine'}\n"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)
