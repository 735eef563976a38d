"""Where hosts have called from, kept for the next start."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

from ropeway.core.endpoint import Endpoint

# Tuning
#: Where hosts have called from is on disk so soon: for a start after a kill.
CALLERS_EVERY_S = 5.0

#: Endpoints by host.
CallersByHost = Dict[str, Tuple[Endpoint, ...]]


class Callers:
    """Gives `remember` what `callers` returns whenever that has changed."""

    def __init__(
        self,
        now: float,
        callers: Callable[[], CallersByHost],
        remember: Callable[[CallersByHost], None],
    ) -> None:
        self._callers = callers
        self._remember = remember
        self._remembered: CallersByHost = {}
        self._due = now + CALLERS_EVERY_S

    def deadline(self) -> float:
        """Return when callers are compared with those that were remembered."""
        return self._due

    def tick(self, now: float) -> None:
        """Have callers remembered if they have changed."""
        if now >= self._due:
            self._due = now + CALLERS_EVERY_S
            self.remember()

    def remember(self) -> None:
        """Have the next start find the hosts that have called this one."""
        callers = self._callers()
        if callers and callers != self._remembered:
            self._remembered = callers
            self._remember(callers)

    def remember_again(self) -> None:
        """Have them remembered once more: who was told may have ended before it was done."""
        self._remembered = {}
        self.remember()
