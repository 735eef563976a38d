"""The variables of former versions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.checks.variables import removed_variable_problems


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {"ropeway_removed_variable_problems": removed_variable_problems}
