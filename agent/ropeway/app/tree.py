"""The status as text: the tree that the specification shows."""

from __future__ import annotations

from typing import Any, Dict, List

STATE_ESTABLISHED = 2


def render(status: Dict[str, Any]) -> str:
    """Return the tree for `status`, the result of the control command of that name."""
    device = status["device"]
    lines = ["- tun device: {}({})".format(device["name"], device["index"]), "- local devices:"]
    for link in status["links"]:
        lines.append("  - {}({}): {}".format(link["name"], link["index"], _link(link)))
    lines.append("- remote devices:")
    for peer in status["peers"]:
        lines.append("  - {}:".format(peer["host"]))
        for remote in peer["remotes"]:
            lines.append("    - {}: {}".format(remote["index"] or "?", remote["address"]))
    lines.append("- connections:")
    for peer in status["peers"]:
        lines.append("  - {}:".format(peer["host"]))
        for connection in peer["connections"]:
            lines.append("    - " + _connection(connection))
    return "\n".join(lines)


def _link(link: Dict[str, Any]) -> str:
    parts: List[str] = [address.split("/")[0] for address in link["addresses"]] or ["no address"]
    if not link["up"]:
        parts.append("down")
    parts += [f"{name} {count}" for name, count in sorted(link["send_errors"].items())]
    return ", ".join(parts)


def _connection(connection: Dict[str, Any]) -> str:
    # An interface whose index is not known yet goes by its address.
    remote = connection["remote"] or connection["address"]
    parts = ["state {}".format(connection["state"])]
    parts += [f"{name} {connection[name]}" for name in ("sent", "received", "first", "duplicates")]
    heard_s = connection["heard_s"]
    parts.append("never heard" if heard_s is None else f"heard {heard_s:.1f} s ago")
    if not connection["routed"]:
        parts.append("no route")
    elif connection["state"] == STATE_ESTABLISHED and not connection["carries"]:
        parts.append("spare")
    return "{} -> {} : {}".format(connection["link"], remote, ", ".join(parts))
