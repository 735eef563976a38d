"""What the way to a neighbour costs: by its round-trip time and loss, damped.

Cost grows with the round-trip time between two bounds (RFC 9616, section 4.2), and with the share
of packets that get lost (RFC 8966, appendix A.2.2). It is a smoothed value (RFC 9616, section 4.1),
and one that changes only where it has moved away from what it was.
"""

from __future__ import annotations

from typing import Optional

#: What a way costs at least.
COST_MIN = 96
#: Round-trip times count from here up to there, in milliseconds: one of cost for each.
RTT_FREE_MS = 10.0
RTT_MAX_MS = 610.0
#: Shares of packets that arrive count down to this one.
DELIVERED_MIN = 0.25
#: The weight of what was before, for each look; looks are a second apart.
SMOOTHING = 0.836
#: The cost changes where the smoothed value is away from it by more than this part.
STEP_SHARE = 0.1


class LinkCost:
    """The cost of the way to one neighbour, from what is measured now and then."""

    __slots__ = ("_smoothed", "cost")

    def __init__(self) -> None:
        self._smoothed: Optional[float] = None
        #: A whole number, :data:`COST_MIN` or more.
        self.cost = COST_MIN

    def note(self, rtt_ms: Optional[float], lost: float) -> int:
        """Take what was measured, and return the cost.

        ``rtt_ms`` is None where it is not known yet, ``lost`` is a share, 0 to 1.
        """
        if rtt_ms is None:
            return self.cost
        late = min(max(rtt_ms, RTT_FREE_MS), RTT_MAX_MS) - RTT_FREE_MS
        value = (COST_MIN + late) / max(DELIVERED_MIN, 1.0 - lost)
        if self._smoothed is None:
            self._smoothed = value
            self.cost = round(value)
        else:
            self._smoothed += (1.0 - SMOOTHING) * (value - self._smoothed)
            if abs(self._smoothed - self.cost) > STEP_SHARE * self.cost:
                self.cost = round(self._smoothed)
        return self.cost
