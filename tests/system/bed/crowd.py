"""A router with many clients, each over all links, and what it takes while nobody sends."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Stage
from tests.system.bed.topology import until

PEERS = 10
LINKS = 4
ROUTER = "10.0.0.1"
START_S = 60.0


@dataclass(frozen=True)
class Idle:
    """What the processes of one agent take, by their names; the engine's is "engine"."""

    rss_kib: dict[str, int]
    #: A page that several processes share counts in parts.
    pss_kib: dict[str, int]
    #: The share of one processor.
    cpu: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {self.rss_kib[name] / 1024:.1f} MiB resident"
            f" ({self.pss_kib[name] / 1024:.1f} proportional) {self.cpu[name]:.2%}"
            for name in self.rss_kib
        )


class Crowd:
    """One router and its clients, on shared LANs."""

    def __init__(self, stage: Stage, encapsulation: str, python: str) -> None:
        self.stage = stage
        self.encapsulation = encapsulation
        lans = [f"net{lan}" for lan in range(LINKS)]
        topology = stage.topology(*lans)
        self.host = topology.host("router")
        for number, lan in enumerate(lans):
            self.host.connect(lan, f"eth{number}", f"192.168.{number}.1/24")
        self.router = stage.agent(
            self.host, ROUTER, python=python, encapsulation=encapsulation, forward=True
        )
        self.clients: list[Agent] = []
        for peer in range(PEERS):
            host = topology.host(f"client{peer}")
            for number, lan in enumerate(lans):
                host.connect(lan, f"eth{number}", f"192.168.{number}.{100 + peer}/24")
            address = f"10.0.0.{100 + peer}"
            keys = {"encapsulation": encapsulation, "router": ROUTER}
            client = stage.agent(host, address, python=python, **keys)
            client.peer(ROUTER, *(port.ip for port in self.host.ports.values()))
            self.router.peer(address)
            self.clients.append(client)
        for agent in (self.router, *self.clients):
            # As installed: what a start compiles otherwise stays in the memory of the process.
            agent.bytecode_path = stage.directory / "bytecode"

    def start(self) -> None:
        """Start all agents and wait until every link carries."""
        for client in self.clients[:1]:
            client.start()
        for client in self.clients[1:]:
            client.launch_only()
        self.router.start()
        for client in self.clients:
            until(client.answers, START_S, lambda: "the clients answer")
        self.wait_whole()

    def wait_whole(self) -> None:
        for client in self.clients:
            links = [(port.ip, self.host.ports[lan].ip) for lan, port in client.host.ports.items()]
            client.wait_carrying(ROUTER, *links, deadline_s=START_S)
            back = [link[::-1] for link in links]
            self.router.wait_carrying(client.address, *back, deadline_s=START_S)

    def idle(self, seconds: float) -> Idle:
        """Watch the router's processes for so long; nobody may send anything meanwhile."""
        began, before = time.monotonic(), self.router.processes()
        time.sleep(seconds)
        after, watched_s = self.router.processes(), time.monotonic() - began
        assert before.keys() == after.keys(), "no process came or ended"
        return Idle(
            {name: use.rss_kib for name, use in after.items()},
            {name: use.pss_kib for name, use in after.items()},
            {name: (use.cpu_s - before[name].cpu_s) / watched_s for name, use in after.items()},
        )
