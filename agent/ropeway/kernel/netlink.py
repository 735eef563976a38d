"""What the kernel says about its network interfaces, and the set-up of the agent's own device.

A small multicast socket only hints that something changed; the truth is always a dump, so that a
missed event costs nothing but time.
Source of the formats: rtnetlink(7), `include/uapi/linux/rtnetlink.h`,
`include/uapi/linux/if_link.h`, `include/uapi/linux/if_tunnel.h`, `include/uapi/linux/if_addr.h`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import socket
import struct
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple

from ropeway.kernel import nlmsg, routes
from ropeway.kernel.routes import RTM_NEWROUTE, Prefixes

# include/uapi/linux/rtnetlink.h
RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTMGRP_IPV4_RULE = 0x80
RTMGRP_IPV6_IFADDR = 0x100
RTMGRP_IPV6_ROUTE = 0x400
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_DELROUTE = 25
RTM_NEWRULE = 32
RTM_DELRULE = 33
RTM_NEWQDISC = 36
TCA_KIND = 1
TC_H_ROOT = 0xFFFFFFFF
ROUTING = frozenset((RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE))
RT_SCOPE_UNIVERSE = 0
RTEXT_FILTER_SKIP_STATS = 0x8

#   struct ifinfomsg { unsigned char ifi_family, __ifi_pad; unsigned short ifi_type; int ifi_index;
#                      unsigned ifi_flags, ifi_change; };
IFINFOMSG = struct.Struct("=BxHiII")
#   struct tcmsg { unsigned char tcm_family, tcm__pad1; unsigned short tcm__pad2; int tcm_ifindex;
#                  __u32 tcm_handle, tcm_parent, tcm_info; };
TCMSG = struct.Struct("=BxxxiIII")
# include/uapi/linux/if_link.h
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_MASTER = 10
IFLA_TXQLEN = 13
IFLA_LINKINFO = 18
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_IFALIAS = 20
IFLA_AF_SPEC = 26
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
IFLA_EXT_MASK = 29
IFLA_LINK_NETNSID = 37
IFLA_GSO_MAX_SEGS = 40
IFLA_GSO_MAX_SIZE = 41

# By kind of tunnel the attributes of IFLA_INFO_DATA that name the interface below, 0 for none, and
# the IPv4 addresses of its two ends.
# include/uapi/linux/if_link.h: IFLA_VXLAN_LINK, _GROUP, _LOCAL; IFLA_GENEVE_REMOTE; IFLA_XFRM_LINK
# include/uapi/linux/if_tunnel.h: IFLA_IPTUN_LINK, _LOCAL, _REMOTE; IFLA_GRE_LINK, _LOCAL, _REMOTE;
#                                 IFLA_VTI_LINK, _LOCAL, _REMOTE
TUNNELS: Dict[str, Tuple[int, Tuple[int, ...]]] = {
    "vxlan": (3, (2, 4)),
    "geneve": (0, (2,)),
    "ipip": (1, (2, 3)),
    "sit": (1, (2, 3)),
    "gre": (1, (6, 7)),
    "gretap": (1, (6, 7)),
    "erspan": (1, (6, 7)),
    "vti": (1, (4, 5)),
    "xfrm": (1, ()),
}

# include/uapi/linux/if_addr.h
#   struct ifaddrmsg { __u8 ifa_family, ifa_prefixlen, ifa_flags, ifa_scope; __u32 ifa_index; };
IFADDRMSG = struct.Struct("=BBBBI")
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_F_TEMPORARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
UNUSABLE6 = IFA_F_DADFAILED | IFA_F_TENTATIVE
ADDRESS_BYTES: Dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}

# include/uapi/linux/if.h
IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

ARPHRD_ETHER = 1  # include/uapi/linux/if_arp.h

HINT_BYTES_MAX = 65536
# Tuning: what waits in the TUN while the loop is busy, in packets. At 10 000 packets/s this bridges
# 0.4 s without a turn, where the 500 of drivers/net/tun.c would lose packets after 0.05 s. Whoever
# fills it waits 0.06 s at most, at the 66 000 packets/s or more that the loop takes.
QUEUE_PACKETS = 4096
# A super-packet of the device makes one train: of 64 frames, and, sealed, of less than 64 KiB.
SUPER_SEGMENTS_MAX = 64
SUPER_BYTES_MAX = 60000

Addresses = Dict[int, Tuple[str, ...]]
"""With prefix length, by interface index."""


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
    master: int
    """Index of the bridge, bond or the like that it is a port of; 0 for none."""
    kind: Optional[str]
    """"tun", "veth", "bridge" and so on; None for hardware."""
    alias: Optional[str]
    """The free text that `ip link set alias` gives an interface."""
    addresses6: Tuple[str, ...] = ()
    """Global IPv6 addresses that may be used now, "2001:db8::2/64": stable ones, then temporary
    ones, then deprecated ones, which still carry what began on them."""
    routes6: Tuple[str, ...] = ()
    """As `routes`, of IPv6."""
    below: Tuple[int, ...] = ()
    """Indices of the interfaces that it is stacked on; of a veth the other end."""
    tunnel_ends: Tuple[str, ...] = ()
    """IPv4 addresses that the packets of a tunnel travel between, as far as they are set."""


class Change(enum.IntEnum):
    """What has to be looked at again, the lesser before the greater."""

    NOTHING = 0
    ROUTES = 1
    INTERFACES = 2
    """Links, addresses and routes: the kernel drops routes with both, and tells nobody."""


class Hints:
    """A netlink socket that becomes readable when links, addresses, routes or rules change.

    Those of IPv6 count only with `ipv6`.
    """

    def __init__(self, ipv6: bool = False) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE
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
    kinds = {kind for kind, _ in nlmsg.messages(messages)}
    return Change.ROUTES if kinds and kinds <= ROUTING else Change.INTERFACES


def dump(ipv6: bool = False) -> List[Interface]:
    """Return every network interface of this network namespace, by index.

    IPv6 addresses and routes are looked at only with `ipv6`. `OSError` where the kernel refuses or
    the dump is torn again and again.
    """
    links, own, own6 = nlmsg.whole(lambda: _dump(ipv6), "network interfaces")
    return interfaces(links, own, own6, routes.dump(), _routes6(ipv6))


def _dump(ipv6: bool) -> Tuple[List[bytes], Addresses, Addresses]:
    # Counters are most of what there is to say of an interface.
    filters = nlmsg.attribute(IFLA_EXT_MASK, struct.pack("=I", RTEXT_FILTER_SKIP_STATS))
    links = nlmsg.dump(RTM_GETLINK, socket.AF_UNSPEC, IFINFOMSG.size, filters)
    return links, _addresses(socket.AF_INET), _addresses(socket.AF_INET6) if ipv6 else {}


def _addresses(family: int) -> Addresses:
    return addresses(nlmsg.dump(RTM_GETADDR, family, IFADDRMSG.size), family)


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


def addresses(replies: Iterable[bytes], family: int) -> Addresses:
    """Read `RTM_NEWADDR` messages; return the addresses that may be used, by interface index.

    They stand in the order in which `Interface` has them.
    """
    found: Dict[int, List[Tuple[int, str]]] = {}
    for reply in replies:
        for kind, body in nlmsg.messages(reply):
            if kind != RTM_NEWADDR or len(body) < IFADDRMSG.size:
                continue
            of_family, prefix_length, flags, scope, index = IFADDRMSG.unpack_from(body)
            # A kernel without the family answers with the addresses of every other.
            if of_family != family:
                continue
            rank = 0
            if family == socket.AF_INET6:
                if scope != RT_SCOPE_UNIVERSE or flags & UNUSABLE6:
                    continue
                # A temporary address goes away within days, and with it every binding made for it.
                rank = 2 if flags & IFA_F_DEPRECATED else 1 if flags & IFA_F_TEMPORARY else 0
            about = dict(nlmsg.attributes(body, IFADDRMSG.size))
            # IFA_LOCAL is this end's address; IFA_ADDRESS is the far end on point-to-point links.
            packed = about.get(IFA_LOCAL) or about.get(IFA_ADDRESS, b"")
            if len(packed) == ADDRESS_BYTES[family]:
                text = f"{socket.inet_ntop(family, packed)}/{prefix_length}"
                found.setdefault(index, []).append((rank, text))
    return {
        index: tuple(text for _, text in sorted(ranked, key=lambda one: one[0]))
        for index, ranked in found.items()
    }


def interfaces(
    links: Iterable[bytes],
    own: Addresses,
    own6: Addresses,
    prefixes: Prefixes,
    prefixes6: Prefixes,
) -> List[Interface]:
    """Read `RTM_NEWLINK` messages; add the addresses and routes of each interface, by index."""
    found = []
    for reply in links:
        for message, body in nlmsg.messages(reply):
            if message != RTM_NEWLINK or len(body) < IFINFOMSG.size:
                continue
            _, hardware, index, flags, _ = IFINFOMSG.unpack_from(body)
            about = dict(nlmsg.attributes(body, IFINFOMSG.size))
            if IFLA_IFNAME not in about:
                continue
            information = dict(nlmsg.attributes(about.get(IFLA_LINKINFO, b"")))
            kind = _text(information.get(IFLA_INFO_KIND))
            below, tunnel_ends = _stacking(about, kind, information.get(IFLA_INFO_DATA, b""))
            found.append(
                Interface(
                    index=index,
                    name=nlmsg.text(about[IFLA_IFNAME]),
                    addresses=own.get(index, ()),
                    addresses6=own6.get(index, ()),
                    mtu=nlmsg.number(about.get(IFLA_MTU, b"")),
                    up=bool(flags & IFF_UP and flags & IFF_LOWER_UP),
                    admin_up=bool(flags & IFF_UP),
                    routes=prefixes.get(index, ()),
                    routes6=prefixes6.get(index, ()),
                    loopback=bool(flags & IFF_LOOPBACK),
                    ethernet=hardware == ARPHRD_ETHER,
                    master=nlmsg.number(about.get(IFLA_MASTER, b"")),
                    kind=kind,
                    alias=_text(about.get(IFLA_IFALIAS)),
                    below=below,
                    tunnel_ends=tunnel_ends,
                )
            )
    return sorted(found, key=lambda interface: interface.index)


def _stacking(
    about: Dict[int, bytes], kind: Optional[str], data: bytes
) -> Tuple[Tuple[int, ...], Tuple[str, ...]]:
    """Return what an interface is stacked on, and between which addresses a tunnel leads."""
    link, ends = TUNNELS.get(kind or "", (0, ()))
    details = dict(nlmsg.attributes(data)) if kind in TUNNELS else {}
    # An index of another network namespace says nothing here.
    named = () if IFLA_LINK_NETNSID in about else (about.get(IFLA_LINK), details.get(link))
    below = {nlmsg.number(index) for index in named if index} - {0}
    packed = [details[end] for end in ends if len(details.get(end, b"")) == 4 and any(details[end])]
    return tuple(sorted(below)), tuple(socket.inet_ntop(socket.AF_INET, end) for end in packed)


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else nlmsg.text(value)


def configure(index: int, address: str, mtu: int, alias: str) -> None:
    """Give the interface `index` its IPv4 `address` ("10.0.0.1/24"), MTU and alias; set it up.

    IPv6 stays without a link-local address, so that nothing but the virtual network's own traffic
    enters. What is already so stays so. `OSError` says what the kernel refused.
    """
    mode = nlmsg.attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    try:
        _set_link(index, 0, nlmsg.attribute(IFLA_AF_SPEC, nlmsg.attribute(socket.AF_INET6, mode)))
    except OSError as error:
        # A kernel that runs without IPv6 has no such mode to set, and no such address to fear.
        if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    _set_link(
        index,
        IFF_UP,
        nlmsg.attribute(IFLA_MTU, struct.pack("=I", mtu))
        + nlmsg.attribute(IFLA_TXQLEN, struct.pack("=I", QUEUE_PACKETS))
        + nlmsg.attribute(IFLA_IFALIAS, alias.encode()),
    )
    with contextlib.suppress(OSError):  # larger ones are cut as well, in two pieces
        _set_link(
            index,
            0,
            nlmsg.attribute(IFLA_GSO_MAX_SEGS, struct.pack("=I", SUPER_SEGMENTS_MAX))
            + nlmsg.attribute(IFLA_GSO_MAX_SIZE, struct.pack("=I", SUPER_BYTES_MAX)),
        )
    own, prefix_length = address.split("/")
    packed = socket.inet_pton(socket.AF_INET, own)
    nlmsg.request(
        RTM_NEWADDR,
        nlmsg.NLM_F_CREATE | nlmsg.NLM_F_REPLACE,
        IFADDRMSG.pack(socket.AF_INET, int(prefix_length), 0, RT_SCOPE_UNIVERSE, index)
        + nlmsg.attribute(IFA_LOCAL, packed)
        + nlmsg.attribute(IFA_ADDRESS, packed),
    )


def leave_unqueued(index: int) -> None:
    """Give a device that is not up yet no queueing discipline: its descriptors' queues do.

    A device takes whatever it is given, so nothing would ever wait there; yet the kernel would make
    a discipline for each of the 256 queues that a TUN device may have, of 8 MiB and more together.
    `OSError` says what the kernel refused.
    """
    nlmsg.request(
        RTM_NEWQDISC,
        nlmsg.NLM_F_CREATE | nlmsg.NLM_F_REPLACE,
        TCMSG.pack(socket.AF_UNSPEC, index, 0, TC_H_ROOT, 0)
        + nlmsg.attribute(TCA_KIND, b"noqueue\0"),
    )


def delete(index: int) -> None:
    """Delete the interface `index`; one that is gone already is no error."""
    try:
        nlmsg.request(RTM_DELLINK, 0, IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, 0, 0))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _set_link(index: int, flags: int, attributes: bytes) -> None:
    """Set these flags of the interface, and no others, and what the attributes say."""
    # Without NLM_F_CREATE this makes nothing new.
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, flags, flags)
    nlmsg.request(RTM_NEWLINK, 0, body + attributes)
