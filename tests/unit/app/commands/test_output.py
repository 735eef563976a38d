"""What commands print with `--json`, held against the schema that they publish."""

from __future__ import annotations

import argparse
import io
import json
import socket

import jsonschema
import pytest

from ropeway.app import capture, cleanup, cli
from ropeway.app.commands.output import SCHEMAS
from ropeway.app.control import client
from ropeway.app.store import keys
from ropeway.steward import own_address
from tests.unit.app.control.test_explained import ANSWER
from tests.unit.app.monitor import recorded
from tests.unit.app.test_capture import SESSION, frame, pcap, udp4


def own_parsers(parser):
    """Return the parser of each command, by its name."""
    (subparsers,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return subparsers.choices


def schema_of(command):
    return json.loads(SCHEMAS[command].read_text(encoding="utf-8"))


def held(command, capsys):
    """Return what was printed, which its schema allows."""
    found = json.loads(capsys.readouterr().out)
    jsonschema.Draft7Validator(schema_of(command)).validate(found)
    return found


def is_closed(schema):
    """Say whether the schema allows no object with unknown or missing keys."""
    parts = [schema, *schema.get("definitions", {}).values()]
    return all(
        part["additionalProperties"] is False and set(part["required"]) == set(part["properties"])
        for part in parts
    )


@pytest.mark.parametrize("command", SCHEMAS)
def test_schema_is_printed_without_what_else_the_command_needs(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--schema"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert printed == SCHEMAS[command].read_text(encoding="utf-8")
    jsonschema.Draft7Validator.check_schema(json.loads(printed))


@pytest.mark.parametrize("command", set(SCHEMAS) - {"status"})
def test_a_schema_names_every_key(command):
    assert is_closed(schema_of(command))


def test_every_command_with_json_has_a_schema():
    commands = own_parsers(cli._parser())
    with_json = {
        name for name, parser in commands.items() if "--json" in parser._option_string_actions
    }
    assert with_json == set(SCHEMAS)
    for name in with_json:
        assert "--schema" in commands[name]._option_string_actions


def test_only_one_of_both(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["status", "--json", "--schema"])
    assert caught.value.code == 2


@pytest.fixture
def answers(monkeypatch):
    """Answer every request with what stands here, and keep the requests."""
    made = argparse.Namespace(answer=recorded.with_classes(), requests=[])

    def request(path, message, timeout_s=0.0):
        made.requests.append((path, message))
        return made.answer

    monkeypatch.setattr(client, "request", request)
    return made


class TestExplain:
    """Where a packet would go."""

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"class": None, "mode": None},
            {
                "next_hop": None,
                "next_hops": [],
                "class": None,
                "mode": None,
                "links": [],
                "fault": "outside",
            },
        ],
    )
    def test_as_json(self, answers, capsys, change):
        answers.answer = {**ANSWER, **change}
        assert cli.main(["explain", "10.0.0.3", "--json"]) == 0
        assert held("explain", capsys) == answers.answer

    def test_as_text(self, answers, capsys):
        answers.answer = ANSWER
        assert cli.main(["explain", "10.0.0.3"]) == 0
        assert capsys.readouterr().out.startswith("10.0.0.3, by 10.0.0.1\n")

    def test_a_wrong_question_is_a_sentence(self, answers, capsys):
        assert cli.main(["explain", "10.0.0.3", "--dscp", "fast"]) == 1
        assert capsys.readouterr().err.startswith("ropeway: --dscp: ")


class TestBudget:
    """What links have used."""

    def test_as_json(self, answers, capsys):
        assert cli.main(["budget", "--json"]) == 0
        (found,) = held("budget", capsys)["budgets"]
        assert (found["link"], found["used_bytes"]) == ("eth1", 4_000_000_000)
        assert answers.requests == [("/run/ropeway/control.sock", {"command": "status"})]

    def test_as_text(self, answers, capsys):
        assert cli.main(["budget", "--control", "/elsewhere"]) == 0
        assert capsys.readouterr().out == "eth1: budget 4000.0 of 10000.0 MB, 40 %\n"
        assert answers.requests[0][0] == "/elsewhere"

    def test_a_budget_is_what_the_status_says_of_it(self):
        own = schema_of("budget")["definitions"]["budget"]["properties"]
        of_link = schema_of("status")["definitions"]["budget"]["properties"]
        assert own == {"link": own["link"], **of_link}

    def test_none(self, answers, capsys):
        answers.answer = recorded.status()
        assert cli.main(["budget", "--json"]) == 0
        assert held("budget", capsys) == {"budgets": []}
        assert cli.main(["budget"]) == 0
        assert capsys.readouterr().out == "no link has a budget\n"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["budget", "--control", "/elsewhere", "set", "eth1", "1GB"],
            ["budget", "set", "--control", "/elsewhere", "eth1", "1GB"],
        ],
    )
    def test_the_socket_is_named_before_set_or_after(self, answers, arguments):
        assert cli.main(arguments) == 0
        assert [path for path, _ in answers.requests] == ["/elsewhere"]

    def test_nothing_to_print_has_no_json(self, answers, capsys):
        assert cli.main(["budget", "--json", "set", "eth1", "1GB"]) == 1
        assert "no --json" in capsys.readouterr().err
        assert not answers.requests


class TestCheckConfig:
    """What is found in a file."""

    @pytest.fixture
    def path(self, tmp_path, monkeypatch):
        monkeypatch.setattr(keys, "service_user", lambda: None)
        keys.make_private(str(tmp_path / "private.key"))
        return tmp_path / "r.yaml"

    def check(self, path, text, capsys, *options):
        """Return the exit code, and what is printed."""
        path.write_text(
            "network: 10.0.0.0/24\naddress: 10.0.0.1\n"
            f"private_key_file: {path.parent}/private.key\n"
            f"control: {{path: {path.parent}/c.sock}}\n" + text
        )
        code = cli.main(["check-config", "--json", *options, str(path)])
        return code, held("check-config", capsys)

    def test_good(self, path, capsys):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            free = probe.getsockname()[1]
        code, found = self.check(path, f"port: {free}\n", capsys)
        assert code == 0
        assert found == {"file": str(path), "ok": True, "errors": [], "warnings": []}

    def test_mistakes_have_line_and_place(self, path, capsys):
        text = "forwrd: true\npeers:\n- host: 10.0.0.300\n  public_key: x\n"
        code, found = self.check(path, text, capsys)
        assert code == 1
        assert not found["ok"]
        places = [(one["line"], one["place"]) for one in found["errors"]]
        assert places == [(5, "forwrd"), (7, "peers[0].host"), (8, "peers[0].public_key")]
        assert found["errors"][0]["message"] == "unknown setting: did you mean forward?"
        # For a person it is the same.
        cli.main(["check-config", str(path)])
        assert capsys.readouterr().err.splitlines() == [
            "{}:{}: {}: {}".format(path, one["line"], one["place"], one["message"])
            for one in found["errors"]
        ]

    @pytest.mark.parametrize("text", ["a: [", "", "peers: {}}\n", "[1]"])
    def test_no_configuration_at_all(self, path, capsys, text):
        path.write_text(text)
        assert cli.main(["check-config", "--json", str(path)]) == 1
        assert held("check-config", capsys)["errors"]

    def test_no_file(self, path, capsys):
        assert cli.main(["check-config", "--json", str(path)]) == 1
        (fault,) = held("check-config", capsys)["errors"]
        assert (fault["line"], fault["place"]) == (None, "")
        assert fault["message"].startswith(f"{path}: the file cannot be read")

    def test_more_mistakes_than_are_looked_for(self, path, capsys):
        text = "peers:\n" + "- {host: x, public_key: y}\n" * 200
        _, found = self.check(path, text, capsys)
        assert found["errors"][-1]["message"] == "there may be more: mend these first"
        assert len(found["errors"]) == 101

    def test_warning(self, path, capsys):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            code, found = self.check(path, f"port: {other.getsockname()[1]}\n", capsys)
        assert (code, found["ok"], found["errors"]) == (0, True, [])
        (warning,) = found["warnings"]
        assert (warning["line"], warning["place"]) == (None, "port")
        assert warning["message"].startswith("another program, perhaps a second agent, ")

    @pytest.mark.parametrize("only", [True, False])
    def test_address_of_this_host_itself(self, path, capsys, monkeypatch, only):
        own = own_address.OwnAddress("10.0.0.2", "192.0.2.1", "eth0(2)", only)
        monkeypatch.setattr(own_address, "find", lambda *_: [own])
        code, found = self.check(path, "", capsys)
        told = [one for one in [*found["errors"], *found["warnings"]] if one["place"] == "peers"]
        assert told == [{"line": None, "place": "peers", "message": str(own)}]
        assert (code, found["ok"]) == ((1, False) if only else (0, True))


class TestCleanup:
    """What a killed agent had left."""

    @pytest.mark.parametrize("done", [[], ["removed the device ropeway0"]])
    def test_as_json(self, tmp_path, monkeypatch, capsys, done):
        path = tmp_path / "r.yaml"
        path.write_text("device: {name: ropeway7}\n")
        monkeypatch.setattr(cleanup, "clean_up", lambda control_path, device_name: done)
        assert cli.main(["cleanup", "--json", "--config", str(path)]) == 0
        assert held("cleanup", capsys) == {"removed": done}


class TestDecrypt:
    """Frames of a capture, by what became of them."""

    def test_as_json(self, tmp_path, capsys):
        (tmp_path / "keys").write_text("\n".join(capture.key_lines([SESSION])) + "\n")
        (tmp_path / "in").write_bytes(pcap(b"\0" * 12 + b"\x08\0" + udp4(frame(1))).getvalue())
        arguments = ["decrypt", "--json", "--keys", str(tmp_path / "keys")]
        assert cli.main([*arguments, str(tmp_path / "in"), str(tmp_path / "out")]) == 0
        assert held("decrypt", capsys)["written"] == 1
        counts = capture.decrypt(capture.Pcap(pcap()), {}, io.BytesIO(), False)
        assert {what.replace(" ", "_") for what in counts} == set(
            schema_of("decrypt")["properties"]
        )
