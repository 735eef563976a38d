"""What many clients cost a router: an agent in a namespace, and a generator that plays them all.

``PYTHONPATH=agent build/venv/bin/python -m tests.bench.clients``, as root. The generator speaks the
protocol of the project's own core over UDP sockets, one for each client, each at an address in a
network of its own. Packets go from each client to the next one, through the router. Processor times
are the router's engine's, system time included, and so are the figures of its memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.bench.generator import (
    NETWORK,
    RAMP_S,
    ROUTER,
    ROUTER_ENDPOINT,
    Plan,
    Report,
    public_key,
    real_address,
    virtual_address,
)
from tests.system.bed.agents import NICE, Agent, Process, stop_all
from tests.system.bed.stage import Stage
from tests.system.bed.topology import Host, until

GATEWAY = "172.31.255.2"
CLIENT_NETWORK = "172.16.0.0/13"
SEED = 13
START_S = 60.0
JOIN_S = 120.0
ANSWER_S = 30.0
#: Until what the first packets stir up has calmed down.
SETTLE_S = 3.0
#: Until packets on their way have arrived.
DRAIN_S = 30.0


@dataclass
class Carried:
    """What passed in a time, and what it cost the router's engine."""

    sent: int
    received: int
    wrong: int
    #: How late the generator was at most, in seconds.
    late_s: float
    #: Processor time of the engine for each packet, in microseconds, once all clients send.
    packet_us: float
    #: Processor time of the generator, and the time that it took, in seconds.
    generator_s: float
    seconds: float

    @property
    def lost(self) -> int:
        """Packets that were sent and did not arrive."""
        return self.sent - self.received


class Generator(Process):
    """The process that plays the clients."""

    def __init__(self, host: Host, stage: Stage) -> None:
        super().__init__(host, stage.directory, "generator")
        stage.process(self)

    def begin(self, plan: Plan) -> None:
        """Start it; the clients call at once."""
        # As the router: clients elsewhere would not wait for this machine's processors.
        command = ["nice", "-n", NICE, sys.executable, "-m", "tests.bench.generator"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.host.command(*command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment(),
            )
        self._tell(json.dumps(dataclasses.asdict(plan)))

    def rate(self, packets_per_s: float) -> None:
        """Have each client send so many packets a second from now on."""
        self._tell(f"rate {packets_per_s}")

    def report(self) -> Report:
        """Return what the clients have seen since the last call."""
        self._tell("report")
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_S)
        assert ready, f"the generator does not answer\n{self.log()}"
        return Report(**json.loads(self.process.stdout.readline()))

    def _tell(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode("ascii") + b"\n")
        self.process.stdin.flush()


class ManyClients:
    """A router and so many clients."""

    def __init__(self, stage: Stage, clients: int, **keys: Any) -> None:
        topology = stage.topology("net0")
        self.clients = clients
        self.host = topology.host(f"r{clients}")
        self.host.connect("net0", "eth0", f"{ROUTER_ENDPOINT[0]}/24")
        self.host.ip("route", "add", CLIENT_NETWORK, "via", GATEWAY)
        far = topology.host(f"c{clients}")
        far.connect("net0", "eth0", f"{GATEWAY}/24")
        own = [("address", "add", f"{real_address(n)}/32", "dev", "lo") for n in range(clients)]
        far.batch(("link", "set", "lo", "up"), *own)
        self.router: Agent = stage.agent(self.host, ROUTER, network=NETWORK, forward=True, **keys)
        self.router.bytecode_path = stage.directory / "bytecode"
        for number in range(clients):
            self.router.peer(virtual_address(number), public_key=public_key(SEED, number))
        self.generator = Generator(far, stage)
        self._key = stage.identities[ROUTER].public

    def join(self, spread_s: float = 0.0) -> float:
        """Start all clients, the router first; return how long it took until all had joined."""
        self.router.start()
        began = time.monotonic()
        self.generator.begin(Plan(self.clients, self._key, SEED, spread_s))
        self.wait_joined()
        return time.monotonic() - began

    def wait_joined(self) -> None:
        """Wait until every client has an established connection."""
        last = Report()

        def joined() -> bool:
            nonlocal last
            last = self.generator.report()
            return last.established == self.clients

        what = f"{self.clients} clients have joined"
        until(joined, JOIN_S, lambda: f"{what}, {last.established} have", every_s=0.1)

    def restart(self) -> float:
        """Kill the router and start it again; return when all were back, in seconds from then."""
        self.router.kill_whole()
        self.router.launch_only()
        until(self.router.answers, START_S, lambda: "the router answers", every_s=0.05)
        began = time.monotonic()

        def back() -> bool:
            peers = self.router.status()["peers"]
            there = (any(one["state"] == 2 for one in peer["connections"]) for peer in peers)
            return sum(there) == self.clients

        until(back, JOIN_S, lambda: "all clients are back", every_s=0.5)
        return time.monotonic() - began

    def end(self) -> None:
        """End the clients and the router."""
        stop_all([self.generator, self.router])

    def idle(self, seconds: float) -> float:
        """Return the share of a processor that the router's engine takes while nobody sends."""
        began, before = time.monotonic(), self.router.cpu_s()
        time.sleep(seconds)
        return (self.router.cpu_s() - before) / (time.monotonic() - began)

    def carry(self, rate: float, seconds: float) -> Carried:
        """Let each client send for so long, after all have begun to."""
        self.generator.report()
        self.generator.rate(rate)
        time.sleep(RAMP_S + SETTLE_S)
        before = self.generator.report()
        generator_s = before.cpu_s
        began, router_s = time.monotonic(), self.router.cpu_s()
        time.sleep(seconds)
        self.generator.rate(0)
        took_s = time.monotonic() - began
        total = self.generator.report()
        generator_s = total.cpu_s - generator_s
        router_s = self.router.cpu_s() - router_s
        packet_us = 1e6 * router_s / max(1, total.sent)
        total.sent += before.sent
        total.received += before.received
        total.wrong += before.wrong
        end = time.monotonic() + DRAIN_S
        while total.received < total.sent and time.monotonic() < end:
            time.sleep(0.2)
            more = self.generator.report()
            total.received += more.received
            total.wrong += more.wrong
            if not more.received:
                break
        return Carried(
            total.sent,
            total.received,
            total.wrong,
            total.late_s,
            packet_us,
            generator_s,
            took_s,
        )


def measure(crowd: ManyClients, given: argparse.Namespace) -> None:
    """Print the figures of a crowd."""
    print(f"{crowd.clients} clients joined in {crowd.join():.1f} s", flush=True)
    print(f"  engine {crowd.router.rss_kib() / 1024:.1f} MiB", flush=True)
    if given.rate:
        carried = crowd.carry(given.rate, given.seconds)
        print(f"  {carried.sent} packets, {carried.lost} lost,", end=" ")
        print(f"{carried.packet_us:.0f} us of the engine each", flush=True)
        print(f"  engine {crowd.router.rss_kib() / 1024:.1f} MiB", flush=True)
        print(f"  back {crowd.restart():.1f} s after a restart of the router", flush=True)
    if given.idle:
        time.sleep(given.settle)
        print(f"  idle {crowd.idle(given.idle):.2%} of a processor", flush=True)


def main() -> None:
    """Print the figures of crowds of several sizes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.clients", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[5, 500])
    parser.add_argument("--rate", type=float, default=20.0, help="packets/s of each client")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--idle", type=float, default=0.0, help="seconds to watch without packets")
    parser.add_argument("--settle", type=float, default=120.0, help="seconds before that")
    given = parser.parse_args()
    for clients in given.clients:
        stage = Stage()
        try:
            measure(ManyClients(stage, clients), given)
        finally:
            stage.close()


if __name__ == "__main__":
    main()
