"""What several statuses in a row tell: rates of what is only counted, and curves."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Deque, Dict, Hashable, List, Mapping, Optional

POINTS = 60
"""How many statuses a curve goes back."""

Points = Deque[Optional[float]]


def _points() -> Points:
    return collections.deque(maxlen=POINTS)


@dataclasses.dataclass
class Curves:
    """How a link or a connection went; None where nothing was known."""

    rtts_ms: Points = dataclasses.field(default_factory=_points)
    rates_kbit: Points = dataclasses.field(default_factory=_points)


class History:
    """Remembers what the agent said, of what its newest status still has."""

    def __init__(self) -> None:
        self._curves: Dict[Hashable, Curves] = {}
        self._counts: Dict[Hashable, int] = {}
        self._rates: Dict[Hashable, float] = {}
        self._uptime_s = 0.0

    def take(self, status: Mapping[str, Any]) -> None:
        """Add the newest status."""
        uptime_s = status.get("uptime_s", 0.0)
        passed_s = uptime_s - self._uptime_s
        if passed_s < 0.0:
            # Another agent, which counts from 0.
            self._curves, self._counts = {}, {}
        counts = _counts(status)
        self._rates = {
            key: (count - self._counts[key]) / passed_s
            for key, count in counts.items()
            if passed_s > 0.0 and count >= self._counts.get(key, count + 1)
        }
        self._counts, self._uptime_s = counts, uptime_s
        before, self._curves = self._curves, {}
        for link in status.get("links", ()):
            self._add(before, link_key(link), link.get("rtt_ms"), link.get("rate_kbit"))
        for peer in status.get("peers", ()):
            for connection in peer["connections"]:
                key = connection_key(peer["host"], connection)
                rate_kbit = self.rate_kbit(key, connection, "rate_kbit", "sent_bytes")
                self._add(before, key, connection.get("rtt_ms"), rate_kbit)

    def curves(self, key: Hashable) -> Curves:
        """Return how a link or a connection of the newest status went."""
        return self._curves.get(key) or Curves()

    def per_s(self, key: Hashable, name: str) -> Optional[float]:
        """Return by how much a count grows in a second; None before the second status."""
        return self._rates.get((key, name))

    def rate_kbit(
        self, key: Hashable, connection: Mapping[str, Any], measured: str, counted: str
    ) -> Optional[float]:
        """Return what a connection carries, as measured, or else as its bytes are counted."""
        estimate = connection.get("estimate")
        if estimate:
            found: Optional[float] = estimate.get(measured)
            return found
        per_s = self.per_s(key, counted)
        return None if per_s is None else per_s * 8e-3

    def _add(
        self,
        before: Dict[Hashable, Curves],
        key: Hashable,
        rtt_ms: Optional[float],
        rate_kbit: Optional[float],
    ) -> None:
        curves = self._curves[key] = before.get(key) or Curves()
        curves.rtts_ms.append(rtt_ms)
        curves.rates_kbit.append(rate_kbit)


def link_key(link: Mapping[str, Any]) -> Hashable:
    """Return what a link is remembered by."""
    return ("link", link["index"])


def connection_key(host: str, connection: Mapping[str, Any]) -> Hashable:
    """Return what a connection is remembered by."""
    ends = (connection[name] for name in ("link", "remote", "address"))
    return (host, *ends, connection.get("port"))


def class_key(host: str, name: Optional[str]) -> Hashable:
    """Return what a host's class of traffic is remembered by."""
    return ("class", host, name)


def _counts(status: Mapping[str, Any]) -> Dict[Hashable, int]:
    counts: Dict[Hashable, int] = {}
    for peer in status.get("peers", ()):
        host = peer["host"]
        if "rescued" in peer:
            counts[host, "rescued"] = peer["rescued"]
        for one in peer.get("classes", ()):
            counts[class_key(host, one["name"]), "packets"] = one["packets"]
        for connection in peer["connections"]:
            for name in ("sent_bytes", "received_bytes"):
                counts[connection_key(host, connection), name] = connection[name]
    return counts


def known(points: Points) -> List[float]:
    """Return the points of a curve at which something was known."""
    return [point for point in points if point is not None]
