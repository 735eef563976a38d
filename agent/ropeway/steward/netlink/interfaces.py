"""The network interfaces of this namespace and their addresses.

Source: rtnetlink(7), `include/uapi/linux/if_link.h`, `include/uapi/linux/if_tunnel.h`,
`include/uapi/linux/if_addr.h`.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Dict, List, Optional, Tuple

from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK
from pyroute2.netlink.rtnl.ifaddrmsg import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
    ifaddrmsg,
)
from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOOPBACK, IFF_LOWER_UP, IFF_UP, ifinfmsg

from ropeway.steward.interface import Interface
from ropeway.steward.netlink.requests import Message, dump, make

RTEXT_FILTER_SKIP_STATS = 0x8  # include/uapi/linux/rtnetlink.h
ARPHRD_ETHER = 1  # include/uapi/linux/if_arp.h
RT_SCOPE_UNIVERSE = 0
UNUSABLE6 = IFA_F_DADFAILED | IFA_F_TENTATIVE

# By kind of tunnel the attributes that name the interface below, empty for none, and the IPv4
# addresses of its two ends.
_TUNNELS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "vxlan": ("IFLA_VXLAN_LINK", ("IFLA_VXLAN_GROUP", "IFLA_VXLAN_LOCAL")),
    "geneve": ("", ("IFLA_GENEVE_REMOTE",)),
    "ipip": ("IFLA_IPIP_LINK", ("IFLA_IPIP_LOCAL", "IFLA_IPIP_REMOTE")),
    "sit": ("IFLA_SIT_LINK", ("IFLA_SIT_LOCAL", "IFLA_SIT_REMOTE")),
    "gre": ("IFLA_GRE_LINK", ("IFLA_GRE_LOCAL", "IFLA_GRE_REMOTE")),
    "gretap": ("IFLA_GRE_LINK", ("IFLA_GRE_LOCAL", "IFLA_GRE_REMOTE")),
    "erspan": ("IFLA_GRE_LINK", ("IFLA_GRE_LOCAL", "IFLA_GRE_REMOTE")),
    "vti": ("IFLA_VTI_LINK", ("IFLA_VTI_LOCAL", "IFLA_VTI_REMOTE")),
    "xfrm": ("IFLA_XFRM_LINK", ()),
}

Addresses = Dict[int, Tuple[str, ...]]
"""With prefix length, by interface index."""


def interfaces(ipv6: bool = False) -> List[Interface]:
    """Return every network interface, by index; IPv6 addresses only with `ipv6`.

    `OSError` where the kernel refuses, or is never at rest.
    """
    # Counters are most of what there is to say of an interface.
    links = dump(
        make(ifinfmsg, {"family": socket.AF_UNSPEC}, [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]),
        RTM_GETLINK,
        "network interfaces",
    )
    own = _addresses(socket.AF_INET)
    own6 = _addresses(socket.AF_INET6) if ipv6 else {}
    found = (_interface(link, own, own6) for link in links)
    return sorted((one for one in found if one is not None), key=lambda one: one.index)


def _addresses(family: int) -> Addresses:
    found: Dict[int, List[Tuple[int, str]]] = {}
    for message in dump(make(ifaddrmsg, {"family": family}), RTM_GETADDR, "addresses"):
        # A kernel without the family answers with the addresses of every other.
        if message["family"] != family:
            continue
        about = dict(message["attrs"])
        rank = 0
        if family == socket.AF_INET6:
            flags = about.get("IFA_FLAGS", message["flags"])
            if message["scope"] != RT_SCOPE_UNIVERSE or flags & UNUSABLE6:
                continue
            # A temporary address goes away within days, and with it every binding made for it.
            rank = 2 if flags & IFA_F_DEPRECATED else 1 if flags & IFA_F_TEMPORARY else 0
        # IFA_LOCAL is this end's address; IFA_ADDRESS is the far end on point-to-point links.
        address = about.get("IFA_LOCAL") or about.get("IFA_ADDRESS")
        if address:
            text = f"{address}/{message['prefixlen']}"
            found.setdefault(message["index"], []).append((rank, text))
    return {
        index: tuple(text for _, text in sorted(ranked, key=lambda one: one[0]))
        for index, ranked in found.items()
    }


def _interface(link: Message, own: Addresses, own6: Addresses) -> Optional[Interface]:
    about = dict(link["attrs"])
    if "IFLA_IFNAME" not in about:
        return None
    index, flags = link["index"], link["flags"]
    information = _attributes(about.get("IFLA_LINKINFO"))
    kind = information.get("IFLA_INFO_KIND")
    below, ends = _stacking(about, kind, _attributes(information.get("IFLA_INFO_DATA")))
    return Interface(
        index=index,
        name=_text(about["IFLA_IFNAME"]),
        addresses=own.get(index, ()),
        addresses6=own6.get(index, ()),
        mtu=about.get("IFLA_MTU", 0),
        up=bool(flags & IFF_UP and flags & IFF_LOWER_UP),
        admin_up=bool(flags & IFF_UP),
        loopback=bool(flags & IFF_LOOPBACK),
        ethernet=link["ifi_type"] == ARPHRD_ETHER,
        master=about.get("IFLA_MASTER", 0),
        kind=kind,
        alias=_text(about["IFLA_IFALIAS"]) if "IFLA_IFALIAS" in about else None,
        below=below,
        tunnel_ends=ends,
    )


def _text(value: Any) -> str:
    """Return a text of the kernel, which pyroute2 leaves as bytes where it is not UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _stacking(
    about: Dict[str, Any], kind: Optional[str], data: Dict[str, Any]
) -> Tuple[Tuple[int, ...], Tuple[str, ...]]:
    """Return what an interface is stacked on, and between which addresses a tunnel leads."""
    link, names = _TUNNELS.get(kind or "", ("", ()))
    # An index of another network namespace says nothing here.
    named = () if "IFLA_LINK_NETNSID" in about else (about.get("IFLA_LINK"), data.get(link))
    below = {index for index in named if isinstance(index, int) and index}
    ends = (data.get(name) for name in names)
    return tuple(sorted(below)), tuple(str(end) for end in ends if _is_set(end))


def _is_set(end: Any) -> bool:
    try:
        return int(ipaddress.IPv4Address(end)) != 0
    except (ipaddress.AddressValueError, TypeError):
        return False


def _attributes(nested: Any) -> Dict[str, Any]:
    """Return the attributes in another one; none where pyroute2 has no description of it."""
    try:
        return dict(nested["attrs"])
    except (TypeError, KeyError, IndexError):
        return {}
