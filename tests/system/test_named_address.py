"""A router whose public address lives on its loopback, reached by a client over two links."""

from __future__ import annotations

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Stage
from tests.system.bed.topology import until
from tests.system.bed.traffic import assert_whole, both_ways

CLIENT, ROUTER = "10.0.0.1", "10.0.0.2"
PUBLIC = "203.0.113.1"
WAYS = (("10.1.0.2", PUBLIC), ("10.2.0.2", PUBLIC))
APPEARS_S = 10.0


class RouterBehindTwoLans:
    """The router has PUBLIC on its loopback, and an interface in each LAN."""

    def __init__(self, stage: Stage, numbered: bool) -> None:
        topology = stage.topology("net0", "net1")
        self.client, self.router = topology.host("vm0"), topology.host("vm1")
        for lan, (near, far) in enumerate((f"10.{n}.0.2", f"10.{n}.0.1") for n in (1, 2)):
            device = f"eth{lan}"
            self.client.connect(f"net{lan}", device, f"{near}/24", index=2 + lan)
            port = self.router.connect(f"net{lan}", device, f"{far}/24", index=12 + lan)
            gateway = ["via", far]
            if not numbered:
                port.flush_address()
                self.router.ip("route", "add", f"{near}/32", "dev", device)
                gateway = []
            route = ["route", "add", PUBLIC, *gateway, "dev", device, "metric", str(100 + lan)]
            self.client.ip(*route)
        self.client_agent = stage.agent(self.client, CLIENT).peer(ROUTER, PUBLIC)
        self.router_agent = stage.agent(self.router, ROUTER, interfaces={"addresses": [PUBLIC]})

    def add_public(self) -> None:
        self.router.ip("address", "add", f"{PUBLIC}/32", "dev", "lo")

    def wait_whole(self) -> None:
        self.client_agent.wait_carrying(ROUTER, *WAYS)
        self.router_agent.wait_carrying(CLIENT, *(way[::-1] for way in WAYS))

    def assert_either_link_carries(self) -> None:
        """See that nothing is lost while one link after the other is blocked."""
        with both_ways(self.client, CLIENT, self.router, ROUTER) as verdicts:
            for lan in ("net0", "net1"):
                port = self.client.ports[lan]
                port.block()
                rest = [way for way in WAYS if way[0] != port.ip]
                self.client_agent.wait_carrying(ROUTER, *rest)
                self.router_agent.wait_carrying(CLIENT, *(way[::-1] for way in rest))
                port.unblock()
                self.wait_whole()
        assert_whole(verdicts)


def _warnings(agent: Agent) -> list[str]:
    return list(agent.status()["warnings"])


def test_router_is_reached_at_the_address_of_its_loopback_as_soon_as_it_is_there(
    stage: Stage,
) -> None:
    lans = RouterBehindTwoLans(stage, numbered=True)
    router = lans.router_agent.peer(CLIENT).start()
    lans.client_agent.start()
    (absent,) = _warnings(router)
    assert absent.startswith(f"interfaces.addresses: no interface has {PUBLIC}")
    lans.add_public()
    lans.wait_whole()
    until(lambda: not _warnings(router), APPEARS_S, lambda: f"{_warnings(router)}")
    assert router.log().count(absent) == 1
    lans.assert_either_link_carries()


@pytest.mark.parametrize("calls", ["client", "router"])
def test_links_without_an_address_of_their_own_send_from_that_of_the_loopback(
    stage: Stage, calls: str
) -> None:
    lans = RouterBehindTwoLans(stage, numbered=False)
    lans.add_public()
    if calls == "router":
        lans.client_agent.entry(ROUTER).pop("addresses")
        lans.router_agent.peer(CLIENT, *(near for near, _ in WAYS))
    else:
        lans.router_agent.peer(CLIENT)
    lans.router_agent.start()
    lans.client_agent.start()
    lans.wait_whole()
    lans.assert_either_link_carries()


def test_address_is_taken_once_the_configuration_names_it(stage: Stage) -> None:
    lans = RouterBehindTwoLans(stage, numbered=True)
    lans.add_public()
    del lans.router_agent.config["interfaces"]
    router = lans.router_agent.peer(CLIENT).start()
    lans.client_agent.start()
    assert _addresses(router) == [{"10.1.0.1/24"}, {"10.2.0.1/24"}]
    lans.router_agent.config["interfaces"] = {"addresses": [PUBLIC]}
    assert router.reload().returncode == 0
    lans.wait_whole()
    public = f"{PUBLIC}/32"
    assert _addresses(router) == [{"10.1.0.1/24", public}, {"10.2.0.1/24", public}]


def _addresses(agent: Agent) -> list[set[str]]:
    return [set(link["addresses"]) for link in agent.status()["links"]]
