"""A steady load for a long time, and whether the router's memory stays what it is."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

from tests.bench.contender import IPERF_PORT, serve
from tests.bench.contest import say
from tests.bench.crowd import LoadedCrowd
from tests.bench.gauge import window
from tests.bench.report import DIRECTORY, write
from tests.bench.series import number
from tests.system.bed.agents import ROOT, Process
from tests.system.bed.crowd import PEERS, ROUTER
from tests.system.bed.stage import Stage
from tests.system.bed.topology import run

RESULT = DIRECTORY / "soak.json"
SAMPLE_S = 10.0
UDP_BYTES = 1200
BURST_PORT = IPERF_PORT + PEERS
BURST_S = "1"
#: How much the memory of an agent that keeps nothing may grow after its first quarter, by the
#: straight line through the samples. The interpreter takes and returns memory a quarter of a MiB
#: and more at a time, and queues come and go with the bursts of TCP: that is spread, not growth.
FLAT_GROWTH_MIB = 0.5


class Soak:
    """UDP from every client at a steady rate, and a second of TCP from one of them in turn."""

    def __init__(self, stage: Stage, encapsulation: str, mbit_s: float) -> None:
        self.stage = stage
        self.crowd = LoadedCrowd(stage, encapsulation)
        self.mbit_s = mbit_s
        self.streams: list[Process] = []
        self.began = 0.0
        #: Seconds since the load began, and the router's resident memory in MiB.
        self.samples: list[tuple[float, float]] = []
        self.cpu_percent = 0.0
        self.refused_bursts = 0

    def run(self, seconds: int) -> None:
        """Load it for so long; what was seen is written even if it is cut short."""
        say("starting a router with 4 links and 10 peers")
        self.crowd.start()
        serve(self.stage, self.crowd.host, BURST_PORT)
        self.streams = [
            Process(client.host, self.stage.directory, "stream") for client in self.crowd.clients
        ]
        self.began, before = time.monotonic(), self.crowd.router.cpu_s()
        turn = itertools.cycle(self.crowd.clients)
        try:
            while (passed := self._passed()) < seconds:
                self._keep_streaming(seconds - passed)
                try:
                    command = ["iperf3", "--client", ROUTER, "--port", str(BURST_PORT)]
                    run(next(turn).host.command(*command, "--time", BURST_S))
                except RuntimeError:
                    self.refused_bursts += 1
                due = (len(self.samples) + 1) * SAMPLE_S
                time.sleep(max(0.0, min(due, seconds) - self._passed()))
                self._sample()
            self.crowd.wait_whole()
        finally:
            used = self.crowd.router.cpu_s() - before if self.crowd.router.alive else 0.0
            self.cpu_percent = used / max(self._passed(), 1e-3) * 100
            for stream in self.streams:
                stream.kill()
            if self.samples:
                self._conclude()

    def _passed(self) -> float:
        return time.monotonic() - self.began

    def _keep_streaming(self, seconds: float) -> None:
        """Start the streams, and again those that ended before their time."""
        rate = f"{self.mbit_s * 1e6 / PEERS:.0f}"
        shape = ["--udp", "--length", str(UDP_BYTES), "--bitrate", rate, "--window", str(window())]
        for peer, stream in enumerate(self.streams):
            if stream.alive:
                continue
            command = ["iperf3", "--client", ROUTER, "--port", str(IPERF_PORT + peer), *shape]
            # No report each second: it would keep them all until it ends.
            stream.launch(*command, "--interval", "0", "--time", f"{seconds + SAMPLE_S:.0f}")

    def _sample(self) -> None:
        memory = self.crowd.memory_mib()
        self.samples.append((self._passed(), memory))
        say(f"{self.samples[-1][0]:7.0f} s   {memory:6.2f} MiB")

    def verdict(self) -> dict[str, Any]:
        """Judge the samples but those of the first quarter."""
        late = self.samples[len(self.samples) // 4 :]
        memory = [mib for _, mib in late]
        span_s = late[-1][0] - late[0][0]
        slope = statistics.linear_regression(*zip(*late)).slope if len(late) > 1 else 0.0
        growth, spread = slope * span_s, max(memory) - min(memory)
        return {
            "seconds": self._passed(),
            "samples": len(self.samples),
            "median_mib": statistics.median(memory),
            "growth_mib": growth,
            "growth_mib_per_hour": slope * 3600,
            "spread_mib": spread,
            "flat": growth <= FLAT_GROWTH_MIB,
        }

    def _conclude(self) -> None:
        verdict = self.verdict()
        say(
            f"\n{'flat' if verdict['flat'] else 'not flat'}: in the last three quarters a median "
            f"of {number(verdict['median_mib'])} MiB, growth {number(verdict['growth_mib'])} MiB "
            f"({number(verdict['growth_mib_per_hour'])} MiB an hour; flat is <= {FLAT_GROWTH_MIB} "
            f"MiB in all), highest - lowest {number(verdict['spread_mib'])} MiB; "
            f"router {number(self.cpu_percent)} % of a processor"
        )
        document = {
            "udp_mbit_s": self.mbit_s,
            "memory_mib": [{"s": round(s, 1), "mib": mib} for s, mib in self.samples],
            "verdict": verdict,
            "router_cpu_percent": self.cpu_percent,
            "refused_bursts": self.refused_bursts,
        }
        write(RESULT, document)
        say(f"Written to {RESULT.relative_to(ROOT)}.")
