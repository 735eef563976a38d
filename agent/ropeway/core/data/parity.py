"""Parity frames of a class as they are made: one XOR packet for so many packets of a lane.

A frame is sent once it covers as many packets as the class wants. Where the flow pauses it is sent
sooner, so that the last packets of a burst are covered as well.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.data.send import Sender
from ropeway.core.frame.data import PARITY, PARITY_AD, form_of
from ropeway.core.frame.parity import PARITY_SIZE, Parity, encode_parity
from ropeway.core.session.session import Session
from ropeway.core.strand.class_table import ClassTable, Sealed
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.strand import NEVER
from ropeway.core.timers import Timers

#: As plain numbers, by type of frame.
_FORM_OF = tuple(int(form_of(kind)) for kind in range(256))


class Group:
    """Packets that one parity frame will cover."""

    __slots__ = (
        "_began_at",
        "_form",
        "_index",
        "_last_at",
        "_packets",
        "_since",
        "_sizes",
        "count",
        "ds_field",
        "first",
        "gap_s",
        "lane",
        "longest",
    )

    def __init__(self) -> None:
        #: How far apart packets come, roughly, in seconds; 0 while that is not known.
        self.gap_s = 0.0
        self._last_at = NEVER
        # Under which session they were sealed: when it was made, and its index. The session itself
        # is not kept: its keys have to go when it ends.
        self._since = NEVER
        self._index = b""
        self._begin(0, 0, NEVER)

    def begin(self, session: Session, lane: int, first: int, now: float) -> None:
        """Begin anew with a packet that was sealed under a session."""
        self._since, self._index = session.created_at, session.local_index
        self._begin(lane, first, now)

    def is_of(self, session: Session) -> bool:
        """Return whether its packets were sealed under a session."""
        return session.created_at == self._since and session.local_index == self._index

    def _begin(self, lane: int, first: int, now: float) -> None:
        self.lane = lane
        #: The counter of the first packet, and how many there are so far.
        self.first = first
        self.count = 0
        #: Bytes of the longest one, and the DS field of the last one's outer headers.
        self.longest = 0
        self.ds_field = 0
        self._form = 0
        self._sizes = 0
        self._packets = 0
        self._began_at = now

    def add(self, packets: Sequence[bytes], form: int, now: float) -> None:
        """Take the packets that follow, with their labels, in frames of a form."""
        for packet in packets:
            size = len(packet)
            self._packets ^= int.from_bytes(packet, "little")
            self._sizes ^= size
            self._form ^= form
            if size > self.longest:
                self.longest = size
        # A pause does not make the flow a slow one.
        gap_s = min(now - self._last_at, 2 * self._pause_s)
        self.gap_s += tuning.PARITY_GAP_SHARE * (gap_s - self.gap_s)
        self._last_at = now
        self.count += len(packets)

    def due(self, wait_s: float) -> float:
        """Return when the frame is sent though there are not enough packets, in monotonic seconds.

        That is ``wait_s`` after the first packet at the latest.
        """
        return min(self._last_at + self._pause_s, self._began_at + wait_s)

    @property
    def _pause_s(self) -> float:
        """How long the flow pauses before the frame is sent, in seconds."""
        return max(tuning.PARITY_PAUSE_S, tuning.PARITY_PAUSE_GAPS * self.gap_s)

    def body(self, count: int) -> bytes:
        """Return what the frame of so many packets is to hold."""
        fields = (self.lane, self.first, count, self._form, self._sizes, self._packets)
        return encode_parity(Parity(*fields, self.longest))


class ParitySender:
    """Makes the parity frames of all classes of all strands."""

    __slots__ = ("_put", "_timers")

    def __init__(self, sender: Sender) -> None:
        self._put = sender.put
        self._timers: Timers[Tuple[SecureStrand, ClassTable]] = Timers()

    @property
    def due(self) -> float:
        """When :meth:`expire` may have something to do, in monotonic seconds."""
        return self._timers.next_at()

    def cover(
        self,
        strand: SecureStrand,
        table: ClassTable,
        sealed: Sealed,
        packets: Sequence[bytes],
        now: float,
    ) -> None:
        """Take what was sealed of a class, labels and packets, and send what is complete."""
        session, lane = strand.session, table.lane
        if session is None or lane is None:
            return
        group: Optional[Group] = table.group
        if group is None:
            group = table.group = Group()
        start, form = 0, _FORM_OF[sealed.kind]
        while start < len(packets):
            first = sealed.first + start
            if not group.is_of(session) or group.first + group.count != first:
                self._send(strand, table, group)
            if not group.count:
                group.begin(session, lane, first, now)
            end = start + table.parity - group.count
            group.add(packets[start:end], form, now)
            group.ds_field = sealed.ds_field
            start = end
            if group.count >= table.parity:
                self._send(strand, table, group)
        if group.count:
            self._timers.bring_forward((strand, table), group.due(table.parity_wait_s))

    def expire(self, now: float) -> None:
        """Send the frames of flows that pause."""
        for strand, table in self._timers.take(now):
            group: Optional[Group] = table.group
            if group is None or not group.count:
                continue
            due = group.due(table.parity_wait_s)
            if due <= now:
                self._send(strand, table, group)
            else:
                self._timers.set((strand, table), due)

    def _send(self, strand: SecureStrand, table: ClassTable, group: Group) -> None:
        """Put the frame of a group into the outbox of a connection that has room for it."""
        session, count = strand.session, group.count
        group.count = 0
        if not count or session is None or not group.is_of(session):
            return
        size = PARITY_SIZE + group.longest
        over = [c for c in (table.parity_over, *table.carrying) if c is not None and size <= c.mtu]
        if not over:
            return
        first, texts = session.seal_run(PARITY_AD, (group.body(count),))
        self._put(over[:1], PARITY, session.remote_index, first, texts, group.ds_field)
        table.parity_frames += 1
