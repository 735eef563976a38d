"""The status that an agent reports, and the links and peers that it must have."""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.values import names_in
from ropeway_fleet.wording import quoted


def status_of(output: Any) -> Dict[str, Any]:
    """Return the parsed output of ``ropeway status --json``; {} if it is not a mapping."""
    try:
        status = json.loads(output)
    except (TypeError, ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}


def established_peers(status: Mapping[str, Any]) -> List[str]:
    """Return the virtual addresses of the peers with an established connection."""
    peers = status.get("peers")
    return [
        peer["host"]
        for peer in (peers if isinstance(peers, list) else ())
        if isinstance(peer, dict) and peer.get("best_state") == 2 and _is_address(peer.get("host"))
    ]


def expected_links(
    host: str, others: Sequence[str], direct: Sequence[str], hostvars: Mapping[str, Any]
) -> List[str]:
    """Return the interfaces of ``host`` that must have an established connection to ``others``.

    Those are the interfaces in a LAN with one of ``others``, and those with an address in the
    ropeway_endpoints of ``host``. If one of ``others`` has ropeway_endpoints, any link may reach
    it: then all interfaces are expected, except those in a LAN with hosts of ``direct`` alone.
    """
    lans = {i["lan"] for other in others for i in hostvars[other]["ropeway_interfaces"]}
    # A link that may be down at the other end is not required.
    required = {
        interface["lan"]
        for other in others
        for interface in hostvars[other]["ropeway_interfaces"]
        if interface["name"] not in names_in(hostvars[other].get("ropeway_tolerated_links"))
    }
    tolerated = names_in(hostvars[host].get("ropeway_tolerated_links"))
    direct_lans = {i["lan"] for other in direct for i in hostvars[other]["ropeway_interfaces"]}
    reachable_anywhere = any(hostvars[other].get("ropeway_endpoints") for other in others)
    own_endpoints = [
        _without_port(text) for text in names_in(hostvars[host].get("ropeway_endpoints"))
    ]
    return [
        str(interface["name"])
        for interface in hostvars[host]["ropeway_interfaces"]
        if interface["lan"] in (lans if interface["name"] in tolerated else required)
        or (reachable_anywhere and interface["lan"] not in direct_lans)
        or (others and str(interface.get("address") or "").split("/")[0] in own_endpoints)
    ]


def idle_links(status: Mapping[str, Any], names: Any) -> List[str]:
    """Return those of ``names``, interfaces, that have no established connection."""
    established = {
        connection.get("link")
        for peer in _mappings(status, "peers")
        for connection in _mappings(peer, "connections")
        if connection.get("state") == 2 and isinstance(connection.get("link"), int)
    }
    in_use = [
        link.get("name")
        for link in _mappings(status, "links")
        if isinstance(link.get("index"), int) and link["index"] in established
    ]
    return [name for name in dict.fromkeys(names_in(names)) if name not in in_use]


def link_faults(status: Mapping[str, Any], names: Any) -> str:
    """Return the faults that the agent reports for the links ``names``, quoted, for a message."""
    faults = {
        link.get("name"): link["fault"]
        for key in ("links", "missing_links")
        for link in _mappings(status, key)
        if isinstance(link.get("name"), str) and link.get("fault")
    }
    return ", ".join(f"{name} {quoted(faults.get(name, 'no link'))}" for name in names_in(names))


def established_before(status: Mapping[str, Any], network: Mapping[str, Any]) -> List[str]:
    """Return the established peers that must be established again under a new configuration.

    ``network`` is the new configuration, an item of ropeway_networks.networks. There are no such
    peers if encapsulation, prefix or port change: the other ends must change them too. One that
    ``network`` does not list, such as a former router, has to be cut off.
    """
    former = (status.get("encapsulation", "classic"), status.get("network"))
    if former != (network["encapsulation"], network["network"]):
        return []
    if network["encapsulation"] == "secure" and status.get("port") != int(network["port"]):
        return []
    listed = {peer["host"] for peer in network["peers"]}
    return [host for host in established_peers(status) if host in listed]


def _mappings(holder: Mapping[str, Any], key: str) -> List[Mapping[str, Any]]:
    listed = holder.get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _without_port(endpoint: str) -> str:
    return endpoint.split(":")[0] if endpoint.count(":") == 1 else endpoint


def _is_address(text: Any) -> bool:
    try:
        return isinstance(text, str) and str(ipaddress.IPv4Address(text)) == text
    except ValueError:
        return False


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {
            "ropeway_established_before": established_before,
            "ropeway_established_peers": established_peers,
            "ropeway_expected_links": expected_links,
            "ropeway_idle_links": idle_links,
            "ropeway_link_faults": link_faults,
            "ropeway_names": names_in,
            "ropeway_quoted": quoted,
            "ropeway_status": status_of,
        }
