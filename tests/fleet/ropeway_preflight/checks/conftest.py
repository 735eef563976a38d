"""The problems that the checks find in an inventory."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import pytest

from ropeway_fleet.checks.inventory import inventory_problems
from tests.fleet import role_tables
from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import RECORD_PATH

ROLE_OPTIONS = {
    name: option
    for role in role_tables.roles()
    for name, option in role_tables.specs(role)["main"]["options"].items()
}


@pytest.fixture
def problems() -> Callable[..., List[str]]:
    """Return a function that finds the problems of an inventory and a record."""

    def find(inventory: Inventory, recorded: Optional[Dict[str, Any]] = None) -> List[str]:
        return inventory_problems(
            inventory.groups, inventory.hostvars, recorded, RECORD_PATH, ROLE_OPTIONS
        )

    return find
