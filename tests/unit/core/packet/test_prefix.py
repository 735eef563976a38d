"""Prefixes, and the longest of them."""

import ipaddress

import pytest

from ropeway.core.packet.prefix import Longest, Prefix, is_whole, of_host, parse


def packed(text):
    return ipaddress.ip_address(text).packed


def test_the_longest_prefix_that_has_an_address_counts():
    names = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "fd00::/8", "::/0")
    table = Longest((parse(name), name) for name in names)
    for address, name in (
        ("10.1.2.3", "10.1.2.0/24"),
        ("10.1.3.3", "10.1.0.0/16"),
        ("10.2.2.3", "10.0.0.0/8"),
        ("11.0.0.1", None),
        ("fd01::1", "fd00::/8"),
        ("2001:db8::1", "::/0"),
    ):
        assert table.get(packed(address)) == name
    assert table
    assert not Longest()
    assert Longest().get(packed("10.0.0.1")) is None


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.0.0.0/8", "10.0.0.0/8", True),
        ("10.1.0.0/16", "10.0.0.0/8", False),
        ("10.1.0.0/16", "10.2.0.0/16", False),
        ("0.0.0.0/0", "::/0", False),
        ("::/0", "0.0.0.0/0", False),
    ],
)
def test_a_prefix_covers_those_that_lie_in_it(one, other, covers):
    assert parse(one).covers(parse(other)) is covers
    assert str(parse(one)) == one


@pytest.mark.parametrize(
    "prefix", [Prefix(bytes(4), 33), Prefix(bytes(5), 8), Prefix(b"\n\0\0\1", 24), Prefix(b"", 0)]
)
def test_what_a_peer_names_may_be_no_prefix(prefix):
    assert not is_whole(prefix)


def test_a_host_has_a_prefix_of_its_own():
    assert str(of_host(packed("10.0.0.1"))) == "10.0.0.1/32"
    assert is_whole(of_host(packed("fd00::1")))
