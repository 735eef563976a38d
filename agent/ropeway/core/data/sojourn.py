"""How long what waits in a queue of the kernel can have waited there.

The kernel does not say it of a device's queue, and of a socket's by the wall clock only, which may
be set meanwhile. What is known for certain: nothing in a queue is older than the last moment at
which the queue was empty. A queue is empty

- when it was read to its end;
- when a poll, begun at a known time, did not name it.

So as long as the loop turns, everything is known to be fresh; where the loop or the whole host
stood still, everything that waited meanwhile may be as old as that. All times are seconds of one
clock that goes on while the host is suspended.
"""

from __future__ import annotations


class Polls:
    """Since when nothing waited in what polls did not name."""

    __slots__ = ("_complete_began_at", "began_at", "count", "empty_at")

    def __init__(self, now: float) -> None:
        #: Polls so far that named all that was ready, the last one included.
        self.count = 0
        #: What the last such poll before this one did not name was empty then or later.
        self.empty_at = now
        #: The next poll begins at that time or later.
        self.began_at = now
        self._complete_began_at = now

    def note(self, now: float, complete: bool) -> None:
        """Take note of a poll that ended; it is ``complete`` if it named all that was ready."""
        self.empty_at = self._complete_began_at
        if complete:
            self._complete_began_at = self.began_at
            self.count += 1
        self.began_at = now


class QueueAge:
    """Since when what is in one queue of the kernel can have waited."""

    __slots__ = ("_left", "_mark", "_polls", "_reads", "behind", "since")

    def __init__(self, now: float) -> None:
        #: Nothing in the queue came before that.
        self.since = now
        #: Whether it was not seen empty since something was left in it.
        self.behind = False
        # Whether something was, as far as is known.
        self._left = False
        self._polls = 0
        # How many were read since a moment later than ``since``.
        self._mark = now
        self._reads = 0

    def look(self, polls: Polls) -> None:
        """Take note that the queue is about to be read; to be called whenever a poll names it."""
        count = polls.count
        if self._left and count - self._polls <= 1:
            self.behind = True
        else:
            self.behind = False
            self._reads = 0
            empty_at = polls.empty_at
            if empty_at > self.since:
                self.since = empty_at
            self._mark = self.since
        self._left = True
        self._polls = count

    def note_read(self, count: int, emptied: bool, began_at: float, capacity: float) -> None:
        """Take note that ``count`` were read from ``began_at`` on, and whether that was the end.

        ``capacity`` is how many the queue holds at most: when so many were read, all that is in it
        came meanwhile.
        """
        if emptied:
            self.behind = self._left = False
            self.since = self._mark = began_at
            self._reads = 0
            return
        self.behind = True
        self._reads += count
        if self._reads >= capacity:
            self.since, self._mark = self._mark, began_at
            self._reads = 0

    def emptied(self, at: float) -> None:
        """Take note that what was in the queue at a time is no longer there."""
        self.behind = self._left = False
        self.since = self._mark = at
        self._reads = 0

    def waited_s(self, now: float, told_s: float) -> float:
        """Give how long the one that was just read has waited; what comes later is younger.

        ``told_s`` says so by the wall clock. It is believed where it can be: not below 0, and not
        longer than is known otherwise. Else the clock was set, and the longest time is given.
        """
        longest_s = now - self.since
        if not 0.0 <= told_s < longest_s:
            return longest_s
        self.since = self._mark = now - told_s
        self._reads = 0
        return told_s
