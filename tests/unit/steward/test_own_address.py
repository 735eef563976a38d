"""This host's own address in the place of another host's: named before it is used, and left out."""

from __future__ import annotations

import pytest

from ropeway.app import cli
from ropeway.app.store import keys
from ropeway.steward import own_address
from ropeway.steward.netlink import interfaces
from tests.unit.app.fake_kernel import interface

ETH0 = interface(2, "eth0", "192.168.0.2/24", "10.9.0.1/8")
ETH1 = interface(3, "eth1", "192.168.1.2/24", addresses6=("2001:db8::2/64",))
SECURE = """network: 10.0.0.0/24
address: 10.0.0.1
peers:
  - host: 10.0.0.2
    public_key: {}
    addresses: [{}]
"""
CLASSIC = """encapsulation: classic
network: 10.0.0.0/24
address: 10.0.0.1
peers:
  - host: 10.0.0.2
    addresses: [{}]
"""


@pytest.fixture
def check(tmp_path, capsys, monkeypatch):
    """Give what `ropeway check-config` returns and says of addresses of host 10.0.0.2."""
    key = tmp_path / "private.key"
    keys.make_private(str(key))
    public = keys.encode(keys.public_of(bytes([7]) * 32))
    monkeypatch.setattr(keys, "service_user", lambda: None)
    monkeypatch.setattr(interfaces, "interfaces", lambda ipv6: [ETH0, ETH1])

    def checked(text, *options):
        path = tmp_path / "r.yaml"
        if text.startswith("network"):
            text += f"port: 51999\nprivate_key_file: {key}\n"
        path.write_text(text)
        code = cli.main(["check-config", *options, str(path)])
        return code, capsys.readouterr().err.replace(f"{path}: ", "")

    checked.public = public
    return checked


@pytest.mark.parametrize(
    ("address", "named", "place"),
    [
        ("192.168.0.2", "192.168.0.2", "eth0(2)"),
        ("10.9.0.1:4000", "10.9.0.1", "eth0(2)"),
        ("2001:db8::2", "2001:db8::2", "eth1(3)"),
    ],
)
def test_a_host_with_no_address_but_this_hosts_own_is_refused(check, address, named, place):
    assert check(SECURE.format(check.public, f'"{address}"')) == (
        1,
        f"peers: {named} of host 10.0.0.2 is an address of this host, at {place}, and no other"
        " address is named, so that host is never called: write one of its own\n",
    )


def test_an_own_address_beside_another_one_is_told_and_accepted(check):
    told = (
        "peers: 192.168.1.2 of host 10.0.0.2 is an address of this host, at eth1(3), and is left"
        " out: write one of that host's own\n"
    )
    assert check(SECURE.format(check.public, "192.168.1.3, 192.168.1.2")) == (0, told)
    assert check(CLASSIC.format("192.168.1.3, 192.168.1.2")) == (0, told)


def test_on_a_classic_network_it_is_refused_too(check):
    code, said = check(CLASSIC.format("192.168.0.2"))
    assert code == 1
    assert "192.168.0.2 of host 10.0.0.2 is an address of this host, at eth0(2)" in said


def test_what_is_checked_for_another_host_is_not_compared_with_this_one(check):
    assert check(SECURE.format(check.public, "192.168.0.2"), "--without-keys") == (0, "")


def test_other_hosts_addresses_are_accepted(check):
    assert check(SECURE.format(check.public, "192.168.0.3, 192.168.1.22")) == (0, "")


def test_interfaces_that_cannot_be_listed_prevent_nothing(check, monkeypatch):
    def refuse(ipv6):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(interfaces, "interfaces", refuse)
    assert check(SECURE.format(check.public, "192.168.0.2")) == (0, "")


def test_each_address_is_named_once():
    found = own_address.find(
        {"10.0.0.2": ("192.168.0.2", "192.168.0.2"), "10.0.0.3": ()},
        [ETH0],
    )
    assert [(one.host, one.address, one.only) for one in found] == [
        ("10.0.0.2", "192.168.0.2", True)
    ]
