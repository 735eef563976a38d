"""The duplicate window of the classic encapsulation.

The id on the wire has 13 bits and a duplicate is the same id less than 500 ms ago. Above 16 384
packets a second distinct packets share an id inside that time, so the packet itself is part of
the identity: two packets are copies if id and all bytes agree. All copies of one packet travel
one hop and so are the same in every byte; a genuine retransmission takes a new id.
"""

from __future__ import annotations

from typing import Dict

from ropeway.core.classic import DUPLICATE_S
from ropeway.core.tuning import MAX_WINDOW_ENTRIES


class DuplicateWindow:
    """Remembers the packets of one strand for :data:`DUPLICATE_S`, in bounded memory.

    Two generations of half-open age hold (id, hash of the packet) -> time of the first copy.
    Python's hash of bytes is keyed per process (SipHash), so collisions cannot be aimed at.
    """

    __slots__ = ("_born", "_limit", "_new", "_old", "crowded")

    def __init__(self, limit: int = MAX_WINDOW_ENTRIES) -> None:
        self._new: Dict[int, float] = {}
        self._old: Dict[int, float] = {}
        self._born = 0.0
        self._limit = limit
        #: How often a generation was full before its time, so that copies may have passed.
        self.crowded = 0

    def is_first(self, packet_id: int, packet: bytes, now: float) -> bool:
        """Note a packet; True if it is the first copy.

        ``packet_id`` is 0 to 8191; ``now`` is monotonic seconds and never goes back.
        """
        if now - self._born >= DUPLICATE_S or len(self._new) >= self._limit:
            self._turn(now)
        key = hash((packet_id, packet))
        seen = self._new.get(key)
        if seen is None:
            seen = self._old.get(key)
        if seen is not None and now - seen < DUPLICATE_S:
            return False
        self._new[key] = now
        return True

    def _turn(self, now: float) -> None:
        age = now - self._born
        if age < DUPLICATE_S:
            self.crowded += 1
        self._old = self._new if age < 2 * DUPLICATE_S else {}
        self._new = {}
        self._born = now
