"""Rules for all roles: variables are described and prefixed, phases and tags are the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Set

import pytest
import yaml

from ropeway_fleet.checks.extra_networks import EXTRA_NETWORK_KEYS, EXTRA_PEER_KEYS
from ropeway_fleet.checks.interfaces import INTERFACE_KEYS
from ropeway_fleet.checks.variables import INVENTORY_VARIABLES, REMOVED_VARIABLES, SET_BY_ROLES
from tests.fleet import role_tables
from tests.fleet.conftest import load_filters
from tests.fleet.inventory import CHECKOUT

ROLES = list(role_tables.roles())
TESTS = CHECKOUT / "tests" / "fleet"
ALL_ROLES = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def described(role: Path) -> Dict[str, Any]:
    """Return the options of all entry points of a role."""
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
    options, values = described(role), role_tables.defaults(role)
    assert set(values) == set(options)
    for name, option in options.items():
        if "default" in option:
            assert values[name] == option["default"], name
        else:
            assert "{{" in str(values[name]), f"{name} has a plain default: state it in the specs."


def test_the_same_interfaces_take_no_part_by_default_with_and_without_the_role() -> None:
    agent = role_tables.ROLES.parent / "agent" / "ropeway" / "app" / "config" / "config.schema.json"
    interfaces = json.loads(agent.read_text(encoding="utf-8"))["properties"]["interfaces"]
    patterns = interfaces["properties"]["exclude"]["default"]
    given = role_tables.defaults(role_tables.ROLES / "ropeway_agent")["ropeway_agent_exclude"]
    assert re.findall(r"'([^']*)'", given) == patterns
    described = role_tables.specs(role_tables.ROLES / "ropeway_agent")["main"]["options"]
    told = re.findall(r"C\(([^)]*\*)\)", str(described["ropeway_agent_exclude"]["description"]))
    assert told == patterns


@ALL_ROLES
def test_variables_have_the_prefix_of_the_role(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in role_tables.defaults(role))
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
def test_no_task_hides_its_failure_or_output(role: Path) -> None:
    for path in role.rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for forbidden in ("ignore_errors", "failed_when: false", "no_log: true"):
            assert forbidden not in text, path
        for mode in re.findall(r"^\s+mode: (.+)$", text, re.MULTILINE):
            assert mode in ("preserve",) or mode.startswith('"') or mode == "cleanup", (path, mode)


@ALL_ROLES
def test_no_module_of_a_role_is_longer_than_500_lines(role: Path) -> None:
    modules = list(role.rglob("*.py"))
    assert [path for path in modules if len(path.read_text().splitlines()) > 500] == []


def test_each_check_is_in_the_table_of_the_readme_and_has_tests() -> None:
    role = role_tables.ROLES / "ropeway_preflight"
    modules = {path.name for path in (role / "plugin_utils/ropeway_fleet/checks").glob("[!_]*.py")}
    text = (role / "README.md").read_text(encoding="utf-8")
    assert {name for name in modules if f"`{name}`" not in text} == {"host.py"}
    tests = {path.name for path in (TESTS / "ropeway_preflight" / "checks").glob("test_*.py")}
    assert modules - {name.removeprefix("test_") for name in tests} == {"host.py"}


GROUPS = {"ropeway_routers", "ropeway_clients", "ropeway_up", "ropeway_down"}


def words(*globs: str) -> Set[str]:
    """Return the words with the prefix ropeway_ in files of the checkout."""
    found: Set[str] = set()
    for pattern in globs:
        for path in CHECKOUT.glob(pattern):
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                found.update(re.findall(r"(?<![\w.])ropeway_[a-z0-9_]*[a-z0-9](?![\w*])", text))
    return found


def known_variables() -> Set[str]:
    """Return all variables that an inventory may have."""
    names = set(INVENTORY_VARIABLES) | set(SET_BY_ROLES)
    return names.union(*(role_tables.defaults(role) for role in ROLES))


def metrics() -> Set[str]:
    """Return the names that metrics of the exporter may have, with those of counters."""
    source = (CHECKOUT / "agent/ropeway/app/monitor/metrics.py").read_text(encoding="utf-8")
    names = {f"ropeway_{name}" for name in re.findall(r'"([a-z][a-z0-9_]*)"', source)}
    return names | {f"{name}_total" for name in names}


def test_every_variable_of_roles_playbooks_and_inventories_is_known_to_preflight() -> None:
    none = GROUPS | set(REMOVED_VARIABLES) | {role.name for role in ROLES}
    none |= {"ropeway_addresses", "ropeway_keys", "ropeway_fleet"}
    none |= metrics()
    for plugin in CHECKOUT.glob("roles/*/filter_plugins/*.py"):
        none.add(plugin.stem)
        none |= set(load_filters(plugin.parts[-3], plugin.stem).FilterModule().filters())
    used = words(
        *("roles/*/*/*.yml", "roles/*/*/*.j2", "roles/**/*.py", "roles/*/README.md"),
        *("playbooks/**/*.yml", "site.yml", "README.md", "docs/**/*.md", "tests/lab/*.py"),
        *("inventories/**/*.yml", "molecule/**/*.yml"),
    )
    known = known_variables()
    assert used - known - none == set()
    assert known - used == set()


def test_preflight_reads_the_variables_of_every_role() -> None:
    own = yaml.safe_load((role_tables.ROLES / "ropeway_preflight/vars/main.yml").read_text())
    assert own["__ropeway_preflight_roles"] == [role.name for role in ROLES]


def test_preflight_knows_the_keys_of_an_additional_network() -> None:
    options = described(role_tables.ROLES / "ropeway_agent")["ropeway_agent_extra_networks"]
    assert set(EXTRA_NETWORK_KEYS) == set(options["options"])
    assert set(EXTRA_PEER_KEYS) == set(options["options"]["peers"]["options"])
    interfaces = described(role_tables.ROLES / "ropeway_underlay")["ropeway_underlay_interfaces"]
    assert set(INTERFACE_KEYS) == set(interfaces["options"])
