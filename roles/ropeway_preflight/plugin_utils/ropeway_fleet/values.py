"""Kinds of values that an inventory may give."""

from __future__ import annotations

from typing import Any, List


def whole_number(value: Any) -> int:
    """Return an int, or a text of digits as one; -1 for anything else."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if digits or whole else -1


def names_in(listed: Any) -> List[str]:
    """Names out of a list, or out of text with commas; none out of nothing."""
    if isinstance(listed, str):
        return [name.strip() for name in listed.split(",") if name.strip()]
    return [str(name) for name in listed or []]
