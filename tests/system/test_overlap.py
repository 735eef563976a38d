"""The virtual network keeps its route, also where a link's own network has the same addresses."""

from __future__ import annotations

import os
import signal

from tests.system.bed.agents import DEVICE, NETWORK, Agent
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import until
from tests.system.bed.traffic import ping

PATIENCE_S = 20.0


def routes(agent: Agent) -> list[str]:
    return [route["dst"] for route in agent.host.ip_json("route", "show", "dev", DEVICE)]


def rules(agent: Agent) -> list[str]:
    return [rule["table"] for rule in agent.host.ip_json("rule") if "protocol" in rule]


def lost(pair: Pair) -> int:
    return ping(pair.a, pair.b_address, count=20, interval_s=0.02).lost


def warnings(agent: Agent) -> str:
    return " ".join(agent.status()["warnings"])


def test_route_of_the_device_is_put_back(pair: Pair) -> None:
    a, _ = pair.start()
    pair.a.ip("route", "del", NETWORK, "dev", DEVICE)
    until(lambda: routes(a) == [NETWORK], PATIENCE_S, lambda: f"the route is back\n{a.log()}")
    assert lost(pair) == 0
    assert a.log().count("it lacks its route") == 1


class OverlappingPair(Pair):
    """vm0 gets its address, in the virtual network's own range, from the gateway of its LAN."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, lans=1)
        self.neighbour = self.topology.host("neighbour")
        self.neighbour.connect("net0", "eth0", "10.0.0.9/24")
        # vm1 is its own gateway, for want of another host.
        self.b.ip("address", "add", "10.0.0.254/24", "dev", "eth0")

    def overlap(self) -> None:
        self.a.ports["net0"].change_address("10.0.0.57/24")
        self.a.ip("route", "replace", "default", "via", "10.0.0.254", "dev", "eth0")

    def wait(self, agent: Agent) -> None:
        agent.wait_carrying(self.b_address, ("10.0.0.57", "192.168.0.3"))


def test_virtual_network_goes_before_a_lan_of_the_same_addresses(stage: Stage) -> None:
    pair = OverlappingPair(stage)
    pair.overlap()
    pair.a.sysctl("net/ipv4/conf/eth0/rp_filter", 1)
    a, b = pair.a_agent().start(), pair.b_agent().start()
    pair.wait(a)
    until(lambda: len(rules(a)) == len(rules(b)) == 2, PATIENCE_S, lambda: a.log() + b.log())
    assert lost(pair) == 0
    # Who asks the host at its address in the LAN gets his answer there.
    assert ping(pair.neighbour, "10.0.0.57", count=5, interval_s=0.02).lost == 0
    said = "eth0(2) has 10.0.0.57/24, which lies within the virtual network 10.0.0.0/24"
    assert said in warnings(a)
    assert a.log().count(said) == 1
    # Somebody takes a rule away.
    pair.a.ip("rule", "del", "priority", "5185")
    until(lambda: len(rules(a)) == 2, PATIENCE_S, a.log)
    assert a.log().count("a rule that leads to it is gone") == 1
    # The LAN gets other addresses.
    pair.a.ports["net0"].change_address("192.168.0.2/24")
    until(lambda: not rules(a) and routes(a) == [NETWORK], PATIENCE_S, a.log)
    a.wait_carrying(pair.b_address, ("192.168.0.2", "192.168.0.3"))
    assert lost(pair) == 0
    assert not warnings(a)
    # And the old ones again, while the agent runs.
    pair.overlap()
    until(lambda: len(rules(a)) == 2, PATIENCE_S, a.log)
    pair.wait(a)
    assert lost(pair) == 0
    assert a.process is not None
    os.kill(a.pid, signal.SIGTERM)
    a.process.wait(PATIENCE_S)
    assert rules(a) == []


def test_peer_is_called_at_an_address_in_the_range_of_the_virtual_network(each_pair: Pair) -> None:
    pair = each_pair
    for number, host in ((57, pair.a), (58, pair.b)):
        host.ports["net0"].change_address(f"10.0.0.{number}/24")
        host.ports["net1"].delete()
        del host.ports["net1"]
    a, b = pair.start()
    until(lambda: len(rules(a)) == len(rules(b)) == 2, PATIENCE_S, lambda: a.log() + b.log())
    pair.wait_whole(a, b)
    assert lost(pair) == 0


def test_what_a_killed_agent_left_of_rules_is_removed(stage: Stage) -> None:
    pair = OverlappingPair(stage)
    pair.overlap()
    a = pair.a_agent().start()
    until(lambda: len(rules(a)) == 2, PATIENCE_S, a.log)
    assert a.cli("cleanup", "--config", str(a.config_path)).returncode != 0
    assert len(rules(a)) == 2
    a.kill_whole()
    done = a.cli("cleanup", "--config", str(a.config_path))
    assert "removed 2 routing rules" in done.stdout, done
    assert rules(a) == []


def test_kernel_decides_where_the_configuration_leaves_it_to_do_so(stage: Stage) -> None:
    pair = OverlappingPair(stage)
    pair.overlap()
    a = pair.a_agent()
    a.config["device"] = {**a.config.get("device", {}), "precedence": False}
    a.start()
    until(lambda: "device.precedence is false" in warnings(a), PATIENCE_S, a.log)
    assert rules(a) == []
    a.config["device"]["precedence"] = True
    assert a.reload().returncode == 0
    until(lambda: len(rules(a)) == 2, PATIENCE_S, a.log)
