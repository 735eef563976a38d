"""Roles that are used from outside of a checkout find the modules that they share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.fleet.inventory import CHECKOUT, Inventory
from tests.fleet.test_playbook import ONLY_INVENTORY


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def linked(source: Path, target: Path) -> None:
    target.symlink_to(source)


@pytest.mark.parametrize("put", [copied, linked])
def test_roles_in_another_folder_check_an_inventory(
    inventory: Inventory,
    playbook: Callable[..., Any],
    tmp_path: Path,
    put: Callable[[Path, Path], None],
) -> None:
    roles = tmp_path / "elsewhere"
    roles.mkdir()
    for role in (CHECKOUT / "roles").iterdir():
        put(role, roles / role.name)
    shutil.copytree(CHECKOUT / "playbooks", tmp_path / "playbooks")
    settings = tmp_path / "ansible.cfg"
    settings.write_text("[defaults]\n")
    inventory["vm2"]["ropeway_virtual_address"] = "10.0.0.1"
    run = playbook(
        inventory.write(tmp_path / "inventory"),
        *ONLY_INVENTORY,
        book=str(tmp_path / "playbooks" / "site.yml"),
        ANSIBLE_CONFIG=str(settings),
        ANSIBLE_FILTER_PLUGINS="",
        ANSIBLE_ROLES_PATH=str(roles),
    )
    assert run.status != 0
    assert "vm0 and vm2 have the same ropeway_virtual_address 10.0.0.1" in run.words, run.output
