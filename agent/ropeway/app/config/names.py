"""Endpoints of peers as host names, with or without a port."""

from __future__ import annotations

import re
from typing import Optional

from ropeway.core.endpoint import Endpoint

NAMES_MAX = 256
"""Distinct names in one file: each of them is resolved again and again."""
NAME_CHARACTERS_MAX = 253
"""RFC 1035, section 2.3.4: 255 bytes with the lengths of labels."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 1123, section 2.1: no label but the last tells a name from an IPv4 address for certain.
_LAST_LABEL = r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"((?:{_LABEL}\.)*{_LAST_LABEL})(?::([1-9][0-9]{{0,4}}))?")


def named_endpoint(text: str, default_port: int) -> Optional[Endpoint]:
    """Return the name, in lower case, and the port that `text` stands for; None for no name."""
    found = _NAME.fullmatch(text)
    if found is None or len(found.group(1)) > NAME_CHARACTERS_MAX:
        return None
    port = int(found.group(2) or default_port)
    return (found.group(1).lower(), port) if port <= 65535 else None
