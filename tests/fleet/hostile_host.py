"""A host whose programs and modules answer Ansible as a test wants."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List

import yaml

from tests.fleet.conftest import Run
from tests.fleet.inventory import CHECKOUT

ROLES = CHECKOUT / "roles"
# Runs a command if it is evaluated as a template; changes a terminal's title if shown unchanged.
HOSTILE = "{{ lookup('pipe', 'touch PWNED') }}\x1b]0;title\x07\n- vm9: all is well"


ESCAPED = "{{ lookup('pipe', 'touch"


class Host:
    """localhost, with programs and modules of a test."""

    def __init__(self, folder: Path, playbook: Callable[..., Run]) -> None:
        self.folder = folder
        self.playbook = playbook
        self.pwned = folder / "pwned"
        self.hostile = HOSTILE.replace("PWNED", str(self.pwned))
        (folder / "bin").mkdir()
        (folder / "library").mkdir()

    def program(self, name: str, out: str = "", error: str = "", status: int = 0) -> None:
        """Add a program to the host's path."""
        self.script("bin", name, out, error, status)

    def module(self, name: str, result: Dict[str, Any]) -> None:
        """Add a module with this result."""
        self.script("library", name, json.dumps(result), "", 0)

    def script(self, folder: str, name: str, out: str, error: str, status: int) -> None:
        (self.folder / f"{name}.out").write_text(out)
        (self.folder / f"{name}.error").write_text(error)
        program = self.folder / folder / name
        program.write_text(
            f"#!/bin/sh\ncat {self.folder}/{name}.out\ncat {self.folder}/{name}.error >&2\n"
            f"exit {status}\n"
        )
        program.chmod(0o755)

    def run(self, tasks: List[Dict[str, Any]], role: str, **variables: Any) -> Run:
        """Run tasks of a role; no output of the host may be evaluated or shown unchanged."""
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "environment": {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"},
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}", **variables},
            "roles": [{"name": str(ROLES / role), "when": False}],
            "tasks": tasks,
        }
        book = self.folder / "book.yml"
        book.write_text(json.dumps([play]))
        values = ["-e", json.dumps(variables)]
        run = self.playbook(Path("localhost,"), "-c", "local", *values, book=str(book))
        assert not self.pwned.exists(), run.output
        assert not {"\x1b", "\x07"} & set(run.output), run.output
        return run


def tasks_of(role: str, file: str) -> List[Dict[str, Any]]:
    """Return the tasks of a role's file."""
    return list(yaml.safe_load((ROLES / role / "tasks" / f"{file}.yml").read_text()))


FACTS: Dict[str, Any] = {
    "distribution": "Debian",
    "distribution_version": "12.5",
    "python_version": "3.11.2",
    "service_mgr": "systemd",
    "interfaces": ["lo", "eth0", "eth0.100"],
    "eth0": {"ipv4": {"address": "192.0.2.1", "prefix": "24"}},
}


MACHINE = "01234567-89ab-cdef-0123-456789abcdef\nnet:[4026531840]\n"


def says(host: Host, register: str, answer: Any) -> Dict[str, Any]:
    """Return a task whose output is ``answer``, in place of that of inspect_host.py."""
    file = host.folder / register
    file.write_text(answer if isinstance(answer, str) else json.dumps(answer))
    return {"ansible.builtin.command": {"argv": ["cat", str(file)]}, "register": register}
