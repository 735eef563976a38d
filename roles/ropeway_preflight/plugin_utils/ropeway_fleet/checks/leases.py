"""The addresses that routers give to hosts outside of the inventory."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Iterator, List, Optional, Tuple

from ..constants import ROUTER_GROUP
from ..values import is_list
from ..wording import shown
from .groups import hosts_in
from .settings import is_secure

EXAMPLE = "{pool: 10.213.77.128/25, public_keys: [...]}"
KEYS = ("pool", "time_s", "mtu", "public_keys")
KEY_BYTES = 32

# First and last address as numbers.
Range = Tuple[int, int]


def lease_problems(
    groups: Mapping[str, Sequence[str]], names: List[str], read: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the problems of ``ropeway_leases``: of each host, and between the pools of routers.

    What is not looked at here, the agent checks on the host before its configuration is replaced.
    """
    routers = hosts_in(groups, ROUTER_GROUP)
    pools: List[Tuple[str, str, Range]] = []
    for name in names:
        leases = read[name].get("ropeway_leases")
        if not leases:
            continue
        if name not in routers:
            yield (
                f"{name}: ropeway_leases is only for routers: set it for hosts of the group "
                f"{ROUTER_GROUP}."
            )
            continue
        if not is_secure(read[name]):
            yield f"{name}: ropeway_leases is only for secure networks: remove it."
            continue
        yield from _problems_of(name, leases)
        for text in _pool_of(leases):
            found = _range_of(text)
            if found is None or not _inside(found, read[name].get("ropeway_network")):
                yield (
                    f"{name}: {shown(text)} in the pool of ropeway_leases is no range inside the "
                    "virtual network: write a part of it, such as 10.213.77.128/25 or "
                    "10.213.77.100-10.213.77.199."
                )
                continue
            for other, text_there, there in pools:
                if found[0] <= there[1] and there[0] <= found[1]:
                    yield (
                        f"{name}: {text} in the pool of ropeway_leases overlaps {text_there} of "
                        f"{other}: two routers would give one address twice, so give each a pool "
                        "of its own."
                    )
            pools.append((name, str(text), found))


def _problems_of(name: str, leases: Any) -> Iterator[str]:
    if not isinstance(leases, Mapping) or "pool" not in leases:
        yield f"{name}: ropeway_leases is no mapping with a pool: write one such as {EXAMPLE}."
        return
    for key in leases:
        if key not in KEYS:
            yield (
                f"{name}: ropeway_leases has no key {shown(key)}: the keys are {', '.join(KEYS)}."
            )
    keys = leases.get("public_keys") or []
    for key in keys if is_list(keys) else [keys]:
        if not _is_key(key):
            yield (
                f"{name}: {shown(key)} in the public_keys of ropeway_leases is no public key: "
                "write it as `ropeway pubkey` prints it there."
            )


def _pool_of(leases: Any) -> List[Any]:
    pool = leases.get("pool") if isinstance(leases, Mapping) else None
    if pool is None:
        return []
    return list(pool) if is_list(pool) else [pool]


def _range_of(text: Any) -> Optional[Range]:
    first, dash, last = str(text).partition("-")
    try:
        if dash:
            found = (int(ipaddress.IPv4Address(first)), int(ipaddress.IPv4Address(last)))
        else:
            network = ipaddress.IPv4Network(first)
            found = (int(network.network_address), int(network.broadcast_address))
    except ValueError:
        return None
    return found if found[0] <= found[1] else None


def _inside(found: Range, virtual: Any) -> bool:
    try:
        network = ipaddress.IPv4Network(str(virtual))
    except ValueError:
        # Another check says so.
        return True
    return int(network.network_address) <= found[0] and found[1] <= int(network.broadcast_address)


def _is_key(key: Any) -> bool:
    try:
        return isinstance(key, str) and len(base64.b64decode(key, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False
