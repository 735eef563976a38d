"""Where hosts have called from, kept for the next start."""

from __future__ import annotations

import logging
from typing import Callable, Dict, Tuple

from ropeway.app.store import state
from ropeway.core.endpoint import Endpoint

log = logging.getLogger("ropeway")

# Tuning
#: Where hosts have called from is on disk so soon: for a start after a kill.
CALLERS_EVERY_S = 5.0

#: Endpoints by host.
CallersByHost = Dict[str, Tuple[Endpoint, ...]]


class Callers:
    """Writes what `callers` returns whenever that has changed."""

    def __init__(self, device_name: str, now: float, callers: Callable[[], CallersByHost]) -> None:
        self._device_name = device_name
        self._callers = callers
        self._written: CallersByHost = {}
        self._due = now + CALLERS_EVERY_S
        self._warned = False

    def deadline(self) -> float:
        """Return when callers are compared with those on disk."""
        return self._due

    def tick(self, now: float) -> None:
        """Write callers if they have changed."""
        if now >= self._due:
            self._due = now + CALLERS_EVERY_S
            self.remember()

    def remember(self) -> None:
        """Have the next start find the hosts that have called this one."""
        callers = self._callers()
        if not callers or callers == self._written:
            return
        self._written = callers
        try:
            state.write_callers(self._device_name, callers)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "where hosts call from cannot be kept (%s): after a restart, idle ones are"
                    " reached once they call",
                    error.strerror or error,
                )
