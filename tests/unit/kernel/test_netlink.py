"""Interfaces, from messages made by hand and recorded ones; hints; requests for the device."""

from __future__ import annotations

import errno
import os
import socket
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.kernel import netlink, nlmsg, routes
from tests.unit.kernel.fake_netlink import DONE, attribute, failure, message, number

#: RTM_GETLINK without counters on Linux 6.18, of a TUN device and of a bridge's port; compressed.
LINKS = zlib.decompress(
    bytes.fromhex(
        "78dadd553d6f1341109d3ddf3ab6b9908b314410c8871c022148b14042287c13e8439732a09c0212c4c6b2417457"
        "522044951a8982969fc00fc84f0009512184a85250616666dfc1713646218a943092fd7676e7666767dfbd8b7da2"
        "903c2a5362df3b1effbf089d3748396ad61bd1e3db4f6ae2177866d310597d4a7058e32c2d905bf7e99d153c4337"
        "d43f4b9d8ee028d6c7809780e364144f226e863dc3380fbc02bc0abc00bc88f8ebc833a1792c4daa1f5025a99bd7"
        "aad8630eb135f5f35aa1e04d9ce184e2068dd0ff622b34b0e37b0434cbbdf3747c9e9954e0eeb6da6b749ae72cf3"
        "c7dd8b8f1e5b601ef3aebe22fb6bf57a43c66fcd117ac6cf3ed5885f66323f4ae1762de4abff94eb9e97fc3553d2"
        "338955b862e1dd8707d3b4b8ec9ed9c4d985a1c2fd6c9d1db697432e56c6f17c91e25b8664bb254fdebfeef32d7f"
        "fe73ad92235bb7c9d44c7dfa137f3dd7775dcd4ff672fb65e32a3d7865b94b6253b4ffaffdf6e972ecd3b578c366"
        "f5c7e8d60ba1012f72d4a8375b89f6c859457bf2ffa83d06da63a03dde16b5e75b67a0a7f6b83c2565b76890cb5f"
        "c5fc1cfcfeba53e2d5e6d2abe7afdfcbd8d3becb3ea24749ff3de03af0cd1ed4238373acef50fd693dba6fcacc21"
        "438fa2d65df1f73147ee34efadac46448b46d4c8e02e3cbe45b9a31cbe6bdd7a4529bdb274f427e79d8e1581a3c0"
        "31600971016a1ba418b71cf07b928cf3344426963a42d4330cbf8c3c0790a7023c86b871f813c02a700a38f91bc7"
        "2c73dde12cea3998eadba1d47824f55e1f067f8febc515681abc9f019e025ad5b440b5fc613b6a47bb59cbe344cb"
        "3fb2967f59ddba966b926d6ab9e951f75ed5f21f528a9833"
    )
)
#: RTM_GETADDR there: the loopback, a point-to-point address, an ordinary one; DONE comes alone.
ADDRESSES = [
    bytes.fromhex(
        "4c0000001400020016000000c8600000020880fe01000000080001007f000001080002007f000001070003006c6f"
        "0000080008008000000014000600ffffffffffffffffe06d2600e06d2600540000001400020016000000c8600000"
        "0220800002000000080001000a010102080002000a0101010d000300726f70657761793000000000080008008000"
        "000014000600ffffffffffffffffe26d2600e26d2600580000001400020016000000c86000000218800003000000"
        "08000100c000020108000200c000020108000400c00002ff09000300657468300000000008000800800000001400"
        "0600ffffffffffffffffe26d2600e26d2600"
    ),
    bytes.fromhex("140000000300020016000000c860000000000000"),
]
#: The same of IPv6: loopback, deprecated, stable, tentative and link-local; DONE in the same reply.
ADDRESSES6 = [
    bytes.fromhex(
        "500000001400020016000000c86000000a8080fe0100000014000100000000000000000000000000000000011400"
        "0600ffffffffffffffffe06d2600e06d2600080008008000000005000b0001000000480000001400020016000000"
        "c86000000a40a200030000001400010020010db80000000000000000000000051400060000000000ffffffffe36d"
        "2600e36d260008000800a2000000480000001400020016000000c86000000a408200030000001400010020010db8"
        "00000000000000000000000214000600ffffffffffffffffe36d2600e36d26000800080082000000480000001400"
        "020016000000c86000000a40c000030000001400010020010db800000000000000000000000314000600ffffffff"
        "ffffffffe36d2600e36d260008000800c0000000500000001400020016000000c86000000a40c0fd030000001400"
        "0100fe80000000000000b4c8f9fffe89d60314000600ffffffffffffffffe26d2600e26d260008000800c0000000"
        "05000b0003000000140000000300020016000000c860000000000000"
    )
]


def link(index, name, flags=netlink.IFF_UP | netlink.IFF_LOWER_UP, hardware=1, about=b""):
    body = struct.pack("=BBHiII", 0, 0, hardware, index, flags, 0)
    body += attribute(netlink.IFLA_IFNAME, name.encode() + b"\0")
    return message(netlink.RTM_NEWLINK, body + number(netlink.IFLA_MTU, 1500) + about)


def address(index, text, flags=0x80, scope=netlink.RT_SCOPE_UNIVERSE, length=None):
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    length = length or (64 if family == socket.AF_INET6 else 24)
    body = struct.pack("=BBBBI", family, length, flags, scope, index)
    body += attribute(netlink.IFA_ADDRESS, socket.inet_pton(family, text))
    return message(netlink.RTM_NEWADDR, body)


def interfaces(*links):
    return netlink.interfaces(links, {}, {}, {}, {})


def test_one_ordinary_interface():
    found = netlink.interfaces(
        [link(2, "eth0")],
        {2: ("192.168.0.2/24", "192.168.0.7/24"), 3: ("192.0.2.1/24",)},
        {2: ("2001:db8::2/64",)},
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
            master=0,
            kind=None,
            alias=None,
            addresses6=("2001:db8::2/64",),
            routes6=("::/0",),
        )
    ]


def test_recorded_links():
    device, port = interfaces(LINKS)
    assert (device.index, device.name, device.mtu) == (2, "ropeway0", 1500)
    assert (device.kind, device.alias) == ("tun", "ropeway")
    assert (device.up, device.admin_up, device.ethernet) == (False, False, False)
    assert (port.index, port.name, port.mtu) == (4, "port", 1500)
    assert (port.kind, port.alias) == ("veth", None)
    assert (port.up, port.admin_up, port.ethernet) == (True, True, True)
    assert (device.master, port.master) == (0, 5)
    assert (port.below, port.tunnel_ends) == ((3,), ())  # the other end of the veth


def test_recorded_addresses():
    assert netlink.addresses(ADDRESSES, socket.AF_INET) == {
        1: ("127.0.0.1/8",),
        2: ("10.1.1.1/32",),  # the near end
        3: ("192.0.2.1/24",),
    }
    assert netlink.addresses(ADDRESSES6, socket.AF_INET6) == {
        3: ("2001:db8::2/64", "2001:db8::5/64")
    }


def test_ipv6_addresses_that_can_be_used_and_the_stable_ones_first():
    found = netlink.addresses(
        [
            address(2, "2001:db8::7", flags=netlink.IFA_F_TEMPORARY)
            + address(2, "2001:db8::2")
            + address(2, "fd00::2", flags=0)
            + address(3, "fe80::2", scope=253),
            address(3, "2001:db8::3", flags=netlink.IFA_F_TENTATIVE)
            + address(3, "2001:db8::4", flags=netlink.IFA_F_TENTATIVE | netlink.IFA_F_DADFAILED)
            + address(2, "2001:db8::5", flags=netlink.IFA_F_DEPRECATED)
            + address(2, "2001:db8::6", flags=netlink.IFA_F_DEPRECATED | netlink.IFA_F_TEMPORARY)
            + address(2, "192.168.0.2"),
        ],
        socket.AF_INET6,
    )
    # What is deprecated may still carry a path, and serves until it is gone.
    assert found == {
        2: (
            "2001:db8::2/64", "fd00::2/64", "2001:db8::7/64", "2001:db8::5/64", "2001:db8::6/64"
        )
    }  # fmt: skip


NO_ROUTES = [DONE]


def test_dump_asks_for_links_addresses_and_routes(kernel):
    made = kernel([LINKS, DONE], ADDRESSES, NO_ROUTES)
    assert [(i.name, i.addresses) for i in netlink.dump()] == [
        ("ropeway0", ("10.1.1.1/32",)),
        ("port", ()),
    ]
    asked = [netlink.RTM_GETLINK, netlink.RTM_GETADDR, routes.RTM_GETROUTE]
    assert [kind for kind, _ in made.asked] == asked
    assert made.asked[0][1] == bytes(16) + number(netlink.IFLA_EXT_MASK, 8)
    made = kernel([link(3, "eth0") + DONE], ADDRESSES, ADDRESSES6, NO_ROUTES, NO_ROUTES)
    (found,) = netlink.dump(ipv6=True)
    assert (found.addresses, found.addresses6) == (
        ("192.0.2.1/24",),
        ("2001:db8::2/64", "2001:db8::5/64"),
    )
    families = [body[0] for _, body in made.asked]
    assert families == [0, socket.AF_INET, socket.AF_INET6, socket.AF_INET, socket.AF_INET6]


def test_kernel_without_ipv6_tells_no_address_twice(kernel):
    kernel([link(3, "eth0"), DONE], ADDRESSES, ADDRESSES, NO_ROUTES, NO_ROUTES)
    (found,) = netlink.dump(ipv6=True)
    assert (found.addresses, found.addresses6) == (("192.0.2.1/24",), ())


def test_links_are_asked_for_again_where_the_addresses_are_torn(kernel):
    torn = [message(nlmsg.NLMSG_DONE, bytes(4), nlmsg.NLM_F_DUMP_INTR)]
    made = kernel([LINKS, DONE], torn, [link(3, "eth0"), DONE], ADDRESSES, NO_ROUTES)
    assert [(i.name, i.addresses) for i in netlink.dump()] == [("eth0", ("192.0.2.1/24",))]
    assert not made.answers


def test_up_means_set_up_and_with_carrier():
    flags = [0, netlink.IFF_UP, netlink.IFF_LOWER_UP, netlink.IFF_UP | netlink.IFF_LOWER_UP]
    found = interfaces(*[link(i, "e", flags=flags[i]) for i in range(4)])
    assert [interface.up for interface in found] == [False, False, False, True]
    assert [interface.admin_up for interface in found] == [False, True, False, True]


def test_kind_alias_master_and_loopback():
    kind = attribute(netlink.IFLA_INFO_KIND, b"tun\0") + attribute(2, b"more")
    found = interfaces(
        link(1, "lo", flags=netlink.IFF_LOOPBACK | netlink.IFF_UP, hardware=772),
        link(5, "ropeway0", hardware=65534,
             about=attribute(netlink.IFLA_IFALIAS, b"ropeway")
             + attribute(netlink.IFLA_LINKINFO, kind))
        + link(4, "port", about=number(netlink.IFLA_MASTER, 9)),
    )  # fmt: skip
    assert [i.index for i in found] == [1, 4, 5]
    assert [i.loopback for i in found] == [True, False, False]
    assert [i.master for i in found] == [0, 9, 0]
    assert [i.ethernet for i in found] == [False, True, False]
    assert [(i.kind, i.alias) for i in found][2] == ("tun", "ropeway")


def linkinfo(kind, *details):
    data = attribute(netlink.IFLA_INFO_DATA, b"".join(details))
    return attribute(
        netlink.IFLA_LINKINFO, attribute(netlink.IFLA_INFO_KIND, kind.encode() + b"\0") + data
    )


def test_what_an_interface_is_stacked_on_and_where_a_tunnel_leads():
    address = socket.inet_aton("10.0.0.2")
    elsewhere = number(netlink.IFLA_LINK, 7) + number(netlink.IFLA_LINK_NETNSID, 0)
    vxlan = number(3, 2) + attribute(2, address) + attribute(4, bytes(4))
    gre = number(1, 0) + attribute(6, address) + attribute(7, b"\x0a\x00\x00\x03")
    found = interfaces(
        link(3, "eth0.7", about=number(netlink.IFLA_LINK, 2) + linkinfo("vlan", number(3, 9))),
        link(4, "moved", about=elsewhere + linkinfo("vxlan", vxlan)),
        link(5, "vx0", about=linkinfo("vxlan", vxlan)),
        link(6, "gre1", about=number(netlink.IFLA_LINK, 0) + linkinfo("gre", gre)),
        link(7, "short", about=linkinfo("gre", attribute(7, b"\x0a"))),
    )
    assert [(i.below, i.tunnel_ends) for i in found] == [
        ((2,), ()),
        ((), ("10.0.0.2",)),
        ((2,), ("10.0.0.2",)),
        ((), ("10.0.0.2", "10.0.0.3")),
        ((), ()),
    ]


def test_attributes_of_a_newer_kernel_are_passed_over():
    newer = attribute(900, b"\xff" * 30) + attribute(0x8000 | 901, attribute(1, b"x"))
    assert interfaces(link(2, "eth0", about=newer)) == interfaces(link(2, "eth0"))


def test_link_without_a_name_is_none():
    body = struct.pack("=BBHiII", 0, 0, 1, 2, 0, 0)
    assert interfaces(message(netlink.RTM_NEWLINK, body), link(3, "eth1")[:-1], DONE) == []


def test_address_of_another_length_is_none():
    body = struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, 2)
    short = message(netlink.RTM_NEWADDR, body + attribute(netlink.IFA_LOCAL, b"\x0a"))
    bare = message(netlink.RTM_NEWADDR, body)
    cut_off = message(netlink.RTM_NEWADDR, body[:-1])
    assert netlink.addresses([short, bare, cut_off], socket.AF_INET) == {}


def test_address_of_an_interface_that_is_gone_already():
    assert netlink.interfaces([], {2: ("192.168.0.2/24",)}, {}, {2: ("0.0.0.0/0",)}, {}) == []


@given(st.data())
def test_arbitrary_bytes_end(data):
    replies = [LINKS, b"".join(ADDRESSES), b"".join(ADDRESSES6)]
    flips = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), max_size=8)
    spoilt = [data.draw(st.binary(max_size=200))]
    for reply in replies:
        changed = bytearray(reply)
        for at, value in data.draw(flips):
            changed[at % len(reply) : at % len(reply) + len(value)] = value
        spoilt.append(bytes(changed))
    for family in (socket.AF_INET, socket.AF_INET6):
        netlink.addresses(spoilt, family)
    for found in interfaces(*spoilt):
        assert found.name.encode() is not None


CONSENT = [failure(0)]


def test_device_is_configured(kernel):
    made = kernel(CONSENT, CONSENT, CONSENT, CONSENT)
    netlink.configure(7, "10.0.0.1/24", 1300, "ropeway")
    (_, ipv6), (_, link_body), (_, super_packets), (_, address_body) = made.asked
    assert [kind for kind, _ in made.asked] == [netlink.RTM_NEWLINK] * 3 + [netlink.RTM_NEWADDR]
    assert ipv6 == struct.pack("=BBHiII", 0, 0, 0, 7, 0, 0) + bytes.fromhex(
        "10001a00 0c000a00 0500080001000000"
    )
    assert link_body == struct.pack("=BBHiII", 0, 0, 0, 7, 1, 1) + (
        number(netlink.IFLA_MTU, 1300)
        + number(netlink.IFLA_TXQLEN, netlink.QUEUE_PACKETS)
        + attribute(netlink.IFLA_IFALIAS, b"ropeway")
    )
    assert super_packets == struct.pack("=BBHiII", 0, 0, 0, 7, 0, 0) + (
        number(netlink.IFLA_GSO_MAX_SEGS, netlink.SUPER_SEGMENTS_MAX)
        + number(netlink.IFLA_GSO_MAX_SIZE, netlink.SUPER_BYTES_MAX)
    )
    assert address_body == bytes.fromhex("02180000 07000000 08000200 0a000001 08000100 0a000001")


def test_device_on_a_kernel_that_refuses(kernel):
    for code in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
        made = kernel([failure(code)], CONSENT, [failure(code)], CONSENT)
        netlink.configure(7, "10.0.0.1/24", 1300, "ropeway")
        assert not made.answers
    for answers in ([], [CONSENT], [CONSENT, CONSENT, CONSENT]):
        kernel(*answers, [failure(errno.EPERM)])
        with pytest.raises(PermissionError):
            netlink.configure(7, "10.0.0.1/24", 1300, "ropeway")


def test_deleting_what_is_gone_is_no_error(kernel):
    made = kernel(CONSENT)
    netlink.delete(7)
    assert made.asked == [(netlink.RTM_DELLINK, struct.pack("=BBHiII", 0, 0, 0, 7, 0, 0))]
    kernel([failure(errno.ENODEV)])
    netlink.delete(7)
    kernel([failure(errno.EOPNOTSUPP)])
    with pytest.raises(OSError, match="not supported"):
        netlink.delete(7)


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
    return b"".join(message(kind, bytes(4)) for kind in kinds)


ROUTE, ADDRESS, LINK = routes.RTM_NEWROUTE, 20, 16


def test_routes_of_now_replace_those_of_an_earlier_dump(monkeypatch):
    earlier = netlink.interfaces([link(2, "a"), link(3, "b")], {}, {}, {2: ("10.1.0.0/16",)}, {})
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
        ([hint(netlink.RTM_DELRULE, netlink.RTM_NEWRULE)], netlink.Change.ROUTES),
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
