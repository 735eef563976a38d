"""Classes of traffic between two hosts, by what the links really carry."""

from __future__ import annotations

import socket
from typing import Any, Callable, Dict, List, Optional

import pytest

from tests.emulator.bulk.keys import PORT, echoing, typed
from tests.system.bed.agents import Agent
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Host, Port, until
from tests.system.bed.traffic import assert_whole, both_ways, ping

SETTLED_S = 20.0
EVERYTHING: Dict[str, Any] = {"name": "everything", "mode": "single"}
COUNT = 500
#: Control frames of a link while a flow passes.
CONTROL_MAX = COUNT // 2


def sent(host: Host, interface: str) -> int:
    """Return how many packets an interface has sent."""
    (link,) = host.ip_json("-s", "link", "show", "dev", interface)
    return int(link["stats64"]["tx"]["packets"])


def links_of(agent: Agent, host: str, name: str) -> List[int]:
    """Return the indices of the links that carry a class to a host."""
    found = {one["name"]: one["links"] for one in agent.peer_status(host)["classes"]}
    return list(found[name])


def start(pair: Pair, *classes: Dict[str, Any]) -> List[Agent]:
    """Start both agents with these classes, and wait until all connections work."""
    # A train that the kernel cuts counts as one packet at an interface.
    settings: Dict[str, Any] = {"classes": list(classes), "offload": {"disable": ["udp_segment"]}}
    agents = [pair.a_agent(**settings).start(), pair.b_agent(**settings).start()]
    pair.wait_whole(*agents)
    return agents


def used(pair: Pair, agent: Agent) -> Optional[Port]:
    """Return the port of host a over which the class goes to host b; None for several or none."""
    carrying = links_of(agent, pair.b_address, "everything")
    ports = [port for port in pair.a.ports.values() if port.index in carrying]
    return ports[0] if len(carrying) == len(ports) == 1 else None


def wait_used(pair: Pair, agent: Agent, but: Optional[Port] = None) -> Port:
    """Wait until one link carries, another one than ``but``; something has to flow meanwhile."""
    found: List[Port] = []

    def settled() -> bool:
        port = used(pair, agent)
        if port is not None and port is not but:
            found.append(port)
        return bool(found)

    until(settled, SETTLED_S, lambda: f"one link carries: {agent.peer_status(pair.b_address)}")
    return found[0]


def test_a_class_that_is_off_on_a_link_never_goes_over_it(stage: Stage) -> None:
    pair = Pair(stage)
    bulk = {"name": "bulk", "match": {"protocol": "icmp"}, "off": ["eth0"]}
    a, _ = start(pair, bulk)
    before = [sent(pair.a, name) for name in ("eth0", "eth1")]
    verdict = ping(pair.a, pair.b_address, count=COUNT, interval_s=0.005)
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict
    over = [sent(pair.a, name) - was for name, was in zip(("eth0", "eth1"), before)]
    print(f"{over} packets over eth0 and eth1")
    assert over[0] < CONTROL_MAX < COUNT <= over[1]
    (counted,) = (c for c in a.peer_status(pair.b_address)["classes"] if c["name"] == "bulk")
    assert counted["packets"] >= COUNT
    # Off everywhere: nothing passes, and the status says why. A reload brings it back.
    bulk["off"] = ["eth*"]
    a.config["classes"] = [bulk]
    assert a.reload().returncode == 0
    with pytest.raises(OSError, match="No route to host"):
        ping(pair.a, pair.b_address, count=5, interval_s=0.01, wait_s=0.5)
    assert a.status()["counters"]["dropped"]["off"] >= 1
    assert any("class bulk: its packets to" in told for told in a.status()["warnings"])
    a.config["classes"] = []
    assert a.reload().returncode == 0
    assert not ping(pair.a, pair.b_address, count=5, interval_s=0.01).lost


def test_one_link_carries_a_single_class_and_no_packet_is_lost_when_it_is_unplugged(
    stage: Stage,
) -> None:
    pair = Pair(stage)
    agents = start(pair, EVERYTHING)
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        first = wait_used(pair, agents[0])
        first.unplug()
        wait_used(pair, agents[0], but=first)
        first.plug()
        pair.wait_whole(*agents)
    assert_whole(verdicts)


def test_keys_typed_over_ssh_are_echoed_at_once_while_a_link_falls_silent(stage: Stage) -> None:
    pair = Pair(stage)
    agents = [agent(classes="recommended").start() for agent in (pair.a_agent, pair.b_agent)]
    pair.wait_whole(*agents)
    took_ms: List[float] = []
    with echoing(pair.b, pair.b_address), pair.a.socket(
        socket.AF_INET, socket.SOCK_STREAM
    ) as connection:
        connection.connect((pair.b_address, PORT))
        for port in pair.a.ports.values():
            took_ms += typed(connection, 1.0)
            port.block()
            took_ms += typed(connection, 2.0)
            port.unblock()
            pair.wait_whole(*agents)
    print(f"{len(took_ms)} keys, the slowest after {max(took_ms):.0f} ms")
    # TCP sends again after 200 ms at the soonest.
    assert max(took_ms) < 200


def test_a_reload_changes_classes_without_losing_a_packet(stage: Stage) -> None:
    pair = Pair(stage)
    agents = start(pair)
    changes: List[Callable[[], Any]] = [
        lambda: agents[0].config.update(classes=[EVERYTHING]),
        lambda: agents[0].config.update(classes=[{**EVERYTHING, "mode": "adaptive"}]),
        lambda: agents[0].config.update(classes=[]),
    ]
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        for change in changes:
            change()
            assert agents[0].reload().returncode == 0
            if agents[0].config["classes"]:
                wait_used(pair, agents[0])
    assert_whole(verdicts)
