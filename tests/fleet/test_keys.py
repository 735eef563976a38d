"""Whose keys the fleet knows, and the change of a key on a host that has others in its files."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List

import pytest
import yaml

from tests.fleet.conftest import load_module
from tests.fleet.inventory import CHECKOUT, Inventory

ROLE = CHECKOUT / "roles" / "ropeway_agent"
SCRIPT = ROLE / "files" / "change_keys.py"
NAMES = ["vm1", "vm0", "vm2"]
PATH = "inventories/x/ropeway_keys.yml"


def key(letter: str) -> str:
    """A public key that is not one, but looks like it."""
    return base64.b64encode(letter.encode() * 32).decode()


OLD, NEW, OTHER = key("o"), key("+"), key("x")


@pytest.fixture(scope="module")
def change_keys() -> ModuleType:
    """The script that changes a key on a host, as a module."""
    return load_module("change_keys", SCRIPT)


def test_a_host_keeps_its_recorded_key_while_it_is_not_there(fleet: ModuleType) -> None:
    recorded = {
        "vm0": {"public_key": OLD},
        "vm1": {"public_key": OTHER},
        "gone": {"public_key": key("g")},
    }
    assert fleet.key_record(recorded, {"vm2": NEW}, NAMES) == {
        "vm0": {"public_key": OLD},
        "vm1": {"public_key": OTHER},
        "vm2": {"public_key": NEW},
    }
    assert fleet.key_problems(recorded, {"vm2": NEW}, NAMES, [], PATH) == []


def test_a_change_that_is_under_way_stays_in_the_record(fleet: ModuleType) -> None:
    recorded = {"vm0": {"public_key": OLD, "next_public_key": NEW}}
    for found in (OLD, NEW):
        assert fleet.key_record(recorded, {"vm0": found}, NAMES) == recorded
        assert fleet.key_problems(recorded, {"vm0": found}, NAMES, [], PATH) == []


@pytest.mark.parametrize("accepted", ["", [], "vm1", ["vm2"]])
def test_another_key_is_a_problem_with_both_keys(fleet: ModuleType, accepted: Any) -> None:
    recorded = {"vm0": {"public_key": OLD}}
    (sentence,) = fleet.key_problems(recorded, {"vm0": NEW}, NAMES, accepted, PATH)
    for part in ("vm0", OLD, NEW, PATH, "-e ropeway_accept_new_keys=vm0"):
        assert part in sentence


@pytest.mark.parametrize("accepted", ["vm0", "vm1, vm0", ["vm0"]])
def test_an_announced_key_replaces_the_recorded_one(fleet: ModuleType, accepted: Any) -> None:
    recorded = {"vm0": {"public_key": OLD, "next_public_key": OTHER}}
    assert fleet.key_problems(recorded, {"vm0": NEW}, NAMES, accepted, PATH) == []
    assert fleet.key_record(recorded, {"vm0": NEW}, NAMES) == {"vm0": {"public_key": NEW}}
    assert fleet.changed_keys(recorded, {"vm0": NEW, "vm1": OLD}) == ["vm0"]
    assert fleet.changed_keys(recorded, {"vm0": OTHER}) == []


def test_one_key_on_two_hosts_is_a_problem(fleet: ModuleType) -> None:
    recorded = {"vm1": {"public_key": OLD}, "gone": {"public_key": NEW}}
    (sentence,) = fleet.key_problems(recorded, {"vm0": OLD, "vm2": NEW}, NAMES, "vm0", PATH)
    assert "vm1 and vm0 have the same public key" in sentence


SPOILT: List[Any] = [[], {"all": None}, {"all": {"vars": {}}}]
SPOILT += [{"all": {"vars": {"ropeway_recorded_keys": {"vm0": entry}}}} for entry in ({}, "x")]


#: What a host may print instead of its public key.
NO_KEYS = {
    "template": "{{ lookup('pipe', 'touch pwned') }}",
    "member": f'{OLD}"\n  - host: 10.0.0.66\n    public_key: "{OTHER}',
    "more lines": f"{OLD}\n{NEW}",
    "line end": f"{OLD}\n",
    "space": f" {OLD}",
    "spare bits": key("o").replace("8=", "9="),
    "short": OLD[4:],
    "digits of another script": "\u0661" * 43 + "=",
    "escapes": "\x1b]0;pwned\x07",
    "nothing": "",
}


def test_public_keys_are_told_from_what_is_none(fleet: ModuleType) -> None:
    assert all(map(fleet.is_public_key, (OLD, NEW, OTHER)))
    assert [kind for kind, text in NO_KEYS.items() if fleet.is_public_key(text)] == []
    assert not fleet.is_public_key(None)


@pytest.mark.parametrize("printed", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_public_key_is_neither_taken_nor_recorded_nor_passed_on(
    fleet: ModuleType, tmp_path: Path, printed: str
) -> None:
    (sentence,) = fleet.printed_key_problems([OLD, printed], "vm0")
    assert sentence.startswith("vm0 prints ")
    assert sentence.isprintable()
    if printed:
        with pytest.raises(ValueError, match="vm0 prints"):
            fleet.found_keys(["vm0"], {"vm0": {"fact": printed}}, "fact")
    for entry in ({"public_key": printed}, {"public_key": OLD, "next_public_key": printed}):
        record = {"all": {"vars": {"ropeway_recorded_keys": {"vm0": entry}}}}
        with pytest.raises(ValueError, match="no public key: restore it"):
            fleet.recorded_keys(record)
    (tmp_path / "ropeway.yaml").write_text(CONFIGURATION)
    for step in ("announce", "verify", "settle"):
        for keys in ((OLD, printed), (printed, NEW)):
            done = subprocess.run(
                [sys.executable, SCRIPT, step, "--folder", tmp_path, *keys],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 2
            assert "is no public key, so nothing was changed" in done.stderr
    assert (tmp_path / "ropeway.yaml").read_text() == CONFIGURATION


@pytest.mark.parametrize("kind", ["template", "member", "escapes"])
def test_a_host_that_prints_no_public_key_ends_the_run(
    playbook: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    """The tasks that ask for keys, with a hostile ``ropeway`` where they ask."""
    (tmp_path / "printed").write_text(NO_KEYS[kind])
    command = tmp_path / "bin" / "ropeway"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\ncat {tmp_path}/printed\n")
    command.chmod(0o755)
    own_key = tmp_path / "private.key"
    own_key.write_text("")
    own_key.chmod(0o600)
    # A role's own variables give way to those of the command line. There is no user ropeway here.
    owned = {"mode": "0600", "owner": own_key.owner(), "group": own_key.group()}
    given = {"__ropeway_agent_private_key": str(own_key), "__ropeway_agent_key_attributes": owned}
    values = ["-e", json.dumps(given)]
    tasks = yaml.safe_load((ROLE / "tasks" / "own_key.yml").read_text())
    seen = {"ansible.builtin.copy": {"content": "{{ __ropeway_agent_public_key }}",
                                     "dest": str(tmp_path / "taken"), "mode": "0600"}}  # fmt: skip
    book = tmp_path / "own_key.yml"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "environment": {"PATH": f"{command.parent}:{os.environ['PATH']}"},
        "vars": {
            "__ropeway_agent_make": False,
            "role_path": str(ROLE),
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        },
        "roles": [{"name": str(ROLE), "when": False}],
        "tasks": [*tasks, seen],
    }
    book.write_text(json.dumps([play]))
    run = playbook(Path("localhost,"), "-c", "local", *values, book=str(book))
    assert run.status != 0
    assert "localhost prints " in run.words, run.output
    assert "\x1b" not in run.output
    assert not (tmp_path / "taken").exists()
    assert not (CHECKOUT / "pwned").exists()
    (tmp_path / "printed").write_text(f"{OLD}\n")
    run = playbook(Path("localhost,"), "-c", "local", *values, book=str(book))
    assert run.status == 0, run.output
    assert (tmp_path / "taken").read_text() == OLD


@pytest.mark.parametrize(
    "said",
    ["", "null", "[]", '{"peers": 7}', '{"peers": [7, {}, {"host": "{{ 1 }}", "best_state": 2}]}',
     '{"peers": [{"host": "10.0.0.2\\n", "best_state": 2}]}', "[" * 100_000],
    ids=range(7),
)  # fmt: skip
def test_a_status_that_is_none_names_no_peer(fleet: ModuleType, said: str) -> None:
    assert fleet.carrying_peers(fleet.status_of(said)) == []
    assert fleet.carried_before(fleet.status_of(said), {"encapsulation": "x", "network": ""}) == []


def test_what_a_host_says_is_shown_without_control_characters_and_not_at_length(
    fleet: ModuleType,
) -> None:
    assert fleet.shown("it\x1b[31m failed\n twice") == '"it?[31m failed twice"'
    assert len(fleet.shown("x" * 10_000)) <= fleet.WORDS_MAX + 5
    assert fleet.failure_words({"stderr": "one\ntwo \x1b[2J"}) == "two ?[2J"


@pytest.mark.parametrize("content", SPOILT)
def test_a_spoilt_record_is_a_sentence(fleet: ModuleType, content: Any) -> None:
    with pytest.raises(ValueError, match="restore it from your version control"):
        fleet.recorded_keys(content)


def test_the_record_reads_what_its_template_writes(
    fleet: ModuleType, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    keys = {"vm0": {"public_key": OLD, "next_public_key": NEW}, "vm1": {"public_key": OTHER}}
    for known in (keys, {}):
        book = tmp_path / "record.yml"
        task = {
            "ansible.builtin.template": {
                "src": str(ROLE / "templates" / "ropeway_keys.yml.j2"),
                "dest": str(tmp_path / "ropeway_keys.yml"),
                "mode": "0644",
            }
        }
        play: Dict[str, Any] = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
        python = "{{ ansible_playbook_python }}"
        play["vars"] = {"ropeway_agent_keys": known, "ansible_python_interpreter": python}
        book.write_text(json.dumps([play]))
        run = playbook(Path("localhost,"), "-c", "local", book=str(book))
        assert run.status == 0, run.output
        written = yaml.safe_load((tmp_path / "ropeway_keys.yml").read_text())
        assert fleet.recorded_keys(written) == known
    assert fleet.recorded_keys(None) == {}


@pytest.mark.parametrize(
    ("entry", "current", "prepared", "stage", "both"),
    [
        ({"public_key": OLD}, OLD, "", "begin", (OLD, "")),
        ({"public_key": OLD}, OLD, NEW, "prepared", (OLD, NEW)),
        ({"public_key": OLD, "next_public_key": NEW}, OLD, NEW, "prepared", (OLD, NEW)),
        # The prepared key was lost: the change begins anew.
        ({"public_key": OLD, "next_public_key": NEW}, OLD, "", "begin", (OLD, "")),
        ({"public_key": OLD, "next_public_key": NEW}, NEW, "", "switched", (OLD, NEW)),
        ({"public_key": OLD}, OTHER, "", "unknown", (OLD, "")),
        ({"public_key": OLD, "next_public_key": NEW}, OTHER, NEW, "unknown", (OLD, "")),
        ({}, OLD, "", "unknown", ("", "")),
        ({"public_key": OLD}, "", "", "unknown", (OLD, "")),
    ],
)
def test_where_a_change_stands(
    fleet: ModuleType, entry: Dict[str, str], current: str, prepared: str, stage: str, both: Any
) -> None:
    found = fleet.rotation(entry, current, prepared)
    assert (found["stage"], found["old"], found["next"]) == (stage, *both)


def test_who_knows_whose_key(inventory: Inventory, fleet: ModuleType) -> None:
    def knowers(host: str) -> List[str]:
        return list(fleet.knowers(host, inventory.groups, inventory.hostvars))

    assert knowers("vm1") == ["vm0", "vm2"]
    assert knowers("vm0") == knowers("vm2") == ["vm1"]
    inventory["vm0"]["ropeway_direct_peers"] = ["vm2"]
    assert knowers("vm0") == ["vm1", "vm2"]
    assert knowers("vm2") == ["vm1", "vm0"]
    inventory.add_client("vm3", {"name": "a", "lan": "net0", "address": "192.168.0.9/24"})
    inventory["vm3"]["ropeway_agent_extra_networks"] = [{"name": "x", "peers": [{"name": "vm2"}]}]
    assert knowers("vm2") == ["vm1", "vm0", "vm3"]


def test_keys_are_needed_by_any_secure_network(inventory: Inventory, fleet: ModuleType) -> None:
    def needed() -> bool:
        return bool(fleet.needs_keys(inventory.groups, inventory.hostvars))

    assert needed()
    inventory.everywhere(ropeway_encapsulation="classic")
    assert not needed()
    inventory["vm2"]["ropeway_agent_extra_networks"] = [{"name": "x", "encapsulation": "classic"}]
    assert not needed()
    inventory["vm2"]["ropeway_agent_extra_networks"].append({"name": "y"})
    assert needed()


def test_a_failure_is_told_with_its_items(fleet: ModuleType) -> None:
    assert fleet.failure_words({"failed": True, "stderr": "a\nthe cause\n"}) == "the cause"
    assert fleet.failure_words({"msg": "no way"}) == "no way"
    items = [
        {"failed": True, "stderr": "one"},
        {"failed": False},
        {"unreachable": True, "msg": "b"},
    ]
    assert fleet.failure_words({"results": items}) == "one; b"


CONFIGURATION = f"""\
# Managed by Ansible (role ropeway_agent): change the inventory, not this file.
encapsulation: secure
private_key_file: "FOLDER/private.key"
peers:
  - host: 10.0.0.1
    public_key: "{OLD}"
    psk_file: "/etc/ropeway/psk"
  - host: 10.0.0.3
    public_key: "{OTHER}"
control:
  path: "/run/ropeway/control.sock"
"""


def test_announcing_and_settling_touch_one_peer(change_keys: ModuleType) -> None:
    both = f'    public_key: "{OLD}"\n    next_public_key: "{NEW}"\n'
    announced = change_keys.announced(CONFIGURATION, OLD, NEW)
    assert announced == CONFIGURATION.replace(f'    public_key: "{OLD}"\n', both)
    assert change_keys.announced(announced, OLD, NEW) == announced
    # A new key that was announced before, and lost since.
    assert change_keys.announced(change_keys.announced(CONFIGURATION, OLD, OTHER), OLD, NEW) == (
        announced
    )
    settled = change_keys.settled(announced, OLD, NEW)
    assert settled == CONFIGURATION.replace(OLD, NEW)
    for text in (settled, CONFIGURATION):
        assert change_keys.settled(text, OLD, NEW) == settled
    assert change_keys.announced(settled, OLD, NEW) == settled


# Stands for the agent's command and for systemctl: notes what it is asked, and answers as told by a
# file for each subcommand.
PROGRAM = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {folder}/asked
answer={folder}/answer.$1
[ -e "$answer.out" ] && cat "$answer.out"
[ -e "$answer" ] && { echo "says why" >&2; exit $(cat "$answer"); }
exit 0
"""


class Stage:
    """A folder of configurations with programs that stand for the agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.etc.mkdir()
        self.file = self.etc / "ropeway.yaml"
        self.file.write_text(CONFIGURATION.replace("FOLDER", str(self.etc)))
        self.file.chmod(0o640)
        (self.etc / "mine.yaml").write_text(CONFIGURATION.split("\n", 1)[1])
        for name in ("ropeway", "systemctl"):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(PROGRAM.replace("{folder}", str(folder)))
            program.chmod(0o755)
        self.answer("status", output='{"peers": []}')

    def answer(self, command: str, status: int = 0, output: str = "") -> None:
        """Let a subcommand end with `status` and print `output`."""
        if status:
            (self.folder / f"answer.{command}").write_text(str(status))
        (self.folder / f"answer.{command}.out").write_text(output)

    def run(self, step: str, *more: str) -> subprocess.CompletedProcess[str]:
        """One step, as the role runs it."""
        return subprocess.run(
            [sys.executable, "-", step, OLD, NEW, f"--folder={self.etc}", *more],
            input=SCRIPT.read_text(),
            env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def asked(self, command: str) -> List[str]:
        """The calls of one of the agent's subcommands so far."""
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(f"ropeway {command}")]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def peer(made_with: str, state: int = 2) -> str:
    """A status in which the changing host's session is made with a key."""
    session = {"peer_key": made_with} if made_with else None
    found = {"host": "10.0.0.1", "best_state": state, "session": session}
    return json.dumps({"peers": [found, {"host": "10.0.0.3", "best_state": 2, "session": None}]})


def test_announcing_changes_the_file_and_reloads(stage: Stage) -> None:
    stage.answer("status", output=peer(OLD))
    first = stage.run("announce")
    assert first.returncode == 0, first.stderr
    assert first.stdout.split() == ["connected", "changed", str(stage.file)]
    assert NEW in stage.file.read_text()
    assert stage.file.stat().st_mode & 0o777 == 0o640
    assert stage.asked("reload") == ["ropeway reload --control /run/ropeway/control.sock"]
    again = stage.run("announce")
    assert again.stdout.split() == ["connected"]
    assert len(stage.asked("reload")) == 2, "an earlier run may have stopped before its reload"
    assert "mine.yaml" not in "".join(stage.asked("check-config")), "that file is not the role's"
    assert sorted(path.name for path in stage.etc.iterdir()) == ["mine.yaml", "ropeway.yaml"]


def test_a_host_that_was_not_connected_is_not_waited_for(stage: Stage) -> None:
    stage.answer("status", output=peer("", state=0))
    assert "connected" not in stage.run("announce").stdout


def test_what_needs_a_restart_is_put_back(stage: Stage) -> None:
    stage.answer("reload", status=3)
    before = stage.file.read_text()
    done = stage.run("announce")
    assert done.returncode == 1
    assert "run site.yml first" in done.stderr
    assert "says why" in done.stderr
    assert stage.file.read_text() == before


def test_what_the_agent_refuses_never_replaces_the_file(stage: Stage) -> None:
    stage.answer("check-config", status=1)
    before = stage.file.read_text()
    done = stage.run("settle")
    assert done.returncode == 1
    assert "The agent refuses the change" in done.stderr
    assert stage.file.read_text() == before
    assert stage.asked("reload") == []


def test_no_agent_no_reload(stage: Stage) -> None:
    stage.answer("--quiet", status=3)
    assert stage.run("announce").returncode == 0
    assert NEW in stage.file.read_text()
    assert stage.asked("reload") == []


def test_switching_is_a_rename_and_a_reload(stage: Stage) -> None:
    (stage.etc / "private.key").write_text("old")
    (stage.etc / "private.key.next").write_text("new")
    assert "changed" in stage.run("switch").stdout
    assert (stage.etc / "private.key").read_text() == "new"
    assert not (stage.etc / "private.key.next").exists()
    again = stage.run("switch")
    assert (again.returncode, again.stdout) == (0, "")
    assert len(stage.asked("reload")) == 2


@pytest.mark.parametrize(
    ("status", "returned"), [(peer(NEW), 0), (peer(OLD), 1), (peer(NEW, 1), 1)]
)
def test_verifying_wants_a_session_with_the_new_key(
    stage: Stage, status: str, returned: int
) -> None:
    stage.run("announce")
    stage.answer("status", output=status)
    done = stage.run("verify", "--limit-s=0.2")
    assert done.returncode == returned
    assert ("No session with the new key" in done.stderr) == bool(returned)


def test_the_psk_is_not_printed_with_diff_at_any_verbosity(
    playbook: Callable[..., Any], tmp_path: Path
) -> None:
    tasks = yaml.safe_load((ROLE / "tasks" / "psk.yml").read_text())
    copies = [task for task in tasks if "ansible.builtin.copy" in task]
    assert len(copies) == 2
    for task in copies:
        # There is no user ropeway here.
        task["ansible.builtin.copy"] = {
            name: value
            for name, value in task["ansible.builtin.copy"].items()
            if name not in ("owner", "group")
        }
    target, secret, book = (tmp_path / name for name in ("psk", "secret", "psk.yml"))
    secret.write_text(NEW)
    known = {
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "__ropeway_agent_psk_file": str(target),
        "ropeway_agent_psk": f"{{{{ lookup('file', '{secret}') }}}}",
    }
    play = {"hosts": "localhost", "gather_facts": False, "vars": known, "tasks": copies}
    book.write_text(json.dumps([play]))
    for verbosity in ("-v", "-vvvv"):
        target.write_text(OLD + "\n")
        run = playbook(Path("localhost,"), "-c", "local", "--diff", verbosity, book=str(book))
        assert run.status == 0, run.output
        assert target.read_text() == NEW + "\n"
        assert NEW not in run.output
        assert OLD not in run.output
