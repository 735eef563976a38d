"""From which address a link reaches another one, for either family."""

from dataclasses import replace

from ropeway.core.link import Link

SOURCES = {"192.168.0.3": "192.168.0.2", "172.20.0.1": "10.9.0.1", "2001:db8:1:5::1": "fd00::2"}
LINK = Link(
    2, "eth0", ("192.168.0.2/24", "10.9.0.1/16"), 1500, True, ("2001:db8::2/64", "fd00::2/64"),
    SOURCES, frozenset((*SOURCES, "203.0.113.1")),
)  # fmt: skip


def test_the_source_that_was_looked_up_is_taken():
    assert {far: LINK.source_for(far) for far in SOURCES} == SOURCES
    assert not any(LINK.has_no_route(far) for far in SOURCES)


def test_an_address_that_was_looked_up_without_a_source_has_no_route():
    assert LINK.source_for("203.0.113.1") is None
    assert LINK.has_no_route("203.0.113.1")


def test_of_an_address_that_was_not_looked_up_nothing_is_known():
    assert LINK.source_for("192.168.0.4") is None
    assert not LINK.has_no_route("192.168.0.4")


def test_a_source_that_the_link_has_not_gives_way_to_one_of_its_own():
    sources = {"192.168.0.9": "10.7.7.7", "172.20.0.1": "10.7.7.7", "fd00::9": "2001:db8::9"}
    link = replace(LINK, sources=sources)
    assert link.source_for("192.168.0.9") == "192.168.0.2"
    assert link.source_for("172.20.0.1") == "192.168.0.2"
    assert link.source_for("fd00::9") == "fd00::2"
    assert replace(link, addresses=()).source_for("172.20.0.1") is None
