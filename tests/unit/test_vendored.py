"""pyroute2 as the package brings it along: one version, for the steward alone."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import List

CHECKOUT = Path(__file__).resolve().parents[2]
PINS = CHECKOUT / ".config/requirements/vendored.txt"
AGENT = CHECKOUT / "agent"


def pinned_versions() -> List[str]:
    """The version of pyroute2 that each pin names."""
    text = PINS.read_text(encoding="utf-8")
    return re.findall(r"^pyroute2==(\S+) --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)


def modules_outside_the_steward() -> List[str]:
    paths = [path.relative_to(AGENT) for path in sorted(AGENT.glob("ropeway/*/**/*.py"))]
    outside = [path for path in paths if path.parts[1] != "steward"]
    return [".".join(path.with_suffix("").parts).replace(".__init__", "") for path in outside]


def test_the_package_has_the_version_inside_that_the_agent_asks_for_elsewhere() -> None:
    (version,) = pinned_versions()
    assert f'"pyroute2=={version}"' in (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_tests_run_with_the_version_that_the_package_has_inside() -> None:
    assert [importlib.metadata.version("pyroute2")] == pinned_versions()


def test_no_module_outside_the_steward_loads_pyroute2() -> None:
    modules = modules_outside_the_steward()
    assert "ropeway.app.cli" in modules
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "print([name for name in sys.modules if name.partition('.')[0] == 'pyroute2'])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=AGENT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"
