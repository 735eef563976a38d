"""Which interfaces take part, and the reasons of the others."""

from __future__ import annotations

import dataclasses

import pytest

from ropeway.app.config import model
from ropeway.core.link import Link
from ropeway.core.redundancy import LinkHealth
from ropeway.steward import selection
from tests.unit.app.fake_kernel import interface

ETH0 = interface(2, "eth0", "192.168.0.1/24")
ETH1 = interface(3, "eth1", "192.168.1.1/24")
DEVICE = interface(20, "ropeway0", "10.0.0.1/24", kind="tun", alias="ropeway", ethernet=False)


def select(interfaces, include=("*",), exclude=(), ipv6=False, ways=None, named=()):
    """Select, where packets to the addresses in `ways` leave by the interface of that index."""
    rules = selection.Rules(include, exclude, "ropeway0", 20, "10.0.0.0/24", ipv6, named)
    return selection.select(interfaces, rules, lambda address: (ways or {}).get(address, 0))


def names(interfaces, include=("*",), exclude=()):
    return [link.name for link in select(interfaces, include, exclude)[0]]


def reasons(interfaces, include=("*",), exclude=()):
    """Return why those that do not take part do not, by name."""
    return {one.name: one.reason for one in select(interfaces, include, exclude)[1]}


def test_link_has_all_of_the_interface():
    assert select([ETH0]) == (
        [Link(2, "eth0", ("192.168.0.1/24",), 1500, True)],
        [],
    )


def test_patterns_choose_and_exclusion_wins():
    interfaces = [ETH0, ETH1, interface(4, "wlan0", "192.168.2.1/24")]
    assert names(interfaces, ["eth*"]) == ["eth0", "eth1"]
    assert names(interfaces, ["*"], ["eth?"]) == ["wlan0"]
    assert names(interfaces, ["eth0"], ["eth0"]) == []
    assert names(interfaces, []) == []
    assert reasons(interfaces, ["eth*"], ["eth1", "eth?"]) == {
        "eth0": "is excluded by eth?",
        "eth1": "is excluded by name",
        "wlan0": "is not included",
    }


def test_interface_that_is_named_and_takes_no_part_is_missing():
    include = ["eth*", "eth0", "wwan0", "usb0", "eth1", "wwan0"]
    interfaces = [ETH0, ETH1, interface(6, "usb0", admin_up=False)]
    links, left_out = select(interfaces, include, ["eth1"])
    assert selection.missing(include, ["eth1"], links, left_out) == [
        LinkHealth(0, "wwan0", "it is not there"),
        LinkHealth(6, "usb0", "it is down and has no address"),
    ]
    assert selection.missing(["*"], [], *select([], ["*"])) == []


def test_name_counts_more_than_a_pattern():
    bridge = interface(5, "br-lan", "192.168.3.1/24", kind="bridge")
    assert names([ETH0, bridge], ["*"], ["br-*"]) == ["eth0"]
    assert names([ETH0, bridge], ["*", "br-lan"], ["br-*"]) == ["eth0", "br-lan"]
    assert names([ETH0, bridge], ["*", "br-lan"], ["br-lan"]) == ["eth0"]
    assert names([ETH0, bridge], ["br-l*"], ["br-*"]) == []


@pytest.mark.parametrize(
    "name",
    ["docker0", "virbr0", "lxcbr0", "br-3f2a", "vethb1c2d3", "cni0", "flannel.1", "cali12ab",
     "tailscale0", "ztabcdef12", "wg0", "tun0"],
)  # fmt: skip
def test_what_containers_and_vpns_make_takes_no_part_by_default(name):
    made = interface(9, name, "192.168.9.1/24")
    assert names([ETH0, made], ["*"], model.DEFAULT_EXCLUDE) == ["eth0"]
    assert names([ETH0, made], ["*", name], model.DEFAULT_EXCLUDE) == ["eth0", name]


def test_cards_and_modems_take_part_by_default():
    ordinary = ["eth0", "enp3s0", "eno1", "wlan0", "wlp2s0", "wwan0", "usb0", "ppp0", "br0",
                "bond0", "team0", "eth0.100", "host0", "net0", "vlan7", "end0"]  # fmt: skip
    made = [interface(n, name, f"192.168.{n}.1/24") for n, name in enumerate(ordinary, 30)]
    assert names(made, ["*"], model.DEFAULT_EXCLUDE) == ordinary


def test_loopback_and_own_device_never_take_part():
    interfaces = [
        interface(1, "lo", "127.0.0.1/8", loopback=True),
        interface(9, "ropeway0", "10.0.0.1/24", ethernet=False),
        interface(20, "renamed", "10.0.0.1/24", ethernet=False),
    ]
    assert names(interfaces, ["*", "lo", "ropeway0", "renamed"]) == []
    assert reasons(interfaces) == {"lo": "is the loopback"}


def test_device_of_another_network_never_takes_part():
    other = interface(21, "ropeway1", "10.1.0.1/24", kind="tun", alias="ropeway", ethernet=False)
    foreign = interface(22, "tun0", "10.2.0.1/24", kind="tun", ethernet=False)
    assert names([other, foreign], ["*", "ropeway1"]) == ["tun0"]
    assert reasons([other, foreign]) == {"ropeway1": "is the device of another virtual network"}


def test_interface_without_address():
    assert names([interface(2, "eth0")]) == ["eth0"]
    interfaces = [
        interface(2, "eth0", admin_up=False),
        interface(3, "port", master=9),
        interface(4, "sit0", ethernet=False),
    ]
    assert names(interfaces) == []
    assert reasons(interfaces) == {
        "eth0": "is down and has no address",
        "port": "is a port of another interface and has no address",
        "sit0": "has no address",
    }


def test_interface_without_carrier_stays_a_link():
    links, _ = select([interface(2, "eth0", "192.168.0.1/24", up=False)])
    assert [(link.name, link.up) for link in links] == [("eth0", False)]


def test_interfaces_with_only_ipv6_take_part_on_secure_networks():
    there = {"addresses6": ("2001:db8::1/64",)}
    plain = interface(4, "eth2", ethernet=False, **there)
    assert select([plain])[0] == []
    ((link,), _) = select([plain], ipv6=True)
    assert link.addresses6 == ("2001:db8::1/64",)
    ((link,), _) = select([dataclasses.replace(ETH1, **there)])
    assert link.addresses6 == ()


STACKED = "sends its packets through ropeway0, a virtual network"


class TestStacked:
    """What sends its packets through the device of an agent is no link, whatever it is called."""

    def left_out(self, *interfaces):
        wanted = ["*", *(one.name for one in interfaces)]
        found = reasons([ETH0, *interfaces, DEVICE], wanted)
        return sorted(name for name, reason in found.items() if reason == STACKED)

    def test_tunnel_between_virtual_addresses(self):
        assert self.left_out(
            interface(30, "vx0", "172.16.0.1/24", kind="vxlan", tunnel_ends=("10.0.0.2",)),
            interface(31, "gre1", "172.17.0.1/24", kind="gre",
                      tunnel_ends=("10.0.0.1", "203.0.113.5")),
            interface(32, "gre2", "172.18.0.1/24", kind="gre", tunnel_ends=("203.0.113.5",)),
        ) == ["gre1", "vx0"]  # fmt: skip

    def test_chain_of_any_depth(self):
        chain = [interface(30, "vx0", kind="vxlan", below=(20,), master=31)]
        for index in range(31, 60, 2):
            chain += [
                interface(index, f"br{index}", f"172.16.{index}.1/24", kind="bridge"),
                interface(
                    index + 1, f"vlan{index}", f"172.17.{index}.1/24", kind="vlan", below=(index,),
                    master=index + 2 if index < 59 else 0,
                ),
            ]  # fmt: skip
        assert len(self.left_out(*chain)) == len(chain)
        assert len(self.left_out(*reversed(chain))) == len(chain)

    def test_loop_of_interfaces_ends(self):
        assert self.left_out(
            interface(30, "a", "172.16.0.1/24", below=(31,), master=32),
            interface(31, "b", "172.16.1.1/24", below=(30, 31)),
            interface(32, "br", "172.16.2.1/24", below=(30, 20), kind="bridge"),
        ) == ["br"]
        assert self.left_out(
            interface(30, "a", "172.16.0.1/24", below=(31,)),
            interface(31, "b", "172.16.1.1/24", below=(30, 20)),
        ) == ["a", "b"]

    def test_bridge_with_a_stacked_port_and_what_is_plugged_into_it(self):
        assert self.left_out(
            interface(30, "vx0", kind="vxlan", below=(20,), master=31),
            interface(31, "br0", "172.16.0.1/24", kind="bridge"),
            interface(32, "in", kind="veth", below=(33,), master=31),
            interface(33, "out", "172.16.0.2/24", kind="veth", below=(32,)),
            interface(34, "alone", "172.18.0.2/24", kind="veth", below=(35,)),
            interface(35, "other", "172.18.0.3/24", kind="veth", below=(34,)),
        ) == ["br0", "out", "vx0"]

    def test_routing_domain_holds_stacked_and_other_interfaces(self):
        assert self.left_out(
            interface(30, "vx0", "172.16.0.1/24", kind="vxlan", below=(20,), master=31),
            interface(31, "blue", "172.17.0.1/24", kind="vrf"),
            interface(32, "eth5", "172.18.0.1/24", master=31),
        ) == ["vx0"]

    def test_device_of_another_agent_and_what_is_stacked_on_it(self):
        other = interface(21, "rw1", "10.1.0.1/24", kind="tun", alias="ropeway", ethernet=False)
        tunnel = interface(30, "vx0", "172.16.0.1/24", kind="vxlan", tunnel_ends=("10.1.0.9",))
        assert reasons([ETH0, other, tunnel]) == {
            "rw1": "is the device of another virtual network",
            "vx0": "sends its packets through rw1, a virtual network",
        }

    def test_own_device_counts_before_it_has_its_address(self):
        bare = dataclasses.replace(DEVICE, addresses=(), alias=None)
        tunnel = interface(30, "vx0", "172.16.0.1/24", kind="vxlan", tunnel_ends=("10.0.0.2",))
        assert reasons([bare, tunnel]) == {"vx0": STACKED}

    def test_tunnel_whose_far_end_is_reached_through_the_device(self):
        tunnels = [
            interface(30, "gre1", "172.16.0.1/24", kind="gre", tunnel_ends=("192.168.50.7",)),
            interface(31, "gre2", "172.17.0.1/24", kind="gre", tunnel_ends=("172.16.0.9",)),
            interface(32, "gre3", "172.18.0.1/24", kind="gre", tunnel_ends=("203.0.113.5",)),
        ]
        ways = {"192.168.50.7": 20, "172.16.0.9": 30, "203.0.113.5": 2}
        links, left_out = select([ETH0, *tunnels, DEVICE], ways=ways)
        assert [link.name for link in links] == ["eth0", "gre3"]
        assert {one.name: one.reason for one in left_out} == {"gre1": STACKED, "gre2": STACKED}

    def test_look_ups_are_bounded(self):
        tunnels = [
            interface(n, f"gre{n}", kind="gre", tunnel_ends=(f"192.0.2.{n}", f"198.51.100.{n}"))
            for n in range(30, 200)
        ]
        asked = []
        rules = selection.Rules(["*"], [], "ropeway0", 20, "10.0.0.0/24", True)
        selection.select(tunnels, rules, lambda address: asked.append(address) or 0)
        assert len(asked) == selection.TUNNEL_ENDS_MAX

    def test_device_that_is_not_there_has_nothing_stacked_on_it(self):
        rules = selection.Rules(["*"], [], "ropeway0", 0, "10.0.0.0/24", True)
        tunnel = interface(30, "gre1", "172.16.0.1/24", kind="gre", tunnel_ends=("203.0.113.5",))
        links, _ = selection.select([tunnel], rules, lambda address: 0)
        assert [link.name for link in links] == ["gre1"]

    def test_tunnel_over_a_link_is_a_link(self):
        assert self.left_out(
            interface(30, "vx0", "172.16.0.1/24", kind="vxlan", below=(2,),
                      tunnel_ends=("192.168.0.9",)),
            interface(31, "eth0.7", "172.17.0.1/24", kind="vlan", below=(2,)),
        ) == []  # fmt: skip


class TestNamedAddresses:
    """Addresses that every link gets, wherever they live."""

    LO = interface(1, "lo", "127.0.0.1/8", "203.0.113.7/32", loopback=True, ethernet=False,
                   addresses6=("2001:db8:9::7/128",))  # fmt: skip
    NAMED = ("203.0.113.7", "2001:db8:9::7")

    def addresses(self, *interfaces, named=NAMED):
        links = select([self.LO, *interfaces], ipv6=True, named=named)[0]
        return {link.name: (link.addresses, link.addresses6) for link in links}

    def test_every_link_gets_those_that_are_there(self):
        eth0 = interface(2, "eth0", "192.168.0.1/24", "192.168.9.1/24",
                         addresses6=("2001:db8::1/64",))  # fmt: skip
        assert self.addresses(eth0, ETH1) == {
            "eth0": (("192.168.0.1/24", "203.0.113.7/32", "192.168.9.1/24"),
                     ("2001:db8::1/64", "2001:db8:9::7/128")),
            "eth1": (("192.168.1.1/24", "203.0.113.7/32"), ("2001:db8:9::7/128",)),
        }  # fmt: skip
        assert self.addresses(ETH1, named=("198.51.100.1",)) == {"eth1": (("192.168.1.1/24",), ())}
        assert self.addresses(ETH1, named=()) == {"eth1": (("192.168.1.1/24",), ())}

    def test_link_keeps_the_prefix_of_its_own(self):
        assert self.addresses(ETH0, ETH1, named=("192.168.0.1",)) == {
            "eth0": (("192.168.0.1/24",), ()),
            "eth1": (("192.168.1.1/24", "192.168.0.1/32"), ()),
        }

    def test_interface_without_an_address_of_its_own_takes_part(self):
        ppp0 = interface(5, "ppp0", ethernet=False)
        port = interface(6, "eth6", master=7)
        assert self.addresses(ppp0, port) == {"ppp0": (("203.0.113.7/32",), ("2001:db8:9::7/128",))}
        assert self.addresses(ppp0, named=("198.51.100.1",)) == {}
