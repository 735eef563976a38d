"""How a command of `ropeway` ends."""

from __future__ import annotations

import sys

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_RESTART = 3
"""`reload` only: nothing was changed, because only a restart changes what differs."""
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: only somebody who edits the configuration can help."""


def fail(sentence: str) -> int:
    """Print `sentence` on standard error, and return the exit code of a command that failed."""
    print("ropeway: " + sentence, file=sys.stderr)
    return EXIT_FAILED
