"""The set-up of the agent's own device.

Source: rtnetlink(7), `include/uapi/linux/if_link.h`, `include/uapi/linux/pkt_sched.h`.
"""

from __future__ import annotations

import contextlib
import errno
import socket

from pyroute2.netlink import NLM_F_CREATE, NLM_F_REPLACE
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWQDISC
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ropeway.steward.netlink.requests import Attributes, make, request

TC_H_ROOT = 0xFFFFFFFF
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
