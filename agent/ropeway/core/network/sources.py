"""The source table: how good a route has to be so that it cannot lead back here.

A host notes for each prefix and origin the best route that it has told any neighbour of: its
feasibility distance. A neighbour that tells of a better one than that does not send its packets
here, directly or by others (RFC 8966, sections 2.4 and 3.5.1). The same holds for every neighbour
that does, so a host may use all of them at once.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from ropeway.core.packet.prefix import Prefix

#: Entries at most; where it is full, prefixes that it lacks are not told of.
MAX_SOURCES = 16384
#: How long an entry lasts after it was told last, in seconds: longer than any route
#: that a neighbour may have because of it (RFC 8966, section 3.7.3 and appendix B: 180).
SOURCE_S = 180.0

#: Sequence number and metric.
Distance = Tuple[int, int]


class Sources:
    """The feasibility distances of a host."""

    def __init__(self) -> None:
        self._known: Dict[Tuple[Prefix, bytes], Tuple[Distance, float]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._known)

    def distance(self, prefix: Prefix, origin: bytes) -> Optional[Distance]:
        """Return a feasibility distance, None if nobody was told of such a route."""
        known = self._known.get((prefix, origin))
        return None if known is None else known[0]

    def is_feasible(self, prefix: Prefix, origin: bytes, seqno: int, metric: int) -> bool:
        """Return whether a route that a neighbour tells of cannot lead back here."""
        known = self._known.get((prefix, origin))
        return known is None or is_better((seqno, metric), known[0])

    def note(self, prefix: Prefix, origin: bytes, seqno: int, metric: int, now: float) -> bool:
        """Take note of what a neighbour is told of; False if it must not be, for want of room."""
        key, told = (prefix, origin), (seqno, metric)
        known = self._known.get(key)
        if known is None and len(self._known) >= MAX_SOURCES:
            return False
        best = told if known is None or is_better(told, known[0]) else known[0]
        self._known[key] = (best, now + SOURCE_S)
        return True

    def expire(self, now: float) -> None:
        """Forget what was told so long ago that nobody has a route because of it."""
        old: List[Tuple[Prefix, bytes]] = [
            key for key, (_, until) in self._known.items() if until <= now
        ]
        for key in old:
            del self._known[key]


def is_better(one: Distance, other: Distance) -> bool:
    """Return whether a distance is strictly better: newer, or as new and nearer."""
    return one[0] > other[0] or (one[0] == other[0] and one[1] < other[1])
