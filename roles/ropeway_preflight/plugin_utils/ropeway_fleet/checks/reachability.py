"""Links between hosts: LANs shared with the router, direct peers, tolerated links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Iterator, List

from ..constants import CLIENT_GROUP, ROUTER_GROUP
from ..values import is_list
from ..wording import listing, shown
from .groups import hosts_in
from .host import Host
from .settings import is_secure


def address_required_problems(
    groups: Mapping[str, Sequence[str]],
    hosts: List[Host],
    hostvars: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Yield a problem for each interface of the router without an address.

    Clients connect to the router's addresses; the router learns theirs from their packets.
    """
    for host in hosts:
        if host.name not in hosts_in(groups, ROUTER_GROUP) or _endpoints(hostvars[host.name]):
            continue
        for interface in host.interfaces:
            if interface.address is None:
                yield (
                    f"{host.name}: interface {interface.name} has no address, but clients "
                    "need the router's addresses: add the address that the interface always gets, "
                    "or list it in ropeway_endpoints."
                )


def reachability_problems(
    groups: Mapping[str, Sequence[str]],
    hosts: List[Host],
    hostvars: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Yield a problem for each client that shares no LAN with a router."""
    by_name = {host.name: host for host in hosts}
    for router in (by_name[name] for name in hosts_in(groups, ROUTER_GROUP) if name in by_name):
        router_lans = {interface.lan for interface in router.interfaces}
        # Another check reports a router that has no valid interface.
        if not router_lans or _endpoints(hostvars[router.name]):
            continue
        for name in hosts_in(groups, CLIENT_GROUP):
            host = by_name.get(name)
            if host is None or not host.interfaces:
                continue
            lans = [interface.lan for interface in host.interfaces]
            if not router_lans.intersection(lans):
                yield (
                    f"{name}: its LANs ({listing(sorted(map(shown, set(lans))))}) include no LAN "
                    f"of the router {router.name} (LANs "
                    f"{listing(sorted(map(shown, router_lans)))}): add an interface in a LAN "
                    "of the router, or set ropeway_endpoints of the router."
                )


def _endpoints(variables: Mapping[str, Any]) -> List[str]:
    """Return the host's ropeway_endpoints, which only a secure network uses."""
    raw = variables.get("ropeway_endpoints")
    if not is_secure(variables) or not is_list(raw):
        return []
    return [str(item) for item in raw or ()]


def direct_peer_problems(
    name: str, groups: Mapping[str, Sequence[str]], variables: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the problems of one host's ropeway_direct_peers."""
    raw = variables.get("ropeway_direct_peers")
    if raw is None:
        return
    if not is_list(raw):
        yield f"{name}: ropeway_direct_peers is not a list: list names of clients."
        return
    for other in raw:
        if other == name or other not in hosts_in(groups, CLIENT_GROUP):
            yield (
                f"{name}: {shown(other)} in ropeway_direct_peers is not another host of "
                f"{CLIENT_GROUP}: list names of clients."
            )


def tolerated_problems(
    hosts: Sequence[Host], hostvars: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a problem for each name in ropeway_tolerated_links that no host's interface has."""
    known = {interface.name for host in hosts for interface in host.interfaces}
    for host in hosts:
        raw = hostvars[host.name].get("ropeway_tolerated_links")
        listed = raw.split(",") if isinstance(raw, str) else raw
        if listed is None:
            continue
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            yield f"{host.name}: ropeway_tolerated_links is not a list of interface names."
            continue
        for name in (item.strip() for item in listed):
            if name and name not in known:
                yield (
                    f"{host.name}: {name!r} in ropeway_tolerated_links is in no host's "
                    "ropeway_interfaces: correct or remove it."
                )
