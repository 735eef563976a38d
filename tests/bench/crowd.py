"""A router with several clients, each over all links: what the many cost it."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from tests.bench.contender import IPERF_PORT, agent_python, serve
from tests.bench.gauge import GIGABYTE
from tests.system.bed.agents import Agent
from tests.system.bed.stage import Stage
from tests.system.bed.topology import until

PEERS = 10
LINKS = 4
AT_ONCE = (1, 3, 10)  # clients that send at the same time
ROUTER = "10.0.0.1"
SETTLE_S = 5.0
START_S = 60.0


@dataclass
class Together:
    """What several clients carried to the router at the same time."""

    clients: int
    goodput: list[float]  # Mbit/s of each
    router_cpu: float  # seconds a gigabyte, of all together

    @property
    def total(self) -> float:
        return sum(self.goodput)

    @property
    def evenness(self) -> float:
        """Return the slowest client's share of the fastest one's."""
        return min(self.goodput) / max(self.goodput)


class Crowd:
    """One router and its clients, on shared LANs."""

    def __init__(self, stage: Stage, encapsulation: str) -> None:
        self.stage = stage
        self.encapsulation = encapsulation
        lans = [f"net{lan}" for lan in range(LINKS)]
        topology = stage.topology(*lans)
        self.host = topology.host("router")
        for number, lan in enumerate(lans):
            self.host.connect(lan, f"eth{number}", f"192.168.{number}.1/24")
        python = agent_python()
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

    def start(self) -> None:
        """Start all agents, and a server for each client, and wait until every link carries."""
        self.router.start()
        for client in self.clients:
            client.launch_only()
        for client in self.clients:
            until(client.answers, START_S, lambda: "the clients answer")
        for peer in range(PEERS):
            serve(self.stage, self.host, IPERF_PORT + peer)
        self.wait_whole()
        time.sleep(SETTLE_S)

    def wait_whole(self) -> None:
        for client in self.clients:
            links = [(port.ip, self.host.ports[lan].ip) for lan, port in client.host.ports.items()]
            client.wait_carrying(ROUTER, *links, deadline_s=START_S)
            back = [link[::-1] for link in links]
            self.router.wait_carrying(client.address, *back, deadline_s=START_S)

    def memory_mib(self) -> float:
        """Return the router's resident memory."""
        return self.router.rss_kib() / 1024

    def idle_cpu_percent(self, seconds: float) -> float:
        """Return the share of one processor that the router uses while nobody sends anything."""
        began, before = time.monotonic(), self.router.cpu_s()
        time.sleep(seconds)
        return (self.router.cpu_s() - before) / (time.monotonic() - began) * 100

    def together(self, clients: int, seconds: int) -> Together:
        """Let the first so many clients send to the router at the same time."""
        before = self.router.cpu_s()
        sending = []
        try:
            for peer, client in enumerate(self.clients[:clients]):
                command = ["iperf3", "--client", ROUTER, "--port", str(IPERF_PORT + peer)]
                command += ["--time", str(seconds), "--json"]
                sending.append(
                    subprocess.Popen(client.host.command(*command), stdout=subprocess.PIPE)
                )
            reports = [_received(process, seconds) for process in sending]
        finally:
            for process in sending:
                process.kill()
                process.wait()
        used = self.router.cpu_s() - before
        carried = sum(report["bytes"] for report in reports)
        goodput = [report["bits_per_second"] / 1e6 for report in reports]
        return Together(clients, goodput, used / (carried / GIGABYTE))


def _received(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    output, _ = process.communicate(timeout=seconds + 30)
    report = json.loads(output)
    assert "error" not in report, report["error"]
    return dict(report["end"]["sum_received"])
