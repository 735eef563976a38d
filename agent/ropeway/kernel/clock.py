"""The clock of everything that lasts: it goes on in suspend, and nobody sets it."""

from __future__ import annotations

import time


def boot_clock() -> float:
    """Return the seconds since the boot, those in suspend included (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
