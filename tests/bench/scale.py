"""How it grows: with the size of packets, and with clients that a router serves at once."""

from __future__ import annotations

from typing import Any, Sequence

from tests.bench import gauge
from tests.bench.contender import Contender
from tests.bench.contest import say
from tests.bench.crowd import AT_ONCE, LoadedCrowd
from tests.bench.series import Series

#: Bytes of UDP payload; with 28 bytes of headers the last makes a packet of 1400.
SIZES = (80, 300, 700, 1372)
FIRST_MBIT_S = 40.0


class Sizes:
    """Loss-free UDP packets a second by size of payload."""

    def __init__(self, contenders: Sequence[Contender], effort: gauge.Effort) -> None:
        self.contenders = contenders
        self.effort = effort
        self.packets = {contender.name: dict.fromkeys(SIZES, 0.0) for contender in contenders}

    def run(self) -> None:
        hints = {contender.name: FIRST_MBIT_S for contender in self.contenders}
        for turn, size in enumerate(SIZES):
            search = gauge.RateSearch(size, self.effort)
            for contender in self.contenders if turn % 2 == 0 else self.contenders[::-1]:
                say(f"scale: UDP, {size} B, {contender.title}")
                packets = search.measure(contender, hints[contender.name])
                self.packets[contender.name][size] = packets
                # A packet costs about the same whatever its size.
                following = SIZES[min(turn + 1, len(SIZES) - 1)]
                hints[contender.name] = packets * following * 8 / 1e6
                contender.settled()

    def report(self) -> dict[str, Any]:
        return {
            name: {str(size): packets for size, packets in row.items()}
            for name, row in self.packets.items()
        }


class Peers:
    """TCP from some clients to one router at the same time."""

    def __init__(self, crowd: LoadedCrowd, effort: gauge.Effort) -> None:
        self.crowd = crowd
        self.effort = effort
        self.series = {
            clients: {
                "total": Series("Mbit/s"),
                "evenness": Series(""),
                "router_cpu": Series("s/GB"),
            }
            for clients in AT_ONCE
        }

    def run(self) -> None:
        for turn in range(self.effort.peer_rounds):
            for clients in AT_ONCE if turn % 2 == 0 else AT_ONCE[::-1]:
                say(f"scale: {clients} of the router's clients at once")
                found = self.crowd.together(clients, self.effort.tcp_s)
                series = self.series[clients]
                series["total"].values.append(found.total)
                series["evenness"].values.append(found.evenness)
                series["router_cpu"].values.append(found.router_cpu)
                self.crowd.wait_whole()

    def report(self) -> dict[str, Any]:
        return {
            str(clients): {name: one.report() for name, one in series.items()}
            for clients, series in self.series.items()
        }
