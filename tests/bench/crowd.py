"""A router with several clients that send to it at the same time: what the many cost it."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from tests.bench.contender import IPERF_PORT, agent_python, serve
from tests.bench.gauge import GIGABYTE
from tests.system.bed.crowd import PEERS, ROUTER, Crowd
from tests.system.bed.stage import Stage

AT_ONCE = (1, 3, 10)  # clients that send at the same time
SETTLE_S = 5.0


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


class LoadedCrowd(Crowd):
    """The same with a server of iperf3 for each client."""

    def __init__(self, stage: Stage, encapsulation: str) -> None:
        super().__init__(stage, encapsulation, agent_python())

    def start(self) -> None:
        """Start all agents and servers, and wait until every link carries."""
        super().start()
        for peer in range(PEERS):
            serve(self.stage, self.host, IPERF_PORT + peer)
        time.sleep(SETTLE_S)

    def memory_mib(self) -> float:
        """Return the resident memory of the router's engine."""
        return self.router.rss_kib() / 1024

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
