"""What is made of the messages about interfaces and addresses."""

from __future__ import annotations

import socket

from ropeway.steward.netlink import interfaces


def link(index, *attributes, flags=0x10001, hardware=1):
    return {"index": index, "flags": flags, "ifi_type": hardware, "attrs": list(attributes)}


def address(index, text, length, family=socket.AF_INET, flags=0, scope=0, **more):
    attributes = [("IFA_ADDRESS", text), *((f"IFA_{name}", value) for name, value in more.items())]
    return {
        "index": index,
        "family": family,
        "prefixlen": length,
        "flags": flags,
        "scope": scope,
        "attrs": attributes,
    }


def test_interfaces_have_their_addresses_and_stand_by_index(kernel):
    kernel(
        [
            link(7, ("IFLA_IFNAME", "eth1"), ("IFLA_MTU", 1400), flags=0x1),
            link(2, ("IFLA_IFNAME", "eth0"), ("IFLA_MTU", 1500), ("IFLA_MASTER", 7)),
            link(9, ("IFLA_MTU", 1500)),
        ],
        [address(2, "192.168.0.2", 24), address(2, "10.1.1.2", 32, LOCAL="10.1.1.1")],
    )
    first, second = interfaces.interfaces()
    assert (first.index, first.name, first.mtu, first.master) == (2, "eth0", 1500, 7)
    assert first.addresses == ("192.168.0.2/24", "10.1.1.1/32")
    assert (first.up, first.admin_up, second.up, second.admin_up) == (True, True, False, True)


def test_ipv6_addresses_that_can_be_used_and_the_stable_ones_first(kernel):
    family = socket.AF_INET6
    kernel(
        [link(2, ("IFLA_IFNAME", "eth0"))],
        [],
        [
            address(2, "2001:db8::4", 64, family, flags=0x20),
            address(2, "2001:db8::3", 64, family, flags=0x01),
            address(2, "2001:db8::2", 64, family),
            address(2, "2001:db8::9", 64, family, flags=0x40),
            address(2, "2001:db8::8", 64, family, FLAGS=0x08),
            address(2, "fe80::1", 64, family, scope=253),
            address(2, "192.168.0.2", 24),
        ],
    )
    (only,) = interfaces.interfaces(ipv6=True)
    assert only.addresses6 == ("2001:db8::2/64", "2001:db8::3/64", "2001:db8::4/64")


def test_what_an_interface_is_stacked_on_and_where_a_tunnel_leads(kernel):
    data = {
        "attrs": [
            ("IFLA_VXLAN_LINK", 3),
            ("IFLA_VXLAN_GROUP", "10.0.0.2"),
            ("IFLA_VXLAN_LOCAL", "0.0.0.0"),
        ]
    }
    about = {"attrs": [("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", data)]}
    elsewhere = ("IFLA_LINK_NETNSID", 0)
    kernel(
        [
            link(4, ("IFLA_IFNAME", "vx0"), ("IFLA_LINKINFO", about)),
            link(5, ("IFLA_IFNAME", "v5"), ("IFLA_LINK", 4)),
            link(6, ("IFLA_IFNAME", "v6"), ("IFLA_LINK", 4), elsewhere),
            # Of some kinds pyroute2 has no description, and gives bytes.
            link(8, ("IFLA_IFNAME", "x8"), ("IFLA_LINKINFO", {"attrs": [
                ("IFLA_INFO_KIND", "gre"), ("IFLA_INFO_DATA", b"\1\2")]})),
        ],
        [],
    )  # fmt: skip
    vxlan, stacked, apart, unknown = interfaces.interfaces()
    assert (vxlan.kind, vxlan.below, vxlan.tunnel_ends) == ("vxlan", (3,), ("10.0.0.2",))
    assert (stacked.below, apart.below) == ((4,), ())
    assert (unknown.kind, unknown.below, unknown.tunnel_ends) == ("gre", (), ())


def test_names_that_are_no_utf8_are_texts_all_the_same(kernel):
    kernel([link(2, ("IFLA_IFNAME", b"eth\xff"), ("IFLA_IFALIAS", b"\xfe"))], [])
    (only,) = interfaces.interfaces()
    assert (only.name, only.alias) == ("eth\ufffd", "\ufffd")
