"""The public keys of the hosts: those they have, those recorded, and a change of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import yaml

from tests.fleet.conftest import load_filters
from tests.fleet.inventory import CHECKOUT, Inventory
from tests.fleet.public_keys import NEW, NO_KEYS, OLD, OTHER, key

keys = load_filters("ropeway_agent", "ropeway_keys")

ROLE = CHECKOUT / "roles" / "ropeway_agent"
NAMES = ["vm1", "vm0", "vm2"]
PATH = "inventories/x/ropeway_keys.yml"


def test_a_host_keeps_its_recorded_key_while_it_is_not_there() -> None:
    recorded = {
        "vm0": {"public_key": OLD},
        "vm1": {"public_key": OTHER},
        "gone": {"public_key": key("g")},
    }
    assert keys.key_record(recorded, {"vm2": NEW}, NAMES) == {
        "vm0": {"public_key": OLD},
        "vm1": {"public_key": OTHER},
        "vm2": {"public_key": NEW},
    }
    assert keys.key_problems(recorded, {"vm2": NEW}, NAMES, [], PATH) == []


def test_a_change_that_is_under_way_stays_in_the_record() -> None:
    recorded = {"vm0": {"public_key": OLD, "next_public_key": NEW}}
    for found in (OLD, NEW):
        assert keys.key_record(recorded, {"vm0": found}, NAMES) == recorded
        assert keys.key_problems(recorded, {"vm0": found}, NAMES, [], PATH) == []


@pytest.mark.parametrize("accepted", ["", [], "vm1", ["vm2"]])
def test_another_key_is_a_problem_with_both_keys(accepted: Any) -> None:
    recorded = {"vm0": {"public_key": OLD}}
    (sentence,) = keys.key_problems(recorded, {"vm0": NEW}, NAMES, accepted, PATH)
    for part in ("vm0", OLD, NEW, PATH, "-e ropeway_accept_new_keys=vm0"):
        assert part in sentence


@pytest.mark.parametrize("accepted", ["vm0", "vm1, vm0", ["vm0"]])
def test_an_announced_key_replaces_the_recorded_one(accepted: Any) -> None:
    recorded = {"vm0": {"public_key": OLD, "next_public_key": OTHER}}
    assert keys.key_problems(recorded, {"vm0": NEW}, NAMES, accepted, PATH) == []
    assert keys.key_record(recorded, {"vm0": NEW}, NAMES) == {"vm0": {"public_key": NEW}}
    assert keys.changed_keys(recorded, {"vm0": NEW, "vm1": OLD}) == ["vm0"]
    assert keys.changed_keys(recorded, {"vm0": OTHER}) == []


def test_one_key_on_two_hosts_is_a_problem() -> None:
    recorded = {"vm1": {"public_key": OLD}, "gone": {"public_key": NEW}}
    (sentence,) = keys.key_problems(recorded, {"vm0": OLD, "vm2": NEW}, NAMES, "vm0", PATH)
    assert "vm1 and vm0 have the same public key" in sentence


def test_only_canonical_base64_of_32_bytes_is_a_public_key() -> None:
    assert all(map(keys.is_public_key, (OLD, NEW, OTHER)))
    assert [kind for kind, text in NO_KEYS.items() if keys.is_public_key(text)] == []
    assert not keys.is_public_key(None)


@pytest.mark.parametrize("printed", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_public_key_is_neither_taken_nor_recorded(printed: str) -> None:
    (sentence,) = keys.printed_key_problems([OLD, printed], "vm0")
    assert sentence.startswith("vm0 prints ")
    assert sentence.isprintable()
    if printed:
        with pytest.raises(ValueError, match="vm0 prints"):
            keys.found_keys(["vm0"], {"vm0": {"fact": printed}}, "fact")
    for entry in ({"public_key": printed}, {"public_key": OLD, "next_public_key": printed}):
        record = {"all": {"vars": {"ropeway_recorded_keys": {"vm0": entry}}}}
        with pytest.raises(ValueError, match="not a public key: restore it"):
            keys.recorded_keys(record)


@pytest.mark.parametrize("kind", ["template", "member", "escapes"])
def test_a_host_that_prints_no_public_key_ends_the_run(
    playbook: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    """Run the tasks that read keys, with a hostile program ``ropeway``."""
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


SPOILT: List[Any] = [[], {"all": None}, {"all": {"vars": {}}}]
SPOILT += [{"all": {"vars": {"ropeway_recorded_keys": {"vm0": entry}}}} for entry in ({}, "x")]


@pytest.mark.parametrize("content", SPOILT)
def test_a_spoilt_record_is_a_sentence(content: Any) -> None:
    with pytest.raises(ValueError, match="restore it from your version control"):
        keys.recorded_keys(content)


def test_the_record_reads_what_its_template_writes(
    playbook: Callable[..., Any], tmp_path: Path
) -> None:
    record = {"vm0": {"public_key": OLD, "next_public_key": NEW}, "vm1": {"public_key": OTHER}}
    for known in (record, {}):
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
        assert keys.recorded_keys(written) == known
    assert keys.recorded_keys(None) == {}


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
def test_the_stage_of_a_change_follows_from_record_and_keys(
    entry: Dict[str, str], current: str, prepared: str, stage: str, both: Any
) -> None:
    found = keys.rotation(entry, current, prepared)
    assert (found["stage"], found["old"], found["next"]) == (stage, *both)


def test_keys_are_needed_by_any_secure_network(inventory: Inventory) -> None:
    def needed() -> bool:
        return bool(keys.needs_keys(inventory.groups, inventory.hostvars))

    assert needed()
    inventory.everywhere(ropeway_encapsulation="classic")
    assert not needed()
    inventory["vm2"]["ropeway_agent_extra_networks"] = [{"name": "x", "encapsulation": "classic"}]
    assert not needed()
    inventory["vm2"]["ropeway_agent_extra_networks"].append({"name": "y"})
    assert needed()
