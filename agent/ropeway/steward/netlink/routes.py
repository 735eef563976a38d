"""Whether and how the kernel reaches far addresses, by its own look-ups.

Routing tables are never listed: a host with a full BGP table costs no more than one with three
routes.
Source: rtnetlink(7); `RTM_F_FIB_MATCH` of `include/uapi/linux/rtnetlink.h` (Linux 4.13), without
which the kernel takes any address for a neighbour once an output interface is given
(inet_rtm_getroute() of net/ipv4/route.c, inet6_rtm_getroute() of net/ipv6/route.c).
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Dict, Iterator, List, Optional

from pyroute2.netlink.rtnl import RTM_GETROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ropeway.steward.netlink.requests import Message, ask, make

RTM_F_FIB_MATCH = 0x2000
RTN_UNICAST = 1

# What the kernel says where there is no route, or the source is gone by now.
_NO_ROUTE = frozenset(
    (
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EACCES,
        errno.EINVAL,
        errno.ENODEV,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
    )
)


def leads_to(address: str, source: str = "") -> int:
    """Return the index of the interface by which the kernel sends to IPv4 `address`; 0 for none.

    Where `source` is given, an address of this host, the packets come from there.
    """
    answer = _look_up(address, source, 0, 0)
    return 0 if answer is None else int(_attributes(answer).get("RTA_OIF", 0))


def source_by(index: int, far: str, source: str) -> Optional[str]:
    """Return the address that packets from `source` to `far` leave the interface `index` with.

    That is what the route prefers, else `source`, which is empty where nothing is known of it.
    None where no route leads there by that interface.
    """
    answer = _look_up(far, source, index, RTM_F_FIB_MATCH)
    if ":" in far and not _leads_by(answer, index):
        # With a source, IPv6 goes by another interface where that has the better route; without
        # one it is as strict as with a socket of this interface (ip6_route_output_flags()).
        answer = _look_up(far, "", index, RTM_F_FIB_MATCH)
    if answer is None or not _leads_by(answer, index):
        return None
    return str(_attributes(answer).get("RTA_PREFSRC") or source)


def _leads_by(answer: Optional[Message], index: int) -> bool:
    """Say whether an entry that matches is a route to elsewhere by that interface."""
    return answer is not None and answer["type"] == RTN_UNICAST and index in _interfaces(answer)


def _look_up(far: str, source: str, index: int, flags: int) -> Optional[Message]:
    family, length = (socket.AF_INET6, 128) if ":" in far else (socket.AF_INET, 32)
    attributes: List[Any] = [("RTA_DST", far)]
    if source:
        attributes.append(("RTA_SRC", source))
    if index:
        attributes.append(("RTA_OIF", index))
    fields = {
        "family": family,
        "dst_len": length,
        "src_len": length if source else 0,
        "flags": flags,
    }
    try:
        return ask(make(rtmsg, fields, attributes), RTM_GETROUTE)
    except OSError as error:
        if error.errno in _NO_ROUTE:
            return None
        raise


def _interfaces(answer: Message) -> Iterator[int]:
    about = _attributes(answer)
    if "RTA_OIF" in about:
        yield about["RTA_OIF"]
    for hop in about.get("RTA_MULTIPATH", ()):
        yield hop["oif"]


def _attributes(answer: Message) -> Dict[str, Any]:
    return dict(answer["attrs"])
