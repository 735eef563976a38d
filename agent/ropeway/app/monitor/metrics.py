"""The status of the agent as metrics, by the conventions of Prometheus.

Base units are seconds, bytes and ratios from 0 to 1. Labels are ``link`` and ``other``
(interfaces of this host), ``peer`` (a virtual address), ``class`` (a name in the configuration) and
``reason``. All of them are names of this host's own configuration or of the agent's source, so no
other host can make series; and their number is bounded besides.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ropeway.app.monitor.source import Answer

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

LABEL_LENGTH_MAX = 64
"""Of names that come from elsewhere, as characters."""
SERIES_MAX = 4096
"""Of one metric. A router with 250 hosts over 4 links has 1000 of each."""
BUCKETS_MAX = 16
"""Of a histogram."""
REST = "(rest)"
"""The label of packets of no class; no class can have that name."""
_KBIT_BYTES = 1000 / 8

#: Of connections that carry traffic over a link to a peer: what is counted for them.
COUNTED = {
    "sent": ("transmit_packets", "Packets sent over the link to the peer, each copy counted."),
    "received": ("receive_packets", "Packets received over the link from the peer, each copy."),
    "sent_bytes": ("transmit_bytes", "Bytes sent over the link to the peer, copies included."),
    "received_bytes": ("receive_bytes", "Bytes received over the link from the peer."),
    "first": ("first_packets", "Packets whose first copy came over the link from the peer."),
    "duplicates": ("duplicate_packets", "Later copies that came over the link from the peer."),
    "reordered": ("reordered_packets", "Packets that came after one that was sent later."),
}
#: What was measured of them: key in the status, name, factor to the base unit, and help.
MEASURED = (
    ("rtt_ms", "rtt_seconds", 1e-3, "Smoothed round-trip time over the link to the peer."),
    ("rtt_min_ms", "rtt_min_seconds", 1e-3, "Shortest round-trip time seen lately."),
    ("rtt_var_ms", "rtt_variation_seconds", 1e-3, "Mean deviation of the round-trip time."),
    ("queue_ms", "queue_seconds", 1e-3, "Time that packets to the peer wait in queues on the way."),
    ("queue_in_ms", "queue_in_seconds", 1e-3, "Time that packets from the peer wait in queues."),
    ("jitter_ms", "jitter_seconds", 1e-3, "Variation of the one-way delay to the peer."),
    ("loss", "loss_ratio", 1.0, "Share of packets to the peer that were lost lately, 0 to 1."),
    ("loss_low", "loss_low_ratio", 1.0, "Lower bound of that loss, with 99 % confidence."),
    ("loss_high", "loss_high_ratio", 1.0, "Upper bound of that loss, with 99 % confidence."),
    ("loss_in", "loss_in_ratio", 1.0, "Share of packets from the peer that were lost lately."),
    ("burst_in_mean", "burst_in_packets", 1.0, "Mean run of packets from the peer that were lost."),
    ("burst_in_longest", "burst_in_longest_packets", 1.0, "Longest run lost in the last minutes."),
    (
        "capacity_kbit",
        "connection_capacity_bytes_per_second",
        _KBIT_BYTES,
        "What the path to the peer can carry; connection_capacity_measured says how sure that is.",
    ),
    (
        "capacity_age_s",
        "connection_capacity_age_seconds",
        1.0,
        "Time since the path was seen to carry that.",
    ),
    ("age_s", "estimate_age_seconds", 1.0, "Time since the last measurement of this path."),
)
#: Of links with a budget: the key in the status, the name and the help.
BUDGET = (
    ("used_bytes", "link_budget_used_bytes", "What the link has used of its budget."),
    ("bytes", "link_budget_bytes", "What the link may carry in its day or month."),
    ("used_up", "link_budget_used_up", "1 if the budget of the link is used up."),
)


def text(value: object) -> str:
    """Return ``value`` as a label: short, on one line, and nothing that cannot be UTF-8."""
    shown = "".join(c if c.isprintable() else "?" for c in str(value)[:LABEL_LENGTH_MAX])
    return shown.encode("utf-8", "replace").decode("utf-8")


def number(value: object) -> Optional[float]:
    """Return ``value`` as a finite number; None if it is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isfinite(found) else None
    return None


def entries(value: object) -> List[Mapping[str, Any]]:
    """Return the mappings in a list of the status; none if it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping of the status; an empty one if it is none."""
    return value if isinstance(value, dict) else {}


Key = Tuple[str, ...]


class Families:
    """Metrics by name, in the order in which they were first named, each series once."""

    def __init__(self) -> None:
        self._families: Dict[str, Metric] = {}
        self._series: Dict[str, Dict[Key, None]] = {}

    def gauge(self, name: str, help_text: str, value: Any, **labels: object) -> None:
        """Add a value that goes up and down; nothing if ``value`` is no number."""
        self._add(GaugeMetricFamily, name, help_text, value, labels)

    def counter(self, name: str, help_text: str, value: Any, **labels: object) -> None:
        """Add a value that only grows; its name gets the ending ``_total``."""
        self._add(CounterMetricFamily, name, help_text, value, labels)

    def histogram(
        self,
        name: str,
        help_text: str,
        buckets: Sequence[Tuple[float, float]],
        total: float,
        **labels: object,
    ) -> None:
        """Add a count for each upper bound; bounds rise, and end with infinity. And the sum."""
        family = self._family(HistogramMetricFamily, name, help_text, labels)
        if family is not None:
            counts = itertools.accumulate(count for _, count in buckets)
            summed = [(_bound(bound), n) for (bound, _), n in zip(buckets, counts)]
            family.add_metric(_values(labels), buckets=summed, sum_value=total)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())

    def _add(
        self, kind: Any, name: str, help_text: str, value: Any, labels: Dict[str, object]
    ) -> None:
        found = number(value)
        family = None if found is None else self._family(kind, name, help_text, labels)
        if family is not None:
            family.add_metric(_values(labels), found)

    def _family(self, kind: Any, name: str, help_text: str, labels: Dict[str, object]) -> Any:
        """Return the metric that takes a new series with these labels; None if none may."""
        name = "ropeway_" + name
        key = tuple(_values(labels))
        seen = self._series.setdefault(name, {})
        if key in seen or len(seen) >= SERIES_MAX:
            return None
        seen[key] = None
        if name not in self._families:
            # A Python name cannot be `class`.
            names = [label.rstrip("_") for label in labels]
            self._families[name] = kind(name, help_text, labels=names)
        return self._families[name]


def _bound(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else str(bound)


def _values(labels: Mapping[str, object]) -> List[str]:
    return [text(one) for one in labels.values()]


class Totals:
    """Counts of connections, summed for a peer and a link, that never go back.

    A connection that goes takes its counts with it, and one that comes begins with 0. The sums
    keep what was counted; Prometheus would take a smaller sum for a restart.
    """

    def __init__(self) -> None:
        self._seen: Dict[Tuple[Key, Key, str], float] = {}
        self._sums: Dict[Tuple[Key, str], float] = {}

    def take(
        self, counts: Iterable[Tuple[Key, Key, str, float]]
    ) -> Mapping[Tuple[Key, str], float]:
        """Add what has been counted since the last call; return the sums by place and name.

        Each count is a place, one of the connections there, a name, and the value.
        """
        seen: Dict[Tuple[Key, Key, str], float] = {}
        sums: Dict[Tuple[Key, str], float] = {}
        for place, connection, name, value in counts:
            before = self._seen.get((place, connection, name), 0.0)
            more = value - before if value >= before else value
            seen[place, connection, name] = value
            known = sums.get((place, name), self._sums.get((place, name), 0.0))
            sums[place, name] = known + more
        # Places that are gone are forgotten, so that interfaces that come and go cost nothing.
        self._seen, self._sums = seen, sums
        return sums


@dataclasses.dataclass(frozen=True)
class Path:
    """All connections over one link to one peer."""

    peer: str
    link: str
    connections: Sequence[Mapping[str, Any]]

    @property
    def best(self) -> Mapping[str, Any]:
        """The connection that matters: it carries, is established, answers soonest."""
        return min(self.connections, key=_rank)


def _rank(connection: Mapping[str, Any]) -> Tuple[bool, float, float]:
    rtt_ms = number(connection.get("rtt_ms"))
    return (
        not connection.get("carries"),
        -(number(connection.get("state")) or 0.0),
        math.inf if rtt_ms is None else rtt_ms,
    )


def paths(status: Mapping[str, Any]) -> List[Path]:
    """Return the connections of the status by peer and link."""
    names = {
        number(link.get("index")): text(link.get("name")) for link in entries(status.get("links"))
    }
    found: Dict[Tuple[str, str], List[Mapping[str, Any]]] = {}
    for peer in entries(status.get("peers")):
        for connection in entries(peer.get("connections")):
            name = names.get(number(connection.get("link")))
            if name is not None and len(found) < SERIES_MAX:
                found.setdefault((text(peer.get("host")), name), []).append(connection)
    return [Path(peer, link, connections) for (peer, link), connections in found.items()]


class Metrics:
    """What Prometheus is given, from one answer of the agent after another."""

    def __init__(self) -> None:
        self._totals = Totals()

    def exposition(self, answer: Answer) -> bytes:
        """Return an answer of the agent in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        families = list(self.of(answer))
        registry.register(_Collected(families))
        return generate_latest(registry)

    def of(self, answer: Answer) -> Families:
        """Return the metrics of an answer of the agent."""
        families = Families()
        families.gauge("up", "1 if the agent answers on its control socket.", answer.fault is None)
        families.gauge(
            "exporter_answer_seconds", "How long the agent took to answer.", answer.took_s
        )
        if answer.fault is None:
            _of_agent(families, answer.status)
            _of_links(families, answer.status)
            _of_peers(families, answer.status)
            _of_classes(families, answer.status)
            _of_joint(families, answer.status)
            self._of_paths(families, paths(answer.status))
        return families

    def _of_paths(self, families: Families, found: List[Path]) -> None:
        sums = self._totals.take(_counts(found))
        for path in found:
            labels = {"peer": path.peer, "link": path.link}
            for key, (name, help_text) in COUNTED.items():
                families.counter(name, help_text, sums.get(((path.peer, path.link), key)), **labels)
            best = path.best
            families.gauge(
                "connection_state",
                "State of the best connection: 2 works both ways, 1 is heard, 0 is silent.",
                best.get("state"),
                **labels,
            )
            families.gauge(
                "connection_carries",
                "1 if a connection over the link to the peer carries packets.",
                any(one.get("carries") for one in path.connections),
                **labels,
            )
            measured = {**best, **mapping(best.get("estimate"))}
            for key, name, factor, help_text in MEASURED:
                value = number(measured.get(key))
                if value is not None:
                    families.gauge(name, help_text, value * factor, **labels)
            if measured.get("capacity_is") is not None:
                families.gauge(
                    "connection_capacity_measured",
                    "1 if the path was full when it was seen to carry its capacity, 0 if it carries"
                    " at least so much.",
                    measured["capacity_is"] == "measured",
                    **labels,
                )


def _counts(found: Iterable[Path]) -> Iterator[Tuple[Key, Key, str, float]]:
    for path in found:
        for connection in path.connections:
            which = (str(connection.get("remote")), str(connection.get("address")))
            for key in COUNTED:
                value = number(connection.get(key))
                if value is not None:
                    yield (path.peer, path.link), which, key, value


class _Collected:
    """Families as a registry wants them."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_agent(families: Families, status: Mapping[str, Any]) -> None:
    families.gauge(
        "agent_info",
        "1; the labels tell the agent's version and how packets travel.",
        1,
        version=status.get("version"),
        encapsulation=status.get("encapsulation"),
    )
    families.gauge("uptime_seconds", "How long the agent runs.", status.get("uptime_s"))
    warnings = status.get("warnings")
    if isinstance(warnings, list):
        families.gauge("warnings", "Conditions that `ropeway status` warns of.", len(warnings))
    counters = mapping(status.get("counters"))
    families.counter(
        "delivered_packets", "Packets handed to this host's device.", counters.get("delivered")
    )
    families.counter(
        "forwarded_packets", "Packets passed on between other hosts.", counters.get("forwarded")
    )
    for reason, count in mapping(counters.get("dropped")).items():
        families.counter(
            "dropped_packets",
            "Packets and frames dropped; WHAT IS DROPPED in ropeway(8) explains the reasons.",
            count,
            reason=reason,
        )
    steward = mapping(status.get("steward"))
    families.counter(
        "steward_restarts",
        "How often the process that follows interfaces and routes was started again.",
        steward.get("restarts"),
    )


def _of_links(families: Families, status: Mapping[str, Any]) -> None:
    up = "1 if the interface is up and the agent can use it."
    carries = "1 if the link carries packets to some peer."
    metered = "1 if bytes cost money there."
    for link in entries(status.get("links")):
        name = link.get("name")
        families.gauge("link_up", up, link.get("up"), link=name)
        families.gauge("link_carries", carries, link.get("carries"), link=name)
        families.gauge("link_metered", metered, link.get("metered"), link=name)
        families.gauge("link_mtu_bytes", "MTU of the interface.", link.get("mtu"), link=name)
        for reason, count in mapping(link.get("send_errors")).items():
            families.counter(
                "link_send_errors",
                "Datagrams that the interface refused; the reason is the errno's name.",
                count,
                link=name,
                reason=reason,
            )
        families.counter(
            "link_receive_drops",
            "Datagrams that the kernel dropped because the link's receive buffer was full.",
            link.get("receive_drops"),
            link=name,
        )
        budget = mapping(link.get("budget"))
        for key, metric, help_text in BUDGET:
            families.gauge(metric, help_text, budget.get(key), link=name)
        for key, direction in (("rate_kbit", "transmit"), ("rate_in_kbit", "receive")):
            rate = number(link.get(key))
            if rate is not None:
                families.gauge(
                    f"link_{direction}_bytes_per_second",
                    f"What the link carries now, direction {direction}, by the agent's estimate.",
                    rate * _KBIT_BYTES,
                    link=name,
                )
    for link in entries(status.get("missing_links")):
        families.gauge("link_up", up, 0, link=link.get("name"))
        families.gauge("link_carries", carries, 0, link=link.get("name"))


def _of_peers(families: Families, status: Mapping[str, Any]) -> None:
    for peer in entries(status.get("peers")):
        host = peer.get("host")
        families.gauge(
            "peer_state",
            "State of the best connection to the peer: 2 works both ways, 0 is silent.",
            peer.get("best_state"),
            peer=host,
        )
        links = mapping(peer.get("links"))
        for key, help_text in (
            ("reached", "Links over which the peer is reached."),
            ("lacking", "Links that should reach the peer and do not."),
        ):
            if isinstance(links.get(key), list):
                families.gauge(f"peer_links_{key}", help_text, len(links[key]), peer=host)
        session = mapping(peer.get("session"))
        families.gauge(
            "peer_session_age_seconds",
            "Age of the session's keys with the peer.",
            session.get("age_s"),
            peer=host,
        )
        families.counter(
            "peer_session_rollovers",
            "How often the session with the peer got new keys.",
            session.get("rollovers"),
            peer=host,
        )
        families.counter(
            "peer_delivered_packets",
            "Packets from the peer, each counted once.",
            peer.get("delivered"),
            peer=host,
        )
        families.counter(
            "peer_duplicate_packets",
            "Later copies of packets from the peer.",
            peer.get("duplicates"),
            peer=host,
        )
        families.counter(
            "peer_rescued_packets",
            "Packets that the best connection lost and another one brought.",
            peer.get("rescued"),
            peer=host,
        )
        families.counter(
            "peer_deadline_misses_avoided",
            "Packets that the best connection lost or brought too late, and another in time.",
            peer.get("misses_avoided"),
            peer=host,
        )
        _skew(families, mapping(peer.get("skew")), host)


def _skew(families: Families, skew: Mapping[str, Any], host: object) -> None:
    bounds, counts, sum_ms = skew.get("bounds_ms"), skew.get("counts"), number(skew.get("sum_ms"))
    if not isinstance(bounds, list) or not isinstance(counts, list) or sum_ms is None:
        return
    known = [one for one in map(number, bounds[:BUCKETS_MAX]) if one is not None]
    found = [one for one in map(number, counts[: BUCKETS_MAX + 1]) if one is not None]
    if len(found) != len(known) + 1 or sorted(set(known)) != known or min(found) < 0:
        return
    families.histogram(
        "copy_skew_seconds",
        "By how much later copies of a packet from the peer come than the first; one in 64.",
        list(zip([one / 1000 for one in known] + [math.inf], found)),
        sum_ms / 1000,
        peer=host,
    )


def _of_classes(families: Families, status: Mapping[str, Any]) -> None:
    for one in entries(status.get("classes")):
        families.gauge(
            "class_info",
            "1; the labels tell the classes of the configuration and their modes.",
            1,
            class_=one.get("name"),
            mode=one.get("mode"),
        )
    for peer in entries(status.get("peers")):
        for one in entries(peer.get("classes")):
            name = REST if one.get("name") is None else one["name"]
            labels = {"peer": peer.get("host"), "class_": name}
            families.counter(
                "class_packets", "Packets of the class to the peer.", one.get("packets"), **labels
            )
            families.counter(
                "class_parity_frames",
                "Parity frames of the class to the peer.",
                one.get("parity_frames"),
                **labels,
            )
            families.counter(
                "class_repaired_packets",
                "Packets of the class, by this host's classes, made from the peer's parity.",
                one.get("repaired"),
                **labels,
            )
            if isinstance(one.get("links"), list):
                families.gauge(
                    "class_links",
                    "Links that packets of the class to the peer go over now.",
                    len(one["links"]),
                    **labels,
                )


def _of_joint(families: Families, status: Mapping[str, Any]) -> None:
    names = {number(link.get("index")): link.get("name") for link in entries(status.get("links"))}
    for pair in entries(status.get("joint")):
        both = pair.get("links")
        if not isinstance(both, list) or len(both) != 2:
            continue
        one, other = (names.get(number(index)) for index in both)
        if one is None or other is None:
            continue
        families.gauge(
            "links_together_ratio",
            "Share of the troubles of two links that both had at once, 0 to 1.",
            pair.get("together"),
            link=one,
            other=other,
        )
        families.gauge(
            "links_together_troubles",
            "Troubles of two links that this share is of; older ones count less.",
            pair.get("troubles"),
            link=one,
            other=other,
        )
