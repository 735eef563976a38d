"""Netlink messages put together into interfaces, from hand-made messages of pyroute2's shape."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import pytest

from ropeway.kernel import netlink


class Message(dict):
    """As much of a pyroute2 message as the module reads: fields, and attributes by name."""

    def __init__(self, attributes, **fields):
        super().__init__(fields)
        self.attributes = attributes

    def get_attr(self, name):
        return self.attributes.get(name)


def link(index, name, flags=netlink.IFF_UP | netlink.IFF_LOWER_UP, ifi_type=1, **attributes):
    return Message(
        {"IFLA_IFNAME": name, "IFLA_MTU": 1500, **attributes},
        index=index,
        flags=flags,
        ifi_type=ifi_type,
    )


def address(index, local, prefixlen=24, peer=None):
    return Message(
        {"IFA_LOCAL": local, "IFA_ADDRESS": peer or local},
        index=index,
        prefixlen=prefixlen,
        family=socket.AF_INET,
        scope=netlink.RT_SCOPE_UNIVERSE,
        flags=0x80,
    )


def address6(index, local, flags=0x80, scope=netlink.RT_SCOPE_UNIVERSE):
    return Message(
        {"IFA_ADDRESS": local},
        index=index,
        prefixlen=64,
        family=socket.AF_INET6,
        scope=scope,
        flags=flags,
    )


def test_one_ordinary_interface():
    found = netlink.interfaces(
        [link(2, "eth0")],
        [address(2, "192.168.0.2"), address(2, "192.168.0.7")],
        {2: ("192.168.0.0/24", "192.168.7.0/24"), 3: ("0.0.0.0/0",)},
        {2: ("::/0",)},
    )
    assert found == [
        netlink.Interface(
            index=2,
            name="eth0",
            addresses=("192.168.0.2/24", "192.168.0.7/24"),
            mtu=1500,
            up=True,
            admin_up=True,
            routes=("192.168.0.0/24", "192.168.7.0/24"),
            loopback=False,
            ethernet=True,
            enslaved=False,
            kind=None,
            alias=None,
            addresses6=(),
            routes6=("::/0",),
        )
    ]


def test_ipv6_addresses_that_can_be_used_and_the_stable_ones_first():
    found = netlink.interfaces(
        [link(2, "eth0"), link(3, "eth1")],
        [
            address6(2, "2001:db8::7", flags=netlink.IFA_F_TEMPORARY),
            address6(2, "2001:db8::2"),
            address6(2, "fd00::2", flags=0),
            address6(2, "fe80::2", scope=253),
            address6(2, "2001:db8::3", flags=netlink.IFA_F_TENTATIVE),
            address6(2, "2001:db8::4", flags=netlink.IFA_F_TENTATIVE | netlink.IFA_F_DADFAILED),
            address6(2, "2001:db8::5", flags=netlink.IFA_F_DEPRECATED),
            address(2, "192.168.0.2"),
        ],
        {},
        {},
    )
    # What is deprecated may still carry a path, and serves until it is gone.
    assert found[0].addresses6 == (
        "2001:db8::2/64", "fd00::2/64", "2001:db8::7/64", "2001:db8::5/64"
    )  # fmt: skip
    assert found[0].addresses == ("192.168.0.2/24",)
    assert found[1].addresses6 == ()


class Requests:
    """A kernel without IPv6, which answers a request for its addresses with all there are."""

    def get_links(self):
        return [link(2, "eth0")]

    def get_addr(self, family):
        return iter([address(2, "192.168.0.2")])


def test_kernel_without_ipv6_tells_no_address_twice(monkeypatch):
    monkeypatch.setattr(netlink, "_requests", lambda: contextlib.nullcontext(Requests()))
    monkeypatch.setattr(netlink.routes, "dump", lambda family=socket.AF_INET: {})
    (found,) = netlink.dump(ipv6=True)
    assert (found.addresses, found.addresses6) == (("192.168.0.2/24",), ())


def test_up_means_set_up_and_with_carrier():
    flags = [0, netlink.IFF_UP, netlink.IFF_LOWER_UP, netlink.IFF_UP | netlink.IFF_LOWER_UP]
    found = netlink.interfaces([link(i, "e", flags=flags[i]) for i in range(4)], [], {}, {})
    assert [interface.up for interface in found] == [False, False, False, True]
    assert [interface.admin_up for interface in found] == [False, True, False, True]


def test_point_to_point_gives_the_near_end():
    found = netlink.interfaces([link(2, "ppp0")], [address(2, "10.1.1.1", 32, "10.1.1.2")], {}, {})
    assert found[0].addresses == ("10.1.1.1/32",)


def test_kind_alias_master_and_loopback():
    found = netlink.interfaces(
        [
            link(1, "lo", flags=netlink.IFF_LOOPBACK | netlink.IFF_UP, ifi_type=772),
            link(5, "ropeway0", ifi_type=65534, IFLA_IFALIAS="ropeway",
                 IFLA_LINKINFO=Message({"IFLA_INFO_KIND": "tun"})),
            link(4, "port", IFLA_MASTER=9),
        ],
        [],
        {},
        {},
    )  # fmt: skip
    assert [i.index for i in found] == [1, 4, 5]
    assert [i.loopback for i in found] == [True, False, False]
    assert [i.enslaved for i in found] == [False, True, False]
    assert [i.ethernet for i in found] == [False, True, False]
    assert [(i.kind, i.alias) for i in found][2] == ("tun", "ropeway")


def test_address_of_an_interface_that_is_gone_already():
    assert netlink.interfaces([], [address(2, "192.168.0.2")], {2: ("0.0.0.0/0",)}, {}) == []


class Socket:
    """Gives what it is told, then nothing."""

    def __init__(self, *items):
        self.items = list(items)

    def recv(self, size):
        if not self.items:
            raise BlockingIOError(errno.EAGAIN, "")
        item = self.items.pop(0)
        if isinstance(item, OSError):
            raise item
        return item


def hints(*items):
    made = netlink.Hints.__new__(netlink.Hints)
    made._socket = Socket(*items)
    return made


def hint(*kinds):
    return b"".join(netlink.NLMSGHDR.pack(20, kind, 0, 0, 0) + bytes(4) for kind in kinds)


ROUTE, ADDRESS, LINK = netlink.RTM_NEWROUTE, 20, 16


def test_routes_of_now_replace_those_of_an_earlier_dump(monkeypatch):
    earlier = netlink.interfaces([link(2, "a"), link(3, "b")], [], {2: ("10.1.0.0/16",)}, {})
    now = {
        socket.AF_INET: {3: ("10.2.0.0/16",), 9: ("0.0.0.0/0",)},
        socket.AF_INET6: {2: ("::/0",)},
    }
    monkeypatch.setattr(netlink.routes, "dump", lambda family=socket.AF_INET: now[family])
    found = netlink.dump_routes(earlier)
    assert [(i.name, i.routes) for i in found] == [("a", ()), ("b", ("10.2.0.0/16",))]
    assert [i.routes6 for i in found] == [(), ()]
    found = netlink.dump_routes(earlier, ipv6=True)
    assert [i.routes6 for i in found] == [("::/0",), ()]


@pytest.mark.parametrize(
    ("messages", "change"),
    [
        ([], netlink.Change.NOTHING),
        ([hint(ROUTE)], netlink.Change.ROUTES),
        ([hint(ROUTE, netlink.RTM_DELROUTE)], netlink.Change.ROUTES),
        ([hint(ROUTE), hint(LINK), hint(ROUTE)], netlink.Change.INTERFACES),
        ([hint(ROUTE, ADDRESS)], netlink.Change.INTERFACES),
        ([OSError(errno.ENOBUFS, "")], netlink.Change.INTERFACES),
        ([hint(ROUTE)[:4] * 5], netlink.Change.INTERFACES),
    ],
)
def test_hints_are_drained_and_say_what_changed(messages, change):
    busy = hints(*messages)
    assert busy.drain() is change
    assert busy.drain() is netlink.Change.NOTHING


def test_messages_that_the_kernel_dropped_do_not_end_the_draining():
    lossy = hints(OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)), hint(ROUTE))
    assert lossy.drain() is netlink.Change.INTERFACES
    assert lossy._socket.items == []


def test_draining_is_bounded():
    flooded = hints(*[hint(ROUTE)] * 100)
    assert flooded.drain(limit=64) is netlink.Change.ROUTES
    assert len(flooded._socket.items) == 36
