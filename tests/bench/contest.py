"""Rounds in which everything is measured over one contender after the other.

Each quantity is measured over all of them before the next one is, so that what is compared was
measured within a minute, and the order turns round from one round to the next.
"""

from __future__ import annotations

import itertools
from typing import Sequence

from tests.bench import gauge
from tests.bench.contender import Contender
from tests.bench.echo import RoundTrips
from tests.bench.series import Series

UDP_SIZES = (1200, 200)
#: Quantity -> unit, and what it is, in the order in which they are shown.
QUANTITIES = {
    "tcp": ("Mbit/s", "TCP goodput"),
    "udp_1200": ("Mbit/s", "UDP loss-free, 1200 B"),
    "udp_200": ("packets/s", "UDP loss-free, 200 B"),
    "idle_p50": ("ms", "round trip, idle, p50"),
    "idle_p99": ("ms", "round trip, idle, p99"),
    "idle_p999": ("ms", "round trip, idle, p99.9"),
    "load_p50": ("ms", "round trip, beside TCP, p50"),
    "load_p99": ("ms", "round trip, beside TCP, p99"),
    "load_p999": ("ms", "round trip, beside TCP, p99.9"),
    "cpu": ("s/GB", "processor time in TCP"),
    "memory": ("MiB", "resident memory"),
}
PERCENTILES = ("p50", "p99", "p999")
FIRST_MBIT_S = {1200: 200.0, 200: 32.0}  # where the search of a UDP rate begins


class Contest:
    """The contenders and what was measured over each."""

    def __init__(self, contenders: Sequence[Contender], effort: gauge.Effort) -> None:
        self.contenders = list(contenders)
        self.effort = effort
        self.series = {
            contender.name: {name: Series(unit) for name, (unit, _) in QUANTITIES.items()}
            for contender in contenders
        }
        self.searches = {size: gauge.RateSearch(size, effort) for size in UDP_SIZES}
        #: Requests without an answer, by contender.
        self.lost_pings = dict.fromkeys(self.series, 0)

    def run(self) -> None:
        """Measure it all; the contenders run already."""
        for contender in self.contenders:
            # What only the first traffic finds out, such as what fits a packet, is not measured.
            gauge.tcp(contender, 1)
        for turn in range(self.effort.rounds):
            order = self.contenders if turn % 2 == 0 else self.contenders[::-1]
            for what, contender in itertools.product(Contender.measures, order):
                if what not in contender.measures:
                    continue
                say(f"round {turn + 1} of {self.effort.rounds}: {what:14} {contender.title}")
                getattr(self, f"_{what.replace(' ', '_')}")(contender)
                contender.settled()

    def _tcp(self, contender: Contender) -> None:
        series = self.series[contender.name]
        goodput, cpu = gauge.tcp(contender, self.effort.tcp_s)
        series["tcp"].values.append(goodput)
        if contender.processes:
            series["cpu"].values.append(cpu)
            series["memory"].values.append(contender.memory_mib())

    def _udp_1200(self, contender: Contender) -> None:
        packets = self._rate(contender, 1200)
        self.series[contender.name]["udp_1200"].values.append(packets * 1200 * 8 / 1e6)

    def _udp_200(self, contender: Contender) -> None:
        self.series[contender.name]["udp_200"].values.append(self._rate(contender, 200))

    def _rate(self, contender: Contender, size: int) -> float:
        return self.searches[size].measure(contender, FIRST_MBIT_S[size])

    def _idle(self, contender: Contender) -> None:
        self._keep(contender, "idle", gauge.idle_round_trips(contender, self.effort.pings))

    def _load(self, contender: Contender) -> None:
        self._keep(contender, "load", gauge.loaded_round_trips(contender, self.effort.pings))

    def _keep(self, contender: Contender, when: str, result: RoundTrips) -> None:
        for percentile in PERCENTILES:
            series = self.series[contender.name][f"{when}_{percentile}"]
            series.values.append(result.summary[percentile])
        self.lost_pings[contender.name] += result.lost

    def ratios(self, reference: str) -> dict[str, dict[str, Series]]:
        """Return contender -> quantity -> ratio to the reference, round by round."""
        if reference not in self.series:
            return {}
        base = self.series[reference]
        return {
            name: {what: one.over(base[what]) for what, one in series.items() if base[what]}
            for name, series in self.series.items()
            if name != reference
        }

    def added_ms(self) -> dict[str, dict[str, Series]]:
        """Return contender -> quantity -> round trip beyond the bare link's, round by round."""
        if "bare" not in self.series:
            return {}
        bare = self.series["bare"]
        return {
            name: {what: series[what].beyond(bare[what]) for what in QUANTITIES if _latency(what)}
            for name, series in self.series.items()
            if name != "bare"
        }

    def ceilings(self) -> list[str]:
        """Say where the bare link does no better, so that a figure may be iperf3's and not its."""
        said = []
        for size in UDP_SIZES:
            for name, series in self.ratios("bare").items():
                reached = series.get(f"udp_{size}")
                if reached and reached.middle >= CEILING_SHARE:
                    said.append(
                        f"UDP, {size} B: {name} is within {1 - CEILING_SHARE:.0%} of the bare "
                        "link, so its figure may be what iperf3 can send and take here."
                    )
        return said


CEILING_SHARE = 0.9


def _latency(what: str) -> bool:
    return QUANTITIES[what][0] == "ms"


def say(text: str) -> None:
    print(text, flush=True)
