"""What all tests of checks require of problems."""

from __future__ import annotations

from typing import Any, List

RECORD_PATH = "inventories/x/ropeway_addresses.yml"


def case_name(case: Any) -> str:
    """Return the name of a function that changes an inventory, for pytest's output."""
    return getattr(case, "__name__", "")


def assert_one_sentence(found: List[str], parts: List[str]) -> None:
    """Require one sentence with all parts; every sentence must be complete."""
    fitting = [sentence for sentence in found if all(part in sentence for part in parts)]
    assert len(fitting) == 1, found
    assert all(sentence.endswith((".", "?")) for sentence in found)
