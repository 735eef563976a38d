"""Reading of single values of an inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, List

#: What YAML and people write for a switch, in small letters.
TRUE_WORDS = ("true", "yes", "on", "1")


def is_on(value: Any) -> bool:
    """Return whether ``value`` turns something on, as a boolean or a word."""
    return str(value).lower() in TRUE_WORDS


def whole_number(value: Any) -> int:
    """Return ``value`` as a number if it is an int or a text of digits; otherwise -1."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if digits or whole else -1


def is_list(value: Any) -> bool:
    """Return whether ``value`` is a list; texts and mappings are not."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, Mapping))


def names_in(listed: Any) -> List[str]:
    """Return the names of a list, or of a text with commas; none if ``listed`` is empty."""
    if isinstance(listed, str):
        return [name.strip() for name in listed.split(",") if name.strip()]
    return [str(name) for name in listed or []]
