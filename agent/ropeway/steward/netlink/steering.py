"""What leads packets for the virtual network to the device: its route, or rules before others.

The kernel itself makes the device's route, in its main table, when the device gets its address.
Where another interface has a part of the virtual network as its own, that one's route may win. Then
the device's route stands in `TABLE` instead, which a rule makes the first to be asked; what comes
from an address of such an interface is still sent by the main table, so that it answers as before.

All that is made here bears `PROTOCOL`, and nothing else is touched. Rules that a killed agent left
lead to an empty table, and so change nothing.
Source: rtnetlink(7), `include/uapi/linux/rtnetlink.h`, `include/uapi/linux/fib_rules.h`,
ip-rule(8).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Any, FrozenSet, Iterable, Iterator, List, Optional, Tuple

from pyroute2.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import (
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ropeway.steward.netlink.requests import Message, dump, make, request

RT_TABLE_MAIN = 254
RT_SCOPE_LINK = 253
RTPROT_KERNEL = 2
RTN_UNICAST = 1
FR_ACT_TO_TBL = 1

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


def look(index: int, network: str) -> Steering:
    """Return what leads to the device `index` of `network` now.

    `OSError` where the kernel refuses or the dump is torn again and again.
    """
    tables = [
        table
        for table in (RT_TABLE_MAIN, TABLE)
        if any(to == network and out == index for to, out in _routes(table, index))
    ]
    return Steering(
        RT_TABLE_MAIN in tables,
        TABLE in tables,
        frozenset(rule for rule in _rules() if rule.network == network),
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
    for rule in frozenset(_rules()):
        if rule.network == network:
            _rule(RTM_DELRULE, rule)


def remove_left() -> int:
    """Remove the rules that agents which are no more have left; return how many there were.

    Those are the rules of networks without a route in `TABLE`.
    """
    rules = frozenset(_rules())
    if not rules:
        return 0
    in_use = {network for network, _ in _routes(TABLE)}
    left = [rule for rule in rules if rule.network not in in_use]
    for rule in left:
        _rule(RTM_DELRULE, rule)
    return len(left)


def _routes(table: int, index: int = 0) -> Iterator[Tuple[str, int]]:
    """Give destination and interface index of the unicast routes of a table.

    With `index` only those by that interface. The kernel chooses them, from Linux 4.20 on.
    """
    attributes: List[Any] = [("RTA_TABLE", table)]
    if index:
        attributes.append(("RTA_OIF", index))
    fields = {"family": socket.AF_INET, "table": table if table < 256 else 0}
    for message in dump(make(rtmsg, fields, attributes), RTM_GETROUTE, "routes"):
        about = dict(message["attrs"])
        if message["type"] != RTN_UNICAST or about.get("RTA_TABLE", message["table"]) != table:
            continue
        if message["family"] == socket.AF_INET and "RTA_DST" in about:
            yield f"{about['RTA_DST']}/{message['dst_len']}", about.get("RTA_OIF", 0)


def _rules() -> Iterator[Rule]:
    """Give the rules that agents have made."""
    for message in dump(make(fibmsg, {"family": socket.AF_INET}), RTM_GETRULE, "rules"):
        rule = _own_rule(message)
        if rule is not None:
            yield rule


def _own_rule(message: Message) -> Optional[Rule]:
    about = dict(message["attrs"])
    priority, network = about.get("FRA_PRIORITY", 0), about.get("FRA_DST")
    if (
        message["family"] != socket.AF_INET
        or message["action"] != FR_ACT_TO_TBL
        or about.get("FRA_PROTOCOL") != PROTOCOL
        or priority not in (PRIORITY_ASIDE, PRIORITY)
        or network is None
    ):
        return None
    source = about.get("FRA_SRC", "") if message["src_len"] == 32 else ""
    table: int = about["FRA_TABLE"] if "FRA_TABLE" in about else message["table"]
    return Rule(f"{network}/{message['dst_len']}", table, priority, source)


def _rule(kind: int, rule: Rule) -> None:
    """Make or remove a rule; one that is there, or gone, already is no error."""
    network, length = rule.network.split("/")
    attributes: List[Any] = [("FRA_DST", network)]
    if rule.source:
        attributes.append(("FRA_SRC", rule.source))
    attributes += [
        ("FRA_PRIORITY", rule.priority),
        ("FRA_TABLE", rule.table),
        ("FRA_PROTOCOL", PROTOCOL),
    ]
    fields = {
        "family": socket.AF_INET,
        "dst_len": int(length),
        "src_len": 32 if rule.source else 0,
        "action": FR_ACT_TO_TBL,
    }
    flags = NLM_F_CREATE | NLM_F_EXCL if kind == RTM_NEWRULE else 0
    _change(make(fibmsg, fields, attributes), kind, flags)


def _route(kind: int, index: int, device_address: str, table: int, protocol: int) -> None:
    """Make or remove the device's route in a table, as the kernel would have it."""
    own = ipaddress.IPv4Interface(device_address)
    fields = {
        "family": socket.AF_INET,
        "dst_len": own.network.prefixlen,
        "proto": protocol,
        "scope": RT_SCOPE_LINK,
        "type": RTN_UNICAST,
    }
    attributes = [
        ("RTA_DST", str(own.network.network_address)),
        ("RTA_OIF", index),
        ("RTA_PREFSRC", str(own.ip)),
        ("RTA_TABLE", table),
    ]
    # Behind those of other interfaces to the same prefix, as fib_magic() of the kernel does.
    flags = NLM_F_CREATE | NLM_F_APPEND if kind == RTM_NEWROUTE else 0
    _change(make(rtmsg, fields, attributes), kind, flags)


def _change(message: Any, kind: int, flags: int) -> None:
    try:
        request(message, kind, flags)
    except OSError as error:
        there = kind in (RTM_NEWRULE, RTM_NEWROUTE)
        # ESRCH is a route, ENOENT a rule, that is gone.
        if error.errno not in ((errno.EEXIST,) if there else (errno.ESRCH, errno.ENOENT)):
            raise
