"""From which address each link reaches a far one, by the routes and by what the kernel prefers."""

import dataclasses

from ropeway.app import route_lookup
from ropeway.app.route_lookup import RouteLookup
from ropeway.core.link import Link
from tests.unit.app.fake_kernel import interface

LINK = Link(
    2, "eth0", ("192.168.0.2/24", "10.9.0.1/16"), 1500, True, ("2001:db8::2/64", "fd00::2/64")
)
ROUTES = ("172.16.0.0/12", "192.168.0.0/24")
ROUTES6 = ("2001:db8::/64", "2001:db8:1::/48", "fe80::/64")


def sources(*far, link=LINK, routes=ROUTES, routes6=ROUTES6, preferred=None):
    lookup = RouteLookup(lambda _name, address: (preferred or {}).get(address))
    there = interface(link.index, link.name, *link.addresses, routes=routes)
    lookup.set_interfaces([dataclasses.replace(there, routes6=routes6)])
    (made,) = lookup.complete([link], far)
    assert made.looked_up == set(far)
    return dict(made.sources)


def test_own_prefix_is_preferred():
    assert sources("192.168.0.3", "10.9.7.7", "2001:db8::3", "fd00::3") == {
        "192.168.0.3": "192.168.0.2",
        "10.9.7.7": "10.9.0.1",
        "2001:db8::3": "2001:db8::2",
        "fd00::3": "fd00::2",
    }


def test_route_takes_the_first_address():
    assert sources("172.20.0.1", "2001:db8:1:5::1") == {
        "172.20.0.1": "192.168.0.2",
        "2001:db8:1:5::1": "2001:db8::2",
    }


def test_a_default_route_counts_as_a_route():
    assert sources("203.0.113.1", routes=("0.0.0.0/0",)) == {"203.0.113.1": "192.168.0.2"}


def test_no_route_and_no_address():
    assert sources("203.0.113.1", "2001:db8:2::1") == {}
    without = Link(3, "eth1", (), 1500, True)
    assert sources("192.168.0.3", "2001:db8::3", link=without, routes=("0.0.0.0/0",)) == {}


def test_one_family_is_no_way_to_the_other():
    only6 = Link(4, "eth2", (), 1500, True, ("2001:db8::2/64",))
    found = sources("192.168.0.3", "2001:db8:9::1", link=only6, routes=(), routes6=("::/0",))
    assert found == {"2001:db8:9::1": "2001:db8::2"}


def test_what_the_kernel_prefers_is_taken_if_the_link_has_it_and_a_route():
    told = {"172.20.0.1": "10.9.0.1", "2001:db8:1:5::1": "fd00::2", "203.0.113.1": "10.9.0.1"}
    assert sources(*told, "172.20.0.2", preferred={**told, "172.20.0.2": "10.7.7.7"}) == {
        "172.20.0.1": "10.9.0.1",
        "2001:db8:1:5::1": "fd00::2",
        "172.20.0.2": "192.168.0.2",
    }


def test_an_address_is_looked_up_once_for_each_dump():
    asked = []
    lookup = RouteLookup(lambda name, far: asked.append((name, far)))
    for _ in range(2):
        lookup.set_interfaces([interface(2, "eth0", *LINK.addresses, routes=ROUTES)])
        for far in (("172.20.0.1",), ("172.20.0.1", "172.20.0.2")):
            lookup.complete([LINK], far)
    assert asked == 2 * [("eth0", "172.20.0.1"), ("eth0", "172.20.0.2")]


def test_more_addresses_than_the_kernel_is_asked_about_follow_from_the_routes(monkeypatch):
    monkeypatch.setattr(route_lookup, "ASKED_MAX", 1)
    monkeypatch.setattr(route_lookup, "FAR_MAX", 2)
    lookup = RouteLookup(lambda _name, _far: "10.9.0.1")
    lookup.set_interfaces([interface(2, "eth0", *LINK.addresses, routes=ROUTES)])
    (made,) = lookup.complete([LINK], ["172.20.0.1", "172.20.0.2", "172.20.0.3"])
    assert made.sources == {"172.20.0.1": "10.9.0.1", "172.20.0.2": "192.168.0.2"}
    assert not made.has_no_route("172.20.0.3")


def test_a_route_among_a_hundred_thousand_is_found_with_few_looks(monkeypatch):
    routes = tuple(f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/25" for n in range(1 << 16, 165_536))
    looks = []
    network = route_lookup._network4
    monkeypatch.setattr(route_lookup, "_network4", lambda text: looks.append(text) or network(text))
    there = ("1.2.3.4", "1.0.0.0", "2.134.159.127")
    without = ("0.255.255.255", "1.2.3.128", "2.134.159.128", "223.1.1.1")
    assert sources(*there, *without, routes=routes) == dict.fromkeys(there, "192.168.0.2")
    assert len(looks) <= 7 * 20
