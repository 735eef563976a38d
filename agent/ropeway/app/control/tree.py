"""The status as text: the tree that ropeway(8) explains, and the line that systemd shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import endpoint_text, without_prefix

SCHEMA_PATH = Path(__file__).with_name("status.schema.json")
"""The JSON Schema of what is rendered here."""
STATE_ESTABLISHED = 2
NOT_ASKED_FOR = "not asked for"
NOT_CARRIED = (("multicast", "multicast"), ("broadcast", "broadcast"), ("ipv6", "IPv6"))
"""Reasons of drops that are told, with their names."""
LEFT_OUT_SHOWN = 16
"""A host of containers has hundreds of interfaces that take no part."""


def render(status: Dict[str, Any]) -> str:
    """Return the tree for `status`, the result of the control command of that name."""
    return "\n".join([*_own(status), *_hosts(status)])


def render_links(status: Dict[str, Any]) -> str:
    """Return the part of the tree that is about this host."""
    return "\n".join(_own(status))


def render_hosts(status: Dict[str, Any]) -> str:
    """Return the part of the tree that is about other hosts."""
    return "\n".join(_hosts(status))


def _own(status: Dict[str, Any]) -> List[str]:
    device = status["device"]
    lines = ["- tun device: {}({}){}".format(device["name"], device["index"], _dropped(device))]
    lines += _not_carried(status.get("counters", {}).get("dropped", {}))
    lines += [f"- warning: {sentence}" for sentence in status.get("warnings", [])]
    helpless = [f"{name} {why}" for name, why in status.get("offload", {}).items() if why != "on"]
    wakes = status.get("process", {}).get("cpu_latency_us", NOT_ASKED_FOR)
    if isinstance(wakes, str) and wakes != NOT_ASKED_FOR:
        helpless.append(f"cpu_latency_us {wakes}")
    if helpless:
        lines.append("- done without the kernel's help: " + ", ".join(helpless))
    lines += _routers(status)
    lines += _joint(status)
    missing = status.get("missing_links", [])
    lines.append("- local devices:" + _carrying(status["links"], len(missing)))
    for link in status["links"]:
        lines.append("  - {}({}): {}".format(link["name"], link["index"], _link(link)))
    lines += ["  - {}: carries nothing: {}".format(link["name"], link["fault"]) for link in missing]
    named = {link["name"] for link in missing}
    return lines + _left_out(
        [one for one in status.get("not_taking_part", []) if one["name"] not in named]
    )


def _hosts(status: Dict[str, Any]) -> List[str]:
    lines = ["- remote devices:"]
    for peer in status["peers"]:
        met = " met without the router," if peer.get("learnt") else ""
        lines.append("  - {}:{}{}".format(peer["host"], met, _session(peer)))
        lines += ["    - " + _name(named) for named in peer.get("names", [])]
        lines += _reach(peer, {link["index"]: link["name"] for link in status["links"]})
        for index, address in _remotes(peer):
            lines.append("    - {}: {}".format(index or "?", address))
    lines += _routes(status.get("routes", {}).get("learnt", []))
    lines.append("- connections:")
    for peer in status["peers"]:
        lines.append("  - {}:".format(peer["host"]))
        for connection in peer["connections"]:
            lines.append("    - " + _connection(connection))
    return lines


def _routes(learnt: List[Dict[str, Any]]) -> List[str]:
    """Return the lines about networks behind other hosts."""
    lines = ["- routes:"] if learnt else []
    for route in learnt:
        if route["next_hops"]:
            way = "of {} by {}, metric {}".format(
                route["origin"], " or ".join(route["next_hops"]), route["metric"]
            )
        else:
            way = "cannot be reached"
        lines.append("  - {} {}, for {:.0f} s".format(route["prefix"], way, route["since_s"]))
    return lines


def summary(status: Dict[str, Any]) -> str:
    """Return the line that `systemctl status` shows."""
    carrying = sum(link["carries"] for link in status["links"])
    expected = len(status["links"]) + len(status["missing_links"])
    peers = [peer for peer in status["peers"] if not peer.get("learnt")]
    reached = sum(peer["best_state"] == STATE_ESTABLISHED for peer in peers)
    return f"{_how_many_carry(carrying, expected)}, {reached} of {len(peers)} hosts reached"


def _not_carried(dropped: Dict[str, int]) -> List[str]:
    """Return the line about packets of kinds that a virtual network never carries."""
    counted = [f"{dropped[kind]} {name}" for kind, name in NOT_CARRIED if dropped.get(kind)]
    if not counted:
        return []
    return ["- not carried, since only IPv4 unicast is: " + ", ".join(counted)]


def _routers(status: Dict[str, Any]) -> List[str]:
    """Return the line about which of several routers carry packets."""
    routers = status.get("routers", [])
    if len(routers) < 2:
        return []
    words = []
    for router in routers:
        state = "carries" if router["carries"] else "in reserve"
        words.append("{} {}".format(router["host"], state if router["established"] else "down"))
    return ["- routers: " + ", ".join(words)]


def _joint(status: Dict[str, Any]) -> List[str]:
    """Return the lines about links that have most of their troubles at once."""
    names = {link["index"]: link["name"] for link in status["links"]}
    return [
        "- {} and {} fail together in {:.0f} of {:.0f} troubles".format(
            *(names.get(index, index) for index in pair["links"]), pair["common"], pair["troubles"]
        )
        for pair in status.get("joint", [])
        if (pair["together"] or 0) >= tuning.TOGETHER_SHOWN
    ]


def _carrying(links: List[Dict[str, Any]], missing: int) -> str:
    """Return how many of all links carry, unless all do; ``missing`` ones are not there."""
    total = len(links) + missing
    carrying = sum(link.get("carries", True) for link in links)
    return "" if carrying == total else " " + _how_many_carry(carrying, total)


def _how_many_carry(carrying: int, total: int) -> str:
    """Return "1 of 2 links carries" and the like."""
    return "{} of {} links {}".format(carrying, total, "carries" if carrying == 1 else "carry")


def _name(named: Dict[str, Any]) -> str:
    """Return a host's name, and what it leads to."""
    addresses = ", ".join(named["addresses"])
    leads = f"is {addresses}" if addresses else "does not resolve"
    return "{}:{} {}".format(named["name"], named["port"], leads)


def _reach(peer: Dict[str, Any], names: Dict[int, str]) -> List[str]:
    """Return the line that says over how many links a host is reached, if some are lacking."""
    links = peer.get("links", {})
    if not links.get("lacking"):
        return []
    lacking = ", ".join(
        "{}({}): {}".format(names.get(one["link"], "?"), one["link"], one["fault"])
        for one in links["lacking"]
    )
    reached = len(links["reached"])
    total = reached + len(links["lacking"])
    return [f"    - reached over {reached} of {total} links, not over {lacking}"]


def _left_out(interfaces: List[Dict[str, Any]]) -> List[str]:
    """Return the lines about interfaces that do not take part."""
    if not interfaces:
        return []
    lines = ["- local devices that do not take part:"]
    lines += [
        "  - {}({}): {}".format(one["name"], one["index"], one["reason"])
        for one in interfaces[:LEFT_OUT_SHOWN]
    ]
    if len(interfaces) > LEFT_OUT_SHOWN:
        lines.append(f"  - and {len(interfaces) - LEFT_OUT_SHOWN} more, which --json shows")
    return lines


def _link(link: Dict[str, Any]) -> str:
    parts: List[str] = [without_prefix(address) for address in link["addresses"]]
    unusable = link.get("unusable")
    if not parts and not unusable:
        parts.append("no address")
    if not link["up"]:
        parts.append("down")
    if unusable:
        parts.append(f"cannot be used: {unusable}")
    elif link["up"] and link["addresses"] and link.get("fault"):
        parts.append("carries nothing: " + link["fault"])
    if link.get("metered"):
        parts.append("metered")
    if link.get("cost"):
        parts.append("cost {}".format(link["cost"]))
    if link.get("budget"):
        parts.append(budget(link["budget"]))
    parts += [f"{name} {count}" for name, count in sorted(link["send_errors"].items())]
    return ", ".join(parts) + _dropped(link)


def budget(found: Dict[str, Any]) -> str:
    """Return what of a budget is used, and until when it has to last."""
    used, size = found["used_bytes"], found["bytes"]
    state = "used up" if found["used_up"] else f"{100 * used // size} %"
    until = f" until {found['resets_at'][:10]}" if found["resets_at"] else ""
    return f"budget {used / 1e6:.1f} of {size / 1e6:.1f} MB, {state}{until}"


def _dropped(place: Dict[str, Any]) -> str:
    """Return what of a place was dropped because too much came, or was handled too late."""
    return "".join(
        f", {reason} {count}" for reason, count in sorted(place.get("dropped", {}).items())
    )


def _session(peer: Dict[str, Any]) -> str:
    """Return how it stands with the keys shared with a host; nothing on a classic network."""
    if "session" not in peer:
        return ""
    session = peer["session"]
    if session is None:
        return " no session" + (", " + peer["handshake"] if peer["handshake"] else "")
    words = [" session {:.0f} s old".format(session["age_s"])]
    if session["rollovers"]:
        words.append("rolled over {} times".format(session["rollovers"]))
    if peer.get("rescued"):
        words.append("{} packets rescued".format(peer["rescued"]))
    if peer["handshake"]:
        words.append(peer["handshake"])
    return ", ".join(words)


def _remotes(peer: Dict[str, Any]) -> List[Tuple[int, str]]:
    """Return the known interfaces of a host, index 0 where it has not told one, and addresses."""
    if "remotes" in peer:
        return [(remote["index"], remote["address"]) for remote in peer["remotes"]]
    known = {(c["remote"], _endpoint(c)): None for c in peer["connections"] if c["remote"]}
    reached = {endpoint for _, endpoint in known}
    known.update(((0, text), None) for text in peer["endpoints"] if text not in reached)
    reached.update(peer["endpoints"])
    claimed = [one for one in peer["announced"] if one["endpoint"] not in reached]
    return [*known, *((one["remote"], f"{one['endpoint']}, announced") for one in claimed)]


def _endpoint(connection: Dict[str, Any]) -> str:
    address, port = connection["address"], connection.get("port")
    return str(address) if port is None else endpoint_text((address, port))


def _connection(connection: Dict[str, Any]) -> str:
    # An interface whose index is not known yet goes by its address.
    remote = connection["remote"] or _endpoint(connection)
    parts = ["state {}".format(connection["state"])]
    parts += [f"{name} {connection[name]}" for name in ("sent", "received", "first", "duplicates")]
    heard_s = connection["heard_s"]
    parts.append("never heard" if heard_s is None else f"heard {heard_s:.1f} s ago")
    if not connection["routed"]:
        parts.append("no route")
    elif connection["state"] == STATE_ESTABLISHED and not connection["carries"]:
        parts.append("spare")
    if connection.get("rtt_ms") is not None:
        parts.append("rtt {:.1f} ms".format(connection["rtt_ms"]))
    if connection["state"] == STATE_ESTABLISHED and connection.get("loss") is not None:
        parts.append("loss {:.1f} %".format(100 * connection["loss"]))
    estimate = connection.get("estimate") or {}
    if connection["state"] == STATE_ESTABLISHED and estimate.get("queue_ms") is not None:
        parts.append("queue {:.1f} ms".format(estimate["queue_ms"]))
    if connection["state"] == STATE_ESTABLISHED and estimate.get("rate_kbit"):
        parts.append("carries {:.0f} kbit/s".format(estimate["rate_kbit"]))
    if connection["state"] == STATE_ESTABLISHED and estimate.get("capacity_kbit") is not None:
        more = "at least " if estimate["capacity_is"] == "at least" else ""
        parts.append("can carry {}{:.0f} kbit/s".format(more, estimate["capacity_kbit"]))
    if connection.get("mtu"):
        parts.append("mtu {}".format(connection["mtu"]))
    if connection.get("nat"):
        parts.append("NAT, seen as {}".format(connection["observed"]))
    return "{} -> {} : {}".format(connection["link"], remote, ", ".join(parts))
