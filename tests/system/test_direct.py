"""Two clients of one router that share a LAN meet without it."""

from __future__ import annotations

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Stage, Triple
from tests.system.bed.topology import until
from tests.system.bed.traffic import assert_whole, both_ways

VM0, VM2 = "10.0.0.1", "10.0.0.3"
RATE = 200
#: So many packets show that some pass.
SOME = 50
#: Two agents, their stewards and a busy machine.
MEET_S = 5.0


def neighbours(stage: Stage, **keys: bool) -> tuple[Triple, Agent, Agent, Agent]:
    """Start the lab's three hosts, with a LAN that vm0 and vm2 share."""
    triple = Triple(stage)
    router = triple.router().start()
    vm0, vm2 = (triple.client(name, **keys) for name in ("vm0", "vm2"))
    triple.topology.add_lan("net9")
    triple.vm0.connect("net9", "enp0s9", "192.168.9.2/24", index=9)
    triple.vm2.connect("net9", "enp0s9", "192.168.9.4/24", index=29)
    for client, host in ((vm0, triple.vm0), (vm2, triple.vm2)):
        client.start()
        links = [
            (port.ip, triple.vm1.ports[lan].ip) for lan, port in host.ports.items() if lan != "net9"
        ]
        client.wait_carrying(router.address, *links)
    return triple, vm0, router, vm2


def met(agent: Agent, host: str) -> bool:
    """Return whether a host is met without the router."""
    peers = {peer["host"]: peer for peer in agent.status()["peers"]}
    return host in peers and peers[host]["learnt"] and peers[host]["best_state"] == 2


def test_neighbours_meet_and_survive_the_death_of_their_router(stage: Stage) -> None:
    triple, vm0, router, vm2 = neighbours(stage, direct=True)
    with both_ways(triple.vm0, VM0, triple.vm2, VM2, rate=RATE) as verdicts:
        until(lambda: met(vm0, VM2) and met(vm2, VM0), MEET_S, "the two meet")
        before = vm0.delivered()
        until(lambda: vm0.delivered() > before + SOME, 10, "packets pass")
        triple.vm0.ports["net9"].unplug()
        delivered = vm0.delivered()
        until(lambda: vm0.delivered() > delivered + SOME, 10, "packets pass by the router")
        triple.vm0.ports["net9"].plug()
        until(lambda: met(vm0, VM2), 10, "the two meet again")
        router.kill_whole()
        delivered = vm0.delivered()
        until(lambda: vm0.delivered() > delivered + 4 * SOME, 20, "packets pass on")
    assert_whole(verdicts)
    shown = vm0.cli("status", "--control", str(vm0.control_path))
    assert "met without the router" in shown.stdout, shown


def test_neighbours_do_not_meet_unasked(stage: Stage) -> None:
    triple, vm0, router, _vm2 = neighbours(stage)
    with both_ways(triple.vm0, VM0, triple.vm2, VM2, rate=RATE) as verdicts:
        until(lambda: vm0.delivered() > SOME, 20, "packets pass")
        assert [peer["host"] for peer in vm0.status()["peers"]] == [router.address]
    assert_whole(verdicts)
