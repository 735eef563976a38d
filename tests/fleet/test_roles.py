"""What every role has: variables that are described, documented and prefixed, and the same tags."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from tests.fleet import role_tables

ROLES = list(role_tables.roles())
ALL_ROLES = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def defaults(role: Path) -> Dict[str, Any]:
    """defaults/main.yml of a role."""
    return dict(yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8")))


def described(role: Path) -> Dict[str, Any]:
    """The options of all entry points of a role."""
    options: Dict[str, Any] = {}
    for entry_point in role_tables.specs(role).values():
        options.update(entry_point.get("options", {}))
    return options


def test_every_role_is_there() -> None:
    assert [role.name for role in ROLES] == [
        "ropeway_agent",
        "ropeway_client",
        "ropeway_preflight",
        "ropeway_router",
        "ropeway_underlay",
    ]
    assert {path.name for path in role_tables.ROLES.iterdir()} == {role.name for role in ROLES}


@ALL_ROLES
def test_readme_has_the_variables_of_the_argument_specs(role: Path) -> None:
    assert role_tables.with_table(role) == (role / "README.md").read_text(encoding="utf-8"), (
        f"{role.name}/README.md is behind meta/argument_specs.yml: run "
        "`python3 tests/fleet/role_tables.py`."
    )


@ALL_ROLES
def test_defaults_agree_with_argument_specs(role: Path) -> None:
    options, values = described(role), defaults(role)
    assert set(values) == set(options)
    for name, option in options.items():
        if "default" in option:
            assert values[name] == option["default"], name
        else:
            assert "{{" in str(values[name]), f"{name} has a plain default: state it in the specs."


def test_the_same_interfaces_take_no_part_by_default_with_and_without_the_role() -> None:
    agent = role_tables.ROLES.parent / "agent" / "ropeway" / "app" / "config.schema.json"
    interfaces = json.loads(agent.read_text(encoding="utf-8"))["properties"]["interfaces"]
    patterns = interfaces["properties"]["exclude"]["default"]
    given = defaults(role_tables.ROLES / "ropeway_agent")["ropeway_agent_exclude"]
    assert re.findall(r"'([^']*)'", given) == patterns
    described = role_tables.specs(role_tables.ROLES / "ropeway_agent")["main"]["options"]
    told = re.findall(r"C\(([^)]*\*)\)", str(described["ropeway_agent_exclude"]["description"]))
    assert told == patterns


@ALL_ROLES
def test_variables_have_the_prefix_of_the_role(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in defaults(role))
    private = role / "vars" / "main.yml"
    if private.exists():
        names = yaml.safe_load(private.read_text(encoding="utf-8"))
        assert all(name.startswith(f"__{role.name}_") for name in names)


@ALL_ROLES
def test_entry_points_have_tasks(role: Path) -> None:
    for entry_point in role_tables.specs(role):
        assert (role / "tasks" / f"{entry_point}.yml").exists()


@pytest.mark.parametrize("name", ["ropeway_agent", "ropeway_underlay"])
def test_phases_and_tags_are_uniform(name: str) -> None:
    tasks = yaml.safe_load((role_tables.ROLES / name / "tasks" / "main.yml").read_text())
    phases = [
        (task["ansible.builtin.import_tasks"].removesuffix(".yml"), task["tags"]) for task in tasks
    ]
    assert phases == [(phase, [phase]) for phase in ("preflight", "install", "configure", "run")]


@ALL_ROLES
def test_nothing_is_swept_under_the_carpet(role: Path) -> None:
    for path in role.rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for forbidden in ("ignore_errors", "failed_when: false", "no_log: true"):
            assert forbidden not in text, path
        for mode in re.findall(r"^\s+mode: (.+)$", text, re.MULTILINE):
            assert mode in ("preserve",) or mode.startswith('"') or mode == "cleanup", (path, mode)
