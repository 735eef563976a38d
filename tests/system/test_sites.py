"""Networks behind hosts: site to site through the router."""

from __future__ import annotations

import os
import signal

import pytest

from tests.system.bed.agents import DEVICE, Agent
from tests.system.bed.stage import Triple
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import assert_whole, ping

LAN_0, LAN_2 = "192.168.70.0/24", "192.168.80.0/24"
#: What a person sees of a change at once.
FOLLOW_S = 3.0
PROTOCOL = "167"
INTERFACES = {"exclude": ["lan*"]}


class Sites(Triple):
    """The lab's three hosts, and a machine in a LAN behind vm0 and one behind vm2."""

    def __init__(self, triple: Triple) -> None:
        self.__dict__.update(triple.__dict__)
        self.left = self._behind(self.vm0, "left", LAN_0)
        self.right = self._behind(self.vm2, "right", LAN_2)

    def _behind(self, host: Host, name: str, network: str) -> Host:
        """Add a machine to a LAN behind a host, which is its gateway."""
        self.topology.add_lan(name)
        machine = self.topology.host(name)
        machine.connect(name, "eth0", network.replace("0/24", "9/24"))
        host.connect(name, "lan0", network.replace("0/24", "1/24"))
        # It is none of those that lead to the router.
        del host.ports[name]
        machine.ip("route", "add", "default", "via", network.replace("0/24", "1"))
        host.sysctl("net/ipv4/ip_forward", 1)
        return machine

    def begin(self) -> tuple[Agent, Agent, Agent]:
        """Start the agents, with two lines of configuration for each LAN."""
        router = self.router()
        router.entry(self.addresses["vm0"])["allowed"] = [LAN_0]
        router.entry(self.addresses["vm2"])["allowed"] = [LAN_2]
        router.start()
        vm0 = self.client("vm0", announce=[LAN_0], interfaces=INTERFACES).start()
        vm2 = self.client("vm2", announce=[LAN_2], interfaces=INTERFACES).start()
        for client in (vm0, vm2):
            self.wait_whole(client, router)
        until(lambda: LAN_2 in routes(self.vm0), FOLLOW_S, "vm0 has a route to the LAN of vm2")
        until(lambda: LAN_0 in routes(self.vm2), FOLLOW_S, "vm2 has a route to the LAN of vm0")
        return vm0, router, vm2


@pytest.fixture
def sites(triple: Triple) -> Sites:
    return Sites(triple)


def routes(host: Host) -> list[str]:
    """Return where the kernel's routes lead that the agent has made by its device."""
    found = host.ip_json("route", "show", "proto", PROTOCOL)
    return [route["dst"] for route in found if route["dev"] == DEVICE]


def test_a_lan_behind_one_client_reaches_a_lan_behind_another(sites: Sites) -> None:
    vm0, router, vm2 = sites.begin()
    for host, address in (
        (sites.left, "192.168.80.9"),
        (sites.right, "192.168.70.9"),
        # A client itself comes from its virtual address.
        (sites.vm0, "192.168.80.9"),
    ):
        assert_whole({host.name: ping(host, address, 20, 0.01)})
    (route,) = vm0.status()["routes"]["learnt"]
    assert (route["prefix"], route["origin"]) == (LAN_2, vm2.address)
    assert route["next_hops"] == [router.address]
    tree = vm0.cli("status", "--control", str(vm0.control_path)).stdout
    assert f"{LAN_2} of {vm2.address} by {router.address}" in tree


def test_a_withdrawal_is_followed_and_nothing_else_is_touched(sites: Sites) -> None:
    vm0, _, vm2 = sites.begin()
    sites.vm0.ip("route", "add", "192.168.90.0/24", "dev", DEVICE)
    vm2.config["announce"] = []
    assert vm2.reload().returncode == 0
    until(lambda: routes(sites.vm0) == [], FOLLOW_S, "the route is gone")
    assert sites.vm0.ip_json("route", "show", "192.168.90.0/24")
    vm2.config["announce"] = [LAN_2]
    assert vm2.reload().returncode == 0
    until(lambda: routes(sites.vm0) == [LAN_2], FOLLOW_S, "the route is back")
    vm0.kill()
    until(lambda: routes(sites.vm0) == [], FOLLOW_S, "the route went with the device")


def test_a_route_that_somebody_takes_away_is_put_back(sites: Sites) -> None:
    sites.begin()
    sites.vm0.ip("route", "del", LAN_2, "dev", DEVICE)
    until(lambda: routes(sites.vm0) == [LAN_2], FOLLOW_S, "the route is back")


def test_another_steward_keeps_the_routes(sites: Sites) -> None:
    vm0, _, vm2 = sites.begin()
    restarts = vm0.status()["steward"]["restarts"]
    os.kill(vm0.steward_pid, signal.SIGKILL)
    until(
        lambda: vm0.status()["steward"]["restarts"] > restarts, FOLLOW_S, "another steward serves"
    )
    assert routes(sites.vm0) == [LAN_2]
    vm2.config["announce"] = []
    assert vm2.reload().returncode == 0
    until(lambda: routes(sites.vm0) == [], FOLLOW_S, "the route is gone")


def test_without_forwarding_a_host_says_so(sites: Sites) -> None:
    vm0, _, _ = sites.begin()
    sites.vm0.sysctl("net/ipv4/ip_forward", 0)
    until(
        lambda: any("ip_forward is 0" in said for said in vm0.status()["warnings"]),
        2 * FOLLOW_S,
        "the status says that nothing is passed on",
    )
