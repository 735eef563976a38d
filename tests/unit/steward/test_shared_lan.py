"""Which interfaces are in one LAN with a link."""

from __future__ import annotations

from ropeway.core.link import Link
from ropeway.steward import shared_lan
from tests.unit.app.fake_kernel import interface

ETH0 = interface(2, "eth0", "192.168.0.2/24", "10.9.0.1/30")


def link_of(made):
    return Link(made.index, made.name, made.addresses, made.mtu, made.up)


def pairs(links, interfaces):
    found = shared_lan.find(interfaces, [link_of(link) for link in links])
    return [(pair.link.name, pair.address, pair.other.name, pair.network) for pair in found]


def test_interfaces_with_the_same_network_are_in_one_lan():
    eth1 = interface(3, "eth1", "192.168.0.4/24")
    eth2 = interface(4, "eth2", "192.168.2.4/24")
    assert pairs([ETH0], [ETH0, eth1, eth2]) == [("eth0", "192.168.0.2", "eth1", "192.168.0.0/24")]
    assert [found[:3] for found in pairs([ETH0, eth1], [ETH0, eth1])] == [
        ("eth0", "192.168.0.2", "eth1"),
        ("eth1", "192.168.0.4", "eth0"),
    ]


def test_interface_that_is_down_or_no_ethernet_is_in_no_lan():
    down = interface(3, "eth1", "192.168.0.4/24", up=False)
    tunnel = interface(4, "ppp0", "192.168.0.5/24", ethernet=False)
    assert pairs([ETH0], [ETH0, down, tunnel]) == []


def test_two_ends_of_a_wire_alone_are_no_lan():
    one, other = interface(2, "eth0", "10.0.0.1/32"), interface(3, "eth1", "10.0.0.1/32")
    assert pairs([one], [one, other]) == []


def test_number_of_pairs_is_bounded():
    many = [interface(n, f"eth{n}", f"192.168.0.{n}/24") for n in range(2, 200)]
    assert len(pairs(many, many)) == shared_lan.PAIRS_MAX


def test_neighbour_is_neither_end():
    eth1 = interface(3, "eth1", "192.168.0.1/24")
    (pair,) = shared_lan.find([ETH0, eth1], [link_of(ETH0)])
    assert pair.neighbour == "192.168.0.3"
