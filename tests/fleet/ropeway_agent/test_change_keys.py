"""The change of a key on a host that has other keys in its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from tests.fleet.conftest import load_module
from tests.fleet.inventory import CHECKOUT
from tests.fleet.public_keys import NEW, NO_KEYS, OLD, OTHER

SCRIPT = CHECKOUT / "roles/ropeway_agent" / "files" / "change_keys.py"
change_keys = load_module("change_keys", SCRIPT)


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


def test_announcing_and_settling_touch_one_peer() -> None:
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


@pytest.mark.parametrize("printed", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_public_key_is_not_passed_on(tmp_path: Path, printed: str) -> None:
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
            assert "is not a public key, so nothing was changed" in done.stderr
    assert (tmp_path / "ropeway.yaml").read_text() == CONFIGURATION


# Replaces the agent's command and systemctl: it records its arguments, and answers from a file for
# each subcommand.
PROGRAM = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {folder}/asked
answer={folder}/answer.$1
[ -e "$answer.out" ] && cat "$answer.out"
[ -e "$answer" ] && { echo "says why" >&2; exit $(cat "$answer"); }
exit 0
"""


class Stage:
    """A folder of configurations, with programs in place of the agent and systemctl."""

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
        """Set the exit status and output of a subcommand."""
        if status:
            (self.folder / f"answer.{command}").write_text(str(status))
        (self.folder / f"answer.{command}.out").write_text(output)

    def run(self, step: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run one step, as the role does."""
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
        """Return the calls of a subcommand of the agent so far."""
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(f"ropeway {command}")]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def peer(made_with: str, state: int = 2) -> str:
    """Return a status in which the session with the changing host uses the key ``made_with``."""
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
    assert ("No session uses the new key" in done.stderr) == bool(returned)
