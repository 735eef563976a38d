"""A host that belongs to the network, and claims to be another one."""

from __future__ import annotations

from tests.system.bed.agents import DEVICE, Agent
from tests.system.bed.puppet import udp
from tests.system.bed.stage import Stage
from tests.system.bed.topology import until
from tests.system.bed.traffic import Device, ping

PORT = 4200
PACKETS = 20
MARK = b"I am another host"
#: An agent that lets every source address out; a genuine one does not even send them.
LIAR = """
from ropeway.core.data.router import Router
Router.outbound_own = Router.outbound
"""
ADDRESSES = {"liar": "10.0.0.1", "router": "10.0.0.2", "far": "10.0.0.3"}


class Scene:
    """A client that lies, the router, and another client; the clients know each other, or not."""

    def __init__(self, stage: Stage, acquainted: bool, cheat: str = LIAR) -> None:
        topology = stage.topology("net0")
        self.hosts = {name: topology.host(name) for name in ADDRESSES}
        for number, host in enumerate(self.hosts.values()):
            host.connect("net0", "eth0", f"192.168.0.{2 + number}/24")
        self.agents = {name: self._agent(stage, name, acquainted) for name in ADDRESSES}
        self.agents["liar"].cheat = cheat
        for agent in self.agents.values():
            agent.start()
        for name in ("liar", "far"):
            address = ADDRESSES["router" if not acquainted else "far" if name == "liar" else "liar"]
            until(
                lambda name=name, address=address: self.agents[name].carrying(address),
                10,
                lambda name=name: f"{name} is connected: {self.agents[name].status()['peers']}",
            )

    def _agent(self, stage: Stage, name: str, acquainted: bool) -> Agent:
        keys = {"forward": True} if name == "router" else {"router": ADDRESSES["router"]}
        agent = stage.agent(self.hosts[name], ADDRESSES[name], **keys)
        for other, host in self.hosts.items():
            if other == name or (not acquainted and "router" not in (name, other)):
                continue
            agent.peer(ADDRESSES[other], host.ports["net0"].ip)
        return agent

    def lie(self, source: str, destination: str) -> None:
        out = Device(self.hosts["liar"], DEVICE)
        for number in range(PACKETS):
            out.send(udp(source, destination, MARK + bytes([number]), PORT))
        out.close()

    def spoofed(self, name: str) -> int:
        return int(self.agents[name].status()["counters"]["dropped"]["spoofed"])


def assert_dropped(scene: Scene, witness: str, source: str, destination: str, victim: str) -> None:
    """Lies are counted by the witness, and come out at nobody's device."""
    before = scene.spoofed(witness)
    listening = Device(scene.hosts[victim], DEVICE)
    scene.lie(source, destination)
    until(
        lambda: scene.spoofed(witness) >= before + PACKETS,
        5,
        lambda: f"{witness} counts them: {scene.agents[witness].status()['counters']}",
    )
    # What comes through after them shows that they were dealt with.
    assert ping(scene.hosts["liar"], ADDRESSES[victim], count=5, interval_s=0.01).lost == 0
    got = [packet for packet in listening.receive(0.2) if MARK in packet]
    listening.close()
    assert got == []


def test_router_drops_packets_in_the_name_of_another_client(stage: Stage) -> None:
    scene = Scene(stage, acquainted=False)
    for source in (ADDRESSES["far"], "10.0.0.99", "192.0.2.1", ADDRESSES["router"]):
        assert_dropped(scene, "router", source, ADDRESSES["far"], "far")
        assert_dropped(scene, "router", source, ADDRESSES["router"], "router")


def test_client_drops_packets_of_a_peer_in_the_name_of_another(stage: Stage) -> None:
    scene = Scene(stage, acquainted=True)
    for source in (ADDRESSES["far"], ADDRESSES["router"], "10.0.0.99", "192.0.2.1"):
        assert_dropped(scene, "far", source, ADDRESSES["far"], "far")


def test_agent_sends_nothing_in_the_name_of_another(stage: Stage) -> None:
    scene = Scene(stage, acquainted=False, cheat="")
    liar = scene.agents["liar"]
    before = scene.spoofed("router")
    scene.lie(ADDRESSES["far"], ADDRESSES["router"])
    until(
        lambda: liar.status()["counters"]["dropped"]["foreign_source"] >= PACKETS,
        5,
        lambda: f"it counts them: {liar.status()['counters']}",
    )
    assert ping(scene.hosts["liar"], ADDRESSES["router"], count=5, interval_s=0.01).lost == 0
    assert scene.spoofed("router") == before
