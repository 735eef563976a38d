"""How often other hosts are asked for an answer at once, to measure the paths to them.

A question and its answer cost each end as much as some packets do. So there are no more of them
than a share of the packets, and a node with many hosts asks each of them less often.
"""

from __future__ import annotations

from typing import Mapping

from ropeway.core import tuning
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.strand import NEVER


class ProbeBudget:
    """What a node asks, and is asked, in all: each host that data passes to or from has its part.

    Pauses are seconds between two questions to one host, over all connections to it.
    """

    def __init__(self, strands: Mapping[str, SecureStrand]) -> None:
        self._strands = strands
        self._each_per_s = tuning.NODE_ASKS_PER_S
        self._counted_at = NEVER

    def pause_s(self, strand: SecureStrand, now: float) -> float:
        """Return how far apart questions to a host have to be: both ends have their say."""
        if strand.is_active(now):
            sent = sum(c.traffic.sent for c in strand.connections.values())
            strand.packet_rate.look(sent + strand.delivered, now)
        else:
            strand.packet_rate.forget()
        pause_s = max(self.answered_pause_s(strand, now), strand.far_pause_s)
        packets_per_s = strand.packet_rate.per_s
        if packets_per_s is None:
            return pause_s
        return max(pause_s, 1 / max(tuning.ASKS_PER_PACKET * packets_per_s, 1 / tuning.PROBE_S))

    def answered_pause_s(self, strand: SecureStrand, now: float) -> float:
        """Return how far apart a host's questions have to be, as this node tells it."""
        if now >= self._counted_at + tuning.RATE_S:
            self._counted_at = now
            active = sum(one.is_active(now) for one in self._strands.values())
            self._each_per_s = tuning.NODE_ASKS_PER_S / max(active, 1)
        packets_per_s = strand.packet_rate.per_s or 0.0
        return 1 / max(self._each_per_s, tuning.ASKS_PER_PACKET_MIN * packets_per_s)
