"""The status that an agent reports, and the links and peers that it must show."""

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


def status_of(said: Any) -> Dict[str, Any]:
    """What ``ropeway status --json`` of a host says; empty where it is no such thing."""
    try:
        status = json.loads(said)
    except (TypeError, ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}


def carrying_peers(status: Mapping[str, Any]) -> List[str]:
    """Virtual addresses of the peers in state 2 (both ways work) in what `status_of` gives."""
    peers = status.get("peers")
    return [
        peer["host"]
        for peer in (peers if isinstance(peers, list) else ())
        if isinstance(peer, dict) and peer.get("best_state") == 2 and _is_address(peer.get("host"))
    ]


def expected_links(
    host: str, others: Sequence[str], direct: Sequence[str], hostvars: Mapping[str, Any]
) -> List[str]:
    """The interfaces of ``host`` that have to carry, since one of ``others`` is reached over them.

    That is one in a LAN that both have, and one at whose address others call, as ropeway_endpoints
    of ``host`` says. Where another one has ropeway_endpoints, which any link may lead to, it is
    every interface but those in LANs that are shared with hosts of ``direct`` alone.
    """
    lans = {i["lan"] for other in others for i in hostvars[other]["ropeway_interfaces"]}
    # Nobody has to be reached over a link that may be off at the other end.
    sure = {
        interface["lan"]
        for other in others
        for interface in hostvars[other]["ropeway_interfaces"]
        if interface["name"] not in names_in(hostvars[other].get("ropeway_tolerated_links"))
    }
    borne = names_in(hostvars[host].get("ropeway_tolerated_links"))
    near = {i["lan"] for other in direct for i in hostvars[other]["ropeway_interfaces"]}
    anywhere = any(hostvars[other].get("ropeway_endpoints") for other in others)
    called = [_without_port(text) for text in names_in(hostvars[host].get("ropeway_endpoints"))]
    return [
        str(interface["name"])
        for interface in hostvars[host]["ropeway_interfaces"]
        if interface["lan"] in (lans if interface["name"] in borne else sure)
        or (anywhere and interface["lan"] not in near)
        or (others and str(interface.get("address") or "").split("/")[0] in called)
    ]


def idle_links(status: Mapping[str, Any], names: Any) -> List[str]:
    """Those interfaces of ``names`` that carry nothing, as what `status_of` gives says."""
    established = {
        connection.get("link")
        for peer in _mappings(status, "peers")
        for connection in _mappings(peer, "connections")
        if connection.get("state") == 2 and isinstance(connection.get("link"), int)
    }
    carrying = [
        link.get("name")
        for link in _mappings(status, "links")
        if isinstance(link.get("index"), int) and link["index"] in established
    ]
    return [name for name in dict.fromkeys(names_in(names)) if name not in carrying]


def link_faults(status: Mapping[str, Any], names: Any) -> str:
    """What the agent says of the links ``names``, each in quotes, for a sentence."""
    faults = {
        link.get("name"): link["fault"]
        for key in ("links", "missing_links")
        for link in _mappings(status, key)
        if isinstance(link.get("name"), str) and link.get("fault")
    }
    return ", ".join(f"{name} {quoted(faults.get(name, 'no link'))}" for name in names_in(names))


def carried_before(status: Mapping[str, Any], network: Mapping[str, Any]) -> List[str]:
    """The carrying peers of an agent that a new configuration, an item of `networks`, leaves alone.

    None if the change is one that the other ends have to make as well before they can be heard.
    """
    known = (status.get("encapsulation", "classic"), status.get("network"))
    if known != (network["encapsulation"], network["network"]):
        return []
    if network["encapsulation"] == "secure" and status.get("port") != int(network["port"]):
        return []
    return carrying_peers(status)


def _mappings(said: Mapping[str, Any], key: str) -> List[Mapping[str, Any]]:
    listed = said.get(key)
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
            "ropeway_carried_before": carried_before,
            "ropeway_carrying_peers": carrying_peers,
            "ropeway_expected_links": expected_links,
            "ropeway_idle_links": idle_links,
            "ropeway_link_faults": link_faults,
            "ropeway_names": names_in,
            "ropeway_shown": quoted,
            "ropeway_status": status_of,
        }
