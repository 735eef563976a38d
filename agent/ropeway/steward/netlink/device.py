"""The set-up of the agent's own device.

Source: rtnetlink(7), `include/uapi/linux/if_link.h`, `include/uapi/linux/pkt_sched.h`.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket

from pyroute2.netlink import NLM_F_CREATE, NLM_F_REPLACE
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWQDISC,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ropeway.steward.netlink.requests import Attributes, make, request

TC_H_ROOT = 0xFFFFFFFF
RT_TABLE_MAIN = 254
RTPROT_KERNEL = 2
RTN_UNICAST = 1
IP6_RT_PRIO_ADDRCONF = (
    256  # include/net/ip6_route.h: what the kernel's own routes of addresses have
)
IN6_ADDR_GEN_MODE_NONE = 1

# Tuning: what waits in the device while the engine is busy, in packets. At 10 000 packets/s this
# bridges 0.4 s without a turn, where the 500 of drivers/net/tun.c would lose packets after 0.05 s.
# Whoever fills it waits 0.06 s at most, at the 66 000 packets/s or more that the engine takes.
QUEUE_PACKETS = 4096
# A super-packet of the device makes one train: of 64 frames, and, sealed, of less than 64 KiB.
SUPER_SEGMENTS_MAX = 64
SUPER_BYTES_MAX = 60000


def configure(index: int, address: str, mtu: int, alias: str) -> None:
    """Give the interface `index` its IPv4 `address` ("10.0.0.1/24"), MTU and alias; set it up.

    An empty address gives it none.
    IPv6 stays without a link-local address, so that nothing but the virtual network's own traffic
    enters. What is already so stays so. `OSError` says what the kernel refused.
    """
    mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", IN6_ADDR_GEN_MODE_NONE)]}
    try:
        _set_link(index, 0, [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", mode)]})])
    except OSError as error:
        # A kernel that runs without IPv6 has no such mode to set, and no such address to fear.
        if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    _set_link(
        index,
        IFF_UP,
        [("IFLA_MTU", mtu), ("IFLA_TXQLEN", QUEUE_PACKETS), ("IFLA_IFALIAS", alias)],
    )
    with contextlib.suppress(OSError):  # larger ones are cut as well, in two pieces
        _set_link(
            index,
            0,
            [("IFLA_GSO_MAX_SEGS", SUPER_SEGMENTS_MAX), ("IFLA_GSO_MAX_SIZE", SUPER_BYTES_MAX)],
        )
    if address:
        request(_address(index, address), RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE)


def remove_address(index: int, address: str) -> None:
    """Take an IPv4 address ("10.0.0.1/24") away; one that is not there is no error."""
    try:
        request(_address(index, address), RTM_DELADDR)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise


def add_ipv6(index: int, address: str) -> None:
    """Give the interface `index` the IPv6 `address` ("fd12:3456:789a:1::a00:1/64"), and a route.

    What is there stays so. `OSError` says what the kernel refused.
    """
    own = ipaddress.IPv6Interface(address)
    request(
        make(
            ifaddrmsg,
            {
                "family": socket.AF_INET6,
                "prefixlen": own.network.prefixlen,
                "index": index,
                "flags": IFA_F_NODAD,
            },
            [("IFA_LOCAL", str(own.ip)), ("IFA_ADDRESS", str(own.ip))],
        ),
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_REPLACE,
    )
    # The kernel makes the route with the address, and not again with one that is there.
    request(
        make(
            rtmsg,
            {
                "family": socket.AF_INET6,
                "dst_len": own.network.prefixlen,
                "table": RT_TABLE_MAIN,
                "proto": RTPROT_KERNEL,
                "type": RTN_UNICAST,
            },
            [
                ("RTA_DST", str(own.network.network_address)),
                ("RTA_OIF", index),
                ("RTA_PRIORITY", IP6_RT_PRIO_ADDRCONF),
            ],
        ),
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
    )


def leave_unqueued(index: int) -> None:
    """Give a device that is not up yet no queueing discipline: its descriptors' queues do.

    A device takes whatever it is given, so nothing would ever wait there; yet the kernel would make
    a discipline for each of the 256 queues that a TUN device may have, of 8 MiB and more together.
    `OSError` says what the kernel refused.
    """
    request(
        make(tcmsg, {"index": index, "parent": TC_H_ROOT}, [("TCA_KIND", "noqueue")]),
        RTM_NEWQDISC,
        NLM_F_CREATE | NLM_F_REPLACE,
    )


def delete(index: int) -> None:
    """Delete the interface `index`; one that is gone already is no error."""
    try:
        request(make(ifinfmsg, {"index": index}), RTM_DELLINK)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _address(index: int, address: str) -> ifaddrmsg:
    own, prefix_length = address.split("/")
    fields = {"family": socket.AF_INET, "prefixlen": int(prefix_length), "index": index}
    return make(ifaddrmsg, fields, [("IFA_LOCAL", own), ("IFA_ADDRESS", own)])


def _set_link(index: int, flags: int, attributes: Attributes) -> None:
    """Set these flags of the interface, and no others, and what the attributes say."""
    # Without NLM_F_CREATE this makes nothing new.
    fields = {"index": index, "flags": flags, "change": flags}
    request(make(ifinfmsg, fields, attributes), RTM_NEWLINK)
