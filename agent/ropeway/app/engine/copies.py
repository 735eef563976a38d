"""Guards against copies of this machine, which would have the keys of its sessions.

Some kernels announce that a virtual machine was cloned or set back to a snapshot; elsewhere clocks
and interrupts show it. Then all sessions end or are replaced.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ropeway.app.engine.continuity import Break, Continuity
from ropeway.app.engine.loop import Loop
from ropeway.app.engine.starts import Starts
from ropeway.app.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from ropeway.core.node import SecureNode

log = logging.getLogger("ropeway")

# Tuning
#: Clocks and interrupts are looked at this often: what a copy seals meanwhile is one too many.
CONTINUITY_EVERY_S = 1.0


class CopyGuard:
    """Ends or replaces the sessions of `node` when this machine may have a copy.

    `starts` provides an epoch and reset keys that no copy has.
    """

    def __init__(self, loop: Loop, node: SecureNode, starts: Starts) -> None:
        self._node = node
        self._starts = starts
        self._repeated = RateLimitedLog()
        self._continuity = Continuity()
        self._due = loop.clock()

    def deadline(self) -> float:
        """Return when clocks and interrupts are looked at next."""
        return self._due

    def tick(self, now: float) -> None:
        """Look at clocks and interrupts if that is due."""
        if now >= self._due:
            self._look(now)

    def catch_up(self, now: float) -> None:
        """Look at what may have changed while the agent did not run, before anything is sent."""
        self._look(now)
        self._node.catch_up(now)

    def close(self) -> None:
        """Close what is read of the machine."""
        self._continuity.close()

    def announced(self, now: float) -> None:
        """End all sessions: the kernel has announced that this machine is a copy."""
        self._end_sessions("this virtual machine was cloned or set back to a snapshot", now)

    def _look(self, now: float) -> None:
        self._due = now + CONTINUITY_EVERY_S
        found = self._continuity.look()
        if found is Break.BOOT:
            self._end_sessions(found.value, now)
        elif found is not None:
            self._repeated.warn(f"{found.value}: replacing all sessions", now)
            self._node.replace_sessions(*self._starts.renew(), now)

    def _end_sessions(self, reason: str, now: float) -> None:
        log.warning("%s: ending all sessions, since a copy may have their keys", reason)
        self._node.end_sessions(reason, *self._starts.renew(), now)
