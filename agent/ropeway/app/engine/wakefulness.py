"""Keeping the processors from deep sleep while packets pass.

A processor that sleeps deeply takes tens of microseconds to milliseconds to come back, on the way
of every packet that wakes the agent. Not to sleep costs power, so it is asked for only while there
is traffic, and only where the configuration says so.
"""

from __future__ import annotations

import errno
import logging
from typing import Callable, Optional, Union

from ropeway.kernel import cpu_latency
from ropeway.kernel.features import NOT_ASKED_FOR

log = logging.getLogger("ropeway")

# Tuning
HOLD_S = 0.25
"""Packets that come no further apart are traffic; this long after the last one it has ended."""

LEAVE_IT_OUT = "leave it out of this host's configuration"


class Wakefulness:
    """Asks the kernel for a limit while there is traffic. All times are monotonic seconds.

    `limit_us` is what a processor may take to wake, or None where that is left as it is;
    `sooner` is called with a deadline that comes nearer. Never raises: what the kernel refuses is
    in `granted`, and once in the log.
    """

    def __init__(
        self, limit_us: Optional[int], sooner: Callable[[float], None] = lambda _: None
    ) -> None:
        self._sooner = sooner
        self._latency: Optional[cpu_latency.CpuLatency] = None
        self._carried = 0
        self._carried_at = float("-inf")
        #: Whether the limit is asked for now.
        self.held = False
        #: The limit in microseconds, or why there is none.
        self.granted: Union[int, str] = NOT_ASKED_FOR
        #: Whether the kernel refused it.
        self.refused = False
        self.set_limit(limit_us)

    def set_limit(self, limit_us: Optional[int]) -> None:
        """Ask for another limit from now on, or for none."""
        self.close()
        self._carried_at = float("-inf")
        self.granted, self.refused = NOT_ASKED_FOR, False
        if limit_us is None:
            return
        if not cpu_latency.is_heeded():
            self._note_refusal("the kernel has no cpuidle driver", LEAVE_IT_OUT)
            return
        try:
            self._latency = cpu_latency.CpuLatency(limit_us)
            self.granted = limit_us
        except OSError as error:
            self._note_error(error)

    def note(self, carried: int, now: float) -> None:
        """Take how many packets of the virtual network were carried, in all, up to now.

        What hosts say to each other besides does not count: that never ends.
        """
        more = carried - self._carried
        if not more:
            return
        self._carried = carried
        traffic = more > 1 or now - self._carried_at <= HOLD_S
        if traffic and self._latency is not None and not self.held:
            self.held = True
            self._sooner(now + HOLD_S)
            self._ask(self._latency.hold)
        self._carried_at = now

    def deadline(self) -> float:
        """Return when :meth:`tick` has something to do."""
        return self._carried_at + HOLD_S if self.held else float("inf")

    def tick(self, now: float) -> None:
        """Let the processors sleep again where nothing has passed for `HOLD_S`."""
        if self._latency is not None and now >= self.deadline():
            self.held = False
            self._ask(self._latency.release)

    def close(self) -> None:
        """Ask for nothing any more, for good."""
        self.held = False
        if self._latency is not None:
            self._latency.close()
            self._latency = None

    def _ask(self, request: Callable[[], None]) -> None:
        try:
            request()
        except OSError as error:
            self.close()
            self._note_error(error)

    def _note_error(self, error: OSError) -> None:
        advice = LEAVE_IT_OUT
        if error.errno in (errno.EACCES, errno.EPERM):
            advice = (
                "give the agent's user access to it, as the package's udev rule does, and reload"
            )
        self._note_refusal(f"{cpu_latency.PATH}: {error.strerror or error}", advice)

    def _note_refusal(self, reason: str, advice: str) -> None:
        self.refused = True
        self.granted = reason
        log.warning("cpu_latency_us has no effect (%s): %s", reason, advice)
