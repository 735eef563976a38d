"""What became of the packets of one flow, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Set, Tuple

DEADLINE_MS = 100.0
LOST = math.inf


@dataclass
class Usage:
    """Bytes that were sent over one direction of a link, IP and UDP headers included."""

    data_bytes: int = 0
    #: Handshakes, probes and whatever else is no copy of a packet.
    control_bytes: int = 0

    @property
    def bytes(self) -> int:
        return self.data_bytes + self.control_bytes

    def since(self, before: Usage) -> Usage:
        """Return what was added after ``before`` was taken."""
        return Usage(self.data_bytes - before.data_bytes, self.control_bytes - before.control_bytes)


@dataclass
class Flow:
    """Packets of one size at one rate; all times in seconds of the links."""

    size: int
    #: Bytes that one copy of a packet takes on a link.
    copy_bytes: int
    sent_at: List[float] = field(default_factory=list)
    #: When the first copy was delivered; infinity for what was lost.
    delivered_at: List[float] = field(default_factory=list)
    #: Packets that the receiver's device got more than once.
    duplicates: int = 0
    #: What was sent meanwhile, by link: (out, back), of all flows and of the nodes themselves.
    usage: List[Tuple[Usage, Usage]] = field(default_factory=list)
    #: Bytes that went out over all links in each second, by second.
    out_by_second: Dict[int, int] = field(default_factory=dict)
    #: The other flow of the same stream, in the other direction.
    back: Optional[Flow] = None

    @property
    def latencies_ms(self) -> List[float]:
        """By packet; infinity for what was lost."""
        return [(end - start) * 1000 for start, end in zip(self.sent_at, self.delivered_at)]

    @property
    def lost(self) -> int:
        return self.delivered_at.count(LOST)

    def percentile_ms(self, share: float, delivered: bool = False) -> float:
        """Return the latency that this share (0..1) of all packets does not exceed.

        What was lost takes for ever, unless only the ``delivered`` ones count.
        """
        latencies = sorted(self.latencies_ms)
        if delivered:
            latencies = [one for one in latencies if one != LOST]
        if not latencies:
            return LOST
        return latencies[max(math.ceil(share * len(latencies)) - 1, 0)]

    def misses(self, deadline_ms: float = DEADLINE_MS) -> int:
        """Return how many packets came later than that after they were sent, or never."""
        return sum(latency > deadline_ms for latency in self.latencies_ms)

    @property
    def longest_gap_ms(self) -> float:
        """The longest time for which nothing new came, from the first to the last sending."""
        if not self.sent_at:
            return 0.0
        end = self.sent_at[-1]
        edges = [self.sent_at[0], *sorted(at for at in self.delivered_at if at < end), end]
        return max(after - before for before, after in zip(edges, edges[1:])) * 1000

    @property
    def cost(self) -> float:
        """All bytes that went out over all links, as a multiple of one copy of each packet."""
        single = self.copy_bytes * len(self.sent_at)
        return sum(out.bytes for out, _ in self.usage) / single if single else 0.0

    def missed_seconds(self, deadline_ms: float = DEADLINE_MS) -> Set[int]:
        """Return the seconds in which packets were sent that came too late or never."""
        late = zip(self.sent_at, self.latencies_ms)
        return {int(sent_at) for sent_at, latency in late if latency > deadline_ms}

    def cost_within(self, seconds: Set[int]) -> Optional[float]:
        """Return the cost in these seconds alone; None if nothing was sent in them."""
        sent = sum(int(sent_at) in seconds for sent_at in self.sent_at)
        out = sum(size for second, size in self.out_by_second.items() if second in seconds)
        return out / (sent * self.copy_bytes) if sent else None

    def figures(self, deadline_ms: float = DEADLINE_MS) -> Dict[str, Any]:
        """Return everything for JSON; None for a percentile that was lost."""
        shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
        return {
            "packets": len(self.sent_at),
            "lost": self.lost,
            "duplicates": self.duplicates,
            **{name: _finite(self.percentile_ms(share)) for name, share in shares.items()},
            **{
                f"delivered_{name}": _finite(self.percentile_ms(share, delivered=True))
                for name, share in shares.items()
            },
            "deadline_ms": deadline_ms,
            "misses": self.misses(deadline_ms),
            "longest_gap_ms": round(self.longest_gap_ms, 3),
            "cost": round(self.cost, 4),
            "links": [{"out": vars(out), "back": vars(back)} for out, back in self.usage],
        }


def _finite(value_ms: float) -> Optional[float]:
    return None if value_ms == LOST else round(value_ms, 3)
