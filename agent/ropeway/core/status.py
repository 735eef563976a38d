"""What there is to see of sessions and connections of a secure node, ready for JSON."""

from __future__ import annotations

import base64
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ropeway.core import link_report, tuning
from ropeway.core.endpoint import endpoint_text
from ropeway.core.link import Link
from ropeway.core.session.aead import CIPHER_NAME
from ropeway.core.session.session import Session
from ropeway.core.strand.secure import SecureConnection, SecureStrand


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
        "best_state": int(strand.best_state),
        "links": link_report.of_peer(strand, links),
        "delivered": strand.delivered,
        "duplicates": strand.duplicates,
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


def _connection_status(
    strand: SecureStrand, connection: SecureConnection, now: float
) -> Dict[str, Any]:
    rtt_ms, loss = connection.quality.rtt_ms, connection.quality.loss.share
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
        "routed": connection.source is not None,
        "mtu": connection.quality.path_mtu.mtu,
        "mtu_settled": connection.quality.path_mtu.settled,
        "rtt_ms": None if rtt_ms is None else round(rtt_ms, 3),
        "observed": connection.report.observed and endpoint_text(connection.report.observed),
        "nat": connection.nat,
        "pause_s": connection.pacing.keepalive.pause_s if idle else tuning.PROBE_S,
        "sent": connection.traffic.sent,
        "received": connection.traffic.received,
        "sent_bytes": connection.traffic.sent_bytes,
        "received_bytes": connection.traffic.received_bytes,
        "far_received": connection.report.received,
        "loss": None if loss is None else round(loss, 4),
        "first": connection.traffic.first,
        "duplicates": connection.traffic.duplicates,
        "heard_s": None if connection.heard_at < 0 else round(now - connection.heard_at, 3),
    }


def _origin(connection: SecureConnection) -> str:
    """Return from where it is known that the other end is there."""
    if any(endpoint in connection.strand.endpoints for endpoint in connection.candidates):
        return "configured"
    return "announced" if connection.calls else "learnt"


def key_text(key: bytes) -> str:
    """Return a public key as users write it."""
    return base64.b64encode(key).decode("ascii")
