"""Measure a strand over two links beside one bare link, alternating, in one run.

Absolute figures are this machine's; what can be compared across machines are the ratios, and the
spread over the repeats says how far they can be trusted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Iterator

from tests.lab.keys import give_to_invoker
from tests.system.agents import ROOT, Agent, Process
from tests.system.stage import Pair, Stage
from tests.system.topology import sweep, until
from tests.system.traffic import ping

RESULT = ROOT / "build" / "bench.json"
REPEATS = 3
TCP_S = 4
UDP_BYTES = 1200
UDP_START_MBIT_S = 64.0
UDP_STEP = 1.25
UDP_STEP_S = 1
UDP_LOSS_PERCENT = 0.5
PINGS = 800
PING_INTERVAL_S = 1 / 200
IPERF_PORT = "5201"


@dataclass
class Series:
    """The same quantity measured again and again."""

    unit: str
    values: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.middle:.{self.digits}f} {self.unit}"

    @property
    def digits(self) -> int:
        return 3 if self.unit == "ms" else 0

    @property
    def middle(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{min(self.values):.{self.digits}f} to {max(self.values):.{self.digits}f}"

    def report(self) -> dict[str, Any]:
        return {"unit": self.unit, "median": self.middle, "values": self.values}


@dataclass
class Way:
    """One way from vm0 to vm1: the address there, and what was measured over it."""

    name: str
    address: str
    tcp: Series = field(default_factory=lambda: Series("Mbit/s"))
    udp: Series = field(default_factory=lambda: Series("Mbit/s"))
    rtt_p50: Series = field(default_factory=lambda: Series("ms"))
    rtt_p99: Series = field(default_factory=lambda: Series("ms"))

    def series(self) -> dict[str, Series]:
        return {
            "TCP": self.tcp,
            f"UDP, {UDP_BYTES} B": self.udp,
            "round trip p50": self.rtt_p50,
            "round trip p99": self.rtt_p99,
        }


class Load:
    """What the agents use of the machine while traffic runs."""

    def __init__(self, agents: list[Agent]) -> None:
        self.agents = agents
        self.cpu = {agent.host.name: Series("%") for agent in agents}

    def measure(self) -> Iterator[None]:
        """Add each agent's share of one processor between the two calls of ``next``."""
        began, before = time.monotonic(), [agent.cpu_s() for agent in self.agents]
        yield
        for agent, then in zip(self.agents, before):
            used = (agent.cpu_s() - then) / (time.monotonic() - began)
            self.cpu[agent.host.name].values.append(used * 100)


def iperf(pair: Pair, address: str, *options: str) -> dict[str, Any]:
    """Run one iperf3 client in vm0 and return its report; the server is in vm1."""
    command = ["iperf3", "--client", address, "--port", IPERF_PORT, "--json", *options]
    return dict(json.loads(pair.a.run(*command)))


def highest_udp_rate(pair: Pair, address: str) -> float:
    """Raise the load step by step; return the last one, in Mbit/s, that arrived all but whole."""
    carried = 0.0
    offered = UDP_START_MBIT_S
    while True:
        # What else the machine does in a second must not end the climb: two tries a step.
        arrived = udp_arriving(pair, address, offered) or udp_arriving(pair, address, offered)
        if not arrived:
            return carried
        carried = arrived
        offered *= UDP_STEP


def udp_arriving(pair: Pair, address: str, offered: float) -> float:
    """Return how many Mbit/s arrived, or 0 if too many were lost or could not even be sent."""
    shape = ["--length", str(UDP_BYTES), "--window", "2M", "--time", str(UDP_STEP_S)]
    report = iperf(pair, address, "--udp", "--bitrate", f"{offered:.0f}M", *shape)["end"]["sum"]
    packets = report["packets"] - report["lost_packets"]
    arrived = packets * UDP_BYTES * 8 / report["seconds"] / 1e6
    whole = report["lost_percent"] <= UDP_LOSS_PERCENT and arrived >= offered * 0.9
    return arrived if whole else 0.0


def measure(pair: Pair, path: Way, load: Load | None) -> None:
    """Take one sample of everything over one path."""
    watch = load.measure() if load else iter((None,))
    next(watch)
    end = iperf(pair, path.address, "--time", str(TCP_S))["end"]
    next(watch, None)
    path.tcp.values.append(end["sum_received"]["bits_per_second"] / 1e6)
    path.udp.values.append(highest_udp_rate(pair, path.address))
    verdict = ping(pair.a, path.address, PINGS, PING_INTERVAL_S)
    assert verdict.lost == 0, f"{path.name}: {verdict.lost} of {PINGS} pings lost"
    assert verdict.latency_ms is not None
    path.rtt_p50.values.append(verdict.latency_ms["p50"])
    path.rtt_p99.values.append(verdict.latency_ms["p99"])


def show(bare: Way, rope: Way, load: Load, memory_kib: dict[str, int]) -> None:
    """Print the table."""
    print(f"\n{'':24}{'bare link':>16}{'two links':>16}{'ratio':>9}   spread of two links")
    for (name, one), two in zip(bare.series().items(), rope.series().values()):
        ratio = f"{two.middle / one.middle:.3f}" if one.middle else "-"
        print(f"{name:24}{one!s:>16}{two!s:>16}{ratio:>9}   {two.spread}")
    for name, one, two in (
        ("added at p50", bare.rtt_p50, rope.rtt_p50),
        ("added at p99", bare.rtt_p99, rope.rtt_p99),
    ):
        print(f"{name:24}{'':16}{two.middle - one.middle:>13.3f} ms")
    for host, used in load.cpu.items():
        print(f"{'processor in TCP, ' + host:24}{'':16}{used!s:>16}{'':9}   {used.spread}")
    for host, kib in memory_kib.items():
        print(f"{'memory, ' + host:24}{'':16}{kib / 1024:>12.1f} MiB")


def bench(stage: Stage, encapsulation: str) -> None:
    """Run it all and write the result."""
    pair = Pair(stage, encapsulation=encapsulation)
    agents = list(pair.start())
    load = Load(agents)
    server = Process(pair.b, stage.directory, "iperf3")
    stage.process(server)
    server.launch("iperf3", "--server", "--forceflush", "--port", IPERF_PORT)
    until(lambda: "listening" in server.log(), 10, "the iperf3 server listens")
    bare = Way("bare link", pair.b.ports["net0"].ip)
    rope = Way("two links", pair.b_address)
    for repeat in range(1, REPEATS + 1):
        for path in (bare, rope):
            print(f"round {repeat} of {REPEATS}: {path.name} ...", flush=True)
            measure(pair, path, load if path is rope else None)
            pair.wait_whole(*agents)
    memory_kib = {agent.host.name: agent.rss_kib() for agent in agents}
    show(bare, rope, load, memory_kib)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {
                "machine": {
                    "kernel": platform.release(),
                    "processors": os.cpu_count(),
                    "python": platform.python_version(),
                },
                "encapsulation": encapsulation,
                "repeats": REPEATS,
                "paths": {
                    path.name: {name: one.report() for name, one in path.series().items()}
                    for path in (bare, rope)
                },
                "added_ms": {
                    "p50": rope.rtt_p50.middle - bare.rtt_p50.middle,
                    "p99": rope.rtt_p99.middle - bare.rtt_p99.middle,
                },
                "agents": {
                    host: {"cpu_percent": load.cpu[host].report(), "resident_kib": kib}
                    for host, kib in memory_kib.items()
                },
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    give_to_invoker(RESULT.parent, RESULT)
    print(f"\nWritten to {RESULT.relative_to(ROOT)}.")


def main() -> int:
    """Check what is needed, run, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--encapsulation", choices=("secure", "classic"), default="secure")
    options = parser.parse_args()
    if os.geteuid():
        print("The benchmark makes network namespaces: run it as root.", file=sys.stderr)
        return 1
    for program, package in (("iperf3", "iperf3"), ("ip", "iproute2"), ("nft", "nftables")):
        if not shutil.which(program):
            print(f"The benchmark needs {program}: apt install {package}.", file=sys.stderr)
            return 1
    sweep()
    stage = Stage()
    try:
        bench(stage, options.encapsulation)
    except BaseException:
        stage.show_logs()
        raise
    finally:
        stage.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
