"""Routes, from messages made by hand and dumps over a scripted socket."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.kernel import nlmsg, routes
from tests.unit.kernel.fake_netlink import DONE, Kernel, attribute, message, number

LOCAL, BLACKHOLE = 2, 6


def route(prefix, *attributes, kind=routes.RTN_UNICAST, flags=0):
    address, length = prefix.split("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    body = struct.pack("=8BI", family, int(length), 0, 0, 254, 4, 0, kind, 0)
    body += number(15, 254)  # RTA_TABLE comes first
    if length != "0":
        body += attribute(routes.RTA_DST, socket.inet_pton(family, address))
    return message(routes.RTM_NEWROUTE, body + b"".join(attributes), flags)


def out(index):
    return number(routes.RTA_OIF, index)


def hops(*indices):
    # Each hop carries its gateway as an attribute of its own.
    gateway = attribute(5, bytes([192, 0, 2, 1]))
    each = [routes.RTNEXTHOP.pack(8 + len(gateway), 0, 0, index) + gateway for index in indices]
    return attribute(routes.RTA_MULTIPATH, b"".join(each))


def nexthop(identity, *attributes):
    body = bytes(routes.NHMSG_BYTES) + number(routes.NHA_ID, identity) + b"".join(attributes)
    return message(routes.RTM_NEWNEXTHOP, body)


def group(*members):
    packed = b"".join(routes.NEXTHOP_GRP.pack(member, 0, 0, 0) for member in members)
    return attribute(routes.NHA_GROUP, packed)


def dump(monkeypatch, *answers, family=socket.AF_INET):
    kernel = Kernel(*answers)
    monkeypatch.setattr(nlmsg.socket, "socket", kernel)
    return routes.dump(family), kernel


def test_routes_by_interface(monkeypatch):
    found, _ = dump(
        monkeypatch,
        [
            route("192.168.0.0/24", out(2)) + route("10.8.0.0/16", out(3)),
            route("172.16.0.0/12", out(2)) + route("172.16.0.0/12", out(2)) + DONE,
        ],
    )
    assert found == {2: ("172.16.0.0/12", "192.168.0.0/24"), 3: ("10.8.0.0/16",)}


def test_ipv6_routes_by_interface(monkeypatch):
    answer = [
        route("2001:db8:1::/48", out(2))
        + route("2001:db8:1:2::/64", out(2))
        + route("192.168.0.0/24", out(2))
        + route("fd00::/8", out(3))
        + DONE
    ]
    found, _ = dump(monkeypatch, answer, family=socket.AF_INET6)
    assert found == {2: ("2001:db8:1::/48",), 3: ("fd00::/8",)}
    found, _ = dump(monkeypatch, [route("::/0", out(2)) + DONE], family=socket.AF_INET6)
    assert found == {2: ("::/0",)}


def test_kernel_without_ipv6_answers_with_other_routes(monkeypatch):
    found, _ = dump(monkeypatch, [route("192.168.0.0/24", out(2)) + DONE], family=socket.AF_INET6)
    assert found == {}


def test_only_unicast_routes_count_and_multipath_routes_count_everywhere(monkeypatch):
    found, _ = dump(
        monkeypatch,
        [
            route("192.168.0.2/32", out(2), kind=LOCAL)
            + route("10.8.0.0/16", kind=BLACKHOLE)
            + route("10.9.0.0/16", hops(2, 3))
            + DONE
        ],
    )
    assert found == {2: ("10.9.0.0/16",), 3: ("10.9.0.0/16",)}


def test_nexthop_objects_are_asked_for_only_where_the_kernel_names_no_interface(monkeypatch):
    named = route("10.1.0.0/16", number(routes.RTA_NH_ID, 7), out(2))
    _, kernel = dump(monkeypatch, [named + DONE])
    assert [kind for kind, _ in kernel.asked] == [routes.RTM_GETROUTE]
    bare = route("10.2.0.0/16", number(routes.RTA_NH_ID, 9))
    unknown = route("10.3.0.0/16", number(routes.RTA_NH_ID, 99))
    found, kernel = dump(
        monkeypatch,
        [named + bare + unknown + DONE],
        [
            nexthop(9, group(7, 8, 55))
            + nexthop(7, number(routes.NHA_OIF, 2))
            + nexthop(8, number(routes.NHA_OIF, 3)),
            DONE,
        ],
    )
    assert kernel.asked == [
        (routes.RTM_GETROUTE, bytes([socket.AF_INET]) + bytes(11)),
        (routes.RTM_GETNEXTHOP, bytes(8)),
    ]
    assert found == {2: ("10.1.0.0/16", "10.2.0.0/16"), 3: ("10.2.0.0/16",)}


def test_torn_dump_of_either_kind_is_repeated(monkeypatch):
    torn = [route("10.1.0.0/16", out(2), flags=nlmsg.NLM_F_DUMP_INTR), DONE]
    bare = [route("10.2.0.0/16", number(routes.RTA_NH_ID, 9)), DONE]
    leads = nexthop(9, number(routes.NHA_OIF, 2))
    torn_too = [message(nlmsg.NLMSG_DONE, bytes(4), nlmsg.NLM_F_DUMP_INTR)]
    found, kernel = dump(monkeypatch, torn, bare, torn_too, bare, [leads, DONE])
    assert found == {2: ("10.2.0.0/16",)}
    assert not kernel.answers


@pytest.mark.parametrize(
    ("family", "network", "bits"),
    [(socket.AF_INET, ipaddress.IPv4Network, 32), (socket.AF_INET6, ipaddress.IPv6Network, 128)],
)
@given(data=st.data())
def test_what_is_left_out_lies_within_what_stays(data, family, network, bits):
    pairs = st.tuples(st.integers(0, 2**bits - 1), st.integers(0, bits))
    networks = {network(pair, strict=False) for pair in data.draw(st.sets(pairs, max_size=20))}
    text = routes.widest({int(n.network_address) << 8 | n.prefixlen for n in networks}, family)
    stays = [network(prefix) for prefix in text]
    assert set(stays) <= networks
    assert stays == sorted(stays)
    for one in networks:
        assert len([n for n in stays if one.subnet_of(n)]) == 1


@pytest.mark.parametrize("kind", [routes.RTA_OIF, routes.RTA_NH_ID])
def test_attribute_without_its_number_at_the_very_end(kind):
    assert routes.parse([route("10.0.0.0/8", attribute(kind, b""))]) == ({}, {})


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_arbitrary_bytes_end(reply, attributes):
    routes.parse([reply, route("10.0.0.0/8", attributes)])
    routes.parse([reply, route("fd00::/8", attributes)], socket.AF_INET6)
    routes.nexthops([reply, nexthop(1, attributes)])
