"""What is done now and then beside the packets: systemd's line and watchdog, garbage, the epoch."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, Callable

from ropeway.app import systemd
from ropeway.app.engine.loop import Loop
from ropeway.app.engine.starts import Starts
from ropeway.kernel import process

if TYPE_CHECKING:
    from ropeway.core.node import SecureNode

# Tuning
#: The line in `systemctl status` changes no more often.
STATUS_EVERY_S = 1.0
#: Garbage in cycles is looked for this often, and only while the agent is idle ...
COLLECT_S = 20.0
#: ... but it takes no larger share of the time: with many hosts there is more to look through ...
COLLECT_SHARE = 0.0005
#: ... or at the latest after this time.
COLLECT_LATE_S = 300.0
#: Whether the wall clock was set is looked at this often while a host does not answer.
EPOCH_EVERY_S = 1.0

_INF = float("inf")


class StatusLine:
    """The line in `systemctl status`, which `line` returns.

    `carrying` returns what is compared every `STATUS_EVERY_S`: if it differs, so does the line.
    """

    def __init__(
        self, loop: Loop, line: Callable[[float], str], carrying: Callable[[], Any]
    ) -> None:
        self._loop = loop
        self._line = line
        self._carrying = carrying
        self._due = _INF
        self._compare_at = loop.clock()
        self._sent_at = -_INF
        self._sent_carrying: Any = (0, 0)

    def deadline(self) -> float:
        """Return when the line is to be sent, or compared."""
        return min(self._due, self._compare_at)

    def tick(self, now: float) -> None:
        """Send the line if it may have changed."""
        if now >= self._compare_at:
            self._compare_at = now + STATUS_EVERY_S
            if self._carrying() != self._sent_carrying:
                self.soon(now)
        if now >= self._due:
            self._due = _INF
            self._sent_at = now
            self._sent_carrying = self._carrying()
            systemd.notify("STATUS=" + self._line(now))

    def soon(self, now: float) -> None:
        """Send the line again at once, or as soon as the pause after the last one allows."""
        self._due = min(self._due, max(now, self._sent_at + STATUS_EVERY_S))
        self._loop.sooner(self._due)


class Watchdog:
    """Tells systemd that the agent is alive, if systemd wants to know."""

    def __init__(self, now: float) -> None:
        limit_s = systemd.watchdog_s()
        # sd_watchdog_enabled(3) recommends half of the limit; a third leaves room for a slow turn.
        self._every_s = limit_s / 3 if limit_s else _INF
        self._due = now if limit_s else _INF

    def deadline(self) -> float:
        """Return when systemd is told next."""
        return self._due

    def tick(self, now: float) -> None:
        """Tell systemd if that is due."""
        if now >= self._due:
            self._due = now + self._every_s
            systemd.notify("WATCHDOG=1")


class Garbage:
    """Collects garbage in cycles while no packet waits. `is_idle` says whether that is so."""

    def __init__(self, now: float, is_idle: Callable[[float], bool]) -> None:
        self._collected_at = now
        self._is_idle = is_idle
        self._pause_s = COLLECT_S

    @staticmethod
    def spare_what_there_is() -> None:
        """Let the collector run only here, and never look at what there is now.

        What the start made stays for good, and no packet waits for the collector.
        """
        gc.collect()
        gc.freeze()
        gc.disable()

    def deadline(self) -> float:
        """Return infinity: garbage waits until something else is due."""
        return _INF

    def tick(self, now: float) -> None:
        """Collect if that is due, and give memory back to the kernel."""
        wait_s = self._pause_s if self._is_idle(now) else COLLECT_LATE_S
        if now - self._collected_at >= wait_s:
            self._collected_at = now
            began_s = time.process_time()
            gc.collect()
            process.return_memory()
            took_s = time.process_time() - began_s
            self._pause_s = min(max(COLLECT_S, took_s / COLLECT_SHARE), COLLECT_LATE_S)


class EpochFollower:
    """Has the epoch follow the wall clock while a host does not answer."""

    def __init__(self, now: float, node: SecureNode, starts: Starts) -> None:
        self._node = node
        self._starts = starts
        self._due = now

    def deadline(self) -> float:
        """Return when the wall clock is looked at next."""
        return self._due

    def tick(self, now: float) -> None:
        """Raise the epoch if the wall clock is far ahead of it."""
        if now >= self._due:
            self._due = now + EPOCH_EVERY_S
            if self._node.unanswered(now) and self._starts.follow_clock():
                self._node.raise_epoch(self._starts.epoch)
