"""The classes of traffic in the file: as the core takes them, and what a schema cannot say."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, FrozenSet, List, Optional, Tuple, Union

from ropeway.app.config.lines import Faults, KeyPath
from ropeway.core.frame.data import LANES
from ropeway.core.packet import ipv6
from ropeway.core.packet.traffic_class import WITH_PORTS, Match, Mode, TrafficClass

#: What the file says instead of a list.
RECOMMENDED = "recommended"
#: The classes for it, as a file would list them. Small is what every host takes whole (RFC 791,
#: section 3.1): messages of DHCP and DNS, speech, keystrokes and acknowledgements.
RECOMMENDED_CLASSES: Tuple[Dict[str, Any], ...] = (
    {
        "name": "real-time",
        "match": {"dscp": ["ef", "va", "af41", "af42", "af43", "cs4", "cs5", "cs6"]},
    },
    {"name": "small", "match": {"size_max": 576}},
    {"name": "tcp", "match": {"protocol": "tcp"}, "mode": "spread"},
    {"name": "rest", "mode": "adaptive"},
)
DEFAULT_WITHIN_MS = 100.0
#: For the mode spread; packets of other modes are not held back unless the class says so.
DEFAULT_HOLD_MS = 200
#: RFC 2474 (cs), 2597 (af), 3246 (ef), 5865 (va), 8622 (le); be and df are the default.
DSCP: Dict[str, int] = {
    "be": 0,
    "df": 0,
    "le": 1,
    "va": 44,
    "ef": 46,
    **{f"cs{number}": 8 * number for number in range(8)},
    **{f"af{row}{drop}": 8 * row + 2 * drop for row in range(1, 5) for drop in range(1, 4)},
}
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}
#: Keys of a class that belong to one mode.
_OF_MODE = {"copies": Mode.REDUNDANT, "within_ms": Mode.ADAPTIVE}
_PORT_MAX = 65535


def classes_of(value: Union[str, List[Dict[str, Any]]]) -> Tuple[TrafficClass, ...]:
    """Return the classes for the value of `classes` in a file that passed all checks."""
    listed = RECOMMENDED_CLASSES if isinstance(value, str) else value
    return tuple(
        TrafficClass(
            name=item["name"],
            match=_match(item.get("match", {})),
            mode=Mode(item.get("mode", Mode.REDUNDANT.value)),
            copies=int(item["copies"]) if "copies" in item else None,
            within_ms=float(item.get("within_ms", DEFAULT_WITHIN_MS)),
            off=tuple(item.get("off", ())),
            hold_ms=_hold_ms(item),
            parity=int(item.get("parity", 0)),
        )
        for item in listed
    )


def _hold_ms(item: Dict[str, Any]) -> int:
    default = DEFAULT_HOLD_MS if item.get("mode") == Mode.SPREAD.value else 0
    return int(item.get("hold_ms", default))


def _match(match: Dict[str, Any]) -> Match:
    networks = [ipaddress.IPv4Network(text) for text in match.get("addresses", ())]
    return Match(
        dscp=frozenset(DSCP[one] if isinstance(one, str) else int(one) for one in match["dscp"])
        if "dscp" in match
        else None,
        protocols=_protocols(match.get("protocol")),
        ports=tuple(map(_range, match["ports"])) if "ports" in match else None,
        networks=tuple((int(one.network_address), int(one.netmask)) for one in networks) or None,
        size_max=int(match["size_max"]) if "size_max" in match else None,
    )


def _protocols(protocol: Any) -> Optional[FrozenSet[int]]:
    if protocol is None:
        return None
    if protocol == "icmp":
        return frozenset((PROTOCOLS[protocol], ipv6.PROTOCOL_ICMP))
    return frozenset((PROTOCOLS[protocol] if isinstance(protocol, str) else int(protocol),))


def _range(ports: Union[int, str]) -> Tuple[int, int]:
    """Return the first and the last port of one, or of a range that passed the schema."""
    first, _, last = str(ports if isinstance(ports, str) else int(ports)).partition("-")
    return int(first), int(last or first)


def check_classes(
    data: Dict[str, Any], network: Optional[ipaddress.IPv4Network], faults: Faults
) -> None:
    """Report what of the classes in `data`, the values of a file, makes no sense."""
    listed = data.get("classes")
    lines: Dict[str, int] = {}
    in_lanes = 0
    for number, item in enumerate(listed if isinstance(listed, list) else ()):
        path: KeyPath = ("classes", number)
        if not isinstance(item, dict):
            continue
        name = item.get("name")
        if isinstance(name, str) and not faults.spoilt((*path, "name")):
            if name in lines:
                faults.add(
                    (*path, "name"), f"{name} stands in line {lines[name]} already: rename one"
                )
            lines.setdefault(name, faults.line_of.get((*path, "name"), 1))
        mode = item.get("mode", Mode.REDUNDANT.value)
        for key, owner in _OF_MODE.items():
            if key in item and mode != owner.value and not faults.spoilt((*path, "mode")):
                faults.add((*path, key), f"only the mode {owner.value} has this key: remove it")
        held = item.get("hold_ms", DEFAULT_HOLD_MS if mode == Mode.SPREAD.value else 0)
        if mode == Mode.SPREAD.value and held == 0:
            faults.add((*path, "hold_ms"), "the mode spread needs some: write 1 to 2000")
        in_lanes += held != 0 or "parity" in item
        if in_lanes == LANES + 1:
            faults.add(path, f"at most {LANES} classes may have hold_ms, parity or the mode spread")
            in_lanes += 1
        match = item.get("match")
        if isinstance(match, dict):
            _check_ports(match, (*path, "match"), faults)
            _check_addresses(match, (*path, "match", "addresses"), network, faults)


def _check_ports(match: Dict[str, Any], path: KeyPath, faults: Faults) -> None:
    listed = match.get("ports")
    if not isinstance(listed, list):
        return
    for place, item in enumerate(listed):
        if not isinstance(item, str) or faults.spoilt((*path, "ports", place)):
            continue
        first, last = _range(item)
        if not 1 <= first <= last <= _PORT_MAX:
            faults.add(
                (*path, "ports", place),
                f"write a first and a greater last port from 1 to {_PORT_MAX}, not {item}",
            )
    protocol = match.get("protocol")
    known = PROTOCOLS.get(protocol) if isinstance(protocol, str) else protocol
    ported = not isinstance(known, (int, float)) or known in WITH_PORTS
    if not ported and not faults.spoilt((*path, "protocol")):
        faults.add((*path, "ports"), f"protocol {protocol} has no ports: remove one of the two")


def _check_addresses(
    match: Dict[str, Any],
    path: KeyPath,
    network: Optional[ipaddress.IPv4Network],
    faults: Faults,
) -> None:
    listed = match.get("addresses")
    for place, text in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(text, str) or faults.spoilt((*path, place)):
            continue
        try:
            meant = ipaddress.IPv4Network(text, strict=False)
        except ValueError:
            continue  # The schema has said so.
        address = text.partition("/")[0]
        if str(meant.network_address) != address:
            faults.add((*path, place), f"{text} has host bits set: write {meant}")
        elif network and not meant.subnet_of(network):
            faults.add(
                (*path, place),
                f"{text} is outside the network {network}: write virtual addresses",
            )
