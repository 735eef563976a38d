"""What was measured of the path that a connection uses: times, loss and rates.

Control frames measure (:class:`ropeway.core.frame.control.Measured`). Each says when it was sent by
its sender's clock, so that the other end sees by how much one takes longer than another. That is
the time that it waited in queues: the two clocks need not agree, but they have to run alike.
"""

from __future__ import annotations

import math
from typing import List, Optional

from ropeway.core import tuning
from ropeway.core.frame.control import CLOCK_MS, CLOCK_TICKS, Measured
from ropeway.core.strand.capacity import Capacity
from ropeway.core.strand.loss import Loss
from ropeway.core.strand.strand import NEVER, Traffic
from ropeway.core.timers import NOT_DUE


class Lowest:
    """The lowest of the values of the last one to two spans of time."""

    __slots__ = ("_before", "_now", "_since", "_span_s")

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._before = self._now = float("inf")
        self._since = NEVER

    def note(self, value: float, now: float) -> float:
        """Take a value and return the lowest one."""
        if now >= self._since + self._span_s:
            self._before = self._now if now < self._since + 2 * self._span_s else float("inf")
            self._now, self._since = value, now
        self._now = min(self._now, value)
        return min(self._before, self._now)

    def restart(self) -> None:
        """Forget all values."""
        self._before = self._now = float("inf")
        self._since = NEVER


class Rate:
    """How many kbit/s are carried, from a count of bytes that is looked at now and then."""

    __slots__ = ("_at", "_bytes", "kbit")

    def __init__(self) -> None:
        #: In kbit/s; None before the second look.
        self.kbit: Optional[float] = None
        self._at = NEVER
        self._bytes = 0

    def look(self, count: int, now: float) -> None:
        """Take the count of bytes so far."""
        passed_s = now - self._at
        if self._at == NEVER:
            self._at, self._bytes = now, count
        elif passed_s >= tuning.RATE_S:
            self.kbit = 8 * (count - self._bytes) / passed_s / 1000
            self._at, self._bytes = now, count


class Estimate:
    """What was measured of a path; values are None while they are not known.

    "Out" is from here to the other end. Times are in milliseconds, rates in kbit/s of data frames
    without IP and UDP headers, shares from 0 to 1.
    """

    __slots__ = (
        "_asked",
        "_floor",
        "_gap",
        "_gaps_out",
        "_missing",
        "_noted_late",
        "_rtt_floor",
        "_sent_then",
        "_transit",
        "_troubled_at",
        "_troubles",
        "capacity_out",
        "confirmed_at",
        "echoed_at",
        "jitter_in_ms",
        "jitter_ms",
        "loss_in",
        "loss_out",
        "lost_at",
        "lost_in",
        "queue_in_ms",
        "queue_ms",
        "rate_in",
        "rate_out",
        "rtt_latest_ms",
        "rtt_min_ms",
        "rtt_ms",
        "rtt_var_ms",
    )

    def __init__(self) -> None:
        #: Smoothed round-trip time, and its mean deviation (RFC 6298, section 2) ...
        self.rtt_ms: Optional[float] = None
        self.rtt_var_ms: Optional[float] = None
        #: ... the latest one, and the lowest of the last minutes.
        self.rtt_latest_ms: Optional[float] = None
        self.rtt_min_ms: Optional[float] = None
        #: What the last frame waited in queues on its way there, and on its way here.
        self.queue_ms: Optional[float] = None
        self.queue_in_ms: Optional[float] = None
        #: How much the time on the way varies from frame to frame (RFC 3550, section 6.4.1), out
        #: and in.
        self.jitter_ms: Optional[float] = None
        self.jitter_in_ms: Optional[float] = None
        self.loss_out = Loss()
        self.loss_in = Loss()
        #: Frames from there that were lost on the way since the connection was made.
        self.lost_in = 0
        #: How much the path carries at most, out.
        self.capacity_out = Capacity()
        self.rate_out = Rate()
        self.rate_in = Rate()
        #: When the last frame came that echoes one sent over this path.
        self.echoed_at = NEVER
        #: When the newest frame was sent that was echoed: what was sent before has had its time.
        self.confirmed_at = NEVER
        #: When it was noticed last that frames to there were lost on the way.
        self.lost_at = NEVER
        # When answers were asked for that have not come, the oldest first.
        self._asked: List[float] = []
        self._noted_late = NEVER
        self._troubles = 0.0
        self._troubled_at = NEVER
        self._rtt_floor = Lowest(tuning.RTT_MIN_S)
        self._floor = Lowest(tuning.TRANSIT_MIN_S)
        # The last frame's transit in ticks of the clock, which has any zero.
        self._transit: Optional[int] = None
        # Frames sent there less those received here, after the last frame.
        self._gap: Optional[int] = None
        # The same the other way, the last ones, and the lowest of them.
        self._gaps_out: List[int] = []
        self._missing: Optional[int] = None
        self._sent_then: Optional[int] = None

    def restart(self) -> None:
        """Forget what was measured, because the path is another one."""
        self.rtt_ms = self.rtt_var_ms = self.rtt_latest_ms = self.rtt_min_ms = None
        self.queue_ms = self.queue_in_ms = self.jitter_ms = self.jitter_in_ms = None
        self.loss_out, self.loss_in = Loss(), Loss()
        self.capacity_out = Capacity()
        self.echoed_at = self.confirmed_at = NEVER
        self._asked.clear()
        self._rtt_floor.restart()
        self._floor.restart()
        self._transit = self._gap = self._missing = self._sent_then = None
        self._gaps_out.clear()

    def age_s(self, now: float) -> Optional[float]:
        """Return how old the last echo is, in seconds."""
        return None if self.echoed_at == NEVER else now - self.echoed_at

    def note_asked(self, now: float) -> None:
        """Note that a frame went out that the other end has to answer at once."""
        self._asked.append(now)
        del self._asked[: -tuning.MAX_MARKS]

    def late_at(self, margin_ms: float) -> float:
        """Return when the oldest answer that has not come is late, in monotonic seconds.

        That is after the usual time and four deviations, or ``margin_ms`` if that is more; never
        while none is awaited.
        """
        if not self._asked or self.rtt_ms is None or self.rtt_var_ms is None:
            return NOT_DUE
        return self._asked[0] + (self.rtt_ms + max(4 * self.rtt_var_ms, margin_ms)) / 1000

    @property
    def is_awaited(self) -> bool:
        """Whether an answer was asked for that has not come."""
        return bool(self._asked)

    @property
    def late_due(self) -> float:
        """When :meth:`note_late` is due, in monotonic seconds."""
        if not self._asked or self._asked[0] == self._noted_late:
            return NOT_DUE
        return self.late_at(tuning.LATE_MIN_MS)

    def note_late(self) -> None:
        """Take note that the oldest answer that has not come is late."""
        if self._asked:
            self._noted_late = self._asked[0]

    def troubles(self, now: float) -> float:
        """Return how often the path was in trouble lately; each counts half after a while."""
        halves = min(64.0, (now - self._troubled_at) / tuning.TROUBLE_HALF_S)
        return self._troubles * math.pow(2.0, -halves)

    def note_trouble(self, now: float) -> None:
        """Count that a policy has left the path for its trouble, once for each trouble."""
        if now >= self._troubled_at + tuning.LOSS_FRESH_S:
            self._troubles = self.troubles(now) + 1
        self._troubled_at = now

    def note_echo(self, sent_at: float, held_ms: float, now: float) -> None:
        """Take the echo of a frame sent at ``sent_at``; the other end held it for ``held_ms``."""
        sample_ms = max(0.0, 1000 * (now - sent_at) - held_ms)
        if self.rtt_ms is None or self.rtt_var_ms is None:
            self.rtt_ms, self.rtt_var_ms = sample_ms, sample_ms / 2
        else:
            gap_ms = abs(sample_ms - self.rtt_ms)
            self.rtt_var_ms += tuning.RTT_VAR_SHARE * (gap_ms - self.rtt_var_ms)
            self.rtt_ms += tuning.RTT_SHARE * (sample_ms - self.rtt_ms)
        self.rtt_latest_ms = sample_ms
        self.rtt_min_ms = self._rtt_floor.note(sample_ms, now)
        self.echoed_at = now
        self.confirmed_at = max(self.confirmed_at, sent_at)
        while self._asked and self._asked[0] <= sent_at:
            del self._asked[0]

    def note_measured(
        self, measured: Measured, sent_then: Optional[int], received: int, now: float
    ) -> None:
        """Take what the other end has measured.

        ``sent_then`` is how many frames had been sent when the one was that it echoes, None where
        that is not known, ``received`` how many have been received here.
        """
        ticks = int(now * 1000 / CLOCK_MS)
        transit = (ticks - measured.clock + CLOCK_TICKS // 2) % CLOCK_TICKS - CLOCK_TICKS // 2
        lowest = self._floor.note(transit, now)
        self.queue_in_ms = self._bounded((transit - lowest) * CLOCK_MS)
        if self._transit is not None:
            gap_ms = abs(transit - self._transit) * CLOCK_MS
            before = gap_ms if self.jitter_in_ms is None else self.jitter_in_ms
            self.jitter_in_ms = before + tuning.JITTER_SHARE * (gap_ms - before)
        self._transit = transit
        if measured.queue_ms is not None:
            self.queue_ms = self._bounded(measured.queue_ms)
        self.jitter_ms = measured.jitter_ms
        before_in = self._gap
        self._gap = measured.sent - received
        if before_in is not None:
            self.lost_in += max(0, self._gap - before_in)
        self.loss_in.note(measured.sent, received, now)
        if sent_then is not None:
            # What a control frame overtakes is missing for a moment, what is lost stays missing.
            if sent_then != self._sent_then:
                self._sent_then = sent_then
                self._note_missing(sent_then - measured.received, now)
            self.loss_out.note(sent_then, measured.received, now)

    def _note_missing(self, missing: int, now: float) -> None:
        """See whether frames are missing for good: what was only overtaken comes soon."""
        self._gaps_out.append(missing)
        del self._gaps_out[: -tuning.OVERTAKEN_MAX]
        if len(self._gaps_out) < tuning.OVERTAKEN_MAX:
            return
        lowest = min(self._gaps_out)
        if self._missing is not None and lowest > self._missing:
            self.lost_at = now
        self._missing = lowest

    def note_traffic(self, traffic: Traffic, now: float) -> None:
        """Look at what is carried."""
        self.rate_out.look(traffic.sent_bytes, now)
        self.rate_in.look(traffic.received_bytes, now)

    def _bounded(self, queue_ms: float) -> float:
        """Return a time in queues, no longer than what the last round trip took above the lowest.

        The two ends' clocks may run apart, which looks like a queue; round trips know one clock.
        """
        if self.rtt_latest_ms is None or self.rtt_min_ms is None:
            return queue_ms
        return min(queue_ms, self.rtt_latest_ms - self.rtt_min_ms + tuning.QUEUE_SLACK_MS)
