"""One version: the agent's, the package's and the change log's."""

from __future__ import annotations

import re
from pathlib import Path

import ropeway

CHECKOUT = Path(__file__).resolve().parents[2]


def newest(path: str, pattern: str) -> str:
    """The version in the first line of a file that matches."""
    found = re.search(pattern, (CHECKOUT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{path} names no version"
    return found.group(1)


def test_the_package_has_the_version_of_the_agent() -> None:
    assert newest("agent/debian/changelog", r"^ropeway \(([^)]+)\)") == ropeway.__version__


def test_the_change_log_opens_with_the_version_of_the_agent() -> None:
    assert newest("CHANGELOG.md", r"^## \[?(\d+\.\d+\.\d+)") == ropeway.__version__


def test_the_man_page_has_the_version_of_the_agent() -> None:
    assert newest("agent/man/ropeway.8", r"^\.TH .*\"ropeway ([^\"]+)\"") == ropeway.__version__
