"""Routes to networks behind other hosts: what is there, and what is asked of the kernel."""

from __future__ import annotations

import errno
import socket

import pytest
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_NEWROUTE

from ropeway.steward.netlink import learnt

LAN = "192.168.80.0/24"


def route(network=LAN, index=7, table=254, proto=167, priority=5184, type_=1):
    address, length = network.split("/")
    return {
        "family": socket.AF_INET,
        "dst_len": int(length),
        "type": type_,
        "proto": proto,
        "table": table & 0xFF,
        "attrs": [
            ("RTA_DST", address),
            ("RTA_OIF", index),
            ("RTA_TABLE", table),
            ("RTA_PRIORITY", priority),
        ],
    }


def test_own_routes_are_seen_and_those_of_others_are_not(kernel):
    kernel(
        [
            route(),
            route("192.168.1.0/24", index=2),
            route("192.168.2.0/24", proto=4),
            route("192.168.3.0/24", table=7),
            route("192.168.4.0/24", priority=100),
            route("192.168.5.0/24", type_=7),
        ]
    )
    assert learnt.look(7) == {LAN}


def test_a_route_is_made_and_removed(kernel):
    made = kernel([], [])
    learnt.add(7, LAN, "10.0.0.1")
    learnt.remove(7, LAN)
    assert [kind for kind, _, _ in made.asked] == [RTM_NEWROUTE, RTM_DELROUTE]


@pytest.mark.parametrize("change", [lambda: learnt.add(7, LAN, "10.0.0.1")])
def test_a_route_that_is_there_already_is_no_fault(kernel, change):
    kernel(NetlinkError(errno.EEXIST))
    change()
    kernel(NetlinkError(errno.ENETDOWN))
    with pytest.raises(OSError, match="Network is down"):
        change()


def test_a_route_that_is_gone_already_is_no_fault(kernel):
    kernel(NetlinkError(errno.ESRCH))
    learnt.remove(7, LAN)
