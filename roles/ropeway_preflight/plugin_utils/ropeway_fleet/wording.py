"""How messages show values, hosts and output of hosts.

A host is not trusted: its output may have any type and length, and may be a template or an escape
sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Longest value, and longest output of a host or of Ansible, in a message. More is cut off.
VALUE_MAX_CHARS = 80
OUTPUT_MAX_CHARS = 200
# Stands for the output of a task that printed nothing.
NO_OUTPUT = "no output"
# Names of interfaces, addresses, versions and distributions are shown without quotes.
PLAIN_FACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+~-]*(?: [A-Za-z0-9._:/@+~-]+)*")


def listing(names: Sequence[str]) -> str:
    """Return names separated by commas."""
    return ", ".join(names)


def shown(value: Any) -> str:
    """Return a value of the inventory for a message.

    Quotes show where a value with spaces begins and ends, and that a list or mapping is one.
    """
    text = str(value)
    plain = re.fullmatch(r"[^\s'\"{}\[\](),;]+", text) and text.isprintable()
    if plain and len(text) <= VALUE_MAX_CHARS:
        return text
    literal = repr(text if isinstance(value, str) else value)
    return literal if len(literal) <= VALUE_MAX_CHARS else f"{literal[:VALUE_MAX_CHARS]}..."


def shown_fact(value: Any) -> str:
    """Return a fact of a host for a message: quoted unless it is plain, no control characters."""
    text = str(value)
    if len(text) <= VALUE_MAX_CHARS and PLAIN_FACT.fullmatch(text):
        return text
    printable = "".join(c if c.isprintable() else "?" for c in text[:VALUE_MAX_CHARS])
    return repr(printable) + ("..." if len(text) > VALUE_MAX_CHARS else "")


def quoted(output: Any) -> str:
    """Return output of a host for a message: in quotes, on one line, no control characters."""
    text = " ".join(str(output).split())
    printable = "".join(c if c.isprintable() else "?" for c in text)
    cut = "..." if len(printable) > OUTPUT_MAX_CHARS else ""
    return json.dumps(printable[:OUTPUT_MAX_CHARS] + cut)


def failure_output(result: Any) -> str:
    """Return the last line that a failed task printed, quoted; for a loop, one per failed item."""
    task = result if isinstance(result, Mapping) else {}
    output = []
    for item in task.get("results") or [task]:
        if item.get("failed") or item.get("unreachable") or item is task:
            lines = str(item.get("stderr") or item.get("msg") or "").strip().splitlines()
            output.append(quoted(lines[-1]) if lines else NO_OUTPUT)
    return "; ".join(output) or NO_OUTPUT
