"""A status as an agent gave it, and the same from a host whose every name is hostile.

`status.json` is what `ropeway status --json` printed on a host with three links to another one:
eth1 lost one packet in five, and eth2 was unplugged after a while.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from ropeway.app.monitor.source import Answer

_STATUS = json.loads(Path(__file__).with_name("status.json").read_text())
HOSTILE = "</script><img src=x onerror=alert(1)>\"'\\\n\r\u2028\ud800{}= " + "x" * 100


def status() -> dict[str, Any]:
    return copy.deepcopy(_STATUS)


def with_classes() -> dict[str, Any]:
    """Return the same of an agent whose configuration has classes."""
    found = status()
    found["classes"] = [
        {"name": "voice", "mode": "redundant"},
        {"name": "bulk", "mode": "single"},
    ]
    found["links"][1]["budget"] = {
        "used_bytes": 4_000_000_000,
        "bytes": 10_000_000_000,
        "per": "month",
        "resets_at": None,
        "then": "last",
        "used_up": False,
    }
    found["links"][2]["send_errors"] = {"ENETDOWN": 3}
    found["peers"][0]["rescued"] = 17
    found["peers"][0]["classes"] = [
        {"name": "voice", "links": [2, 3], "packets": 1800},
        {"name": "bulk", "links": [2], "packets": 200},
        {"name": None, "links": [2, 3], "packets": 40},
    ]
    return found


def answer(found: dict[str, Any] | None = None) -> Answer:
    return Answer(status() if found is None else found, None, 0.002)


def older() -> dict[str, Any]:
    """Return the same of an agent before 0.9.0, which measured less."""
    found = status()
    for link in found["links"]:
        for key in ("rtt_ms", "queue_ms", "loss", "rate_kbit", "rate_in_kbit"):
            del link[key]
    for peer in found["peers"]:
        for key in ("rescued", "order", "misses_avoided", "skew"):
            del peer[key]
        for connection in peer["connections"]:
            del connection["estimate"], connection["reordered"]
    return found


def hostile() -> dict[str, Any]:
    """Return the status with every string replaced, each by another hostile one."""
    return _hostile(with_classes(), "")


def _hostile(value: Any, salt: str) -> Any:
    if isinstance(value, dict):
        return {key: _hostile(one, f"{salt}{at}") for at, (key, one) in enumerate(value.items())}
    if isinstance(value, list):
        return [_hostile(one, f"{salt}{at}") for at, one in enumerate(value)]
    return f"{salt}{HOSTILE}" if isinstance(value, str) else value


def with_peers(count: int) -> dict[str, Any]:
    """Return the status of `with_classes` with so many hosts, each like its only one."""
    found = with_classes()
    (peer,) = found["peers"]
    found["peers"] = [{**copy.deepcopy(peer), "host": f"10.0.0.{2 + at}"} for at in range(count)]
    return found


def classic() -> dict[str, Any]:
    """Return the status as an agent of a classic network gives it."""
    found = status()
    found["encapsulation"] = "classic"
    for link in found["links"]:
        for key in ("rtt_ms", "queue_ms", "loss", "rate_kbit", "rate_in_kbit"):
            del link[key]
    kept = ("link", "remote", "source", "address", "state", "carries", "routed", "heard_s")
    kept += ("sent", "received", "sent_bytes", "received_bytes", "first", "duplicates")
    for peer in found["peers"]:
        for key in ("rescued", "order", "session", "handshake", "endpoints", "announced", "names"):
            del peer[key]
        peer["connections"] = [{key: one[key] for key in kept} for one in peer["connections"]]
    return found


def a_second_later(found: dict[str, Any]) -> dict[str, Any]:
    """Return what the agent of `found` says a second later, with 200 more packets everywhere."""
    later = copy.deepcopy(found)
    later["uptime_s"] += 1.0
    for peer in later["peers"]:
        peer["rescued"] = peer.get("rescued", 0) + 3
        for one in peer.get("classes", ()):
            one["packets"] += 200
        for connection in peer["connections"]:
            if connection["state"]:
                connection["sent_bytes"] += 15_200
                connection["received_bytes"] += 15_200
    return later
