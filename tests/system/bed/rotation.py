"""Tests that are slow and seldom fail take turns: each day runs another part of them.

Which part a test belongs to follows from its name, so it stays the same whatever tests are added.
"""

from __future__ import annotations

import zlib
from datetime import date

#: Each test runs on one day of so many in a row.
PARTS = 3


def part_of_test(name: str) -> int:
    """Return the part that a test belongs to, 0 to PARTS - 1."""
    return zlib.crc32(name.encode()) % PARTS


def part_of_day(day: date) -> int:
    """Return the part that has its turn on a day, 0 to PARTS - 1."""
    return day.toordinal() % PARTS
