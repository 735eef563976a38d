"""Hosts that are known by name: a name server of the distribution says where they are."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.name_server import DOMAIN, NameServer
from tests.system.bed.stage import Pair, Stage, TwoFamilies
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import assert_whole, both_ways

ROUTER = f"router.{DOMAIN}"
DISCARD_PORT = 9
A, B = "10.0.0.1", "10.0.0.2"
#: The second LAN and its hosts, as in the lab.
FIRST, SECOND = ("192.168.0.2", "192.168.0.3"), ("192.168.1.2", "192.168.1.3")
BOTH = [FIRST[1], SECOND[1]]
#: The longest pause of a name that does not resolve begins at 1 s; a few of them.
SOON_S = 20.0
#: A link that goes is noticed within this, whatever names do.
AT_ONCE_S = 3.0


class Named(Pair):
    """vm0 knows vm1 by its name, and asks the name server on vm2, which is on the first LAN."""

    server_address = "192.168.0.53"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        vm2 = self.topology.host("vm2")
        vm2.connect("net0", "eth0", f"{self.server_address}/24", index=22)
        self.server = NameServer(vm2, stage.directory, self.server_address)
        stage.process(self.server)
        self.a.ask_names_of(self.server_address)
        self.named = stage.agent(self.a, A).peer(B, ROUTER)
        self.far = self.b_agent()


@pytest.fixture
def named(stage: Stage) -> Named:
    return Named(stage)


def addresses(agent: Agent) -> list[str]:
    """Return what the name of the other host leads to."""
    (name,) = agent.peer_status(B)["names"]
    return list(name["addresses"])


def wait_resolved(agent: Agent, records: list[str]) -> None:
    until(lambda: addresses(agent) == records, SOON_S, lambda: f"{records}, {addresses(agent)}")


def speak(host: Host) -> None:
    """Send vm1 a packet: a host that has lost a session is asked for another when data flows."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (B, DISCARD_PORT))


def warnings(agent: Agent) -> list[str]:
    return [text for text in agent.status()["warnings"] if DOMAIN in text]


def test_a_host_is_called_at_every_address_of_its_name(named: Named) -> None:
    named.server.start().set_records({"router": [SECOND[1], FIRST[1]]})
    named.far.start()
    named.named.start()
    named.wait_whole(named.named, named.far)
    status = named.named.peer_status(B)
    assert status["names"] == [{"name": ROUTER, "port": 51840, "addresses": BOTH}]
    assert sorted(status["endpoints"]) == [f"{FIRST[1]}:51840", f"{SECOND[1]}:51840"]
    assert {c["origin"] for c in status["connections"]} == {"configured"}
    tree = named.named.cli("status", "--control", str(named.named.control_path)).stdout
    assert f"    - {ROUTER}:51840 is {FIRST[1]}, {SECOND[1]}\n" in tree


def test_a_host_that_moved_is_found_once_its_record_says_where(named: Named) -> None:
    named.server.start().set_records({"router": BOTH})
    named.far.start()
    named.named.start()
    named.wait_whole(named.named, named.far)
    named.far.kill_whole()
    for port, address in zip(named.b.ports.values(), ("192.168.0.33/24", "192.168.1.33/24")):
        port.change_address(address)
    for kept in named.far.state_path.iterdir():
        kept.unlink()
    moved = ["192.168.0.33", "192.168.1.33"]
    named.server.set_records({"router": moved})
    named.far.start()
    links = set(named.links())
    until(lambda: speak(named.a) or named.named.carrying(B) == links, SOON_S, "vm1 is found")
    named.wait_whole(named.named, named.far)
    assert addresses(named.named) == moved


def test_another_record_cuts_no_connection_that_works(named: Named) -> None:
    named.server.start().set_records({"router": BOTH})
    named.named.tuning["ropeway.steward.names:RESOLVE_EVERY_S"] = 0.5
    named.far.start()
    named.named.start()
    named.wait_whole(named.named, named.far)
    with both_ways(named.a, A, named.b, B) as verdicts:
        for records in ([SECOND[1]], ["192.168.0.99"], [FIRST[1]]):
            named.server.set_records({"router": records})
            wait_resolved(named.named, records)
            assert named.named.carrying(B) == set(named.links())
        named.server.set_records({})
        until(lambda: warnings(named.named), SOON_S, "the record is missed")
        assert named.named.carrying(B) == set(named.links())
    assert_whole(verdicts)
    assert addresses(named.named) == [FIRST[1]], "the last good answer"
    assert "its last addresses are kept" in warnings(named.named)[0]


def test_a_name_without_records_at_first_is_tried_again(named: Named) -> None:
    named.server.start()
    named.far.start()
    named.named.start()
    until(lambda: warnings(named.named), SOON_S, "it warns")
    assert warnings(named.named)[0].startswith(f"{ROUTER} does not resolve (")
    assert "waiting for one" in named.named.peer_status(B)["handshake"]
    tree = named.named.cli("status", "--control", str(named.named.control_path)).stdout
    assert f"    - {ROUTER}:51840 does not resolve\n" in tree
    named.server.set_records({"router": BOTH})
    named.wait_whole(named.named, named.far)
    assert warnings(named.named) == []


def test_a_name_server_that_is_off_delays_neither_start_nor_links(named: Named) -> None:
    named.far.start()
    named.named.start()
    until(lambda: warnings(named.named), SOON_S, "it warns")
    for _ in range(3):
        named.a.ports["net1"].unplug()
        until(lambda: _up(named.named) == [True, False], AT_ONCE_S, "the link's end is seen")
        named.a.ports["net1"].plug()
        until(lambda: _up(named.named) == [True, True], AT_ONCE_S, "the link is seen again")
    named.server.set_records({"router": BOTH})
    named.server.start()
    named.wait_whole(named.named, named.far)
    assert warnings(named.named) == []


def _up(agent: Agent) -> list[bool]:
    return [link["up"] for link in agent.status()["links"]]


def test_addresses_of_both_families_are_used(stage: Stage) -> None:
    pair = TwoFamilies(stage)
    server = NameServer(pair.b, stage.directory, "192.168.0.3")
    stage.process(server)
    server.start().set_records({"router": ["192.168.0.3", "2001:db8:1::3"]})
    pair.a.ask_names_of("192.168.0.3")
    caller = stage.agent(pair.a, A).peer(B, ROUTER)
    pair.b_agent().start()
    caller.start()
    caller.wait_carrying(B, ("192.168.0.2", "192.168.0.3"), ("2001:db8:1::2", "2001:db8:1::3"))
    assert addresses(caller) == ["192.168.0.3", "2001:db8:1::3"]


def test_a_name_resolves_over_another_link_where_the_preferred_one_is_dead(stage: Stage) -> None:
    pair = Pair(stage)
    far = "203.0.113.53"
    pair.b.ip("address", "add", f"{far}/32", "dev", "lo")
    for lan, gateway in enumerate((FIRST[1], SECOND[1])):
        pair.a.ip("route", "add", "default", "via", gateway, "metric", str(100 + lan))
    server = NameServer(pair.b, stage.directory, far)
    stage.process(server)
    server.start().set_records({"router": BOTH})
    pair.a.ask_names_of(far)
    pair.a.ports["net0"].block()
    caller = stage.agent(pair.a, A).peer(B, ROUTER)
    pair.b_agent().start()
    caller.start()
    caller.wait_carrying(B, SECOND)


def test_names_of_a_reloaded_configuration_count(named: Named) -> None:
    named.server.start().set_records({"other": BOTH})
    named.named.entry(B)["addresses"] = [f"absent.{DOMAIN}"]
    named.far.start()
    named.named.start()
    until(lambda: warnings(named.named), SOON_S, "it warns")
    named.named.entry(B)["addresses"] = [f"other.{DOMAIN}:51840"]
    assert named.named.reload().returncode == 0
    named.wait_whole(named.named, named.far)
    assert addresses(named.named) == BOTH
    assert warnings(named.named) == []


def test_another_steward_goes_on_resolving(named: Named) -> None:
    named.server.start().set_records({"router": BOTH})
    named.far.start()
    named.named.start()
    named.wait_whole(named.named, named.far)
    asked = named.server.queries("router")
    os.kill(named.named.steward_pid, signal.SIGKILL)
    until(lambda: named.server.queries("router") > asked, SOON_S, "it is asked for again")
    assert addresses(named.named) == BOTH
    assert named.named.carrying(B) == set(named.links())
