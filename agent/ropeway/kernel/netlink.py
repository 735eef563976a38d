"""What the kernel says about its network interfaces, and the set-up of the agent's own device.

A small multicast socket only hints that something changed; the truth is always a dump through
pyroute2, so that a missed event costs nothing but time. Source of the formats: rtnetlink(7),
`include/uapi/linux/rtnetlink.h`, `include/uapi/linux/if_link.h`.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

# include/uapi/linux/rtnetlink.h
RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTN_UNICAST = 1

# include/uapi/linux/if.h
IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

ARPHRD_ETHER = 1  # include/uapi/linux/if_arp.h
IN6_ADDR_GEN_MODE_NONE = 1  # include/uapi/linux/if_link.h

# Tuning: a route change more or less while a dump runs makes the kernel mark the dump as torn.
DUMP_ATTEMPTS = 5
HINT_BYTES_MAX = 65536
# Tuning: what waits in front of the TUN while the loop is busy, in packets.
QUEUE_PACKETS = 1000


@dataclass(frozen=True)
class Interface:
    """One network interface as the kernel has it at one moment."""

    index: int
    name: str
    addresses: Tuple[str, ...]
    """IPv4 addresses of this host with prefix length, "192.168.0.2/24", primary ones first."""
    mtu: int
    up: bool
    """Set up by the administrator, and with a carrier."""
    admin_up: bool
    """Set up by the administrator, with a carrier or without."""
    routes: Tuple[str, ...]
    """IPv4 prefixes with a unicast route out of this interface, of any table, sorted."""
    loopback: bool
    ethernet: bool
    enslaved: bool
    """A port of a bridge, bond or the like."""
    kind: Optional[str]
    """"tun", "veth", "bridge" and so on; None for hardware."""
    alias: Optional[str]
    """The free text that `ip link set alias` gives an interface."""


class Hints:
    """A netlink socket that becomes readable when links, IPv4 addresses or IPv4 routes change."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE))

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def drain(self, limit: int = 64) -> bool:
        """Throw away what waits, at most `limit` messages; True if there was anything.

        Messages that the kernel had to drop (`ENOBUFS`) count: they are what a dump is for.
        """
        heard = False
        for _ in range(limit):
            try:
                self._socket.recv(HINT_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            heard = True
        return heard

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def dump() -> List[Interface]:
    """Return every network interface of this network namespace, by index.

    `OSError` where the kernel refuses or the dump is torn again and again.
    """
    for _ in range(DUMP_ATTEMPTS):
        try:
            with _requests() as requests:
                links = list(requests.get_links())
                addresses = list(requests.get_addr(family=socket.AF_INET))
                routes = list(requests.get_routes(family=socket.AF_INET))
        except NetlinkDumpInterrupted:
            continue
        return interfaces(links, addresses, routes)
    raise OSError(errno.EINTR, "the kernel's network interfaces changed through every dump")


def interfaces(links: List[Any], addresses: List[Any], routes: List[Any]) -> List[Interface]:
    """Put dumped netlink messages of the three kinds together, by interface index."""
    addresses_of: Dict[int, List[str]] = {}
    for message in addresses:
        # IFA_LOCAL is this end's address; IFA_ADDRESS is the far end on point-to-point links.
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if address:
            addresses_of.setdefault(message["index"], []).append(
                "{}/{}".format(address, message["prefixlen"])
            )
    routes_of: Dict[int, Set[str]] = {}
    for message in routes:
        if message["type"] != RTN_UNICAST:
            continue
        prefix = "{}/{}".format(message.get_attr("RTA_DST") or "0.0.0.0", message["dst_len"])
        for index in _way_out(message):
            routes_of.setdefault(index, set()).add(prefix)
    found = []
    for message in links:
        index, flags = message["index"], message["flags"]
        information = message.get_attr("IFLA_LINKINFO")
        found.append(
            Interface(
                index=index,
                name=message.get_attr("IFLA_IFNAME"),
                addresses=tuple(addresses_of.get(index, ())),
                mtu=message.get_attr("IFLA_MTU") or 0,
                up=bool(flags & IFF_UP and flags & IFF_LOWER_UP),
                admin_up=bool(flags & IFF_UP),
                routes=tuple(sorted(routes_of.get(index, ()))),
                loopback=bool(flags & IFF_LOOPBACK),
                ethernet=message["ifi_type"] == ARPHRD_ETHER,
                enslaved=bool(message.get_attr("IFLA_MASTER")),
                kind=information.get_attr("IFLA_INFO_KIND") if information is not None else None,
                alias=message.get_attr("IFLA_IFALIAS"),
            )
        )
    return sorted(found, key=lambda interface: interface.index)


def configure(index: int, address: str, mtu: int, alias: str) -> None:
    """Give the interface `index` its IPv4 `address` ("10.0.0.1/24"), MTU and alias; set it up.

    IPv6 stays without a link-local address, so that nothing but the virtual network's own traffic
    enters. What is already so stays so. `OSError` says what the kernel refused.
    """
    with _requests() as requests:
        try:
            requests.link(
                "set",
                index=index,
                IFLA_AF_SPEC={
                    "attrs": [
                        [
                            "AF_INET6",
                            {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", IN6_ADDR_GEN_MODE_NONE]]},
                        ]
                    ]
                },
            )
        except NetlinkError as error:
            # A kernel that runs without IPv6 has no such mode to set, and no such address to fear.
            if error.code not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
                raise
        requests.link("set", index=index, mtu=mtu, txqlen=QUEUE_PACKETS, ifalias=alias)
        requests.link("set", index=index, state="up")
        own, prefix_length = address.split("/")
        requests.addr("replace", index=index, address=own, prefixlen=int(prefix_length))


def delete(index: int) -> None:
    """Delete the interface `index`; one that is gone already is no error."""
    try:
        with _requests() as requests:
            requests.link("del", index=index)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _way_out(route: Any) -> Iterator[int]:
    index = route.get_attr("RTA_OIF")
    if index:
        yield index
    for hop in route.get_attr("RTA_MULTIPATH") or ():
        yield hop["oif"]


@contextmanager
def _requests() -> Iterator[IPRoute]:
    """Open pyroute2 for a few requests; its own errors become `OSError`."""
    # A socket of its own each time: one that stays open would collect events nobody reads.
    requests = IPRoute()
    try:
        yield requests
    except NetlinkDumpInterrupted:
        raise
    except NetlinkError as error:
        code = error.code or errno.EIO
        raise OSError(code, os.strerror(code)) from error
    finally:
        requests.close()
