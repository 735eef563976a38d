"""The tables of variables in the roles' READMEs, made from meta/argument_specs.yml.

`python3 tests/fleet/role_tables.py` writes them; a test checks that they are up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
BEGIN, END = "<!-- variables: begin -->", "<!-- variables: end -->"


def roles() -> Iterator[Path]:
    """Yield the folders of all roles, in alphabetical order."""
    return (path.parents[1] for path in sorted(ROLES.glob("*/meta/argument_specs.yml")))


def specs(role: Path) -> Dict[str, Any]:
    """Return the entry points of a role by name, from meta/argument_specs.yml."""
    text = (role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["argument_specs"])


def defaults(role: Path) -> Dict[str, Any]:
    """Return defaults/main.yml of a role."""
    return dict(yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8")))


def table(role: Path) -> str:
    """Return the Markdown table of a role's variables: a line per variable and sub-option."""
    options: Dict[str, Any] = {}
    for entry_point in specs(role).values():
        options.update(entry_point.get("options", {}))
    rows = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    rows += _rows(options, "")
    return "\n".join(rows)


def _rows(options: Dict[str, Any], indent: str) -> Iterator[str]:
    for name, option in options.items():
        kind = str(option.get("type", "str"))
        if "elements" in option:
            kind += f" of {option['elements']}"
        if "choices" in option:
            kind += f" ({', '.join(option['choices'])})"
        if option.get("required"):
            default = "required"
        elif "default" in option:
            default = (
                f"`{yaml.safe_dump(option['default'], default_flow_style=True).splitlines()[0]}`"
            )
        else:
            default = "see meaning"
        meaning = re.sub(r"C\(([^)]*)\)", r"`\1`", " ".join(option["description"].split()))
        yield f"| `{indent}{name}` | {kind} | {default} | {meaning} |"
        yield from _rows(option.get("options", {}), f"{indent}{name}.")


def with_table(role: Path) -> str:
    """Return the README of a role with a current table of variables."""
    readme = (role / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n{table(role)}\n{END}{after}"


def main() -> int:
    """Write every table; return 0."""
    for role in roles():
        (role / "README.md").write_text(with_table(role), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
