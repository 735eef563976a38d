"""Words for what a kernel can do, and for what it refused."""

from __future__ import annotations

import errno
from typing import Dict

#: What is said of a feature of the kernel, where it is not why there is none.
ON = "on"
NOT_ASKED_FOR = "not asked for"


def count_refused(refused: Dict[str, int], error: OSError, count: int = 1) -> None:
    """Add `count` to what the kernel refused for `error`, by errno name."""
    name = errno.errorcode.get(error.errno or 0, "EUNKNOWN")
    refused[name] = refused.get(name, 0) + count


def count_no_room(refused: Dict[str, int], count: int = 1) -> None:
    """Add `count` to what found no room, as if the kernel's own buffer had been full."""
    refused["EAGAIN"] = refused.get("EAGAIN", 0) + count
