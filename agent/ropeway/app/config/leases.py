"""Leases: hosts that get their address from a router, and what a router gives."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, List, Optional

from ropeway.app.config.endpoints import LEASE
from ropeway.app.config.lines import Faults, KeyPath
from ropeway.app.config.model import SECURE
from ropeway.core.address_range import POOL_MAX, Range, range_of
from ropeway.core.settings import Leases

DEFAULT_TIME_S = 86400.0


def leases_of(data: Dict[str, Any]) -> Optional[Leases]:
    """Return what the file says that this host gives; None where it gives nothing."""
    given = data.get("leases")
    if given is None:
        return None
    ranges = tuple(range_of(text) for text in _texts(given["pool"]))
    return Leases(ranges, float(given.get("time_s", DEFAULT_TIME_S)), int(given.get("mtu", 0)))


def check_leases(
    data: Dict[str, Any], network: Optional[ipaddress.IPv4Network], faults: Faults
) -> None:
    """Report what is wrong with leases, taken or given."""
    secure = data.get("encapsulation", SECURE) == SECURE
    if data.get("address") == LEASE:
        if not secure:
            faults.add(("address",), "only the encapsulation secure has leases: write an address")
        elif len(_routers(data)) != 1:
            faults.add(
                ("address",),
                "a lease comes from one router, which alone knows that nobody else has the address:"
                " name one router, or write an address here",
            )
        if data.get("announce"):
            faults.add(
                ("announce",),
                "who announces networks has an address of its own: write it as address",
            )
        if "leases" in data:
            faults.add(
                ("leases",), "who gives leases has an address of its own: write it as address"
            )
    given = data.get("leases")
    peers = data.get("peers")
    for number, peer in enumerate(peers if isinstance(peers, list) else ()):
        if isinstance(peer, dict) and peer.get("host") == LEASE:
            _check_tenant(peer, number, given is not None, faults)
    if isinstance(given, dict):
        _check_pool(given.get("pool"), network, faults)


def _check_tenant(peer: Dict[str, Any], number: int, gives: bool, faults: Faults) -> None:
    path: KeyPath = ("peers", number)
    if not gives:
        faults.add(
            (*path, "host"), "this host gives no leases: write leases with a pool, or an address"
        )
    if "addresses" in peer:
        faults.add(
            (*path, "addresses"), "a host with a lease calls the router by itself: remove them"
        )
    if "next_public_key" in peer:
        faults.add(
            (*path, "next_public_key"),
            "a lease belongs to one key: give the next key an entry of its own",
        )


def _check_pool(pool: Any, network: Optional[ipaddress.IPv4Network], faults: Faults) -> None:
    found: List[Range] = []
    for place, text in enumerate(_texts(pool)):
        path: KeyPath = ("leases", "pool", place) if isinstance(pool, list) else ("leases", "pool")
        if not isinstance(text, str) or faults.spoilt(path):
            continue
        try:
            one = range_of(text)
        except ValueError as error:
            faults.add(path, str(error))
            continue
        if network is not None and not (
            ipaddress.IPv4Address(one.first) in network
            and ipaddress.IPv4Address(one.last) in network
        ):
            faults.add(path, f"{text} is not inside the network {network}: choose addresses in it")
        elif any(one.first <= other.last and other.first <= one.last for other in found):
            faults.add(path, f"{text} has addresses of another range: write each once")
        elif len(one) + sum(map(len, found)) > POOL_MAX:
            faults.add(path, f"with {text} the pool has more than {POOL_MAX} addresses: shorten it")
        found.append(one)


def _routers(data: Dict[str, Any]) -> List[Any]:
    routers = data.get("routers", [data["router"]] if "router" in data else [])
    return routers if isinstance(routers, list) else []


def _texts(pool: Any) -> List[Any]:
    return pool if isinstance(pool, list) else [pool]
