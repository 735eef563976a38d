"""Packets of lanes that were lost, made from parity frames and from the packets around them.

The packets of a lane that has parity are kept until the frame that covers them has come, within
bounds. A frame that comes before its packets waits for them. Where one packet of those that it
covers is missing it is made at once, also if it would still have come: a later copy is a duplicate.

A frame can make nothing but what its sender could have sent as well: it is sealed, what comes of it
is judged as any packet is, and its counter is used up in the lane's replay window.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from ropeway.core import tuning
from ropeway.core.frame.data import Form
from ropeway.core.frame.parity import Parity
from ropeway.core.session.replay import ReplayWindow
from ropeway.core.session.session import Session
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.strand import NEVER
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE, Timers

#: Bytes that a packet takes beside its own, roughly.
PACKET_SIZE = 200


class Repaired(NamedTuple):
    """A packet that was made."""

    counter: int
    #: With its label, if it has one.
    packet: bytes
    #: The form of its frame.
    form: Form


class _Kept(NamedTuple):
    packet: bytes
    form: int
    at: float


class _Group:
    """A parity frame whose packets have not all come: what is left of its XOR without them."""

    __slots__ = ("_longest", "at", "form", "missing", "packets", "size", "sizes")

    def __init__(self, parity: Parity, missing: Set[int], now: float) -> None:
        self.at = now
        #: The counters that have not come.
        self.missing = missing
        self.form = parity.form
        self.sizes = parity.sizes
        self.packets = parity.packets
        self._longest = parity.longest
        #: Bytes that it takes, roughly.
        self.size = PACKET_SIZE + parity.longest

    def take(self, packet: bytes, form: int) -> None:
        """Take one of its packets out."""
        self.packets ^= int.from_bytes(packet, "little")
        self.sizes ^= len(packet)
        self.form ^= form

    def last(self) -> Optional[bytes]:
        """Return the packet that is left; None if there cannot be such a one."""
        if not 0 < self.sizes <= self._longest or self.packets >> 8 * self.sizes:
            return None
        return self.packets.to_bytes(self.sizes, "little")


class LaneRepair:
    """One lane of one strand: the packets that came lately, and the frames that wait for some."""

    __slots__ = ("_groups", "_index", "_kept", "_since", "held_bytes")

    def __init__(self) -> None:
        # Of which session the counters are; as in :class:`ropeway.core.data.reorder.Lane`.
        self._since = NEVER
        self._index = b""
        self._kept: Dict[int, _Kept] = {}
        # By the counter of the first packet, the oldest first.
        self._groups: Dict[int, _Group] = {}
        self.held_bytes = 0

    def follows(self, session: Session) -> bool:
        """Return whether frames of a session count; a newer one forgets those before."""
        if session.created_at != self._since or session.local_index != self._index:
            if session.created_at < self._since:
                return False
            self.forget()
            self._since, self._index = session.created_at, session.local_index
        return True

    def forget(self) -> None:
        """Forget all packets and frames."""
        self._kept.clear()
        self._groups.clear()
        self.held_bytes = 0

    def note(
        self, packets: Sequence[Tuple[int, bytes]], form: int, window: ReplayWindow, now: float
    ) -> List[Repaired]:
        """Keep packets with their counters; return what they have made whole."""
        out: List[Repaired] = []
        for counter, packet in packets:
            if self._groups and self._complete(counter, packet, form, window, out):
                continue
            self._kept[counter] = _Kept(packet, form, now)
            self.held_bytes += PACKET_SIZE + len(packet)
        return out

    def take(self, parity: Parity, window: ReplayWindow, now: float) -> List[Repaired]:
        """Take a parity frame; return what it makes whole."""
        group = _Group(parity, set(), now)
        whole = True
        for counter in range(parity.first, parity.first + parity.count):
            kept = self._kept.pop(counter, None)
            if kept is not None:
                self.held_bytes -= PACKET_SIZE + len(kept.packet)
                group.take(kept.packet, kept.form)
            elif window.check(counter) == ReplayWindow.NEW:
                group.missing.add(counter)
            else:
                # It has come, and is forgotten.
                whole = False
        if not whole or not group.missing:
            return []
        if len(group.missing) == 1:
            return _repair(group, window)
        before = self._groups.pop(parity.first, None)
        if before is not None:
            self.held_bytes -= before.size
        self._groups[parity.first] = group
        self.held_bytes += group.size
        if len(self._groups) > tuning.REPAIR_GROUPS:
            self._drop_group()
        return []

    def _complete(
        self,
        counter: int,
        packet: bytes,
        form: int,
        window: ReplayWindow,
        out: List[Repaired],
    ) -> bool:
        """Give a packet to the frame that waits for it; return whether one did."""
        found = (first for first, group in self._groups.items() if counter in group.missing)
        first = next(found, None)
        if first is None:
            return False
        group = self._groups[first]
        group.missing.remove(counter)
        group.take(packet, form)
        if len(group.missing) == 1:
            out += _repair(group, window)
            del self._groups[first]
            self.held_bytes -= group.size
        return True

    def _drop_group(self) -> None:
        group = self._groups.pop(next(iter(self._groups)))
        self.held_bytes -= group.size

    def expire(self, now: float) -> float:
        """Forget what is too old; return when the oldest will be that is left."""
        while self._kept:
            counter, kept = next(iter(self._kept.items()))
            if kept.at + tuning.REPAIR_S > now:
                break
            del self._kept[counter]
            self.held_bytes -= PACKET_SIZE + len(kept.packet)
        while self._groups and next(iter(self._groups.values())).at + tuning.REPAIR_S <= now:
            self._drop_group()
        oldest = next((kept.at for kept in self._kept.values()), NOT_DUE)
        return (
            min(oldest, next((one.at for one in self._groups.values()), NOT_DUE)) + tuning.REPAIR_S
        )

    def shrink(self) -> bool:
        """Forget the oldest packet, or the oldest frame; return whether there was one."""
        if self._kept:
            kept = self._kept.pop(next(iter(self._kept)))
            self.held_bytes -= PACKET_SIZE + len(kept.packet)
        elif self._groups:
            self._drop_group()
        else:
            return False
        return True


class Repair:
    """The lanes with parity of all strands."""

    __slots__ = ("_held", "_held_bytes", "_tables", "_timers")

    def __init__(self, tables: Tables[SecureStrand]) -> None:
        self._tables = tables
        # Bytes that are kept, by strand, and of all.
        self._held: Dict[SecureStrand, int] = {}
        self._held_bytes = 0
        self._timers: Timers[SecureStrand] = Timers()

    @property
    def due(self) -> float:
        """When :meth:`expire` may have something to do, in monotonic seconds."""
        return self._timers.next_at()

    def note(
        self,
        strand: SecureStrand,
        number: int,
        session: Session,
        packets: Sequence[Tuple[int, bytes]],
        form: int,
        now: float,
    ) -> List[Repaired]:
        """Take packets of a lane with parity that have come; return those made from them."""
        lane = self._lane(strand, number)
        if not lane.follows(session):
            return []
        out = lane.note(packets, form, session.lane_windows[number], now)
        self._note_held(strand, lane, now)
        return out

    def take(
        self, strand: SecureStrand, parity: Parity, session: Session, now: float
    ) -> List[Repaired]:
        """Take a parity frame; return the packets made from it, one or none."""
        lane = self._lane(strand, parity.lane)
        if not lane.follows(session):
            return []
        window = session.lane_windows.get(parity.lane)
        if window is None:
            window = session.lane_windows[parity.lane] = ReplayWindow()
        out = lane.take(parity, window, now)
        self._note_held(strand, lane, now)
        return out

    def expire(self, now: float) -> None:
        """Forget what no frame will need any more."""
        for strand in self._timers.take(now):
            lanes: Dict[int, LaneRepair] = strand.repairs
            if self._tables.strands.get(strand.host) is not strand:
                for lane in lanes.values():
                    lane.forget()
            due = [lane.expire(now) for lane in lanes.values()]
            self._count(strand)
            self._timers.set(strand, min(due, default=NOT_DUE))

    def drop(self) -> None:
        """Forget all: it has become too late for what could be made from it."""
        for strand in self._held:
            for lane in strand.repairs.values():
                lane.forget()
        self._held.clear()
        self._held_bytes = 0

    @staticmethod
    def _lane(strand: SecureStrand, number: int) -> LaneRepair:
        lane: Optional[LaneRepair] = strand.repairs.get(number)
        if lane is None:
            lane = strand.repairs[number] = LaneRepair()
        return lane

    def _note_held(self, strand: SecureStrand, lane: LaneRepair, now: float) -> None:
        """Count what a strand keeps now, and keep to the bounds."""
        self._count(strand)
        share = self._share()
        while self._held.get(strand, 0) > share and lane.shrink():
            self._count(strand)
        self._timers.bring_forward(strand, now + tuning.REPAIR_S)

    def _count(self, strand: SecureStrand) -> None:
        held_bytes = sum(lane.held_bytes for lane in strand.repairs.values())
        self._held_bytes += held_bytes - self._held.get(strand, 0)
        if held_bytes:
            self._held[strand] = held_bytes
        else:
            self._held.pop(strand, None)

    def _share(self) -> float:
        """Return how many bytes one strand may keep."""
        if self._held_bytes <= tuning.REPAIRS_BYTES / 2:
            return tuning.REPAIR_BYTES
        if self._held_bytes > tuning.REPAIRS_BYTES:
            return 0
        return min(tuning.REPAIR_BYTES, tuning.REPAIRS_BYTES / 2 / len(self._held))


def _repair(group: _Group, window: ReplayWindow) -> List[Repaired]:
    """Return the packet that is missing, and note that it has come; nothing if it has come."""
    (counter,) = group.missing
    packet = group.last()
    if packet is None or window.check(counter) != ReplayWindow.NEW:
        return []
    window.mark(counter)
    return [Repaired(counter, packet, Form(group.form))]
