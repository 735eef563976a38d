"""From which address each link reaches a far one, by the kernel's look-ups."""

from ropeway.core.link import Link
from ropeway.steward import route_lookup
from ropeway.steward.route_lookup import RouteLookup

LINK = Link(
    2, "eth0", ("192.168.0.2/24", "10.9.0.1/16"), 1500, True, ("2001:db8::2/64", "fd00::2/64")
)
ANY = None
"""A route that says nothing of the source."""


def sources(*far, link=LINK, routes=(), preferred=None):
    """`routes` has far address and source, and what the route prefers, if it does."""
    known = dict(routes)

    def source_by(index, address, source):
        assert index == link.index
        return known[address, source] or source if (address, source) in known else None

    lookup = RouteLookup(source_by, lambda _name, address: (preferred or {}).get(address))
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


def test_first_address_that_has_a_route_is_taken():
    routes = {
        ("172.20.0.1", "192.168.0.2"): ANY,
        ("172.20.0.1", "10.9.0.1"): ANY,
        # As where each address has a routing table of its own.
        ("172.20.0.2", "10.9.0.1"): ANY,
        ("2001:db8:1:5::1", "fd00::2"): ANY,
    }
    assert sources("172.20.0.1", "172.20.0.2", "2001:db8:1:5::1", routes=routes) == {
        "172.20.0.1": "192.168.0.2",
        "172.20.0.2": "10.9.0.1",
        "2001:db8:1:5::1": "fd00::2",
    }


def test_source_that_the_route_names_goes_first():
    routes = {("172.20.0.1", "192.168.0.2"): "10.9.0.1", ("172.20.0.2", "192.168.0.2"): "10.7.7.7"}
    assert sources("172.20.0.1", "172.20.0.2", routes=routes) == {
        "172.20.0.1": "10.9.0.1",
        "172.20.0.2": "192.168.0.2",
    }


def test_no_route_and_no_address():
    assert sources("203.0.113.1", "2001:db8:2::1") == {}
    without = Link(3, "eth1", (), 1500, True)
    assert sources("192.168.0.3", "2001:db8::3", link=without) == {}


def test_what_the_kernel_prefers_is_taken_if_the_link_has_it_and_a_route():
    far = ("172.20.0.1", "203.0.113.1", "172.20.0.2")
    routes = {(address, source): ANY for address in far[::2] for source in ("192.168.0.2",)}
    routes["172.20.0.1", "10.9.0.1"] = ANY
    told = {"172.20.0.1": "10.9.0.1", "203.0.113.1": "10.9.0.1", "172.20.0.2": "10.7.7.7"}
    assert sources(*far, routes=routes, preferred=told) == {
        "172.20.0.1": "10.9.0.1",
        "172.20.0.2": "192.168.0.2",
    }


def test_an_address_is_looked_up_once_until_routes_change():
    asked = []
    only = Link(3, "eth1", ("192.168.1.2/24",), 1500, True)
    lookup = RouteLookup(lambda *what: asked.append(what), lambda _name, _far: None)
    for _ in range(2):
        lookup.forget()
        (link,) = lookup.complete([only], ["172.20.0.1"])
        lookup.complete([link], ["172.20.0.1", "172.20.0.2"])
    once = [(3, "172.20.0.1", "192.168.1.2"), (3, "172.20.0.2", "192.168.1.2")]
    assert asked == 2 * once


def test_what_takes_too_long_comes_with_the_next_call_and_old_answers_hold():
    now, there = [0.0], {"192.168.1.2"}

    def source_by(_index, _far, source):
        now[0] += route_lookup.SLICE_S / 2
        return source if source in there else None

    only = Link(3, "eth1", ("192.168.1.2/24",), 1500, True)
    lookup = RouteLookup(source_by, lambda _name, _far: None, lambda: now[0])
    far = ["172.20.0.1", "172.20.0.2", "172.20.0.3"]
    (made,) = lookup.complete([only], far)
    assert (set(made.looked_up), lookup.lacks) == ({"172.20.0.1", "172.20.0.2"}, True)
    (made,) = lookup.complete([only], far)
    assert (set(made.sources), lookup.lacks) == (set(far), False)
    lookup.forget()
    there.clear()
    (made,) = lookup.complete([only], far)
    assert (set(made.sources), lookup.lacks) == ({"172.20.0.3"}, True)
    (made,) = lookup.complete([only], far)
    assert (made.sources, lookup.lacks) == ({}, False)


def test_only_so_many_addresses_are_looked_up(monkeypatch):
    monkeypatch.setattr(route_lookup, "FAR_MAX", 2)
    lookup = RouteLookup(lambda _index, _far, source: source, lambda _name, _far: None)
    (made,) = lookup.complete([LINK], ["172.20.0.1", "172.20.0.2", "172.20.0.3"])
    assert made.looked_up == {"172.20.0.1", "172.20.0.2"}
    assert not made.has_no_route("172.20.0.3")
