"""How sentences show values and names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Longest part of a value, and of what a host or Ansible has said, that a sentence shows.
SHOWN_MAX = 80
WORDS_MAX = 200
# Stands for the output of a task that printed nothing.
NO_WORDS = "no output"


def listing(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return ", ".join(names)


def shown(value: Any) -> str:
    """A value as a sentence shows it: in quotes where its ends or its kind could be mistaken."""
    text = str(value)
    if re.fullmatch(r"[^\s'\"{}\[\](),;]+", text) and text.isprintable() and len(text) <= SHOWN_MAX:
        return text
    literal = repr(text if isinstance(value, str) else value)
    return literal if len(literal) <= SHOWN_MAX else f"{literal[:SHOWN_MAX]}..."


def quoted(said: Any) -> str:
    """What a host has said, in quotes, without control characters, and no more than WORDS_MAX."""
    text = " ".join(str(said).split())
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return json.dumps(printable[:WORDS_MAX] + ("..." if len(printable) > WORDS_MAX else ""))


def failure_words(result: Any) -> str:
    """Return the last line that a failed task printed, quoted; for a loop, one per failed item."""
    said = result if isinstance(result, Mapping) else {}
    words = []
    for item in said.get("results") or [said]:
        if item.get("failed") or item.get("unreachable") or item is said:
            lines = str(item.get("stderr") or item.get("msg") or "").strip().splitlines()
            words.append(quoted(lines[-1]) if lines else NO_WORDS)
    return "; ".join(words) or NO_WORDS
