"""The LANs of the lab: one bridge each, and the ways to cut a host's link to one of them.

On the outside, everything is called after the prefix: bridge `rwlab-net0`, the outer end of vm0's
link to it `rwlab-vm0-net0`, nftables table `bridge rwlab`.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, Dict, List

from . import process, progress
from .errors import LabError
from .topology import MANAGEMENT, Topology

IFNAME_LIMIT = 15  # IFNAMSIZ of linux/if.h less the terminating 0

# linux/if_bridge.h: BR_STATE_DISABLED, BR_STATE_FORWARDING
PORT_DISABLED, PORT_FORWARDING = "0", "3"

# How a link can be cut; all are undone by restore().
MANNERS = {
    "silent": "the bridge port takes and gives nothing; both ends keep their carrier",
    "carrier": "the cable is pulled: the host's interface loses its carrier",
    "drop": "a filter on the bridge drops every frame of this port, both ways",
    "drop-in": "like drop, but only what goes to the host",
    "drop-out": "like drop, but only what comes from the host",
}


def bridge_name(prefix: str, lan: str) -> str:
    """The bridge that is `lan`; LabError if the kernel has no room for such a name."""
    return _fitting(f"{prefix}{lan}")


def port_name(prefix: str, host: str, lan: str) -> str:
    """The outer end of a host's link to `lan`; LabError if the kernel has no room for it."""
    return _fitting(f"{prefix}{host}-{lan}")


def _fitting(name: str) -> str:
    if len(name) > IFNAME_LIMIT:
        raise LabError(
            f"{name} is longer than the {IFNAME_LIMIT} characters of an interface name: "
            "shorten the prefix or the host's name."
        )
    return name


def _table(prefix: str) -> str:
    return prefix.rstrip("-")


def links(prefix: str) -> List[Dict[str, Any]]:
    """This machine's network interfaces whose names start with `prefix`, as `ip -j` has them."""
    found = json.loads(process.run(["ip", "-j", "-d", "link", "show"]).stdout)
    return [link for link in found if link["ifname"].startswith(prefix)]


def create(prefix: str, topology: Topology) -> None:
    """Make the bridges, address the management one, and load the (empty) filter."""
    _refuse_overlap(topology)
    _warn_of_firewall()
    for lan in (*topology.lans, MANAGEMENT):
        name = bridge_name(prefix, lan)
        kind = ["type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"]
        process.run(["ip", "link", "add", "name", name, *kind])
        # The machine itself has no part in the LANs: not even link-local addresses.
        no_ipv6 = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        if no_ipv6.exists():
            no_ipv6.write_text("1")
        process.run(["ip", "link", "set", "dev", name, "up"])
    address = f"{topology.controller}/{topology.management_network.prefixlen}"
    process.run(["ip", "address", "add", address, "dev", bridge_name(prefix, MANAGEMENT)])
    process.run(
        ["nft", "-f", "-"],
        text_in=f"""
        table bridge {_table(prefix)} {{
            set cut_from {{ type ifname; }}
            set cut_to {{ type ifname; }}
            chain forward {{
                type filter hook forward priority 0;
                iifname @cut_from drop
                oifname @cut_to drop
            }}
        }}
        """,
    )


def _warn_of_firewall() -> None:
    # Set by br_netfilter for all bridges of the namespace; a bridge can't exempt itself.
    asked = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not asked.exists() or asked.read_text().strip() == "0":
        return
    # iptables-nft's chains are among these; the policies of the old iptables can't be read here.
    loaded = json.loads(process.run(["nft", "-j", "list", "chains"]).stdout)["nftables"]
    chains = [entry["chain"] for entry in loaded if "chain" in entry]
    dropping = [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and chain["family"] in ("ip", "inet")
    ]
    if dropping:
        progress.say(
            f"The firewall ({', '.join(dropping)}) drops what it does not know, and {asked} lets "
            "it have the frames on bridges: if the hosts do not hear each other, write 0 there."
        )


def _refuse_overlap(topology: Topology) -> None:
    for link in json.loads(process.run(["ip", "-j", "-4", "address", "show"]).stdout):
        for address in link["addr_info"]:
            taken = ipaddress.IPv4Network(
                f"{address['local']}/{address['prefixlen']}", strict=False
            )
            if taken.overlaps(topology.management_network):
                raise LabError(
                    f"The management network {topology.management_network} overlaps with "
                    f"{address['local']}/{address['prefixlen']} on {link['ifname']}: is another "
                    "lab up? Take it down, or give a topology with another management network."
                )


def attach(prefix: str, host: str, lan: str) -> bool:
    """Put a host's outer end on its bridge and bring it up; False if there is no such end yet."""
    port, bridge = port_name(prefix, host, lan), bridge_name(prefix, lan)
    done = process.run(["ip", "link", "set", "dev", port, "master", bridge, "up"], check=False)
    return done.returncode == 0


def cut(prefix: str, host: str, lan: str, manner: str = "silent") -> None:
    """Cut one host's link to one LAN in one of MANNERS; LabError if there is no such link."""
    port = port_name(prefix, host, lan)
    if manner == "silent":
        process.run(["bridge", "link", "set", "dev", port, "state", PORT_DISABLED])
    elif manner == "carrier":
        process.run(["ip", "link", "set", "dev", port, "down"])
    elif manner in ("drop", "drop-in", "drop-out"):
        if not any(link["ifname"] == port for link in links(prefix)):
            raise LabError(f"There is no link {port}: is the lab up?")
        for chosen, name in (("drop-in", "cut_to"), ("drop-out", "cut_from")):
            if manner in ("drop", chosen):
                _element(prefix, "add", name, port)
    else:
        raise LabError(f"There is no manner {manner} of cutting; choose of {', '.join(MANNERS)}.")


def restore(prefix: str, host: str, lan: str) -> None:
    """Undo whatever `cut` did to this link; no error if it is whole."""
    port = port_name(prefix, host, lan)
    for name in ("cut_from", "cut_to"):
        # Adding first makes the removal succeed whether or not it was in the set.
        _element(prefix, "add", name, port)
        _element(prefix, "delete", name, port)
    found = json.loads(process.run(["ip", "-j", "link", "show", "dev", port]).stdout)[0]
    if "UP" not in found["flags"]:
        process.run(["ip", "link", "set", "dev", port, "up"])
    elif found["operstate"] == "UP":
        process.run(["bridge", "link", "set", "dev", port, "state", PORT_FORWARDING])
    # In every other case the bridge lets the port forward when its carrier comes (no STP).


def _element(prefix: str, verb: str, name: str, port: str) -> None:
    process.run(["nft", verb, "element", "bridge", _table(prefix), name, f'{{ "{port}" }}'])


def remove(prefix: str) -> None:
    """Remove every bridge, veth end and filter of this prefix; no error if there is none."""
    for link in links(prefix):
        # Ends of machines that have just died may go by themselves in the meantime.
        process.run(["ip", "link", "delete", "dev", link["ifname"]], check=False)
    left = [link["ifname"] for link in links(prefix)]
    if left:
        raise LabError(f"These interfaces can't be removed: {', '.join(left)}.")
    if table_exists(prefix):
        process.run(["nft", "delete", "table", "bridge", _table(prefix)])


def table_exists(prefix: str) -> bool:
    """Whether the filter of this prefix is loaded."""
    loaded = json.loads(process.run(["nft", "-j", "list", "tables"]).stdout)["nftables"]
    tables = [entry["table"] for entry in loaded if "table" in entry]
    return any(t["family"] == "bridge" and t["name"] == _table(prefix) for t in tables)
