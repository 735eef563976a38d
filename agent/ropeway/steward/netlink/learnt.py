"""Routes to networks behind other hosts: in the main table, by the device.

All that is made here bears the protocol number of :mod:`ropeway.steward.netlink.steering`, and
nothing else is touched. Routes go with the device.
Source: rtnetlink(7), `include/uapi/linux/rtnetlink.h`.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any, FrozenSet, List

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ropeway.steward.netlink.requests import dump, make, request
from ropeway.steward.netlink.steering import PROTOCOL, RT_SCOPE_LINK, RT_TABLE_MAIN, RTN_UNICAST

#: A route that anybody else has made to the same network goes before these.
PRIORITY = 5184


def look(index: int) -> FrozenSet[str]:
    """Return the networks that have such a route by the device `index`, "192.168.50.0/24".

    `OSError` where the kernel refuses or the dump is torn again and again.
    """
    attributes: List[Any] = [("RTA_TABLE", RT_TABLE_MAIN), ("RTA_OIF", index)]
    fields = {"family": socket.AF_INET, "table": RT_TABLE_MAIN}
    found = set()
    for message in dump(make(rtmsg, fields, attributes), RTM_GETROUTE, "routes"):
        about = dict(message["attrs"])
        if (
            (message["family"], message["type"]) == (socket.AF_INET, RTN_UNICAST)
            and (message["proto"], about.get("RTA_PRIORITY")) == (PROTOCOL, PRIORITY)
            and about.get("RTA_TABLE", message["table"]) == RT_TABLE_MAIN
            and about.get("RTA_OIF") == index
            and "RTA_DST" in about
        ):
            found.add("{}/{}".format(about["RTA_DST"], message["dst_len"]))
    return frozenset(found)


def add(index: int, network: str, source: str) -> None:
    """Lead packets for `network` to the device; they come from `source`, its address.

    `OSError` says what the kernel refused.
    """
    _change(RTM_NEWROUTE, index, network, [("RTA_PREFSRC", source)])


def remove(index: int, network: str) -> None:
    """Lead packets for `network` there no more."""
    _change(RTM_DELROUTE, index, network, [])


def _change(kind: int, index: int, network: str, more: List[Any]) -> None:
    to = ipaddress.IPv4Network(network)
    fields = {
        "family": socket.AF_INET,
        "dst_len": to.prefixlen,
        "proto": PROTOCOL,
        "scope": RT_SCOPE_LINK,
        "type": RTN_UNICAST,
    }
    attributes = [
        ("RTA_DST", str(to.network_address)),
        ("RTA_OIF", index),
        ("RTA_PRIORITY", PRIORITY),
        ("RTA_TABLE", RT_TABLE_MAIN),
        *more,
    ]
    flags = NLM_F_CREATE | NLM_F_EXCL if kind == RTM_NEWROUTE else 0
    try:
        request(make(rtmsg, fields, attributes), kind, flags)
    except OSError as error:
        if error.errno != (errno.EEXIST if kind == RTM_NEWROUTE else errno.ESRCH):
            raise
