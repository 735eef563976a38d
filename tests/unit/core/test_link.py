"""From which address a link reaches another one, for either family."""

from dataclasses import replace

from ropeway.core import link as link_module
from ropeway.core.link import Link

LINK = Link(
    2, "eth0", ("192.168.0.2/24", "10.9.0.1/16"), 1500, True, ("172.16.0.0/12", "192.168.0.0/24"),
    ("2001:db8::2/64", "fd00::2/64"), ("2001:db8::/64", "2001:db8:1::/48", "fe80::/64"),
)  # fmt: skip


def test_own_prefix_is_preferred():
    assert LINK.source_for("192.168.0.3") == "192.168.0.2"
    assert LINK.source_for("10.9.7.7") == "10.9.0.1"
    assert LINK.source_for("2001:db8::3") == "2001:db8::2"
    assert LINK.source_for("fd00::3") == "fd00::2"


def test_route_takes_the_first_address():
    assert LINK.source_for("172.20.0.1") == "192.168.0.2"
    assert LINK.source_for("2001:db8:1:5::1") == "2001:db8::2"


def test_no_route_and_no_address():
    assert LINK.source_for("203.0.113.1") is None
    assert LINK.source_for("2001:db8:2::1") is None
    without = Link(3, "eth1", (), 1500, True, ("0.0.0.0/0",), (), ("::/0",))
    assert without.source_for("192.168.0.3") is None
    assert without.source_for("2001:db8::3") is None


def test_one_family_is_no_way_to_the_other():
    only6 = Link(4, "eth2", (), 1500, True, (), ("2001:db8::2/64",), ("::/0",))
    assert only6.source_for("192.168.0.3") is None
    assert only6.source_for("2001:db8:9::1") == "2001:db8::2"


def test_what_the_kernel_prefers_is_taken_if_the_link_has_it_and_a_route():
    told = {"172.20.0.1": "10.9.0.1", "2001:db8:1:5::1": "fd00::2", "203.0.113.1": "10.9.0.1"}
    link = replace(LINK, sources={**told, "172.20.0.2": "10.7.7.7"})
    assert link.source_for("172.20.0.1") == "10.9.0.1"
    assert link.source_for("2001:db8:1:5::1") == "fd00::2"
    assert link.source_for("172.20.0.2") == "192.168.0.2"
    assert link.source_for("203.0.113.1") is None


def test_a_route_among_a_hundred_thousand_is_found_with_few_looks(monkeypatch):
    routes = tuple(f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/25" for n in range(1 << 16, 165_536))
    looks = []
    network = link_module._network4
    monkeypatch.setattr(link_module, "_network4", lambda text: looks.append(text) or network(text))
    many = Link(2, "eth0", ("192.168.0.2/24",), 1500, True, routes)
    assert many.source_for("1.2.3.4") == "192.168.0.2"
    assert many.source_for("1.0.0.0") == many.source_for("2.134.159.127") == "192.168.0.2"
    for without in ("0.255.255.255", "1.2.3.128", "2.134.159.128", "223.1.1.1"):
        assert many.source_for(without) is None
    assert len(looks) <= 7 * 20
