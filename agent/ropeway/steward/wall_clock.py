"""The wall clock, as far as it is believed.

A clock may jump: there is no battery and it begins in 1970, somebody sets it, or sets it wrong. A
budget must not begin anew because of that. So a jump is believed where the kernel says that the
clock is synchronised, or once it has lasted for a day. Until then the time before goes on.
"""

from __future__ import annotations

import logging
import time
from typing import Callable, Optional

from ropeway.kernel.clock_state import is_synchronised

log = logging.getLogger("ropeway")

# Tuning
#: What a clock is set by between two looks; more is a jump.
STEP_S = 300.0
#: A jump is believed after this time in any case.
BELIEVED_AFTER_S = 86400.0


class WallClock:
    """Gives the time that is believed. `boot` gives seconds since boot, those in suspend included.

    `seen` is a time that was believed before this start, in seconds since 1970, 0 for none.
    """

    def __init__(
        self,
        boot: Callable[[], float],
        seen: float,
        wall: Callable[[], float] = time.time,
        synchronised: Callable[[], bool] = is_synchronised,
    ) -> None:
        self._boot = boot
        self._wall = wall
        self._synchronised = synchronised
        now = boot()
        # The time that is believed, and that of the system, less the time since boot.
        self._system = self._believed = wall() - now
        self._doubts_since: Optional[float] = None
        if self._believed + now < seen - STEP_S and not synchronised():
            self._believed = seen - now
            self._doubt(now)

    def now(self) -> float:
        """Return the time that is believed, in seconds since 1970."""
        now = self._boot()
        system = self._wall() - now
        if self._doubts_since is None:
            if abs(system - self._system) <= STEP_S or self._synchronised():
                self._believed = system
            else:
                self._system = system
                self._doubt(now)
        elif abs(system - self._believed) <= STEP_S:
            self._believed, self._doubts_since = system, None
        elif self._synchronised() or now - self._doubts_since >= BELIEVED_AFTER_S:
            self._believed, self._doubts_since = system, None
            log.info("the wall clock is believed now, also for the budgets of links")
        self._system = system
        return now + self._believed

    def _doubt(self, now: float) -> None:
        self._doubts_since = now
        log.warning(
            "the wall clock has jumped and is not synchronised: the budgets of links go by the time"
            " before until it is, or for a day"
        )
