"""How many kbit/s a connection can carry outwards, from what its control frames tell anyway.

What arrives in a time is what the path can carry only while its narrowest place is busy all that
time. A busy place has a queue before it, in which the control frames wait as well. Without one,
what arrives is a lower bound: nobody has offered more.
"""

from __future__ import annotations

import math
import statistics
from typing import List, NamedTuple, Optional

from ropeway.core import tuning
from ropeway.core.frame.control import CLOCK_MS, CLOCK_TICKS
from ropeway.core.strand.loss import wilson
from ropeway.core.strand.strand import NEVER

_COUNTS = 1 << 32


class Echoed(NamedTuple):
    """A control frame that the other end has echoed, and what it had received by then."""

    #: When it was sent, in monotonic seconds here.
    sent_at: float
    #: Frames that were sent before it, as Measured counts them, and bytes of data frames.
    frames: int
    size: int
    #: Frames that had arrived when it did, modulo 2**32.
    received: int
    #: When it arrived by the other end's clock, in units of CLOCK_MS, modulo CLOCK_TICKS.
    arrived: int
    #: How long it waited in queues on its way.
    queue_ms: float


class _Between(NamedTuple):
    """What happened between two control frames."""

    #: Seconds between their departures, and between their arrivals.
    sent_s: float
    arrived_s: float
    #: Frames that were sent and that arrived, and bytes of data frames that arrived.
    frames: int
    arrived: int
    size: float


class Capacity:
    """What a path carries at most, in kbit/s of data frames without IP and UDP headers."""

    __slots__ = (
        "_at",
        "_from",
        "_gaps_ms",
        "_last",
        "_long",
        "_long_frames",
        "_long_lost",
        "_long_since",
        "_peak_ms",
        "is_full",
        "kbit",
    )

    def __init__(self) -> None:
        #: None while nothing is known.
        self.kbit: Optional[float] = None
        #: Whether the path was full when it was seen to carry that; else it may carry more.
        self.is_full = False
        self._at = NEVER
        # Where the present span of time begins, and the newest frame that was echoed.
        self._from: Optional[Echoed] = None
        self._last: Optional[Echoed] = None
        # How much the last waits differ from the ones before.
        self._gaps_ms: List[float] = []
        # Waits in a row that were a queue: since when, the longest, and frames sent and lost since.
        self._long = self._long_frames = self._long_lost = 0
        self._long_since, self._peak_ms = NEVER, 0.0

    def age_s(self, now: float) -> Optional[float]:
        """Return how long ago the path was seen to carry that, in seconds."""
        return None if self.kbit is None else now - self._at

    @property
    def sureness(self) -> Optional[str]:
        """What the figure is, in a word or two; None while there is none."""
        if self.kbit is None:
            return None
        return "measured" if self.is_full else "at least"

    def note(self, echoed: Echoed, now: float) -> None:
        """Take a frame that was echoed."""
        last, self._last = self._last, echoed
        if last is None:
            self._from = echoed
            return
        if echoed.sent_at <= last.sent_at:
            # An older one, or the same one again.
            self._last = last
            return
        step = _between(last, echoed)
        if step is None or step.sent_s > tuning.CAPACITY_PAUSE_S:
            self._from = echoed
            self._end_queue()
            return
        self._look_at_queue(last, echoed, step)
        span = None if self._from is None else _between(self._from, echoed)
        if span is None:
            self._from = echoed
        elif _is_long(span):
            full = self._is_full
            self._from = echoed
            if span.arrived >= tuning.CAPACITY_FRAMES_MIN:
                self._take(span, full, now)

    def _take(self, span: _Between, full: bool, now: float) -> None:
        """Take what was carried in a span of time."""
        # Frames that were held up and then came at once were not carried at once.
        carried = 8 * span.size / max(span.sent_s, span.arrived_s) / 1000
        known = self.kbit
        if full:
            self.kbit = max(known or 0.0, carried)
            # A queue that shortens brings more than is sent meanwhile.
            if known is not None and span.arrived_s > 0:
                kbit = 8 * span.size / span.arrived_s / 1000
                share = 1 - math.exp(-span.arrived_s / tuning.CAPACITY_FALL_S)
                self.kbit += share * min(0.0, kbit - self.kbit)
            self.is_full, self._at = True, now
        elif known is None or carried >= tuning.CAPACITY_SAME * known:
            if known is None or carried > known / tuning.CAPACITY_SAME:
                self.is_full = False
            self.kbit, self._at = max(known or 0.0, carried), now

    # Queues.

    @property
    def _is_full(self) -> bool:
        """Whether the path was busy all the time since ``_from``.

        A queue has stood since then. Where frames are only late, as on radio links that keep them
        in order, waits stand as well: so the queue has grown by much, or has overflown.
        """
        if self._from is None or self._from.sent_at < self._long_since:
            return False
        if self._long < tuning.CAPACITY_LONG:
            return False
        if self._peak_ms >= tuning.CAPACITY_SURE_MS:
            return True
        frames, lost = self._long_frames, self._long_lost
        return frames > 0 and wilson(lost, frames)[0] >= tuning.CAPACITY_LOSS

    @property
    def _queue_min_ms(self) -> float:
        """Waits from this one on are a queue: they are longer than they vary anyway."""
        varies_ms = statistics.median(self._gaps_ms) if self._gaps_ms else 0.0
        return max(tuning.CAPACITY_QUEUE_MS, tuning.CAPACITY_JITTERS * varies_ms)

    def _look_at_queue(self, last: Echoed, echoed: Echoed, step: _Between) -> None:
        """See whether a queue stands."""
        self._gaps_ms.append(abs(echoed.queue_ms - last.queue_ms))
        del self._gaps_ms[: -tuning.CAPACITY_GAPS]
        known = len(self._gaps_ms) >= tuning.CAPACITY_GAPS_MIN
        if not known or echoed.queue_ms < self._queue_min_ms:
            self._end_queue()
            return
        if echoed.queue_ms < min(self._peak_ms / 2, tuning.CAPACITY_SURE_MS):
            # It has drained, and what is left may be no queue: what it has shown is of before.
            self._end_queue()
        if not self._long:
            self._long_since = echoed.sent_at
        else:
            self._long_frames += step.frames
            self._long_lost += step.frames - step.arrived
        self._long += 1
        self._peak_ms = max(self._peak_ms, echoed.queue_ms)

    def _end_queue(self) -> None:
        """Take that no queue stands, or that nobody knows."""
        self._long = self._long_frames = self._long_lost = 0
        self._long_since, self._peak_ms = NEVER, 0.0


def _is_long(span: _Between) -> bool:
    """Return whether a span of time is long enough to count frames in it."""
    passed_s = max(span.sent_s, span.arrived_s)
    enough = span.arrived >= tuning.CAPACITY_FRAMES and passed_s >= tuning.CAPACITY_S
    return enough or passed_s >= tuning.CAPACITY_MAX_S


def _between(first: Echoed, second: Echoed) -> Optional[_Between]:
    """Return what happened between two frames; None where it makes no sense.

    The other end may count anew, and may say anything.
    """
    ticks = (second.arrived - first.arrived) % CLOCK_TICKS
    frames = second.frames - first.frames
    arrived = (second.received - first.received) % _COUNTS
    if ticks >= CLOCK_TICKS // 2 or arrived >= _COUNTS // 2 or frames <= 0:
        return None
    arrived = min(arrived, frames)
    size = (second.size - first.size) * arrived / frames
    sent_s = second.sent_at - first.sent_at
    return _Between(sent_s, ticks * CLOCK_MS / 1000, frames, arrived, size)
