"""What `ropeway explain` asks the agent about a packet, and the answer as text."""

from __future__ import annotations

import argparse
import ipaddress
from typing import Any, Dict

from ropeway.app.control import client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a packet can be described by."""
    parser.add_argument("destination", metavar="ADDRESS", help="a virtual address")
    parser.add_argument("--dscp", default="0", help="such as ef or 46 (default: %(default)s)")
    parser.add_argument(
        "--protocol", default="udp", help="tcp, udp, icmp or a number (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=0, help="where it goes to")
    parser.add_argument("--size", type=int, default=100, help="bytes (default: %(default)s)")


def ask(options: argparse.Namespace) -> Any:
    """Return the agent's answer; ValueError or ControlError, with a sentence, if there is none."""
    from ropeway.app.config.classes import DSCP, PROTOCOLS

    request = {
        "command": "explain",
        "destination": options.destination,
        "dscp": _number(options.dscp, DSCP, "--dscp", "a name such as ef"),
        "protocol": _number(options.protocol, PROTOCOLS, "--protocol", "tcp, udp, icmp"),
        "port": options.port,
        "size": options.size,
    }
    return client.request(options.control, request)


def _number(text: str, names: Dict[str, int], option: str, expected: str) -> int:
    known = names.get(text.lower())
    if known is not None:
        return known
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{option}: write {expected}, or a number, not {text}")
    return int(text)


def as_text(answer: Dict[str, Any]) -> str:
    """Return the agent's answer as lines for a person."""
    hop, to = answer["next_hop"], answer["destination"]
    if hop is None:
        return f"{to} is not reached: {answer['fault']}"
    several = len(answer["next_hops"]) > 1
    by = " and ".join(answer["next_hops"])
    # The IPv6 address of a host ends in its virtual address.
    direct = ipaddress.ip_address(to).packed.endswith(ipaddress.IPv4Address(hop).packed)
    lines = [f"{to}, directly" if direct else f"{to}, by {by}{' at once' if several else ''}"]
    if answer["class"] is None:
        lines.append("no class matches: it goes over every link")
    else:
        lines.append(f"class {answer['class']}, mode {answer['mode']}")
    if answer["parity"]:
        where = f" over {answer['parity_link']}" if answer["parity_link"] else ", none now"
        lines.append(f"one parity frame for {answer['parity']} packets{where}")
    for link in answer["links"]:
        carries = "carries it" if link["carries"] else f"does not: {link['why']}"
        to_hop = f" to {link['next_hop']}" if several else ""
        lines.append(f"  {link['name']}{to_hop} {carries}")
    if answer["fault"] is not None:
        lines.append(f"it is dropped: {answer['fault']}")
    return "\n".join(lines)
