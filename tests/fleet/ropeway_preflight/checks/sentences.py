"""What the tests of all checks say about the sentences that they find."""

from __future__ import annotations

from typing import Any, List

RECORD_PATH = "inventories/x/ropeway_addresses.yml"


def case_name(case: Any) -> str:
    """The name of the function that spoils an inventory, for pytest's output."""
    return getattr(case, "__name__", "")


def assert_one_sentence(found: List[str], parts: List[str]) -> None:
    """See that one sentence has all parts, and that all are whole."""
    fitting = [sentence for sentence in found if all(part in sentence for part in parts)]
    assert len(fitting) == 1, found
    assert all(sentence.endswith((".", "?")) for sentence in found)
