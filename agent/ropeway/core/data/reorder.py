"""Packets of lanes put back into the order in which they were sent.

A packet that comes before one that was sent earlier is held back. It goes on when the earlier one
has come, or when every connection that brings packets of the lane has brought a later one, since a
connection keeps its order: then the earlier one was lost on all of them. Where there are parity
frames, the one that covers it must have come as well. It waits no longer than the other end wants
for the lane.

Which connection brought a frame is not sealed. Somebody on the path who lies about it spoils the
order, and nothing else.
"""

from __future__ import annotations

import bisect
import heapq
from collections import deque
from typing import Deque, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.frame.data import Form
from ropeway.core.session.replay import REPLAY_SKIP
from ropeway.core.session.session import Session
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.strand import NEVER
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE, SPARE, Timers

#: Bytes that a packet takes beside its own, roughly.
PACKET_SIZE = 200
#: Packets in a row that are alike in what is sealed with them.
Part = Tuple[Form, List[bytes]]


class _Held(NamedTuple):
    packet: bytes
    form: Form


class Lane:
    """One lane of one strand: what comes next, and what came before its turn."""

    __slots__ = (
        "_active_s",
        "_arrivals",
        "_held",
        "_index",
        "_last_at",
        "_next",
        "_order",
        "_parity_ends",
        "_parity_until",
        "_since",
        "_tops",
        "held_bytes",
        "late",
    )

    def __init__(self) -> None:
        # When the newest session was made that a packet came under, and its index. The session
        # itself is not kept: its keys have to go when it ends.
        self._since = NEVER
        self._index = b""
        # The counter that is due.
        self._next = 0
        self._held: Dict[int, _Held] = {}
        # Counters of what is held, a heap; and the same with the times of arrival, in that order,
        # among some that are held no more.
        self._order: List[int] = []
        self._arrivals: Deque[Tuple[float, int]] = deque()
        # How long packets have been coming, without long pauses, and when the last one came.
        self._active_s = 0.0
        self._last_at = NEVER
        # The highest counter that each connection brought, and when by the time above.
        self._tops: Dict[int, Tuple[int, float]] = {}
        # The counters after those that the last parity frames cover, ascending, and until when such
        # frames are expected, by the time above.
        self._parity_ends: List[int] = []
        self._parity_until = NEVER
        self.held_bytes = 0
        #: Packets that came after a later one had gone on.
        self.late = 0

    def take(
        self,
        session: Session,
        way: int,
        top: int,
        packets: Sequence[Tuple[int, bytes]],
        form: Form,
        hold_s: float,
        now: float,
    ) -> List[Part]:
        """Take packets with their counters; return what goes on.

        They came over the connection ``way``, as did a copy of the packet ``top``, the highest.
        """
        out: List[Part] = []
        if session.created_at != self._since or session.local_index != self._index:
            if session.created_at < self._since:
                return [(form, [packet for _, packet in packets])]
            out += self.release()
            self._since, self._index, self._next = session.created_at, session.local_index, 0
            self._parity_ends.clear()
            self._tops.clear()
        if packets and packets[0][0] - self._next >= REPLAY_SKIP:
            # The sender has skipped what a copy of it may use.
            out += self.release()
            self._next = packets[0][0]
            self._tops.clear()
        self._active_s += min(now - self._last_at, tuning.LANE_PAUSE_S)
        self._last_at = now
        before = self._tops.get(way)
        highest = top if before is None else max(top, before[0])
        self._tops[way] = (highest, self._active_s)
        out += self._sort(packets, form, now)
        if self._held:
            out += self._release_until(self._left_behind(hold_s))
        return out

    def take_repaired(
        self, session: Session, counter: int, packet: bytes, form: Form, now: float
    ) -> List[Part]:
        """Take a packet that no connection brought; return what goes on."""
        if not self._is_of(session):
            return [(form, [packet])]
        out = self._sort([(counter, packet)], form, now)
        out += self._release_until(-1)
        return out

    def note_parity(self, session: Session, end: int, hold_s: float) -> List[Part]:
        """Take note of a parity frame that covers packets up to ``end``; return what goes on."""
        if not self._is_of(session):
            return []
        ends = self._parity_ends
        if not ends or end > ends[-1]:
            ends.append(end)
            del ends[: -tuning.REPAIR_GROUPS]
        self._parity_until = self._active_s + tuning.PARITY_AGE_S
        return self._release_until(self._left_behind(hold_s)) if self._held else []

    def _is_of(self, session: Session) -> bool:
        return session.created_at == self._since and session.local_index == self._index

    def _sort(self, packets: Sequence[Tuple[int, bytes]], form: Form, now: float) -> List[Part]:
        """Return the packets that go on at once, and hold back the others."""
        ready: List[bytes] = []
        for counter, packet in packets:
            if counter == self._next and not self._held:
                self._next += 1
                ready.append(packet)
            elif counter < self._next:
                self.late += 1
                ready.append(packet)
            else:
                self._hold(counter, _Held(packet, form), now)
        return [(form, ready)] if ready else []

    def due(self, hold_s: float) -> float:
        """Return when the packet that has waited longest has waited enough."""
        arrivals = self._arrivals
        while arrivals and arrivals[0][1] not in self._held:
            arrivals.popleft()
        return arrivals[0][0] + hold_s if arrivals else NOT_DUE

    def expire(self, hold_s: float, now: float) -> List[Part]:
        """Return what has waited enough, and what is before it or follows at once."""
        out: List[Part] = []
        while self.due(hold_s) <= now:
            out += self._release_until(self._arrivals[0][1])
        return out

    def release(self) -> List[Part]:
        """Return all that is held, in order."""
        return self._release_until(float("inf"))

    def _hold(self, counter: int, held: _Held, now: float) -> None:
        self._held[counter] = held
        self.held_bytes += PACKET_SIZE + len(held.packet)
        heapq.heappush(self._order, counter)
        arrivals = self._arrivals
        arrivals.append((now, counter))
        if len(arrivals) > 2 * len(self._held) + SPARE:
            left = [entry for entry in arrivals if entry[1] in self._held]
            arrivals.clear()
            arrivals.extend(left)

    def _release_until(self, counter: float) -> List[Part]:
        """Return what is held up to a counter, and what has its turn then."""
        out: List[Part] = []
        while self._order and self._order[0] <= max(counter, self._next):
            _append(out, self._pop())
        return out

    def _pop(self) -> _Held:
        counter = heapq.heappop(self._order)
        held = self._held.pop(counter)
        self.held_bytes -= PACKET_SIZE + len(held.packet)
        self._next = max(self._next, counter + 1)
        if not self._held:
            # The counters of another session may be the same.
            self._arrivals.clear()
        return held

    def _left_behind(self, hold_s: float) -> int:
        """Return the counter before which nothing will come any more; -1 for none.

        That is the one that every connection in use has come to. Of packets that a parity frame
        covers one may still be made until all that are left have come, and the frame.
        """
        live = [top for top, at in self._tops.values() if at > self._active_s - hold_s]
        top = min(live, default=-1)
        if self._active_s >= self._parity_until:
            return top
        decided = bisect.bisect_right(self._parity_ends, top + 1)
        return self._parity_ends[decided - 1] if decided else -1


class Reorder:
    """The lanes of all strands."""

    __slots__ = ("_held_bytes", "_tables", "_timers", "_waiting", "max_age_s")

    def __init__(self, tables: Tables[SecureStrand]) -> None:
        self._tables = tables
        self._held_bytes = 0
        # Lanes that hold packets back, and when to look at them, or at some that did.
        self._waiting: Dict[SecureStrand, Dict[int, Lane]] = {}
        self._timers: Timers[Tuple[SecureStrand, int]] = Timers()
        #: No packet is held back for longer than that, in seconds.
        self.max_age_s = float("inf")

    @property
    def due(self) -> float:
        """When :meth:`expire` may have something to do, in monotonic seconds."""
        return self._timers.next_at()

    def take(
        self,
        strand: SecureStrand,
        number: int,
        session: Session,
        way: int,
        top: int,
        packets: Sequence[Tuple[int, bytes]],
        form: Form,
        now: float,
    ) -> List[Part]:
        """Take packets of a lane as :meth:`Lane.take`; return what goes on."""
        lanes: Dict[int, Lane] = strand.lanes
        lane = lanes.get(number)
        hold_s = self._hold_s(strand, number)
        if lane is None:
            if not hold_s:
                return [(form, [packet for _, packet in packets])] if packets else []
            lane = lanes[number] = Lane()
        before = lane.held_bytes
        out = lane.take(session, way, top, packets, form, hold_s, now)
        if lane.held_bytes or before:
            out += self._keep(strand, number, lane, before, hold_s)
        return out

    def take_repaired(
        self,
        strand: SecureStrand,
        number: int,
        session: Session,
        counter: int,
        packet: bytes,
        form: Form,
        now: float,
    ) -> List[Part]:
        """Take a packet of a lane that was made from others; return what goes on."""
        lane: Optional[Lane] = strand.lanes.get(number)
        if lane is None:
            return [(form, [packet])]
        before = lane.held_bytes
        out = lane.take_repaired(session, counter, packet, form, now)
        return out + self._keep(strand, number, lane, before, self._hold_s(strand, number))

    def note_parity(
        self, strand: SecureStrand, number: int, session: Session, end: int
    ) -> List[Part]:
        """Take note of a parity frame of a lane as :meth:`Lane.note_parity`."""
        lane: Optional[Lane] = strand.lanes.get(number)
        if lane is None:
            return []
        hold_s, before = self._hold_s(strand, number), lane.held_bytes
        out = lane.note_parity(session, end, hold_s)
        return out + self._keep(strand, number, lane, before, hold_s)

    def _keep(
        self, strand: SecureStrand, number: int, lane: Lane, before: int, hold_s: float
    ) -> List[Part]:
        """Count what a lane holds now, and keep to the bounds; return what goes on for that."""
        out: List[Part] = []
        if lane.held_bytes:
            self._waiting.setdefault(strand, {})[number] = lane
            held_bytes = self._held_bytes + lane.held_bytes - before
            lanes: Dict[int, Lane] = strand.lanes
            if sum(one.held_bytes for one in lanes.values()) > self._share(held_bytes):
                out = lane.release()
            else:
                self._timers.bring_forward((strand, number), lane.due(hold_s))
        self._note_held(strand, number, lane, before)
        return out

    def _note_held(self, strand: SecureStrand, number: int, lane: Lane, before: int) -> None:
        self._held_bytes += lane.held_bytes - before
        waiting = self._waiting.get(strand)
        if waiting and not lane.held_bytes:
            waiting.pop(number, None)
            if not waiting:
                del self._waiting[strand]

    def expire(self, now: float) -> Iterable[Tuple[SecureStrand, List[Part]]]:
        """Yield what has waited enough, by strand."""
        for strand, number in self._timers.take(now):
            lane: Lane = strand.lanes[number]
            before = lane.held_bytes
            if self._tables.strands.get(strand.host) is strand:
                hold_s = self._hold_s(strand, number)
                parts = lane.expire(hold_s, now)
                self._timers.set((strand, number), lane.due(hold_s))
            else:
                lane.release()
                parts = []
            self._note_held(strand, number, lane, before)
            if parts:
                yield strand, parts

    def drop(self) -> int:
        """Drop all packets that are held back; return how many that were."""
        waiting = [lane for lanes in self._waiting.values() for lane in lanes.values()]
        dropped = [part for lane in waiting for part in lane.release()]
        self._waiting.clear()
        self._held_bytes = 0
        return sum(len(packets) for _, packets in dropped)

    def of_strand(self, strand: SecureStrand) -> Dict[str, int]:
        """Return how many bytes of a strand are held back, and how many packets came late."""
        lanes = strand.lanes.values()
        return {
            "held_bytes": sum(lane.held_bytes for lane in lanes),
            "late": sum(lane.late for lane in lanes),
        }

    def _hold_s(self, strand: SecureStrand, number: int) -> float:
        """Return for how long packets of a lane may be held back, in seconds."""
        holds_ms = strand.holds_ms
        hold_s = holds_ms[number] / 1000 if number < len(holds_ms) else tuning.HOLD_UNSAID_S
        return min(hold_s, self.max_age_s)

    def _share(self, held_bytes: int) -> float:
        """Return how many bytes one strand may have held back where so many are in all."""
        if held_bytes <= tuning.LANES_BYTES / 2:
            return tuning.LANE_BYTES
        if held_bytes > tuning.LANES_BYTES:
            return 0
        return min(tuning.LANE_BYTES, tuning.LANES_BYTES / 2 / len(self._waiting))


def _append(parts: List[Part], held: _Held) -> None:
    """Add a packet to the last part if that is of its kind."""
    if parts and parts[-1][0] == held.form:
        parts[-1][1].append(held.packet)
    else:
        parts.append((held.form, [held.packet]))
