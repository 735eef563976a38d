"""How each quantity is measured over a contender."""

from __future__ import annotations

import json
import math
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from tests.bench.contender import IPERF_PORT, Contender
from tests.bench.echo import RoundTrips, echo
from tests.system.bed.agents import Process
from tests.system.bed.topology import Host, until

#: A rate counts as loss-free up to this share: a machine that does more than this one thing loses
#: some of a second's packets at the receiver now and then, on a bare link too.
LOSS_PERCENT = 0.1
#: Less than this share of what was to be sent means that the sender itself did not get there.
OFFERED_SHARE = 0.97
#: The rates that are tried are powers of this, in Mbit/s, the same for everything measured.
RATE_STEP = 1.06
RATE_LIMIT = 250  # 1.06 ** 250 is 2 Tbit/s
UDP_STEP_S = 1
#: Room that sender and receiver ask of the kernel, where it grants so much.
BUFFER_BYTES = 2 << 20
PINGS_PER_S = 200
LOAD_LEAD_S = 1.0
GIGABYTE = 1e9
HANGING_S = 60.0


@dataclass(frozen=True)
class Effort:
    """How long and how often things are measured."""

    rounds: int
    tcp_s: int
    pings: int
    tries: int  # at a UDP rate, before it counts as too high
    bracket: int  # steps of RATE_STEP left between a rate that passed and one that did not
    idle_s: float  # over which the idle agent's processor time is counted
    peer_rounds: int


FULL = Effort(rounds=3, tcp_s=4, pings=800, tries=2, bracket=1, idle_s=60.0, peer_rounds=2)
QUICK = Effort(rounds=1, tcp_s=2, pings=400, tries=1, bracket=3, idle_s=10.0, peer_rounds=1)


class TrafficError(Exception):
    """iperf3 did not get through; the text is its own."""


def iperf(host: Host, address: str, seconds: int, *options: str) -> dict[str, Any]:
    """Run one iperf3 client to its end and return how that ended; TrafficError if it cannot."""
    command = ["iperf3", "--client", address, "--port", str(IPERF_PORT), "--json"]
    command = host.command(*command, "--time", str(seconds), *options)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds + HANGING_S
    )
    report: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode or "error" in report:
        raise TrafficError(f"{' '.join(command)!r}: {report.get('error', done.stderr)}")
    return dict(report["end"])


def tcp(contender: Contender, seconds: int) -> tuple[float, float]:
    """Return the goodput in Mbit/s, and the processor time of both ends in seconds a gigabyte."""
    before = contender.cpu_s()
    end = iperf(contender.near, contender.address, seconds)["sum_received"]
    used = contender.cpu_s() - before
    return end["bits_per_second"] / 1e6, used / (end["bytes"] / GIGABYTE)


class RateSearch:
    """The highest UDP rate that passes loss-free, on a ladder of rates.

    A rate passes if LOSS_PERCENT at most is lost in one of a few tries of UDP_STEP_S each, and if
    the sender could send it. Begins where the last search of the same thing ended.
    """

    def __init__(self, size: int, effort: Effort) -> None:
        self.size = size  # bytes of payload
        self.effort = effort
        self.began_at: dict[str, int] = {}

    def measure(self, contender: Contender, hint_mbit_s: float) -> float:
        """Return packets a second; ``hint_mbit_s`` is where to look first."""
        start = self.began_at.get(contender.name) or rung_of(hint_mbit_s)
        step = self.effort.bracket * (2 if contender.name in self.began_at else 4)
        rung, carried = climb(lambda rung: self._passes(contender, rung), start, step, self.effort)
        self.began_at[contender.name] = rung
        return carried

    def _passes(self, contender: Contender, rung: int) -> float:
        for _ in range(self.effort.tries):
            arrived = self._arriving(contender, RATE_STEP**rung)
            if arrived:
                return arrived
        return 0.0

    def _arriving(self, contender: Contender, offered_mbit_s: float) -> float:
        """Return packets a second that arrived, or 0 if too many were lost or not even sent."""
        shape = ["--length", str(self.size), "--window", str(window())]
        rate = ["--udp", "--bitrate", f"{offered_mbit_s * 1e6:.0f}"]
        try:
            report = iperf(contender.near, contender.address, UDP_STEP_S, *rate, *shape)["sum"]
        except TrafficError:
            # Its control connection goes the same way, and did not survive the load.
            return 0.0
        arrived = (report["packets"] - report["lost_packets"]) / report["seconds"]
        offered = offered_mbit_s * 1e6 / 8 / self.size
        whole = report["lost_percent"] <= LOSS_PERCENT and arrived >= offered * OFFERED_SHARE
        return arrived if whole else 0.0


def rung_of(mbit_s: float) -> int:
    """Return the number of the rate on the ladder that is next to one."""
    return max(1, round(math.log(max(mbit_s, 1.0), RATE_STEP)))


def climb(
    passes: Callable[[int], float], start: int, step: int, effort: Effort
) -> tuple[int, float]:
    """Find the highest rung that passes: in growing steps until one does and one does not.

    ``passes`` gives what was carried, 0 if the rung is too high. Returns the rung and what it
    carried; rung 1 and 0.0 if none passes.
    """
    best: tuple[int, float] = (0, 0.0)
    lowest_failed = RATE_LIMIT
    rung = min(start, RATE_LIMIT - 1)
    while lowest_failed - best[0] > effort.bracket:
        carried = passes(rung)
        if carried:
            best = (rung, carried)
        else:
            lowest_failed = rung
        if best[0] and lowest_failed < RATE_LIMIT:
            rung = (best[0] + lowest_failed) // 2
        else:
            rung += step if best[0] else -step
            rung = max(1, min(rung, RATE_LIMIT - 1))
            step *= 2
    return max(1, best[0]), best[1]


def window() -> int:
    """Return the size of the sockets' buffers, which the kernel bounds."""
    granted = [
        int(Path("/proc/sys/net/core", name).read_text(encoding="ascii"))
        for name in ("rmem_max", "wmem_max")
    ]
    return min(BUFFER_BYTES, *granted)


def idle_round_trips(contender: Contender, pings: int) -> RoundTrips:
    """Ping while nothing else runs."""
    return echo(contender.near, contender.address, pings, 1 / PINGS_PER_S)


def loaded_round_trips(contender: Contender, pings: int) -> RoundTrips:
    """Ping beside one TCP connection that sends as much as it can, the same way."""
    seconds = math.ceil(LOAD_LEAD_S + pings / PINGS_PER_S + 0.5)
    bulk = Process(contender.near, contender.stage.directory, "bulk")
    command = ["iperf3", "--client", contender.address, "--port", str(IPERF_PORT)]
    bulk.launch(*command, "--time", str(seconds))
    try:
        time.sleep(LOAD_LEAD_S)
        result = echo(contender.near, contender.address, pings, 1 / PINGS_PER_S)
        until(lambda: not bulk.alive, seconds + 10.0, f"bulk TCP ends\n{bulk.log()}")
    finally:
        bulk.kill()
    return result
