"""Which packets have been received before.

The id on the wire has 13 bits and a duplicate is the same id
less than 500 ms ago. Read literally that fails at both ends. Above 16 384 packets a second distinct
packets share an id inside that time, so the packet itself is part of the identity: two packets are
copies if id and all bytes agree. And a link that comes back may deliver copies that waited for
seconds in a queue or for address resolution, so a copy that comes another way than the first is
remembered for longer, as long as the ids have hardly come round.

All copies of one packet travel one hop and so are the same in every byte; a genuine
retransmission takes a new id.
"""

from __future__ import annotations

from typing import Dict, Tuple

from ropeway.core.classic.frame import DUPLICATE_S, ID_MODULUS
from ropeway.core.tuning import LATE_COPY_S, MAX_WINDOW_ENTRIES


class DuplicateWindow:
    """Remembers the packets of one strand, for at least :data:`DUPLICATE_S`, in bounded memory.

    Two generations hold hash of (id, packet) -> time, serial number and way of the first copy. A
    generation ends when it is older than :data:`LATE_COPY_S`, or older than :data:`DUPLICATE_S`
    and holds half of all ids. Python's hash of bytes is keyed per process
    (SipHash), so collisions cannot be aimed at.
    """

    __slots__ = ("_born", "_limit", "_new", "_old", "_serial", "crowded")

    def __init__(self, limit: int = MAX_WINDOW_ENTRIES) -> None:
        self._new: Dict[int, Tuple[float, int, int]] = {}
        self._old: Dict[int, Tuple[float, int, int]] = {}
        self._born = 0.0
        self._serial = 0
        self._limit = limit
        #: How often a generation was full before its time, so that copies may have passed.
        self.crowded = 0

    def is_first(self, packet_id: int, packet: bytes, way: int, now: float) -> bool:
        """Note a packet; True if it is the first copy.

        ``packet_id`` is 0 to 8191; ``way`` tells connections apart; ``now`` is monotonic seconds
        and never goes back.
        """
        new = self._new
        age = now - self._born
        if age >= DUPLICATE_S and (len(new) >= ID_MODULUS // 2 or age >= LATE_COPY_S):
            self._old = new if age < 2 * LATE_COPY_S else {}
            self._new = new = {}
            self._born = now
        elif len(new) >= self._limit:
            self.crowded += 1
            self._old = new
            self._new = new = {}
            self._born = now
        key = hash((packet_id, packet))
        seen = new.get(key) or self._old.get(key)
        serial = self._serial
        if seen is not None and (
            now - seen[0] < DUPLICATE_S or (way != seen[2] and serial - seen[1] < ID_MODULUS // 2)
        ):
            return False
        new[key] = (now, serial, way)
        self._serial = serial + 1
        return True

    def expire(self, now: float) -> None:
        """Give back the memory of packets that are too old to matter."""
        if now - self._born >= 2 * LATE_COPY_S:
            self._new, self._old = {}, {}
            self._born = now
