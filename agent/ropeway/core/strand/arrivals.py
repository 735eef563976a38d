"""How frames arrive over a connection, and the copies of a packet over several.

The data side notes it. All of this is statistics and nothing else: what tells the order of frames
and the connection, bytes 1 to 3 of a frame, is not sealed, so anybody on the way can change it.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple

from ropeway.core.strand.strand import NEVER, Traffic
from ropeway.core.tuning import BURSTS_S, DEADLINE_MS, SAMPLE_S, SAMPLED_MAX

#: Sequences are of 16 bits; what is further ahead than half of them is behind.
_MASK, _HALF = 0xFFFF, 0x8000
_NONE = -_HALF
"""As :class:`Traffic` begins."""
#: After a new session a gap that is longer than this is a new beginning, not a loss.
_RESTART = 256
#: One packet in so many is sampled, a power of two.
SAMPLED_ONE_IN = 64
#: The upper bounds of the histogram of skews, in ms; one more bucket takes the rest.
SKEW_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)


class Bursts(NamedTuple):
    """Runs of frames that were lost one after the other."""

    runs: int = 0
    frames: int = 0
    longest: int = 0

    def plus(self, other: Bursts) -> Bursts:
        """Return both together."""
        longest = max(self.longest, other.longest)
        return Bursts(self.runs + other.runs, self.frames + other.frames, longest)


class Arrivals:
    """The order in which the data frames of one connection arrive."""

    __slots__ = (
        "_before",
        "_gap_at",
        "_gap_frames",
        "_now",
        "_session",
        "_since",
        "_traffic",
        "late",
    )

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        #: Frames that came after one that was sent later.
        self.late = 0
        self._session = b""
        # The last gap: it may be filled by frames that were only overtaken.
        self._gap_at = self._gap_frames = 0
        self._since = NEVER
        self._now = self._before = Bursts()

    def note(self, first: int, last: int, count: int, session: bytes, now: float) -> None:
        """Take ``count`` frames with sequences from ``first`` to ``last``, unless all is in order.

        If nothing is missing, the data side only moves ``traffic.newest``. ``session`` is the index
        of theirs here.
        """
        after = (self._traffic.newest + 1) & _MASK
        ahead = (first - after) & _MASK
        is_new = self._traffic.newest == _NONE
        if session != self._session:
            self._session = session
            is_new = is_new or _RESTART < ahead < _MASK + 1 - _RESTART
        if is_new:
            self._end_gap(now)
        elif ahead < _HALF:
            self._begin_gap(after, ahead, now)
        else:
            self.late += count
            if (first - self._gap_at) & _MASK < self._gap_frames + count:
                self._gap_frames = max(0, self._gap_frames - count)
            return
        missing = ((last - first + 1) & _MASK) - count
        if 0 < missing < _HALF:
            self._begin_gap(first, missing, now)
        self._traffic.newest = last

    def bursts(self, now: float) -> Bursts:
        """Return the runs of lost frames of the last one to two :data:`BURSTS_S`."""
        self._turn(now)
        return self._before.plus(self._now).plus(self._gap())

    def _begin_gap(self, at: int, frames: int, now: float) -> None:
        if frames:
            self._end_gap(now)
            self._gap_at, self._gap_frames = at, frames

    def _end_gap(self, now: float) -> None:
        """Count the last gap: what fills it now comes too late to matter."""
        self._turn(now)
        self._now = self._now.plus(self._gap())
        self._gap_frames = 0

    def _gap(self) -> Bursts:
        frames = self._gap_frames
        return Bursts(1, frames, frames) if frames else Bursts()

    def _turn(self, now: float) -> None:
        if now < self._since + BURSTS_S:
            return
        # A gap stays open until the next one, so it may be old.
        recent = now < self._since + 2 * BURSTS_S
        self._before = self._now.plus(self._gap()) if recent else Bursts()
        self._now, self._gap_frames, self._since = Bursts(), 0, now


class _Sample:
    __slots__ = ("at", "best_at", "first", "ways", "weight", "within_ms")

    def __init__(self, at: float, way: int, weight: int) -> None:
        self.at = at
        self.first = way
        #: A bit for each connection that brought it.
        self.ways = 1 << way
        #: So many packets it stands for.
        self.weight = weight
        self.best_at = NEVER
        self.within_ms = DEADLINE_MS


class Copies:
    """The copies of sampled packets of one host: how far apart they arrive, and what that bought.

    A deadline miss was avoided if the best connection lost a packet, or brought it later than
    another one by more than its class allows. It cannot have lost more than its losses.
    """

    __slots__ = (
        "_best",
        "_lost",
        "_missing",
        "_samples",
        "_skipped",
        "avoided",
        "counts",
        "sum_ms",
    )

    def __init__(self) -> None:
        #: Later copies by their skew to the first one: a count for each of :data:`SKEW_MS`, and
        #: one for the rest.
        self.counts: List[int] = [0] * (len(SKEW_MS) + 1)
        self.sum_ms = 0.0
        #: Deadline misses avoided, an estimate from the samples.
        self.avoided = 0
        self._samples: Dict[Tuple[int, int], _Sample] = {}
        self._skipped = 0
        self._best = 0
        # Packets that the best connection did not bring, and frames that it lost, not yet matched.
        self._missing = 0
        self._lost = 0

    def note(self, packet: Tuple[int, int], way: int, now: float) -> bool:
        """Take a copy of a sampled packet, which its lane and counter tell from others.

        Return whether it is the first copy, and later ones are waited for. Packets of two sessions
        may be taken for one for a moment: that does not matter here.
        """
        sample = self._samples.get(packet)
        if sample is None:
            self._expire(now)
            if len(self._samples) >= SAMPLED_MAX:
                self._skipped += 1
                return False
            weight = SAMPLED_ONE_IN * (1 + self._skipped)
            sample = self._samples[packet] = _Sample(now, way, weight)
            self._skipped = 0
        elif sample.ways >> way & 1:
            return False
        else:
            sample.ways |= 1 << way
            skew_ms = 1000 * (now - sample.at)
            self.counts[sum(skew_ms > bound for bound in SKEW_MS)] += 1
            self.sum_ms += skew_ms
        if way == self._best:
            sample.best_at = now
        return sample.at == now and sample.ways == 1 << way

    def set_limit(self, packet: Tuple[int, int], within_ms: float) -> None:
        """Take by how much a copy of a packet that is waited for may be later than the first."""
        self._samples[packet].within_ms = within_ms

    def look(self, best: int, lost: int, now: float) -> None:
        """Take which connection is the best one, 0 for none, and what it lost since the last look.

        Called about once a second. Losses and samples show at different times, so what one has
        more of waits for the other, and counts half with each look.
        """
        self._expire(now)
        self._best = best
        self._lost += lost
        matched = min(self._missing, self._lost)
        self.avoided += matched
        self._missing = (self._missing - matched) // 2
        self._lost = (self._lost - matched) // 2

    def _expire(self, now: float) -> None:
        samples = self._samples
        while samples:
            packet, sample = next(iter(samples.items()))
            if now < sample.at + SAMPLE_S:
                return
            del samples[packet]
            if not self._best or sample.first == self._best:
                continue
            if sample.best_at == NEVER:
                self._missing += sample.weight
            elif sample.best_at > sample.at + sample.within_ms / 1000:
                self.avoided += sample.weight
