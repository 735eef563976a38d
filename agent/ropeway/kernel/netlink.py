"""What the kernel says about its network interfaces, and the set-up of the agent's own device.

A small multicast socket only hints that something changed; the truth is always a dump, so that a
missed event costs nothing but time. pyroute2 dumps links and addresses, `routes` the rest.
Source of the formats: rtnetlink(7), `include/uapi/linux/rtnetlink.h`,
`include/uapi/linux/if_link.h`.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from ropeway.kernel import routes
from ropeway.kernel.routes import DUMP_ATTEMPTS, NLMSGHDR, Prefixes

# include/uapi/linux/rtnetlink.h
RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTMGRP_IPV6_IFADDR = 0x100
RTMGRP_IPV6_ROUTE = 0x400
RTM_NEWROUTE = 24
RTM_DELROUTE = 25

# include/uapi/linux/if.h
IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

# include/uapi/linux/if_addr.h
IFA_F_TEMPORARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
UNUSABLE6 = IFA_F_DADFAILED | IFA_F_TENTATIVE
RT_SCOPE_UNIVERSE = 0  # include/uapi/linux/rtnetlink.h

ARPHRD_ETHER = 1  # include/uapi/linux/if_arp.h
IN6_ADDR_GEN_MODE_NONE = 1  # include/uapi/linux/if_link.h

HINT_BYTES_MAX = 65536
# Tuning: what waits in the TUN while the loop is busy, in packets. At 10 000 packets/s this bridges
# 0.4 s without a turn, where the usual 1000 lost packets after 0.1 s. A sender that fills it waits
# 0.12 s at most, at the 35 000 packets/s that the loop takes.
QUEUE_PACKETS = 4096


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
    """IPv4 prefixes with a unicast route out of this interface, of any table, as `routes.dump`."""
    loopback: bool
    ethernet: bool
    enslaved: bool
    """A port of a bridge, bond or the like."""
    kind: Optional[str]
    """"tun", "veth", "bridge" and so on; None for hardware."""
    alias: Optional[str]
    """The free text that `ip link set alias` gives an interface."""
    addresses6: Tuple[str, ...] = ()
    """Global IPv6 addresses that may be used now, "2001:db8::2/64": stable ones, then temporary
    ones, then deprecated ones, which still carry what began on them."""
    routes6: Tuple[str, ...] = ()
    """As `routes`, of IPv6."""


class Change(enum.IntEnum):
    """What has to be looked at again, the lesser before the greater."""

    NOTHING = 0
    ROUTES = 1
    INTERFACES = 2
    """Links, addresses and routes: the kernel drops routes with both, and tells nobody."""


class Hints:
    """A netlink socket that becomes readable when links, addresses or routes change.

    Those of IPv6 count only with `ipv6`.
    """

    def __init__(self, ipv6: bool = False) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE
        if ipv6:
            groups |= RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
        self._socket.bind((0, groups))

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def drain(self, limit: int = 64) -> Change:
        """Throw away what waits, at most `limit` messages; tell what they were about.

        Messages that the kernel had to drop (`ENOBUFS`) count: they are what a dump is for.
        """
        change = Change.NOTHING
        for _ in range(limit):
            try:
                messages = self._socket.recv(HINT_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                change = Change.INTERFACES
            else:
                change = max(change, _change(messages))
        return change

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _change(messages: bytes) -> Change:
    start = 0
    while start + NLMSGHDR.size <= len(messages):
        length, kind, _, _, _ = NLMSGHDR.unpack_from(messages, start)
        if kind not in (RTM_NEWROUTE, RTM_DELROUTE) or length < NLMSGHDR.size:
            return Change.INTERFACES
        start += length + 3 & ~3
    return Change.ROUTES


def dump(ipv6: bool = False) -> List[Interface]:
    """Return every network interface of this network namespace, by index.

    IPv6 addresses and routes are looked at only with `ipv6`. `OSError` where the kernel refuses or
    the dump is torn again and again.
    """
    for _ in range(DUMP_ATTEMPTS):
        try:
            with _requests() as requests:
                links = list(requests.get_links())
                addresses = _addresses(requests, socket.AF_INET)
                if ipv6:
                    addresses += _addresses(requests, socket.AF_INET6)
        except NetlinkDumpInterrupted:
            continue
        return interfaces(links, addresses, routes.dump(), _routes6(ipv6))
    raise OSError(errno.EINTR, "the kernel's network interfaces changed through every dump")


def _addresses(requests: IPRoute, family: int) -> List[Any]:
    # A kernel without the family answers with the addresses of every other.
    dumped = requests.get_addr(family=family)
    return [message for message in dumped if message["family"] == family]


def dump_routes(earlier: Iterable[Interface], ipv6: bool = False) -> List[Interface]:
    """Return the interfaces of an `earlier` dump with the routes of now.

    `ipv6` and `OSError` as for `dump`.
    """
    prefixes, prefixes6 = routes.dump(), _routes6(ipv6)
    return [
        dataclasses.replace(
            interface,
            routes=prefixes.get(interface.index, ()),
            routes6=prefixes6.get(interface.index, ()),
        )
        for interface in earlier
    ]


def _routes6(ipv6: bool) -> Prefixes:
    return routes.dump(socket.AF_INET6) if ipv6 else {}


def interfaces(
    links: List[Any], addresses: List[Any], prefixes: Prefixes, prefixes6: Prefixes
) -> List[Interface]:
    """Put dumped links, addresses and routes together, by interface index."""
    addresses_of: Dict[int, List[str]] = {}
    addresses6_of: Dict[int, List[Tuple[int, str]]] = {}
    for message in addresses:
        # IFA_LOCAL is this end's address; IFA_ADDRESS is the far end on point-to-point links.
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if not address:
            continue
        text = "{}/{}".format(address, message["prefixlen"])
        if message["family"] == socket.AF_INET:
            addresses_of.setdefault(message["index"], []).append(text)
        elif message["scope"] == RT_SCOPE_UNIVERSE and not message["flags"] & UNUSABLE6:
            # A temporary address goes away within days, and with it every binding made for it.
            flags = message["flags"]
            rank = 2 if flags & IFA_F_DEPRECATED else 1 if flags & IFA_F_TEMPORARY else 0
            addresses6_of.setdefault(message["index"], []).append((rank, text))
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
                routes=prefixes.get(index, ()),
                routes6=prefixes6.get(index, ()),
                addresses6=tuple(
                    text for _, text in sorted(addresses6_of.get(index, ()), key=lambda one: one[0])
                ),
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
