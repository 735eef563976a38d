"""ropeway_network and ropeway_encapsulation, and the values that all hosts must share."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List, Optional

from ..constants import ALL_GROUP, DEFAULT_ENCAPSULATION, ENCAPSULATIONS
from ..wording import shown
from .groups import by_group

CLASSIC_CAVEAT = (
    "classic has no authentication and no encryption, so it is for trusted LANs and old nodes only"
)
# A longer prefix has no addresses for a router and a client.
NETWORK_PREFIX_MAX = 30
NETWORK6_PREFIX = 64


def shared_value_problems(
    names: List[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Yield the problems of values that all hosts must share: one sentence for each value."""
    encapsulations = _hosts_by_value(names, hostvars, "ropeway_encapsulation")
    for value, owners in encapsulations.items():
        if value is not None and value not in ENCAPSULATIONS:
            yield (
                f"{by_group(owners, groups)}: ropeway_encapsulation {shown(value)} is unknown: use "
                f"one of {', '.join(ENCAPSULATIONS)} ({CLASSIC_CAVEAT})."
            )
    networks = _hosts_by_value(names, hostvars, "ropeway_network")
    for value, owners in networks.items():
        sentence = network_problem(value)
        if sentence:
            yield f"{by_group(owners, groups)}: {sentence}"
    networks6 = _hosts_by_value(names, hostvars, "ropeway_network6")
    networks6.pop("", None)
    for value, owners in networks6.items():
        sentence = network6_problem("ropeway_network6", value)
        if sentence:
            yield f"{by_group(owners, groups)}: {sentence}"
    for key, values in (
        ("ropeway_encapsulation", encapsulations),
        ("ropeway_network", networks),
        ("ropeway_network6", networks6),
    ):
        known = {value: owners for value, owners in values.items() if value is not None}
        if key == "ropeway_encapsulation" and None in values:
            known.setdefault(DEFAULT_ENCAPSULATION, []).extend(values[None])
        if len(known) > 1:
            parts = [
                f"{shown(value)} on {by_group(owners, groups)}" for value, owners in known.items()
            ]
            yield f"{key} differs: {'; '.join(parts)}: set one value for the group {ALL_GROUP}."
    secrets = {str(hostvars[name].get("ropeway_psk") or "") for name in names}
    if len(secrets) > 1:
        # Logs must not contain the secrets, so no message shows them.
        without = [name for name in names if not hostvars[name].get("ropeway_psk")]
        which = f"{by_group(without, groups)} without one" if without else "not the same everywhere"
        yield f"ropeway_psk differs ({which}): set one value for the group {ALL_GROUP}."


def _hosts_by_value(
    names: List[str], hostvars: Mapping[str, Mapping[str, Any]], key: str
) -> Dict[Optional[str], List[str]]:
    found: Dict[Optional[str], List[str]] = {}
    for name in names:
        value = hostvars[name].get(key)
        found.setdefault(None if value is None else str(value), []).append(name)
    return found


def network6_problem(key: str, value: Optional[str]) -> Optional[str]:
    """Return a problem if ``value`` is not a usable IPv6 network; otherwise None, as for none."""
    if not value:
        return None
    example = "use a value such as fd12:3456:789a:1::/64"
    try:
        network = ipaddress.IPv6Network(value, strict=False)
    except ValueError:
        return f"{key} {shown(value)} is not an IPv6 network: {example}."
    if network.prefixlen != NETWORK6_PREFIX or "/" not in value:
        return f"{key} {value} has not the prefix length {NETWORK6_PREFIX}: {example}."
    if network.network_address != ipaddress.IPv6Interface(value).ip:
        return f"{key} {value} has host bits set: use {network}."
    first = network.network_address
    if first.is_multicast or first.is_link_local or int(first) >> 32 == 0:
        return f"{key} {value} is not a unicast network: use one of fd00::/8 (RFC 4193)."
    return None


def network_problem(value: Optional[str]) -> Optional[str]:
    """Return a problem if ``value`` is not a usable ropeway_network; otherwise None."""
    if value is None:
        return "ropeway_network is not set: set the virtual network, such as 10.213.77.0/24."
    if "/" not in value:
        return (
            f"ropeway_network {shown(value)} has no prefix length: use a value such as "
            "10.213.77.0/24."
        )
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        return (
            f"ropeway_network {shown(value)} is not an IPv4 network: use a value such as "
            "10.213.77.0/24."
        )
    if str(network) != str(ipaddress.IPv4Interface(value)):
        return f"ropeway_network {value} has host bits set: use {network}."
    if network.prefixlen > NETWORK_PREFIX_MAX:
        return (
            f"ropeway_network {value} has no room for a router and a client: use a prefix of "
            f"/{NETWORK_PREFIX_MAX} or shorter."
        )
    if not is_unicast(network.network_address):
        return f"ropeway_network {value} is not a unicast network: use a private one (RFC 1918)."
    return None


def placement_problems(
    name: str, origin: str, address: ipaddress.IPv4Address, network: ipaddress.IPv4Network
) -> Iterator[str]:
    """Yield a problem if ``address`` cannot belong to a host of ``network``.

    ``origin`` names the variable in the sentence.
    """
    first, last = network[1], network[-2]
    if address not in network:
        yield (
            f"{name}: {origin} {address} is outside the virtual network {network}: use {first} "
            f"to {last}."
        )
    elif address == network.network_address:
        yield (
            f"{name}: {origin} {address} is the network address of {network}: use {first} to "
            f"{last}."
        )
    elif address == network.broadcast_address:
        yield (
            f"{name}: {origin} {address} is the broadcast address of {network}: use {first} to "
            f"{last}."
        )


def is_unicast(address: ipaddress.IPv4Address) -> bool:
    """Return whether a host can have this address."""
    return not (
        address.is_multicast
        or address.is_loopback
        or address in ipaddress.IPv4Network("0.0.0.0/8")
        or address in ipaddress.IPv4Network("240.0.0.0/4")
    )
