"""A host with a hundred links: each has a connection, and packets take little longer for it."""

from __future__ import annotations

import time

import pytest

from tests.system.bed import pace
from tests.system.bed.agents import Agent
from tests.system.bed.stage import Stage
from tests.system.bed.topology import Host, Topology, until
from tests.system.bed.traffic import assert_whole, both_ways

pytestmark = [pytest.mark.alone, pytest.mark.rotates]

LINKS = 100
A, B = "10.0.0.1", "10.0.0.2"
CALLED = [f"192.168.0.{number}" for number in (1, 2, 3)]
LAN = "net0"
RATE = 200
STREAM_S = 15.0
START_S = 60.0
#: On a fast machine; one that is half as quick takes twice the time for the same.
P50_MS = 3.0
P99_MS = 30.0


def with_links(topology: Topology, name: str) -> Host:
    """Return a host with LINKS interfaces on one LAN."""
    host = topology.host(name)
    # Else the kernel answers for the address of each by whichever is asked.
    host.sysctl("net/ipv4/conf/all/arp_ignore", 1)
    host.sysctl("net/ipv4/conf/all/arp_announce", 2)
    for number in range(1, LINKS + 1):
        interface, port = f"eth{number}", f"{name}-{number}"
        host.cable(interface, topology.switch, port)
        topology.plug_in(port, LAN)
        host.add_address(interface, f"192.168.1.{number}/16")
        host.kernel.link("set", ifname=interface, state="up")
    return host


def met(agent: Agent, host: str) -> int:
    """Return how many of the host's connections are at state 2."""
    return sum(connection["state"] == 2 for connection in agent.connections(host))


def test_each_of_a_hundred_links_has_a_connection_and_packets_pass_quickly(
    stage: Stage,
) -> None:
    topology = stage.topology(LAN)
    many, other = with_links(topology, "vm0"), topology.host("vm1")
    port = other.connect(LAN, "eth0", f"{CALLED[0]}/16")
    for address in CALLED[1:]:
        other.add_address(port.interface, f"{address}/16")
    a = stage.agent(many, A).peer(B, *CALLED).start()
    b = stage.agent(other, B).peer(A).start()
    until(
        lambda: met(a, B) == met(b, A) == LINKS,
        START_S,
        lambda: f"all are met: {met(a, B)}, {met(b, A)} at the other end\n{a.log()}",
        every_s=0.5,
    )
    assert len({connection["link"] for connection in a.connections(B)}) == LINKS
    with both_ways(many, A, other, B, RATE) as verdicts:
        end = time.monotonic() + STREAM_S
        until(lambda: time.monotonic() >= end, STREAM_S + 5, "the time is over", every_s=0.5)
    assert_whole(verdicts)
    for verdict in verdicts.values():
        assert verdict.latency_ms is not None
        assert verdict.latency_ms["p50"] <= P50_MS / pace.share(), verdict
        assert verdict.latency_ms["p99"] <= P99_MS / pace.share(), verdict
