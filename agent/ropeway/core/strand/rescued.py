"""What redundancy bought: packets that the best connection lost and another one brought."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Tuple

from ropeway.core.tuning import RATE_S

#: Packets whose first copy came, frames received, and frames lost, of one connection.
_Counts = Tuple[int, int, int]


class Rescued:
    """Counts the packets of one host that came over another connection than its best one alone.

    The best one is that which brought most, second by second. It cannot have rescued more than it
    lost, nor can the others have brought more than their first copies; the lower of both counts.
    """

    __slots__ = ("_before", "_looked_at", "best", "best_lost", "packets")

    def __init__(self) -> None:
        self.packets = 0
        #: The way of the best connection, 0 before there are several, and what it lost meanwhile.
        self.best = 0
        self.best_lost = 0
        self._looked_at = float("-inf")
        self._before: Dict[Any, _Counts] = {}

    def look(self, connections: Iterable[Any], now: float) -> bool:
        """Count what came since the last look, at most once in :data:`RATE_S`; tell if it did."""
        if now < self._looked_at + RATE_S:
            return False
        self._looked_at = now
        counts = {
            c.way: (c.traffic.first, c.traffic.received, c.quality.estimate.lost_in)
            for c in connections
        }
        grown = {
            way: tuple(after - before for after, before in zip(count, self._before[way]))
            for way, count in counts.items()
            if way in self._before
        }
        self._before = counts
        self.best = self.best_lost = 0
        if len(grown) < 2:
            return True
        self.best = max(grown, key=lambda way: grown[way][1])
        first, _, self.best_lost = grown[self.best]
        others = sum(count[0] for count in grown.values()) - first
        self.packets += max(0, min(self.best_lost, others))
        return True
