"""The published schema of the status, for tests that produce one."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from ropeway.app.control.tree import SCHEMA_PATH

SCHEMA = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
_WHOLE = jsonschema.Draft7Validator(SCHEMA)


def faults(status: Any) -> list[str]:
    """Return what of `status` the schema rejects, each with its place."""
    found = _WHOLE.iter_errors(status)
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in found]
