"""The filters that check a whole inventory; see plugin_utils/ropeway_fleet/checks/."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.checks.groups import shared_problems
from ropeway_fleet.checks.inventory import inventory_problems
from ropeway_fleet.checks.reading import first_value
from ropeway_fleet.checks.virtual_addresses import recorded_addresses, virtual_addresses


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {
            "ropeway_first_value": first_value,
            "ropeway_inventory_problems": inventory_problems,
            "ropeway_shared_problems": shared_problems,
            "ropeway_recorded_addresses": recorded_addresses,
            "ropeway_virtual_addresses": virtual_addresses,
        }
