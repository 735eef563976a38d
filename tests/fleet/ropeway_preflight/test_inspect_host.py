"""The state of a host that the roles read in one task."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.fleet.inventory import CHECKOUT

INSPECT_HOST = CHECKOUT / "roles" / "ropeway_preflight" / "files" / "inspect_host.py"


def look(**question: Any) -> Dict[str, Any]:
    """Run inspect_host.py as the roles do; return its answer."""
    done = subprocess.run(
        [sys.executable, "-", json.dumps(question)],
        stdin=INSPECT_HOST.open(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


def owned(path: Path, mode: str) -> Dict[str, str]:
    status = path.stat()
    return {
        "mode": mode,
        "owner": pwd.getpwuid(status.st_uid).pw_name,
        "group": grp.getgrgid(status.st_gid).gr_name,
    }


def test_what_is_not_there_is_not_in_the_answer(tmp_path: Path) -> None:
    asked = [str(tmp_path / "nothing"), str(tmp_path / "*.none")]
    assert look(paths=asked, contents=asked) == {"paths": {}, "commands": {}}


def test_a_file_is_described_and_its_content_only_where_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"content\n")
    file.chmod(0o640)
    assert look(paths=[str(file)])["paths"] == {str(file): owned(file, "0640")}
    digest = hashlib.sha256(b"content\n").hexdigest()
    (found,) = look(contents=[str(tmp_path / "*.yaml")])["paths"].values()
    assert found == {**owned(file, "0640"), "sha256": digest}


def test_what_is_no_regular_file_has_no_content(tmp_path: Path) -> None:
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_bytes(b"")
    link.symlink_to(file)
    os.mkfifo(pipe)
    found = look(contents=[str(link), str(pipe), str(tmp_path)])["paths"]
    assert set(found) == {str(link), str(pipe), str(tmp_path)}
    assert not any("sha256" in attributes for attributes in found.values())


@pytest.mark.parametrize(
    ("argv", "rc", "stdout", "stderr"),
    [
        (["sh", "-c", "echo said; echo complained >&2; exit 3"], 3, "said", "complained"),
        (["printf", r"\377\r\n"], 0, "\N{REPLACEMENT CHARACTER}", ""),
        (["cat"], 0, "", ""),
    ],
)
def test_a_command_is_asked_without_input(argv: Any, rc: int, stdout: str, stderr: str) -> None:
    found = look(commands={"it": argv})["commands"]["it"]
    assert found == {"rc": rc, "stdout": stdout, "stderr": stderr}


def test_a_command_that_is_not_there_is_said_as_a_shell_does() -> None:
    found = look(commands={"it": ["no-such-command-anywhere"]})["commands"]["it"]
    assert found["rc"] == 127
    assert found["stdout"] == ""
    assert "no-such-command-anywhere" in found["stderr"]
