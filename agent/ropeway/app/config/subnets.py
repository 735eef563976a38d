"""Networks behind hosts: those that one announces, and those that it may."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, Optional

from ropeway.app.config.endpoints import LEASE
from ropeway.app.config.lines import Faults, KeyPath
from ropeway.core.network.subnets import SITES, may_be_behind
from ropeway.core.packet.prefix import parse


def check_subnets(
    data: Dict[str, Any], network: Optional[ipaddress.IPv4Network], faults: Faults
) -> None:
    """Report networks that cannot be behind a host."""
    _check(data.get("announce"), ("announce",), network, faults)
    if data.get("announce") and data.get("address") == LEASE:
        faults.add(("announce",), "only a host with an address of its own announces: write address")
    peers = data.get("peers")
    for number, peer in enumerate(peers if isinstance(peers, list) else ()):
        if isinstance(peer, dict):
            _check(peer.get("allowed"), ("peers", number, "allowed"), network, faults)


def _check(
    listed: Any, where: KeyPath, virtual: Optional[ipaddress.IPv4Network], faults: Faults
) -> None:
    for place, item in enumerate(listed if isinstance(listed, list) else ()):
        path: KeyPath = (*where, place)
        if not isinstance(item, str) or faults.spoilt(path):
            continue
        try:
            meant = ipaddress.IPv4Network(item, strict=False)
        except ValueError:
            # The schema says so.
            continue
        if item != str(meant):
            faults.add(path, f"{item} has host bits set: write {meant}")
        elif not may_be_behind(parse(item)):
            known = ", ".join(map(str, SITES))
            faults.add(path, f"{item} is no private network: only parts of {known} are announced")
        elif virtual and meant.overlaps(virtual):
            faults.add(path, f"{item} overlaps the virtual network {virtual}: leave it out")
