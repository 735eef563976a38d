"""The networks of a host and their peers, as the inventory describes them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.constants import (
    ALL_GROUP,
    CLIENT_GROUP,
    DEFAULT_ENCAPSULATION,
    DEFAULT_PORT,
    MAIN_NETWORK,
    ROUTER_GROUP,
)
from ropeway_fleet.values import is_on, names_in

PSK_FILE = "/etc/ropeway/psk"


def peers(
    host: str,
    others: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    addresses: Mapping[str, str],
    encapsulation: str = "classic",
    keys: Any = None,
    initiate: bool = True,
) -> List[Dict[str, Any]]:
    """Return the section ``peers`` of the agent's configuration on ``host``.

    It has an item for each of ``others``: its virtual address, from ``addresses``, and its real
    addresses in the LANs that it shares with ``host``, in the order of its ropeway_interfaces.
    Interfaces without an address (``configure: false``) are left out: the agents learn those.

    With ``secure`` an item has the public keys recorded in ``keys`` (see ropeway_keys.key_record),
    the networks of its ropeway_subnets as ``allowed``, and its addresses end with the other host's
    ropeway_endpoints. A host without a recorded key is left out. Without ``initiate`` there are no
    addresses, because the other end connects. Then,
    where some want to be met without the router (ropeway_direct), the others are marked. With
    ``classic`` a host that shares no LAN is left out.
    """
    found = []
    # Where nobody wants to be met, agents of before this key have nothing to refuse.
    meeting = not initiate and any(is_on(hostvars[other].get("ropeway_direct")) for other in others)
    for other in others:
        if other == host:
            continue
        item: Dict[str, Any] = {"host": addresses[other]}
        if encapsulation == "secure":
            if not (keys or {}).get(other):
                continue
            item.update(keys[other])
            if hostvars[other].get("ropeway_subnets"):
                item["allowed"] = list(hostvars[other]["ropeway_subnets"])
            reached = _endpoints(host, other, hostvars) if initiate else []
            if reached:
                item["addresses"] = reached
            if meeting and not is_on(hostvars[other].get("ropeway_direct")):
                item["direct"] = False
        else:
            item["addresses"] = _shared_addresses(host, other, hostvars)
            if not item["addresses"]:
                continue
        found.append(item)
    return found


def direct_peers(
    host: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> List[str]:
    """Return the clients to which ``host`` connects without the router, in inventory order.

    They are its ropeway_direct_peers, and the clients that list it in theirs.
    """
    own = names_in(hostvars[host].get("ropeway_direct_peers"))
    return [
        other
        for other in groups.get(CLIENT_GROUP, [])
        if other != host
        and (other in own or host in names_in(hostvars[other].get("ropeway_direct_peers")))
    ]


def key_holders(
    host: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> List[str]:
    """Return the hosts whose configuration has the public key of ``host``, in inventory order."""
    routers, clients = groups.get(ROUTER_GROUP, []), groups.get(CLIENT_GROUP, [])
    holders = [*clients, *routers] if host in routers else list(routers)
    if host in clients:
        holders += direct_peers(host, groups, hostvars)
    for other in groups.get(ALL_GROUP, []):
        for network in hostvars[other].get("ropeway_agent_extra_networks") or []:
            if any(peer.get("name") == host for peer in network.get("peers") or []):
                holders.append(other)
    return [other for other in groups.get(ALL_GROUP, []) if other in holders and other != host]


def networks(
    main: Mapping[str, Any], extras: Sequence[Mapping[str, Any]], keys: Any, has_psk: bool = False
) -> List[Dict[str, Any]]:
    """Return the settings of each network of a host, the main one first, for the templates.

    ``extras`` are the items of ropeway_agent_extra_networks. A setting that an item lacks comes
    from ``main`` or has a default. A peer with a ``name`` gets the public keys of that host, and is
    left out if none is recorded. With ``has_psk`` each peer of a secure network has a psk_file.
    """
    found = []
    for given in (main, *extras):
        name = str(given["name"])
        network: Dict[str, Any] = {
            "encapsulation": DEFAULT_ENCAPSULATION,
            "network6": "",
            "router": "",
            "routers": [],
            "forward": False,
            "device_name": f"ropeway-{name}",
            "device_mtu": "auto",
            "device_precedence": main["device_precedence"],
            "include": main["include"],
            "exclude": main["exclude"],
            "addresses": main["addresses"],
            "port": DEFAULT_PORT,
            "rollover_s": main["rollover_s"],
            "max_age_s": main["max_age_s"],
            "offload_disable": main["offload_disable"],
            "cpu_latency_us": main["cpu_latency_us"],
            "announce": [],
            "links": {},
            "leases": {},
            "classes": [],
            "copy_dscp": main["copy_dscp"],
            "direct": main["direct"],
            "expected_peers": [],
            "expected_links": [],
            **given,
            "config": f"/etc/ropeway/{name}.yaml",
            "unit": "ropeway.service" if name == MAIN_NETWORK else f"ropeway@{name}.service",
            "control": given.get("control") or {**main["control"], "path": control_path(name)},
        }
        secure = network["encapsulation"] == "secure"
        network["classes"] = _classes(network["classes"])
        network["names"] = {
            peer["host"]: peer["name"] for peer in given.get("peers") or [] if peer.get("name")
        }
        network["peers"] = [
            _peer(peer, keys or {}, secure, has_psk)
            for peer in given.get("peers") or []
            if not secure or peer.get("public_key") or (keys or {}).get(peer.get("name"))
        ]
        found.append(network)
    return found


def _classes(value: Any) -> Any:
    """Return the key classes as the agent reads it: a list, or a word instead of one."""
    return value if isinstance(value, str) else [_class(item) for item in value or []]


def _class(item: Any) -> Any:
    """Return a class of traffic as the agent reads it: to Ansible, the word off is a boolean."""
    if not isinstance(item, Mapping):
        return item
    return {"off" if str(key) == "False" else key: value for key, value in item.items()}


def run_commands(networks: Sequence[Mapping[str, Any]]) -> Dict[str, List[str]]:
    """Return the commands with which inspect_host.py asks for the state of each network's agent.

    "status NAME" asks the agent; "active NAME" and "enabled NAME" ask systemd.
    """
    found = {}
    for network in networks:
        name, unit = network["name"], network["unit"]
        path = network["control"]["path"]
        found[f"status {name}"] = ["ropeway", "status", "--json", "--control", path]
        found[f"active {name}"] = ["systemctl", "is-active", unit]
        found[f"enabled {name}"] = ["systemctl", "is-enabled", unit]
    return found


def control_path(name: str) -> str:
    """Return the control socket of an additional network, in the folder of its unit."""
    return f"/run/ropeway-{name}/control.sock"


def _shared_addresses(
    host: str, other: str, hostvars: Mapping[str, Mapping[str, Any]]
) -> List[str]:
    lans = {interface["lan"] for interface in hostvars[host]["ropeway_interfaces"]}
    return [
        str(interface["address"]).split("/")[0]
        for interface in hostvars[other]["ropeway_interfaces"]
        if interface["lan"] in lans and interface.get("address")
    ]


def _endpoints(host: str, other: str, hostvars: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """Return the addresses of ``other``; with its port if that of ``host`` differs."""
    own_port, other_port = (
        int(hostvars[name].get("ropeway_port", DEFAULT_PORT)) for name in (host, other)
    )
    listed = _shared_addresses(host, other, hostvars)
    listed += names_in(hostvars[other].get("ropeway_endpoints"))
    return [
        address if own_port == other_port else _with_port(address, other_port) for address in listed
    ]


def _with_port(address: str, port: int) -> str:
    if address.startswith("["):
        return address
    colons = address.count(":")
    if colons == 1:
        return address
    return f"[{address}]:{port}" if colons else f"{address}:{port}"


def _peer(
    peer: Mapping[str, Any], keys: Mapping[str, Mapping[str, str]], secure: bool, has_psk: bool
) -> Dict[str, Any]:
    item = {key: value for key, value in peer.items() if key != "name" and value is not None}
    if secure:
        if "public_key" not in item:
            item.update(keys[str(peer["name"])])
        if has_psk:
            item.setdefault("psk_file", PSK_FILE)
    return item


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {
            "ropeway_direct_peers": direct_peers,
            "ropeway_key_holders": key_holders,
            "ropeway_networks": networks,
            "ropeway_peers": peers,
            "ropeway_run_commands": run_commands,
        }
