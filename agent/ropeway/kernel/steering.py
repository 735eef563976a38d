"""What leads packets for the virtual network to the device: its route, or rules before others.

The kernel itself makes the device's route, in its main table, when the device gets its address.
Where another interface has a part of the virtual network as its own, that one's route may win. Then
the device's route stands in `TABLE` instead, which a rule makes the first to be asked; what comes
from an address of such an interface is still sent by the main table, so that it answers as before.

All that is made here bears `PROTOCOL`, and nothing else is touched. Rules that a killed agent left
lead to an empty table, and so change nothing.
Source of the formats: rtnetlink(7), `include/uapi/linux/rtnetlink.h`,
`include/uapi/linux/fib_rules.h`, ip-rule(8).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import FrozenSet, Iterable, Iterator, Optional, Tuple

from ropeway.kernel import nlmsg
from ropeway.kernel.netlink import RTM_DELROUTE, RTM_DELRULE, RTM_NEWRULE
from ropeway.kernel.routes import RTA_DST, RTA_OIF, RTM_GETROUTE, RTM_NEWROUTE, RTN_UNICAST

# include/uapi/linux/rtnetlink.h
RTM_GETRULE = 34
RTA_SRC = 2
RTA_PREFSRC = 7
RTA_TABLE = 15
RT_TABLE_UNSPEC = 0
RT_TABLE_MAIN = 254
RT_SCOPE_LINK = 253
RTPROT_KERNEL = 2
#   struct rtmsg { unsigned char rtm_family, rtm_dst_len, rtm_src_len, rtm_tos, rtm_table,
#                  rtm_protocol, rtm_scope, rtm_type; unsigned int rtm_flags; };
RTMSG = struct.Struct("=8BI")
# include/uapi/linux/fib_rules.h
#   struct fib_rule_hdr { __u8 family, dst_len, src_len, tos, table, res1, res2, action;
#                         __u32 flags; };
FIB_RULE_HDR = struct.Struct("=8BI")
FR_ACT_TO_TBL = 1
FRA_DST = 1
FRA_SRC = 2
FRA_PRIORITY = 6
FRA_TABLE = 15
FRA_PROTOCOL = 21  # since Linux 4.17

# Numbers of our own; /etc/iproute2/rt_protos has nobody else at this one.
PROTOCOL = 167
TABLE = 51840
# Between the local table at 0 and the main one at 32766, and before what VPNs use, such as 5210.
PRIORITY_ASIDE = 5184
PRIORITY = 5185


@dataclass(frozen=True)
class Rule:
    """One rule of policy routing, for packets to `network`."""

    network: str
    table: int
    priority: int
    source: str = ""
    """The IPv4 address that packets have to come from; empty for any."""


@dataclass(frozen=True)
class Steering:
    """What leads to the device."""

    main: bool
    """Its route is in the main table."""
    first: bool
    """Its route is in `TABLE`."""
    rules: FrozenSet[Rule] = frozenset()


def wanted(device_address: str, others: Iterable[str]) -> Steering:
    """Return what leads to the device with `device_address` ("10.0.0.1/24").

    `others` are addresses of this host's other interfaces for which a part of that network is a LAN
    of their own. One that is the device's own gets no rule: the virtual network has it.
    """
    device = ipaddress.IPv4Interface(device_address)
    network, addresses = str(device.network), set(others)
    if not addresses:
        return Steering(main=True, first=False)
    aside = addresses - {str(device.ip)}
    rules = {Rule(network, RT_TABLE_MAIN, PRIORITY_ASIDE, address) for address in aside}
    return Steering(False, True, frozenset(rules | {Rule(network, TABLE, PRIORITY)}))


def leads_to(address: str, source: str = "") -> int:
    """Return the index of the interface by which the kernel sends to `address`; 0 for none.

    Where `source` is given, an address of this host, the packets come from there.
    """
    body = RTMSG.pack(socket.AF_INET, 32, 32 if source else 0, 0, 0, 0, 0, 0, 0)
    body += _address(RTA_DST, address)
    if source:
        body += _address(RTA_SRC, source)
    try:
        kind, answer = nlmsg.ask(RTM_GETROUTE, body)
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
            return 0
        raise
    if kind != RTM_NEWROUTE:
        return 0
    return nlmsg.number(dict(nlmsg.attributes(answer, RTMSG.size)).get(RTA_OIF, b""))


def look(index: int, network: str) -> Steering:
    """Return what leads to the device `index` of `network` now.

    `OSError` where the kernel refuses or the dump is torn again and again.
    """
    tables = nlmsg.whole(lambda: frozenset(_tables(index, network)), "routes")
    rules = nlmsg.whole(lambda: frozenset(_rules()), "rules")
    return Steering(
        RT_TABLE_MAIN in tables,
        TABLE in tables,
        frozenset(rule for rule in rules if rule.network == network),
    )


def change(index: int, device_address: str, before: Steering, after: Steering) -> None:
    """Make what is `before` what it is to be `after`, for the device with "10.0.0.1/24".

    The new way stands before the old one goes. `OSError` says what the kernel refused.
    """
    if after.first and not before.first:
        _route(RTM_NEWROUTE, index, device_address, TABLE, PROTOCOL)
    for rule in sorted(after.rules - before.rules, key=lambda rule: rule.priority):
        _rule(RTM_NEWRULE, rule)
    if after.main and not before.main:
        _route(RTM_NEWROUTE, index, device_address, RT_TABLE_MAIN, RTPROT_KERNEL)
    if before.main and not after.main:
        _route(RTM_DELROUTE, index, device_address, RT_TABLE_MAIN, RTPROT_KERNEL)
    for rule in sorted(before.rules - after.rules, key=lambda rule: -rule.priority):
        _rule(RTM_DELRULE, rule)
    if before.first and not after.first:
        _route(RTM_DELROUTE, index, device_address, TABLE, PROTOCOL)


def remove_rules(network: str) -> None:
    """Remove the rules of `network`; its routes go with the device."""
    for rule in nlmsg.whole(lambda: frozenset(_rules()), "rules"):
        if rule.network == network:
            _rule(RTM_DELRULE, rule)


def remove_left() -> int:
    """Remove the rules that agents which are no more have left; return how many there were.

    Those are the rules of networks without a route in `TABLE`.
    """
    rules = nlmsg.whole(lambda: frozenset(_rules()), "rules")
    if not rules:
        return 0
    replies = nlmsg.dump(RTM_GETROUTE, socket.AF_INET, RTMSG.size)
    in_use = {network for network, _, table in _routes(replies) if table == TABLE}
    left = [rule for rule in rules if rule.network not in in_use]
    for rule in left:
        _rule(RTM_DELRULE, rule)
    return len(left)


def _tables(index: int, network: str) -> Iterator[int]:
    """Give the tables in which a route to exactly `network` leads to the interface `index`."""
    option = nlmsg.attribute(RTA_OIF, struct.pack("=I", index))
    for found, out, table in _routes(
        nlmsg.dump(RTM_GETROUTE, socket.AF_INET, RTMSG.size, option, strict=True)
    ):
        # A kernel before 4.20 gives all routes.
        if (found, out) == (network, index):
            yield table


def _routes(replies: Iterable[bytes]) -> Iterator[Tuple[str, int, int]]:
    """Give destination, interface index and table of each unicast route in the messages."""
    for reply in replies:
        for kind, body in nlmsg.messages(reply):
            if kind != RTM_NEWROUTE or len(body) < RTMSG.size:
                continue
            family, length, _, _, table, _, _, type_, _ = RTMSG.unpack_from(body)
            if family != socket.AF_INET or type_ != RTN_UNICAST:
                continue
            about = dict(nlmsg.attributes(body, RTMSG.size))
            network = _network(about.get(RTA_DST), length)
            if network is not None:
                table = nlmsg.number(about[RTA_TABLE]) if RTA_TABLE in about else table
                yield network, nlmsg.number(about.get(RTA_OIF, b"")), table


def _rules() -> Iterator[Rule]:
    """Give the rules that agents have made."""
    for reply in nlmsg.dump(RTM_GETRULE, socket.AF_INET, FIB_RULE_HDR.size):
        for kind, body in nlmsg.messages(reply):
            if kind == RTM_NEWRULE and len(body) >= FIB_RULE_HDR.size:
                rule = _own_rule(body)
                if rule is not None:
                    yield rule


def _own_rule(body: bytes) -> Optional[Rule]:
    family, length, source_length, _, table, _, _, action, _ = FIB_RULE_HDR.unpack_from(body)
    about = dict(nlmsg.attributes(body, FIB_RULE_HDR.size))
    network = _network(about.get(FRA_DST), length)
    priority = nlmsg.number(about.get(FRA_PRIORITY, b""))
    if (
        family != socket.AF_INET
        or action != FR_ACT_TO_TBL
        or about.get(FRA_PROTOCOL) != bytes([PROTOCOL])
        or priority not in (PRIORITY_ASIDE, PRIORITY)
        or network is None
    ):
        return None
    table = nlmsg.number(about[FRA_TABLE]) if FRA_TABLE in about else table
    source = about.get(FRA_SRC, b"") if source_length == 32 else b""
    return Rule(
        network, table, priority, socket.inet_ntop(socket.AF_INET, source) if source else ""
    )


def _network(packed: Optional[bytes], length: int) -> Optional[str]:
    if packed is None or len(packed) != 4:
        return None
    return f"{socket.inet_ntop(socket.AF_INET, packed)}/{length}"


def _rule(kind: int, rule: Rule) -> None:
    """Make or remove a rule; one that is there, or gone, already is no error."""
    network, length = rule.network.split("/")
    body = FIB_RULE_HDR.pack(
        socket.AF_INET, int(length), 32 if rule.source else 0, 0, RT_TABLE_UNSPEC, 0, 0,
        FR_ACT_TO_TBL, 0,
    )  # fmt: skip
    body += _address(FRA_DST, network)
    if rule.source:
        body += _address(FRA_SRC, rule.source)
    body += nlmsg.attribute(FRA_PRIORITY, struct.pack("=I", rule.priority))
    body += nlmsg.attribute(FRA_TABLE, struct.pack("=I", rule.table))
    body += nlmsg.attribute(FRA_PROTOCOL, bytes([PROTOCOL]))
    flags = nlmsg.NLM_F_CREATE | nlmsg.NLM_F_EXCL if kind == RTM_NEWRULE else 0
    _request(kind, flags, body)


def _route(kind: int, index: int, device_address: str, table: int, protocol: int) -> None:
    """Make or remove the device's route in a table, as the kernel would have it."""
    own = ipaddress.IPv4Interface(device_address)
    body = RTMSG.pack(
        socket.AF_INET, own.network.prefixlen, 0, 0, RT_TABLE_UNSPEC, protocol, RT_SCOPE_LINK,
        RTN_UNICAST, 0,
    )  # fmt: skip
    body += _address(RTA_DST, str(own.network.network_address))
    body += nlmsg.attribute(RTA_OIF, struct.pack("=I", index))
    body += _address(RTA_PREFSRC, str(own.ip))
    body += nlmsg.attribute(RTA_TABLE, struct.pack("=I", table))
    # Behind those of other interfaces to the same prefix, as fib_magic() of the kernel does.
    flags = nlmsg.NLM_F_CREATE | nlmsg.NLM_F_APPEND if kind == RTM_NEWROUTE else 0
    _request(kind, flags, body)


def _request(kind: int, flags: int, body: bytes) -> None:
    try:
        nlmsg.request(kind, flags, body)
    except OSError as error:
        there = kind in (RTM_NEWRULE, RTM_NEWROUTE)
        # ESRCH is a route, ENOENT a rule, that is gone.
        if error.errno not in ((errno.EEXIST,) if there else (errno.ESRCH, errno.ENOENT)):
            raise


def _address(kind: int, address: str) -> bytes:
    return nlmsg.attribute(kind, socket.inet_pton(socket.AF_INET, address))
