"""How many bytes a link has carried, and word of it once they are so many."""

from __future__ import annotations

from typing import Callable


class Meter:
    """Counts the bytes that all sockets of a link send and receive, as its operator does.

    `passed` is called, once, when they are `mark` or more.
    """

    __slots__ = ("bytes", "mark", "passed")

    def __init__(self, passed: Callable[[], None]) -> None:
        #: Bytes, the headers of IP and UDP included.
        self.bytes = 0
        #: When `passed` is called next; infinity is never.
        self.mark = float("inf")
        self.passed = passed

    def count(self, size: int) -> None:
        """Count bytes that were sent or received."""
        self.bytes += size
        if self.bytes >= self.mark:
            self.mark = float("inf")
            self.passed()
