"""`--json` and `--schema`, as every command has them that prints something for people."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ropeway.app.control.tree import SCHEMA_PATH

#: The JSON Schema of what each command prints with `--json`.
SCHEMAS = {
    "status": SCHEMA_PATH,
    **{
        name: Path(__file__).with_name(f"{name}.schema.json")
        for name in ("budget", "check-config", "cleanup", "decrypt", "explain", "leases")
    },
}


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Add both options to the parser of `command`."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print it as JSON")
    how.add_argument(
        "--schema",
        action=_Schema,
        nargs=0,
        const=SCHEMAS[command],
        help="print the JSON Schema of that, and nothing else",
    )


class _Schema(argparse.Action):
    """Prints the schema before anything is required, as `--help` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(self.const.read_text(encoding="utf-8"), end="")
        parser.exit()


def show(value: Any) -> None:
    """Print what a command found, as JSON."""
    print(json.dumps(value, indent=2))
