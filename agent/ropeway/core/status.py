"""What there is to see of sessions and connections of a secure node, ready for JSON."""

from __future__ import annotations

import base64
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ropeway.core import link_report, tuning
from ropeway.core.endpoint import endpoint_text
from ropeway.core.link import Link
from ropeway.core.session.aead import CIPHER_NAME
from ropeway.core.session.session import Session
from ropeway.core.strand.arrivals import SKEW_MS, Bursts
from ropeway.core.strand.estimate import Estimate
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import State


def session_keys(sessions: Iterable[Session]) -> List[Dict[str, str]]:
    """Return the keys of sessions, for who may read the traffic."""
    return [
        {
            "host": session.host,
            "cipher": CIPHER_NAME,
            "receive_index": session.local_index.hex(),
            "receive_key": session.receive_key.hex(),
            "send_index": session.remote_index.hex(),
            "send_key": session.send_key.hex(),
        }
        for session in sessions
    ]


def silent(
    strands: Iterable[SecureStrand], links: Mapping[int, Link], limit: int
) -> List[Tuple[int, str, str]]:
    """Return link, source and far address of connections that have a route and hear nothing."""
    found: List[Tuple[int, str, str]] = []
    for strand in strands:
        for connection in strand.connections.values():
            link = links.get(connection.link)
            if connection.state or connection.source is None or link is None or not link.up:
                continue
            if len(found) >= limit:
                return found
            found.append((connection.link, connection.source, connection.endpoint[0]))
    return found


def of_strand(strand: SecureStrand, links: Mapping[int, Link], now: float) -> Dict[str, Any]:
    """Return what there is to see of a host, ready for JSON.

    ``links`` are those of the node.
    """
    session = strand.session
    return {
        "host": strand.host,
        "learnt": strand.learnt,
        "best_state": int(strand.best_state),
        "links": link_report.of_peer(strand, links),
        "delivered": strand.delivered,
        "duplicates": strand.duplicates,
        "rescued": strand.rescued.packets,
        "misses_avoided": strand.copies.avoided,
        "skew": {
            "bounds_ms": list(SKEW_MS),
            "counts": list(strand.copies.counts),
            "sum_ms": round(strand.copies.sum_ms, 3),
        },
        "session": session
        and {
            "age_s": round(now - session.created_at, 3),
            "initiated": session.initiated,
            "rollovers": strand.rollovers,
            "peer_key": key_text(session.public_key),
            "readable": len(strand.sessions.sessions),
        },
        "handshake": strand.handshake_fault(now),
        "endpoints": [endpoint_text(endpoint) for endpoint in strand.endpoints],
        "announced": [
            {"remote": index, "endpoint": endpoint_text(endpoint)}
            for endpoint, indices in strand.announced.places.items()
            for index in indices
        ],
        "connections": [
            _connection_status(strand, connection, now)
            for connection in strand.connections.values()
        ],
    }


def of_links(strands: Iterable[SecureStrand]) -> Dict[int, Dict[str, Any]]:
    """Return what was measured over each link, by index, ready for JSON.

    Times and loss are those of its connection with the shortest round trip; rates are sums.
    """
    by_link: Dict[int, List[SecureConnection]] = {}
    for strand in strands:
        for connection in strand.connections.values():
            if connection.state == State.ESTABLISHED:
                by_link.setdefault(connection.link, []).append(connection)
    return {index: _of_link(connections) for index, connections in by_link.items()}


def _of_link(connections: List[SecureConnection]) -> Dict[str, Any]:
    estimates = [connection.quality.estimate for connection in connections]
    best = min(estimates, key=lambda e: float("inf") if e.rtt_ms is None else e.rtt_ms)
    return {
        "rtt_ms": _rounded(best.rtt_ms),
        "queue_ms": _rounded(best.queue_ms),
        "loss": _rounded(best.loss_out.share, 4),
        "rate_kbit": round(sum(e.rate_out.kbit or 0.0 for e in estimates), 3),
        "rate_in_kbit": round(sum(e.rate_in.kbit or 0.0 for e in estimates), 3),
    }


#: What :func:`of_links` says of a link without an established connection.
UNMEASURED: Mapping[str, Any] = {
    "rtt_ms": None,
    "queue_ms": None,
    "loss": None,
    "rate_kbit": 0.0,
    "rate_in_kbit": 0.0,
}


def _connection_status(
    strand: SecureStrand, connection: SecureConnection, now: float
) -> Dict[str, Any]:
    estimate = connection.quality.estimate
    idle = now >= strand.idle_at
    return {
        "link": connection.link,
        "remote": connection.remote,
        "source": connection.source,
        "address": connection.endpoint[0],
        "port": connection.endpoint[1],
        "origin": _origin(connection),
        "state": int(connection.state),
        "carries": connection in strand.carrying,
        "metered": connection.metered,
        "routed": connection.source is not None,
        "mtu": connection.quality.path_mtu.mtu,
        "mtu_settled": connection.quality.path_mtu.settled,
        "rtt_ms": _rounded(estimate.rtt_ms),
        "observed": connection.report.observed and endpoint_text(connection.report.observed),
        "nat": _nat(connection),
        "pause_s": connection.pacing.keepalive.pause_s if idle else tuning.PROBE_S,
        "sent": connection.traffic.sent,
        "received": connection.traffic.received,
        "sent_bytes": connection.traffic.sent_bytes,
        "received_bytes": connection.traffic.received_bytes,
        "far_received": connection.report.received,
        "loss": _rounded(estimate.loss_out.share, 4),
        "estimate": {
            **_estimate_status(estimate, now),
            **_bursts(connection.arrivals.bursts(now)),
        },
        "reordered": connection.arrivals.late,
        "first": connection.traffic.first,
        "duplicates": connection.traffic.duplicates,
        "heard_s": None if connection.heard_at < 0 else round(now - connection.heard_at, 3),
    }


def _estimate_status(estimate: Estimate, now: float) -> Dict[str, Any]:
    return {
        "rtt_ms": _rounded(estimate.rtt_ms),
        "rtt_latest_ms": _rounded(estimate.rtt_latest_ms),
        "rtt_min_ms": _rounded(estimate.rtt_min_ms),
        "rtt_var_ms": _rounded(estimate.rtt_var_ms),
        "queue_ms": _rounded(estimate.queue_ms),
        "queue_in_ms": _rounded(estimate.queue_in_ms),
        "jitter_ms": _rounded(estimate.jitter_ms),
        "jitter_in_ms": _rounded(estimate.jitter_in_ms),
        "loss": _rounded(estimate.loss_out.share, 4),
        "loss_low": round(estimate.loss_out.interval[0], 4),
        "loss_high": round(estimate.loss_out.interval[1], 4),
        "loss_in": _rounded(estimate.loss_in.share, 4),
        "rate_kbit": _rounded(estimate.rate_out.kbit),
        "rate_in_kbit": _rounded(estimate.rate_in.kbit),
        "capacity_kbit": _rounded(estimate.capacity_out.kbit),
        "capacity_is": estimate.capacity_out.sureness,
        "capacity_age_s": _rounded(estimate.capacity_out.age_s(now)),
        "age_s": _rounded(estimate.age_s(now)),
    }


def _bursts(found: Bursts) -> Dict[str, Any]:
    return {
        "bursts_in": found.runs,
        "burst_in_mean": round(found.frames / found.runs, 2) if found.runs else None,
        "burst_in_longest": found.longest,
    }


def _rounded(value: Optional[float], digits: int = 3) -> Optional[float]:
    return None if value is None else round(value, digits)


def _nat(connection: SecureConnection) -> Optional[bool]:
    """Return whether the other end sees another source than was sent from; None if not known."""
    observed = connection.report.observed
    if observed is None or connection.source is None:
        return None
    return observed[0] != connection.source


def _origin(connection: SecureConnection) -> str:
    """Return from where it is known that the other end is there."""
    if any(endpoint in connection.strand.endpoints for endpoint in connection.candidates):
        return "configured"
    return "announced" if connection.calls else "learnt"


def key_text(key: bytes) -> str:
    """Return a public key as users write it."""
    return base64.b64encode(key).decode("ascii")
