"""The kernel's routes to networks behind other hosts."""

from __future__ import annotations

import errno

import pytest

from ropeway.steward import findings, sysctl
from ropeway.steward.interface import Interface
from ropeway.steward.learnt_routes import LearntRoutes
from ropeway.steward.netlink import learnt

LAN, OTHER = "192.168.80.0/24", "192.168.90.0/24"


def interface(index, name, *addresses, **keys):
    about = {
        "mtu": 1440, "up": True, "admin_up": True, "loopback": False, "ethernet": True,
        "master": 0, "kind": None, "alias": None, **keys,
    }  # fmt: skip
    return Interface(index, name, addresses, **about)


DEVICE = interface(7, "ropeway0", "10.0.0.1/24")
ETH0 = interface(2, "eth0", "192.168.0.2/24")


@pytest.fixture
def table(monkeypatch):
    """The routes that there are, by the device."""
    there = set()
    monkeypatch.setattr(learnt, "look", lambda _index: frozenset(there))
    monkeypatch.setattr(learnt, "add", lambda _index, network, _source: there.add(network))
    monkeypatch.setattr(learnt, "remove", lambda _index, network: there.discard(network))
    return there


def follow(routes, *wanted, device=DEVICE, far=("192.168.0.3",), others=(ETH0,)):
    routes.follow(device, "10.0.0.1", wanted, far, others)


def test_routes_are_made_followed_and_put_back(table):
    routes = LearntRoutes()
    follow(routes, LAN, OTHER)
    assert table == {LAN, OTHER}
    follow(routes, LAN)
    assert table == {LAN}
    table.clear()
    follow(routes, LAN)
    assert table == {LAN}
    routes.close()
    assert table == set()
    assert routes.faults == ()


@pytest.mark.parametrize(
    "device", [None, interface(7, "ropeway0", admin_up=False), interface(7, "ropeway0", master=9)]
)
def test_without_a_device_to_lead_to_nothing_is_made(table, device):
    follow(LearntRoutes(), LAN, device=device)
    assert table == set()


@pytest.mark.parametrize("network", ["192.168.0.0/24", "192.168.0.128/25"])
def test_a_network_that_is_a_lan_of_this_host_gets_no_route(table, network):
    routes = LearntRoutes()
    follow(routes, network, LAN)
    assert table == {LAN}
    (sentence,) = routes.faults
    assert network in sentence
    assert "eth0" in sentence


def test_a_network_with_the_real_address_of_a_host_gets_no_route(table):
    routes = LearntRoutes()
    follow(routes, "172.16.0.0/12", LAN, far=("172.16.5.5", "2001:db8::1"))
    assert table == {LAN}
    (sentence,) = routes.faults
    assert "172.16.5.5" in sentence
    # In a LAN of this host, that one's own route is the better one.
    follow(routes, "192.168.0.0/16", far=("192.168.0.3",))
    assert table == {"192.168.0.0/16"}
    assert routes.faults == ()


def test_what_the_kernel_refuses_is_said(table, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    routes = LearntRoutes()
    monkeypatch.setattr(learnt, "add", refuse)
    follow(routes, LAN)
    (sentence,) = routes.faults
    assert "Operation not permitted" in sentence


def test_a_host_that_passes_nothing_on_says_so_where_it_announces(tmp_path, monkeypatch):
    monkeypatch.setattr(sysctl, "SYSCTLS", str(tmp_path))
    (tmp_path / "all").mkdir()
    forwarding = tmp_path / "all" / "forwarding"
    forwarding.write_text("0\n")
    (sentence,) = findings.forwarding_sentences([LAN])
    assert LAN in sentence
    assert findings.forwarding_sentences([]) == []
    forwarding.write_text("1\n")
    assert findings.forwarding_sentences([LAN]) == []
