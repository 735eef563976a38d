"""Two routers and their clients: the loss of a router costs no packet, and none comes twice."""

from __future__ import annotations

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Stage
from tests.system.bed.topology import until
from tests.system.bed.traffic import assert_whole, both_ways

ROUTERS = {"r1": "10.0.0.1", "r2": "10.0.0.2"}
CLIENTS = {"vm0": "10.0.0.10", "vm1": "10.0.0.11", "vm2": "10.0.0.12"}
RATE = 1000
#: A dead router is noticed by its silence.
PATIENCE_S = 20.0


class TwoRouters:
    """Three clients, each in a LAN of its own, and two routers that are in all of them."""

    def __init__(self, stage: Stage) -> None:
        lans = [f"net{number}" for number in range(len(CLIENTS))]
        topology = stage.topology(*lans)
        self.agents: dict[str, Agent] = {}
        routers = {name: topology.host(name) for name in ROUTERS}
        for number, lan in enumerate(lans):
            for last, host in enumerate(routers.values(), 1):
                host.connect(lan, f"eth{number}", f"192.168.{number}.{last}/24")
        for name, address in ROUTERS.items():
            (other,) = set(ROUTERS) - {name}
            router = stage.agent(
                routers[name], address, forward=True, routers=[ROUTERS[other]]
            ).peer(ROUTERS[other], routers[other].ports["net0"].ip)
            for client in CLIENTS.values():
                router.peer(client)
            self.agents[name] = router
        for number, (name, address) in enumerate(CLIENTS.items()):
            host = topology.host(name)
            host.connect(lans[number], "eth0", f"192.168.{number}.10/24")
            client = stage.agent(host, address, routers=list(ROUTERS.values()))
            for router, far in ROUTERS.items():
                client.peer(far, routers[router].ports[lans[number]].ip)
            self.agents[name] = client

    def start(self) -> None:
        for agent in self.agents.values():
            agent.launch_only()
        for agent in self.agents.values():
            until(agent.answers, PATIENCE_S, f"{agent.host.name} answers")
        for router in ROUTERS:
            self.wait_reached(router)

    def wait_reached(self, router: str) -> None:
        """Wait until a router and all clients have a connection that works both ways."""
        agent = self.agents[router]
        for client, address in CLIENTS.items():
            for one, far in ((agent, address), (self.agents[client], agent.address)):
                until(
                    lambda one=one, far=far: one.peer_status(far)["best_state"] == 2,
                    PATIENCE_S,
                    f"{one.host.name} reaches {far}",
                )


@pytest.fixture
def two_routers(stage: Stage) -> TwoRouters:
    return TwoRouters(stage)


def test_a_router_that_is_killed_costs_no_packet_and_none_comes_twice(
    two_routers: TwoRouters,
) -> None:
    two_routers.start()
    client = two_routers.agents["vm0"]
    carries = {router["host"]: router["carries"] for router in client.status()["routers"]}
    assert carries == dict.fromkeys(ROUTERS.values(), True)
    one, other = two_routers.agents["vm0"], two_routers.agents["vm1"]
    with both_ways(one.host, one.address, other.host, other.address, rate=RATE) as verdicts:
        dead = two_routers.agents["r1"]
        dead.kill_whole()
        until(lambda: not client.status()["routers"][0]["established"], PATIENCE_S, "it is noticed")
        dead.start()
        two_routers.wait_reached("r1")
    assert_whole(verdicts)
    for agent in (one, other):
        # There is one link, so later copies came by the other router.
        assert agent.status()["counters"]["duplicates"]


def test_routers_are_started_anew_one_after_the_other_under_traffic(
    two_routers: TwoRouters,
) -> None:
    two_routers.start()
    one, other = two_routers.agents["vm1"], two_routers.agents["vm2"]
    with both_ways(one.host, one.address, other.host, other.address, rate=RATE) as verdicts:
        for name in ROUTERS:
            router = two_routers.agents[name]
            router.terminate()
            router.start()
            two_routers.wait_reached(name)
    assert_whole(verdicts)
