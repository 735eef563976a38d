"""The pre-shared key in the output of a roll-out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import yaml

from tests.fleet.inventory import CHECKOUT
from tests.fleet.public_keys import NEW, OLD

ROLE = CHECKOUT / "roles" / "ropeway_agent"


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
