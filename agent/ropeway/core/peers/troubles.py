"""Troubles of connections as they are noticed, and which links and interfaces have them together.

Local links are judged by all strands that use them: a mast serves all. The interfaces of another
host are judged by its own strand.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Tuple

from ropeway.core import tuning
from ropeway.core.strand.joint import Joint, Pair
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.tables import Tables


class Troubles:
    """Notes late answers, losses, long queues and silence; never asked for a packet."""

    def __init__(self, tables: Tables[SecureStrand]) -> None:
        self._tables = tables
        self._links: Joint[int] = Joint(lambda connection: connection.link)

    def note(self, connection: SecureConnection, now: float) -> None:
        """Note that a connection is in trouble; without data nothing shows when that began."""
        strand = connection.strand
        if not connection.is_active(now):
            return
        self._links.note(connection, now)
        if strand.joint is None:
            strand.joint = Joint(lambda one: one.far)
        strand.joint.note(connection, now)

    def note_measured(self, connection: SecureConnection, now: float) -> None:
        """See whether what was just measured of a connection is trouble."""
        estimate = connection.quality.estimate
        latest_ms, lowest_ms = estimate.rtt_latest_ms, estimate.rtt_min_ms
        is_queued = (
            latest_ms is not None
            and lowest_ms is not None
            and latest_ms > lowest_ms + tuning.TROUBLE_QUEUE_MS
        )
        if estimate.lost_at == now or is_queued:
            self.note(connection, now)
        self.look(connection.strand, now)

    def look(self, strand: SecureStrand, now: float) -> None:
        """Judge the troubles of all links, and those of a host's interfaces, if it is due."""
        if now >= self._links.due:
            everything = (c for s in self._tables.strands.values() for c in s.connections.values())
            self._links.look(everything, now)
        if strand.joint is not None and now >= strand.joint.due:
            strand.joint.look(strand.connections.values(), now)

    def together(self, one: SecureConnection, other: SecureConnection, now: float) -> float:
        """Return which share of their troubles two connections have at once, 0 if not known."""
        found = self._links.together(one.link, other.link, now) or 0.0
        far = one.strand.joint
        return max(found, (far and far.together(one.far, other.far, now)) or 0.0)

    def of_links(self, known: Any, now: float) -> List[Dict[str, Any]]:
        """Return the pairs of the links in ``known``, indices, ready for JSON."""
        return _pairs("links", self._links, known, now)

    def of_strand(self, strand: SecureStrand, now: float) -> List[Dict[str, Any]]:
        """Return the pairs of a host's interfaces that it has named, ready for JSON."""
        if strand.joint is None:
            return []
        known = {c.remote for c in strand.connections.values() if c.remote}
        return _pairs("remotes", strand.joint, known, now)


def _pairs(name: str, joint: Joint[Any], known: Any, now: float) -> List[Dict[str, Any]]:
    found: List[Tuple[List[int], Pair]] = [
        (sorted(both), pair) for both, pair in joint.pairs.items() if _all_in(both, known)
    ]
    return [
        {name: both, **_of_pair(pair, now)} for both, pair in sorted(found, key=lambda one: one[0])
    ]


def _of_pair(pair: Pair, now: float) -> Dict[str, Any]:
    together = pair.together(now)
    return {
        "together": None if together is None else round(together, 3),
        "common": round(pair.common(now), 2),
        "troubles": round(pair.troubles(now), 2),
    }


def _all_in(both: FrozenSet[Any], known: Any) -> bool:
    return all(one in known for one in both)
