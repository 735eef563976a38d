"""The LANs of the lab: one bridge each, and the ways to cut a host's link to one of them.

On the outside, everything is called after the prefix: bridge `rwlab-net0`, the outer end of vm0's
link to it `rwlab-vm0-net0`, nftables table `bridge rwlab`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
from pathlib import Path
from typing import Any, Iterator, List

from . import process, progress
from .errors import LabError
from .topology import MANAGEMENT, Topology

IFF_UP = 0x1  # linux/if.h
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


@contextlib.contextmanager
def _kernel(complaint: str) -> Iterator[Any]:
    """Give a socket to this machine's network; what it refuses is a LabError with `complaint`."""
    # Not at the top, because a lab can be taken down without pyroute2.
    try:
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise LabError("This Python has no pyroute2: use that of build/venv.") from None
    with IPRoute(ext_ack=True) as kernel:
        try:
            yield kernel
        except NetlinkError as error:
            raise LabError(f"{complaint}: {error.args[1]}.") from None


def interfaces(prefix: str) -> List[str]:
    """The names of this machine's network interfaces that start with `prefix`."""
    return [name for _, name in socket.if_nameindex() if name.startswith(prefix)]


def create(prefix: str, topology: Topology) -> None:
    """Make the bridges, address the management one, and load the (empty) filter."""
    with _kernel(f"The bridges of {prefix.rstrip('-')} can't be made") as kernel:
        _refuse_overlap(kernel, topology)
        for lan in (*topology.lans, MANAGEMENT):
            _create_bridge(kernel, bridge_name(prefix, lan))
        kernel.addr(
            "add",
            index=socket.if_nametoindex(bridge_name(prefix, MANAGEMENT)),
            address=str(topology.controller),
            prefixlen=topology.management_network.prefixlen,
        )
    _warn_of_firewall()
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


def _create_bridge(kernel: Any, name: str) -> None:
    options = {"br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0}
    kernel.link("add", ifname=name, kind="bridge", **options)
    # The machine itself has no part in the LANs: not even link-local addresses.
    no_ipv6 = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    if no_ipv6.exists():
        no_ipv6.write_text("1")
    kernel.link("set", ifname=name, state="up")


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


def _refuse_overlap(kernel: Any, topology: Topology) -> None:
    for found in kernel.get_addr(family=socket.AF_INET):
        address = f"{found.get_attr('IFA_LOCAL')}/{found['prefixlen']}"
        if ipaddress.IPv4Interface(address).network.overlaps(topology.management_network):
            raise LabError(
                f"The management network {topology.management_network} overlaps with {address} on "
                f"{found.get_attr('IFA_LABEL')}: is another lab up? Take it down, or give a "
                "topology with another management network."
            )


def attach(prefix: str, host: str, lan: str) -> bool:
    """Put a host's outer end on its bridge and bring it up; False if there is no such end yet."""
    port, bridge = port_name(prefix, host, lan), bridge_name(prefix, lan)
    # It may also go again at any moment, with its machine.
    with contextlib.suppress(LabError), _kernel(f"{port} can't be put on {bridge}") as kernel:
        kernel.link("set", ifname=port, master=socket.if_nametoindex(bridge), state="up")
        return True
    return False


def cut(prefix: str, host: str, lan: str, manner: str = "silent") -> None:
    """Cut one host's link to one LAN in one of MANNERS; LabError if there is no such link."""
    port = port_name(prefix, host, lan)
    if manner == "silent":
        process.run(["bridge", "link", "set", "dev", port, "state", PORT_DISABLED])
    elif manner == "carrier":
        with _kernel(f"{port} can't be taken down") as kernel:
            kernel.link("set", ifname=port, state="down")
    elif manner in ("drop", "drop-in", "drop-out"):
        if port not in interfaces(prefix):
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
    with _kernel(f"{port} can't be set up") as kernel:
        (found,) = kernel.link("get", ifname=port)
        if not found["flags"] & IFF_UP:
            kernel.link("set", ifname=port, state="up")
            return
    if found.get_attr("IFLA_OPERSTATE") == "UP":
        process.run(["bridge", "link", "set", "dev", port, "state", PORT_FORWARDING])
    # In every other case the bridge lets the port forward when its carrier comes (no STP).


def _element(prefix: str, verb: str, name: str, port: str) -> None:
    process.run(["nft", verb, "element", "bridge", _table(prefix), name, f'{{ "{port}" }}'])


def remove(prefix: str) -> None:
    """Remove every bridge, veth end and filter of this prefix; no error if there is none."""
    for name in interfaces(prefix):
        # Ends of machines that have just died may go by themselves in the meantime.
        process.run(["ip", "link", "delete", "dev", name], check=False)
    left = interfaces(prefix)
    if left:
        raise LabError(f"These interfaces can't be removed: {', '.join(left)}.")
    if table_exists(prefix):
        process.run(["nft", "delete", "table", "bridge", _table(prefix)])


def table_exists(prefix: str) -> bool:
    """Whether the filter of this prefix is loaded."""
    loaded = json.loads(process.run(["nft", "-j", "list", "tables"]).stdout)["nftables"]
    tables = [entry["table"] for entry in loaded if "table" in entry]
    return any(t["family"] == "bridge" and t["name"] == _table(prefix) for t in tables)
